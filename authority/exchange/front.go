package exchange

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"coffer/approval"
	"coffer/authority"
	"coffer/canon"
	"coffer/charter"
	pb "coffer/proto/coffer/v1"
)

const (
	// MaxHanded is how many records one request hands over to somebody who takes them of
	// anybody, and maxSignatures how many signatures those have; one record always fits.
	MaxHanded     = 16
	maxSignatures = 128
)

// What a host, and all together, may cost in front: one for a request and for what it
// answers, for each signature and for each 32 KiB. A signature takes up to a millisecond.
var (
	frontEach = Rate{Burst: 400, PerSecond: 20}
	frontAll  = Rate{Burst: 2000, PerSecond: 100}
	// A person's orders that are news, of those about intents that are known here and of
	// others: whoever has the key of somebody must not fill disks with either.
	ordersEach = Rate{Burst: 30, PerSecond: 0.1}
	ordersAll  = Rate{Burst: 300, PerSecond: 2}
)

const (
	costOfRequest = 2
	costOfForgery = 16
	costBytes     = 32 << 10
)

// Book is a Holder that knows the versions of the charter, and what was said about an intent.
type Book interface {
	Holder
	History() []*charter.Charter
	Orders(intent canon.Digest) []approval.Signed
}

// Front serves whoever can reach it, of whom nothing is known: at a bounded rate by what
// a request costs, verifying before the book, for which freezes and signatures wait, is
// asked, and only until the first forged signature. It may be used by several goroutines.
type Front struct {
	gate, orders *turnstile
	known        func(intent canon.Digest) bool
}

// NewFront makes one. known says whether an intent was ever shown here.
func NewFront(known func(intent canon.Digest) bool) *Front {
	return &Front{gate: newTurnstile(frontEach, frontAll), orders: newTurnstile(ordersEach, ordersAll), known: known}
}

// Pass says whether a host may ask for something that costs one request.
func (f *Front) Pass(host string, now time.Time) error {
	if !f.gate.pass(host, costOfRequest, now) {
		return status.Error(codes.ResourceExhausted, "too many requests of one address, or of all: try again in some seconds, or at another signer")
	}
	return nil
}

// Serve is CheckRequest and the package's Serve for a caller from a host. Its errors have
// a gRPC status, but those of the book.
func (f *Front) Serve(host string, b Book, req *pb.ExchangeRequest, take func(authority.Kind) bool, now time.Time) (*pb.ExchangeResponse, []authority.Event, error) {
	if err := f.Pass(host, now); err != nil {
		return nil, nil, err
	}
	if err := CheckRequest(req); err != nil {
		return nil, nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if n := len(req.GetRecords()); n > MaxHanded {
		return nil, nil, status.Error(codes.InvalidArgument, fmt.Sprintf("%d records in one request, at most %d are taken here", n, MaxHanded))
	}
	list, no := read(req, take)
	cost, size := 0, 0
	for _, r := range list {
		cost += r.Signatures()
	}
	for _, raw := range req.Records {
		size += len(raw)
	}
	f.gate.charge(host, float64(cost)+float64(size)/costBytes, now)
	if cost > maxSignatures && len(list) > 1 {
		return nil, nil, status.Error(codes.InvalidArgument, fmt.Sprintf("records with %d signatures in one request, at most %d are taken here", cost, maxSignatures))
	}
	vetted, authors, no := f.vet(host, b, list, no, now)
	out, events, err := serve(b, vetted, no, req, now.Unix())
	for _, e := range events {
		if e.Kind == authority.EventOrder {
			for _, who := range authors[e.Record] {
				f.orders.charge(who, 1, now)
			}
			delete(authors, e.Record)
		}
	}
	answered := 0
	for _, raw := range out.GetRecords() {
		answered += len(raw)
	}
	f.gate.charge(host, float64(answered)/costBytes, now)
	return out, events, err
}

// vet leaves those of which every signature that can be told holds, up to the first
// forged one, and of orders those whose authors may still give some.
func (f *Front) vet(host string, b Book, list []authority.Record, no []*pb.RefusedRecord, now time.Time) (out []authority.Record, authors map[canon.Digest][]string, _ []*pb.RefusedRecord) {
	history := b.History()
	authors = map[canon.Digest][]string{}
	forged := false
	for _, r := range list {
		id := r.ID()
		if forged {
			no = append(no, &pb.RefusedRecord{Id: id[:], Code: authority.CodeLimit, Text: "it was not looked at, since a record before it is forged: hand it over by itself"})
			continue
		}
		good, err := authority.Vet(history, r)
		if err != nil {
			forged = true
			f.gate.charge(host, costOfForgery, now)
			no = append(no, refused(id, err))
			continue
		}
		who := f.authors(b, good)
		if slices.ContainsFunc(who, func(person string) bool { return !f.orders.pass(person, 0, now) }) {
			no = append(no, &pb.RefusedRecord{Id: id[:], Code: authority.CodeLimit, Text: "its author gave so many orders that this one has to wait: try again in a minute, or hand it to a signer's operator"})
			continue
		}
		out, authors[id] = append(out, good), who
	}
	return out, authors, no
}

// authors are under whom what an order says anew is counted.
func (f *Front) authors(b Book, r authority.Record) (out []string) {
	if r.Kind != authority.KindOrder {
		return nil
	}
	about := "unknown "
	if f.known(r.Subject()) {
		about = "known "
	}
	old := b.Orders(r.Subject())
	for _, signed := range r.Statements {
		if slices.ContainsFunc(old, func(o approval.Signed) bool { return bytes.Equal(o.Raw, signed.Raw) }) {
			continue
		}
		if s, err := approval.Parse(signed.Raw); err == nil {
			out = append(out, about+s.Person)
		}
	}
	return out
}

// Batch is what one request hands over, within the bounds of whoever takes it.
type Batch struct {
	Records          [][]byte
	size, signatures int
}

// Add says whether a record has room.
func (b *Batch) Add(r authority.Record) bool {
	raw, signatures := r.Encode(), r.Signatures()
	if len(b.Records) > 0 && (len(b.Records) >= MaxHanded || b.size+len(raw) > ownBytes || b.signatures+signatures > maxSignatures) {
		return false
	}
	b.Records, b.size, b.signatures = append(b.Records, raw), b.size+len(raw), b.signatures+signatures
	return true
}
