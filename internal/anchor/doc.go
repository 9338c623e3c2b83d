// Package anchor ties a process's store to its audit log, so that neither can be
// replaced by an older copy unnoticed. Each is whole in itself and says nothing about
// what came after it; a journal from yesterday's backup would have forgotten what was
// signed today.
//
// Every commit of the store carries the number of audit entries that were on disk
// before it, and every audit entry the store's generation. Open demands that each has at
// least what the other knows of. What it does not find: both from the same older copy,
// such as a restored snapshot of the whole machine; and the very last commit, or the very
// last entries, after which the other was not written any more.
package anchor
