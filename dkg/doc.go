// Package dkg runs the ceremonies that make keys; so far key generation. It is a pure
// state machine: Step, Engine, Stored and Abort put things in, Ready takes things
// out. It does no I/O, knows no clock and starts no goroutine.
//
// In: *gate.Ceremony, the gate's word that this wallet was asked for and approved.
// Out: a sealed share to be stored as pending, and at the end the wallet record that
// all signers have signed, with which the share becomes active.
//
// state.go holds the states and every legal move between them; docs/dkg.md prints the
// same table. A wallet exists from the moment at which all Of signers have signed its
// record, and each signs only after it has seen, itself:
//
//   - the chain code come from a contribution of every signer, none of which could
//     be chosen after another was known (commit, then reveal);
//   - every signer confirm the same public data, chain code, signers, quorum, epoch,
//     charter and wallet;
//   - signatures over a challenge that is no transaction verify under the new key,
//     by quorums in which together every signer took part with its stored share;
//   - every signer say that the proof of this is on its disk, so that all of them can
//     finish the ceremony after any restart.
//
// What a malicious participant can try: messages that break the protocol (the
// engine's guard names it), two versions of one broadcast (the echo names it), a
// contribution that does not open its commitment, public data that differs, a
// record signature that does not verify (all name it); a wrong partial in a challenge
// (the signature fails and names nobody). Each ends the ceremony, and a ceremony that
// ended leaves nothing active: at worst a proved share that the next try finishes.
package dkg
