package signing_test

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"coffer/canon"
	"coffer/engine"
	"coffer/envelope"
	"coffer/envelope/envelopetest"
	"coffer/gate"
	"coffer/partial"
	"coffer/party"
	"coffer/signing"
)

var update = flag.Bool("update", false, "rewrite the golden files of this package")

func TestSignature(t *testing.T) {
	for _, tt := range []struct {
		quorum  party.Quorum
		signers []party.ID
	}{
		{party.Quorum{Need: 2, Of: 2}, names[:2]},
		{party.Quorum{Need: 2, Of: 3}, []party.ID{"alice", "carol"}},
		{party.Quorum{Need: 3, Of: 3}, names[:3]},
		{party.Quorum{Need: 3, Of: 5}, []party.ID{"bob", "dave", "erin"}},
		{party.Quorum{Need: 4, Of: 5}, names[1:5]},
	} {
		t.Run(tt.quorum.String(), func(t *testing.T) {
			g := newGroup(t, tt.quorum, tt.signers...).start()
			g.flow()
			for _, p := range g.signers {
				if err := g.release(p, "pay"); err != nil {
					t.Fatal(err)
				}
			}
			g.flow()
			g.invariants("")
			if _, err := g.combine(); err != nil {
				t.Fatal(err)
			}
			for _, p := range g.signers {
				if s := g.m[p].s.Stage(); s != signing.StageDone {
					t.Errorf("%s ends at %s", p, s)
				}
			}
		})
	}
}

// However messages are reordered and duplicated, a session of honest signers signs.
func TestAnyOrderSigns(t *testing.T) {
	for seed := range uint64(40) {
		g := someGroup(t, seed)
		rng := rand.New(rand.NewPCG(seed, 1))
		g.schedule(rng, envelopetest.Faults{Duplicate: 20}, "", func(party.ID) string { return "pay" })
		if _, err := g.combine(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

// A link that loses and damages can stop a session; it can make nobody look guilty.
func TestLossBlamesNobody(t *testing.T) {
	for seed := range uint64(40) {
		g := someGroup(t, seed)
		rng := rand.New(rand.NewPCG(seed, 2))
		g.schedule(rng, envelopetest.Faults{Duplicate: 10, Drop: 2, Tamper: 5}, "", func(party.ID) string { return "pay" })
		for p, m := range g.m {
			if m.fault != nil {
				t.Fatalf("seed %d: %s: %v", seed, p, m.fault)
			}
		}
		if _, err := g.combine(); err != nil && !strings.HasPrefix(err.Error(), "no partial") {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

// One signer changes what it sends, to one or all, once or often: what comes of it is
// a signature that verifies, its name, or nothing.
func TestLiar(t *testing.T) {
	outcomes := map[string]int{}
	for seed := range uint64(120) {
		rng := rand.New(rand.NewPCG(seed, 3))
		g := unstarted(t, seed)
		liar := g.signers[rng.IntN(len(g.signers))]
		often := 3 + rng.IntN(20)
		g.bend = func(from party.ID, o envelope.Outbound) []envelope.Outbound {
			if from != liar || rng.IntN(100) >= often {
				return []envelope.Outbound{o}
			}
			bent := envelope.Outbound{To: o.To, Raw: forge(g.keys[liar], o.Raw, canon.New("lie").Uint64(rng.Uint64()).Encoded())}
			if rng.IntN(2) == 0 {
				return []envelope.Outbound{bent}
			}
			return []envelope.Outbound{o, bent}
		}
		g.start()
		g.schedule(rng, envelopetest.Faults{Duplicate: 10}, liar, func(party.ID) string { return "pay" })
		named := false
		for _, p := range g.signers.Without(liar) {
			if f := g.m[p].fault; f != nil && slices.Contains(f.Culprits, liar) {
				named = true
			}
		}
		_, err := g.combine()
		switch {
		case named:
			outcomes["named"]++
		case err == nil:
			outcomes["signed"]++
		default:
			outcomes["nothing"]++
		}
	}
	// The schedule must reach every outcome that it claims to cover.
	if outcomes["named"] < 30 || outcomes["signed"] == 0 {
		t.Errorf("outcomes %v: the liar hardly lies", outcomes)
	}
}

// The coordinator asks the signers for different transactions, in any order.
func TestDifferentBindingsNeverRelease(t *testing.T) {
	for seed := range uint64(40) {
		g := someGroup(t, seed)
		rng := rand.New(rand.NewPCG(seed, 4))
		odd := g.signers[rng.IntN(len(g.signers))]
		g.schedule(rng, envelopetest.Faults{Duplicate: 10}, "", func(p party.ID) string {
			if p == odd {
				return "steal"
			}
			return "pay"
		})
		mismatch := false
		for p, m := range g.m {
			if len(m.released) != 0 || m.partial != nil {
				t.Fatalf("seed %d: %s released", seed, p)
			}
			if m.fault == nil {
				t.Fatalf("seed %d: %s has not noticed", seed, p)
			}
			mismatch = mismatch || m.fault.Code == signing.CodeBindingMismatch
		}
		if !mismatch {
			t.Fatalf("seed %d: nobody says why", seed)
		}
	}
}

// Signed messages that no honest signer sends name their sender, whatever they say.
func TestMalformedNamesItsSender(t *testing.T) {
	other := canon.Sum([]byte("other"))
	for name, tt := range map[string]struct {
		kind string
		make func(g *group) []byte
	}{
		"nonce of another run": {signing.KindNonce, func(*group) []byte { return signing.Nonce{Run: other, Value: other}.Encode() }},
		"nonce that is none":   {signing.KindNonce, func(*group) []byte { return []byte("junk") }},
		"abort of another run": {signing.KindAbort, func(*group) []byte { return signing.Abort{Run: other, Code: "X"}.Encode() }},
		"binding that is none": {signing.KindBinding, func(*group) []byte { return nil }},
		"binding of another session": {signing.KindBinding, func(g *group) []byte {
			a := g.permit("alice", "pay")
			return signing.Binding{Session: other, Intent: a.Intent(), Charter: a.Charter(), Transaction: a.Transaction()}.Encode()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGroup(t, party.Quorum{Need: 2, Of: 3}, "alice", "bob")
			g.bend = func(from party.ID, o envelope.Outbound) []envelope.Outbound {
				if e, err := envelope.Parse(o.Raw); err == nil && from == "bob" && e.Kind == tt.kind {
					o.Raw = forge(g.keys["bob"], o.Raw, tt.make(g))
				}
				return []envelope.Outbound{o}
			}
			g.start().flow()
			switch tt.kind {
			case signing.KindBinding:
				for _, p := range g.signers {
					if err := g.release(p, "pay"); err != nil {
						t.Fatal(err)
					}
				}
			case signing.KindAbort:
				g.m["bob"].s.Abort("TIMEOUT", "")
				g.drive("bob")
			}
			g.flow()
			f := g.m["alice"].fault
			if f == nil || f.Code != signing.CodeMalformed || !slices.Equal(f.Culprits, []party.ID{"bob"}) {
				t.Errorf("fault %v, want %s by bob", f, signing.CodeMalformed)
			}
			if len(g.m["alice"].released) != 0 {
				t.Error("alice released")
			}
		})
	}
}

func unstarted(t *testing.T, seed uint64) *group {
	switch seed % 4 {
	case 0:
		return newGroup(t, party.Quorum{Need: 2, Of: 3}, "alice", "carol")
	case 1:
		return newGroup(t, party.Quorum{Need: 2, Of: 2}, "alice", "bob")
	case 2:
		return newGroup(t, party.Quorum{Need: 3, Of: 4}, "alice", "bob", "dave")
	}
	return newGroup(t, party.Quorum{Need: 4, Of: 5}, "bob", "carol", "dave", "erin")
}

func someGroup(t *testing.T, seed uint64) *group { return unstarted(t, seed).start() }

func TestReleaseRefuses(t *testing.T) {
	g := newGroup(t, party.Quorum{Need: 2, Of: 3}, "alice", "bob").start()
	alice := g.m["alice"].s
	wrong := func(name string, a *gate.Authorized, want error) {
		t.Helper()
		if err := alice.Release(a); !errors.Is(err, want) {
			t.Errorf("%s: error %v, want %v", name, err, want)
		}
		g.drive("alice")
		if f := alice.Fault(); f != nil {
			t.Fatalf("%s ended the session: %v", name, f)
		}
	}
	wrong("before the nonces", gate.Challenge(canon.Sum([]byte("guess")), g.record, ceremony), signing.ErrNotAuthorized)
	g.deliver(g.air.Take(g.air.Find("bob", "alice", "nonce")))
	wrong("before rounds 1 to 3", g.permit("alice", "pay"), signing.ErrNotPrepared)
	g.flow()
	wrong("nil", nil, signing.ErrNotAuthorized)
	wrong("zero", new(gate.Authorized), signing.ErrNotAuthorized)
	wrong("another session's", gate.Challenge(canon.Sum([]byte("other")), g.record, ceremony), signing.ErrNotAuthorized)

	other := *g.record
	other.Name = "savings"
	scope := g.config("alice").Scope()
	scope.Wallet = other.Name
	nonces := [][32]byte{g.config("alice").Nonce, g.config("bob").Nonce}
	wrong("another wallet's", gate.Challenge(scope.Session(nonces), &other, ceremony), signing.ErrNotAuthorized)

	if err := g.release("alice", "pay"); err != nil {
		t.Fatal(err)
	}
	wrong("twice", g.permit("alice", "pay"), signing.ErrReleased)
	wrong("a second transaction", g.permit("alice", "steal"), signing.ErrReleased)
	if err := g.release("bob", "pay"); err != nil {
		t.Fatal(err)
	}
	g.flow()
	wrong("when it is done", g.permit("alice", "steal"), signing.ErrEnded)
	if _, err := g.combine(); err != nil {
		t.Fatal(err)
	}
}

// What the engine must never make a session do, whatever became of the worker.
func TestEngineIsNotTrusted(t *testing.T) {
	for name, tt := range map[string]struct {
		event func(id canon.Digest) engine.Event
	}{
		"round 4 before release": {func(id canon.Digest) engine.Event {
			return engine.Event{Session: id, Out: &engine.Message{Kind: engine.KindS4, From: "alice", Payload: []byte{1}}}
		}},
		"partial before release": {func(id canon.Digest) engine.Event {
			return engine.Event{Session: id, Partial: &partial.Partial{Session: id}}
		}},
		"a message twice": {func(id canon.Digest) engine.Event {
			return engine.Event{Session: id, Out: &engine.Message{Kind: engine.KindS1b, From: "alice", Payload: []byte{1}}}
		}},
		"a kind of another protocol": {func(id canon.Digest) engine.Event {
			return engine.Event{Session: id, Out: &engine.Message{Kind: engine.KindKG1, From: "alice", Payload: []byte{1}}}
		}},
		"prepared twice": {func(id canon.Digest) engine.Event { return engine.Event{Session: id, Prepared: true} }},
		"a key":          {func(id canon.Digest) engine.Event { return engine.Event{Session: id, Keygen: &engine.KeygenResult{}} }},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGroup(t, party.Quorum{Need: 2, Of: 3}, "alice", "bob").start()
			g.flow()
			s := g.m["alice"].s
			if err := s.Engine(tt.event(canon.Sum([]byte("other")))); err == nil {
				t.Error("an event of another session was taken")
			}
			if err := s.Engine(tt.event(s.ID())); err != nil {
				t.Fatal(err)
			}
			if f := s.Fault(); f == nil || f.Code != signing.CodeEngine || len(f.Culprits) != 0 {
				t.Errorf("fault %v, want %s of nobody", f, signing.CodeEngine)
			}
			for _, o := range s.Ready().Send {
				if e, err := envelope.Parse(o.Raw); err != nil || e.Kind != signing.KindAbort {
					t.Errorf("%s leaves after the fault", e.Kind)
				}
			}
		})
	}
}

// A failed session stays failed, and what it had not yet handed over never happens.
func TestFaultIsTerminal(t *testing.T) {
	g := newGroup(t, party.Quorum{Need: 2, Of: 3}, "alice", "bob").start()
	g.flow()
	s := g.m["alice"].s
	if err := s.Release(g.permit("alice", "pay")); err != nil {
		t.Fatal(err)
	}
	s.Abort("FROZEN", "a freeze arrived")
	for _, o := range s.Ready().Send {
		if e, err := envelope.Parse(o.Raw); err != nil || e.Kind != signing.KindAbort {
			t.Errorf("%s left after the freeze", e.Kind)
		}
	}
	s.Abort("TIMEOUT", "later")
	if f := s.Fault(); f.Code != "FROZEN" {
		t.Errorf("the fault became %v", f)
	}
	if err := s.Step("bob", nil); !errors.Is(err, signing.ErrEnded) {
		t.Errorf("step: %v", err)
	}
	if err := s.Release(g.permit("alice", "pay")); !errors.Is(err, signing.ErrEnded) {
		t.Errorf("release: %v", err)
	}
	if err := s.Engine(engine.Event{Session: s.ID(), Prepared: true}); err != nil {
		t.Errorf("engine: %v", err)
	}
	if r := s.Ready(); len(r.Send)+len(r.Deliver) != 0 || r.Partial != nil || r.ReleaseDigest != nil || r.Stage != signing.StageFailed {
		t.Errorf("a failed session is ready with %+v", r)
	}
}

// Everything that an earlier session sent is refused by the next one, although the
// coordinator gave both the same attempt: the nonces differ.
func TestReplay(t *testing.T) {
	g := newGroup(t, party.Quorum{Need: 2, Of: 3}, "alice", "bob")
	var tape []envelope.Outbound
	g.bend = func(from party.ID, o envelope.Outbound) []envelope.Outbound {
		if from == "bob" {
			tape = append(tape, o)
		}
		return []envelope.Outbound{o}
	}
	g.start().flow()
	for _, p := range g.signers {
		if err := g.release(p, "pay"); err != nil {
			t.Fatal(err)
		}
	}
	g.flow()
	cfg := g.config("alice")
	cfg.Nonce = canon.Sum([]byte("a fresh nonce"))
	s, err := signing.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range tape {
		_ = s.Step("bob", o.Raw)
	}
	if s.ID() == g.m["alice"].s.ID() {
		t.Error("the same session twice")
	}
	if f := s.Fault(); f == nil || f.Code != envelope.CodeSessionMismatch {
		t.Errorf("fault %v, want %s", f, envelope.CodeSessionMismatch)
	}
}

func TestConfigRefuses(t *testing.T) {
	g := newGroup(t, party.Quorum{Need: 2, Of: 3}, "alice", "bob")
	for name, change := range map[string]func(*signing.Config){
		"no record":            func(c *signing.Config) { c.Record = nil },
		"another cluster":      func(c *signing.Config) { c.Cluster = attempt },
		"a path":               func(c *signing.Config) { c.Path = "m/0" },
		"no path":              func(c *signing.Config) { c.Path = "" },
		"one signer":           func(c *signing.Config) { c.Signers = party.Set{"alice"} },
		"all signers":          func(c *signing.Config) { c.Signers = g.all },
		"a stranger":           func(c *signing.Config) { c.Signers = party.Set{"alice", "mallory"} },
		"self not in it":       func(c *signing.Config) { c.Self = "carol" },
		"no attempt":           func(c *signing.Config) { c.Attempt = canon.Digest{} },
		"no nonce":             func(c *signing.Config) { c.Nonce = [32]byte{} },
		"no share":             func(c *signing.Config) { c.Share = nil },
		"another's share":      func(c *signing.Config) { c.Meta.Party = "bob" },
		"another epoch's":      func(c *signing.Config) { c.Meta.Epoch = 2 },
		"another wallet's":     func(c *signing.Config) { c.Meta.Wallet = "savings" },
		"another quorum's":     func(c *signing.Config) { c.Meta.Quorum.Need = 3 },
		"another ceremony's":   func(c *signing.Config) { c.Meta.Ceremony = attempt },
		"fewer parties' share": func(c *signing.Config) { c.Meta.Signers = c.Meta.Signers[:2] },
		"another identity":     func(c *signing.Config) { c.Key = g.keys["bob"] },
		"without a roster":     func(c *signing.Config) { c.Roster = nil },
		"unsorted signers":     func(c *signing.Config) { c.Signers = party.Set{"bob", "alice"} },
		"a signer named twice": func(c *signing.Config) { c.Signers = party.Set{"alice", "alice"} },
	} {
		cfg := g.config("alice")
		change(&cfg)
		if _, err := signing.New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestAwaited(t *testing.T) {
	g := newGroup(t, party.Quorum{Need: 3, Of: 4}, "alice", "bob", "carol").start()
	if w := g.m["alice"].s.Awaited(); !w.Equal(party.Set{"bob", "carol"}) {
		t.Errorf("alice waits for %v", w)
	}
	g.deliver(g.air.Take(g.air.Find("bob", "alice", "nonce")))
	g.flow()
	if err := g.release("alice", "pay"); err != nil {
		t.Fatal(err)
	}
	if err := g.release("bob", "pay"); err != nil {
		t.Fatal(err)
	}
	g.flow()
	if w := g.m["alice"].s.Awaited(); !w.Equal(party.Set{"carol"}) {
		t.Errorf("alice waits for %v", w)
	}
}

func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.trace")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, path := range files {
		t.Run(filepath.Base(path), func(t *testing.T) {
			var g *group
			envelopetest.Script(t, path, *update, func(w []string) string {
				arg := func(i int) party.ID {
					if i >= len(w) {
						t.Fatalf("%v: too few words", w)
					}
					return party.ID(w[i])
				}
				find := func() int {
					i := g.air.Find(arg(1), arg(2), string(arg(3)))
					if i < 0 {
						t.Fatalf("%v: nothing of that kind is under way", w)
					}
					return i
				}
				switch w[0] {
				case "quorum": // quorum NEED OF SIGNER…
					var q party.Quorum
					if _, err := fmt.Sscan(w[1]+" "+w[2], &q.Need, &q.Of); err != nil {
						t.Fatal(err)
					}
					var ids []party.ID
					for _, n := range w[3:] {
						ids = append(ids, party.ID(n))
					}
					g = newGroup(t, q, ids...).start()
				case "flow":
					g.flow()
				case "deliver":
					g.deliver(g.air.Take(find()))
				case "again": // deliver and keep
					g.deliver(*g.air.At(find()))
				case "drop":
					g.air.Take(find())
				case "forge": // FROM TO KIND: the sender signs another payload instead
					f := g.air.At(find())
					f.Raw = forge(g.keys[f.From], f.Raw, []byte("something else"))
				case "damage": // FROM TO KIND: the link changes a byte
					f := g.air.At(find())
					f.Raw[len(f.Raw)-1] ^= 1
				case "release": // WHO WHAT
					if err := g.release(arg(1), string(arg(2))); err != nil {
						g.note("  %s: %v", arg(1), errors.Unwrap(err))
					}
				case "abort": // WHO CODE
					g.m[arg(1)].s.Abort(string(arg(2)), "as the script says")
					g.drive(arg(1))
				case "stages":
					for _, p := range g.signers {
						g.note("%s %s", p, g.m[p].s.Stage())
					}
				case "combine":
					if _, err := g.combine(); err != nil {
						g.note("%v", err)
					} else {
						g.note("a signature that verifies")
					}
				default:
					t.Fatalf("unknown command %v", w)
				}
				return g.trace()
			})
		})
	}
}
