package rpc_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"coffer/identity"
	pb "coffer/proto/coffer/v1"
	"coffer/rpc"
)

// from dials from an address of this machine.
func from(host string) func(context.Context, string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(host)}}
	return func(ctx context.Context, addr string) (net.Conn, error) { return d.DialContext(ctx, "tcp", addr) }
}

func anonymous(t *testing.T, want identity.ID, addr, host string) pb.OperatorClient {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(credentials.NewTLS(identity.AnonymousTLS(want))), grpc.WithContextDialer(from(host)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return pb.NewOperatorClient(conn)
}

// Hundreds of idle connections of one host keep nobody out, on another host or the same.
func TestIdleConnectionsKeepNobodyOut(t *testing.T) {
	server := key(t)
	addr := servePublic(t, server, rpc.PublicBounds())
	var ended atomic.Int32
	for range 300 {
		raw, err := from("127.0.0.2")(t.Context(), addr)
		if err != nil {
			t.Fatal(err)
		}
		cfg := identity.AnonymousTLS(server.ID())
		cfg.NextProtos = []string{"h2"}
		conn := tls.Client(raw, cfg)
		t.Cleanup(func() { _ = conn.Close() })
		if err := conn.HandshakeContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		// The server ends connections that do not begin HTTP/2.
		if _, err := conn.Write([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")); err != nil {
			t.Fatal(err)
		}
		go func() {
			_, _ = io.Copy(io.Discard, conn)
			ended.Add(1)
		}()
	}
	for deadline := time.Now().Add(10 * time.Second); ended.Load() < 300-64; <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d of 300 connections of one host were ended", ended.Load())
		}
	}
	for _, host := range []string{"127.0.0.1", "127.0.0.2"} {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if _, err := anonymous(t, server.ID(), addr, host).Status(ctx, &pb.StatusRequest{}); err != nil {
			t.Errorf("somebody on %s: %v", host, err)
		}
	}
}

// slow counts the bytes of the requests that it holds.
type slow struct {
	pb.UnimplementedOperatorServer
	hold       chan struct{}
	held, most atomic.Int64
}

func (s *slow) Unseal(ctx context.Context, req *pb.UnsealRequest) (*pb.UnsealResponse, error) {
	now := s.held.Add(int64(len(req.Passphrase)))
	defer s.held.Add(-int64(len(req.Passphrase)))
	for {
		if most := s.most.Load(); now <= most || s.most.CompareAndSwap(most, now) {
			break
		}
	}
	select {
	case <-s.hold:
	case <-ctx.Done():
	}
	return &pb.UnsealResponse{}, nil
}

func (s *slow) Status(context.Context, *pb.StatusRequest) (*pb.StatusResponse, error) {
	return &pb.StatusResponse{Signer: "a"}, nil
}

// What the requests of strangers hold in memory is bounded, however many they send on
// however many connections; who comes from elsewhere is answered meanwhile.
func TestRequestsOfStrangersAreBounded(t *testing.T) {
	server := key(t)
	s, err := rpc.NewPublicServer(server, table(rpc.Anybody), nil, rpc.PublicBounds())
	if err != nil {
		t.Fatal(err)
	}
	service := &slow{hold: make(chan struct{})}
	pb.RegisterOperatorServer(s, service)
	l := listen(t)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() { s.Stop(); <-done })
	const size = 900 << 10
	var refused atomic.Int32
	var flood sync.WaitGroup
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	for range 4 {
		api := anonymous(t, server.ID(), l.Addr().String(), "127.0.0.2")
		for range 30 {
			flood.Go(func() {
				if _, err := api.Unseal(ctx, &pb.UnsealRequest{Passphrase: make([]byte, size)}); status.Code(err) == codes.ResourceExhausted {
					refused.Add(1)
				}
			})
		}
	}
	for refused.Load() < 4*30-16 {
		select {
		case <-ctx.Done():
			t.Fatalf("%d of 120 requests were refused", refused.Load())
		case <-time.After(time.Millisecond):
		}
	}
	if _, err := anonymous(t, server.ID(), l.Addr().String(), "127.0.0.1").Status(ctx, &pb.StatusRequest{}); err != nil {
		t.Errorf("somebody else: %v", err)
	}
	close(service.hold)
	flood.Wait()
	if most := service.most.Load(); most == 0 || most > 16*size {
		t.Errorf("%d bytes were held", most)
	}
}
