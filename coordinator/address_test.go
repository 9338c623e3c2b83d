package coordinator_test

import (
	"fmt"
	"testing"

	"coffer/charter"
	"coffer/internal/addressbook"
	"coffer/internal/cluster"
	"coffer/party"
	pb "coffer/proto/coffer/v1"
	"coffer/transport/transporttest"
)

// Two signers move to other ports, one while the coordinator is down. Everybody finds
// them again, through each other, and they pay together; nobody joins anything.
func TestSignersMove(t *testing.T) {
	w := &world{cluster.NewTreasury(t, func(c *cluster.Config) { c.Mesh = true }).Fund(), t}
	pay := func(ref string, quorum ...party.ID) {
		t.Helper()
		id := w.mustSubmit(w.payment(ref, 1))
		w.approve(id)
		if view := w.wantDone(id); len(quorum) > 0 && fmt.Sprint(view.SignedBy) != fmt.Sprint(quorum) {
			t.Errorf("%s is signed by %v, want %v", ref, view.SignedBy, quorum)
		}
	}
	pay("AT-HOME")
	move := func(id party.ID) {
		t.Helper()
		m := w.Members[id]
		m.Stop()
		m.Move()
		m.Start()
	}
	met := func(want int) {
		t.Helper()
		w.Eventually("the coordinator reaches all, and all each other", func() bool {
			reply, err := w.API.Cluster(t.Context(), &pb.ClusterRequest{})
			if err != nil || len(reply.Signers) != want {
				return false
			}
			for _, s := range reply.Signers {
				if !s.Reachable || len(s.Status.GetPeers()) != want-1 {
					return false
				}
				for _, p := range s.Status.Peers {
					if !p.Connected {
						return false
					}
				}
			}
			return true
		})
	}
	move("b")
	met(3)
	// Without a, b must have found c at the moved place, and the coordinator both.
	w.StopDesk()
	move("c")
	w.StartDesk()
	met(3)
	w.Members["a"].Stop()
	pay("MOVED", "b", "c")
	w.Members["a"].Start()
	met(3)
	// All know all, and keep it.
	for id, m := range w.Members {
		api := m.API()
		w.Eventually(fmt.Sprintf("%s knows where everybody is", id), func() bool {
			st, err := api.Status(t.Context(), &pb.StatusRequest{})
			if err != nil || len(st.Addresses) != 3 {
				return false
			}
			for _, r := range st.Addresses {
				a, err := charter.ParseAddressRecord(r.Raw, r.Signatures[0].Signature)
				signer, _ := w.Charter.SignerByPeer(a.Peer)
				want := map[party.ID]uint64{"a": 1, "b": 2, "c": 2}[signer.Name]
				if err != nil || a.Sequence != want || a.GRPC != w.Members[signer.Name].Addr {
					return false
				}
			}
			return true
		})
	}
	w.VerifyAudits()
}

// Signers that all moved at once find nobody. One line from each operator to the
// others' is enough; what is forged, of before, or of a stranger is refused by all.
func TestAddressByHand(t *testing.T) {
	w := &world{cluster.NewTreasury(t, func(c *cluster.Config) { c.Mesh = true }), t}
	ctx := t.Context()
	for _, m := range w.Members {
		m.Stop()
	}
	for _, m := range w.Members {
		m.Move()
		m.Start()
	}
	own := func(id party.ID) *pb.SignedRecord {
		t.Helper()
		st, err := w.Members[id].Operator().Status(ctx, &pb.StatusRequest{})
		w.must(err)
		for _, r := range st.Addresses {
			if r.Signatures[0].Name == string(id) {
				return r
			}
		}
		t.Fatalf("%s shows no address of its own", id)
		return nil
	}
	a := own("a")
	forged := &pb.SignedRecord{Raw: a.Raw, Signatures: []*pb.NamedSignature{{Name: "a", Signature: own("b").Signatures[0].Signature}}}
	for name, bad := range map[string]*pb.IntroduceRequest{
		"nothing":  {Addresses: []*pb.SignedRecord{nil}},
		"unsigned": {Addresses: []*pb.SignedRecord{{Raw: a.Raw}}},
		"forged":   {Addresses: []*pb.SignedRecord{forged}},
		"large":    {Addresses: []*pb.SignedRecord{{Raw: make([]byte, addressbook.MaxRaw+1), Signatures: a.Signatures}}},
		"many":     {Addresses: make([]*pb.SignedRecord, addressbook.MaxRecords+1)},
	} {
		if _, err := w.Members["b"].API().Introduce(ctx, bad); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	// b's operator is told of a, and c's of b; the rest travels by itself.
	for _, pair := range [][2]party.ID{{"b", "a"}, {"c", "b"}} {
		_, err := w.Members[pair[0]].Operator().Introduce(ctx, &pb.IntroduceRequest{Addresses: []*pb.SignedRecord{own(pair[1])}})
		w.must(err)
	}
	for id, m := range w.Members {
		api := m.API()
		transporttest.Eventually(t, transporttest.Patience, fmt.Sprintf("%s has found all", id), func() bool {
			st, err := api.Status(ctx, &pb.StatusRequest{})
			return err == nil && len(st.Peers) == 2 && st.Peers[0].Connected && st.Peers[1].Connected
		})
	}
}
