// Package approval is Stage 3 of 6: who said yes.
//
// In: an intent, and signed Statements from anywhere. Out: Granted, the votes that
// count, for package policy to weigh, with a reason for every statement that does not.
// A Statement says: this person, in this cluster, approves (or rejects, or withdraws
// an approval of) the intent with this digest, from this second until that one.
//
// How statements count. One person is one vote over all their keys. The initiator
// never approves. An approval counts from five minutes before it was issued, for
// clocks that differ, until it expires. A statement that narrows never stops counting,
// whatever its times: who withdraws has no vote on this intent any more, and a
// rejection, veto or cancel by any enrolled person ends it. Otherwise a withdrawal
// that expires first, or comes from a slower clock, would bring the approval back.
// The order of statements never matters.
//
// What a malicious caller can try, and what stops it:
//   - an approval of another intent, cluster or kind of message: digest, cluster, domain
//     and SSHSIG namespace are all inside what is signed;
//   - a person's name over another person's key: the key must be enrolled for that name;
//   - the same approval often, or one person with several keys: people are counted;
//   - the initiator under another key, or a removed person: the name is looked up in the charter;
//   - junk to crowd out a rejection: over 64 statements nothing counts at all.
//
// What it cannot stop is a caller that holds back a rejection; so narrowing statements
// are taken by any signer over any route.
package approval
