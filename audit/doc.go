// Package audit is a process's append-only record of what it was asked, what it
// decided and what it did: a Merkle log (golang.org/x/mod/sumdb/tlog) with signed
// checkpoints (C2SP tlog-checkpoint, sumdb/note).
//
// Append returns when the entry is on disk. Whoever cannot append does not act: after
// one failed write every later Append fails, until a restart has read the log whole.
//
// Three files: records holds the entries, hashes the stored hashes of the tree, checkpoint
// the newest signed checkpoint. Entries are synced before their hashes are written, so
// a hash without an entry shows that an entry was taken away, and an entry that was
// cut while it was written, and only the last one, is known to have had no effect.
// Open and Verify recompute every hash and name the first entry that does not fit.
//
// What it does not show by itself: that somebody with the process's key and disk
// rewrote everything since the last checkpoint that others have seen. Checkpoints are
// given out with every status, and whoever kept one finds a rewritten log.
//
// Entries hold names, digests and codes; secrets and message contents never.
package audit
