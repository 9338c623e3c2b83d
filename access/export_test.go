package access

import (
	"time"

	"coffer/canon"
	"coffer/credential"
)

// Remembered is how many grants the guard has in mind.
func (g *Guard) Remembered() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.order) != len(g.verified) {
		return -1
	}
	return len(g.verified)
}

// OpenSourceAt is OpenSource under another clock.
func OpenSourceAt(path string, cluster canon.Digest, name string, signer func() (credential.Signer, error), now func() time.Time) (*Source, error) {
	s := newSource(path, cluster, name, signer, now)
	return s, s.open()
}
