package enginetest_test

import (
	"testing"

	"coffer/canon"
	"coffer/engine"
	"coffer/engine/enginetest"
	"coffer/keyshare"
	"coffer/partial"
	"coffer/party"
)

func meta(id party.ID) keyshare.Meta {
	return keyshare.Meta{
		Cluster: canon.Sum([]byte("cluster")), Wallet: "treasury", Epoch: 1, Party: id,
		Quorum: party.Quorum{Need: 2, Of: 3}, Signers: party.Set{"alice", "bob", "carol"}, Ceremony: canon.Sum([]byte("ceremony")),
	}
}

type cluster struct {
	t     *testing.T
	keys  map[party.ID]*keyshare.WrapKey
	hosts map[party.ID]*enginetest.Host
}

func newCluster(t *testing.T) *cluster {
	c := &cluster{t, map[party.ID]*keyshare.WrapKey{}, map[party.ID]*enginetest.Host{}}
	for _, id := range meta("alice").Signers {
		k, err := keyshare.NewWrapKey()
		if err != nil {
			t.Fatal(err)
		}
		h := enginetest.New()
		t.Cleanup(func() { _ = h.Close() })
		if err := h.Unlock(k); err != nil {
			t.Fatal(err)
		}
		c.keys[id], c.hosts[id] = k, h
	}
	return c
}

// run passes messages until each of the parties had an event that until accepts.
func (c *cluster) run(parties party.Set, until func(party.ID, engine.Event) bool) {
	c.t.Helper()
	left := len(parties)
	for left > 0 {
		for _, id := range parties {
			select {
			case e := <-c.hosts[id].Events():
				if e.Failed != nil {
					c.t.Fatalf("%s: %v", id, e.Failed)
				}
				if e.Out != nil {
					for _, to := range parties.Without(id) {
						if e.Out.To == "" || e.Out.To == to {
							if err := c.hosts[to].Deliver(e.Session, *e.Out); err != nil {
								c.t.Fatal(err)
							}
						}
					}
				} else if until(id, e) {
					left--
				}
			default:
			}
		}
	}
}

func TestKeygenThenSign(t *testing.T) {
	c := newCluster(t)
	all := meta("alice").Signers
	session := canon.Sum([]byte("keygen"))
	for i, id := range all {
		pre, err := enginetest.PreParams(c.keys[id], uint64(i))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.hosts[id].Keygen(engine.KeygenConfig{Session: session, Meta: meta(id), PreParams: pre}); err != nil {
			t.Fatal(err)
		}
	}
	results := map[party.ID]*engine.KeygenResult{}
	c.run(all, func(id party.ID, e engine.Event) bool { results[id] = e.Keygen; return e.Keygen != nil })
	for _, id := range all {
		if results[id].PublicKey != results["alice"].PublicKey || string(results[id].Public) != string(results["alice"].Public) {
			t.Fatalf("%s has other public data", id)
		}
	}
	sealed := map[party.ID][]byte{}
	for id, r := range results {
		sealed[id] = r.Sealed
	}
	c.sign(party.Set{"alice", "carol"}, sealed, results["alice"].PublicKey)
}

func TestSharesFit(t *testing.T) {
	c := newCluster(t)
	sealed := map[party.ID][]byte{}
	var pub [33]byte
	for id, k := range c.keys {
		var err error
		if sealed[id], pub, err = enginetest.Share(k, meta(id)); err != nil {
			t.Fatal(err)
		}
	}
	c.sign(party.Set{"bob", "carol"}, sealed, pub)
}

func (c *cluster) sign(signers party.Set, sealed map[party.ID][]byte, pub [33]byte) {
	c.t.Helper()
	session, digest := canon.Sum([]byte("sign")), [32]byte(canon.Sum([]byte("digest")))
	for _, id := range signers {
		if err := c.hosts[id].Sign(engine.SignConfig{Session: session, Meta: meta(id), Share: sealed[id], Signers: signers}); err != nil {
			c.t.Fatal(err)
		}
	}
	c.run(signers, func(_ party.ID, e engine.Event) bool { return e.Prepared })
	for _, id := range signers {
		if err := c.hosts[id].Release(session, digest); err != nil {
			c.t.Fatal(err)
		}
	}
	var partials []partial.Partial
	c.run(signers, func(_ party.ID, e engine.Event) bool {
		if e.Partial != nil {
			partials = append(partials, *e.Partial)
		}
		return e.Partial != nil
	})
	if _, err := partial.Combine(digest, pub, len(signers), partials); err != nil {
		c.t.Fatal(err)
	}
}
