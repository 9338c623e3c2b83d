package coordinator_test

import (
	"context"
	"net"
	"strings"
	"testing"

	"coffer/canon"
	"coffer/charter"
	"coffer/identity"
	"coffer/internal/cluster"
	"coffer/party"
	pb "coffer/proto/coffer/v1"
	"coffer/rpc"
)

// liar answers as a signer whatever it was given, and keeps what it is handed.
type liar struct {
	pb.UnimplementedSignerServer
	status     *pb.StatusResponse
	introduced chan []*pb.NamedSignature
}

func (l *liar) Status(context.Context, *pb.StatusRequest) (*pb.StatusResponse, error) {
	return l.status, nil
}

func (l *liar) Introduce(_ context.Context, req *pb.IntroduceRequest) (*pb.IntroduceResponse, error) {
	select {
	case l.introduced <- req.CharterSignatures:
	default:
	}
	return &pb.IntroduceResponse{}, nil
}

// serve runs the liar in a signer's place, under that signer's own identity.
func (l *liar) serve(t *testing.T, m *cluster.Member) (stop func()) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	key, err := identity.Load(m.Dir.Identity())
	must(err)
	methods := rpc.Methods{}
	for _, method := range pb.Signer_ServiceDesc.Methods {
		methods["/"+pb.Signer_ServiceDesc.ServiceName+"/"+method.MethodName] = rpc.Coordinator
	}
	for _, stream := range pb.Signer_ServiceDesc.Streams {
		methods["/"+pb.Signer_ServiceDesc.ServiceName+"/"+stream.StreamName] = rpc.Coordinator
	}
	server, err := rpc.NewServer(key, func(identity.ID) error { return nil }, methods)
	must(err)
	pb.RegisterSignerServer(server, l)
	lis, err := net.Listen("tcp", m.Addr)
	must(err)
	done := make(chan error, 1)
	go func() { done <- server.Serve(lis) }()
	return func() {
		server.Stop()
		must(<-done)
	}
}

func (w *world) charterNow() *charter.File {
	w.t.Helper()
	reply, err := w.API.Charter(w.t.Context(), &pb.CharterRequest{})
	w.must(err)
	f, err := charter.ParseFile(reply.File)
	w.must(err)
	return f
}

// seen is what the coordinator says of signer a.
func (w *world) seen() *pb.SignerState {
	w.t.Helper()
	reply, err := w.API.Cluster(w.t.Context(), &pb.ClusterRequest{})
	w.must(err)
	return reply.Signers[0]
}

// A signer that hands out forged signatures of the others under the charter completes
// nothing and is named; what is right beside them counts. It is handed what it lacks.
func TestForgedSignaturesFromASigner(t *testing.T) {
	t.Parallel()
	w := &world{cluster.NewTreasury(t, func(c *cluster.Config) { c.Strangers = true }), t}
	of := func(id party.ID) *pb.NamedSignature {
		f, err := charter.ReadFile(w.Members[id].Dir.Charter())
		w.must(err)
		s, ok := f.Signature(id)
		if !ok {
			t.Fatalf("%s has not signed", id)
		}
		return &pb.NamedSignature{Name: string(id), Signature: s.Signature}
	}
	w.Members["b"].Launch(false)
	w.Eventually("the coordinator has b's signature", func() bool { return len(w.charterNow().Signatures) == 1 })

	digest := w.Charter.Digest()
	status := func(sigs ...*pb.NamedSignature) *pb.StatusResponse {
		return &pb.StatusResponse{Signer: "a", RootDigest: digest[:], CharterDigest: digest[:], CharterVersion: 1, Sealed: true, CharterSignatures: sigs}
	}
	for name, forged := range map[string]*pb.NamedSignature{
		`"c"`:        {Name: "c", Signature: of("a").Signature},
		`"desk"`:     {Name: "desk", Signature: w.DeskKey.Sign(w.Charter.Encode())},
		`"\x1b[2Jc"`: {Name: "\x1b[2Jc", Signature: of("c").Signature},
	} {
		l := &liar{status: status(forged, of("a")), introduced: make(chan []*pb.NamedSignature, 1)}
		stop := l.serve(t, w.Members["a"])
		w.Eventually("the forger is named", func() bool { return strings.Contains(w.seen().Error, name) })
		if got := w.charterNow().Missing().Strings(); len(got) != 1 || got[0] != "c" {
			t.Errorf("%s: missing are %v, want c", name, got)
		}
		if got := <-l.introduced; len(got) != 1 || got[0].Name != "b" {
			t.Errorf("%s: a was handed %v, want b's signature", name, got)
		}
		stop()
	}
	// A status with more signatures than there are signers is not looked at.
	l := &liar{status: status(of("c"), of("c"), of("c"), of("c"))}
	stop := l.serve(t, w.Members["a"])
	w.Eventually("the flood is named", func() bool { return strings.Contains(w.seen().Error, "4 signatures") })
	if len(w.charterNow().Missing()) != 1 {
		t.Error("a flood of signatures was taken")
	}
	stop()

	// The truth completes it, and puts an end to the complaint.
	w.Members["a"].Launch(false)
	w.Members["c"].Launch(false)
	for _, id := range []party.ID{"a", "b", "c"} {
		w.Members[id].Ready(false)
	}
	w.Eventually("nothing is left to say", func() bool { s := w.seen(); return s.Error == "" && s.Status.GetCharterComplete() })
}

// A signer that joined another charter is not part of this cluster.
func TestSignerOfAnotherCharter(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Members["a"].Stop()
	other := canon.Sum([]byte("another"))
	stop := (&liar{status: &pb.StatusResponse{Signer: "a", RootDigest: other[:], CharterDigest: other[:], CharterComplete: true}}).serve(t, w.Members["a"])
	defer stop()
	w.Eventually("it counts as away", func() bool {
		s := w.seen()
		return !s.Reachable && strings.Contains(s.Error, other.Short())
	})
}
