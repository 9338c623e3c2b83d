package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"coffer/identity"
)

const (
	// maxMessage bounds one message: an intent with all its statements is far smaller.
	maxMessage = 1 << 20
	// maxAnswer bounds what a server sends: lists of intents with all that is signed.
	maxAnswer = 16 << 20
	// maxConns bounds the connections of one server, connsEach those of one host and
	// maxStreams the requests of each: what anybody can open costs file descriptors and
	// memory. A cluster has tens of people and daemons, each with one connection and a few
	// requests; several may come from one address.
	maxConns   = 256
	connsEach  = 64
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
	gate  *gate
	conns [2]int // of one host, and in all
}

// Identity is what a server proves: an identity.Key, or an identity.Ring.
type Identity interface {
	ServerTLS(admit func(identity.ID) error) (*tls.Config, error)
}

// NewServer demands a client certificate whose identity admit accepts, when it connects
// and at each call. All its methods are of the role Coordinator.
func NewServer(key Identity, admit func(identity.ID) error, methods Methods) (*Server, error) {
	if admit == nil {
		return nil, errors.New("rpc: admit is not set: a server for anybody is NewPublicServer")
	}
	return newServer(key, admit, &gate{methods: methods, roles: []Role{Coordinator}, authorize: func(_ context.Context, caller identity.ID, _ []byte, _ Role) (string, error) {
		if err := admit(caller); err != nil {
			return "", status.Error(codes.PermissionDenied, err.Error())
		}
		return "", nil
	}})
}

// NewPublicServer takes connections of anybody, with or without a certificate.
// authorize decides on methods that are not for anybody; without it there are none.
func NewPublicServer(key Identity, methods Methods, authorize Authorize, bounds Bounds) (*Server, error) {
	g := &gate{methods: methods, roles: []Role{Anybody}, authorize: authorize}
	if authorize != nil {
		g.roles = append(g.roles, Reader, Initiator, Approver)
	}
	v := newVisits(bounds.VisitsEach, bounds.Visits, bounds.VisitWithin)
	more := []grpc.ServerOption{grpc.InTapHandle(v.tap), grpc.MaxRecvMsgSize(bounds.Message), grpc.KeepaliveParams(keepalive.ServerParameters{
		Time: serverPing, Timeout: pingWithin, MaxConnectionIdle: bounds.Idle, MaxConnectionAge: bounds.Age, MaxConnectionAgeGrace: bounds.VisitWithin,
	})}
	s, err := newServer(key, nil, g, more...)
	if err != nil {
		return nil, err
	}
	s.conns = [2]int{bounds.ConnsEach, bounds.Conns}
	return s, nil
}

// Bounds is all that one can take of a server that anybody can reach: connections and
// their time, requests of strangers and their size. Visits is what strangers have under
// way at once, on all their connections; each of them holds one message and one answer.
type Bounds struct {
	ConnsEach, Conns   int // of one host, and in all
	VisitsEach, Visits int
	VisitWithin        time.Duration
	Message            int           // bytes of a request
	Idle, Age          time.Duration // after which a connection ends; 0: never
}

// PublicBounds are for a server of people and services, of whom most are known.
func PublicBounds() Bounds {
	return Bounds{
		ConnsEach: connsEach, Conns: maxConns, VisitsEach: 16, Visits: 64, VisitWithin: 10 * time.Second,
		Message: maxMessage, Idle: 2 * time.Minute,
	}
}

func newServer(key Identity, admit func(identity.ID) error, g *gate, more ...grpc.ServerOption) (*Server, error) {
	cfg, err := key.ServerTLS(admit)
	if err != nil {
		return nil, err
	}
	return &Server{Server: grpc.NewServer(options(g, append(more, grpc.Creds(credentials.NewTLS(cfg)))...)...), gate: g, conns: [2]int{connsEach, maxConns}}, nil
}

func options(g *gate, more ...grpc.ServerOption) []grpc.ServerOption {
	return append([]grpc.ServerOption{
		grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxAnswer), grpc.MaxConcurrentStreams(maxStreams),
		grpc.MaxHeaderListSize(maxHeaders), grpc.ConnectionTimeout(dialWithin),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: serverPing, Timeout: pingWithin}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingEvery / 2, PermitWithoutStream: true}),
		grpc.UnaryInterceptor(g.unary), grpc.StreamInterceptor(g.stream),
	}, more...)
}

// Serve checks the table of methods against what is registered, and serves a bounded
// number of connections at once until Stop. After Stop it returns nil.
func (s *Server) Serve(l net.Listener) error {
	if err := s.gate.check(s.GetServiceInfo()); err != nil {
		return errors.Join(err, l.Close())
	}
	if err := s.Server.Serve(newCrowd(l, s.conns[0], s.conns[1])); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	}
	return nil
}

var errNoCertificate = errors.New("the caller showed no certificate")

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
	if len(info.State.PeerCertificates) == 0 {
		return "", errNoCertificate
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

// Grants is what a person or a service calls a coordinator with: a key that the grants
// are of, and at each call a grant.
type Grants interface {
	Key() *identity.Key
	Grant(ctx context.Context) ([]byte, error)
}

// DialGranted is Dial with a grant attached to each call but those of the methods that
// are for anybody: whoever has no grant yet calls these.
func DialGranted(g Grants, want identity.ID, address string, anybody ...string) (*grpc.ClientConn, error) {
	cfg, err := g.Key().ClientTLS(want)
	if err != nil {
		return nil, err
	}
	return dial(address, cfg, grpc.WithPerRPCCredentials(perCall{g, anybody}))
}

type perCall struct {
	grants  Grants
	anybody []string
}

func (p perCall) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	if info, ok := credentials.RequestInfoFromContext(ctx); ok && slices.Contains(p.anybody, info.Method) {
		return nil, nil
	}
	grant, err := p.grants.Grant(ctx)
	if err != nil {
		return nil, status.Error(codes.Unauthenticated, err.Error())
	}
	return map[string]string{grantHeader: string(grant)}, nil
}

func (perCall) RequireTransportSecurity() bool { return true }

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

func dial(address string, cfg *tls.Config, more ...grpc.DialOption) (*grpc.ClientConn, error) {
	if _, _, err := net.SplitHostPort(address); err != nil {
		return nil, fmt.Errorf("address %q is not host:port: %w", address, err)
	}
	return grpc.NewClient("passthrough:///"+address, append(append(clientOptions(), grpc.WithTransportCredentials(credentials.NewTLS(cfg))), more...)...)
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
