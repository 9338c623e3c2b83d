package engine_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"coffer/canon"
	"coffer/engine"
	"coffer/internal/testkeys"
	"coffer/keyshare"
	"coffer/partial"
	"coffer/party"
)

// cluster is a host per signer of the frozen wallet and a perfect network
// between them that a test may meddle with.
type cluster struct {
	t     testing.TB
	keys  map[party.ID]*keyshare.WrapKey
	hosts map[party.ID]engine.Host
	inbox chan news
	stop  chan struct{}

	// tamper may change, drop (none) or multiply what a signer sends to another.
	tamper func(to party.ID, m engine.Message) []engine.Message

	current canon.Digest // the session of an attack
	quiet   bool         // events of other sessions are ignored
}

type news struct {
	id party.ID
	engine.Event
}

var (
	signers = testkeys.Meta("alice").Signers
	pair    = party.Set{"alice", "carol"}
)

func newCluster(t testing.TB) *cluster {
	return clusterOf(t, func(party.ID) engine.Host { return engine.NewInProcess() })
}

func clusterOf(t testing.TB, host func(party.ID) engine.Host) *cluster {
	t.Helper()
	c := &cluster{t: t, keys: map[party.ID]*keyshare.WrapKey{}, hosts: map[party.ID]engine.Host{}, inbox: make(chan news), stop: make(chan struct{})}
	t.Cleanup(func() {
		close(c.stop)
		for _, h := range c.hosts {
			if err := h.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	for _, id := range signers {
		k, err := keyshare.NewWrapKey()
		if err != nil {
			t.Fatal(err)
		}
		h := host(id)
		c.keys[id], c.hosts[id] = k, h
		if err := h.Unlock(k); err != nil {
			t.Fatal(err)
		}
		go func() {
			for e := range h.Events() {
				select {
				case c.inbox <- news{id, e}:
				case <-c.stop:
					return
				}
			}
		}()
	}
	return c
}

// outcome is how a session ended at each signer.
type outcome struct {
	keygen   map[party.ID]*engine.KeygenResult
	partials map[party.ID]*partial.Partial
	faults   map[party.ID]*engine.Fault
	prepared map[party.ID]bool
}

// run carries the messages of one session until it has ended at all parties, or
// until enough says so.
func (c *cluster) run(session canon.Digest, parties party.Set, enough func(*outcome) bool) *outcome {
	c.t.Helper()
	o := &outcome{map[party.ID]*engine.KeygenResult{}, map[party.ID]*partial.Partial{}, map[party.ID]*engine.Fault{}, map[party.ID]bool{}}
	ended := func() int { return len(o.keygen) + len(o.partials) + len(o.faults) }
	for ended() < len(parties) && (enough == nil || !enough(o)) {
		var e news
		select {
		case e = <-c.inbox:
		case <-c.t.Context().Done():
			c.t.Fatal("test ended early")
		}
		if e.Session != session && c.quiet {
			continue
		}
		if e.Session != session {
			c.t.Fatalf("%s: event of another session: %+v", e.id, e.Event)
		}
		switch {
		case e.Failed != nil:
			o.faults[e.id] = e.Failed
		case e.Keygen != nil:
			o.keygen[e.id] = e.Keygen
		case e.Partial != nil:
			o.partials[e.id] = e.Partial
		case e.Prepared:
			if o.prepared[e.id] {
				c.t.Fatalf("%s: prepared twice", e.id)
			}
			o.prepared[e.id] = true
		case e.Out != nil:
			if e.Out.From != e.id {
				c.t.Fatalf("%s sends in the name of %s", e.id, e.Out.From)
			}
			c.carry(session, parties, *e.Out)
		}
	}
	return o
}

func (c *cluster) carry(session canon.Digest, parties party.Set, m engine.Message) {
	c.t.Helper()
	for _, to := range parties.Without(m.From) {
		if m.To != "" && m.To != to {
			continue
		}
		copies := []engine.Message{m}
		if c.tamper != nil {
			m := m
			m.Payload = slices.Clone(m.Payload)
			copies = c.tamper(to, m)
		}
		for _, m := range copies {
			// A session that has failed already is gone: that is not this message's fault.
			if err := c.hosts[to].Deliver(session, m); !errors.Is(err, engine.ErrSession) && err != nil {
				c.t.Fatalf("%s to %s: %v", m.Kind, to, err)
			}
		}
	}
}

var counter int

// fresh is a session ID that no test used before.
func fresh() canon.Digest {
	counter++
	return canon.Sum(fmt.Appendf(nil, "session %d", counter))
}

// startSign begins a signing session of the frozen wallet.
func (c *cluster) startSign(parties party.Set) canon.Digest {
	c.t.Helper()
	wallet, err := testkeys.SharesUnder(func(id party.ID) *keyshare.WrapKey { return c.keys[id] })
	if err != nil {
		c.t.Fatal(err)
	}
	session := fresh()
	for _, id := range parties {
		if err := c.hosts[id].Sign(engine.SignConfig{Session: session, Meta: testkeys.Meta(id), Share: wallet.Sealed[id], Signers: parties, Path: "m"}); err != nil {
			c.t.Fatal(err)
		}
	}
	return session
}

// prepare runs a session until all parties hold.
func (c *cluster) prepare(parties party.Set) canon.Digest {
	c.t.Helper()
	session := c.startSign(parties)
	o := c.run(session, parties, func(o *outcome) bool { return len(o.prepared) == len(parties) })
	if len(o.faults) > 0 {
		c.t.Fatalf("prepare: %v", o.faults)
	}
	return session
}

func (c *cluster) release(session canon.Digest, parties party.Set, digest [32]byte) {
	c.t.Helper()
	for _, id := range parties {
		if err := c.hosts[id].Release(session, digest); err != nil {
			c.t.Fatal(err)
		}
	}
}

// combine makes the signature, with decred's secp256k1 as the verifier.
func (c *cluster) combine(digest [32]byte, o *outcome) (partial.Signature, error) {
	c.t.Helper()
	if len(o.faults) > 0 {
		c.t.Fatalf("session failed: %v", o.faults)
	}
	wallet, err := testkeys.Shares(c.keys["alice"])
	if err != nil {
		c.t.Fatal(err)
	}
	var partials []partial.Partial
	for _, p := range o.partials {
		partials = append(partials, *p)
	}
	return partial.Combine(digest, wallet.PublicKey, 2, partials)
}

func (c *cluster) startKeygen(meta func(party.ID) keyshare.Meta, parties party.Set) canon.Digest {
	c.t.Helper()
	session := fresh()
	for i, id := range parties {
		pre, err := testkeys.SealedPreParams(c.keys[id], i)
		if err != nil {
			c.t.Fatal(err)
		}
		if err := c.hosts[id].Keygen(engine.KeygenConfig{Session: session, Meta: meta(id), PreParams: pre}); err != nil {
			c.t.Fatal(err)
		}
	}
	return session
}
