package node

import (
	"go.etcd.io/bbolt"

	"coffer/store"
)

// Break has a write of the store fail, as on a bad disk.
func Break(n *Node) error {
	if err := n.db.Close(); err != nil {
		return err
	}
	_ = store.NewWriter(n.db).Do(func(*bbolt.Tx) error { return nil }) // it fails: that is the point
	return n.audit.Failed()
}
