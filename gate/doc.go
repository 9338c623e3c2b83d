// Package gate is a signer's whole decision: may this transaction be signed, now,
// by this signer?
//
// It repeats stages 1 to 4 from the raw bytes and trusts nobody: not the
// coordinator that sent the request, not the preview that it showed, not the other
// signers. In: Input, that is the signed intent, the signed statements, the unsigned
// transaction, and this signer's own charter, wallet record, journal view and clock.
// Out: *Authorized, the only thing that releases a signing session, and a
// verdict.Verdict with the reasons.
//
// checks.go holds the one ordered table of checks. Read it top to bottom: it is the
// decision. Every check has an ID that stands in verdicts, in logs and in the name of
// the test that fails when the check is disabled (make mutants).
//
// What a malicious caller can try: send bytes that decode in two ways, a
// transaction that differs from the intent in one field, approvals of another intent
// or by the initiator, an old charter's intent, a slot or a reference that was used
// before. Each is one row of the table. The package is pure: no I/O, no clock, no
// randomness; the same input always gives the same answer.
package gate
