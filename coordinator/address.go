package coordinator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"coffer/internal/addressbook"
	"coffer/party"
	pb "coffer/proto/coffer/v1"
)

// where is the host and port at which a signer is called now.
func (c *Coordinator) where(id party.ID) string {
	a, _ := c.addresses.Newest(id) // a book has everybody's
	return a.GRPC
}

// learnAddress takes an address record of whoever handed it on; only the signature of
// the signer that it is about counts.
func (c *Coordinator) learnAddress(record *pb.SignedRecord) error {
	raw, signature, err := addressbook.FromProto(record)
	if err != nil {
		return err
	}
	r, changed, err := c.addresses.Take(raw, signature, time.Now())
	if err != nil || !changed || !r.Moved {
		return err
	}
	c.log.Info("a signer has moved", "signer", r.Signer, "address", r.Address.GRPC, "sequence", r.Address.Sequence)
	for _, s := range c.signers() {
		if s.id == r.Signer {
			s.conn.ResetConnectBackoff() // it is called at its new address at once
		}
	}
	return nil
}

// exchangeAddresses learns the address records that a signer shows and hands it those
// that it lacks: a signer that moved is perhaps known to one that others do not reach.
func (c *Coordinator) exchangeAddresses(ctx context.Context, s *signer, st *pb.StatusResponse) {
	for _, record := range st.Addresses[:min(len(st.Addresses), addressbook.MaxRecords)] {
		if err := c.learnAddress(record); err != nil && !errors.Is(err, addressbook.ErrStale) {
			c.log.Debug("signer shows an address record that cannot be taken", "signer", s.id, "error", err)
		}
	}
	var lacks []*pb.SignedRecord
	for _, r := range c.addresses.Records() {
		has := false
		for _, shown := range st.Addresses {
			has = has || bytes.Equal(shown.GetRaw(), r.Raw)
		}
		if !has {
			lacks = append(lacks, r.ToProto())
		}
	}
	if len(lacks) == 0 {
		return
	}
	ask, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	if _, err := s.api.Introduce(ask, &pb.IntroduceRequest{Addresses: lacks}); err != nil {
		c.log.Debug("signer does not take the others' addresses", "signer", s.id, "error", err)
	}
}

// introduce takes address records that the operator got by another way.
func (c *Coordinator) introduce(req *pb.IntroduceRequest) (*pb.IntroduceResponse, error) {
	if len(req.Addresses) > addressbook.MaxRecords {
		return nil, status.Errorf(codes.InvalidArgument, "addresses: %d, at most %d are taken", len(req.Addresses), addressbook.MaxRecords)
	}
	var errs []error
	for i, record := range req.Addresses {
		if err := c.learnAddress(record); err != nil {
			errs = append(errs, fmt.Errorf("addresses[%d]: %w", i, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, status.Error(codes.FailedPrecondition, err.Error())
	}
	return &pb.IntroduceResponse{}, nil
}
