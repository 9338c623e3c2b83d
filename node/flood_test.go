package node_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"coffer/approval"
	"coffer/authority"
	"coffer/canon"
	"coffer/internal/cluster"
	pb "coffer/proto/coffer/v1"
)

// While one host floods a signer with forged orders, a freeze from another one is on disk
// within seconds; and somebody's orders about intents that nobody was shown write nothing
// into the audit logs, of that signer and of those that it tells.
func TestFreezeDuringAFlood(t *testing.T) {
	w := newWorld(t, cluster.Config{Signer: cluster.TakeOrders})
	f := w.Fixture()
	now := time.Now().Unix()
	sizes := map[string]uint64{}
	for _, m := range w.Members {
		sizes[string(m.ID)] = m.Status().AuditSize
	}
	flood := &pb.ExchangeRequest{Fetch: true}
	for n := range 16 {
		forged := f.OrderRecord(t, approval.Reject, canon.Digest{1}, now, "carol")
		forged.Raw = slices.Repeat([]byte{byte(n + 1)}, 32)
		flood.Records = append(flood.Records, forged.Encode())
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	refused, ended := make(chan bool, 1), make(chan struct{}, 4)
	for range 4 {
		api := w.Members["a"].Orders("127.0.0.1")
		go func() {
			defer func() { ended <- struct{}{} }()
			for ctx.Err() == nil {
				if _, err := api.Exchange(ctx, flood); status.Code(err) == codes.ResourceExhausted {
					select {
					case refused <- true:
					default:
					}
				}
			}
		}()
	}
	select {
	case <-refused:
	case <-time.After(10 * time.Second):
		t.Fatal("nothing of the flood was refused")
	}
	calm := w.Members["a"].Orders("127.0.0.2")
	taken := 0
	for n := range 60 {
		id := canon.Sum(fmt.Append(nil, "never shown ", n))
		if got := w.Members["a"].Hand(calm.Exchange, f.OrderRecord(t, approval.Reject, id, now, "carol")); len(got) == 0 {
			taken++
		} else if !strings.HasPrefix(got[0], authority.CodeLimit) {
			t.Fatal(got)
		}
	}
	if taken < 30 || taken > 35 {
		t.Errorf("%d orders of one person were taken at once", taken)
	}
	begun := time.Now()
	freeze := f.FreezeRecord(t, "alice", authority.ScopeCluster, "", now, 1)
	if got := w.Members["a"].Hand(w.Members["a"].Orders("127.0.0.3").Exchange, freeze); len(got) != 0 {
		t.Fatalf("the freeze: %v", got)
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("the freeze took %s", took)
	}
	stop()
	for range 4 {
		<-ended
	}
	w.frozenAt(freeze.ID(), "a", "b", "c")
	for _, m := range w.Members {
		if grown := m.Status().AuditSize - sizes[string(m.ID)]; grown > 3 {
			t.Errorf("the audit log of %s grew by %d entries", m.ID, grown)
		}
	}
}
