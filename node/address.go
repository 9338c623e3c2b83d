package node

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"coffer/audit"
	"coffer/internal/addressbook"
	"coffer/party"
	pb "coffer/proto/coffer/v1"
)

// gossipEvery is how often all peers are told all addresses, though nothing is new:
// what was lost or refused for coming too often is made good.
const gossipEvery = time.Minute

// openAddresses reads where the others are, and signs where this signer is now if that
// has changed: moving it is a restart with other settings, and no ceremony.
func (n *Node) openAddresses() error {
	var own *addressbook.Own
	if !n.unlisted() {
		own = &addressbook.Own{Key: n.key, At: n.settings.announced()}
	}
	var err error
	if n.addresses, err = addressbook.Open(n.db, n.inForce(), n.cards(), own); err != nil {
		return err
	}
	if me, _ := n.addresses.Newest(n.self); me.Sequence > 1 {
		n.log.Info("this signer is reached at its new address", "sequence", me.Sequence, "peers", me.P2P, "coordinator", me.GRPC, "orders", me.Orders)
	}
	return nil
}

// learn takes an address record of whoever handed it on; only the signature of the
// signer that it is about counts.
func (n *Node) learn(raw, signature []byte) (addressbook.Record, error) {
	r, changed, err := n.addresses.Take(raw, signature, time.Now())
	if err != nil || !changed {
		return r, err
	}
	defer n.gossip(n.others...)
	if !r.Moved {
		return r, nil // its card says the same; only this can be handed on alone
	}
	a := r.Address
	n.log.Info("a signer has moved", "which", string(r.Signer), "sequence", a.Sequence, "peers", a.P2P, "coordinator", a.GRPC, "orders", a.Orders)
	err = n.record(audit.Event{Code: "ADDRESS", Subject: string(r.Signer), Detail: map[string]string{
		"sequence": strconv.FormatUint(a.Sequence, 10), "peers": strings.Join(a.P2P, " "), "coordinator": a.GRPC, "orders": a.Orders,
	}})
	if err != nil {
		return r, err
	}
	if r.Signer != n.self {
		if err := n.link.SetAddrs(r.Signer, a.P2P); err != nil {
			return r, err
		}
	}
	return r, nil
}

// gossip tells peers where everybody is. A frame that is lost comes again in a minute.
func (n *Node) gossip(to ...party.ID) {
	frame := addressbook.Gossip(n.addresses.Records())
	for _, p := range to {
		if !n.link.Connected(p) {
			continue // it is told when it comes
		}
		if err := n.link.Send(p, frame); err != nil {
			n.log.Debug("cannot tell the addresses", "peer", string(p), "error", err)
		}
	}
}

// hearAddresses takes what a peer tells of addresses.
func (n *Node) hearAddresses(from party.ID, data []byte) {
	told, err := addressbook.ParseGossip(data)
	if err != nil {
		n.junk.count("FRAME of " + string(from)) // counted, not logged: a peer could fill the disk
		return
	}
	for _, r := range told {
		switch _, err := n.learn(r.Raw, r.Signature); {
		case errors.Is(err, addressbook.ErrStale):
			// Peers need not know the newest; this one will hear of it.
		case err != nil:
			n.junk.count("ADDRESS of " + string(from))
		}
	}
}

// introduce takes newer address records, from the coordinator or the operator.
func (n *Node) introduce(req *pb.IntroduceRequest) (*pb.IntroduceResponse, error) {
	if len(req.Addresses) > addressbook.MaxRecords {
		return nil, status.Errorf(codes.InvalidArgument, "addresses: %d, at most %d are taken", len(req.Addresses), addressbook.MaxRecords)
	}
	var errs []error
	for i, record := range req.Addresses {
		raw, signature, err := addressbook.FromProto(record)
		if err == nil {
			_, err = n.learn(raw, signature)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("addresses[%d]: %w", i, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, status.Error(codes.FailedPrecondition, err.Error())
	}
	return &pb.IntroduceResponse{}, nil
}

// Introduce takes what the coordinator hands on. A signer that runs has a charter with
// all signatures: only the addresses matter to it.
func (s *service) Introduce(_ context.Context, req *pb.IntroduceRequest) (*pb.IntroduceResponse, error) {
	return s.n.introduce(req)
}

// Introduce takes address records that the operator got by another way.
func (o *operatorService) Introduce(_ context.Context, req *pb.IntroduceRequest) (*pb.IntroduceResponse, error) {
	return o.n.introduce(req)
}
