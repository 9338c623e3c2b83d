// Package partial is stage 6 of 6: it makes one signature of what the signers of a
// session each contributed.
//
// In: the digest that was to be signed, the wallet's public key, and exactly Need
// Partials. Out: a Signature that verifies under that key, in the low-s form that
// every chain accepts, with its recovery bit; or an error. Nothing here is secret: a
// Partial reveals nothing without the others, and together they are the signature,
// which is public. This is the only mathematics that a coordinator needs.
//
// What a malicious signer can try: contribute to another session, name another R,
// send a value outside [1, n-1], or a wrong value. The first three are refused and
// say whose position it was. The last makes the sum fail to verify, and it cannot be
// attributed from the sum alone: the caller changes the quorum and counts.
// What a malicious coordinator can try is nothing: the chain verifies again.
package partial
