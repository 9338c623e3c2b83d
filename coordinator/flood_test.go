package coordinator_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "coffer/proto/coffer/v1"
)

// A flood of large exchanges from one host is refused, and somebody on another host is
// answered meanwhile. What such requests hold is bounded by package rpc.
func TestExchangeDuringAFlood(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	from := func(host string) pb.CoordinatorClient {
		return pb.NewCoordinatorClient(w.DialFrom(host, w.DeskKey.ID(), w.Address))
	}
	ctx, stop := context.WithCancel(t.Context())
	var refused atomic.Int32
	ended := make(chan struct{})
	const conns, streams = 3, 20
	for range conns {
		api := from("127.0.0.2")
		for range streams {
			go func() {
				defer func() { ended <- struct{}{} }()
				for ctx.Err() == nil {
					if _, err := api.Exchange(ctx, &pb.ExchangeRequest{Fetch: true, Records: [][]byte{make([]byte, 400<<10)}}); status.Code(err) == codes.ResourceExhausted {
						refused.Add(1)
					}
				}
			}()
		}
	}
	w.Eventually("the flood is refused", func() bool { return refused.Load() > conns*streams })
	calm, end := context.WithTimeout(t.Context(), 5*time.Second)
	defer end()
	api := from("127.0.0.3")
	for {
		_, err := api.Exchange(calm, &pb.ExchangeRequest{Fetch: true})
		if err == nil {
			break
		}
		// A place may have been taken just then.
		if status.Code(err) != codes.ResourceExhausted {
			t.Errorf("somebody else: %v", err)
			break
		}
	}
	stop()
	for range conns * streams {
		<-ended
	}
}
