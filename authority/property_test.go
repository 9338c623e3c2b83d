package authority_test

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"coffer/approval"
	"coffer/authority"
	"coffer/canon"
	"coffer/charter"
	"coffer/internal/testcharter"
	"coffer/party"
	"coffer/policy"
)

// pool is what anybody could have seen on the way: whole records and single parts of
// them, good, forged, over, contending and of strangers. West is a signer that lies.
func pool(t *testing.T, w *table, contend bool) (out []authority.Record) {
	split := func(r authority.Record) {
		for _, s := range r.Statements {
			part := r
			part.Statements = []approval.Signed{s}
			out = append(out, part)
		}
		out = append(out, r)
		forged := r
		forged.Statements = slices.Clone(r.Statements)
		last := &forged.Statements[len(forged.Statements)-1]
		last.Raw = append([]byte(nil), last.Raw...)
		last.Raw[len(last.Raw)-1] ^= 1
		out = append(out, forged, w.Witness(t, r, now, "west"))
		lie := r
		lie.Receipts = []authority.Receipt{authority.NewReceipt(w.Signers["west"], w.Charter.Cluster, "south", r.ID(), now)}
		out = append(out, lie)
	}
	second := w.Next(t, w.Charter, without("dave"))
	third := w.Next(t, second, groups("carol", "approvers", "treasury", "desk"))
	split(w.CharterRecord(t, second, now, nil, "alice", "bob", "carol"))
	split(w.CharterRecord(t, third, now, nil, "bob", "carol"))
	half := w.CharterRecord(t, w.Next(t, w.Charter, groups("dave", "approvers")), now, nil, "bob")
	split(half)
	out = append(out,
		w.CharterRecord(t, w.Next(t, w.Charter, groups("dave", "initiators", "approvers")), now-9000, nil, "alice", "bob"), // over
		w.CharterRecord(t, w.Next(t, w.Charter, groups("dave", "initiators", "desk")), now+9000, nil, "alice", "bob"))      // from the future
	if contend {
		split(w.Say(t, half, approval.Approve, now, "carol"))
		split(w.Say(t, authority.Record{Kind: half.Kind, Raw: half.Raw}, approval.Withdraw, now, "bob"))
	}
	name := testcharter.List
	one := w.ListRecord(t, name, 1, canon.Digest{}, now, supplier("tea", testcharter.Supplier), "alice", "bob")
	split(one)
	split(w.ListRecord(t, name, 2, one.ID(), now, supplier("tea", testcharter.Second), "alice", "carol"))
	split(w.ListRecord(t, name, 2, one.ID(), now, supplier("rival", testcharter.Second), "bob", "carol"))
	split(w.ListRecord(t, name, 4, one.ID(), now, nil, "bob"))
	var freezes []canon.Digest
	for n, by := range []string{"alice", "dave", "dave", "north", "west"} {
		scope, of := authority.ScopeCluster, ""
		if n%2 == 1 {
			scope, of = authority.ScopeWallet, "treasury"
		}
		r := w.FreezeRecord(t, by, scope, of, now, byte(n))
		out = append(out, r, w.Witness(t, r, now, "west"))
		freezes = append(freezes, r.ID())
	}
	split(w.UnfreezeRecord(t, w.Charter, now, freezes[:2], "alice", "carol"))
	split(w.UnfreezeRecord(t, w.Charter, now, freezes[2:4], "bob"))
	for n := range 3 {
		intent := canon.Sum([]byte{byte(n)})
		split(w.OrderRecord(t, approval.Reject, intent, now-int64(n), "alice", "dave"))
		out = append(out, w.OrderRecord(t, approval.Withdraw, intent, now-int64(n), "bob"))
	}
	foreign := newTable(t, func(c *charter.Charter) { c.Cluster = canon.Digest{7} })
	out = append(out, foreign.FreezeRecord(t, "alice", authority.ScopeCluster, "", now, 1), foreign.OrderRecord(t, approval.Reject, canon.Digest{1}, now, "alice"))
	return out
}

func newPool(t *testing.T) *table {
	return newTable(t, func(c *charter.Charter) {
		c.Admin.Delay, c.Admin.NarrowDelay = "1h", "1h"
		c.Destinations[0].Keepers, c.Destinations[0].MaxAge, c.Destinations[0].Entries = &policy.Requirement{Group: "approvers", K: 2}, "24h", nil
	})
}

// TestOrderMakesNoDifference: honest ledgers that were given the same records, split over
// them in any way, in any order, with restarts and repetitions between, end at the same.
func TestOrderMakesNoDifference(t *testing.T) {
	w := newPool(t)
	quiet, contended := pool(t, w, false), pool(t, w, true)
	rapid.Check(t, func(r *rapid.T) {
		contend := rapid.Bool().Draw(r, "contend")
		records := quiet
		if contend {
			records = contended
		}
		places := make([]int, len(records))
		for n := range places {
			places[n] = n
		}
		ledgers := []*authority.Ledger{w.ledger("north"), w.ledger("south"), w.ledger("")}
		names := []string{"north", "south", "observer"}
		versions := make([]uint64, len(ledgers))
		step := func(n int) {
			if v := ledgers[n].InForce().Version; v < versions[n] {
				r.Fatalf("%s went from version %d back to %d", names[n], versions[n], v)
			} else {
				versions[n] = v
			}
		}
		for _, at := range rapid.Permutation(places).Draw(r, "order") {
			record := records[at]
			n := rapid.IntRange(0, len(ledgers)-1).Draw(r, "to")
			_, _ = give(ledgers[n], record, now)
			step(n)
			switch rapid.IntRange(0, 19).Draw(r, "then") {
			case 0: // a restart
				again, err := authority.NewLedger(w.Charter, w.Signers[[]party.ID{"north", "south", ""}[n]])
				if err != nil {
					r.Fatal(err)
				}
				if err := again.Restore(ledgers[n].All(), now); err != nil {
					r.Fatalf("%s does not come back: %v", names[n], err)
				}
				if a, b := ledgers[n].Head("x", 0, canon.Digest{}, now), again.Head("x", 0, canon.Digest{}, now); a != b {
					r.Fatalf("%s came back as another", names[n])
				}
				ledgers[n] = again
			case 1: // some uptime; a fork that is not known everywhere yet is another matter
				if !contend {
					ledgers[n].Advance(40*time.Minute, now)
					step(n)
				}
			}
		}
		// Long enough for two delays, with talk between. What was refused because it came
		// before what it stands on comes again.
		for range 3 {
			settle(t, now, ledgers...)
			for _, record := range records {
				if record.Kind == authority.KindCharter {
					n := rapid.IntRange(0, len(ledgers)-1).Draw(r, "again to")
					_, _ = give(ledgers[n], record, now)
					step(n)
				}
			}
			settle(t, now, ledgers...)
			for n, l := range ledgers {
				l.Advance(time.Hour, now)
				step(n)
			}
		}
		settle(t, now, ledgers...)
		for n, l := range ledgers {
			for _, record := range records {
				_, _ = give(l, record, now)
				step(n)
			}
		}
		settle(t, now, ledgers...)
		compare := func(when string) {
			a := ledgers[0].Head("x", 0, canon.Digest{}, now)
			for n, l := range ledgers[1:] {
				if b := l.Head("x", 0, canon.Digest{}, now); !a.Agrees(b) || a.Records != b.Records {
					r.Fatalf("%s, %s: version %d/%d, frozen %+v / %+v, lists %v / %v, refs %d/%d,\n%+v\n%+v", when, names[n+1],
						ledgers[0].InForce().Version, l.InForce().Version, ledgers[0].Frozen(), l.Frozen(), ledgers[0].Lists(), l.Lists(),
						len(ledgers[0].Refs()), len(l.Refs()), ledgers[0].Pending(), l.Pending())
				}
				if !reflect.DeepEqual(sortedFrozen(ledgers[0]), sortedFrozen(l)) || !reflect.DeepEqual(ledgers[0].Lists(), l.Lists()) {
					r.Fatalf("%s: the heads are equal and %s is not", when, names[n+1])
				}
			}
		}
		compare("after all")
		if ledgers[0].InForce().Version != 3 {
			r.Fatalf("version %d is in force", ledgers[0].InForce().Version)
		}
		before := ledgers[0].Head("x", 0, canon.Digest{}, now)
		for _, at := range rapid.Permutation(places).Draw(r, "replay") {
			if events, err := give(ledgers[0], records[at], now); err == nil && slices.ContainsFunc(events, func(e authority.Event) bool { return e.Kind != authority.EventDropped }) {
				r.Fatalf("a replay says something new: %v", events)
			}
		}
		if ledgers[0].Head("x", 0, canon.Digest{}, now) != before {
			r.Fatal("a replay changed something")
		}
	})
}

func sortedFrozen(l *authority.Ledger) authority.Frozen {
	f := l.Frozen()
	f.Cluster = authority.SortDigests(f.Cluster)
	for name, ids := range f.Wallets {
		f.Wallets[name] = authority.SortDigests(ids)
	}
	for name, ids := range f.People {
		f.People[name] = authority.SortDigests(ids)
	}
	return f
}
