// Package policy is Stage 2 of 6: may it be done?
//
// In: the Facts of one intent and the Votes of the people who approved it. Out: a
// Decision, which is deny, wait (with what is missing) or allow, always with reasons.
// Rules are data. A Rule matches by a CEL expression over the intent; then it either
// denies, or demands limits, destinations and approvals. All rules that match apply
// together: any deny denies, every limit and every requirement must hold. An intent
// that no rule matches is denied. A rule that cannot be evaluated denies.
//
// The package is pure: no clock, no I/O, no state, and the same inputs give the same
// Decision on every machine. The coordinator runs it as a preview, each signer's gate
// runs it for real.
//
// How votes count: one person is one vote per requirement, over all keys; the
// initiator's vote never counts; a vote by a kind of key that the rule does not accept
// does not count for that rule. Somebody who is in two groups counts in both, and one
// set of votes serves all rules that match: requirements are conditions, not a budget.
//
// What a malicious caller can try, and what stops it:
//   - an expression that is expensive: no macros or regular expressions exist in the
//     language here, the source is short, and its worst-case cost is bounded when the
//     rules are compiled and again while they run;
//   - an expression that reads otherwise than it works: printable ASCII only, no
//     comments, and a literal compared with a chain, asset, group or address must name
//     one that exists, so that a deny rule cannot be dead because of a spelling error;
//   - an amount that overflows or is of another asset: amounts are opaque 256-bit
//     integers with an asset; comparing two assets is an error, and errors deny;
//   - an unnamed asset, list, kind of intent or field: everything unknown denies.
package policy
