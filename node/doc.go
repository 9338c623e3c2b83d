// Package node runs one signer: it receives, checks, persists, steps and sends, in
// that order, and owns everything that a signer keeps on disk.
//
// One goroutine, the loop (loop.go), owns all sessions and ceremonies. The state
// machines of signing and dkg do no I/O: the loop feeds them envelopes from peers
// and events from the worker processes, carries out what they ask for, and puts
// journal and audit on disk before anything that depends on them leaves the
// machine. Requests of the coordinator are judged by package gate twice: before a
// session costs anything, and again, with the session's ID, before it is released.
//
// A signer starts sealed: without its operator's passphrase it answers status and
// verdicts and takes part in nothing.
package node
