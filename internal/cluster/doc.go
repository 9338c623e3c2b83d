// Package cluster runs a whole cluster in one process, for tests: real nodes with
// real stores, sockets and audit logs, over a network in memory that can delay,
// duplicate, reorder, lose and cut, with a real or a fake engine.
package cluster
