package dkg_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"coffer/canon"
	"coffer/dkg"
	"coffer/engine"
	"coffer/engine/enginetest"
	"coffer/envelope"
	"coffer/envelope/envelopetest"
	"coffer/identity"
	"coffer/keyshare"
	"coffer/party"
	"coffer/wallet"
)

var attempt = canon.Sum([]byte("attempt"))

// member is one signer: its ceremony, its engine and its disk.
type member struct {
	c        *dkg.Ceremony
	host     *enginetest.Host
	events   []engine.Event
	pending  *dkg.PendingShare
	active   *wallet.Signed
	verified bool                  // the active record was looked at
	seen     map[canon.Digest]bool // session IDs in the journal
	stage    dkg.State
	fault    *engine.Fault
	evidence *envelope.Evidence
}

// group drives the ceremonies of all signers the way a node drives its own.
type group struct {
	t      testing.TB
	terms  dkg.Terms
	keys   map[party.ID]*identity.Key
	roster map[party.ID]identity.ID
	wrap   *keyshare.WrapKey

	m   map[party.ID]*member
	air envelopetest.Air
	log []string

	bend    func(from party.ID, o envelope.Outbound) []envelope.Outbound // what a dishonest signer sends
	corrupt func(p party.ID, e *engine.Event)                            // what a dishonest engine says
}

var names = []party.ID{"alice", "bob", "carol", "dave", "erin"}

func newGroup(t testing.TB, q party.Quorum) *group {
	t.Helper()
	all, err := party.NewSet(names[:q.Of]...)
	if err != nil {
		t.Fatal(err)
	}
	digest := func(s string) canon.Digest { return canon.Sum([]byte(s)) }
	g := &group{t: t, keys: map[party.ID]*identity.Key{}, roster: map[party.ID]identity.ID{}, m: map[party.ID]*member{},
		terms: dkg.Terms{Cluster: digest("cluster"), Charter: digest("charter"), Intent: digest("intent"), Wallet: "treasury", Quorum: q, Signers: all}}
	if g.wrap, err = keyshare.NewWrapKey(); err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		g.keys[p] = envelopetest.Key(t, p)
		g.roster[p] = g.keys[p].ID()
	}
	return g
}

func (g *group) config(p party.ID) dkg.Config {
	pre, err := enginetest.PreParams(g.wrap, uint64(len(p)))
	if err != nil {
		g.t.Fatal(err)
	}
	return dkg.Config{Self: p, Attempt: attempt, Roster: g.roster, Key: g.keys[p], PreParams: pre,
		Nonce: canon.Sum([]byte("nonce of " + p)), ChainCodeShare: canon.Sum([]byte("part of " + p))}
}

func (g *group) start() *group {
	g.t.Helper()
	for _, p := range g.terms.Signers {
		m := &member{host: enginetest.New(), seen: map[canon.Digest]bool{}}
		m.host.OnEvent = func(e *engine.Event) bool {
			if g.corrupt != nil {
				g.corrupt(p, e)
			}
			m.events = append(m.events, *e)
			return false
		}
		g.t.Cleanup(func() { _ = m.host.Close() })
		if err := m.host.Unlock(g.wrap); err != nil {
			g.t.Fatal(err)
		}
		var err error
		if m.c, err = dkg.Begin(g.config(p), g.terms); err != nil {
			g.t.Fatal(err)
		}
		g.m[p] = m
	}
	for _, p := range g.terms.Signers {
		g.drive(p)
	}
	return g
}

func (g *group) note(format string, args ...any) { g.log = append(g.log, fmt.Sprintf(format, args...)) }

// open is the journal's refusal of a session ID that was seen before.
func (g *group) open(p party.ID, id canon.Digest) {
	g.t.Helper()
	if g.m[p].seen[id] {
		g.t.Fatalf("%s: session %s twice", p, id.Short())
	}
	g.m[p].seen[id] = true
}

func (g *group) drive(p party.ID) {
	g.t.Helper()
	m := g.m[p]
	check := func(err error) {
		g.t.Helper()
		if err != nil {
			g.t.Fatalf("%s: %v", p, err)
		}
	}
	for {
		r := m.c.Ready()
		if r.Stage != m.stage {
			g.note("  %s: %s", p, r.Stage)
			m.stage = r.Stage
		}
		if r.Start != nil {
			g.open(p, r.Start.Session)
			check(m.host.Keygen(*r.Start))
		}
		for _, s := range r.StartSign {
			if m.pending == nil {
				g.t.Fatalf("%s: a challenge before the share is stored", p)
			}
			g.open(p, s.Session)
			check(m.host.Sign(s))
		}
		for _, d := range r.Deliver {
			if err := m.host.Deliver(d.Session, d.Message); err != nil && !(m.seen[d.Session] && errors.Is(err, engine.ErrSession)) {
				check(err) // a session that failed meanwhile is gone; one that was never started is a defect
			}
		}
		for _, x := range r.Release {
			check(m.host.Release(x.Session, x.Digest))
		}
		if r.Store != nil {
			g.note("  %s: stores a pending share", p)
			m.pending = r.Store
			check(m.c.Stored())
		}
		if r.Done != nil {
			g.note("  %s: wallet is active", p)
			m.active = r.Done
		}
		if r.Fault != nil {
			by := ""
			for _, c := range r.Fault.Culprits {
				by += " by " + string(c)
			}
			g.note("  %s: fault %s%s", p, r.Fault.Code, by)
			m.fault, m.evidence = r.Fault, r.Evidence
			for _, id := range r.Drop {
				m.host.Drop(id)
			}
		}
		for _, o := range r.Send {
			if g.bend != nil {
				g.air.Add(p, g.bend(p, o)...)
			} else {
				g.air.Add(p, o)
			}
		}
		if len(m.events) == 0 && r.Store == nil {
			return
		}
		events := m.events
		m.events = nil
		for _, e := range events {
			if m.fault == nil {
				check(m.c.Engine(e))
			}
		}
	}
}

func (g *group) deliver(f envelopetest.Flight) {
	g.note("%s -> %s %s", f.From, f.To, f.Kind())
	if err := g.m[f.To].c.Step(f.From, f.Raw); err != nil {
		reason := err
		for errors.Unwrap(reason) != nil {
			reason = errors.Unwrap(reason)
		}
		g.note("  %s: refused, %v", f.To, reason)
	}
	g.drive(f.To)
}

func (g *group) flow() {
	for g.air.Len() > 0 {
		g.deliver(g.air.Take(0))
	}
}

// schedule delivers in the order that rng chooses until nothing is under way.
func (g *group) schedule(rng *rand.Rand, faults envelopetest.Faults, liar party.ID) {
	g.t.Helper()
	for steps := 0; g.air.Len() > 0; steps++ {
		if steps == 50_000 {
			g.t.Fatal("the schedule does not end")
		}
		if f, ok := g.air.Next(rng, faults); ok {
			_ = g.m[f.To].c.Step(f.From, f.Raw)
			g.drive(f.To)
		}
		g.invariants(liar)
	}
}

// invariants hold after every step of every schedule, whoever lies.
func (g *group) invariants(liar party.ID) {
	g.t.Helper()
	var raw string // of whoever is active already
	for _, m := range g.m {
		if m.active != nil {
			raw = string(m.active.Raw)
		}
	}
	for p, m := range g.m {
		if p == liar {
			continue
		}
		if m.fault != nil {
			for _, c := range m.fault.Culprits {
				if c != liar {
					g.t.Fatalf("%s blames %s, who is honest: %v", p, c, m.fault)
				}
			}
		}
		if m.evidence != nil {
			if who, err := m.evidence.Verify(g.roster[liar]); err != nil || who != liar {
				g.t.Fatalf("%s's evidence names %q, %v", p, who, err)
			}
		}
		if m.active == nil || m.verified {
			continue
		}
		m.verified = true
		switch {
		case string(m.active.Raw) != raw:
			g.t.Fatal("two records of one ceremony")
		case m.pending == nil:
			g.t.Fatalf("%s has an active wallet and no share", p)
		case m.fault != nil:
			g.t.Fatalf("%s has an active wallet and a fault", p)
		}
		for _, q := range g.terms.Signers {
			if err := g.roster[q].Verify(m.active.Raw, m.active.Signatures[q]); err != nil {
				g.t.Fatalf("active without %s's signature: %v", q, err)
			}
			// Whoever signed has its share on disk and knows that it must keep it.
			if q != liar && (g.m[q].pending == nil || !g.m[q].c.Attested()) {
				g.t.Fatalf("the wallet is active and %s may lose its share", q)
			}
		}
	}
}

func (g *group) active() (n int) {
	for _, m := range g.m {
		if m.active != nil {
			n++
		}
	}
	return n
}

func (g *group) trace() string {
	s := strings.Join(g.log, "\n")
	g.log = nil
	return s
}

func forge(key *identity.Key, raw, payload []byte) []byte {
	e, err := envelope.Parse(raw)
	if err != nil {
		return raw
	}
	return envelope.Sign(key, e.Header, payload).Encode()
}
