// Package engine runs the threshold protocol: it is the only importer of tss-lib,
// and the only place where a key share is in clear.
//
// Its caller sees sessions, messages and events (types.go), never the library.
// A Host takes a sealed share and protocol messages in and gives protocol
// messages, a sealed share or a Partial out; digests come in by Release alone.
//
// Three things stand between a malicious peer and the share:
//
//   - the guard (guard.go): every message is parsed, bounded and checked before
//     the library sees it, because tss-lib v2.0.2 accepts a forged modulus proof
//     and can be crashed by one message of one peer;
//   - the worker (worker.go, process.go): guard and library run in a process of
//     their own, because the library panics in goroutines that no recover
//     reaches. Its death costs its sessions, which fail, and nothing else;
//   - the hold (signing.go): a session runs rounds 1 to 3, which neither use the
//     message nor reveal R, and keeps the third round's messages back until
//     Release names the digest. One session signs one digest.
//
// What a malicious caller can try: deliver a message twice or another in its
// place (first write wins, a difference is a fault), release twice (refused),
// reuse a session ID (refused for the life of the host), mix the shares of two
// wallets (the associated data does not open), ask for a signature with fewer or
// other signers than the quorum (refused before the library starts).
//
// tss-lib's "threshold" is the quorum's Need less one; only this package knows.
package engine
