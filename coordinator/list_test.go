package coordinator_test

import (
	"fmt"
	"slices"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"coffer/canon"
	pb "coffer/proto/coffer/v1"
)

// Pages and filters together show every intent exactly once, newest first.
func TestList(t *testing.T) {
	t.Parallel()
	w := newFunded(t)
	var want []string
	for n := range 5 {
		id := w.mustSubmit(w.payment(fmt.Sprintf("INV-%d", n), 1))
		want = append([]string{id.String()}, want...)
	}
	list := func(req *pb.ListRequest) (ids []string, more bool) {
		t.Helper()
		reply, err := w.API.List(t.Context(), req)
		w.must(err)
		for _, v := range reply.Intents {
			ids = append(ids, v.Id)
		}
		return ids, reply.More
	}
	var pages []string
	for before, n := "", 0; ; n++ {
		ids, more := list(&pb.ListRequest{Limit: 2, Before: before})
		pages = append(pages, ids...)
		if !more {
			break
		}
		if len(ids) != 2 || n > 3 {
			t.Fatalf("page %d has %d intents", n, len(ids))
		}
		before = ids[1]
	}
	if !slices.Equal(pages, want) {
		t.Errorf("pages %v, want %v", pages, want)
	}
	w.must(w.state("bob", "reject", mustDigest(t, want[0])))
	w.end(mustDigest(t, want[0]))
	for name, c := range map[string]struct {
		req  *pb.ListRequest
		want []string
	}{
		"pending":          {&pb.ListRequest{PendingOnly: true}, want[1:]},
		"failed":           {&pb.ListRequest{Stage: pb.Stage_STAGE_FAILED}, want[:1]},
		"of the wallet":    {&pb.ListRequest{Wallet: w.Record.Name}, want},
		"of another":       {&pb.ListRequest{Wallet: "other"}, nil},
		"asked by alice":   {&pb.ListRequest{Initiator: "alice", Limit: 1}, want[:1]},
		"asked by bob":     {&pb.ListRequest{Initiator: "bob"}, nil},
		"of one reference": {&pb.ListRequest{Reference: "INV-3"}, want[1:2]},
		"of one kind":      {&pb.ListRequest{Kind: "transfer"}, want},
		"of another kind":  {&pb.ListRequest{Kind: "create_wallet"}, nil},
		"long ago":         {&pb.ListRequest{Until: 1}, nil},
		"since long ago":   {&pb.ListRequest{Since: 1}, want},
		"in the future":    {&pb.ListRequest{Since: 1 << 40}, nil},
	} {
		if got, _ := list(c.req); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	if _, err := w.API.List(t.Context(), &pb.ListRequest{Before: "00"}); status.Code(err) != codes.NotFound {
		t.Errorf("a page before an unknown intent: %v", err)
	}
}

func mustDigest(t *testing.T, s string) canon.Digest {
	t.Helper()
	d, err := canon.ParseDigest(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
