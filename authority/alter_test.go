package authority_test

import (
	"testing"

	"coffer/approval"
	"coffer/authority"
	"coffer/canon"
	"coffer/internal/testcharter"
)

// TestEachByteAltered: a record of which any byte is another has no effect, whatever it
// is a record of: the charter, lists, freezes and what is lifted stay as they were.
func TestEachByteAltered(t *testing.T) {
	w := newTable(t, kept(""))
	z := w.FreezeRecord(t, "dave", authority.ScopeCluster, "", now, 1)
	version := w.CharterRecord(t, w.Next(t, w.Charter, groups("dave", "initiators", "approvers")), now, nil, "alice", "bob")
	for name, c := range map[string]struct {
		record authority.Record
		self   bool // at a signer; else at an observer, whom receipts move
		before []authority.Record
	}{
		"charter":            {version, true, nil},
		"charter, receipts":  {w.Witness(t, version, now, "north", "south"), false, nil},
		"list":               {w.ListRecord(t, testcharter.List, 1, canon.Digest{}, now, supplier("tea", testcharter.Supplier), "alice", "bob"), true, nil},
		"freeze of a person": {z, true, nil},
		"freeze of a signer": {w.FreezeRecord(t, "south", authority.ScopeWallet, "treasury", now, 1), true, nil},
		"unfreeze":           {w.UnfreezeRecord(t, w.Charter, now, []canon.Digest{z.ID()}, "alice", "bob"), true, []authority.Record{z}},
		"order":              {w.OrderRecord(t, approval.Reject, canon.Digest{1}, now, "alice"), true, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fresh := func() *authority.Ledger {
				self := w.Signers["north"]
				if !c.self {
					self = nil
				}
				l, err := authority.NewLedger(w.Charter, self)
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range c.before {
					w.add(l, r, now)
				}
				return l
			}
			l := fresh()
			before := l.Head("north", 0, canon.Digest{}, now)
			w.add(l, c.record, now)
			if c.record.Kind != authority.KindOrder && l.Head("north", 0, canon.Digest{}, now).Agrees(before) {
				t.Fatal("not even the right one has an effect")
			}
			raw := c.record.Encode()
			l = fresh()
			for i := range raw {
				for _, bit := range []byte{1, 0x20} {
					raw[i] ^= bit
					if r, err := authority.Parse(raw); err == nil {
						_, _ = l.Add(r, now)
					}
					raw[i] ^= bit
					if !l.Head("north", 0, canon.Digest{}, now).Agrees(before) || len(l.Orders(canon.Digest{1})) > 0 {
						t.Fatalf("byte %d with bit %#x has an effect", i, bit)
					}
				}
				if len(l.Refs()) > len(c.before) { // what half of the signatures still hold for waits
					l = fresh()
				}
			}
		})
	}
}

// TestHeadAltered: nobody but the signer makes its head.
func TestHeadAltered(t *testing.T) {
	w := newTable(t)
	l := w.ledger("north")
	raw, signature := l.Head("north", 7, canon.Digest{8}, now).Sign(w.Signers["north"])
	if h, err := authority.OpenHead(raw, signature, w.Charter); err != nil || h.AuditSize != 7 {
		t.Fatalf("%+v, %v", h, err)
	}
	for i := range raw {
		raw[i] ^= 1
		if _, err := authority.OpenHead(raw, signature, w.Charter); err == nil {
			t.Errorf("byte %d", i)
		}
		raw[i] ^= 1
	}
	for i := range signature {
		signature[i] ^= 1
		if _, err := authority.OpenHead(raw, signature, w.Charter); err == nil {
			t.Errorf("signature, byte %d", i)
		}
		signature[i] ^= 1
	}
	raw, signature = l.Head("south", 7, canon.Digest{8}, now).Sign(w.Signers["north"])
	if _, err := authority.OpenHead(raw, signature, w.Charter); err == nil {
		t.Error("one signer's head by another")
	}
}
