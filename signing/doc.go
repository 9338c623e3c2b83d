// Package signing is stage 5 of 6: a session of exactly Need signers, in two steps,
// prepare and release.
//
// In: the wallet record, this signer's sealed share, and later *gate.Authorized. Out:
// what to send, what to start, deliver and release in the engine, and at the end this
// signer's Partial. The package is a pure state machine in the style of etcd's raft:
// Step, Engine, Release and Abort put things in, Ready takes things out; it does no
// I/O, knows no clock, and starts no goroutine. The owner of a Session persists
// before it acts, in the order that the comment of Ready gives.
//
// The way of a session:
//
//	nonces    each signer sends a fresh nonce under the run ID; together they make
//	          the session ID, so that no two sessions are ever the same, whoever lies
//	prepare   rounds 1 to 3, which neither use the message nor reveal R
//	prepared  waits for this signer's gate
//	bind      this signer's gate has authorised; the signed Bindings are exchanged
//	release   all Bindings are equal: the digest is set and round 4 may leave
//	done      the Partial is there
//
// What a malicious peer can try: everything that package envelope refuses; a
// Binding to another transaction (the session ends before round 4, and R stays
// secret); a replay of an old session (its nonce is not ours); two nonces to two
// signers (the echo names it). What a malicious coordinator can try: asking two
// signers to sign two things in one session (the Bindings differ), or one signer
// twice (a session is released once). A fault ends a session for good: no retry,
// no second use of its nonces, no round 4.
package signing
