package authority_test

import (
	"bytes"
	"fmt"
	"slices"
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
)

// said is one statement with times and a key of one's choice.
func (w *table) said(r authority.Record, kind approval.Kind, person string, key credential.Signer, issued, expires int64) authority.Record {
	w.t.Helper()
	s := &approval.Statement{Cluster: w.Charter.Cluster, Kind: kind, Subject: r.Subject(), Person: person, Issued: issued, Expires: expires}
	signed, err := approval.Sign(s, key)
	if err != nil {
		w.t.Fatal(err)
	}
	return authority.Record{Kind: r.Kind, Raw: r.Raw, Statements: []approval.Signed{signed}}
}

// restart makes the ledger anew of what it kept.
func (w *table) restart(l *authority.Ledger, self party.ID, at int64) *authority.Ledger {
	w.t.Helper()
	again := w.ledger(self)
	if err := again.Restore(l.All(), at); err != nil {
		w.t.Fatalf("does not start again: %v", err)
	}
	if a, b := l.Head("x", 0, canon.Digest{}, at), again.Head("x", 0, canon.Digest{}, at); !a.Agrees(b) {
		w.t.Fatal("starts as another")
	}
	return again
}

// stolen is a cluster in whose version 2 alice has another key than the one that was stolen.
func stolen(t *testing.T, edits ...func(*charter.Charter)) (w *table, l *authority.Ledger, second *charter.Charter, old, fresh credential.Signer) {
	t.Helper()
	w = newTable(t, edits...)
	l = w.ledger("north")
	old, fresh = w.Key(t, "alice"), testcharter.SSH(t, "alice's second")
	second = w.Next(t, w.Charter, keys("alice", fresh.Key()))
	w.add(l, w.CharterRecord(t, second, now, w.Cards(t, second, w.Charter), "bob", "carol"), now)
	l.Advance(1000*time.Hour, now)
	if l.InForce().Version != 2 {
		t.Fatal("version 2 is not in force")
	}
	return w, l, second, old, fresh
}

// A key that was taken from its owner displaces nothing that its owner says with another
// one: not in what is in force, of which a start would miss it, not in what waits, not in
// an order.
func TestRemovedKeyDisplacesNothing(t *testing.T) {
	long := int64(20 * 86400)
	t.Run("in force", func(t *testing.T) {
		w, l, second, old, fresh := stolen(t)
		third := authority.Record{Kind: authority.KindCharter, Raw: w.Next(t, second, groups("dave", "approvers")).Encode()}
		w.add(l, w.said(third, approval.Approve, "alice", fresh, now, now+3600), now)
		w.add(l, w.Say(t, third, approval.Approve, now, "bob"), now)
		if l.InForce().Version != 3 {
			t.Fatal("version 3 is not in force")
		}
		evil := w.said(third, approval.Approve, "alice", old, now, now+long)
		w.refuse(l, evil, now, authority.CodeSignature)
		w.add(l, w.Witness(t, evil, now, "west"), now) // of which the receipt is good
		// By accident: version 2, signed once more with the key that it gave her.
		again := authority.Record{Kind: authority.KindCharter, Raw: second.Encode()}
		w.refuse(l, w.said(again, approval.Approve, "alice", fresh, now, now+long), now, authority.CodeSignature)
		w.restart(l, "north", now+2*long)
	})
	t.Run("waits", func(t *testing.T) {
		w, l, second, old, fresh := stolen(t, func(c *charter.Charter) { c.Admin.Delay = "1h" })
		third := authority.Record{Kind: authority.KindCharter, Raw: w.Next(t, second, groups("dave", "initiators", "approvers")).Encode()}
		w.add(l, w.said(third, approval.Approve, "alice", fresh, now, now+3600), now)
		w.add(l, w.Say(t, third, approval.Approve, now, "bob"), now)
		w.refuse(l, w.said(third, approval.Approve, "alice", old, now, now+long), now, authority.CodeSignature)
		if p := l.Pending(); len(p) != 1 || !p[0].Complete {
			t.Fatalf("her approval is gone: %+v", p)
		}
		w.add(l, w.said(third, approval.Withdraw, "alice", fresh, now, now+3600), now)
		w.refuse(l, w.said(third, approval.Withdraw, "alice", old, now+60, now+long), now, authority.CodeSignature)
		l.Advance(2*time.Hour, now)
		if l.InForce().Version != 2 || len(l.Pending()) != 1 {
			t.Error("her withdrawal is gone")
		}
	})
	t.Run("order", func(t *testing.T) {
		w, l, _, old, fresh := stolen(t)
		order := authority.Record{Kind: authority.KindOrder, Raw: bytes.Repeat([]byte{7}, 32)}
		mine := w.said(order, approval.Reject, "alice", fresh, now, now+60)
		w.add(l, mine, now)
		w.add(l, w.said(order, approval.Reject, "alice", old, now+200, now+long), now) // may be of an intent made before
		if list := l.Orders(order.Subject()); !slices.ContainsFunc(list, func(s approval.Signed) bool { return bytes.Equal(s.Raw, mine.Statements[0].Raw) }) {
			t.Error("her rejection is gone")
		}
	})
}

// A key of a kind that does not decide displaces nothing either.
func TestOtherKindDisplacesNothing(t *testing.T) {
	hard := credentialtest.SecurityKey(t, "alice's token")
	w := newTable(t, func(c *charter.Charter) { c.Admin.Delay = "1h" })
	soft := w.Key(t, "alice")
	l := w.ledger("north")
	bob := credentialtest.SecurityKey(t, "bob's token")
	carol := credentialtest.SecurityKey(t, "carol's token")
	second := w.Next(t, w.Charter, func(c *charter.Charter) {
		keys("alice", soft.Key(), hard.Key())(c)
		keys("bob", bob.Key())(c)
		keys("carol", carol.Key())(c)
		c.Admin.Keys = []string{credential.KindSK}
	})
	var cards []string
	for name, key := range map[string]credential.Signer{"alice": hard, "bob": bob, "carol": carol} {
		p, _ := w.Charter.Person(name)
		cards = append(cards, testcharter.Card(t, key, name, p.Org))
	}
	w.add(l, w.CharterRecord(t, second, now, cards, "alice", "bob"), now)
	l.Advance(time.Hour, now)
	if l.InForce().Version != 2 {
		t.Fatalf("%+v", l.Pending())
	}
	third := authority.Record{Kind: authority.KindCharter, Raw: w.Next(t, second, groups("dave", "initiators", "approvers")).Encode()}
	w.add(l, w.said(third, approval.Approve, "alice", hard, now, now+3600), now)
	w.add(l, w.said(third, approval.Approve, "bob", bob, now, now+3600), now)
	w.add(l, w.said(third, approval.Withdraw, "alice", hard, now, now+3600), now)
	w.refuse(l, w.said(third, approval.Withdraw, "alice", soft, now+60, now+7200), now, authority.CodeSignature)
	l.Advance(2*time.Hour, now)
	if l.InForce().Version != 2 {
		t.Error("a withdrawal was pushed out by a key that decides nothing")
	}
}

// A clock that jumps ahead and is set back leaves nothing behind: what is issued after it
// counts, and what was taken is there.
func TestClockThatJumped(t *testing.T) {
	w := newTable(t, kept(""))
	l := w.ledger("north")
	ten := int64(10 * 365 * 86400)
	z := w.FreezeRecord(t, "alice", authority.ScopeCluster, "", now, 1)
	w.add(l, z, now+ten)
	l = w.restart(l, "north", now)
	w.add(l, w.OrderRecord(t, approval.Reject, canon.Digest{1}, now, "alice"), now)
	w.add(l, w.UnfreezeRecord(t, w.Charter, now, []canon.Digest{z.ID()}, "alice", "bob"), now)
	if len(l.Freezes()) != 0 || len(l.Orders(canon.Digest{1})) != 1 {
		t.Error("after a jump of the clock nothing can be decided")
	}
	// The other way round: a list that is in force was issued later than this clock says.
	list := w.ListRecord(t, testcharter.List, 1, canon.Digest{}, now, supplier("tea", testcharter.Supplier), "alice", "bob")
	w.add(l, list, now)
	w.add(l, w.Witness(t, list, now, "west"), now-7200)
	again := w.restart(l, "north", now-7200)
	if len(again.Lists()) != 1 {
		t.Error("the list is gone")
	}
}

// What waits may be worth nothing at the next start; the start goes on without it.
func TestStartLeavesJunkOut(t *testing.T) {
	w := newTable(t)
	l := w.ledger("north")
	w.add(l, w.CharterRecord(t, w.Next(t, w.Charter, groups("dave", "approvers")), now, nil, "alice"), now)
	w.add(l, w.OrderRecord(t, approval.Reject, canon.Digest{1}, now, "alice", "bob"), now)
	z := w.FreezeRecord(t, "alice", authority.ScopeCluster, "", now, 1)
	w.add(l, z, now)
	all := l.All()
	for n := range all {
		s := &all[n].Record.Statements[0]
		s.Signature = slices.Clone(s.Signature)
		if all[n].Record.Kind == authority.KindFreeze {
			continue
		}
		s.Raw = append(slices.Clone(s.Raw[:len(s.Raw)-1]), s.Raw[len(s.Raw)-1]^1)
	}
	again := w.ledger("north")
	if err := again.Restore(all, now); err != nil {
		t.Fatal(err)
	}
	if len(again.Freezes()) != 1 || len(again.Pending()) != 0 || len(again.Orders(canon.Digest{1})) != 1 {
		t.Errorf("frozen %v, pending %v, orders %d", again.Freezes(), again.Pending(), len(again.Orders(canon.Digest{1})))
	}
	// A freeze is never left out.
	for n := range all {
		if all[n].Record.Kind == authority.KindFreeze {
			all[n].Record.Raw = append(slices.Clone(all[n].Record.Raw[:len(all[n].Record.Raw)-1]), 9)
		}
	}
	if err := w.ledger("north").Restore(all, now); err == nil {
		t.Error("a freeze that does not hold is left out")
	}
}

// A record never grows over what can be read again, whatever its author adds to it.
func TestRecordsStayReadable(t *testing.T) {
	w := newTable(t, func(c *charter.Charter) { c.Admin.Delay = "1h" })
	next := w.Next(t, w.Charter, groups("dave", "initiators", "approvers"))
	r := authority.Record{Kind: authority.KindCharter, Raw: next.Encode()}
	for len(r.Cards) < authority.MaxCards {
		r.Cards = append(r.Cards, fmt.Sprintf("%04d%s", len(r.Cards), bytes.Repeat([]byte{'x'}, 5000)))
	}
	if _, err := authority.Parse(r.Encode()); err == nil {
		t.Error("a record without room for statements passes")
	}
	// One person with as many keys as there may be says all there is to say; the others'
	// words have a place all the same.
	many := w.Next(t, w.Charter, func(c *charter.Charter) { keys("alice", manyKeys(t, w)...)(c) })
	l := w.ledger("north")
	var cards []string
	alice, _ := w.Charter.Person("alice")
	for n := range 7 {
		cards = append(cards, testcharter.Card(t, testcharter.SSH(t, fmt.Sprint("alice ", n)), "alice", alice.Org))
	}
	w.add(l, w.CharterRecord(t, many, now, cards, "bob", "carol"), now)
	l.Advance(time.Hour, now)
	if l.InForce().Version != 2 {
		t.Fatalf("%+v", l.Pending())
	}
	p := authority.Record{Kind: authority.KindCharter, Raw: w.Next(t, many, groups("dave", "initiators", "approvers")).Encode()}
	for n := range 7 {
		key := testcharter.SSH(t, fmt.Sprint("alice ", n))
		for k, kind := range []approval.Kind{approval.Approve, approval.Withdraw, approval.Reject, approval.Veto, approval.Cancel} {
			_, _ = give(l, w.said(p, kind, "alice", key, now-int64(k), now+7200), now)
		}
	}
	w.add(l, w.Say(t, p, approval.Approve, now, "bob", "carol"), now)
	if pending := l.Pending(); len(pending) != 1 || !slices.Equal(pending[0].Have, []string{"bob", "carol"}) {
		t.Errorf("%+v", pending)
	}
	held, _ := l.Record(p.ID())
	if len(held.Statements) > 2*8+2 {
		t.Errorf("%d statements", len(held.Statements))
	}
	for _, k := range l.All() {
		if _, err := authority.ParseKept(k.Encode()); err != nil {
			t.Errorf("%s cannot be read again: %v", k.Record.Kind, err)
		}
	}
}

func manyKeys(t *testing.T, w *table) []credential.Key {
	out := []credential.Key{w.Key(t, "alice").Key()}
	for n := range 7 {
		out = append(out, testcharter.SSH(t, fmt.Sprint("alice ", n)).Key())
	}
	return out
}

// Whoever left says nothing more about intents once none can live that they might know;
// and a flood with one key pushes out nothing that was said with another.
func TestOrdersOfRemovedPeople(t *testing.T) {
	w := newTable(t)
	l := w.ledger("north")
	w.add(l, w.CharterRecord(t, w.Next(t, w.Charter, without("dave")), now, nil, "alice", "bob"), now)
	w.add(l, w.OrderRecord(t, approval.Reject, canon.Digest{1}, now+10, "dave"), now+10)
	late := now + int64(32*86400)
	if _, err := give(l, w.OrderRecord(t, approval.Reject, canon.Digest{2}, late, "dave"), late); authority.CodeOf(err) != authority.CodeSignature {
		t.Errorf("of somebody who left long ago: %v", err)
	}
	w.add(l, w.OrderRecord(t, approval.Reject, canon.Digest{2}, late, "alice"), late)

	w, l, _, old, fresh := stolen(t)
	mine := authority.Record{Kind: authority.KindOrder, Raw: bytes.Repeat([]byte{7}, 32)}
	w.add(l, w.said(mine, approval.Veto, "alice", fresh, now, now+60), now)
	for n := range authority.MaxOrders + 20 {
		subject := canon.Sum([]byte(fmt.Sprint(n)))
		_, _ = give(l, w.said(authority.Record{Kind: authority.KindOrder, Raw: subject[:]}, approval.Veto, "alice", old, now+100, now+200), now)
	}
	if len(l.Orders(mine.Subject())) != 1 {
		t.Error("a stolen key pushed out a veto by another key")
	}
	// The same no again says nothing new.
	if events, _ := give(l, w.said(mine, approval.Veto, "alice", fresh, now+1, now+90), now+1); len(events) != 0 {
		t.Errorf("%v", events)
	}
}

// What never took force does not keep anybody from reading a charter file once it is over.
func TestFileWithWhatIsOver(t *testing.T) {
	w := newTable(t, func(c *charter.Charter) { c.Admin.Delay = "1h" })
	l := w.ledger("north")
	r := w.CharterRecord(t, w.Next(t, w.Charter, groups("dave", "initiators", "approvers")), now, nil, "alice")
	w.add(l, r, now)
	file := l.File(w.File)
	file.Records = append(file.Records, r.Encode())
	if o, err := authority.Open(file, now+90*86400); err != nil || o.InForce().Version != 1 {
		t.Errorf("%v", err)
	}
}
