package node_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"coffer/engine"
	"coffer/identity"
	"coffer/internal/cluster"
	"coffer/keystore"
	"coffer/node"
	"coffer/party"
	pb "coffer/proto/coffer/v1"
	"coffer/transport"
	"coffer/verdict"
)

// A wallet and payments by every quorum, through real stores, sockets and logs.
func TestWalletAndPayment(t *testing.T) {
	w := newWorld(t, cluster.Config{})
	for _, quorum := range []party.Set{{"a", "b"}, {"a", "c"}, {"b", "c"}} {
		w.mustSign(w.payment(), quorum...)
	}
	w.Members["b"].Stop()
	w.Members["b"].Start()
	w.mustSign(w.payment(), "a", "b")
	w.VerifyAudits()
}

// Status tells of each peer what the link knows.
func TestStatusOfPeers(t *testing.T) {
	w := &world{t: t, Cluster: cluster.New(t, cluster.Config{})}
	a := w.Members["a"].API()
	peer := func(id string) *pb.PeerStatus {
		st, err := a.Status(t.Context(), &pb.StatusRequest{})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range st.Peers {
			if p.Signer == id {
				return p
			}
		}
		t.Fatalf("%s is not among the peers %v", id, st.Peers)
		return nil
	}
	before := time.Now().Unix()
	if p := peer("b"); !p.Connected || p.Since == 0 || p.Since > before || p.RoundTripUs == 0 || p.Error != "" {
		t.Errorf("connected: %v", p)
	}
	w.Net.Cut("a", "b")
	if p := peer("b"); p.Connected || p.Since < before || p.RoundTripUs != 0 || p.Error == "" {
		t.Errorf("cut off: %v", p)
	}
	if p := peer("c"); !p.Connected {
		t.Errorf("the other one: %v", p)
	}
}

func TestThreeOfFive(t *testing.T) {
	w := newWorld(t, cluster.Config{Quorum: party.Quorum{Need: 3, Of: 5}})
	for _, quorum := range []party.Set{{"a", "b", "c"}, {"a", "c", "e"}, {"b", "d", "e"}} {
		w.mustSign(w.payment(), quorum...)
	}
	// Two quorums of more than half always meet.
	o := w.payment()
	w.mustSign(o, "a", "b", "c")
	another := w.order(w.Payment(w.record, "ANOTHER", w.nonce, 1))
	if got := w.how("c", w.Members["c"].Sign(t.Context(), another.request(cluster.Attempt(), "c", "d", "e"))); got != "G-SLOT" {
		t.Errorf("the signer in both answers %s, want G-SLOT", got)
	}
	w.VerifyAudits()
}

// stuck has a session of a and c hang, prepared at a and not at c, and returns a way
// to wait for its end.
func (w *world) stuck(ctx context.Context, o order) func() map[party.ID]cluster.Answer {
	w.t.Helper()
	held := make(chan struct{}, 1)
	w.hosts.on(func(id party.ID, e *engine.Event) bool {
		if id != "c" || !e.Prepared {
			return true
		}
		select {
		case held <- struct{}{}:
		default:
		}
		return false
	})
	out := make(chan map[party.ID]cluster.Answer, 1)
	go func() { out <- w.session(ctx, o, "a", "c") }()
	<-held
	w.hosts.on(nil)
	return func() map[party.ID]cluster.Answer { return <-out }
}

// expect demands how signers answered.
func (w *world) expect(answers map[party.ID]cluster.Answer, want map[party.ID]string) {
	w.t.Helper()
	for id, codes := range want {
		if got := w.how(id, answers[id]); !strings.Contains(" "+codes+" ", " "+got+" ") {
			w.t.Errorf("signer %s answers %s, want %s (%v)", id, got, codes, answers[id])
		}
	}
}

// idle waits until a signer has no run left.
func (w *world) idle(ids ...party.ID) {
	w.t.Helper()
	for _, id := range ids {
		api := w.Members[id].API()
		w.Eventually(fmt.Sprintf("signer %s idle with primes", id), func() bool {
			st, err := api.Status(w.t.Context(), &pb.StatusRequest{})
			return err == nil && st.ActiveSessions == 0 && st.PreParameters > 0
		})
	}
}

func TestSealed(t *testing.T) {
	w := newWorld(t, cluster.Config{})
	c := w.Members["c"]
	c.Stop()
	c.StartSealed(true)
	ctx := t.Context()
	op := c.Operator()
	st, err := op.Status(ctx, &pb.StatusRequest{})
	if err != nil || !st.Sealed || len(st.Wallets) != 1 {
		t.Fatalf("status %v, %v: want sealed, with one wallet", st, err)
	}

	w.Eventually("c has heard of the others", func() bool { return c.Status().Fresh })

	// Sealed, it judges, and takes part in nothing.
	o := w.payment()
	if v, err := c.API().Judge(ctx, &pb.JudgeRequest{Intent: o.intent.ToProto(), Statements: o.statements}); err != nil {
		t.Errorf("judge while sealed: %v", err)
	} else if said, err := verdict.Parse(v.Verdict); err != nil || said.Outcome != verdict.Wait || !strings.Contains(strings.Join(said.Missing, " "), "unseal") {
		t.Errorf("a sealed signer says %+v, %v: want that it waits for its operator", said, err)
	}
	if got := w.how("c", c.Sign(ctx, o.request(cluster.Attempt(), "a", "c"))); got != "FailedPrecondition" {
		t.Errorf("sign while sealed: %s", got)
	}
	i := w.Cluster.CreateWallet("SECOND")
	if _, err := c.CreateWallet(ctx, i, w.Approvals(i), cluster.Attempt()); err == nil {
		t.Error("a sealed signer took part in a ceremony")
	}

	for _, passphrase := range []string{"", "correct horse batterz", strings.Repeat("x", 1025)} {
		if _, err := op.Unseal(ctx, &pb.UnsealRequest{Passphrase: []byte(passphrase)}); err == nil {
			t.Errorf("unsealed by %.30q", passphrase)
		}
	}
	if _, err := op.Unseal(ctx, &pb.UnsealRequest{Passphrase: []byte("wrong horse battery")}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("wrong passphrase: %v", err)
	}
	for range 2 { // the second time changes nothing
		if _, err := op.Unseal(ctx, &pb.UnsealRequest{Passphrase: []byte(cluster.Passphrase)}); err != nil {
			t.Fatal(err)
		}
	}
	w.mustSign(o, "a", "c")

	// Sealed in the middle of a session.
	answers := w.stuck(ctx, w.payment())
	if _, err := op.Seal(ctx, &pb.SealRequest{}); err != nil {
		t.Fatal(err)
	}
	w.expect(answers(), map[party.ID]string{"a": "PEER_ABORTED", "c": "SEALED"})
	if got := w.how("c", c.Sign(ctx, w.payment().request(cluster.Attempt(), "a", "c"))); got != "FailedPrecondition" {
		t.Errorf("sign after seal: %s", got)
	}
	if _, err := op.Unseal(ctx, &pb.UnsealRequest{Passphrase: []byte(cluster.Passphrase)}); err != nil {
		t.Fatal(err)
	}
	w.mustSign(w.payment(), "a", "c")
	w.VerifyAudits()
}

func TestWrongPassphraseAtStart(t *testing.T) {
	w := cluster.New(t, cluster.Config{})
	b := w.Members["b"]
	b.Stop()
	n, err := node.New(node.Config{
		Dir: b.Dir, Logger: slog.New(slog.DiscardHandler), Passphrase: []byte("wrong horse battery"),
		Link: func(node.Peers) (transport.Link, error) { return w.Net.Link("b") },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Run(t.Context()); !strings.Contains(fmt.Sprint(err), keystore.ErrWrongPassphrase.Error()) {
		t.Errorf("run with a wrong passphrase: %v", err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	b.Start() // nothing is broken
}

func TestStrangerIsCutOff(t *testing.T) {
	w := cluster.New(t, cluster.Config{})
	stranger, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	signer, err := identity.Load(w.Members["b"].Dir.Identity())
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]*identity.Key{"an unknown key": stranger, "a signer's key": signer} {
		api := pb.NewSignerClient(w.Members["a"].Dial(key))
		if _, err := api.Status(t.Context(), &pb.StatusRequest{}); status.Code(err) != codes.Unavailable {
			t.Errorf("%s: %v, want no connection", name, err)
		}
	}
}

func TestStopInSession(t *testing.T) {
	w := newWorld(t, cluster.Config{})
	answers := w.stuck(t.Context(), w.payment())
	w.Members["c"].Stop()
	w.expect(answers(), map[party.ID]string{"a": "PEER_ABORTED", "c": "STOPPING"})
	w.mustSign(w.payment(), "a", "b")
	w.Members["c"].Start()
	w.mustSign(w.payment(), "a", "c")
	w.VerifyAudits()
}

// A coordinator that hangs up ends the session everywhere.
func TestStreamEnds(t *testing.T) {
	w := newWorld(t, cluster.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	answers := w.stuck(ctx, w.payment())
	cancel()
	w.expect(answers(), map[party.ID]string{"a": "Canceled", "c": "Canceled"})
	w.idle("a", "c")
	w.mustSign(w.payment(), "a", "c")
}

func TestDeadlineNamesWhoIsAwaited(t *testing.T) {
	w := newWorld(t, cluster.Config{SessionWithin: 700 * time.Millisecond})
	// c was not asked, and so sends no nonce.
	a := w.Members["a"].Sign(t.Context(), w.payment().request(cluster.Attempt(), "a", "c"))
	if a.Failed == nil || a.Failed.Code != engine.CodeTimeout || !strings.Contains(a.Failed.Text, "nonces, waiting for c") || len(a.Failed.Culprits) > 0 {
		t.Errorf("answer %v, want a time-out that names c and accuses nobody", a)
	}
	// Two signers that were told of two quorums.
	o, attempt := w.payment(), cluster.Attempt()
	answers := w.Session(t.Context(), []party.ID{"a", "c"}, func(id party.ID) *pb.SignRequest {
		return o.request(attempt, string(min(id, "b")), string(max(id, "b")))
	})
	w.expect(answers, map[party.ID]string{"a": engine.CodeTimeout, "c": engine.CodeTimeout})
	w.VerifyAudits()
}

// The journal, not luck, keeps two sessions at the same time apart.
func TestConcurrentSessions(t *testing.T) {
	w := newWorld(t, cluster.Config{})
	type result struct {
		o       order
		answers map[party.ID]cluster.Answer
	}
	both := func(x, y order) (first, second result) {
		other := make(chan result, 1)
		go func() { other <- result{y, w.session(t.Context(), y, "b", "c")} }()
		first = result{x, w.session(t.Context(), x, "a", "b")}
		return first, <-other
	}
	for range 4 {
		// One intent, two quorums, at two fees: both may sign, one slot.
		o := w.payment()
		bumped := o
		bumped.unsigned = w.Unsigned(o.intent)
		bumped.unsigned.FeeCap.Add(bumped.unsigned.FeeCap, bumped.unsigned.FeeCap)
		x, y := both(o, bumped)
		w.combine(x.o, x.answers)
		w.combine(y.o, y.answers)

		// Two intents for one nonce, two quorums: b is in both and signs one at most.
		o = w.payment()
		i := w.Payment(w.record, fmt.Sprintf("AGAIN-%d", w.nonce), w.nonce, 1)
		x, y = both(o, w.order(i))
		if x.answers["b"].Partial != nil && y.answers["b"].Partial != nil {
			t.Fatal("b signed two payments on one nonce")
		}
		for _, r := range []result{x, y} {
			n := 0
			for id, a := range r.answers {
				if a.Partial != nil {
					n++
				} else if got := w.how(id, a); got != "G-SLOT" && got != "JOURNAL" && got != "PEER_ABORTED" && got != "PEER_AWAY" {
					t.Errorf("signer %s answers %s", id, got)
				}
			}
			if n == 2 {
				w.combine(r.o, r.answers)
			}
		}
	}
	w.VerifyAudits()
}

func TestCancel(t *testing.T) {
	w := newWorld(t, cluster.Config{})
	// Signed, then cancelled: the cancel takes the nonce, and the payment is over.
	o := w.payment()
	w.mustSign(o, "a", "b")
	cancel := w.order(cancelOf(w, mustParse(t, o)))
	w.mustSign(cancel, "b", "c")
	w.expect(w.session(t.Context(), o, "b", "c"), map[party.ID]string{"b": "G-SLOT", "c": "G-SLOT"})
	w.mustSign(cancel, "b", "c") // as often as its fee has to be raised

	// Cancelled before it was signed.
	o = w.payment()
	w.mustSign(w.order(cancelOf(w, mustParse(t, o))), "a", "c")
	w.expect(w.session(t.Context(), o, "a", "c"), map[party.ID]string{"a": "G-SLOT", "c": "G-SLOT"})

	// Cancelled while its session runs, after c has released it: c's last look does not
	// let the partial leave any more.
	o = w.payment()
	released := make(chan struct{})
	w.hosts.on(func(id party.ID, e *engine.Event) bool {
		if id == "c" && e.Out != nil && e.Out.Kind == engine.KindS4 {
			close(released)
			// From here on what a says takes long enough for a whole other session.
			w.hosts.on(nil)
		}
		return true
	})
	w.slow("a", "c", 60*time.Millisecond)
	out := make(chan map[party.ID]cluster.Answer, 1)
	go func() { out <- w.session(t.Context(), o, "a", "c") }()
	<-released
	w.slow("a", "c", time.Second)
	w.mustSign(w.order(cancelOf(w, mustParse(t, o))), "b", "c")
	w.slow("a", "c", 0)
	w.expect(<-out, map[party.ID]string{"c": "G-SLOT"})
	w.VerifyAudits()
}
