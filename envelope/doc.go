// Package envelope carries the messages of one run among its parties: signed
// envelopes, first write wins, and a reliable broadcast by echo. It is pure: bytes
// in (Step), bytes out (Ready), no I/O, no clock, no goroutine.
//
// An envelope's header is what its sender signs: cluster, run, session, from, to,
// kind and the digest of the payload. The payload itself travels beside the header.
// So a proof that somebody said two things (Evidence) is two signed headers and
// never contains a payload, which for some kinds is a secret between two signers.
//
// An Exchange lives as long as a run. It begins under the run's ID alone, which
// every party can compute beforehand and which the node routes by; the opening kinds
// (nonces, aborts) are sent under it. Bind fixes the session ID once the nonces are
// known, and every other kind is sent under that. Messages of faster peers that
// arrive before Bind wait in their slot; there is one slot for each kind and
// sender, so what waits is bounded by the caps of the kinds.
//
// Broadcasts of kinds with Echo are delivered, among three parties or more, only
// when all of them are there and every party has echoed the same digests. Echoes
// carry the sender's signature of each header, so a difference always proves
// who caused it: the sender that signed two payloads, or the echoer that made one up.
//
// What a malicious peer can try, and what happens: a message in another's name or
// in ours, of an unknown kind, too large, of another run or session, to somebody
// else, not signed (all refused with an error, nothing changes); a second, different
// message of one kind, a forged echo, a message under another session ID (a fault
// that names it; faults are terminal). What it can always do is stay silent: Awaited
// says for whom this party waits, and the caller has the clock.
package envelope
