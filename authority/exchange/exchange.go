package exchange

import (
	"context"
	"errors"
	"fmt"

	"coffer/authority"
	"coffer/canon"
	pb "coffer/proto/coffer/v1"
)

const (
	// MaxRefs bounds what one side says that it holds.
	MaxRefs = 4096
	// MaxBytes bounds the records of one message; one record always fits.
	MaxBytes = 768 << 10
	// ownBytes leaves room beside the references in a request of at most 1 MiB.
	ownBytes = authority.MaxRecord
	// maxRounds bounds one Sync; what is left waits for the next.
	maxRounds = 256
)

// Holder is who holds records: a Ledger, or a book that keeps one on disk.
type Holder interface {
	Add(r authority.Record, now int64) ([]authority.Event, error)
	Records() []authority.Record
}

// CheckRequest refuses a request that is larger than anybody needs.
func CheckRequest(req *pb.ExchangeRequest) error {
	if len(req.GetHave()) > MaxRefs {
		return fmt.Errorf("%d references to records, at most %d are taken", len(req.Have), MaxRefs)
	}
	total := 0
	for n, raw := range req.GetRecords() {
		if len(raw) == 0 || len(raw) > authority.MaxRecord {
			return fmt.Errorf("records[%d]: %d bytes, want 1 to %d", n, len(raw), authority.MaxRecord)
		}
		if total += len(raw); total > MaxBytes {
			return fmt.Errorf("records of more than %d bytes: hand them over in several requests", MaxBytes)
		}
	}
	return nil
}

// Serve takes the records of a checked request, of the kinds that take permits (nil: all),
// and answers them as they stand then, with what the caller lacks if it asks for that. An
// error means that this side could not keep what it took: nothing may be acknowledged.
func Serve(h Holder, req *pb.ExchangeRequest, take func(authority.Kind) bool, now int64) (*pb.ExchangeResponse, []authority.Event, error) {
	list, no := read(req, take)
	return serve(h, list, no, req, now)
}

// read parses what was handed over, and says what of it is not taken.
func read(req *pb.ExchangeRequest, take func(authority.Kind) bool) (list []authority.Record, no []*pb.RefusedRecord) {
	for _, raw := range req.GetRecords() {
		r, err := authority.Parse(raw)
		if err != nil {
			no = append(no, refused(canon.Digest{}, err))
			continue
		}
		if take != nil && !take(r.Kind) {
			id := r.ID()
			no = append(no, &pb.RefusedRecord{Id: id[:], Code: authority.CodeMalformed, Text: fmt.Sprintf("a record of kind %s is not taken here", r.Kind)})
			continue
		}
		list = append(list, r)
	}
	return list, no
}

func serve(h Holder, list []authority.Record, no []*pb.RefusedRecord, req *pb.ExchangeRequest, now int64) (*pb.ExchangeResponse, []authority.Event, error) {
	a := &adder{h: h, now: now}
	out, handed := &pb.ExchangeResponse{Refused: no}, map[canon.Digest]bool{}
	for _, r := range list {
		handed[r.ID()] = true
	}
	if err := a.add(list); err != nil {
		return nil, a.events, err
	}
	for _, no := range a.refused {
		out.Refused = append(out.Refused, refused(no.ID, no.Err))
	}
	have := map[canon.Digest]canon.Digest{}
	for _, ref := range req.GetHave() {
		id, err1 := canon.DigestFrom(ref.GetId())
		sum, err2 := canon.DigestFrom(ref.GetSum())
		if err1 == nil && err2 == nil {
			have[id] = sum
		}
	}
	size := 0
	add := func(r authority.Record) {
		raw := r.Encode()
		if size += len(raw); size > MaxBytes && len(out.Records) > 0 {
			out.More = true
			return
		}
		out.Records = append(out.Records, raw)
	}
	all := h.Records()
	for _, r := range all {
		if handed[r.ID()] {
			add(r)
		}
	}
	for _, r := range all {
		if id := r.ID(); req.GetFetch() && !handed[id] && have[id] != r.Sum() {
			add(r)
		}
	}
	return out, a.events, nil
}

func refused(id canon.Digest, err error) *pb.RefusedRecord {
	no := &pb.RefusedRecord{Code: authority.CodeOf(err), Text: err.Error()}
	var r *authority.Refusal
	if errors.As(err, &r) {
		no.Text = r.Text
	}
	if !id.IsZero() {
		no.Id = id[:]
	}
	return no
}

// Refused is a record that was not taken.
type Refused struct {
	ID  canon.Digest
	Err error
}

// adder adds records that may stand on each other.
type adder struct {
	h       Holder
	now     int64
	events  []authority.Event
	refused []Refused
}

// add takes what can be taken, in any order: a version of the charter stands on the one
// before, which may come behind it. The error is of the holder, not about a record.
func (a *adder) add(list []authority.Record) error {
	for {
		var again []authority.Record
		var gaps []Refused
		progress := false
		for _, r := range list {
			events, err := a.h.Add(r, a.now)
			a.events = append(a.events, events...)
			switch code := authority.CodeOf(err); {
			case err == nil:
				progress = true
			case code == "":
				return err
			case code == authority.CodeCharterGap:
				again, gaps = append(again, r), append(gaps, Refused{r.ID(), err})
			default:
				a.refused = append(a.refused, Refused{r.ID(), err})
			}
		}
		if len(again) == 0 || !progress {
			a.refused = append(a.refused, gaps...)
			return nil
		}
		list = again
	}
}

// Peer is what this side said to another and heard of it. It is not safe for concurrent use.
type Peer struct {
	said, has map[canon.Digest]canon.Digest // by record: the sum that was handed over, and that came back
}

// Forget has everything said anew, to a peer that may have lost it.
func (p *Peer) Forget() { p.said, p.has = nil, nil }

// Result is what an exchange brought.
type Result struct {
	Events  []authority.Event
	Refused []Refused            // of what came here
	Not     []*pb.RefusedRecord  // what the other side did not take
	Last    *pb.ExchangeResponse // with its head, where it is a signer
}

// Sync has both sides hold the same, as far as each takes what the other has. It can be
// called again at any time, with the same peer.
func (p *Peer) Sync(ctx context.Context, h Holder, now func() int64, call func(context.Context, *pb.ExchangeRequest) (*pb.ExchangeResponse, error)) (Result, error) {
	var out Result
	if p.said == nil {
		p.said, p.has = map[canon.Digest]canon.Digest{}, map[canon.Digest]canon.Digest{}
	}
	for range maxRounds {
		req := p.request(h)
		reply, err := call(ctx, req)
		if err != nil {
			return out, err
		}
		out.Last = reply
		out.Not = append(out.Not, reply.Refused...)
		a := &adder{h: h, now: now()}
		var list []authority.Record
		for _, raw := range reply.Records {
			r, err := authority.Parse(raw)
			if err != nil {
				out.Refused = append(out.Refused, Refused{Err: err})
				continue
			}
			p.has[r.ID()] = r.Sum()
			list = append(list, r)
		}
		err = a.add(list)
		out.Events, out.Refused = append(out.Events, a.events...), append(out.Refused, a.refused...)
		if err != nil {
			return out, err
		}
		if !reply.More && !p.more(h) {
			return out, nil
		}
	}
	return out, nil
}

// request says what is held here, and hands over what the other side is not known to have.
func (p *Peer) request(h Holder) *pb.ExchangeRequest {
	req, batch, full := &pb.ExchangeRequest{Fetch: true}, &Batch{}, false
	for _, r := range h.Records() {
		id, sum := r.ID(), r.Sum()
		if len(req.Have) < MaxRefs {
			req.Have = append(req.Have, &pb.RecordRef{Id: id[:], Sum: sum[:]})
		}
		if p.lacks(id, sum) && !full {
			if full = !batch.Add(r); !full {
				p.said[id] = sum
			}
		}
	}
	req.Records = batch.Records
	return req
}

// lacks says that the other side was not told this much of a record, nor told it.
func (p *Peer) lacks(id, sum canon.Digest) bool { return p.said[id] != sum && p.has[id] != sum }

// more says that there is something to hand over still.
func (p *Peer) more(h Holder) bool {
	for _, r := range h.Records() {
		if p.lacks(r.ID(), r.Sum()) {
			return true
		}
	}
	return false
}
