package rpc_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"coffer/identity"
	pb "coffer/proto/coffer/v1"
	"coffer/rpc"
)

func key(t *testing.T) *identity.Key {
	t.Helper()
	k, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// table is the Operator service's, for one role; nobody may Seal.
func table(role rpc.Role) rpc.Methods {
	out := rpc.Methods{}
	for _, m := range pb.Operator_ServiceDesc.Methods {
		out["/"+pb.Operator_ServiceDesc.ServiceName+"/"+m.MethodName] = role
	}
	out[pb.Operator_Seal_FullMethodName] = rpc.Nobody
	return out
}

type operator struct {
	pb.UnimplementedOperatorServer
	caller identity.ID
}

func (o *operator) Status(ctx context.Context, _ *pb.StatusRequest) (*pb.StatusResponse, error) {
	id, err := rpc.PeerID(ctx)
	if err == nil {
		o.caller = id
	}
	return &pb.StatusResponse{Signer: "a"}, nil
}

func (o *operator) Unseal(context.Context, *pb.UnsealRequest) (*pb.UnsealResponse, error) {
	return &pb.UnsealResponse{}, nil
}

func serve(t *testing.T, s *rpc.Server, l net.Listener) *operator {
	t.Helper()
	o := &operator{}
	pb.RegisterOperatorServer(s, o)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return o
}

// servePublic serves anybody all methods, at the address that it answers.
func servePublic(t *testing.T, key rpc.Identity, bounds rpc.Bounds) (addr string) {
	t.Helper()
	s, err := rpc.NewPublicServer(key, table(rpc.Anybody), nil, bounds)
	if err != nil {
		t.Fatal(err)
	}
	l := listen(t)
	serve(t, s, l)
	return l.Addr().String()
}

// reach is a connection of somebody without an identity.
func reach(t *testing.T, want identity.ID, addr string) *grpc.ClientConn {
	t.Helper()
	conn, err := rpc.DialAnonymous(want, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func ask(t *testing.T, conn *grpc.ClientConn, err error) error {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_, err = pb.NewOperatorClient(conn).Status(ctx, &pb.StatusRequest{})
	return err
}

func TestMutualTLS(t *testing.T) {
	server, client, stranger := key(t), key(t), key(t)
	s, err := rpc.NewServer(server, func(id identity.ID) error {
		if id != client.ID() {
			return identity.ErrUnknownPeer
		}
		return nil
	}, table(rpc.Coordinator))
	if err != nil {
		t.Fatal(err)
	}
	l := listen(t)
	o := serve(t, s, l)
	addr := l.Addr().String()
	dialTLS := func(cfg *tls.Config) (*grpc.ClientConn, error) {
		return grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(credentials.NewTLS(cfg)))
	}

	conn, err := rpc.Dial(client, server.ID(), addr)
	if err := ask(t, conn, err); err != nil {
		t.Fatalf("the right client: %v", err)
	}
	if o.caller != client.ID() {
		t.Fatalf("caller is %q", o.caller)
	}
	conn, err = rpc.Dial(stranger, server.ID(), addr)
	if ask(t, conn, err) == nil {
		t.Error("a stranger was served")
	}
	conn, err = rpc.DialAnonymous(server.ID(), addr)
	if ask(t, conn, err) == nil {
		t.Error("a client without a certificate was served")
	}
	conn, err = rpc.Dial(client, stranger.ID(), addr)
	if ask(t, conn, err) == nil {
		t.Error("a server with another key was believed")
	}
	conn, err = grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if ask(t, conn, err) == nil {
		t.Error("plaintext was served")
	}
	old, err := client.ClientTLS(server.ID())
	if err != nil {
		t.Fatal(err)
	}
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	conn, err = dialTLS(old)
	if ask(t, conn, err) == nil {
		t.Error("TLS 1.2 was served")
	}
}

func TestPublicServer(t *testing.T) {
	server, stranger := key(t), key(t)
	addr := servePublic(t, server, rpc.PublicBounds())
	conn, err := rpc.DialAnonymous(server.ID(), addr)
	if err := ask(t, conn, err); err != nil {
		t.Fatal(err)
	}
	conn, err = rpc.DialAnonymous(stranger.ID(), addr)
	if ask(t, conn, err) == nil {
		t.Error("a server with another key was believed")
	}
	if _, err := rpc.NewServer(server, nil, table(rpc.Coordinator)); err == nil {
		t.Error("a mutual server without admit was made")
	}
}

// Who may call what is one table: a method that it denies is not called, and a table
// that does not fit the service does not start.
func TestMethodTable(t *testing.T) {
	server := key(t)
	addr := servePublic(t, server, rpc.PublicBounds())
	conn := reach(t, server.ID(), addr)
	_, err := pb.NewOperatorClient(conn).Seal(t.Context(), &pb.SealRequest{})
	if status.Code(err) != codes.PermissionDenied {
		t.Errorf("a denied method: %v", err)
	}

	change := func(do func(rpc.Methods)) rpc.Methods {
		out := table(rpc.Anybody)
		do(out)
		return out
	}
	for want, methods := range map[string]rpc.Methods{
		"served and not in the table": change(func(m rpc.Methods) { delete(m, pb.Operator_Seal_FullMethodName) }),
		"in the table and not served": change(func(m rpc.Methods) { m["/x/Y"] = rpc.Anybody }),
		`is for "reader", which`:      change(func(m rpc.Methods) { m[pb.Operator_Status_FullMethodName] = rpc.Reader }),
		`is for "owner", which`:       change(func(m rpc.Methods) { m[pb.Operator_Status_FullMethodName] = rpc.Owner }),
		`is for "coordinator", which`: change(func(m rpc.Methods) { m[pb.Operator_Status_FullMethodName] = rpc.Coordinator }),
		`is for "", which`:            change(func(m rpc.Methods) { m[pb.Operator_Status_FullMethodName] = "" }),
	} {
		s, err := rpc.NewPublicServer(server, methods, nil, rpc.PublicBounds())
		if err != nil {
			t.Fatal(err)
		}
		pb.RegisterOperatorServer(s, &operator{})
		if err := s.Serve(listen(t)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestMessageTooLarge(t *testing.T) {
	server := key(t)
	addr := servePublic(t, server, rpc.PublicBounds())
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(credentials.NewTLS(identity.AnonymousTLS(server.ID()))))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, err = pb.NewOperatorClient(conn).Unseal(t.Context(), &pb.UnsealRequest{Passphrase: make([]byte, 2<<20)})
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("2 MiB: %v", err)
	}
}

func TestUnixSocket(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s.sock")
	if _, _, err := rpc.NewUnixServer(path, table(rpc.Owner)); err == nil || !strings.Contains(err.Error(), "chmod 700") {
		t.Fatalf("a directory that others can enter: %v", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	// What a killed process leaves behind: a socket on which nobody answers.
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	if err := left.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := rpc.DialUnix(path); err == nil {
		t.Fatal("a dead socket was dialled")
	}
	s, l, err := rpc.NewUnixServer(path, table(rpc.Owner))
	if err != nil {
		t.Fatal(err)
	}
	serve(t, s, l)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v %v", info.Mode(), err)
	}
	conn, err := rpc.DialUnix(path)
	if err := ask(t, conn, err); err != nil {
		t.Fatal(err)
	}
	if _, _, err := rpc.NewUnixServer(path, table(rpc.Owner)); err == nil || !strings.Contains(err.Error(), "another process has") {
		t.Fatalf("a socket in use was taken over: %v", err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := rpc.NewUnixServer(file, table(rpc.Owner)); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Fatalf("a file was taken for a socket: %v", err)
	}
	if _, err := rpc.DialUnix(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("no socket: %v", err)
	}
}
