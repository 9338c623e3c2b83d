package exchange_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"coffer/approval"
	"coffer/authority"
	"coffer/authority/exchange"
	"coffer/canon"
	"coffer/charter"
	pb "coffer/proto/coffer/v1"
)

// counted is a book that counts what it is asked to take.
type counted struct {
	*authority.Ledger
	added int
}

func (c *counted) Add(r authority.Record, now int64) ([]authority.Event, error) {
	c.added++
	return c.Ledger.Add(r, now)
}

func (c *counted) History() []*charter.Charter { return c.Ledger.History() }

type front struct {
	*pair
	*exchange.Front
	book *counted
	at   time.Time
}

func newFront(t *testing.T) *front {
	t.Helper()
	p := newPair(t)
	return &front{p, exchange.NewFront(func(canon.Digest) bool { return false }), &counted{Ledger: p.away}, time.Unix(now, 0)}
}

func (f *front) hand(host string, list ...authority.Record) (*pb.ExchangeResponse, error) {
	req := &pb.ExchangeRequest{}
	for _, r := range list {
		req.Records = append(req.Records, r.Encode())
	}
	reply, _, err := f.Front.Serve(host, f.book, req, nil, f.at)
	return reply, err
}

func (f *front) order(person string, n byte) authority.Record {
	return f.OrderRecord(f.t, approval.Reject, canon.Digest{n, 1}, now, person)
}

// A request is not looked at behind its first forged record, which never reaches the
// book; it costs its host so much that nothing of it is heard soon, and nobody else.
func TestFrontStopsAtForgeries(t *testing.T) {
	f := newFront(t)
	var list []authority.Record
	for n := range byte(15) {
		forged := f.order("alice", n)
		forged.Raw = bytes.Repeat([]byte{n + 1}, 32)
		list = append(list, forged)
	}
	list = append(list, f.freeze("bob", 1))
	reply, err := f.hand("flood", list...)
	if err != nil || len(reply.Refused) != 16 || f.book.added != 0 {
		t.Fatalf("%v, %d refused, %d asked of the book", err, len(reply.GetRefused()), f.book.added)
	}
	tries := 1
	for ; err == nil && tries < 1000; tries++ {
		_, err = f.hand("flood", list...)
	}
	if status.Code(err) != codes.ResourceExhausted || tries > 20 {
		t.Errorf("%d requests of forged records, then %v", tries, err)
	}
	if reply, err := f.hand("calm", f.freeze("bob", 1)); err != nil || len(reply.Refused) != 0 || !f.away.Frozen().Any() {
		t.Errorf("a freeze of somebody else: %v, %v", reply, err)
	}
}

// What one request brings is bounded in number and in signatures.
func TestFrontBounds(t *testing.T) {
	f := newFront(t)
	var list []authority.Record
	for n := range byte(exchange.MaxHanded + 1) {
		list = append(list, f.freeze("bob", n))
	}
	if _, err := f.hand("a", list...); status.Code(err) != codes.InvalidArgument {
		t.Errorf("%d records: %v", len(list), err)
	}
	many := func(n byte) authority.Record {
		r := f.freeze("bob", n)
		s := r.Statements[0]
		r.Statements = nil
		for n := range 64 {
			r.Statements = append(r.Statements, approval.Signed{Raw: fmt.Append(nil, n), Signature: s.Signature})
		}
		return r
	}
	if _, err := f.hand("a", many(1), many(2), many(3)); status.Code(err) != codes.InvalidArgument {
		t.Errorf("192 signatures: %v", err)
	}
	var b exchange.Batch
	took := 0
	for b.Add(many(byte(took))) {
		took++
	}
	if took != 2 || len(b.Records) != 2 {
		t.Errorf("a batch has %d records", took)
	}
	if f.book.added != 0 {
		t.Errorf("%d were asked of the book", f.book.added)
	}
}

// One person's orders that are news are bounded in time, from whatever host; the same
// again costs nothing, and nobody else's wait for it.
func TestFrontBoundsOrdersOfAPerson(t *testing.T) {
	f := newFront(t)
	taken := func(person string, from, to byte) (n int) {
		for i := from; i < to; i++ {
			reply, err := f.hand(fmt.Sprint("host ", i), f.order(person, i))
			if err != nil {
				t.Fatal(err)
			}
			if len(reply.Refused) == 0 {
				n++
			} else if reply.Refused[0].Code != authority.CodeLimit {
				t.Fatal(reply.Refused)
			}
		}
		return n
	}
	if got := taken("alice", 0, 100); got != 30 {
		t.Errorf("%d orders of one person were taken, want 30", got)
	}
	if got := taken("alice", 0, 30); got != 30 {
		t.Errorf("%d of the same orders are answered", got)
	}
	if got := taken("bob", 100, 101); got != 1 {
		t.Error("somebody else's order waits")
	}
	f.at = f.at.Add(10 * time.Second)
	if got := taken("alice", 100, 110); got != 1 {
		t.Errorf("%d after ten seconds, want 1", got)
	}
}

// Vet leaves out receipts that do not hold, and what of an order nobody can tell.
func TestVet(t *testing.T) {
	f := newFront(t)
	r := f.freeze("bob", 1)
	f.add(f.away, r)
	r, _ = f.away.Record(r.ID())
	if got, err := authority.Vet(f.away.History(), r); err != nil || len(got.Receipts) != 1 {
		t.Errorf("%d receipts, %v", len(got.Receipts), err)
	}
	r.Receipts = slices.Clone(r.Receipts)
	r.Receipts[0].Time++
	if got, err := authority.Vet(f.away.History(), r); err != nil || len(got.Receipts) != 0 {
		t.Errorf("%d forged receipts, %v", len(got.Receipts), err)
	}
	r.Raw = append(bytes.Clone(r.Raw), 0)
	if _, err := authority.Vet(f.away.History(), r); authority.CodeOf(err) != authority.CodeSignature {
		t.Errorf("a forged freeze: %v", err)
	}
}
