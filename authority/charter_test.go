package authority_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"coffer/approval"
	"coffer/authority"
	"coffer/canon"
	"coffer/charter"
	"coffer/credential"
	"coffer/credential/credentialtest"
	"coffer/internal/testcharter"
	"coffer/party"
	"coffer/policy"
)

// table is a cluster's fixture with ledgers at hand.
type table struct {
	*testcharter.Fixture
	t testing.TB
}

func newTable(t testing.TB, edits ...func(*charter.Charter)) *table {
	t.Helper()
	return &table{testcharter.New(t, edits...), t}
}

// ledger is a signer's, or an observer's for an empty name.
func (w *table) ledger(id party.ID) *authority.Ledger {
	w.t.Helper()
	l, err := authority.NewLedger(w.Charter, w.Signers[id])
	if err != nil {
		w.t.Fatal(err)
	}
	return l
}

// add gives a record through its encoding, as all records come, and wants it taken.
func (w *table) add(l *authority.Ledger, r authority.Record, at int64) []authority.Event {
	w.t.Helper()
	events, err := give(l, r, at)
	if err != nil {
		w.t.Fatalf("%s: %v", r.Kind, err)
	}
	return events
}

func give(l *authority.Ledger, r authority.Record, at int64) ([]authority.Event, error) {
	parsed, err := authority.Parse(r.Encode())
	if err != nil {
		return nil, err
	}
	return l.Add(parsed, at)
}

// refuse wants a record refused with a code, and the ledger as it was.
func (w *table) refuse(l *authority.Ledger, r authority.Record, at int64, code string) {
	w.t.Helper()
	before := l.Head("north", 0, canon.Digest{}, at)
	events, err := give(l, r, at)
	if authority.CodeOf(err) != code {
		w.t.Errorf("%s: %v (%v), want %s", r.Kind, err, events, code)
	}
	if l.Head("north", 0, canon.Digest{}, at) != before {
		w.t.Errorf("%s was refused and left a trace", r.Kind)
	}
}

func has(events []authority.Event, kind authority.EventKind) bool {
	return slices.ContainsFunc(events, func(e authority.Event) bool { return e.Kind == kind })
}

// rename is an edit that neither widens nor narrows who may sign: dave's groups.
func groups(of string, groups ...string) func(*charter.Charter) {
	return func(c *charter.Charter) {
		for n := range c.People {
			if c.People[n].Name == of {
				c.People[n].Groups = groups
			}
		}
	}
}

func without(name string) func(*charter.Charter) {
	return func(c *charter.Charter) {
		c.People = slices.DeleteFunc(c.People, func(p charter.Person) bool { return p.Name == name })
	}
}

func TestCharterTakesForce(t *testing.T) {
	w := newTable(t)
	l := w.ledger("north")
	next := w.Next(t, w.Charter, groups("dave", "initiators", "desk"))
	events := w.add(l, w.CharterRecord(t, next, now, nil, "alice"), now)
	if !has(events, authority.EventSigned) || l.InForce().Version != 1 {
		t.Fatalf("with one of two: %v", events)
	}
	p := l.Pending()
	if len(p) != 1 || p[0].Missing != "waits for 1 more of treasury" || !slices.Equal(p[0].Have, []string{"alice"}) || p[0].Complete {
		t.Errorf("pending: %+v", p)
	}
	events = w.add(l, w.CharterRecord(t, next, now, nil, "bob"), now)
	if !has(events, authority.EventCharterComplete) || !has(events, authority.EventCharterInForce) || l.InForce().Digest() != next.Digest() {
		t.Fatalf("with both: %v", events)
	}
	r, ok := l.Record(next.Digest())
	if !ok || len(r.Receipts) != 1 || r.Receipts[0].Signer != "north" || len(r.Statements) != 2 {
		t.Errorf("record: %+v", r)
	}
	if c, ok := l.Charter(w.Charter.Digest()); !ok || c.Version != 1 || len(l.History()) != 2 {
		t.Error("the version before is forgotten")
	}
	// The same again, and the first version's own bytes, say nothing new.
	if events := w.add(l, r, now); len(events) != 0 {
		t.Errorf("the same again: %v", events)
	}
}

func TestCharterRefusals(t *testing.T) {
	w := newTable(t)
	l := w.ledger("north")
	next := w.Next(t, w.Charter, groups("dave", "initiators", "desk"))
	third := w.Next(t, next, groups("dave", "initiators"))
	mallory := testcharter.SSH(t, "mallory")
	signed := func(c *charter.Charter, people ...string) authority.Record {
		return w.CharterRecord(t, c, now, nil, people...)
	}
	edited := func(f func(c *charter.Charter)) *charter.Charter {
		c, err := next.Clone()
		if err != nil {
			t.Fatal(err)
		}
		f(c)
		return c
	}
	w.refuse(l, signed(next), now, authority.CodeSignature)
	w.refuse(l, signed(next, "dave"), now, authority.CodeSignature) // no admin
	r := signed(next)
	r.Statements = []approval.Signed{w.SayWith(t, r, approval.Approve, now, "alice", mallory)}
	w.refuse(l, r, now, authority.CodeSignature)
	r.Statements = []approval.Signed{w.SayWith(t, signed(third), approval.Approve, now, "alice", w.Key(t, "alice"))}
	w.refuse(l, r, now, authority.CodeSignature) // about another version
	w.refuse(l, signed(third, "alice", "bob"), now, authority.CodeCharterGap)
	w.refuse(l, signed(edited(func(c *charter.Charter) { c.Previous = canon.Digest{7} }), "alice", "bob"), now, authority.CodeCharterGap)
	w.refuse(l, signed(edited(func(c *charter.Charter) { c.Name = "other" }), "alice", "bob"), now, authority.CodeCharterInvalid)
	w.refuse(l, signed(edited(func(c *charter.Charter) { c.Admin.K = 1 }), "alice", "bob"), now, authority.CodeCharterInvalid)
	w.refuse(l, signed(edited(func(c *charter.Charter) { c.Cluster = canon.Digest{7} }), "alice", "bob"), now, authority.CodeCluster)
	w.refuse(l, w.CharterRecord(t, next, now+3600, nil, "alice"), now, authority.CodeFuture)
	w.refuse(l, w.CharterRecord(t, next, now-3600, nil, "alice", "bob"), now, authority.CodeExpired)

	// A new key needs proof, of its holder.
	erin := testcharter.SSH(t, "erin")
	joined := w.Next(t, w.Charter, func(c *charter.Charter) {
		p := c.People[3]
		p.Name, p.Keys = "erin", nil
		p.Keys = append(p.Keys, erin.Key())
		c.People = append(c.People, p)
	})
	w.refuse(l, signed(joined, "alice", "bob"), now, authority.CodeCharterCard)
	w.refuse(l, w.CharterRecord(t, joined, now, []string{testcharter.Card(t, mallory, "erin", "exchange")}, "alice", "bob"), now, authority.CodeCharterCard)
	w.add(l, w.CharterRecord(t, joined, now, []string{testcharter.Card(t, erin, "erin", "exchange")}, "alice", "bob"), now)

	// That was version 2: the old number comes too late.
	w.refuse(l, signed(next, "alice"), now, authority.CodeCharterStale)
	// An old version is no step back.
	w.refuse(l, authority.Record{Kind: authority.KindList, Raw: w.Charter.Encode()}, now, authority.CodeMalformed)
	if events, err := give(l, authority.Record{Kind: authority.KindCharter, Raw: w.Charter.Encode()}, now); err != nil || len(events) != 0 || l.InForce().Version != 2 {
		t.Errorf("version 1: %v, %v", events, err)
	}
}

// One person is one vote over all keys, and people of one organisation are one organisation.
func TestAdminsAreCountedAsPeople(t *testing.T) {
	w := newTable(t, groups("dave", "initiators", "treasury"), func(c *charter.Charter) { c.Admin.K = 3 })
	l := w.ledger("north")
	next := w.Next(t, w.Charter, groups("carol", "approvers", "treasury", "desk"))
	r := w.CharterRecord(t, next, now, nil, "bob", "carol")
	r.Statements = append(r.Statements, w.SayWith(t, r, approval.Approve, now+1, "bob", w.Spare["bob"]), w.SayWith(t, r, approval.Approve, now+1, "carol", w.Spare["carol"]))
	w.add(l, r, now)
	if p := l.Pending(); len(p) != 1 || p[0].Complete || len(p[0].Have) != 2 {
		t.Errorf("two people with four keys: %+v", p)
	}
	w.add(l, w.Say(t, r, approval.Approve, now, "dave"), now)
	if l.InForce().Version != 2 {
		t.Error("three people are not enough")
	}

	w = newTable(t, groups("dave", "initiators", "treasury"), func(c *charter.Charter) { c.Admin.K, c.Admin.Orgs = 3, 3 })
	l = w.ledger("north")
	next = w.Next(t, w.Charter, groups("carol", "approvers", "treasury", "desk"))
	w.add(l, w.CharterRecord(t, next, now, nil, "alice", "dave", "bob"), now)
	if p := l.Pending(); len(p) != 1 || p[0].Missing != "waits for treasury of 1 more organisations" {
		t.Errorf("two organisations of three: %+v", p)
	}
}

// A rule of keys asks for a kind, whoever signs.
func TestAdminKeys(t *testing.T) {
	sk := map[string]credential.Signer{"alice": credentialtest.SecurityKey(t, "alice"), "bob": credentialtest.SecurityKey(t, "bob")}
	w := newTable(t, func(c *charter.Charter) {
		c.Admin.Keys = []string{credential.KindSK}
		for n, p := range c.People {
			if key, ok := sk[p.Name]; ok {
				c.People[n].Keys = append(slices.Clone(p.Keys), key.Key())
			}
		}
	})
	l := w.ledger("north")
	r := w.CharterRecord(t, w.Next(t, w.Charter, groups("dave", "initiators", "desk")), now, nil)
	w.refuse(l, w.Say(t, r, approval.Approve, now, "alice", "bob"), now, authority.CodeSignature)
	for _, name := range []string{"alice", "bob"} {
		r.Statements = append(r.Statements, w.SayWith(t, r, approval.Approve, now, name, sk[name]))
	}
	w.add(l, r, now)
	if l.InForce().Version != 2 {
		t.Error("the right kind of key is not taken")
	}
}

// Who was removed has no word in what follows, and had one in the version that removed.
func TestRemovedAdmin(t *testing.T) {
	w := newTable(t, groups("dave", "initiators", "treasury"), func(c *charter.Charter) { c.Admin.K = 3 })
	l := w.ledger("north")
	second := w.Next(t, w.Charter, without("dave"))
	w.add(l, w.CharterRecord(t, second, now, nil, "alice", "bob", "dave"), now)
	third := w.Next(t, second, groups("carol", "approvers", "treasury", "desk"))
	w.refuse(l, w.CharterRecord(t, third, now, nil, "dave"), now, authority.CodeSignature)
	w.add(l, w.CharterRecord(t, third, now, nil, "alice", "bob", "dave"), now)
	if p := l.Pending(); len(p) != 1 || len(p[0].Have) != 2 {
		t.Errorf("pending: %+v", p)
	}
}

func TestWithdrawnApproval(t *testing.T) {
	w := newTable(t, func(c *charter.Charter) { c.Admin.Delay = "1h" })
	l := w.ledger("north")
	next := w.Next(t, w.Charter, groups("dave", "initiators", "approvers"))
	r := w.CharterRecord(t, next, now, nil, "alice", "bob")
	w.add(l, r, now)
	l.Advance(59*time.Minute, now+3540)
	if p := l.Pending(); len(p) != 1 || !p[0].Complete || p[0].Due != time.Minute || p[0].Missing != "in force in 1 min of uptime" {
		t.Fatalf("pending: %+v", p)
	}
	w.add(l, w.Say(t, authority.Record{Kind: r.Kind, Raw: r.Raw}, approval.Withdraw, now, "bob"), now+3541)
	l.Advance(2*time.Hour, now+3542)
	if l.InForce().Version != 1 {
		t.Fatal("in force without the approval that was withdrawn")
	}
	// Shown again it does not come back, nor does a newer one by the same person.
	for _, again := range []authority.Record{r, w.CharterRecord(t, next, now+3550, nil, "bob")} {
		_, _ = give(l, again, now+3550)
		l.Advance(2*time.Hour, now+3551)
		if l.InForce().Version != 1 {
			t.Fatal("the withdrawn approval came back")
		}
	}
	// Another admin's word completes it, and the whole delay begins again.
	w.add(l, w.CharterRecord(t, next, now+3560, nil, "alice", "carol"), now+3560)
	l.Advance(59*time.Minute, now+3561)
	if l.InForce().Version != 1 {
		t.Fatal("the delay did not begin again")
	}
	if events := l.Advance(time.Minute, now+3562); !has(events, authority.EventCharterInForce) {
		t.Errorf("%v", events)
	}
}

// Two stolen keys of three admins do not put out, at once, those who could stop what
// comes after: they are there, and freeze, until the delay is over.
func TestStolenAdminsPutNobodyOut(t *testing.T) {
	for name, edit := range map[string]func(*charter.Charter){
		"the third admin":      without("carol"),
		"out of all groups":    groups("carol"),
		"whoever could freeze": func(c *charter.Charter) { without("carol")(c); without("dave")(c) },
		"all keys for another": func(c *charter.Charter) { c.People[2].Keys = []credential.Key{testcharter.P256(t, "carol").Key()} },
		"no cancels": func(c *charter.Charter) {
			c.Rules = append(c.Rules, policy.Rule{Name: "no", When: `intent.kind == "cancel"`, Deny: "no"})
		},
	} {
		w := newTable(t, func(c *charter.Charter) { c.Admin.Delay = "48h" })
		l := w.ledger("north")
		next := w.Next(t, w.Charter, edit)
		w.add(l, w.CharterRecord(t, next, now, w.Cards(t, next, w.Charter), "alice", "bob"), now)
		l.Advance(47*time.Hour, now)
		if p := l.Pending(); l.InForce().Version != 1 || len(p) != 1 || !p[0].Complete || p[0].Due != time.Hour {
			t.Errorf("%s: version %d is in force, pending is %+v", name, l.InForce().Version, p)
		}
		w.add(l, w.FreezeRecord(t, "carol", authority.ScopeCluster, "", now, 1), now)
		if len(l.Frozen().Cluster) != 1 {
			t.Errorf("%s: carol freezes nothing", name)
		}
	}
	// One who has no say goes at once; and the next, and the say of the others stays.
	w := newTable(t, func(c *charter.Charter) { c.Admin.Delay = "48h" })
	l := w.ledger("north")
	second := w.Next(t, w.Charter, without("dave"))
	w.add(l, w.CharterRecord(t, second, now, nil, "alice", "bob"), now)
	third := w.Next(t, second, without("carol"))
	w.add(l, w.CharterRecord(t, third, now, nil, "alice", "bob"), now)
	if l.InForce().Version != 2 {
		t.Fatalf("version %d is in force", l.InForce().Version)
	}
	w.add(l, w.FreezeRecord(t, "carol", authority.ScopeCluster, "", now, 1), now)
}

// An approval that is over when it comes counts for nothing; one that was good when the
// version became complete counts on.
func TestExpiredApprovals(t *testing.T) {
	w := newTable(t, func(c *charter.Charter) { c.Admin.Delay = "48h" })
	next := w.Next(t, w.Charter, groups("dave", "initiators", "approvers"))
	r := w.CharterRecord(t, next, now, nil, "alice", "bob")
	late := w.ledger("south")
	w.refuse(late, r, now+3600, authority.CodeExpired)

	l := w.ledger("north")
	w.add(l, r, now)
	for range 48 {
		l.Advance(time.Hour, now+100_000)
	}
	if l.InForce().Version != 2 {
		t.Error("a complete version does not survive the approvals' end")
	}

	slow := w.ledger("west")
	w.add(slow, w.CharterRecord(t, next, now, nil, "alice"), now)
	slow.Advance(time.Second, now+3600)
	if p := slow.Pending(); len(p) != 0 {
		t.Errorf("what is over is kept: %+v", p)
	}
	w.add(slow, w.CharterRecord(t, next, now+3600, nil, "bob"), now+3600)
	if p := slow.Pending(); len(p) != 1 || p[0].Complete {
		t.Errorf("an approval that was over made it complete: %+v", p)
	}
}

// Delays run in uptime: neither the wall clock nor time off shortens them.
func TestDelayIsUptime(t *testing.T) {
	w := newTable(t, func(c *charter.Charter) { c.Admin.Delay = "1h" })
	l := w.ledger("north")
	next := w.Next(t, w.Charter, groups("dave", "initiators", "approvers"))
	w.add(l, w.CharterRecord(t, next, now, nil, "alice", "bob"), now)
	l.Advance(time.Minute, now+1_000_000)
	if l.InForce().Version != 1 {
		t.Fatal("the wall clock's jump released it")
	}
	again := w.ledger("north")
	if err := again.Restore(l.All(), now+2_000_000); err != nil {
		t.Fatal(err)
	}
	again.Advance(58*time.Minute, now)
	if again.InForce().Version != 1 || again.Pending()[0].Due != time.Minute {
		t.Fatalf("after a restart: %+v", again.Pending())
	}
	again.Advance(time.Minute, now)
	if again.InForce().Version != 2 {
		t.Error("it is not in force after its delay")
	}
}

// Receipts of Need others replace times; never the admins' word.
func TestReceiptsReplaceTimes(t *testing.T) {
	w := newTable(t, func(c *charter.Charter) { c.Admin.Delay = "1h" })
	next := w.Next(t, w.Charter, groups("dave", "initiators", "approvers"))
	r := w.CharterRecord(t, next, now, nil, "alice", "bob")
	late := now + int64(1_000_000)
	l := w.ledger("north")
	w.refuse(l, w.Witness(t, w.CharterRecord(t, next, now, nil, "alice"), now, "south", "west"), late, authority.CodeExpired)
	w.refuse(l, w.Witness(t, w.CharterRecord(t, next, now, nil), now, "south", "west"), late, authority.CodeSignature)
	// One other, however often, is not Need; nor is a forged one, nor this signer's own.
	w.add(l, w.Witness(t, r, now, "south"), late)
	w.add(l, w.Witness(t, r, now, "north", "south"), late)
	forged := w.Witness(t, r, now, "south")
	forged.Receipts = append(forged.Receipts, authority.Receipt{Signer: "west", Time: now, Signature: forged.Receipts[0].Signature})
	if events := w.add(l, forged, late); !has(events, authority.EventDropped) {
		t.Errorf("a forged receipt passes without a word: %v", events)
	}
	other := w.Witness(t, w.CharterRecord(t, w.Next(t, w.Charter, groups("dave")), now, nil, "alice"), now, "west")
	crossed := r
	crossed.Receipts = other.Receipts // of another record
	if events := w.add(l, crossed, late); !has(events, authority.EventDropped) || l.InForce().Version != 1 {
		t.Fatalf("receipts that do not hold released it: %v", events)
	}
	// They find each other, although each came alone.
	if events := w.add(l, w.Witness(t, r, now, "west"), late); !has(events, authority.EventCharterInForce) {
		t.Fatalf("%v; %+v", events, l.Pending())
	}

	// An observer takes force by Need signers alone.
	o := w.ledger("")
	w.add(o, r, now)
	o.Advance(100*time.Hour, now)
	w.add(o, w.Witness(t, r, now, "south"), now)
	if o.InForce().Version != 1 || !strings.Contains(o.Pending()[0].Missing, "1 more") {
		t.Fatalf("an observer went ahead: %+v", o.Pending())
	}
	w.add(o, w.Witness(t, r, now, "north"), now)
	if o.InForce().Version != 2 {
		t.Error("an observer does not follow")
	}
}

// A signer that the next version removes is still a witness of it; one that it brings is not.
func TestReceiptsAreOfTheVersionBefore(t *testing.T) {
	w := newTable(t)
	east := testcharter.Identity(t, "east")
	next := w.Next(t, w.Charter, func(c *charter.Charter) { c.Signers[2] = charter.Signer{Name: "east", Org: "auditor", Peer: east.ID()} })
	r := w.CharterRecord(t, next, now, []string{testcharter.SignerCard(t, east, "east", "auditor")}, "alice", "bob")
	o := w.ledger("")
	brought := w.Witness(t, r, now, "north")
	brought.Receipts = append(brought.Receipts, authority.NewReceipt(east, w.Charter.Cluster, "east", r.ID(), now))
	w.add(o, brought, now)
	if o.InForce().Version != 1 {
		t.Fatal("the receipt of a signer that the version brings counts")
	}
	w.add(o, w.Witness(t, r, now, "west"), now)
	if o.InForce().Version != 2 {
		t.Error("the receipt of a signer that the version removes does not count")
	}
}

// Two complete versions of one number: neither takes force, the signer stops the cluster,
// once; when one is withdrawn the other goes on.
func TestCharterFork(t *testing.T) {
	w := newTable(t, func(c *charter.Charter) { c.Admin.Delay = "1h" })
	a := w.CharterRecord(t, w.Next(t, w.Charter, groups("dave", "initiators", "approvers")), now, nil, "alice", "bob")
	b := w.CharterRecord(t, w.Next(t, w.Charter, groups("dave", "approvers")), now, nil, "bob", "carol")
	l := w.ledger("north")
	w.add(l, a, now)
	l.Advance(30*time.Minute, now)
	events := w.add(l, b, now)
	if !has(events, authority.EventFork) || !has(events, authority.EventFrozen) || len(l.Frozen().Cluster) != 1 {
		t.Fatalf("%v", events)
	}
	if p := l.Pending(); len(p) != 2 || !p[0].Fork || !p[1].Fork {
		t.Errorf("pending: %+v", p)
	}
	for range 5 {
		if events := l.Advance(time.Hour, now); len(events) != 0 || l.InForce().Version != 1 {
			t.Fatalf("a fork goes on: %v", events)
		}
	}
	again := w.ledger("north")
	if err := again.Restore(l.All(), now); err != nil {
		t.Fatal(err)
	}
	if events := again.Advance(time.Hour, now); len(events) != 0 || len(again.Freezes()) != 1 {
		t.Errorf("told of again after a restart: %v", events)
	}
	w.add(l, w.Say(t, authority.Record{Kind: b.Kind, Raw: b.Raw}, approval.Withdraw, now, "bob"), now)
	if events := l.Advance(30*time.Minute, now); !has(events, authority.EventCharterInForce) || l.InForce().Digest() != a.ID() {
		t.Fatalf("%v", events)
	}
	// What was withdrawn is no fork when somebody shows it without that word.
	w.refuse(l, b, now, authority.CodeCharterFork)
	if len(l.Freezes()) != 1 {
		t.Error("frozen again by a replay")
	}
}

func TestForkWithAVersionInForce(t *testing.T) {
	w := newTable(t)
	l := w.ledger("north")
	first := w.CharterRecord(t, w.Next(t, w.Charter, groups("dave", "initiators", "approvers")), now, nil, "alice", "bob")
	second := w.CharterRecord(t, w.Next(t, w.Charter, groups("dave", "approvers")), now, nil, "bob", "carol")
	w.add(l, first, now)
	events := w.add(l, second, now)
	if !has(events, authority.EventFork) || !has(events, authority.EventFrozen) || l.InForce().Digest() != first.ID() {
		t.Fatalf("%v", events)
	}
	w.refuse(l, second, now, authority.CodeCharterFork)
	// Receipts do not turn it round: a version in force stays.
	w.refuse(l, w.Witness(t, second, now, "south", "west"), now, authority.CodeCharterFork)
	// An observer knows of it and freezes nothing.
	o := w.ledger("")
	w.add(o, w.Witness(t, first, now, "north", "south"), now)
	if events := w.add(o, second, now); !has(events, authority.EventFork) || len(o.Freezes()) != 0 {
		t.Errorf("%v", events)
	}
}

// No admin keeps the others' proposals out, or fills the store.
func TestProposalsAreBounded(t *testing.T) {
	w := newTable(t)
	l := w.ledger("north")
	var flood []authority.Record
	for n := range 3 * authority.MaxOpen {
		c := w.Next(t, w.Charter, func(c *charter.Charter) {
			c.Rules[0].FeeCap = "0.00" + strings.Repeat("1", n+1)[:min(n+1, 14)] + " ETH"
			c.Rules[1].Name = "c" + strings.Repeat("x", n)
		})
		flood = append(flood, w.CharterRecord(t, c, now+int64(n), nil, "carol"))
	}
	for _, r := range flood {
		w.add(l, r, now+100)
	}
	if n := len(l.Pending()); n != authority.MaxOpen {
		t.Errorf("%d proposals of one admin are kept", n)
	}
	w.refuse(l, flood[0], now+100, authority.CodeLimit)
	w.add(l, w.CharterRecord(t, w.Next(t, w.Charter, without("dave")), now, nil, "alice", "bob"), now+100)
	if l.InForce().Version != 2 || len(l.Pending()) != 0 {
		t.Errorf("version %d, %d pending", l.InForce().Version, len(l.Pending()))
	}
}
