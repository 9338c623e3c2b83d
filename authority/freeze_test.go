package authority_test

import (
	"fmt"
	"slices"
	"testing"

	"coffer/approval"
	"coffer/authority"
	"coffer/canon"
	"coffer/charter"
	"coffer/internal/testcharter"
	"coffer/policy"
)

func TestFreezeAndUnfreeze(t *testing.T) {
	w := newTable(t)
	l := w.ledger("north")
	first, second := w.FreezeRecord(t, "dave", authority.ScopeCluster, "", now, 1), w.FreezeRecord(t, "south", authority.ScopeWallet, "treasury", now, 2)
	third := w.FreezeRecord(t, "carol", authority.ScopePerson, "dave", now, 3)
	for _, r := range []authority.Record{first, second, third} {
		if events := w.add(l, r, now); !has(events, authority.EventFrozen) {
			t.Fatalf("%v", events)
		}
	}
	f := l.Frozen()
	if len(f.Cluster) != 1 || len(f.Wallet("treasury")) != 2 || len(f.Wallet("other")) != 1 || len(f.Person("dave")) != 1 || len(f.Person("alice")) != 0 {
		t.Errorf("frozen: %+v", f)
	}
	if held := l.Freezes(); len(held) != 3 || held[0].Effective {
		t.Errorf("held: %+v", held)
	}
	// Of-Need+1 signers have it.
	w.add(l, w.Witness(t, second, now, "south"), now)
	for _, h := range l.Freezes() {
		if h.Effective != (h.ID == second.ID()) {
			t.Errorf("%s is held by %v, effective %t", h.ID.Short(), h.Receipts, h.Effective)
		}
	}
	// An unfreeze lifts what it names, by the admin rule only, and nobody else's word.
	u := w.UnfreezeRecord(t, w.Charter, now, []canon.Digest{first.ID(), second.ID()}, "alice")
	w.add(l, u, now)
	w.refuse(l, w.Say(t, u, approval.Approve, now, "dave"), now, authority.CodeSignature)
	if len(l.Freezes()) != 3 {
		t.Fatal("lifted by one admin and somebody else")
	}
	if events := w.add(l, w.Say(t, u, approval.Approve, now, "bob"), now); !has(events, authority.EventLifted) {
		t.Fatalf("%v", events)
	}
	if held := l.Freezes(); len(held) != 1 || held[0].ID != third.ID() || !l.Lifted(first.ID()) || l.Lifted(third.ID()) {
		t.Errorf("held: %+v", held)
	}
	w.refuse(l, first, now, authority.CodeFreezeLifted)
	w.refuse(l, w.Witness(t, second, now, "south", "west"), now, authority.CodeFreezeLifted)
	// A new one by the same person is another.
	w.add(l, w.FreezeRecord(t, "dave", authority.ScopeCluster, "", now, 4), now)
	if events, err := give(l, u, now); err != nil || len(events) != 0 || len(l.Freezes()) != 2 {
		t.Errorf("an unfreeze shown again: %v, %v", events, err)
	}
	// The unfreeze before the freeze: lifted when it comes.
	other := w.ledger("west")
	r, _ := l.Record(u.ID())
	w.add(other, r, now)
	w.refuse(other, first, now, authority.CodeFreezeLifted)
	// People who are frozen still decide what stands: or one freezer could lock the admins out.
	w.add(other, w.FreezeRecord(t, "dave", authority.ScopePerson, "alice", now, 5), now)
	w.add(other, w.UnfreezeRecord(t, w.Charter, now, []canon.Digest{other.Freezes()[0].ID}, "alice", "bob"), now)
	if len(other.Freezes()) != 0 {
		t.Error("a frozen admin cannot lift")
	}
}

func TestFreezeRefusals(t *testing.T) {
	w := newTable(t)
	l := w.ledger("north")
	good := w.FreezeRecord(t, "dave", authority.ScopeCluster, "", now, 1)
	bySouth := w.FreezeRecord(t, "south", authority.ScopeCluster, "", now, 1)
	with := func(f func(r *authority.Record)) authority.Record { r := good; f(&r); return r }
	w.refuse(l, with(func(r *authority.Record) { r.Statements = nil }), now, authority.CodeMalformed)
	w.refuse(l, with(func(r *authority.Record) { r.Statements = bySouth.Statements; r.Signers = bySouth.Signers }), now, authority.CodeMalformed)
	w.refuse(l, with(func(r *authority.Record) { r.Signers = bySouth.Signers }), now, authority.CodeMalformed)
	statement := func(person string, kind approval.Kind) authority.Record {
		return with(func(r *authority.Record) {
			r.Statements = []approval.Signed{w.SayWith(t, *r, kind, now, person, w.Key(t, "dave"))}
		})
	}
	w.refuse(l, statement("alice", approval.Freeze), now, authority.CodeSignature)   // dave's key for alice
	w.refuse(l, statement("dave", approval.Approve), now, authority.CodeSignature)   // another kind of statement
	w.refuse(l, statement("payroll", approval.Freeze), now, authority.CodeSignature) // a service is no person
	alice := with(func(r *authority.Record) {
		r.Statements = []approval.Signed{w.SayWith(t, *r, approval.Freeze, now, "alice", w.Key(t, "alice"))}
	})
	w.refuse(l, alice, now, authority.CodeSignature) // not whom the freeze names
	forged := bySouth
	forged.Signers = []authority.SignerSignature{{Signer: "south", Signature: w.Signers["west"].Sign(bySouth.Raw)}}
	w.refuse(l, forged, now, authority.CodeSignature)
	foreign := newTable(t, func(c *charter.Charter) { c.Cluster = canon.Digest{7} })
	w.refuse(l, foreign.FreezeRecord(t, "dave", authority.ScopeCluster, "", now, 1), now, authority.CodeCluster)
	w.refuse(l, foreign.UnfreezeRecord(t, foreign.Charter, now, []canon.Digest{good.ID()}, "alice", "bob"), now, authority.CodeCluster)
	for _, z := range []authority.Freeze{
		{Cluster: w.Charter.Cluster, Scope: "house", Reason: "x", By: "dave"},
		{Cluster: w.Charter.Cluster, Scope: authority.ScopeCluster, Name: "x", Reason: "x", By: "dave"},
		{Cluster: w.Charter.Cluster, Scope: authority.ScopeWallet, Reason: "x", By: "dave"},
		{Cluster: w.Charter.Cluster, Scope: authority.ScopeCluster, Reason: "", By: "dave"},
		{Cluster: w.Charter.Cluster, Scope: authority.ScopeCluster, Reason: "a\x1b[2J", By: "dave"},
	} {
		w.refuse(l, w.Say(t, authority.Record{Kind: authority.KindFreeze, Raw: z.Encode()}, approval.Freeze, now, "dave"), now, authority.CodeMalformed)
	}
	// Whatever the clocks, a freeze counts.
	w.add(l, w.FreezeRecord(t, "dave", authority.ScopeCluster, "", 5, 1), now)
	w.add(l, w.FreezeRecord(t, "dave", authority.ScopeCluster, "", now+1_000_000_000, 1), now)
}

// Who was removed freezes no more. What a signer had before stays, also with those who
// hear of it later.
func TestFreezeByARemovedPerson(t *testing.T) {
	w := newTable(t)
	early, late := w.FreezeRecord(t, "dave", authority.ScopeCluster, "", now, 1), w.FreezeRecord(t, "dave", authority.ScopeCluster, "", now, 2)
	next := w.CharterRecord(t, w.Next(t, w.Charter, without("dave")), now, nil, "alice", "bob")
	north, south, o := w.ledger("north"), w.ledger("south"), w.ledger("")
	w.add(north, early, now)
	w.add(o, late, now) // only an observer has it in time
	for _, l := range []*authority.Ledger{north, south} {
		w.add(l, next, now)
		w.refuse(l, late, now, authority.CodeSignature)
	}
	if len(north.Freezes()) != 1 {
		t.Fatal("a freeze goes with its author")
	}
	w.refuse(south, early, now, authority.CodeSignature)
	witnessed, _ := north.Record(early.ID())
	w.add(south, witnessed, now)
	forged := late
	forged.Receipts = witnessed.Receipts
	w.refuse(south, forged, now, authority.CodeSignature)
	w.add(o, w.Witness(t, next, now, "north", "south"), now)
	if len(o.Freezes()) != 0 {
		t.Error("an observer holds what no signer does")
	}
	w.add(o, witnessed, now)
	if len(o.Freezes()) != 1 {
		t.Error("an observer does not hold what a signer does")
	}
	// The same with a signer that is none any more.
	east := testcharter.Identity(t, "east")
	third := w.Next(t, north.InForce(), func(c *charter.Charter) { c.Signers[2] = charter.Signer{Name: "east", Org: "auditor", Peer: east.ID()} })
	byWest := w.FreezeRecord(t, "west", authority.ScopeCluster, "", now, 3)
	w.add(north, byWest, now)
	for _, l := range []*authority.Ledger{north, south} {
		w.add(l, w.CharterRecord(t, third, now, []string{testcharter.SignerCard(t, east, "east", "auditor")}, "alice", "bob"), now)
	}
	w.refuse(south, w.Witness(t, byWest, now, "west"), now, authority.CodeSignature)
	witnessed, _ = north.Record(byWest.ID())
	w.add(south, witnessed, now)
}

// A rogue freezer's flood is bounded, stops everything, and makes no difference between signers.
func TestFreezeFlood(t *testing.T) {
	w := newTable(t)
	north, south := w.ledger("north"), w.ledger("south")
	var flood []authority.Record
	for n := range 2 * authority.MaxFreezes {
		flood = append(flood, w.FreezeRecord(t, "dave", authority.ScopeWallet, fmt.Sprintf("w%d", n), now, byte(n)))
	}
	for n := range flood {
		_, _ = give(north, flood[n], now)
		_, _ = give(south, flood[len(flood)-1-n], now)
	}
	w.refuse(north, flood[len(flood)-1], now, authority.CodeFreezeLimit)
	for _, l := range []*authority.Ledger{north, south} {
		if len(l.Freezes()) != authority.MaxFreezes || len(l.Frozen().Wallet("any")) == 0 {
			t.Errorf("%d freezes, %+v", len(l.Freezes()), l.Frozen())
		}
	}
	if !north.Head("north", 0, canon.Digest{}, now).Agrees(south.Head("south", 0, canon.Digest{}, now)) {
		t.Error("a flood makes two signers differ")
	}
	w.add(north, w.FreezeRecord(t, "alice", authority.ScopeCluster, "", now, 1), now) // nobody else is kept out
	lift := func(records []authority.Record) authority.Record {
		var ids []canon.Digest
		for _, r := range records {
			ids = append(ids, r.ID())
		}
		return w.UnfreezeRecord(t, w.Charter, now, ids, "alice", "bob")
	}
	// Lifting some of those that one signer holds; the exchange evens out what is left.
	for _, l := range []*authority.Ledger{north, south} {
		w.add(l, lift(flood[:2*authority.MaxFreezes-3]), now)
	}
	settle(t, now, north, south)
	for _, l := range []*authority.Ledger{north, south} {
		if len(l.Freezes()) != 3+1 || len(l.Frozen().Cluster) != 1 {
			t.Errorf("%d freezes are left", len(l.Freezes()))
		}
	}
}

func TestUnfreezeRefusals(t *testing.T) {
	w := newTable(t, groups("dave", "initiators", "treasury"), func(c *charter.Charter) { c.Admin.K = 3 })
	l := w.ledger("north")
	z := w.FreezeRecord(t, "dave", authority.ScopeCluster, "", now, 1)
	w.add(l, z, now)
	ids := []canon.Digest{z.ID()}
	w.refuse(l, w.UnfreezeRecord(t, w.Charter, now, ids), now, authority.CodeSignature)
	w.refuse(l, w.UnfreezeRecord(t, w.Charter, now-3600, ids, "alice", "bob", "carol"), now, authority.CodeExpired)
	next := w.Next(t, w.Charter, without("dave"))
	w.refuse(l, w.UnfreezeRecord(t, next, now, ids, "alice", "bob", "carol"), now, authority.CodeCharterGap)
	// One person twice is one; and of who signed under the version before only those count
	// who are still there.
	u := w.UnfreezeRecord(t, w.Charter, now, ids, "alice", "bob")
	u.Statements = append(u.Statements, w.SayWith(t, u, approval.Approve, now+1, "bob", w.Spare["bob"]))
	w.add(l, u, now)
	w.add(l, w.CharterRecord(t, next, now, nil, "alice", "bob", "dave"), now)
	_, _ = give(l, w.Say(t, u, approval.Approve, now, "dave"), now)
	if len(l.Freezes()) != 1 {
		t.Fatal("lifted with the word of somebody who was removed")
	}
	// Its own time is over, although the statements' is not.
	old := authority.Unfreeze{Cluster: w.Charter.Cluster, Charter: w.Charter.Digest(), Freezes: ids, Reason: "x", Time: now - 10, Expires: now - 1}
	w.refuse(l, w.Say(t, authority.Record{Kind: authority.KindUnfreeze, Raw: old.Encode()}, approval.Approve, now, "alice"), now, authority.CodeUnfreezeExpired)
	w.add(l, w.Say(t, u, approval.Approve, now, "carol"), now)
	if len(l.Freezes()) != 0 {
		t.Error("not lifted by those who are there")
	}
}

// A signer that was off takes what is over from Need others; never from fewer.
func TestUnfreezeWhileOff(t *testing.T) {
	w := newTable(t)
	z := w.FreezeRecord(t, "dave", authority.ScopeCluster, "", now, 1)
	u := w.UnfreezeRecord(t, w.Charter, now, []canon.Digest{z.ID()}, "alice", "bob")
	l := w.ledger("west")
	w.add(l, z, now)
	late := now + int64(9_000_000)
	w.refuse(l, u, late, authority.CodeExpired)
	w.add(l, w.Witness(t, u, now, "south"), late)
	if len(l.Freezes()) != 1 {
		t.Fatal("lifted by the word of one signer")
	}
	w.add(l, w.Witness(t, u, now, "north"), late)
	if len(l.Freezes()) != 0 {
		t.Fatal("not lifted by the word of Need signers")
	}
	w.refuse(w.ledger("west"), w.Witness(t, w.UnfreezeRecord(t, w.Charter, now, []canon.Digest{z.ID()}, "alice"), now, "north", "south"), late, authority.CodeExpired)
}

func supplier(label string, addresses ...string) (out []policy.Destination) {
	for n, a := range addresses {
		out = append(out, policy.Destination{Chain: testcharter.Chain, Address: a, Label: fmt.Sprintf("%s %d", label, n)})
	}
	return out
}

// kept leaves the list of suppliers to alice, bob and carol, two of whom sign.
func kept(kind string) func(*charter.Charter) {
	return func(c *charter.Charter) {
		c.Destinations[0].Keepers = &policy.Requirement{Group: "approvers", K: 2}
		c.Destinations[0].Kind, c.Destinations[0].MaxAge = kind, "24h"
		c.Destinations[0].Entries = nil
		if kind == policy.ListSanctions {
			c.Rules[0].Destinations = nil
		}
	}
}

func TestLists(t *testing.T) {
	w := newTable(t, kept(""))
	l := w.ledger("north")
	name := testcharter.List
	one := w.ListRecord(t, name, 1, canon.Digest{}, now, supplier("tea", testcharter.Supplier), "alice")
	w.add(l, one, now)
	if p := l.Pending(); len(l.Lists()) != 0 || len(p) != 1 || p[0].Name != name || p[0].Missing != "waits for 1 more of approvers" {
		t.Errorf("with one of two: %+v", l.Pending())
	}
	if events := w.add(l, w.Say(t, one, approval.Approve, now, "bob"), now); !has(events, authority.EventListInForce) {
		t.Fatalf("%v", events)
	}
	if got := l.Lists()[name]; got.Version != 1 || got.Issued != now || got.Digest != one.ID() || len(got.Entries) != 1 {
		t.Errorf("list: %+v", got)
	}
	w.refuse(l, w.ListRecord(t, "other", 1, canon.Digest{}, now, nil, "alice", "bob"), now, authority.CodeListUnknown)
	w.refuse(l, w.ListRecord(t, name, 2, one.ID(), now+3600, nil, "alice", "bob"), now, authority.CodeFuture)
	w.refuse(l, w.ListRecord(t, name, 2, one.ID(), now, nil, "dave"), now, authority.CodeSignature)
	w.refuse(l, w.ListRecord(t, name, 2, one.ID(), now, []policy.Destination{{Chain: "dev", Address: "0x0", Label: "x"}}, "alice"), now, authority.CodeMalformed)
	twice := supplier("tea", testcharter.Supplier, testcharter.Second)
	twice[1].Label = "TEA 0"
	w.refuse(l, w.ListRecord(t, name, 2, one.ID(), now, twice, "alice"), now, authority.CodeMalformed)
	// A gap is no obstacle: the highest counts.
	five := w.ListRecord(t, name, 5, one.ID(), now, supplier("tea", testcharter.Second), "bob", "carol")
	w.add(l, five, now)
	w.refuse(l, one, now, authority.CodeListStale)
	w.refuse(l, w.ListRecord(t, name, 4, one.ID(), now, nil, "alice", "bob"), now, authority.CodeListStale)
	if got := l.Lists()[name]; got.Version != 5 {
		t.Errorf("list: %+v", got)
	}
	// Another version 5: the same one stays wherever both are, and both are told of.
	rival := w.ListRecord(t, name, 5, one.ID(), now, supplier("tea", testcharter.Supplier), "alice", "bob")
	o := w.ledger("south")
	w.add(o, rival, now)
	for _, x := range []struct {
		l *authority.Ledger
		r authority.Record
	}{{l, rival}, {o, five}} {
		if events := w.add(x.l, x.r, now); !has(events, authority.EventFork) {
			t.Errorf("a fork without a word: %v", events)
		}
		if len(x.l.Freezes()) != 0 {
			t.Error("a list's fork froze the cluster")
		}
	}
	if l.Lists()[name].Digest != o.Lists()[name].Digest {
		t.Error("two signers hold two versions 5")
	}
	loser := five
	if l.Lists()[name].Digest == five.ID() {
		loser = rival
	}
	w.refuse(l, loser, now, authority.CodeListFork)
	w.refuse(o, loser, now, authority.CodeListFork)
	// The keepers are those of the version in force, and a list in force outlives them.
	next := w.Next(t, w.Charter, func(c *charter.Charter) {
		c.Destinations[0].Keepers.Group = "initiators"
		c.Destinations[0].Keepers.K = 1
	})
	w.add(l, w.CharterRecord(t, next, now, nil, "alice", "bob"), now)
	if l.Lists()[name].Version != 5 {
		t.Error("the list went with its keepers")
	}
	w.refuse(l, w.ListRecord(t, name, 6, five.ID(), now, nil, "alice", "bob"), now, authority.CodeSignature)
	w.add(l, w.ListRecord(t, name, 6, l.Lists()[name].Digest, now, nil, "dave"), now)
	// One that the charter leaves to nobody is none; but its number is not forgotten.
	fixed := w.Next(t, next, func(c *charter.Charter) {
		c.Destinations[0].Keepers, c.Destinations[0].MaxAge, c.Destinations[0].Entries = nil, "", supplier("tea", testcharter.Supplier)
	})
	w.add(l, w.CharterRecord(t, fixed, now, nil, "alice", "bob"), now)
	if len(l.Lists()) != 0 {
		t.Errorf("lists: %+v", l.Lists())
	}
	back := w.Next(t, fixed, func(c *charter.Charter) { c.Destinations = next.Destinations })
	w.add(l, w.CharterRecord(t, back, now, nil, "alice", "bob"), now)
	if l.Lists()[name].Version != 6 {
		t.Errorf("lists: %+v", l.Lists())
	}
}

// On a list of sanctions one label may stand for many addresses.
func TestSanctionsShareLabels(t *testing.T) {
	w := newTable(t, kept(policy.ListSanctions))
	entries := supplier("x", testcharter.Supplier, testcharter.Second)
	entries[1].Label = entries[0].Label
	w.add(w.ledger("north"), w.ListRecord(t, testcharter.List, 1, canon.Digest{}, now, entries, "alice", "bob"), now)
}

func TestOrders(t *testing.T) {
	w := newTable(t)
	l := w.ledger("north")
	intent := canon.Sum([]byte("an intent"))
	r := w.OrderRecord(t, approval.Reject, intent, now, "alice")
	if events := w.add(l, r, now); !has(events, authority.EventOrder) {
		t.Fatalf("%v", events)
	}
	if got := l.Orders(intent); len(got) != 1 || len(l.Orders(canon.Digest{1})) != 0 {
		t.Errorf("orders: %v", got)
	}
	w.add(l, w.OrderRecord(t, approval.Withdraw, intent, now, "bob"), now)
	w.add(l, w.OrderRecord(t, approval.Veto, intent, now-100, "alice"), now) // late, over, and counts
	if got := l.Orders(intent); len(got) != 3 {
		t.Errorf("orders: %v", got)
	}
	w.refuse(l, w.OrderRecord(t, approval.Approve, intent, now, "alice"), now, authority.CodeMalformed)
	w.refuse(l, w.OrderRecord(t, approval.Freeze, intent, now, "alice"), now, authority.CodeMalformed)
	w.refuse(l, w.OrderRecord(t, approval.Reject, intent, now), now, "")
	w.refuse(l, w.OrderRecord(t, approval.Reject, canon.Digest{9}, now), now, authority.CodeMalformed)
	stranger := w.OrderRecord(t, approval.Reject, canon.Digest{9}, now)
	stranger.Statements = []approval.Signed{w.SayWith(t, stranger, approval.Reject, now, "alice", testcharter.SSH(t, "mallory"))}
	w.refuse(l, stranger, now, authority.CodeSignature)
	w.refuse(l, w.OrderRecord(t, approval.Reject, canon.Digest{9}, now-32*86400, "alice"), now, authority.CodeExpired)
	// They are forgotten when no intent can be alive that they are about, and not before.
	l.Advance(0, now+30*86400)
	if len(l.Orders(intent)) != 3 {
		t.Error("forgotten too early")
	}
	l.Advance(0, now+32*86400)
	if len(l.Orders(intent)) != 0 || len(l.Refs()) != 0 {
		t.Error("never forgotten")
	}
}

// One person's orders push out that person's own, the oldest first, and nobody else's.
func TestOrdersAreBounded(t *testing.T) {
	w := newTable(t)
	l := w.ledger("north")
	honest := canon.Sum([]byte("bob's"))
	w.add(l, w.OrderRecord(t, approval.Reject, honest, now-1000, "bob"), now)
	var flood []authority.Record
	for n := range authority.MaxOrders + 40 {
		flood = append(flood, w.OrderRecord(t, approval.Reject, canon.Sum([]byte{byte(n), byte(n >> 8)}), now+int64(n), "dave"))
	}
	other := w.ledger("south")
	w.add(other, w.OrderRecord(t, approval.Reject, honest, now-1000, "bob"), now)
	for n := range flood {
		w.add(l, flood[n], now)
		_, _ = give(other, flood[len(flood)-1-n], now)
	}
	w.refuse(l, flood[0], now, authority.CodeLimit)
	if len(l.Orders(honest)) != 1 || len(l.Refs()) != authority.MaxOrders+1 {
		t.Errorf("%d records", len(l.Refs()))
	}
	if !slices.Equal(l.Refs(), other.Refs()) {
		t.Error("the order of arrival makes a difference")
	}
}
