// Package book keeps a ledger of authority on disk: in a table of a store of its own or
// of a signer's. In go records from anywhere; when Add returns, what it took is on disk,
// together with this signer's receipt. So a freeze is never acknowledged before it would
// survive the loss of power, and a version of the charter never acts before.
//
// What a malicious caller can try: nothing more than with the ledger, which verifies all.
// What a broken disk can do: a write that fails ends the book, and a record that is not
// what was written is found when the book is opened, by checksum and by signature. A whole
// older copy of the file is not found here: see docs/threat-model.md.
package book
