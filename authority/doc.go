// Package authority says what is in force: which version of the charter, which lists,
// which freezes, and which orders that narrow.
//
// In: authority records from anywhere, and the time. Out: what they come to. A record
// carries all that proves it: the bytes that people decided about, their statements, and
// the receipts of signers. Whoever holds version 1 of the charter verifies every record
// from its bytes and the records before it; so it does not matter who brought it, in
// which order, or how often. Records are merged and nothing that was taken is given back.
//
// What a malicious caller can try, and what stops it:
//   - change a byte, or bring another cluster's record: what people and signers sign is
//     the digest of the whole;
//   - bring an old version of the charter, or none: versions only go up, and each carries
//     the digest of the one before;
//   - two next versions: neither takes force while both are complete;
//   - statements of people who were removed, twice by one person, with another kind of
//     key, withdrawn or expired: people are counted under the version before, each once;
//   - receipts of its own making: fewer than Need signers release nothing, and a release
//     by receipts replaces times only, never the statements of the admins;
//   - undo a freeze by repeating, hiding or reordering: a freeze has an ID, a lifted one
//     stays lifted and every other stays;
//   - fill the disk: nothing is kept that no enrolled person or signer signed, and of each
//     of those a bounded number.
//
// docs/authority.md has the rules in full.
package authority
