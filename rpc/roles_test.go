package rpc_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"coffer/identity"
	pb "coffer/proto/coffer/v1"
	"coffer/rpc"
)

type desk struct {
	pb.UnimplementedCoordinatorServer
	callers chan string
	watched chan struct{}
}

func (d *desk) Cluster(ctx context.Context, _ *pb.ClusterRequest) (*pb.ClusterResponse, error) {
	d.callers <- rpc.Caller(ctx)
	return &pb.ClusterResponse{}, nil
}

func (d *desk) Charter(ctx context.Context, _ *pb.CharterRequest) (*pb.CharterResponse, error) {
	d.callers <- rpc.Caller(ctx)
	return &pb.CharterResponse{}, nil
}

func (d *desk) Watch(_ *pb.GetRequest, stream grpc.ServerStreamingServer[pb.IntentView]) error {
	if err := stream.Send(&pb.IntentView{}); err != nil {
		return err
	}
	<-stream.Context().Done()
	close(d.watched)
	return stream.Send(&pb.IntentView{})
}

// bearer grants whatever it is set to.
type bearer struct {
	key   *identity.Key
	grant string
	err   error
}

func (b *bearer) Key() *identity.Key { return b.key }

func (b *bearer) Grant(context.Context) ([]byte, error) { return []byte(b.grant), b.err }

func deskTable() rpc.Methods {
	out := rpc.Methods{}
	name := "/" + pb.Coordinator_ServiceDesc.ServiceName + "/"
	for _, m := range pb.Coordinator_ServiceDesc.Methods {
		out[name+m.MethodName] = rpc.Reader
	}
	for _, m := range pb.Coordinator_ServiceDesc.Streams {
		out[name+m.StreamName] = rpc.Reader
	}
	out[pb.Coordinator_Charter_FullMethodName] = rpc.Anybody
	return out
}

func serveDesk(t *testing.T, key rpc.Identity, authorize rpc.Authorize) (*desk, string) {
	t.Helper()
	s, err := rpc.NewPublicServer(key, deskTable(), authorize, rpc.PublicBounds())
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{callers: make(chan string, 1), watched: make(chan struct{})}
	pb.RegisterCoordinatorServer(s, d)
	l := listen(t)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return d, l.Addr().String()
}

// What comes with a call reaches who decides, and the handler hears whose call it is.
func TestAuthorize(t *testing.T) {
	server, client := key(t), key(t)
	d, addr := serveDesk(t, server, func(_ context.Context, caller identity.ID, grant []byte, role rpc.Role) (string, error) {
		if caller != client.ID() || string(grant) != "good" || role != rpc.Reader {
			return "", status.Errorf(codes.Unauthenticated, "%s %q %s", caller, grant, role)
		}
		return "alice", nil
	})
	call := func(conn *grpc.ClientConn, err error, ctx context.Context) (string, error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		if _, err := pb.NewCoordinatorClient(conn).Cluster(ctx, &pb.ClusterRequest{}); err != nil {
			return "", err
		}
		return <-d.callers, nil
	}
	conn, err := rpc.DialGranted(&bearer{key: client, grant: "good"}, server.ID(), addr)
	if name, err := call(conn, err, t.Context()); err != nil || name != "alice" {
		t.Fatalf("%q %v", name, err)
	}
	twice := metadata.AppendToOutgoingContext(t.Context(), "coffer-access-bin", "good")
	for name, g := range map[string]struct {
		bearer *bearer
		ctx    context.Context
	}{
		"another grant":     {&bearer{key: client, grant: "bad"}, t.Context()},
		"no grant":          {&bearer{key: client}, t.Context()},
		"another key":       {&bearer{key: key(t), grant: "good"}, t.Context()},
		"two grants":        {&bearer{key: client, grant: "good"}, twice},
		"no grant is to be": {&bearer{key: client, err: errors.New("locked")}, t.Context()},
	} {
		conn, err := rpc.DialGranted(g.bearer, server.ID(), addr)
		if _, err := call(conn, err, g.ctx); status.Code(err) != codes.Unauthenticated {
			t.Errorf("%s: %v", name, err)
		}
	}
	conn, err = rpc.DialAnonymous(server.ID(), addr)
	if _, err := call(conn, err, t.Context()); status.Code(err) != codes.Unauthenticated {
		t.Errorf("no certificate: %v", err)
	}
	conn, err = rpc.DialAnonymous(server.ID(), addr)
	if _, err := call(conn, err, twice); status.Code(err) != codes.Unauthenticated {
		t.Errorf("a grant without a certificate: %v", err)
	}

	// What is for anybody needs nothing, and nothing makes anybody of it.
	open := func(conn *grpc.ClientConn, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := pb.NewCoordinatorClient(conn).Charter(t.Context(), &pb.CharterRequest{}); err != nil {
			t.Fatal(err)
		}
		if name := <-d.callers; name != "" {
			t.Errorf("caller %q", name)
		}
	}
	open(rpc.DialAnonymous(server.ID(), addr))
	open(rpc.DialGranted(&bearer{key: client, grant: "bad"}, server.ID(), addr))
	open(rpc.DialGranted(&bearer{key: client, err: errors.New("locked")}, server.ID(), addr, pb.Coordinator_Charter_FullMethodName))
}

// A stream ends soon after its caller may no longer listen, and nothing is sent on it
// from then on.
func TestStreamOfSomebodyRemoved(t *testing.T) {
	server := key(t)
	var removed atomic.Bool
	d, addr := serveDesk(t, server, func(context.Context, identity.ID, []byte, rpc.Role) (string, error) {
		if removed.Load() {
			return "", status.Error(codes.PermissionDenied, "removed")
		}
		return "alice", nil
	})
	conn, err := rpc.DialGranted(&bearer{key: key(t), grant: "good"}, server.ID(), addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	stream, err := pb.NewCoordinatorClient(conn).Watch(ctx, &pb.GetRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	removed.Store(true)
	if view, err := stream.Recv(); status.Code(err) != codes.PermissionDenied || status.Convert(err).Message() != "removed" {
		t.Fatalf("%v %v", view, err)
	}
	<-d.watched // the handler was told
}

// A coordinator that was removed from the charter is not served on the connection that
// it has.
func TestAdmittedAtEachCall(t *testing.T) {
	server, client := key(t), key(t)
	var removed atomic.Bool
	s, err := rpc.NewServer(server, func(id identity.ID) error {
		if id != client.ID() || removed.Load() {
			return identity.ErrUnknownPeer
		}
		return nil
	}, table(rpc.Coordinator))
	if err != nil {
		t.Fatal(err)
	}
	l := listen(t)
	serve(t, s, l)
	conn, err := rpc.Dial(client, server.ID(), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	api := pb.NewOperatorClient(conn)
	if _, err := api.Status(t.Context(), &pb.StatusRequest{}); err != nil {
		t.Fatal(err)
	}
	removed.Store(true)
	if _, err := api.Status(t.Context(), &pb.StatusRequest{}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("%v", err)
	}
}

// A server that changes its identity is reached by clients of the old one and of the new
// one without a pause.
func TestTwoIdentities(t *testing.T) {
	before, after := key(t), key(t)
	ring, err := identity.NewRing(before)
	if err != nil {
		t.Fatal(err)
	}
	addr := servePublic(t, ring, rpc.PublicBounds())
	old := reach(t, before.ID(), addr)
	reached := func() error {
		_, err := pb.NewOperatorClient(old).Status(t.Context(), &pb.StatusRequest{})
		return err
	}
	if err := reached(); err != nil {
		t.Fatal(err)
	}
	if err := ring.Use(after, before); err != nil {
		t.Fatal(err)
	}
	for _, k := range []*identity.Key{after, before} {
		conn, err := rpc.DialAnonymous(k.ID(), addr)
		if err := ask(t, conn, err); err != nil {
			t.Errorf("%s: %v", k.ID(), err)
		}
	}
	if err := ring.Use(after); err != nil {
		t.Fatal(err)
	}
	conn, err := rpc.DialAnonymous(before.ID(), addr)
	if ask(t, conn, err) == nil {
		t.Error("reached under an identity that it gave up")
	}
	// Connections that stood before go on: the identity was good when they began.
	if err := reached(); err != nil {
		t.Error(err)
	}
}

// Bounds can be narrowed, for a server that anybody reaches.
func TestNarrowedBounds(t *testing.T) {
	server := key(t)
	bounds := rpc.PublicBounds()
	bounds.Message = 100
	addr := servePublic(t, server, bounds)
	conn := reach(t, server.ID(), addr)
	if _, err := pb.NewOperatorClient(conn).Unseal(t.Context(), &pb.UnsealRequest{Passphrase: make([]byte, 200)}); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("%v", err)
	}
}
