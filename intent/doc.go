// Package intent is Stage 1 of 6: what is asked.
//
// In: bytes and an SSHSIG from anybody. Out: an Intent, in the one canonical form
// whose digest everything after it refers to, and the Initiator whose enrolled key
// signed it. An intent names everything that a signature could be misused for:
// cluster, charter, wallet, path, chain, account, nonce, fee cap, every field of
// what is asked, when, who, and that person's own reference for it.
//
// The account and nonce are what makes "at most once" true: all transactions of one
// intent spend the same nonce, so a chain takes at most one of them, whoever signs.
//
// What a malicious caller can try, and what stops it:
//   - two readings of the same bytes: decoding is strict, and encoding the result
//     must give the input; a field that the kind does not use must be empty;
//   - an intent of another cluster, or made under another charter, in which the same
//     words mean other things: both digests are inside and compared;
//   - a key that is enrolled for somebody else: the key must be the initiator's own;
//   - an address that looks like another: its EIP-55 checksum must be right, and it is
//     shown whole; texts are printable ASCII, so nothing hides or turns around in them;
//   - an intent for all times: it ends at most 30 days after it begins.
//
// Whether it may be done is no question here (package policy), nor whether enough
// people agree (package approval).
package intent
