package dkg_test

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"coffer/canon"
	"coffer/dkg"
	"coffer/engine"
	"coffer/envelope"
	"coffer/envelope/envelopetest"
	"coffer/gate"
	"coffer/party"
	"coffer/signing"
	"coffer/wallet"
)

var update = flag.Bool("update", false, "rewrite the golden files of this package")

var quorums = []party.Quorum{{Need: 2, Of: 2}, {Need: 2, Of: 3}, {Need: 3, Of: 4}, {Need: 3, Of: 5}, {Need: 5, Of: 5}}

func TestKeygen(t *testing.T) {
	for _, q := range quorums {
		t.Run(q.String(), func(t *testing.T) {
			g := newGroup(t, q).start()
			g.flow()
			g.invariants("")
			for p, m := range g.m {
				if m.active == nil {
					t.Fatalf("%s ends at %s: %v", p, m.c.State(), m.fault)
				}
				r, err := wallet.Parse(m.active.Raw)
				if err != nil {
					t.Fatal(err)
				}
				if r.Name != "treasury" || r.Cluster != g.terms.Cluster || r.Charter != g.terms.Charter || r.Epoch != 1 ||
					r.Quorum != q || !r.Signers.Equal(g.terms.Signers) || r.Ceremony != m.c.ID() || r.ChainCode == [32]byte{} {
					t.Errorf("%s's record is %+v", p, r)
				}
				if m.pending.Record.PublicKey != r.PublicKey || m.pending.Meta.Party != p {
					t.Errorf("%s stored another share", p)
				}
				if n := m.host.Sessions(); n != 0 {
					t.Errorf("%s's engine still runs %d sessions", p, n)
				}
			}
		})
	}
}

func TestQuorumsCoverEverySigner(t *testing.T) {
	for of := 2; of <= 20; of++ {
		for need := of/2 + 1; need <= of; need++ {
			q := party.Quorum{Need: need, Of: of}
			if need < 2 {
				continue
			}
			var all party.Set
			for i := range of {
				all = append(all, party.ID(fmt.Sprintf("s%02d", i)))
			}
			covered := map[party.ID]bool{}
			list := dkg.Quorums(q, all)
			for _, quorum := range list {
				if len(quorum) != need || !quorum.SubsetOf(all) || !slices.IsSorted(quorum) {
					t.Fatalf("%s: quorum %v", q, quorum)
				}
				for _, p := range quorum {
					covered[p] = true
				}
			}
			if len(covered) != of || len(list) > 2 {
				t.Errorf("%s: %d of %d signers take part in %d challenges", q, len(covered), of, len(list))
			}
		}
	}
}

func TestAnyOrderMakesAWallet(t *testing.T) {
	for seed := range uint64(25) {
		g := newGroup(t, quorums[seed%uint64(len(quorums))]).start()
		g.schedule(rand.New(rand.NewPCG(seed, 1)), envelopetest.Faults{Duplicate: 20}, "")
		if n := g.active(); n != len(g.m) {
			t.Fatalf("seed %d: active at %d of %d: %v %v %v", seed, n, len(g.m), g.m["alice"].c.State(), g.m["alice"].c.Awaited(), g.m["bob"].c.State())
		}
	}
}

func TestLossBlamesNobody(t *testing.T) {
	for seed := range uint64(25) {
		g := newGroup(t, quorums[seed%uint64(len(quorums))]).start()
		g.schedule(rand.New(rand.NewPCG(seed, 2)), envelopetest.Faults{Duplicate: 10, Drop: 1, Tamper: 3}, "")
		for p, m := range g.m {
			if m.fault != nil {
				t.Fatalf("seed %d: %s: %v", seed, p, m.fault)
			}
			if m.active == nil && len(m.c.Awaited()) == 0 {
				t.Errorf("seed %d: %s is stuck at %s and waits for nobody", seed, p, m.c.State())
			}
		}
	}
}

func TestLiar(t *testing.T) {
	outcomes := map[string]int{}
	for seed := range uint64(80) {
		rng := rand.New(rand.NewPCG(seed, 3))
		g := newGroup(t, quorums[seed%uint64(len(quorums))])
		liar := g.terms.Signers[rng.IntN(len(g.terms.Signers))]
		often := 1 + rng.IntN(8)
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
		g.schedule(rng, envelopetest.Faults{Duplicate: 10}, liar)
		named := false
		for p, m := range g.m {
			named = named || p != liar && m.fault != nil && slices.Contains(m.fault.Culprits, liar)
		}
		switch {
		case named:
			outcomes["named"]++
		case g.active() > 0:
			outcomes["made"]++
		default:
			outcomes["nothing"]++
		}
	}
	if outcomes["named"] < 25 || outcomes["made"] == 0 {
		t.Errorf("outcomes %v: the liar hardly lies", outcomes)
	}
}

// Whoever aborts, at whatever step: before its attestation leaves, nothing is active
// anywhere; after, every share that the wallet may need is kept.
func TestAbortAtEveryStep(t *testing.T) {
	whole := newGroup(t, party.Quorum{Need: 2, Of: 3}).start()
	steps := 0
	for ; whole.air.Len() > 0; steps++ {
		whole.deliver(whole.air.Take(0))
	}
	for step := 0; step <= steps; step++ {
		// Each step has one victim; neighbouring steps, which differ little, have the others.
		for _, victim := range whole.terms.Signers[step%3 : step%3+1] {
			g := newGroup(t, party.Quorum{Need: 2, Of: 3}).start()
			for range step {
				g.deliver(g.air.Take(0))
			}
			v := g.m[victim]
			early := !v.c.Attested()
			v.c.Abort("TIMEOUT", "the deadline passed")
			g.drive(victim)
			g.flow()
			g.invariants("")
			if early && g.active() != 0 {
				t.Fatalf("%s aborted at step %d and the wallet is active", victim, step)
			}
			for p, m := range g.m {
				if early && m.fault == nil && !m.c.Attested() {
					t.Fatalf("%s aborted at step %d, %s still waits at %s", victim, step, p, m.c.State())
				}
			}
		}
	}
}

// Every signer dies wherever something was put on disk or is about to leave, alone or with
// all the others at that moment. The next tries make the wallet: the same one if anybody
// signed its record, and nobody ever signs two (drive looks).
func TestCrashEverywhere(t *testing.T) {
	finished := 0
	for _, q := range []party.Quorum{{Need: 2, Of: 2}, {Need: 2, Of: 3}} {
		whole := newGroup(t, q)
		places := map[party.ID][]string{}
		at := func(g *group, p party.ID, place string) string { return place + " at " + string(g.m[p].c.State()) }
		whole.crash = func(p party.ID, place string) bool {
			if here := at(whole, p, place); !slices.Contains(places[p], here) {
				places[p] = append(places[p], here)
			}
			return false
		}
		whole.start().flow()
		for _, victim := range whole.terms.Signers {
			for _, must := range []string{"stored at store", "proved at proved", "signed at record", "active at done", "sent at record", "before at nonces"} {
				if !slices.Contains(places[victim], must) {
					t.Errorf("%v: %s passes no place %q: %q", q, victim, must, places[victim])
				}
			}
			for _, place := range places[victim] {
				for _, all := range []bool{false, true} {
					g := newGroup(t, q)
					hit := false
					g.crash = func(p party.ID, here string) bool {
						hit = hit || p == victim && at(g, p, here) == place
						return hit && (all || p == victim)
					}
					g.start().flow()
					if !hit {
						t.Fatalf("%v: %s does not come to %q", q, victim, place)
					}
					var signed canon.Digest
					for _, m := range g.m {
						if !m.signed.IsZero() {
							signed = m.signed
						}
					}
					g.crash = nil
					g.finish()
					for p, m := range g.m {
						if m.active == nil || signed.IsZero() {
							continue
						}
						if r, err := wallet.Parse(m.active.Raw); err != nil || r.Digest() != signed {
							t.Fatalf("%v: %s died %s (with all: %t) after the record was signed; %s has another wallet, %v", q, victim, place, all, p, err)
						}
					}
					if !signed.IsZero() {
						finished++
					}
				}
			}
		}
	}
	if finished < 30 {
		t.Errorf("only %d ceremonies were finished from disk", finished)
	}
}

// Bob's disk is gone: he has none of the ceremony that alice and carol proved. If nobody
// signed its record it is forgotten for a new one; if somebody did, there never is one.
func TestProofThatOthersLack(t *testing.T) {
	for _, signed := range []bool{false, true} {
		g := newGroup(t, party.Quorum{Need: 2, Of: 3})
		g.crash = func(p party.ID, place string) bool {
			return place == map[bool]string{false: "proved", true: "signed"}[signed]
		}
		g.start().flow()
		g.crash = nil
		g.m["bob"].pending, g.m["bob"].proved, g.m["bob"].signed = nil, nil, canon.Digest{}
		old := g.m["alice"].proved
		if old == nil {
			t.Fatal("alice has no proof")
		}
		g.again().flow()
		if signed {
			for _, p := range []party.ID{"alice", "carol"} {
				if f := g.m[p].fault; f == nil || f.Code != dkg.CodeSigned && f.Code != signing.CodePeerAborted {
					t.Errorf("%s: %v", p, f)
				}
				if m := g.m[p]; m.active != nil || m.proved == nil {
					t.Errorf("%s lost what it signed", p)
				}
			}
			continue
		}
		g.finish()
		for p, m := range g.m {
			if r, err := wallet.Parse(m.active.Raw); err != nil || r.Digest() == old.Digest() {
				t.Errorf("%s has the forgotten wallet, %v", p, err)
			}
		}
	}
}

// Carol gives her signature to alice only. Alice is done and shows bob the whole set.
func TestWithheldAttestation(t *testing.T) {
	g := newGroup(t, party.Quorum{Need: 2, Of: 3})
	g.bend = func(from party.ID, o envelope.Outbound) []envelope.Outbound {
		if e, err := envelope.Parse(o.Raw); err == nil && from == "carol" && o.To == "bob" && (e.Kind == dkg.KindAttest || e.Kind == dkg.KindAttested) {
			return nil
		}
		return []envelope.Outbound{o}
	}
	g.start().flow()
	if g.m["alice"].active == nil || g.m["bob"].active == nil {
		t.Errorf("alice at %s, bob at %s", g.m["alice"].c.State(), g.m["bob"].c.State())
	}
}

// Each dishonest act of carol's own, towards everybody, and who notices what.
func TestDishonestActs(t *testing.T) {
	digest := canon.Sum([]byte("something else"))
	tests := []struct {
		kind, code string
		named      bool
		make       func(g *group) []byte
	}{
		{dkg.KindReveal, dkg.CodeReveal, true, func(g *group) []byte { return dkg.Reveal{Ceremony: g.m["carol"].c.ID(), Share: digest}.Encode() }},
		{dkg.KindReveal, signing.CodeMalformed, true, func(*group) []byte { return dkg.Reveal{Ceremony: digest, Share: digest}.Encode() }},
		{dkg.KindHave, envelope.CodeEquivocation, true, func(g *group) []byte { return dkg.Have{Run: g.m["carol"].c.Run(), Record: digest}.Encode() }},
		{dkg.KindProved, signing.CodeMalformed, true, func(g *group) []byte { return dkg.Proved{Ceremony: g.m["carol"].c.ID(), Record: digest}.Encode() }},
		{dkg.KindProved, signing.CodeMalformed, true, func(*group) []byte { return dkg.Proved{Ceremony: digest, Record: digest}.Encode() }},
		{dkg.KindCommit, envelope.CodeEquivocation, true, func(*group) []byte { return []byte("junk") }},
		{dkg.KindConfirm, dkg.CodeConfirm, true, func(g *group) []byte {
			return dkg.Confirm{Terms: g.terms, Ceremony: g.m["carol"].c.ID(), Epoch: 1, Public: digest}.Encode()
		}},
		{dkg.KindConfirm, dkg.CodeConfirm, true, func(*group) []byte { return []byte("junk") }},
		{dkg.KindPartial + "-1", dkg.CodeChallenge, false, func(g *group) []byte {
			p := dkg.Partial{Ceremony: g.m["carol"].c.ID(), Challenge: 1}
			p.Partial.Session, p.Partial.S = digest, digest
			return p.Encode()
		}},
		{dkg.KindPartial + "-1", signing.CodeMalformed, true, func(g *group) []byte {
			return dkg.Partial{Ceremony: g.m["carol"].c.ID(), Challenge: 7}.Encode()
		}},
		{dkg.KindAttest, dkg.CodeAttestation, true, func(g *group) []byte {
			return dkg.Attestation{Ceremony: g.m["carol"].c.ID(), Record: digest}.Encode()
		}},
	}
	for _, tt := range tests {
		t.Run(tt.kind+" "+tt.code, func(t *testing.T) {
			g := newGroup(t, party.Quorum{Need: 2, Of: 3})
			g.bend = func(from party.ID, o envelope.Outbound) []envelope.Outbound {
				if e, err := envelope.Parse(o.Raw); err == nil && from == "carol" && e.Kind == tt.kind {
					o.Raw = forge(g.keys["carol"], o.Raw, tt.make(g))
				}
				return []envelope.Outbound{o}
			}
			g.start().flow()
			g.invariants("carol")
			found := false
			for _, p := range []party.ID{"alice", "bob"} {
				m := g.m[p]
				if m.active != nil {
					t.Errorf("%s has an active wallet", p)
				}
				found = found || m.fault != nil && m.fault.Code == tt.code && (!tt.named || slices.Equal(m.fault.Culprits, []party.ID{"carol"}))
			}
			if !found {
				t.Errorf("alice has %v, bob has %v; want %s", g.m["alice"].fault, g.m["bob"].fault, tt.code)
			}
		})
	}
}

// A signer whose engine computes other public data notices that the others differ,
// and they notice it: nobody stores anything.
func TestPublicDataMustBeEqual(t *testing.T) {
	for field, change := range map[string]func(*engine.KeygenResult){
		"public key":                func(r *engine.KeygenResult) { r.PublicKey[0] ^= 1 },
		"public data of the shares": func(r *engine.KeygenResult) { r.Public = append(slices.Clone(r.Public), 0) },
	} {
		t.Run(field, func(t *testing.T) {
			g := newGroup(t, party.Quorum{Need: 2, Of: 3})
			g.corrupt = func(p party.ID, e *engine.Event) {
				if p == "carol" && e.Keygen != nil {
					r := *e.Keygen
					change(&r)
					e.Keygen = &r
				}
			}
			g.start().flow()
			for p, m := range g.m {
				if m.pending != nil || m.fault == nil {
					t.Errorf("%s: share stored: %t, fault %v", p, m.pending != nil, m.fault)
				}
			}
		})
	}
}

// The engine of one signer fails in a challenge: with its stored share it cannot sign,
// and there is no wallet.
func TestBrokenShareIsFoundByChallenge(t *testing.T) {
	for _, victim := range names[:3] {
		g := newGroup(t, party.Quorum{Need: 2, Of: 3})
		g.corrupt = func(p party.ID, e *engine.Event) {
			if p == victim && e.Partial != nil {
				broken := *e.Partial
				broken.S[31] ^= 1
				e.Partial = &broken
			}
		}
		g.start().flow()
		for p, m := range g.m {
			if m.active != nil || m.c.Attested() {
				t.Errorf("%s broken: %s signed the record", victim, p)
			}
		}
	}
}

func TestNewRefuses(t *testing.T) {
	g := newGroup(t, party.Quorum{Need: 2, Of: 3})
	for name, a := range map[string]*gate.Ceremony{"nil": nil, "zero": new(gate.Ceremony)} {
		cfg := g.config("alice")
		cfg.Authority = a
		if _, err := dkg.New(cfg); !errors.Is(err, dkg.ErrNotAuthorized) {
			t.Errorf("%s permission: %v", name, err)
		}
	}
	for name, change := range map[string]func(*dkg.Config, *dkg.Terms){
		"self not in it": func(c *dkg.Config, _ *dkg.Terms) { c.Self = "mallory" },
		"no attempt":     func(c *dkg.Config, _ *dkg.Terms) { c.Attempt = canon.Digest{} },
		"no nonce":       func(c *dkg.Config, _ *dkg.Terms) { c.Nonce = [32]byte{} },
		"no part":        func(c *dkg.Config, _ *dkg.Terms) { c.ChainCodeShare = [32]byte{} },
		"another's key":  func(c *dkg.Config, _ *dkg.Terms) { c.Key = g.keys["bob"] },
		"signed nothing": func(c *dkg.Config, _ *dkg.Terms) { c.Signed = true },
		"another's proof": func(c *dkg.Config, t *dkg.Terms) {
			c.Proved = &wallet.Record{Cluster: t.Cluster, Charter: t.Charter, Name: "savings", Epoch: 1, Quorum: t.Quorum, Signers: t.Signers}
		},
		"no roster":        func(c *dkg.Config, _ *dkg.Terms) { c.Roster = nil },
		"one needed":       func(_ *dkg.Config, t *dkg.Terms) { t.Quorum.Need = 1 },
		"fewer signers":    func(_ *dkg.Config, t *dkg.Terms) { t.Signers = t.Signers[:2] },
		"a signer twice":   func(_ *dkg.Config, t *dkg.Terms) { t.Signers = party.Set{"alice", "alice", "bob"} },
		"signers unsorted": func(_ *dkg.Config, t *dkg.Terms) { t.Signers = party.Set{"carol", "alice", "bob"} },
	} {
		cfg, terms := g.config("alice"), g.terms
		change(&cfg, &terms)
		if _, err := dkg.Begin(cfg, terms); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestStoredRefuses(t *testing.T) {
	g := newGroup(t, party.Quorum{Need: 2, Of: 3}).start()
	c := g.m["alice"].c
	if err := c.Stored(); !errors.Is(err, dkg.ErrNotPending) {
		t.Errorf("before there is a share: %v", err)
	}
	if err := c.Noted(); !errors.Is(err, dkg.ErrNotProving) {
		t.Errorf("a proof before there is one: %v", err)
	}
	c.Abort("TIMEOUT", "")
	if err := c.Stored(); !errors.Is(err, dkg.ErrEnded) {
		t.Errorf("after the end: %v", err)
	}
	if err := c.Noted(); !errors.Is(err, dkg.ErrEnded) {
		t.Errorf("a proof after the end: %v", err)
	}
	if err := c.Step("bob", nil); !errors.Is(err, dkg.ErrEnded) {
		t.Errorf("step after the end: %v", err)
	}
}

// All that an earlier ceremony said is refused by the next one of the same attempt.
func TestReplay(t *testing.T) {
	g := newGroup(t, party.Quorum{Need: 2, Of: 2})
	var tape []envelope.Outbound
	g.bend = func(from party.ID, o envelope.Outbound) []envelope.Outbound {
		if from == "bob" {
			tape = append(tape, o)
		}
		return []envelope.Outbound{o}
	}
	g.start().flow()
	cfg := g.config("alice")
	cfg.Nonce = canon.Sum([]byte("a fresh nonce"))
	c, err := dkg.Begin(cfg, g.terms)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range tape {
		_ = c.Step("bob", o.Raw)
	}
	if f := c.Fault(); f == nil || f.Code != envelope.CodeSessionMismatch {
		t.Errorf("at %s with fault %v, want %s", c.State(), f, envelope.CodeSessionMismatch)
	}
}

// Nobody can choose the chain code: each part changes it, and a commitment cannot be
// repeated under another name.
func TestChainCode(t *testing.T) {
	id, all := canon.Sum([]byte("ceremony")), party.Set{"alice", "bob"}
	base := map[party.ID][32]byte{"alice": {1}, "bob": {2}}
	code := dkg.ChainCode(id, all, base)
	for _, other := range []map[party.ID][32]byte{
		{"alice": {1}, "bob": {3}}, {"alice": {3}, "bob": {2}}, {"alice": {2}, "bob": {1}},
	} {
		if dkg.ChainCode(id, all, other) == code {
			t.Errorf("%v gives the same chain code", other)
		}
	}
	if dkg.ShareCommitment(id, "alice", [32]byte{1}) == dkg.ShareCommitment(id, "bob", [32]byte{1}) {
		t.Error("a commitment can be repeated under another name")
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
				switch w[0] {
				case "quorum": // quorum NEED OF
					var q party.Quorum
					if _, err := fmt.Sscan(w[1]+" "+w[2], &q.Need, &q.Of); err != nil {
						t.Fatal(err)
					}
					g = newGroup(t, q).start()
				case "flow":
					g.flow()
				case "until": // WHO STATE: deliver in order until WHO is there
					for g.air.Len() > 0 && g.m[arg(1)].c.State() != dkg.State(arg(2)) {
						g.deliver(g.air.Take(0))
					}
				case "quiet": // like until, without the trace
					for g.air.Len() > 0 && g.m[arg(1)].c.State() != dkg.State(arg(2)) {
						g.deliver(g.air.Take(0))
					}
					g.log = nil
				case "forge": // FROM TO KIND: the sender signs another payload instead
					i := g.air.Find(arg(1), arg(2), string(arg(3)))
					if i < 0 {
						t.Fatalf("%v: nothing of that kind is under way", w)
					}
					f := g.air.At(i)
					f.Raw = forge(g.keys[f.From], f.Raw, []byte("something else"))
				case "abort": // WHO CODE
					g.m[arg(1)].c.Abort(string(arg(2)), "as the script says")
					g.drive(arg(1))
				case "kill": // WHO: the worker process dies
					g.m[arg(1)].host.Kill()
					g.drive(arg(1))
				case "disks":
					for _, p := range g.terms.Signers {
						m := g.m[p]
						disk := "nothing"
						if m.active != nil {
							disk = "active"
						} else if m.pending != nil {
							disk = fmt.Sprintf("pending, must be kept: %t", m.c.Proved())
						}
						g.note("%s %s: %s", p, m.c.State(), disk)
					}
				default:
					t.Fatalf("unknown command %v", w)
				}
				return g.trace()
			})
		})
	}
}
