// Package store opens the one database file (bbolt) of a signer or coordinator, or
// says clearly why it cannot.
//
// bbolt trusts its file: a damaged page makes it panic and a truncated file makes it
// read past the end of its map, which kills the process. Open therefore takes the
// file's lock, reads every page with plain reads and checks the whole structure
// first, and only then lets bbolt map what it has checked. A file in use is
// ErrInUse within a second; a damaged one is ErrCorrupt and names the place.
//
// Open is strict where bbolt is lenient: bbolt falls back to the transaction before
// when the newest of its two meta pages is damaged. For a journal that is a
// rollback: it would forget the payment that was signed last. A commit writes a meta
// page within one disk sector, so a crash does not damage it; a damaged one is
// therefore refused, like every other page. The unused end of the file may be cut
// off without harm, and is given back.
//
// A Table is a bucket whose records are checksummed with their table and key, and
// whose header counts and sums all of them: a record that was changed, moved,
// dropped or brought back from an older copy of its page is detected when the table
// is opened. The manifest lists the tables, so that a whole table cannot be missing
// silently. Checksums find accidents; whoever can write the file on purpose can
// recompute them, and is stopped by the sealing of what is secret (keyshare) and by
// the other signers.
//
// A Writer serializes changes, commits those that wait together in one sync, and
// refuses everything after a failed write, since nobody can say what such a disk holds.
package store
