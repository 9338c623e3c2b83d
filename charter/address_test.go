package charter_test

import (
	"slices"
	"strings"
	"testing"

	"coffer/charter"
)

func TestAddressRecord(t *testing.T) {
	a, b := seeded(t, 1), seeded(t, 2)
	good := charter.AddressRecord{Peer: a.ID(), Sequence: 2, P2P: []string{"/ip4/192.0.2.1/udp/4001/quic-v1", "/dns4/a.example/tcp/4001"}, GRPC: "[2001:db8::1]:7001"}
	back, err := charter.ParseAddressRecord(good.Encode(), a.Sign(good.Encode()))
	if err != nil || back.Sequence != 2 || !slices.Equal(back.P2P, good.P2P) || back.GRPC != good.GRPC {
		t.Fatalf("%+v, %v", back, err)
	}
	if _, err := charter.ParseAddressRecord(good.Encode(), b.Sign(good.Encode())); err == nil {
		t.Error("a record signed by another verifies")
	}
	if _, err := charter.ParseAddressRecord(good.Encode(), nil); err == nil {
		t.Error("an unsigned record verifies")
	}
	for name, change := range map[string]func(*charter.AddressRecord){
		"sequence zero":  func(r *charter.AddressRecord) { r.Sequence = 0 },
		"peer malformed": func(r *charter.AddressRecord) { r.Peer = "a" },
		"another's peer": func(r *charter.AddressRecord) { r.Peer = b.ID() },
		"relay": func(r *charter.AddressRecord) {
			r.P2P[0] = "/ip4/192.0.2.1/tcp/1/p2p/" + string(b.ID()) + "/p2p-circuit"
		},
		"peer in address": func(r *charter.AddressRecord) { r.P2P[0] = "/ip4/192.0.2.1/tcp/1/p2p/" + string(b.ID()) },
		"not canonical":   func(r *charter.AddressRecord) { r.P2P[0] = "/ip4/192.0.2.1/tcp/4001/" },
		"not a multiaddr": func(r *charter.AddressRecord) { r.P2P[0] = "192.0.2.1:4001" },
		"nine addresses":  func(r *charter.AddressRecord) { r.P2P = slices.Repeat(r.P2P[:1], 9) },
		"grpc look-alike": func(r *charter.AddressRecord) { r.GRPC = "а.example:7001" },
		"grpc empty":      func(r *charter.AddressRecord) { r.GRPC = "" },
		"grpc no host":    func(r *charter.AddressRecord) { r.GRPC = ":7001" },
		"grpc port zero":  func(r *charter.AddressRecord) { r.GRPC = "a.example:0" },
		"grpc port words": func(r *charter.AddressRecord) { r.GRPC = "a.example:https" },
		"grpc port sign":  func(r *charter.AddressRecord) { r.GRPC = "a.example:+1" },
		"grpc port zeros": func(r *charter.AddressRecord) { r.GRPC = "a.example:07001" },
		"grpc user":       func(r *charter.AddressRecord) { r.GRPC = "a@b.example:1" },
		"grpc long":       func(r *charter.AddressRecord) { r.GRPC = strings.Repeat("a", 300) + ":1" },
	} {
		r := good
		r.P2P = slices.Clone(good.P2P)
		change(&r)
		if _, err := charter.ParseAddressRecord(r.Encode(), a.Sign(r.Encode())); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	// A card's bytes, or a charter's, are no address record, whoever signed them.
	raw := newWorld(t).file(t).Charter.Encode()
	if _, err := charter.ParseAddressRecord(raw, a.Sign(raw)); err == nil {
		t.Error("a charter passes as an address record")
	}
}

// A process that moved has a second card; the highest sequence counts, in any order.
// NewSignerCard makes the first only, so the other file here is the one of a fresh
// card with another address, and it must not verify beside the first.
func TestTwoAddressesOfOneSequence(t *testing.T) {
	w := newWorld(t)
	f := w.signed(t)
	moved, err := charter.NewSignerCard(w.signers["a"], "a", "acme", charter.Places{P2P: []string{"/ip4/192.0.2.9/tcp/1"}, GRPC: "192.0.2.9:1"})
	if err != nil {
		t.Fatal(err)
	}
	f.Cards = append(f.Cards, moved)
	if err := f.Verify(); err == nil {
		t.Error("two addresses of one sequence verify: which one counts depends on their order")
	}
}

func TestAddressLine(t *testing.T) {
	a := seeded(t, 1)
	raw, signature, err := charter.NewAddressRecord(a, 7, charter.Places{P2P: []string{"/ip4/192.0.2.1/tcp/4001"}, GRPC: "192.0.2.1:7001"})
	if err != nil {
		t.Fatal(err)
	}
	line := charter.AddressLine(raw, signature)
	if strings.ContainsAny(line, " \n") || len(line) > 500 {
		t.Errorf("the line is %q", line)
	}
	r, s, err := charter.ParseAddressLine(line)
	if err != nil {
		t.Fatal(err)
	}
	if back, err := charter.ParseAddressRecord(r, s); err != nil || back.Sequence != 7 || back.Peer != a.ID() {
		t.Errorf("%+v, %v", back, err)
	}
	card, err := charter.NewSignerCard(a, "a", "acme", charter.Places{P2P: []string{"/ip4/192.0.2.1/tcp/1"}, GRPC: "192.0.2.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]string{
		"empty": "", "a card": card, "cut": line[:len(line)-1], "longer": line + "A", "with space": line + " ", "of two lines": line[:40] + "\n" + line[40:],
		"huge": line + strings.Repeat("A", 1<<20),
	} {
		if _, _, err := charter.ParseAddressLine(bad); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for name, places := range map[string]charter.Places{
		"any interface": {P2P: []string{"/ip4/192.0.2.1/tcp/1"}, GRPC: ":7001"},
		"no port":       {P2P: []string{"/ip4/192.0.2.1/tcp/1"}, GRPC: "192.0.2.1"},
	} {
		if _, _, err := charter.NewAddressRecord(a, 1, places); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
}
