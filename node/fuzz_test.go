package node_test

import (
	"bytes"
	"testing"

	"coffer/authority"
	"coffer/canon"
	"coffer/node"
)

// FuzzFrames: what a peer says of itself has one encoding.
func FuzzFrames(f *testing.F) {
	f.Add(node.HeadFrame([]byte("head"), make([]byte, 64)))
	f.Add(node.RefsFrame([]authority.Ref{{ID: canon.Sum([]byte("a")), Sum: canon.Sum([]byte("b"))}}))
	f.Add(node.RefsFrame(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		if again, ok := node.RecodeFrame(data); ok && !bytes.Equal(again, data) {
			t.Errorf("two encodings: %x and %x", data, again)
		}
	})
}
