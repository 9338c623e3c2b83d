package node

import (
	"go.etcd.io/bbolt"

	"coffer/authority"
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

// RecodeFrame reads a frame that says where a peer stands or what it holds, and writes it
// again.
func RecodeFrame(data []byte) ([]byte, bool) {
	switch {
	case isOf(headFrameDomain, data):
		raw, signature, err := parseHeadFrame(data)
		return headFrame(raw, signature), err == nil
	case isOf(refsFrameDomain, data):
		refs, err := parseRefsFrame(data)
		return refsFrame(refs), err == nil
	}
	return nil, false
}

// HeadFrame and RefsFrame are such frames.
func HeadFrame(raw, signature []byte) []byte { return headFrame(raw, signature) }
func RefsFrame(refs []authority.Ref) []byte  { return refsFrame(refs) }
