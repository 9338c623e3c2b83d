package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/netutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"coffer/identity"
	"coffer/internal/crashpoint"
)

const (
	// maxMessage bounds one message: an intent with all its statements is far smaller.
	maxMessage = 1 << 20
	// maxAnswer bounds what a server sends: lists of intents with all that is signed.
	maxAnswer = 16 << 20
	// maxConns bounds the connections of one server, and maxStreams the requests of each:
	// what anybody can open costs file descriptors and memory. A cluster has tens of
	// people and daemons, each with one connection and a few requests.
	maxConns   = 256
	maxStreams = 64
	// A dead peer is noticed after a ping and pingWithin. The latter is generous: on two
	// cores that generate a key together, a live process may not answer for seconds.
	serverPing  = 5 * time.Second
	pingEvery   = 10 * time.Second // gRPC's least for a client
	pingWithin  = 10 * time.Second
	dialWithin  = 3 * time.Second
	reconnectIn = 2 * time.Second
)

// Server is a gRPC server whose methods are checked when it begins to serve.
type Server struct {
	*grpc.Server
	methods map[string]bool
}

// NewServer demands a client certificate whose identity admit accepts, when the client
// connects and again at each call: whoever is admitted no more is so at once, on the
// connections too that it has. methods is the table of full method names that may be called.
func NewServer(key *identity.Key, admit func(identity.ID) error, methods map[string]bool) (*Server, error) {
	if admit == nil {
		return nil, errors.New("rpc: admit is not set: a server for anybody is NewPublicServer")
	}
	return newServer(key, admit, methods)
}

// NewPublicServer serves clients without a certificate: only for services whose
// every change is itself signed. more comes after the limits that every server has, and may narrow them.
func NewPublicServer(key *identity.Key, methods map[string]bool, more ...grpc.ServerOption) (*Server, error) {
	return newServer(key, nil, methods, more...)
}

func newServer(key *identity.Key, admit func(identity.ID) error, methods map[string]bool, more ...grpc.ServerOption) (*Server, error) {
	cfg, err := key.ServerTLS(admit)
	if err != nil {
		return nil, err
	}
	return &Server{Server: grpc.NewServer(options(methods, admit, append(more, grpc.Creds(credentials.NewTLS(cfg)))...)...), methods: methods}, nil
}

func options(methods map[string]bool, admit func(identity.ID) error, more ...grpc.ServerOption) []grpc.ServerOption {
	allowed := func(ctx context.Context, method string) error {
		if !methods[method] {
			return status.Errorf(codes.PermissionDenied, "method %s may not be called here", method)
		}
		if admit == nil {
			return nil
		}
		id, err := PeerID(ctx)
		if err == nil {
			err = admit(id)
		}
		if err != nil {
			return status.Error(codes.PermissionDenied, err.Error())
		}
		return nil
	}
	return append([]grpc.ServerOption{
		grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxAnswer), grpc.MaxConcurrentStreams(maxStreams),
		grpc.MaxHeaderListSize(16 << 10), grpc.ConnectionTimeout(dialWithin),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: serverPing, Timeout: pingWithin}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingEvery / 2, PermitWithoutStream: true}),
		grpc.UnaryInterceptor(func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			if err := allowed(ctx, info.FullMethod); err != nil {
				return nil, err
			}
			reply, err := next(ctx, req)
			crashpoint.Hit("rpc.answer:" + info.FullMethod)
			return reply, err
		}),
		grpc.StreamInterceptor(func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			if err := allowed(stream.Context(), info.FullMethod); err != nil {
				return err
			}
			if crashpoint.Enabled {
				stream = crashStream{stream, info.FullMethod}
			}
			return next(srv, stream)
		}),
	}, more...)
}

// Serve checks the table of methods against what is registered, and serves at most
// maxConns connections at once until Stop; more wait to be accepted. After Stop it
// returns nil.
func (s *Server) Serve(l net.Listener) error {
	if err := s.checkMethods(); err != nil {
		return errors.Join(err, l.Close())
	}
	if err := s.Server.Serve(netutil.LimitListener(l, maxConns)); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	}
	return nil
}

func (s *Server) checkMethods() error {
	served := map[string]bool{}
	for service, info := range s.GetServiceInfo() {
		for _, m := range info.Methods {
			served["/"+service+"/"+m.Name] = true
		}
	}
	var wrong []string
	for m := range served {
		if _, ok := s.methods[m]; !ok {
			wrong = append(wrong, m+" is served and not in the table")
		}
	}
	for m := range s.methods {
		if !served[m] {
			wrong = append(wrong, m+" is in the table and not served")
		}
	}
	if len(wrong) > 0 {
		slices.Sort(wrong)
		return fmt.Errorf("rpc: who may call what does not fit the service: %s", strings.Join(wrong, "; "))
	}
	return nil
}

// PeerID is the identity that the caller of a method proved.
func PeerID(ctx context.Context) (identity.ID, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return "", errors.New("rpc: no peer")
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return "", errors.New("rpc: the caller came without TLS")
	}
	return identity.PeerID(info.State)
}

// Dial connects, when first used, to the server whose identity is want, and proves key to it.
func Dial(key *identity.Key, want identity.ID, address string) (*grpc.ClientConn, error) {
	cfg, err := key.ClientTLS(want)
	if err != nil {
		return nil, err
	}
	return dial(address, cfg)
}

// DialAnonymous connects, when first used, to the server whose identity is want.
func DialAnonymous(want identity.ID, address string) (*grpc.ClientConn, error) {
	return dial(address, identity.AnonymousTLS(want))
}

// DialWhere is Dial for a server that may move: every connection begins with asking
// where it is. After a move, ResetConnectBackoff on the connection tries at once.
func DialWhere(key *identity.Key, want identity.ID, where func() string) (*grpc.ClientConn, error) {
	cfg, err := key.ClientTLS(want)
	if err != nil {
		return nil, err
	}
	return grpc.NewClient("passthrough:///"+string(want), append(clientOptions(),
		grpc.WithTransportCredentials(credentials.NewTLS(cfg)),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", where())
		}))...)
}

func dial(address string, cfg *tls.Config) (*grpc.ClientConn, error) {
	if _, _, err := net.SplitHostPort(address); err != nil {
		return nil, fmt.Errorf("address %q is not host:port: %w", address, err)
	}
	return grpc.NewClient("passthrough:///"+address, append(clientOptions(), grpc.WithTransportCredentials(credentials.NewTLS(cfg)))...)
}

func clientOptions() []grpc.DialOption {
	return append(crashDialOptions(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer), grpc.MaxCallSendMsgSize(maxMessage)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingEvery, Timeout: pingWithin, PermitWithoutStream: true}),
		grpc.WithConnectParams(grpc.ConnectParams{
			MinConnectTimeout: dialWithin,
			Backoff:           backoffConfig,
		}),
		// No proxy and no service configuration from DNS: the address is what the charter says.
		grpc.WithNoProxy(), grpc.WithDisableServiceConfig(),
	)
}
