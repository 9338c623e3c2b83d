// Package keyshare is the secret value: one party's share of a wallet's key, the
// key that shares are sealed under, and the sealing itself.
//
// The two secret types, WrapKey and Share, print as placeholders in every format
// and every encoder, hold their bytes behind a function so that formatting a struct
// that contains them shows no byte either, refuse to work as zero values, and can
// be wiped. Go may still have copied what passed through a stack or a garbage
// collected heap: wiping shortens the time that a secret lies in memory and does
// not promise that it is gone. That is why shares are opened in worker processes
// only, which are not dumpable and end when idle.
//
// Seal is envelope encryption: a fresh data key per record, wrapped under the
// WrapKey, both with XChaCha20-Poly1305, both bound to associated data (for a
// share its Meta: cluster, wallet, epoch, party, quorum, signers, ceremony). Someone
// who can write to the disk can therefore destroy a record, but cannot make an old
// epoch, another wallet or another party's record pass for the one asked for.
package keyshare
