package signing_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"coffer/canon"
	"coffer/engine"
	"coffer/engine/enginetest"
	"coffer/envelope"
	"coffer/envelope/envelopetest"
	"coffer/gate"
	"coffer/identity"
	"coffer/keyshare"
	"coffer/partial"
	"coffer/party"
	"coffer/signing"
	"coffer/wallet"
)

var (
	cluster  = canon.Sum([]byte("cluster"))
	ceremony = canon.Sum([]byte("ceremony"))
	attempt  = canon.Sum([]byte("attempt"))
)

// member is one signer: its session, its engine, and what became of it.
type member struct {
	s        *signing.Session
	host     *enginetest.Host
	events   []engine.Event
	released []([32]byte)
	partial  *partial.Partial
	fault    *engine.Fault
	evidence *envelope.Evidence
	prepared bool
}

// group drives the sessions of one quorum the way a node drives its own.
type group struct {
	t       testing.TB
	quorum  party.Quorum
	all     party.Set
	signers party.Set
	keys    map[party.ID]*identity.Key
	roster  map[party.ID]identity.ID
	shares  map[party.ID][]byte
	record  *wallet.Record
	wrap    *keyshare.WrapKey

	m   map[party.ID]*member
	air envelopetest.Air
	log []string

	// bend, if set, may change what a dishonest signer sends.
	bend func(from party.ID, o envelope.Outbound) []envelope.Outbound
}

var names = []party.ID{"alice", "bob", "carol", "dave", "erin"}

func newGroup(t testing.TB, quorum party.Quorum, signers ...party.ID) *group {
	t.Helper()
	g := &group{t: t, quorum: quorum, keys: map[party.ID]*identity.Key{}, roster: map[party.ID]identity.ID{},
		shares: map[party.ID][]byte{}, m: map[party.ID]*member{}}
	var err error
	if g.all, err = party.NewSet(names[:quorum.Of]...); err != nil {
		t.Fatal(err)
	}
	if g.signers, err = party.NewSet(signers...); err != nil {
		t.Fatal(err)
	}
	if g.wrap, err = keyshare.NewWrapKey(); err != nil {
		t.Fatal(err)
	}
	g.record = &wallet.Record{Cluster: cluster, Charter: canon.Sum([]byte("charter")), Name: "treasury", Paths: signing.RootPath,
		Epoch: 1, Quorum: quorum, Signers: g.all, Ceremony: ceremony}
	for _, p := range g.all {
		g.keys[p] = envelopetest.Key(t, p)
		g.roster[p] = g.keys[p].ID()
		if g.shares[p], g.record.PublicKey, err = enginetest.Share(g.wrap, g.meta(p)); err != nil {
			t.Fatal(err)
		}
	}
	return g
}

func (g *group) meta(p party.ID) keyshare.Meta {
	return keyshare.Meta{Cluster: cluster, Wallet: "treasury", Epoch: 1, Party: p, Quorum: g.quorum, Signers: g.all, Ceremony: ceremony}
}

func (g *group) config(p party.ID) signing.Config {
	return signing.Config{Cluster: cluster, Record: g.record, Path: signing.RootPath, Self: p, Signers: g.signers, Attempt: attempt,
		Roster: g.roster, Key: g.keys[p], Nonce: canon.Sum([]byte("nonce of " + p)), Share: g.shares[p], Meta: g.meta(p)}
}

func (g *group) start() *group {
	g.t.Helper()
	for _, p := range g.signers {
		m := &member{host: enginetest.New()}
		m.host.OnEvent = func(e *engine.Event) bool { m.events = append(m.events, *e); return false }
		g.t.Cleanup(func() { _ = m.host.Close() })
		if err := m.host.Unlock(g.wrap); err != nil {
			g.t.Fatal(err)
		}
		var err error
		if m.s, err = signing.New(g.config(p)); err != nil {
			g.t.Fatal(err)
		}
		g.m[p] = m
	}
	for _, p := range g.signers {
		g.drive(p)
	}
	return g
}

func (g *group) note(format string, args ...any) { g.log = append(g.log, fmt.Sprintf(format, args...)) }

// drive does what Ready says, in its order, until nothing more comes.
func (g *group) drive(p party.ID) {
	g.t.Helper()
	m := g.m[p]
	check := func(err error) {
		if err != nil {
			g.t.Fatalf("%s: %v", p, err)
		}
	}
	for {
		r := m.s.Ready()
		if r.Start != nil {
			g.note("  %s: start", p)
			check(m.host.Sign(*r.Start))
		}
		for _, d := range r.Deliver {
			if err := m.host.Deliver(m.s.ID(), d); err != nil && !errors.Is(err, engine.ErrSession) {
				check(err)
			}
		}
		if r.ReleaseDigest != nil {
			g.note("  %s: release", p)
			m.released = append(m.released, *r.ReleaseDigest)
			check(m.host.Release(m.s.ID(), *r.ReleaseDigest))
		}
		if r.Prepared {
			g.note("  %s: prepared", p)
			m.prepared = true
		}
		if r.Partial != nil {
			g.note("  %s: partial", p)
			m.partial = r.Partial
		}
		if r.Fault != nil {
			by := ""
			for _, c := range r.Fault.Culprits {
				by += " by " + string(c)
			}
			g.note("  %s: fault %s%s", p, r.Fault.Code, by)
			m.fault, m.evidence = r.Fault, r.Evidence
			m.host.Drop(m.s.ID())
		}
		for _, o := range r.Send {
			if g.bend != nil {
				g.air.Add(p, g.bend(p, o)...)
			} else {
				g.air.Add(p, o)
			}
		}
		if len(m.events) == 0 {
			return
		}
		events := m.events
		m.events = nil
		for _, e := range events {
			if m.fault == nil {
				check(m.s.Engine(e))
			}
		}
	}
}

// permit is a permission of the gate for what the word names.
func (g *group) permit(p party.ID, what string) *gate.Authorized {
	return gate.Challenge(g.m[p].s.ID(), g.record, canon.Sum([]byte(what)))
}

func (g *group) release(p party.ID, what string) error {
	err := g.m[p].s.Release(g.permit(p, what))
	g.drive(p)
	return err
}

func (g *group) deliver(f envelopetest.Flight) {
	g.note("%s -> %s %s", f.From, f.To, f.Kind())
	if err := g.m[f.To].s.Step(f.From, f.Raw); err != nil {
		reason := err
		for errors.Unwrap(reason) != nil {
			reason = errors.Unwrap(reason)
		}
		g.note("  %s: refused, %v", f.To, reason)
	}
	g.drive(f.To)
}

// flow delivers everything in the order of sending.
func (g *group) flow() {
	for g.air.Len() > 0 {
		g.deliver(g.air.Take(0))
	}
}

// forge signs an envelope again with another payload.
func forge(key *identity.Key, raw, payload []byte) []byte {
	e, err := envelope.Parse(raw)
	if err != nil {
		return raw
	}
	return envelope.Sign(key, e.Header, payload).Encode()
}

func (g *group) combine() (partial.Signature, error) {
	var list []partial.Partial
	for _, p := range g.signers {
		if g.m[p].partial == nil {
			return partial.Signature{}, errors.New("no partial of " + string(p))
		}
		list = append(list, *g.m[p].partial)
	}
	return partial.Combine(g.m[g.signers[0]].released[0], g.record.PublicKey, g.quorum.Need, list)
}

// invariants hold after every step of every schedule, whoever lies.
func (g *group) invariants(liar party.ID) {
	g.t.Helper()
	var digest *[32]byte
	for _, p := range g.signers {
		if p == liar {
			continue
		}
		m := g.m[p]
		if len(m.released) > 1 {
			g.t.Fatalf("%s released %d digests in one session", p, len(m.released))
		}
		for _, d := range m.released {
			if digest != nil && *digest != d {
				g.t.Fatalf("two digests in one session")
			}
			digest = &d
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
	}
}

// schedule runs a session under seeded faults; each signer is released as soon as it
// is prepared. It ends when nothing is under way.
func (g *group) schedule(rng *rand.Rand, faults envelopetest.Faults, liar party.ID, what func(party.ID) string) {
	g.t.Helper()
	asked := map[party.ID]bool{}
	for steps := 0; steps < 20_000; steps++ {
		for _, p := range g.signers {
			if g.m[p].prepared && !asked[p] && rng.IntN(3) == 0 {
				asked[p] = true
				if err := g.release(p, what(p)); err != nil && g.m[p].fault == nil {
					g.t.Fatalf("%s: %v", p, err)
				}
			}
		}
		if g.air.Len() == 0 {
			if !slices.ContainsFunc(g.signers, func(p party.ID) bool { return g.m[p].prepared && !asked[p] }) {
				return
			}
			continue
		}
		f, ok := g.air.Next(rng, faults)
		if ok {
			_ = g.m[f.To].s.Step(f.From, f.Raw)
			g.drive(f.To)
		}
		g.invariants(liar)
	}
	g.t.Fatal("the schedule does not end")
}

func (g *group) trace() string {
	s := strings.Join(g.log, "\n")
	g.log = nil
	return s
}
