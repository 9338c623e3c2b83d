package authority_test

import (
	"slices"
	"testing"
	"time"

	"coffer/approval"
	"coffer/authority"
	"coffer/canon"
	"coffer/charter"
	"coffer/credential"
	"coffer/internal/testcharter"
)

func keys(of string, keys ...credential.Key) func(*charter.Charter) {
	return func(c *charter.Charter) {
		n := slices.IndexFunc(c.People, func(p charter.Person) bool { return p.Name == of })
		c.People[n].Keys = keys
	}
}

// A key that a version takes from somebody decides about nothing any more, though its
// owner stays; nor does it freeze.
func TestRemovedKey(t *testing.T) {
	w := newTable(t, kept(""))
	l := w.ledger("north")
	second := w.Next(t, w.Charter, keys("bob", testcharter.SSH(t, "bob's second").Key()))
	w.add(l, w.CharterRecord(t, second, now, w.Cards(t, second, w.Charter), "alice", "carol"), now)
	if l.InForce().Version != 2 {
		t.Fatal("the new key is not in force")
	}
	z := w.FreezeRecord(t, "alice", authority.ScopeCluster, "", now, 1)
	w.add(l, z, now)
	for _, r := range []authority.Record{
		w.CharterRecord(t, w.Next(t, second, groups("dave", "approvers")), now, nil, "alice"),
		w.UnfreezeRecord(t, second, now, []canon.Digest{z.ID()}, "alice"),
		w.ListRecord(t, testcharter.List, 1, canon.Digest{}, now, supplier("tea", testcharter.Supplier), "alice"),
	} {
		w.add(l, r, now)
		w.refuse(l, w.Say(t, authority.Record{Kind: r.Kind, Raw: r.Raw, Cards: r.Cards}, approval.Approve, now, "bob"), now, authority.CodeSignature)
		withNew := authority.Record{Kind: r.Kind, Raw: r.Raw}
		withNew.Statements = []approval.Signed{w.SayWith(t, withNew, approval.Approve, now, "bob", testcharter.SSH(t, "bob's second"))}
		before := l.Head("north", 0, canon.Digest{}, now)
		w.add(l, withNew, now)
		if l.Head("north", 0, canon.Digest{}, now).Agrees(before) {
			t.Errorf("%s: bob's new key decides nothing", r.Kind)
		}
	}
	w.refuse(l, w.FreezeRecord(t, "bob", authority.ScopeCluster, "", now, 2), now, authority.CodeSignature)
}

// An unfreeze is decided by people whom both versions, the one that it names and the one
// in force, ask: neither who came since nor who left lifts a freeze.
func TestUnfreezeUnderBothVersions(t *testing.T) {
	w := newTable(t)
	l := w.ledger("north")
	second := w.Next(t, w.Charter, func(c *charter.Charter) {
		groups("dave", "initiators", "treasury")(c)
		groups("carol", "approvers")(c)
	})
	z := w.FreezeRecord(t, "alice", authority.ScopeCluster, "", now, 1)
	w.add(l, z, now)
	w.add(l, w.CharterRecord(t, second, now, nil, "alice", "bob"), now)
	ids := []canon.Digest{z.ID()}
	u := w.UnfreezeRecord(t, w.Charter, now, ids, "alice")
	w.add(l, u, now)
	for _, name := range []string{"dave", "carol"} {
		w.refuse(l, w.Say(t, authority.Record{Kind: u.Kind, Raw: u.Raw}, approval.Approve, now, name), now, authority.CodeSignature)
	}
	if len(l.Freezes()) != 1 {
		t.Fatal("lifted")
	}
	w.add(l, w.Say(t, u, approval.Approve, now, "bob"), now)
	if len(l.Freezes()) != 0 {
		t.Error("not lifted by those whom both ask")
	}
}

// Who withdraws has not approved, whoever vouches for the rest.
func TestWithdrawalIsNoApproval(t *testing.T) {
	w := newTable(t)
	r := w.CharterRecord(t, w.Next(t, w.Charter, groups("dave", "approvers")), now, nil, "alice")
	r = w.Witness(t, w.Say(t, r, approval.Withdraw, now, "bob"), now, "north", "south", "west")
	o := w.ledger("")
	w.add(o, r, now)
	if o.InForce().Version != 1 {
		t.Error("a withdrawal and three receipts made a version")
	}
}

// The version before says how long the next one waits, and a short delay is for what
// narrows alone.
func TestWhichDelay(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(*charter.Charter)
		want time.Duration
	}{
		"widens":                    {groups("dave", "initiators", "approvers"), 2 * time.Hour},
		"narrows":                   {without("dave"), time.Hour},
		"gives itself a delay less": {func(c *charter.Charter) { c.Admin.Delay, c.Admin.NarrowDelay = "", "" }, 2 * time.Hour},
		"gives itself a delay more": {func(c *charter.Charter) { c.Admin.Delay, c.Admin.NarrowDelay = "9h", "9h" }, time.Hour},
	} {
		w := newTable(t, func(c *charter.Charter) { c.Admin.Delay, c.Admin.NarrowDelay = "2h", "1h" })
		l := w.ledger("north")
		w.add(l, w.CharterRecord(t, w.Next(t, w.Charter, c.edit), now, nil, "alice", "bob"), now)
		l.Advance(c.want-time.Second, now)
		if l.InForce().Version != 1 {
			t.Errorf("%s: in force too early", name)
		}
		l.Advance(time.Second, now)
		if l.InForce().Version != 2 {
			t.Errorf("%s: not in force after %s", name, c.want)
		}
	}
}

// A signer whose identity the version changes vouches for it under the one before, also
// when its word comes late.
func TestLateReceipt(t *testing.T) {
	w := newTable(t)
	moved := testcharter.Identity(t, "west's second")
	next := w.Next(t, w.Charter, func(c *charter.Charter) { c.Signers[2].Peer = moved.ID() })
	r := w.CharterRecord(t, next, now, w.Cards(t, next, w.Charter), "alice", "bob")
	l := w.ledger("north")
	w.add(l, r, now)
	w.add(l, w.Witness(t, r, now, "west"), now)
	under := r
	under.Receipts = []authority.Receipt{authority.NewReceipt(moved, w.Charter.Cluster, "west", r.ID(), now)}
	if events := w.add(w.ledger("south"), under, now); !has(events, authority.EventDropped) {
		t.Error("a receipt under the identity that the version brings counts")
	}
	held, _ := l.Record(r.ID())
	if len(held.Receipts) != 2 {
		t.Errorf("%d receipts", len(held.Receipts))
	}
}

// Need signers who vouch for one version and Need who vouch for another: there are liars
// among them, and nothing takes force.
func TestTwoVersionsVouchedFor(t *testing.T) {
	w := newTable(t, func(c *charter.Charter) { c.Admin.Delay = "1h" })
	o := w.ledger("")
	a := w.CharterRecord(t, w.Next(t, w.Charter, groups("dave", "initiators", "approvers")), now, nil, "alice", "bob")
	b := w.CharterRecord(t, w.Next(t, w.Charter, groups("dave", "approvers")), now, nil, "bob", "carol")
	w.add(o, w.Witness(t, a, now, "north"), now)
	w.add(o, w.Witness(t, b, now, "south"), now)
	both := w.Witness(t, a, now, "west")
	// Both become ripe in one step: one more receipt of each, while a restart reads them.
	kept := o.All()
	for n := range kept {
		if kept[n].Record.ID() == a.ID() {
			kept[n].Record.Receipts = append(kept[n].Record.Receipts, both.Receipts[len(both.Receipts)-1])
		} else {
			kept[n].Record = w.Witness(t, kept[n].Record, now, "west")
		}
	}
	again := w.ledger("")
	if err := again.Restore(kept, now); err != nil {
		t.Fatal(err)
	}
	if again.InForce().Version != 1 {
		t.Error("one of two versions took force by the word of liars")
	}
	if p := again.Pending(); len(p) != 2 || !p[0].Fork {
		t.Errorf("pending: %+v", p)
	}
}

// What is of another cluster counts for nothing, whoever of this one signed it.
func TestListOfAnotherCluster(t *testing.T) {
	w := newTable(t, kept(""))
	l := w.ledger("north")
	for code, list := range map[string]authority.ListVersion{
		authority.CodeCluster: {Cluster: canon.Digest{7}, Name: testcharter.List, Version: 1, Issued: now},
		authority.CodeFuture:  {Cluster: w.Charter.Cluster, Name: testcharter.List, Version: 1, Issued: now + approval.MaxSkew + 1},
	} {
		w.refuse(l, w.Say(t, authority.Record{Kind: authority.KindList, Raw: list.Encode()}, approval.Approve, now, "alice", "bob"), now, code)
	}
	u := authority.Unfreeze{Cluster: canon.Digest{7}, Charter: w.Charter.Digest(), Freezes: []canon.Digest{{1}}, Reason: "x", Time: now, Expires: now + 60}
	w.refuse(l, w.Say(t, authority.Record{Kind: authority.KindUnfreeze, Raw: u.Encode()}, approval.Approve, now, "alice", "bob"), now, authority.CodeCluster)
}

// What a record may not say, whoever signed it.
func TestForms(t *testing.T) {
	w := newTable(t)
	l := w.ledger("north")
	good := authority.Unfreeze{Cluster: w.Charter.Cluster, Charter: w.Charter.Digest(), Freezes: []canon.Digest{{1}, {2}}, Reason: "x", Time: now, Expires: now + 60}
	for name, edit := range map[string]func(u *authority.Unfreeze){
		"not sorted":   func(u *authority.Unfreeze) { u.Freezes = []canon.Digest{{2}, {1}} },
		"one twice":    func(u *authority.Unfreeze) { u.Freezes = []canon.Digest{{1}, {1}} },
		"for too long": func(u *authority.Unfreeze) { u.Expires = now + approval.MaxLifetime + 1 },
		"never":        func(u *authority.Unfreeze) { u.Expires = now },
	} {
		u := good
		edit(&u)
		if _, err := authority.ParseUnfreeze(u.Encode()); authority.CodeOf(err) != authority.CodeMalformed {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A freeze by a signer's identity that is of another cluster, and receipts that stand there twice.
	foreign := authority.Freeze{Cluster: canon.Digest{7}, Scope: authority.ScopeCluster, Reason: "x", By: "south", Time: now}
	w.refuse(l, foreign.SignedBy(w.Signers["south"]), now, authority.CodeCluster)
	twice := w.Witness(t, w.FreezeRecord(t, "dave", authority.ScopeCluster, "", now, 1), now, "south", "south")
	w.refuse(l, twice, now, authority.CodeMalformed)
	if _, err := l.Add(twice, now); authority.CodeOf(err) != authority.CodeMalformed {
		t.Errorf("unparsed: %v", err)
	}
}

// Who floods with forged signatures has the rest of the record left unread.
func TestForgedStatementsEndARecord(t *testing.T) {
	w := newTable(t)
	l := w.ledger("north")
	subject := canon.Digest{1}
	r := authority.Record{Kind: authority.KindOrder, Raw: subject[:]}
	var all []approval.Signed
	for n := range 20 {
		s := w.SayWith(t, r, approval.Reject, now-int64(n), "alice", w.Key(t, "alice"))
		s.Raw = slices.Clone(s.Raw)
		s.Raw[len(s.Raw)-1] ^= 1
		all = append(all, s)
	}
	r.Statements = append(all, w.SayWith(t, r, approval.Reject, now+1, "carol", w.Key(t, "carol")))
	w.refuse(l, r, now, authority.CodeSignature)
}
