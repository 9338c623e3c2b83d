package node_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/status"

	"coffer/chain/evm"
	"coffer/engine"
	"coffer/engine/enginetest"
	"coffer/identity"
	"coffer/intent"
	"coffer/internal/cluster"
	"coffer/partial"
	"coffer/party"
	pb "coffer/proto/coffer/v1"
	"coffer/transport/memnet"
	"coffer/verdict"
	"coffer/wallet"
)

// world is a cluster with a wallet, and counters that keep payments apart.
type world struct {
	*cluster.Cluster
	t      testing.TB
	record *wallet.Record
	hosts  *hosts
	nonce  uint64
}

func newWorld(t testing.TB, cfg cluster.Config) *world {
	t.Helper()
	w := &world{t: t, hosts: &hosts{}}
	if cfg.Host == nil {
		cfg.Host = w.hosts.make
	}
	w.Cluster = cluster.New(t, cfg)
	w.record = w.Wallet()
	return w
}

// order is a payment with all that a session needs.
type order struct {
	intent     intent.Signed
	statements []*pb.SignedMessage
	unsigned   *evm.Unsigned
}

// payment is an approved payment on a nonce of its own.
func (w *world) payment() order {
	w.t.Helper()
	w.nonce++
	return w.order(w.Payment(w.record, fmt.Sprintf("INV-%d", w.nonce), w.nonce, 15))
}

func (w *world) order(i *intent.Intent) order {
	w.t.Helper()
	signed := w.Cluster.Sign("alice", i)
	return order{signed, w.Approvals(signed), w.Unsigned(signed)}
}

func (o order) request(attempt []byte, signers ...string) *pb.SignRequest {
	return &pb.SignRequest{Intent: o.intent.ToProto(), Statements: o.statements, UnsignedTx: o.unsigned.Encode(), Signers: signers, Attempt: attempt}
}

// session asks the signers for one session of an order.
func (w *world) session(ctx context.Context, o order, signers ...party.ID) map[party.ID]cluster.Answer {
	attempt := cluster.Attempt()
	return w.Session(ctx, signers, func(party.ID) *pb.SignRequest { return o.request(attempt, party.Set(signers).Strings()...) })
}

// mustSign demands that a session of an order ends in a valid signature.
func (w *world) mustSign(o order, signers ...party.ID) {
	w.t.Helper()
	w.combine(o, w.session(w.t.Context(), o, signers...))
}

func (w *world) combine(o order, answers map[party.ID]cluster.Answer) {
	w.t.Helper()
	var partials []partial.Partial
	for id, a := range answers {
		if a.Partial == nil {
			w.t.Fatalf("signer %s: %s", id, w.how(id, a))
		}
		partials = append(partials, partial.Partial{Session: [32]byte(a.Partial.Session), R: [33]byte(a.Partial.R), S: [32]byte(a.Partial.S)})
	}
	sig, err := partial.Combine(o.unsigned.Digest(), w.record.PublicKey, w.record.Quorum.Need, partials)
	if err != nil {
		w.t.Fatal(err)
	}
	raw, _, err := o.unsigned.Assemble(sig)
	if err != nil {
		w.t.Fatal(err)
	}
	from, _, err := evm.Recover(raw)
	if err != nil {
		w.t.Fatal(err)
	}
	if want, err := evm.AddressOf(w.record.PublicKey); err != nil || from != want {
		w.t.Fatalf("signed by %s, want %s", from, want)
	}
}

// how is what an answer amounts to: the check that refused, the code of a failure or
// of an error, or PARTIAL.
func (w *world) how(id party.ID, a cluster.Answer) string {
	w.t.Helper()
	signer, _ := w.Charter.Signer(id)
	return outcome(w.t, signer.Peer, a)
}

// judge is the check by which a signer says that it would refuse.
func (w *world) judge(id party.ID, o order) string {
	w.t.Helper()
	conn := w.Members[id].Dial(w.DeskKey)
	defer conn.Close() // a test asks again and again
	v, err := pb.NewSignerClient(conn).Judge(w.t.Context(), &pb.JudgeRequest{Intent: o.intent.ToProto(), Statements: o.statements})
	if err != nil {
		w.t.Fatal(err)
	}
	return w.how(id, cluster.Answer{Refused: v})
}

func outcome(t testing.TB, peer identity.ID, a cluster.Answer) string {
	t.Helper()
	switch {
	case a.Partial != nil:
		return "PARTIAL"
	case a.Refused != nil:
		v, err := verdict.Verify(a.Refused.Verdict, a.Refused.Signature, peer)
		if err != nil {
			t.Fatal(err)
		}
		if len(v.Reasons) == 0 {
			return v.Outcome
		}
		return v.Reasons[0].Check
	case a.Failed != nil:
		return a.Failed.Code
	}
	return status.Code(a.Err).String()
}

// hosts makes fake engines whose events a test can see, change and hold back.
type hosts struct {
	mu   sync.Mutex
	hook func(party.ID, *engine.Event) bool
	all  map[party.ID][]*enginetest.Host
}

func (h *hosts) make(id party.ID) (engine.Host, error) {
	host := enginetest.New()
	host.OnEvent = func(e *engine.Event) bool {
		h.mu.Lock()
		hook := h.hook
		h.mu.Unlock()
		return hook == nil || hook(id, e)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.all == nil {
		h.all = map[party.ID][]*enginetest.Host{}
	}
	h.all[id] = append(h.all[id], host)
	return host, nil
}

// on sets what sees every event from now on; false swallows it. Nil takes it away.
func (h *hosts) on(hook func(party.ID, *engine.Event) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hook = hook
}

// kill does what the death of all of a signer's workers does.
func (h *hosts) kill(id party.ID) {
	h.mu.Lock()
	all := h.all[id]
	h.mu.Unlock()
	for _, host := range all {
		host.Kill()
	}
}

func mustParse(t testing.TB, o order) *intent.Intent {
	t.Helper()
	i, err := intent.Parse(o.intent.Raw)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// slow delays whatever one signer sends to another.
func (w *world) slow(from, to party.ID, by time.Duration) {
	w.Net.SetFaultsOn(from, to, memnet.Faults{MinDelay: by, MaxDelay: by})
}
