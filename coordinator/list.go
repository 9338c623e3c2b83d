package coordinator

import (
	"context"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"coffer/intent"
	pb "coffer/proto/coffer/v1"
)

const (
	// pageLength is how many intents a page has when the caller does not say.
	pageLength = 100
	maxPage    = 1000
	// maxPageSize keeps a page of large intents below what a client takes.
	maxPageSize = 8 << 20
)

// List answers one page of intents, newest first. The caller verifies every one, so
// the filters only spare it the others.
func (s *service) List(_ context.Context, req *pb.ListRequest) (*pb.ListResponse, error) {
	limit := int(min(req.Limit, maxPage))
	if limit == 0 {
		limit = pageLength
	}
	all, err := s.c.items.all()
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	if req.Before != "" {
		at := -1
		for n := range all {
			if all[n].ID.String() == strings.ToLower(req.Before) {
				at = n
			}
		}
		if at < 0 {
			return nil, status.Errorf(codes.NotFound, "no such intent: %s", req.Before)
		}
		all = all[at+1:]
	}
	out := &pb.ListResponse{}
	size := 0
	for n := range all {
		fit, err := fits(&all[n], req)
		if err != nil {
			return nil, status.Error(codes.Internal, err.Error())
		}
		if !fit {
			continue
		}
		view, err := s.view(&all[n])
		if err != nil {
			return nil, err
		}
		size += proto.Size(view)
		if len(out.Intents) == limit || len(out.Intents) > 0 && size > maxPageSize {
			out.More = true
			break
		}
		out.Intents = append(out.Intents, view)
	}
	return out, nil
}

func fits(it *item, req *pb.ListRequest) (bool, error) {
	created := time.UnixMilli(it.Created).Unix()
	if req.PendingOnly && it.ended() || req.Stage != pb.Stage_STAGE_UNSPECIFIED && req.Stage != it.Stage ||
		req.Since != 0 && created < req.Since || req.Until != 0 && created > req.Until {
		return false, nil
	}
	if req.Wallet == "" && req.Initiator == "" && req.Reference == "" && req.Kind == "" {
		return true, nil
	}
	i, err := intent.Parse(it.Intent.Raw)
	if err != nil {
		return false, err
	}
	same := func(want, is string) bool { return want == "" || want == is }
	return same(req.Wallet, i.Wallet) && same(req.Initiator, i.Initiator) && same(req.Reference, i.Reference) && same(req.Kind, string(i.Kind)), nil
}
