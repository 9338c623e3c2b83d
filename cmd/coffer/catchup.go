package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"coffer/authority"
	"coffer/authority/exchange"
	"coffer/canon"
	"coffer/internal/cli"
	pb "coffer/proto/coffer/v1"
	"coffer/rpc"
)

const (
	// maxPages bounds how often somebody is asked for more: each answer has up to 768 KiB.
	maxPages = 512
	// maxHave is how many references a question has.
	maxHave = 4096
	// endpointWithin bounds a talk with one signer's own endpoint.
	endpointWithin = 5 * time.Second
)

// exchanger is whoever holds authority records: a coordinator, or a signer.
type exchanger interface {
	Exchange(ctx context.Context, in *pb.ExchangeRequest, opts ...grpc.CallOption) (*pb.ExchangeResponse, error)
}

// heard is what somebody answered: which records it showed, what of it does not
// verify, what it refused of what it was handed, and a signer's own head.
type heard struct {
	who     string
	shown   map[canon.Digest]canon.Digest // sums by ID, as they were shown
	lies    []string
	refused map[canon.Digest]*pb.RefusedRecord
	head    *authority.Head
}

// talk hands records over to somebody and takes those that it has and the home lacks.
// The newest version of the charter and every freeze are asked for although they are
// known: whoever does not show them is behind, or hides them. Several talks may run at
// the same time.
func (h *home) talk(ctx context.Context, who string, peer exchanger, hand []authority.Record) (*heard, error) {
	out := &heard{who: who, shown: map[canon.Digest]canon.Digest{}, refused: map[canon.Digest]*pb.RefusedRecord{}}
	challenge := h.challenge()
	for page := 0; page < maxPages; page++ {
		req := &pb.ExchangeRequest{Fetch: true, Have: h.have(challenge, out.shown)}
		var batch exchange.Batch
		for len(hand) > 0 && batch.Add(hand[0]) {
			hand = hand[1:]
		}
		req.Records = batch.Records
		reply, err := patiently(ctx, peer, req)
		if err != nil {
			return nil, err
		}
		if more := h.take(reply, out); len(hand) == 0 && !more {
			break
		}
	}
	return out, nil
}

// patiently asks again where somebody has too many callers now.
func patiently(ctx context.Context, peer exchanger, req *pb.ExchangeRequest) (reply *pb.ExchangeResponse, err error) {
	for range busyTries {
		if reply, err = peer.Exchange(ctx, req); status.Code(err) != codes.ResourceExhausted {
			break
		}
		select {
		case <-time.After(busyFor):
		case <-ctx.Done():
			return nil, err
		}
	}
	return reply, err
}

const (
	busyTries = 4
	busyFor   = 500 * time.Millisecond
)

// have are references to what the home holds, without the challenge until it was met.
func (h *home) have(challenge map[canon.Digest]bool, shown map[canon.Digest]canon.Digest) (out []*pb.RecordRef) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, ref := range h.ledger.Refs() {
		if _, met := shown[ref.ID]; (met || !challenge[ref.ID]) && len(out) < maxHave {
			out = append(out, &pb.RecordRef{Id: ref.ID[:], Sum: ref.Sum[:]})
		}
	}
	return out
}

// take believes nothing of an answer: the ledger verifies every record. It says whether
// to ask for more; somebody who shows nothing new has nothing more.
func (h *home) take(reply *pb.ExchangeResponse, out *heard) (more bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, raw := range reply.Records {
		r, err := authority.Parse(raw)
		if err != nil {
			out.lies = append(out.lies, err.Error())
			continue
		}
		if sum, known := out.shown[r.ID()]; !known || sum != r.Sum() {
			more = true
		}
		out.shown[r.ID()] = r.Sum()
		events, err := h.ledger.Add(r, unixNow())
		h.events = append(h.events, events...)
		for _, e := range events {
			if e.Kind == authority.EventDropped {
				out.lies = append(out.lies, e.Text)
			}
		}
		if lie(err) {
			out.lies = append(out.lies, err.Error())
		}
	}
	for _, r := range reply.Refused {
		if id, err := canon.DigestFrom(r.GetId()); err == nil {
			r.Code, r.Text = cli.Clean(r.Code), cli.Clean(r.Text)
			out.refused[id] = r
		}
	}
	if len(reply.Head) > 0 {
		head, err := authority.OpenHead(reply.Head, reply.HeadSignature, h.ledger.InForce())
		if err != nil {
			out.lies = append(out.lies, err.Error())
		} else {
			out.head = &head
		}
	}
	return more && reply.More
}

// challenge are the records that are asked for although they are known: the newest
// version of the charter, the freezes, and what waits for people.
func (h *home) challenge() map[canon.Digest]bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := map[canon.Digest]bool{}
	if c := h.ledger.InForce(); c.Version > 1 {
		out[c.Digest()] = true
	}
	for _, f := range h.ledger.Freezes() {
		out[f.ID] = true
	}
	for _, p := range h.ledger.Pending() {
		out[p.Record] = true
	}
	return out
}

// lie says whether an error of the ledger's is about something that nobody honest
// hands on. That a record comes too late, or is one too many, is no lie.
func lie(err error) bool {
	switch authority.CodeOf(err) {
	case authority.CodeMalformed, authority.CodeSignature, authority.CodeCluster, authority.CodeCharterCard, authority.CodeCharterInvalid:
		return true
	}
	return false
}

// lacking are the records of a challenge that somebody showed not at all, in words
// too, or with fewer signatures than are known here.
func (h *home) lacking(got *heard, challenge map[canon.Digest]bool) (hidden []string, records []authority.Record) {
	for _, r := range h.ledger.Records() {
		id := r.ID()
		sum, shown := got.shown[id]
		if !challenge[id] || shown && sum == r.Sum() {
			continue
		}
		records = append(records, r)
		if !shown {
			hidden = append(hidden, h.name(r))
		}
	}
	return hidden, records
}

// catchUp brings the home and the coordinator to the same state, and says what is new
// and what is wrong. A coordinator that is away, behind or caught lying is no reason
// to stop, as long as the home knows what is in force: then the signers' own endpoints
// are asked too.
func (c *client) catchUp(ctx context.Context, talk io.Writer) error {
	h := c.home
	challenge := h.challenge()
	suspect := true
	got, err := h.withBrief(ctx, "the coordinator", c.api, nil)
	switch {
	case err != nil && status.Code(err) != codes.Unavailable && status.Code(err) != codes.Unimplemented: // that nobody is there the next call says better
		fmt.Fprintf(talk, "the coordinator tells nothing of charter and freezes: %s\n", cli.Text(err))
	case err == nil:
		suspect = warn(got, talk)
		if hidden, records := h.lacking(got, challenge); len(records) > 0 {
			again, err := h.withBrief(ctx, "the coordinator", c.api, records)
			if err != nil {
				return err
			}
			still, _ := h.lacking(again, challenge)
			suspect = suspect || len(hidden) > 0
			switch {
			case len(still) > 0:
				fmt.Fprintf(talk, "WARNING: the coordinator does not show %s, also after it was handed over: it hides it; call its operator\n", strings.Join(still, ", nor "))
			case len(hidden) > 0:
				fmt.Fprintf(talk, "the coordinator did not know %s: it was handed over\n", strings.Join(hidden, ", nor "))
			}
		}
	}
	if suspect || h.behind() != nil {
		for _, a := range h.askSigners(ctx) {
			if a.err == nil {
				warn(a.heard, talk)
			}
		}
	}
	h.announce(talk)
	h.keep(talk)
	return h.behind()
}

// hurryWithin is how long an order that stops things waits for what is new.
const hurryWithin = 2500 * time.Millisecond

// hurry is catchUp for an order that must go out whoever answers: everybody is asked at
// the same time, and nobody for long. It says who answered.
func (o *options) hurry(ctx context.Context, h *home, talk io.Writer) (answered bool) {
	ctx, cancel := context.WithTimeout(ctx, hurryWithin)
	defer cancel()
	var wg sync.WaitGroup
	var desk *heard
	places, _ := h.endpoints()
	if c, err := o.connect(h); err == nil {
		defer c.conn.Close()
		wg.Go(func() {
			if got, err := h.talk(ctx, "the coordinator", c.api, nil); err == nil {
				desk = got
			}
		})
	}
	signers := h.ask(ctx, places)
	wg.Wait()
	if desk != nil {
		answered = true
		warn(desk, talk)
	}
	for _, a := range signers {
		if a.err == nil {
			answered = true
			warn(a.heard, talk)
		}
	}
	h.announce(talk)
	return answered
}

// warn says what of an answer does not verify.
func warn(got *heard, talk io.Writer) (suspect bool) {
	const most = 3
	for n, text := range got.lies {
		if n == most {
			fmt.Fprintf(talk, "WARNING: %s hands out %d more that do not verify\n", got.who, len(got.lies)-n)
			break
		}
		fmt.Fprintf(talk, "WARNING: %s hands out what does not verify, and it is not taken: %s\n", got.who, cli.Clean(text))
	}
	return len(got.lies) > 0
}

func (h *home) withBrief(ctx context.Context, who string, peer exchanger, hand []authority.Record) (*heard, error) {
	ctx, cancel := brief(ctx)
	defer cancel()
	return h.talk(ctx, who, peer, hand)
}

// announce says what became new with the last answers.
func (h *home) announce(talk io.Writer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	said := map[string]bool{}
	for _, e := range h.events {
		text := ""
		switch e.Kind {
		case authority.EventCharterInForce, authority.EventListInForce, authority.EventFrozen, authority.EventLifted:
			text = e.Text
		case authority.EventFork:
			text = "WARNING: " + e.Text
		default: // in the lists of what is pending
		}
		if text != "" && !said[text] {
			said[text] = true
			fmt.Fprintln(talk, cli.Clean(text))
		}
	}
	h.events = nil
}

// answer is what became of one signer's own endpoint.
type answer struct {
	place
	*heard
	err error
}

// askSigners talks with every signer's own endpoint that is known, all at the same time.
func (h *home) askSigners(ctx context.Context) []answer {
	places, _ := h.endpoints()
	return h.ask(ctx, places)
}

// ask talks with all of some signers' endpoints at the same time. They are looked up
// before any talk begins: what a talk brings changes the ledger.
func (h *home) ask(ctx context.Context, places []place) []answer {
	ctx, cancel := context.WithTimeout(ctx, endpointWithin)
	defer cancel()
	out := make([]answer, len(places))
	var wg sync.WaitGroup
	for n, p := range places {
		wg.Go(func() {
			out[n] = answer{place: p}
			conn, err := rpc.DialAnonymous(p.peer, p.addr)
			if err != nil {
				out[n].err = err
				return
			}
			defer conn.Close()
			out[n].heard, out[n].err = h.talk(ctx, "signer "+p.name, pb.NewOrdersClient(conn), nil)
		})
	}
	wg.Wait()
	return out
}
