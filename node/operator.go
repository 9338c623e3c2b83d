package node

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"coffer/audit"
	"coffer/engine"
	"coffer/keystore"
	pb "coffer/proto/coffer/v1"
)

// operatorService answers this signer's own operator, on the Unix socket.
type operatorService struct {
	pb.UnimplementedOperatorServer
	n *Node
}

func (o *operatorService) Status(context.Context, *pb.StatusRequest) (*pb.StatusResponse, error) {
	return o.n.status()
}

func (o *operatorService) Unseal(ctx context.Context, req *pb.UnsealRequest) (*pb.UnsealResponse, error) {
	if len(req.Passphrase) > 1024 {
		return nil, status.Error(codes.InvalidArgument, "passphrase: over 1024 bytes")
	}
	err := o.n.unseal(ctx, req.Passphrase)
	clear(req.Passphrase)
	switch {
	case errors.Is(err, keystore.ErrWrongPassphrase):
		return nil, status.Error(codes.PermissionDenied, err.Error())
	case err != nil:
		return nil, o.n.grpcError(err)
	}
	return &pb.UnsealResponse{}, nil
}

func (o *operatorService) Seal(ctx context.Context, _ *pb.SealRequest) (*pb.SealResponse, error) {
	if err := o.n.seal(ctx); err != nil {
		return nil, o.n.grpcError(err)
	}
	return &pb.SealResponse{}, nil
}

// unseal opens the wrap key and gives it to the engines. The passphrase is not kept.
func (n *Node) unseal(ctx context.Context, passphrase []byte) error {
	key, err := keystore.UnlockSeal(n.cfg.Dir.SealFile(), passphrase)
	if err != nil {
		if auditErr := n.record(audit.Event{Code: "UNSEAL_FAILED"}); auditErr != nil {
			return auditErr
		}
		return err
	}
	if err := n.record(audit.Event{Code: "UNSEAL"}); err != nil {
		key.Wipe()
		return err
	}
	err = n.do(ctx, func() {
		if n.loop.wrap != nil { // it was unsealed before; the workers have copies
			n.loop.wrap.Wipe()
		}
		n.loop.wrap, n.loop.rest = key, time.Time{}
		n.setSealed(false)
		n.searchPrimes()
	})
	if err != nil {
		key.Wipe()
	}
	return err
}

// seal forgets the wrap key and ends whatever needs it. It does so even if it cannot
// be written down: sealing only narrows what this signer does.
func (n *Node) seal(ctx context.Context) error {
	return errors.Join(n.record(audit.Event{Code: "SEAL"}), n.do(ctx, func() {
		n.forget(&engine.Fault{Code: "SEALED", Text: "the operator sealed this signer"})
		n.setSealed(true)
		n.tellSealed()
	}))
}

func (n *Node) setSealed(v bool) {
	n.mu.Lock()
	n.sealed = v
	n.mu.Unlock()
	n.log.Info("seal changed", "sealed", v)
}

func (n *Node) isSealed() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.sealed
}
