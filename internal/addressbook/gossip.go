package addressbook

import (
	"fmt"

	"coffer/canon"
)

const gossipDomain = "coffer/mesh-addresses/v1"

// Told is a record as somebody hands it on; nothing of it is verified.
type Told struct{ Raw, Signature []byte }

// Gossip is the frame by which a signer tells a peer the records that it knows.
func Gossip(records []Record) []byte {
	e := canon.New(gossipDomain).List(len(records))
	for _, r := range records {
		e.Bytes(r.Raw).Bytes(r.Signature)
	}
	return e.Encoded()
}

// ParseGossip reads such a frame.
func ParseGossip(raw []byte) ([]Told, error) {
	d := canon.NewDecoder(gossipDomain, raw)
	var out []Told
	n := d.List(MaxRecords)
	for i := 0; i < n && d.Err() == nil; i++ {
		out = append(out, Told{d.Bytes(MaxRaw), d.Bytes(64)})
	}
	if err := d.Finish(); err != nil {
		return nil, fmt.Errorf("address gossip: %w", err)
	}
	return out, nil
}
