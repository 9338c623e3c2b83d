package rpc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"coffer/identity"
	"coffer/internal/crashpoint"
)

// Role is who may call a method.
type Role string

const (
	// Nobody: the method is served by none of this version.
	Nobody Role = "nobody"
	// Anybody: what is handed in is signed by itself, and what is answered is no secret.
	Anybody Role = "anybody"
	// Owner is whoever the machine lets open the daemon's socket: its user, and root.
	Owner Role = "owner"
	// Coordinator is a coordinator of the charter in force, by its TLS certificate.
	Coordinator Role = "coordinator"
	// Reader, Initiator and Approver are people and services of the charter in force, by
	// a grant (package access).
	Reader    Role = "reader"
	Initiator Role = "initiator"
	Approver  Role = "approver"
)

// Methods is the table of who may call what, by full method name.
type Methods map[string]Role

// Authorize says who calls, or refuses with a status: caller is the identity of the
// connection's certificate, "" without one, and grant what came with the call, nil
// without one. It is asked for every method that is not for anybody.
type Authorize func(ctx context.Context, caller identity.ID, grant []byte, role Role) (name string, err error)

const (
	// maxHeaders leaves room for a grant in base64; package access bounds it to 16 KiB.
	maxHeaders  = 32 << 10
	grantHeader = "coffer-access-bin"
	// recheckEvery is how soon a stream ends after its caller was removed from the charter.
	recheckEvery = time.Second
)

type callerKey struct{}

// Caller is the name in the charter that the grant of this call is of, or "".
func Caller(ctx context.Context) string {
	name, _ := ctx.Value(callerKey{}).(string)
	return name
}

// gate is one server's table with what it can tell about its callers.
type gate struct {
	methods   Methods
	roles     []Role // that this kind of server can tell
	authorize Authorize
}

// pass is asked at each call, and again and again while a stream lasts: whoever is
// removed from the charter is removed from the API, not only from its front door.
func (g *gate) pass(ctx context.Context, method string) (string, error) {
	role, ok := g.methods[method]
	if !ok || role == Nobody || !slices.Contains(g.roles, role) {
		return "", status.Errorf(codes.PermissionDenied, "method %s may not be called here", method)
	}
	if g.authorize == nil || role == Anybody {
		return "", nil
	}
	caller, err := PeerID(ctx)
	if err != nil && !errors.Is(err, errNoCertificate) {
		return "", status.Error(codes.Unauthenticated, err.Error())
	}
	var grant []byte
	if md, ok := metadata.FromIncomingContext(ctx); ok {
		switch all := md.Get(grantHeader); len(all) {
		case 0:
		case 1:
			grant = []byte(all[0])
		default:
			return "", status.Errorf(codes.Unauthenticated, "%d grants came with the call, want 1", len(all))
		}
	}
	name, err := g.authorize(ctx, caller, grant, role)
	introduce(ctx, err == nil)
	return name, err
}

func (g *gate) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	name, err := g.pass(ctx, info.FullMethod)
	if err != nil {
		return nil, err
	}
	reply, err := next(context.WithValue(ctx, callerKey{}, name), req)
	crashpoint.Hit("rpc.answer:" + info.FullMethod)
	return reply, err
}

func (g *gate) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	name, err := g.pass(stream.Context(), info.FullMethod)
	if err != nil {
		return err
	}
	ctx, end := context.WithCancelCause(context.WithValue(stream.Context(), callerKey{}, name))
	defer end(nil)
	if g.authorize != nil && g.methods[info.FullMethod] != Anybody {
		go g.recheck(ctx, info.FullMethod, end)
	}
	err = next(srv, &gatedStream{ServerStream: stream, ctx: ctx, method: info.FullMethod})
	var refused *refusal
	if errors.As(context.Cause(ctx), &refused) {
		return refused.err
	}
	return err
}

type refusal struct{ err error }

func (r *refusal) Error() string { return r.err.Error() }

func (g *gate) recheck(ctx context.Context, method string, end context.CancelCauseFunc) {
	tick := time.NewTicker(recheckEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if _, err := g.pass(ctx, method); err != nil {
				end(&refusal{err})
				return
			}
		}
	}
}

// gatedStream tells its handler, by the context, that the caller may no longer listen,
// and sends nothing from then on.
type gatedStream struct {
	grpc.ServerStream
	ctx    context.Context
	method string
}

func (s *gatedStream) Context() context.Context { return s.ctx }

func (s *gatedStream) SendMsg(m any) error {
	if err := s.ctx.Err(); err != nil {
		return status.FromContextError(err).Err()
	}
	crashpoint.Hit("rpc.send:" + s.method)
	err := s.ServerStream.SendMsg(m)
	crashpoint.Hit("rpc.sent:" + s.method)
	return err
}

// check compares the table with what is registered. Who may call what is written down
// once: a method that is not in the table, or has a role that this kind of server
// cannot tell, does not start.
func (g *gate) check(served map[string]grpc.ServiceInfo) error {
	methods := map[string]bool{}
	for service, info := range served {
		for _, m := range info.Methods {
			methods["/"+service+"/"+m.Name] = true
		}
	}
	var wrong []string
	for m := range methods {
		if _, ok := g.methods[m]; !ok {
			wrong = append(wrong, m+" is served and not in the table")
		}
	}
	for m, role := range g.methods {
		if !methods[m] {
			wrong = append(wrong, m+" is in the table and not served")
		}
		if role != Nobody && !slices.Contains(g.roles, role) {
			wrong = append(wrong, fmt.Sprintf("%s is for %q, which this server cannot tell", m, string(role)))
		}
	}
	if len(wrong) > 0 {
		slices.Sort(wrong)
		return fmt.Errorf("rpc: who may call what does not fit the service: %s", strings.Join(wrong, "; "))
	}
	return nil
}
