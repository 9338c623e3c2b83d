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
	proved   *wallet.Record
	signed   canon.Digest // the record that this signer's word was given for
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

	crash   func(p party.ID, place string) bool // whether a signer dies here
	dead    map[party.ID]bool
	attempt canon.Digest
}

// crashed ends a signer's process if the test wants it to: its disk is all that stays.
func (g *group) crashed(p party.ID, place string) bool {
	if g.crash != nil && !g.dead[p] && g.crash(p, place) {
		g.dead[p] = true
	}
	return g.dead[p]
}

// again restarts whoever died, ends what the others still run, and begins a new try.
func (g *group) again() *group {
	g.t.Helper()
	g.attempt = canon.New("again").Digest(g.attempt).Sum()
	g.air, g.dead = envelopetest.Air{}, map[party.ID]bool{}
	for _, p := range g.terms.Signers {
		m := g.m[p]
		if m.c != nil && !m.c.Proved() && m.active == nil {
			m.pending, m.proved = nil, nil // as nodes do: nothing but a proof outlives its run
		}
		if m.proved == nil && m.active == nil {
			m.pending = nil
		}
	}
	return g.begin()
}

// finish tries again and again, as a coordinator would, until the wallet is active
// somewhere, and has the others adopt it.
func (g *group) finish() {
	g.t.Helper()
	for try := 0; g.active() == 0; try++ {
		if try == 3 {
			g.t.Fatal("three tries made no wallet")
		}
		g.again().flow()
	}
	var done *wallet.Signed
	for _, m := range g.m {
		if m.active != nil {
			done = m.active
		}
	}
	record, err := wallet.Parse(done.Raw)
	if err != nil {
		g.t.Fatal(err)
	}
	for p, m := range g.m {
		// Who is not active yet has all that it needs to become it.
		if m.active == nil && (m.proved == nil || m.proved.Digest() != record.Digest() || m.signed != record.Digest()) {
			g.t.Fatalf("the wallet is active and %s cannot adopt it", p)
		}
		if m.pending == nil || m.pending.Record.Digest() != record.Digest() {
			g.t.Fatalf("the wallet is active and %s has no share of it", p)
		}
	}
}

var names = []party.ID{"alice", "bob", "carol", "dave", "erin"}

func newGroup(t testing.TB, q party.Quorum) *group {
	t.Helper()
	all, err := party.NewSet(names[:q.Of]...)
	if err != nil {
		t.Fatal(err)
	}
	digest := func(s string) canon.Digest { return canon.Sum([]byte(s)) }
	g := &group{t: t, attempt: attempt, dead: map[party.ID]bool{}, keys: map[party.ID]*identity.Key{}, roster: map[party.ID]identity.ID{}, m: map[party.ID]*member{},
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
	cfg := dkg.Config{Self: p, Attempt: g.attempt, Roster: g.roster, Key: g.keys[p], PreParams: pre,
		Nonce: canon.New("nonce").Digest(g.attempt).String(string(p)).Sum(), ChainCodeShare: canon.New("part").Digest(g.attempt).String(string(p)).Sum()}
	if g.attempt == attempt { // the golden files are of these
		cfg.Nonce, cfg.ChainCodeShare = canon.Sum([]byte("nonce of "+p)), canon.Sum([]byte("part of "+p))
	}
	if m := g.m[p]; m != nil && m.proved != nil {
		cfg.Proved, cfg.Signed = m.proved, !m.signed.IsZero()
	}
	return cfg
}

func (g *group) start() *group {
	g.t.Helper()
	for _, p := range g.terms.Signers {
		g.m[p] = &member{seen: map[canon.Digest]bool{}}
	}
	return g.begin()
}

func (g *group) begin() *group {
	g.t.Helper()
	for _, p := range g.terms.Signers {
		m := g.m[p]
		m.host, m.events, m.fault, m.evidence, m.stage = enginetest.New(), nil, nil, nil, ""
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
		if g.crashed(p, "before") {
			return
		}
		r := m.c.Ready()
		if r.Stage != m.stage {
			g.note("  %s: %s", p, r.Stage)
			m.stage = r.Stage
		}
		if r.Forget != nil {
			if m.proved == nil || m.proved.Digest() != r.Forget.Digest() || !m.signed.IsZero() {
				g.t.Fatalf("%s: forgets what it may not", p)
			}
			g.note("  %s: forgets a proof", p)
			m.proved, m.pending = nil, nil
			if g.crashed(p, "forgot") {
				return
			}
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
			if g.crashed(p, "stored") {
				return
			}
			check(m.c.Stored())
		}
		if r.Prove != nil {
			g.note("  %s: notes the proof", p)
			if m.pending == nil || m.proved != nil {
				g.t.Fatalf("%s: a proof without a share, or a second one", p)
			}
			m.proved = r.Prove
			if g.crashed(p, "proved") {
				return
			}
			check(m.c.Noted())
		}
		if m.c.Attested() && m.signed.IsZero() {
			// Whoever's signature leaves: all signers must be able to finish by their disks.
			for q, other := range g.m {
				if other.active == nil && (other.proved == nil || other.proved.Digest() != m.c.Record().Digest()) {
					g.t.Fatalf("%s signs the record and %s has no proof of it", p, q)
				}
			}
			m.signed = m.c.Record().Digest()
			if g.crashed(p, "signed") {
				return
			}
		}
		if m.c.Attested() && m.signed != m.c.Record().Digest() {
			g.t.Fatalf("%s signs two records of one wallet", p)
		}
		if r.Done != nil {
			g.note("  %s: wallet is active", p)
			m.active, m.proved = r.Done, nil
			if g.crashed(p, "active") {
				return
			}
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
		if g.crashed(p, "sent") {
			return
		}
		if len(m.events) == 0 && r.Store == nil && r.Prove == nil {
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
	if g.dead[f.To] {
		return
	}
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
			if q != liar && (g.m[q].pending == nil || !g.m[q].c.Proved() || !g.m[q].c.Attested()) {
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
