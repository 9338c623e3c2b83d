package node

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"coffer/authority"
	"coffer/authority/exchange"
	"coffer/charter"
	pb "coffer/proto/coffer/v1"
	"coffer/rpc"
)

// Exchange takes the records that a coordinator hands on, and answers those that it lacks.
func (s *service) Exchange(_ context.Context, req *pb.ExchangeRequest) (*pb.ExchangeResponse, error) {
	return s.n.exchange(req)
}

// Exchange takes records from the operator: a file that came by another way.
func (o *operatorService) Exchange(_ context.Context, req *pb.ExchangeRequest) (*pb.ExchangeResponse, error) {
	return o.n.exchange(req)
}

// Freeze makes this signer's own order.
func (o *operatorService) Freeze(ctx context.Context, req *pb.FreezeRequest) (*pb.FreezeResponse, error) {
	r, effective, err := o.n.freeze(ctx, req.Scope, req.Name, req.Reason)
	switch {
	case authority.CodeOf(err) == authority.CodeMalformed, errors.Is(err, errName):
		return nil, status.Error(codes.InvalidArgument, err.Error())
	case authority.CodeOf(err) != "":
		return nil, status.Error(codes.FailedPrecondition, err.Error())
	case err != nil:
		return nil, o.n.grpcError(err)
	}
	return &pb.FreezeResponse{Record: r.Encode(), Effective: effective}, nil
}

// exchange takes records of whom this signer knows. Nobody is believed for bringing them.
func (n *Node) exchange(req *pb.ExchangeRequest) (*pb.ExchangeResponse, error) {
	if err := exchange.CheckRequest(req); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	out, _, err := exchange.Serve(holder{n}, req, nil, time.Now().Unix())
	return n.exchanged(out, err)
}

func (n *Node) exchanged(out *pb.ExchangeResponse, err error) (*pb.ExchangeResponse, error) {
	if err != nil {
		return nil, n.grpcError(err)
	}
	for _, no := range out.Refused {
		n.junk.count("RECORD " + no.Code) // counted: whoever sends junk could fill the disk
	}
	if n.unlisted() {
		return out, nil // its head is nobody's
	}
	if out.Head, out.HeadSignature, err = n.signedHead(); err != nil {
		return nil, n.grpcError(err)
	}
	return out, nil
}

// The endpoint for orders is for anybody, so all that one can take of it is bounded: by
// host and in all, in connections and their time, in requests and their size, in records
// and what it costs to verify them.
var ordersBounds = rpc.Bounds{
	ConnsEach: 8, Conns: 192, VisitsEach: 4, Visits: 32, VisitWithin: 10 * time.Second,
	Message: 320 << 10, Idle: 10 * time.Second, Age: 30 * time.Second,
}

var ordersMethods = rpc.Methods{
	pb.Orders_Exchange_FullMethodName: rpc.Anybody,
}

// ordersService is this signer's own endpoint: it takes what stops something, and says
// what stands, to whoever can reach it. No coordinator stands between.
type ordersService struct {
	pb.UnimplementedOrdersServer
	n     *Node
	front *exchange.Front
}

// Exchange takes freezes and orders about intents, and answers records of any kind.
func (o *ordersService) Exchange(ctx context.Context, req *pb.ExchangeRequest) (*pb.ExchangeResponse, error) {
	out, _, err := o.front.Serve(rpc.Host(ctx), holder{o.n}, req, narrowing, time.Now())
	switch status.Code(err) {
	case codes.ResourceExhausted:
		o.n.junk.count("ORDERS of one address, or of all, too many")
		return nil, err
	case codes.InvalidArgument:
		return nil, err
	default:
		return o.n.exchanged(out, err)
	}
}

// narrowing are the kinds that need no pipeline.
func narrowing(k authority.Kind) bool { return k == authority.KindFreeze || k == authority.KindOrder }

// newOrders is the server of the endpoint for orders.
func (n *Node) newOrders() (*rpc.Server, error) {
	server, err := rpc.NewPublicServer(n.ring, ordersMethods, nil, ordersBounds)
	if err != nil {
		return nil, err
	}
	pb.RegisterOrdersServer(server, &ordersService{n: n, front: exchange.NewFront(n.memory.has)})
	return server, nil
}

// stands is the part of the status that is of the charter, of freezes and of heads.
func (n *Node) stands(c *charter.Charter) (*pb.StatusResponse, error) {
	out := &pb.StatusResponse{}
	for _, h := range n.book.Freezes() {
		f := &pb.FreezeState{
			Id: h.ID[:], Scope: h.Freeze.Scope, Name: h.Freeze.Name, Reason: h.Freeze.Reason, By: h.Freeze.By, Time: h.Freeze.Time,
			HeldBy: h.Receipts.Strings(), Effective: h.Effective,
		}
		out.Freezes = append(out.Freezes, f)
	}
	for _, p := range n.book.Pending() {
		if p.Kind == authority.KindCharter && p.Complete && !p.Fork && p.Version == c.Version+1 {
			out.NextVersion, out.NextSeconds = p.Version, int64(p.Due.Seconds())
		}
	}
	now, own := time.Now(), n.here()
	heads := n.othersHeads()
	for _, id := range n.others {
		if h, ok := heads[id]; ok {
			out.Heads = append(out.Heads, &pb.HeadState{
				Signer: string(id), AgeMs: n.age(id, h, now).Milliseconds(), Agrees: h.head.Agrees(own), CharterVersion: h.head.Version,
			})
		}
	}
	out.Fresh = n.fresh(now).Fresh
	if n.unlisted() {
		return out, nil // its head is nobody's
	}
	var err error
	out.Head, out.HeadSignature, err = n.signedHead()
	return out, err
}
