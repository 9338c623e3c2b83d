package addressbook_test

import (
	"bytes"
	"encoding/hex"
	"testing"

	"coffer/charter"
	"coffer/internal/addressbook"
)

func TestGossipGolden(t *testing.T) {
	const want = "00000018636f666665722f6d6573682d6164647265737365732f7631" + // domain
		"00000001" + "000000020102" + "0000000103" // one record: bytes, signature
	raw := addressbook.Gossip([]addressbook.Record{{Raw: []byte{1, 2}, Signature: []byte{3}}})
	if got := hex.EncodeToString(raw); got != want {
		t.Errorf("gossip is\n%s, want\n%s", got, want)
	}
}

func TestGossip(t *testing.T) {
	s := newShelf(t)
	b := s.open("north", at(3))
	if _, err := s.take(b, s.Signers["west"], 2, 2); err != nil {
		t.Fatal(err)
	}
	told, err := addressbook.ParseGossip(addressbook.Gossip(b.Records()))
	if err != nil || len(told) != 2 {
		t.Fatalf("%d records, %v", len(told), err)
	}
	other := newShelf(t).open("", charter.Places{})
	for _, r := range told {
		if _, changed, err := other.Take(r.Raw, r.Signature, now); !changed || err != nil {
			t.Errorf("%t, %v", changed, err)
		}
	}
	s.want(other, "north", 2, 3)
	s.want(other, "west", 2, 2)
	if _, err := addressbook.ParseGossip(addressbook.Gossip(make([]addressbook.Record, addressbook.MaxRecords+1))); err == nil {
		t.Error("too many records are taken")
	}
	if _, err := addressbook.ParseGossip(addressbook.Gossip([]addressbook.Record{{Raw: make([]byte, addressbook.MaxRaw+1)}})); err == nil {
		t.Error("a large record is taken")
	}
}

func FuzzGossip(f *testing.F) {
	f.Add(addressbook.Gossip([]addressbook.Record{{Raw: []byte{1, 2}, Signature: []byte{3}}, {}}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		told, err := addressbook.ParseGossip(raw)
		if err != nil {
			return
		}
		var records []addressbook.Record
		for _, r := range told {
			records = append(records, addressbook.Record{Raw: r.Raw, Signature: r.Signature})
		}
		if !bytes.Equal(addressbook.Gossip(records), raw) {
			t.Error("what was read does not encode to the same bytes")
		}
	})
}
