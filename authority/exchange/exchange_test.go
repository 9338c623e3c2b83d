package exchange_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"coffer/approval"
	"coffer/authority"
	"coffer/authority/exchange"
	"coffer/canon"
	"coffer/internal/testcharter"
	pb "coffer/proto/coffer/v1"
)

const now = testcharter.Now

type pair struct {
	*testcharter.Fixture
	t          *testing.T
	here, away *authority.Ledger
	asked      []*pb.ExchangeRequest
	take       func(authority.Kind) bool
}

func newPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{Fixture: testcharter.New(t), t: t}
	var err error
	p.here, err = authority.NewLedger(p.Charter, nil)
	p.must(err)
	p.away, err = authority.NewLedger(p.Charter, p.Signers["north"])
	p.must(err)
	return p
}

func (p *pair) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *pair) freeze(person string, nonce byte) authority.Record {
	p.t.Helper()
	f := authority.Freeze{Cluster: p.Charter.Cluster, Scope: authority.ScopeCluster, Reason: "strange requests", By: person, Time: now, Nonce: [16]byte{nonce}}
	r := authority.Record{Kind: authority.KindFreeze, Raw: f.Encode()}
	s := &approval.Statement{Cluster: p.Charter.Cluster, Kind: approval.Freeze, Subject: r.ID(), Person: person, Issued: now, Expires: now + 60}
	signed, err := approval.Sign(s, p.Key(p.t, person))
	p.must(err)
	r.Statements = []approval.Signed{signed}
	return r
}

func (p *pair) add(l *authority.Ledger, list ...authority.Record) {
	p.t.Helper()
	for _, r := range list {
		_, err := l.Add(r, now)
		p.must(err)
	}
}

func (p *pair) call(_ context.Context, req *pb.ExchangeRequest) (*pb.ExchangeResponse, error) {
	if err := exchange.CheckRequest(req); err != nil {
		return nil, err
	}
	p.asked = append(p.asked, req)
	reply, _, err := exchange.Serve(p.away, req, p.take, now)
	return reply, err
}

func (p *pair) sync(peer *exchange.Peer) exchange.Result {
	p.t.Helper()
	result, err := peer.Sync(p.t.Context(), p.here, func() int64 { return now }, p.call)
	p.must(err)
	return result
}

// Both sides hold the same afterwards, receipts of the one included, and nothing that was
// said is said again until it changes.
func TestBothSidesHoldTheSame(t *testing.T) {
	p := newPair(t)
	for n := range byte(9) {
		p.add(p.here, p.freeze("bob", n))
		p.add(p.away, p.freeze("carol", n))
	}
	var peer exchange.Peer
	result := p.sync(&peer)
	if got, want := p.here.Refs(), p.away.Refs(); !slices.Equal(got, want) || len(got) != 18 {
		t.Fatalf("here %d records, there %d", len(got), len(want))
	}
	frozen := 0
	for _, e := range result.Events {
		if e.Kind == authority.EventFrozen {
			frozen++
		}
	}
	if frozen != 9 || len(result.Refused)+len(result.Not) != 0 {
		t.Errorf("%d frozen, refused %v and %v", frozen, result.Refused, result.Not)
	}
	for _, h := range p.here.Freezes() {
		if !h.Receipts.Has("north") {
			t.Errorf("freeze %s came without the receipt", h.ID.Short())
		}
	}
	p.asked = nil
	if p.sync(&peer); len(p.asked) != 1 || len(p.asked[0].Records) != 0 {
		t.Errorf("asked %d times, %d records were said again", len(p.asked), len(p.asked[0].Records))
	}
	// A peer that lost what it had is told again once that is forgotten here.
	var err error
	p.away, err = authority.NewLedger(p.Charter, p.Signers["north"])
	p.must(err)
	peer.Forget()
	if p.sync(&peer); len(p.away.Refs()) != 18 {
		t.Errorf("the peer has %d records again", len(p.away.Refs()))
	}
}

// What one side does not take is named to the other, is not said over and over, and
// keeps nothing else back.
func TestRefused(t *testing.T) {
	p := newPair(t)
	good, forged := p.freeze("bob", 1), p.freeze("bob", 2)
	forged.Raw = bytes.Replace(forged.Raw, []byte("strange"), []byte("orderly"), 1)
	reply, events, err := exchange.Serve(p.here, &pb.ExchangeRequest{Records: [][]byte{forged.Encode(), []byte("junk"), good.Encode()}}, nil, now)
	p.must(err)
	codes := map[string]bool{}
	for _, no := range reply.Refused {
		codes[no.Code] = true
	}
	if len(reply.Refused) != 2 || !codes[authority.CodeSignature] && !codes[authority.CodeMalformed] || len(events) != 1 || len(reply.Records) != 1 {
		t.Errorf("refused %v, events %v, %d records", reply.Refused, events, len(reply.Records))
	}
	p.take = func(k authority.Kind) bool { return k == authority.KindOrder }
	var peer exchange.Peer
	if result := p.sync(&peer); len(result.Not) != 1 || len(p.away.Refs()) != 0 {
		t.Errorf("not taken: %v; there are %d", result.Not, len(p.away.Refs()))
	}
	if result := p.sync(&peer); len(result.Not) != 0 {
		t.Errorf("said again: %v", result.Not)
	}
}

// A request that is larger than anybody needs is refused before it is parsed, and an
// answer that would be is cut.
func TestBounds(t *testing.T) {
	for name, req := range map[string]*pb.ExchangeRequest{
		"an empty record": {Records: [][]byte{{}}},
		"a large record":  {Records: [][]byte{make([]byte, authority.MaxRecord+1)}},
		"large in all":    {Records: [][]byte{make([]byte, exchange.MaxBytes/2), make([]byte, exchange.MaxBytes/2), {1}}},
		"references":      {Have: make([]*pb.RecordRef, exchange.MaxRefs+1)},
	} {
		if exchange.CheckRequest(req) == nil {
			t.Errorf("%s is taken", name)
		}
	}
	p := newPair(t)
	p.add(p.here, p.freeze("bob", 1))
	reply, _, err := exchange.Serve(p.here, &pb.ExchangeRequest{Have: []*pb.RecordRef{nil, {Id: []byte("short")}}}, nil, now)
	if err != nil || len(reply.Records) != 0 {
		t.Errorf("%d records that nobody asked for, %v", len(reply.Records), err)
	}
}

// broken is a book whose disk failed.
type broken struct{ *authority.Ledger }

var errDisk = errors.New("the disk is full")

func (broken) Add(authority.Record, int64) ([]authority.Event, error) { return nil, errDisk }

// Nothing is acknowledged that could not be kept.
func TestDiskFails(t *testing.T) {
	p := newPair(t)
	if reply, _, err := exchange.Serve(broken{p.here}, &pb.ExchangeRequest{Records: [][]byte{p.freeze("bob", 1).Encode()}}, nil, now); !errors.Is(err, errDisk) || reply != nil {
		t.Errorf("%v, %v", reply, err)
	}
	p.add(p.away, p.freeze("bob", 1))
	var peer exchange.Peer
	if _, err := peer.Sync(t.Context(), broken{p.here}, func() int64 { return now }, p.call); !errors.Is(err, errDisk) {
		t.Errorf("%v", err)
	}
}

// chain is a holder that takes a record only once the one before it is there.
type chain struct{ have []authority.Record }

func (c *chain) Records() []authority.Record { return c.have }

func (c *chain) Add(r authority.Record, _ int64) ([]authority.Event, error) {
	if int(r.Raw[0]) > len(c.have)+1 {
		return nil, &authority.Refusal{Code: authority.CodeCharterGap, Text: "the version before is not known"}
	}
	if int(r.Raw[0]) == len(c.have)+1 {
		c.have = append(c.have, r)
	}
	return nil, nil
}

// Versions of the charter are taken in whatever order they come.
func TestAnyOrder(t *testing.T) {
	version := func(n byte) []byte { return authority.Record{Kind: authority.KindCharter, Raw: []byte{n}}.Encode() }
	c := &chain{}
	reply, _, err := exchange.Serve(c, &pb.ExchangeRequest{Records: [][]byte{version(4), version(2), version(3), version(1), version(9)}}, nil, now)
	if err != nil || len(c.have) != 4 {
		t.Fatalf("%d versions, %v", len(c.have), err)
	}
	ninth := canon.Sum([]byte{9})
	if len(reply.Refused) != 1 || reply.Refused[0].Code != authority.CodeCharterGap || !bytes.Equal(reply.Refused[0].Id, ninth[:]) {
		t.Errorf("refused: %v", reply.Refused)
	}
}

// FuzzServe: whatever a stranger asks is bounded before it is read, and answered with
// what is held.
func FuzzServe(f *testing.F) {
	x := testcharter.New(f)
	freeze := x.FreezeRecord(f, "alice", authority.ScopeCluster, "", now, 1)
	id, sum := freeze.ID(), freeze.Sum()
	for _, req := range []*pb.ExchangeRequest{
		{}, {Fetch: true}, {Records: [][]byte{freeze.Encode()}}, {Have: []*pb.RecordRef{{Id: id[:], Sum: sum[:]}}, Fetch: true}, {Have: []*pb.RecordRef{nil}},
	} {
		raw, err := proto.Marshal(req)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		req := new(pb.ExchangeRequest)
		if proto.Unmarshal(raw, req) != nil || exchange.CheckRequest(req) != nil {
			return
		}
		l, err := authority.NewLedger(x.Charter, nil)
		if err != nil {
			t.Fatal(err)
		}
		reply, _, err := exchange.Serve(l, req, nil, now)
		if err != nil {
			t.Fatalf("a ledger in memory cannot fail: %v", err)
		}
		if l.Frozen().Any() != slices.ContainsFunc(l.Records(), func(r authority.Record) bool { return r.ID() == freeze.ID() }) {
			t.Fatal("frozen by nobody's order")
		}
		if got := len(reply.Refused) + len(reply.Records); got > len(req.Records) {
			t.Fatalf("%d answers to %d records", got, len(req.Records))
		}
	})
}
