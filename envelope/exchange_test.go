package envelope_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"coffer/canon"
	"coffer/envelope"
	"coffer/envelope/envelopetest"
	"coffer/identity"
	"coffer/party"
)

var testKinds = map[string]envelope.Class{
	"nonce": {Broadcast: true, Echo: true, Opening: true, Cap: 64},
	"abort": {Broadcast: true, Opening: true, Final: true, Cap: 64},
	"p2p":   {Cap: 64},
	"cast":  {Broadcast: true, Echo: true, Cap: 64},
	"bind":  {Broadcast: true, Cap: 64},
}

// group is one exchange per party and the keys to play any of them falsely.
type group struct {
	t       *testing.T
	parties party.Set
	keys    map[party.ID]*identity.Key
	roster  map[party.ID]identity.ID
	x       map[party.ID]*envelope.Exchange
	got     map[party.ID][]envelope.Delivered
}

func newGroup(t *testing.T, names ...party.ID) *group {
	t.Helper()
	g := &group{t: t, keys: map[party.ID]*identity.Key{}, roster: map[party.ID]identity.ID{}, x: map[party.ID]*envelope.Exchange{}, got: map[party.ID][]envelope.Delivered{}}
	var err error
	if g.parties, err = party.NewSet(names...); err != nil {
		t.Fatal(err)
	}
	for _, p := range g.parties {
		g.keys[p] = envelopetest.Key(t, p)
		g.roster[p] = g.keys[p].ID()
	}
	for _, p := range g.parties {
		if g.x[p], err = envelope.NewExchange(g.config(p)); err != nil {
			t.Fatal(err)
		}
	}
	return g
}

func (g *group) config(p party.ID) envelope.Config {
	return envelope.Config{Cluster: cluster, Run: run, Self: p, Parties: g.parties, Roster: g.roster, Key: g.keys[p], Kinds: testKinds}
}

func (g *group) bind() {
	g.t.Helper()
	for _, p := range g.parties {
		if err := g.x[p].Bind(session); err != nil {
			g.t.Fatal(err)
		}
	}
}

func (g *group) send(from party.ID, kind string, to party.ID, payload string) {
	g.t.Helper()
	if err := g.x[from].Send(kind, to, []byte(payload)); err != nil {
		g.t.Fatal(err)
	}
}

// flow passes messages on until none is left; honest parties are those with an exchange.
func (g *group) flow() {
	g.t.Helper()
	for moved := true; moved; {
		moved = false
		for _, p := range g.parties {
			if g.x[p] == nil {
				continue
			}
			out, in, _ := g.x[p].Ready()
			g.got[p] = append(g.got[p], in...)
			for _, o := range out {
				if x := g.x[o.To]; x != nil {
					moved = true
					if err := x.Step(p, o.Raw); err != nil && !errors.Is(err, envelope.ErrEnded) {
						g.t.Fatalf("%s to %s: %v", p, o.To, err)
					}
				}
			}
		}
	}
}

func (g *group) play(from, to party.ID, e envelope.Envelope) {
	g.t.Helper()
	if err := g.x[to].Step(from, e.Encode()); err != nil {
		g.t.Fatalf("%s to %s: %v", from, to, err)
	}
}

func (g *group) wantFault(p party.ID, code string, culprits ...party.ID) *envelope.Fault {
	g.t.Helper()
	f := g.x[p].Fault()
	if f == nil || f.Code != code || !slices.Equal(f.Culprits, culprits) {
		g.t.Fatalf("%s has fault %v, want %s by %v", p, f, code, culprits)
	}
	return f
}

func show(list []envelope.Delivered) string {
	s := ""
	for _, d := range list {
		s += fmt.Sprintf("%s %s %s; ", d.From, d.Kind, d.Payload)
	}
	return s
}

func TestTwoPartiesNeedNoEcho(t *testing.T) {
	g := newGroup(t, "alice", "bob")
	g.bind()
	g.send("alice", "cast", "", "hello")
	out, _, _ := g.x["alice"].Ready()
	if len(out) != 1 {
		t.Fatalf("%d messages, want 1", len(out))
	}
	g.play("alice", "bob", must(envelope.Parse(out[0].Raw)))
	g.flow()
	if got := show(g.got["bob"]); got != "alice cast hello; " {
		t.Errorf("bob has %q", got)
	}
}

func must(e envelope.Envelope, err error) envelope.Envelope {
	if err != nil {
		panic(err)
	}
	return e
}

func TestBroadcastWaitsForAllEchoes(t *testing.T) {
	g := newGroup(t, "alice", "bob", "carol")
	g.bind()
	g.send("alice", "cast", "", "A")
	g.send("bob", "cast", "", "B")
	g.send("alice", "p2p", "bob", "secret")
	g.flow()
	if got := show(g.got["bob"]); got != "alice p2p secret; " {
		t.Fatalf("before carol's message bob has %q", got)
	}
	// alice has sent what she could, but her echo cannot be there either.
	if w := g.x["bob"].Awaited("cast"); !w.Equal(party.Set{"alice", "carol"}) {
		t.Errorf("bob waits for %v", w)
	}
	g.send("carol", "cast", "", "C")
	g.flow()
	if got := show(g.got["bob"]); got != "alice p2p secret; alice cast A; carol cast C; " {
		t.Errorf("bob has %q", got)
	}
	if got := show(g.got["carol"]); got != "alice cast A; bob cast B; " {
		t.Errorf("carol has %q", got)
	}
}

func TestMessagesBeforeBindWait(t *testing.T) {
	g := newGroup(t, "alice", "bob")
	if err := g.x["alice"].Send("p2p", "bob", nil); err == nil {
		t.Error("a session message left before the session was known")
	}
	if err := g.x["alice"].Bind(session); err != nil {
		t.Fatal(err)
	}
	g.send("alice", "p2p", "bob", "early")
	g.send("alice", "cast", "", "too")
	g.flow()
	if got := show(g.got["bob"]); got != "" {
		t.Fatalf("bob has %q before he knows the session", got)
	}
	if err := g.x["bob"].Bind(session); err != nil {
		t.Fatal(err)
	}
	g.flow()
	if got := show(g.got["bob"]); got != "alice cast too; alice p2p early; " {
		t.Errorf("bob has %q", got)
	}
}

func TestMessageUnderAnotherSession(t *testing.T) {
	wrong := header("p2p", "alice", "bob")
	wrong.Session = canon.Sum([]byte("another session"))
	for _, early := range []bool{true, false} {
		g := newGroup(t, "alice", "bob")
		e := envelope.Sign(g.keys["alice"], wrong, nil)
		if early {
			g.play("alice", "bob", e)
			g.bind()
		} else {
			g.bind()
			g.play("alice", "bob", e)
		}
		g.wantFault("bob", envelope.CodeSessionMismatch, "alice")
	}
}

// Every refusal leaves the run as it was: the honest message still goes through.
func TestRefusals(t *testing.T) {
	tests := []struct {
		name   string
		from   party.ID
		change func(*envelope.Header)
		body   int
		want   error
	}{
		{"unknown kind", "alice", func(h *envelope.Header) { h.Kind = "nosuch" }, 1, envelope.ErrKind},
		{"echo where there is none", "alice", func(h *envelope.Header) { h.Kind = "echo:bind" }, 1, envelope.ErrKind},
		{"over its cap", "alice", func(h *envelope.Header) {}, 65, envelope.ErrTooLarge},
		{"in another's name", "carol", func(h *envelope.Header) {}, 1, envelope.ErrSender},
		{"in our own name", "bob", func(h *envelope.Header) { h.From = "bob" }, 1, envelope.ErrSender},
		{"of a stranger", "mallory", func(h *envelope.Header) { h.From = "mallory" }, 1, envelope.ErrSender},
		{"of another cluster", "alice", func(h *envelope.Header) { h.Cluster = run }, 1, envelope.ErrRoute},
		{"of another run", "alice", func(h *envelope.Header) { h.Run = cluster }, 1, envelope.ErrRoute},
		{"to somebody else", "alice", func(h *envelope.Header) { h.To = "carol" }, 1, envelope.ErrRoute},
		{"to all, of a kind for one", "alice", func(h *envelope.Header) { h.To = "" }, 1, envelope.ErrRoute},
		{"to one, of a kind for all", "alice", func(h *envelope.Header) { h.Kind = "cast" }, 1, envelope.ErrRoute},
		{"opening kind under the session", "alice", func(h *envelope.Header) { h.Kind, h.To = "nonce", "" }, 1, envelope.ErrRoute},
		{"signed by another", "alice", nil, 1, envelope.ErrSignature},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := newGroup(t, "alice", "bob", "carol")
			g.bind()
			h, key := header("p2p", "alice", "bob"), g.keys["alice"]
			if tt.change != nil {
				tt.change(&h)
			} else {
				key = g.keys["carol"]
			}
			if err := g.x["bob"].Step(tt.from, envelope.Sign(key, h, make([]byte, tt.body)).Encode()); !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
			g.send("alice", "p2p", "bob", "honest")
			g.flow()
			if got := show(g.got["bob"]); got != "alice p2p honest; " {
				t.Errorf("bob has %q after the refusal", got)
			}
		})
	}
}

func TestFirstWriteWins(t *testing.T) {
	g := newGroup(t, "alice", "bob")
	g.bind()
	first := envelope.Sign(g.keys["alice"], header("p2p", "alice", "bob"), []byte("one"))
	g.play("alice", "bob", first)
	g.play("alice", "bob", first)
	g.flow()
	g.play("alice", "bob", first)
	g.flow()
	if got := show(g.got["bob"]); got != "alice p2p one; " {
		t.Fatalf("bob has %q", got)
	}
	g.play("alice", "bob", envelope.Sign(g.keys["alice"], header("p2p", "alice", "bob"), []byte("two")))
	f := g.wantFault("bob", envelope.CodeEquivocation, "alice")
	if who, err := f.Evidence.Verify(g.roster["alice"]); err != nil || who != "alice" {
		t.Errorf("evidence names %q, %v", who, err)
	}
	if err := g.x["bob"].Step("alice", first.Encode()); !errors.Is(err, envelope.ErrEnded) {
		t.Errorf("error %v after a fault, want ErrEnded", err)
	}
	if err := g.x["bob"].Send("p2p", "alice", nil); !errors.Is(err, envelope.ErrEnded) {
		t.Errorf("error %v after a fault, want ErrEnded", err)
	}
	g.send("bob", "abort", "", "why") // a final kind may still leave
}

// Carol tells alice one thing and bob another, for each kind with an echo and each
// choice of whom she tells the truth; nobody gets to see either message.
func TestEquivocationIsCaughtByEcho(t *testing.T) {
	for _, kind := range []string{"nonce", "cast"} {
		for victims := 1; victims < 7; victims++ { // subsets of alice, bob and dave, neither empty nor all
			g := newGroup(t, "alice", "bob", "carol", "dave")
			g.bind()
			delete(g.x, "carol")
			h := header(kind, "carol", "")
			if kind == "nonce" {
				h.Session = run
			}
			for i, p := range []party.ID{"alice", "bob", "dave"} {
				g.send(p, kind, "", "honest")
				g.play("carol", p, envelope.Sign(g.keys["carol"], h, fmt.Appendf(nil, "to group %d", victims>>i&1)))
			}
			g.flow()
			named := 0
			for p, x := range g.x {
				if len(g.got[p]) != 0 {
					t.Errorf("%s, victims %03b: %s was given %s", kind, victims, p, show(g.got[p]))
				}
				if x.Fault() == nil {
					continue // its echoes never completed
				}
				named++
				f := g.wantFault(p, envelope.CodeEquivocation, "carol")
				if who, err := f.Evidence.Verify(g.roster["carol"]); err != nil || who != "carol" {
					t.Errorf("evidence names %q, %v", who, err)
				}
			}
			if named == 0 {
				t.Errorf("%s, victims %03b: nobody noticed", kind, victims)
			}
		}
	}
}

// An echo that shows what its subject never signed falls back on the echoer.
func TestForgedEchoDoesNotFrame(t *testing.T) {
	for _, mode := range []string{"unsigned", "malformed", "other kind", "fewer"} {
		g := newGroup(t, "alice", "bob", "carol")
		g.bind()
		delete(g.x, "carol")
		g.send("alice", "cast", "", "A")
		g.send("bob", "cast", "", "B")
		cast := envelope.Sign(g.keys["carol"], header("cast", "carol", ""), []byte("C"))
		g.play("carol", "alice", cast)
		echo := envelope.Echo{Session: session, Kind: "cast", Entries: []envelope.EchoEntry{
			{Payload: envelope.PayloadDigest([]byte("A"))},
			{Payload: envelope.PayloadDigest([]byte("never said")), Signature: [64]byte{1}},
			{Payload: cast.Payload, Signature: cast.Signature},
		}}
		switch mode {
		case "other kind":
			echo.Kind = "nonce"
		case "fewer":
			echo.Entries = echo.Entries[:2]
		}
		raw := echo.Encode()
		if mode == "malformed" {
			raw = raw[1:]
		}
		g.play("carol", "alice", envelope.Sign(g.keys["carol"], header("echo:cast", "carol", ""), raw))
		g.flow()
		g.wantFault("alice", envelope.CodeForgedEcho, "carol")
	}
}

// A second process with alice's key is shown to her by bob's echo; she blames nobody.
func TestClonedIdentity(t *testing.T) {
	g := newGroup(t, "alice", "bob", "carol")
	g.bind()
	delete(g.x, "alice")
	clone := must(envelope.Parse(envelope.Sign(g.keys["alice"], header("cast", "alice", ""), []byte("clone")).Encode()))
	g.play("alice", "bob", clone)
	g.play("alice", "carol", clone)
	g.send("bob", "cast", "", "B")
	g.send("carol", "cast", "", "C")
	x, err := envelope.NewExchange(g.config("alice"))
	if err != nil {
		t.Fatal(err)
	}
	g.x["alice"] = x
	if err := x.Bind(session); err != nil {
		t.Fatal(err)
	}
	if err := x.Send("cast", "", []byte("original")); err != nil {
		t.Fatal(err)
	}
	x.Ready() // lost: the others have the clone's
	g.flow()
	g.wantFault("alice", envelope.CodeCloned)
}

// Whatever the order and however often messages come, all deliver the same.
func TestOrderDoesNotMatter(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 0))
		g := newGroup(t, "alice", "bob", "carol")
		type flight struct {
			from party.ID
			o    envelope.Outbound
		}
		var air []flight
		bound := map[party.ID]bool{}
		for _, p := range g.parties {
			g.send(p, "nonce", "", "nonce of "+string(p))
		}
		for {
			moved := false
			for _, p := range g.parties {
				out, in, fault := g.x[p].Ready()
				if fault != nil {
					t.Fatalf("seed %d: %s: %v", seed, p, fault)
				}
				g.got[p] = append(g.got[p], in...)
				for _, o := range out {
					for range 1 + rng.IntN(2) {
						air = append(air, flight{p, o})
					}
				}
				if len(g.got[p]) == 2 && !bound[p] {
					bound[p], moved = true, true
					if err := g.x[p].Bind(session); err != nil {
						t.Fatal(err)
					}
					g.send(p, "cast", "", "cast of "+string(p))
					g.send(p, "bind", "", "bind of "+string(p))
				}
			}
			if len(air) == 0 {
				if moved {
					continue
				}
				break
			}
			i := rng.IntN(len(air))
			f := air[i]
			air = slices.Delete(air, i, i+1)
			if err := g.x[f.o.To].Step(f.from, f.o.Raw); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
		for _, p := range g.parties {
			if len(g.got[p]) != 6 {
				t.Errorf("seed %d: %s has %s", seed, p, show(g.got[p]))
			}
		}
	}
}

func TestSendRefuses(t *testing.T) {
	g := newGroup(t, "alice", "bob")
	g.bind()
	g.send("alice", "p2p", "bob", "once")
	for name, err := range map[string]error{
		"twice":        g.x["alice"].Send("p2p", "bob", []byte("other")),
		"to self":      g.x["alice"].Send("p2p", "alice", nil),
		"to stranger":  g.x["alice"].Send("p2p", "mallory", nil),
		"to all":       g.x["alice"].Send("p2p", "", nil),
		"unknown kind": g.x["alice"].Send("nosuch", "", nil),
		"over its cap": g.x["alice"].Send("bind", "", make([]byte, 65)),
		"bind twice":   g.x["alice"].Bind(cluster),
	} {
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestConfigRefuses(t *testing.T) {
	g := newGroup(t, "alice", "bob", "carol")
	for name, change := range map[string]func(*envelope.Config){
		"no cluster":        func(c *envelope.Config) { c.Cluster = canon.Digest{} },
		"no run":            func(c *envelope.Config) { c.Run = canon.Digest{} },
		"no key":            func(c *envelope.Config) { c.Key = nil },
		"another's key":     func(c *envelope.Config) { c.Key = g.keys["bob"] },
		"self not in it":    func(c *envelope.Config) { c.Self = "mallory" },
		"alone":             func(c *envelope.Config) { c.Parties = party.Set{"alice"} },
		"unsorted":          func(c *envelope.Config) { c.Parties = party.Set{"carol", "alice"} },
		"twice":             func(c *envelope.Config) { c.Parties = party.Set{"alice", "alice"} },
		"not in the roster": func(c *envelope.Config) { c.Parties = party.Set{"alice", "mallory"} },
		"cap of zero":       func(c *envelope.Config) { c.Kinds = map[string]envelope.Class{"x": {}} },
		"echo of one":       func(c *envelope.Config) { c.Kinds = map[string]envelope.Class{"x": {Echo: true, Cap: 1}} },
		"echo kind":         func(c *envelope.Config) { c.Kinds = map[string]envelope.Class{"echo:x": {Cap: 1}} },
	} {
		cfg := g.config("alice")
		change(&cfg)
		if _, err := envelope.NewExchange(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestEarlyIsBoundedPerPeer(t *testing.T) {
	b := envelope.NewEarly(envelope.Limits{Messages: 2, Bytes: 100, Age: 30})
	add := func(now int64, from party.ID, run canon.Digest, size int) error {
		return b.Add(now, from, run, make([]byte, size))
	}
	defer func() {
		if err := add(31, "carol", run, 5); err != nil {
			t.Fatal(err)
		}
		if err := add(31, "carol", run, 5); err != nil {
			t.Fatal(err)
		}
		if got := b.Take(run, party.Set{"carol"}); len(got) != 1 {
			t.Errorf("a duplicate takes room: %v", got)
		}
	}()
	for _, err := range []error{add(0, "alice", run, 10), add(0, "bob", run, 10), add(1, "alice", session, 10)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := add(2, "alice", run, 1); !errors.Is(err, envelope.ErrFull) {
		t.Errorf("a third message: %v", err)
	}
	if err := add(2, "bob", run, 91); !errors.Is(err, envelope.ErrFull) {
		t.Errorf("too many bytes: %v", err)
	}
	all := party.Set{"alice", "bob"}
	if got := b.Take(run, all); len(got) != 2 || got[0].From != "alice" || got[1].From != "bob" {
		t.Errorf("taken: %v", got)
	}
	if got := b.Take(run, all); len(got) != 0 {
		t.Errorf("taken twice: %v", got)
	}
	if err := add(31, "alice", run, 100); err != nil {
		t.Errorf("old message still takes room: %v", err)
	}
	if got := b.Take(session, all); len(got) != 0 {
		t.Errorf("an old message outlived its age: %v", got)
	}
}
