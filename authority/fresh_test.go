package authority_test

import (
	"testing"
	"time"

	"coffer/authority"
	"coffer/canon"
	"coffer/charter"
	"coffer/party"
)

func TestFresh(t *testing.T) {
	own := authority.Head{Cluster: canon.Digest{1}, Signer: "north", Version: 2, Charter: canon.Digest{2}, Freezes: canon.Digest{3}, Lists: canon.Digest{4}}
	seen := func(signer party.ID, age time.Duration, edit func(*authority.Head)) authority.Seen {
		h := own
		h.Signer, h.Records, h.AuditSize, h.Time = signer, canon.Digest{byte(len(signer))}, 9, 9
		if edit != nil {
			edit(&h)
		}
		return authority.Seen{Head: h, Age: age}
	}
	for name, c := range map[string]struct {
		seen  []authority.Seen
		fresh bool
	}{
		"nothing":           {nil, false},
		"one that agrees":   {[]authority.Seen{seen("south", 60*time.Second, nil)}, true},
		"one that is old":   {[]authority.Seen{seen("south", 60*time.Second+1, nil)}, false},
		"from the future":   {[]authority.Seen{seen("south", -1, nil)}, false},
		"its own":           {[]authority.Seen{seen("north", 0, nil)}, false},
		"of another":        {[]authority.Seen{seen("south", 0, func(h *authority.Head) { h.Cluster = canon.Digest{9} })}, false},
		"another version":   {[]authority.Seen{seen("south", 0, func(h *authority.Head) { h.Version = 3 })}, false},
		"another charter":   {[]authority.Seen{seen("south", 0, func(h *authority.Head) { h.Charter = canon.Digest{9} })}, false},
		"another freeze":    {[]authority.Seen{seen("south", 0, func(h *authority.Head) { h.Freezes = canon.Digest{9} })}, false},
		"another list":      {[]authority.Seen{seen("south", 0, func(h *authority.Head) { h.Lists = canon.Digest{9} })}, false},
		"its newest counts": {[]authority.Seen{seen("south", 5, nil), seen("south", 1, func(h *authority.Head) { h.Freezes = canon.Digest{9} })}, false},
		"one of two":        {[]authority.Seen{seen("south", 0, func(h *authority.Head) { h.Lists = canon.Digest{9} }), seen("west", 0, nil)}, true},
	} {
		t.Run(name, func(t *testing.T) {
			f := authority.Fresh(own, c.seen, 1, time.Minute)
			if f.Fresh != c.fresh || (f.Missing == 0) != c.fresh {
				t.Errorf("%+v", f)
			}
		})
	}
	// One signer, however often, is one.
	if f := authority.Fresh(own, []authority.Seen{seen("south", 0, nil), seen("south", 1, nil)}, 2, time.Minute); f.Fresh || f.Missing != 1 {
		t.Errorf("%+v", f)
	}
}

// TestLyingPeerAndPartition is ADR 8 in code: with Of-Need heads a lying peer keeps a
// signer fresh that a partition keeps from the others; a charter that asks for the heads
// of all others does not leave that.
func TestLyingPeerAndPartition(t *testing.T) {
	for heads, want := range map[int]bool{1: true, 2: false} {
		w := newTable(t, func(c *charter.Charter) { c.Freshness = &charter.Freshness{Heads: heads, Within: "60s"} })
		// South has a freeze. North is cut off from it, and west tells north what it likes.
		north, south := w.ledger("north"), w.ledger("south")
		w.add(south, w.FreezeRecord(t, "alice", authority.ScopeCluster, "", now, 1), now)
		own := north.Head("north", 0, canon.Digest{}, now)
		lie := own
		lie.Signer = "west"
		need, within := w.Charter.Fresh()
		stale := authority.Seen{Head: own, Age: 61 * time.Second}
		stale.Head.Signer = "south"
		if f := authority.Fresh(own, []authority.Seen{{Head: lie}, stale}, need, within); f.Fresh != want {
			t.Errorf("with %d heads: %+v", heads, f)
		}
		// As soon as north hears of south it has to catch up, unless it asks for one only.
		if f := authority.Fresh(own, []authority.Seen{{Head: lie}, {Head: south.Head("south", 0, canon.Digest{}, now)}}, need, within); f.Fresh != want || len(f.Differ) != 1 {
			t.Errorf("with %d heads: %+v", heads, f)
		}
	}
}

// TestCatchUpFromAFile: a newcomer comes from version 1 to the newest with one file, and
// nobody who hands it out can add to it.
func TestCatchUpFromAFile(t *testing.T) {
	w := newTable(t)
	l := w.ledger("north")
	second := w.Next(t, w.Charter, groups("dave", "initiators", "approvers"))
	third := w.Next(t, second, without("dave"))
	for _, c := range []*charter.Charter{second, third} {
		w.add(l, w.Witness(t, w.CharterRecord(t, c, now, nil, "alice", "bob"), now, "south"), now)
	}
	z := w.FreezeRecord(t, "alice", authority.ScopeCluster, "", now, 1)
	w.add(l, z, now)
	w.add(l, w.CharterRecord(t, w.Next(t, third, groups("carol", "treasury")), now, nil, "alice"), now) // waits
	file := l.File(w.File)
	raw, err := file.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	back, err := charter.ParseFile(raw)
	if err != nil {
		t.Fatal(err)
	}
	late := now + int64(90*86400)
	o, err := authority.Open(back, late)
	if err != nil || o.InForce().Digest() != third.Digest() || len(o.Freezes()) != 1 || len(o.Pending()) != 0 {
		t.Fatalf("%v, version %d, %+v", err, o.InForce().Version, o.Pending())
	}
	for n := range back.Records {
		r, err := authority.Parse(back.Records[n])
		if err != nil {
			t.Fatal(err)
		}
		if r.Kind != authority.KindCharter {
			continue
		}
		whole := back.Records[n]
		r.Receipts = r.Receipts[:1]
		back.Records[n] = r.Encode()
		if o, err := authority.Open(back, late); err == nil && o.InForce().Version == 3 {
			t.Errorf("record %d: one receipt of two is enough", n)
		}
		back.Records[n] = whole
	}
	back.Records[0] = []byte("x")
	if _, err := authority.Open(back, late); err == nil {
		t.Error("junk in the file passes")
	}
}
