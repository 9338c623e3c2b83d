package coordinator

import (
	"testing"

	"google.golang.org/grpc/connectivity"

	"coffer/charter"
	"coffer/internal/addressbook"
	"coffer/internal/testcharter"
)

// next is the version that follows: north stays, south has another identity, west is gone
// and east is new. The cards are those of its new signers.
func (r *rebuilt) next() (*charter.Charter, []string) {
	r.t.Helper()
	south, east := testcharter.Identity(r.t, "south's second"), testcharter.Identity(r.t, "east")
	next := &charter.Charter{Cluster: r.Charter.Cluster, Version: 2, Quorum: r.Charter.Quorum, Signers: []charter.Signer{
		{Name: "east", Org: "auditor", Peer: east.ID()}, {Name: "north", Org: "exchange", Peer: r.Signers["north"].ID()}, {Name: "south", Org: "custodian", Peer: south.ID()},
	}}
	one, err := charter.NewSignerCard(south, "south", "custodian", charter.Places{P2P: []string{"/ip4/192.0.2.9/tcp/1"}, GRPC: "192.0.2.9:1"})
	r.must(err)
	two, err := charter.NewSignerCard(east, "east", "auditor", charter.Places{P2P: []string{"/ip4/192.0.2.9/tcp/2"}, GRPC: "192.0.2.9:2"})
	r.must(err)
	return next, []string{one, two}
}

// Another version of the charter changes whom the coordinator is connected to, and
// nothing about those who stay.
func TestFollowTheCharter(t *testing.T) {
	r := newRebuilt(t)
	var err error
	r.c.addresses, err = addressbook.Open(r.c.db, r.Charter, r.File.Cards, nil)
	r.must(err)
	r.c.roster.Store(&roster{charter: r.Charter})
	r.must(r.c.follow(r.Charter, r.File.Cards))
	before := r.c.signers()
	next, cards := r.next()
	if err := r.c.follow(next, cards[:1]); err == nil || r.c.inForce() != r.Charter || before[0].listed.Err() != nil {
		t.Fatalf("a version with a signer whose card is missing: %v", err)
	}
	r.must(r.c.follow(next, cards))
	after := r.c.signers()
	if r.c.inForce() != next || len(after) != 3 {
		t.Fatalf("version %d with %d signers", r.c.inForce().Version, len(after))
	}
	if after[0].id != "east" || after[1] != before[0] || after[2].id != "south" || after[2] == before[1] || r.c.where("south") != "192.0.2.9:1" {
		t.Errorf("connected to %v; south is at %s", after, r.c.where("south"))
	}
	for n, gone := range []bool{false, true, true} {
		if s := before[n]; (s.listed.Err() != nil) != gone || (s.conn.GetState() == connectivity.Shutdown) != gone {
			t.Errorf("%s: gone %v, connection %s", s.id, s.listed.Err(), s.conn.GetState())
		}
	}
	r.must(r.c.follow(next, cards)) // again: nothing
	if now := r.c.signers(); now[0] != after[0] || now[2] != after[2] || now[0].listed.Err() != nil {
		t.Error("connections were made anew")
	}
}
