package node_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"coffer/canon"
	"coffer/dkg"
	"coffer/engine"
	"coffer/envelope"
	"coffer/internal/cluster"
	"coffer/party"
	pb "coffer/proto/coffer/v1"
	"coffer/signing"
	"coffer/transport"
	"coffer/transport/memnet"
	"coffer/wallet"
)

// kill stops a signer so that its peers hear nothing of it, as after a power cut.
func (w *world) kill(id party.ID) {
	w.Net.Partition(party.Set{id})
	w.Members[id].Stop()
	w.Net.Heal()
}

func TestSignerKilledInSession(t *testing.T) {
	w := newWorld(t, cluster.Config{})
	answers := w.stuck(t.Context(), w.payment())
	start := time.Now()
	w.kill("c")
	w.expect(answers(), map[party.ID]string{"a": "PEER_AWAY"})
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("a noticed after %s", took)
	}
	w.mustSign(w.payment(), "a", "b")
}

func TestWorkerDies(t *testing.T) {
	w := newWorld(t, cluster.Config{})
	o := w.payment()
	answers := w.stuck(t.Context(), o)
	w.hosts.kill("c")
	w.expect(answers(), map[party.ID]string{"a": "PEER_ABORTED", "c": engine.CodeWorkerDied})
	w.mustSign(o, "a", "c")
	w.VerifyAudits()
}

// Between prepare and release a has bound itself and c has not.
func TestRestartBeforeRelease(t *testing.T) {
	w := newWorld(t, cluster.Config{})
	o := w.payment()
	attempt := cluster.Attempt()
	w.hosts.on(func(id party.ID, e *engine.Event) bool { return id != "c" || !e.Prepared })
	bound := make(chan struct{})
	var once sync.Once
	w.Net.SetTamper(func(from, _ party.ID, data []byte) []byte {
		if e, err := envelope.Parse(data); err == nil && from == "a" && e.Kind == signing.KindBinding {
			once.Do(func() { close(bound) })
		}
		return data
	})
	out := make(chan map[party.ID]cluster.Answer, 1)
	go func() {
		out <- w.Session(t.Context(), []party.ID{"a", "c"}, func(party.ID) *pb.SignRequest { return o.request(attempt, "a", "c") })
	}()
	<-bound
	w.hosts.on(nil)
	w.Net.SetTamper(nil)
	w.kill("c")
	w.expect(<-out, map[party.ID]string{"a": "PEER_AWAY"})
	w.Members["c"].Start()

	// Its session is dead for ever; the payment is not, and a holds the slot for it.
	if got := w.how("c", w.Members["c"].Sign(t.Context(), o.request(attempt, "a", "c"))); got != "FailedPrecondition" {
		t.Errorf("the attempt from before the restart: %s", got)
	}
	other := w.order(w.Payment(w.record, "OTHER", w.nonce, 1))
	if got := w.judge("a", other); got != "G-SLOT" {
		t.Errorf("another payment on the slot that a released: %s", got)
	}
	w.mustSign(o, "a", "c")
	w.VerifyAudits()
}

// Between release and partial a has given its partial and c has not.
func TestRestartBeforePartial(t *testing.T) {
	w := newWorld(t, cluster.Config{})
	o := w.payment()
	signed := make(chan struct{})
	w.hosts.on(func(id party.ID, e *engine.Event) bool {
		if id == "c" && e.Partial != nil {
			close(signed)
			return false
		}
		return true
	})
	out := make(chan map[party.ID]cluster.Answer, 1)
	go func() { out <- w.session(t.Context(), o, "a", "c") }()
	<-signed
	w.hosts.on(nil)
	w.kill("c")
	if a := (<-out)["c"]; a.Partial != nil {
		t.Fatal("c gave a partial")
	}
	for _, sealed := range []bool{true, false} {
		// It remembers what it released, whether or not it was unsealed since.
		w.Members["c"].StartSealed(sealed)
		other := w.order(w.Payment(w.record, "OTHER", w.nonce, 1))
		w.Eventually("c refuses another payment on the slot that it released", func() bool { return w.judge("c", other) == "G-SLOT" })
		if sealed {
			w.Members["c"].Stop()
		}
	}
	w.mustSign(o, "b", "c")
	w.VerifyAudits()
}

// Whatever a network may do to messages that arrive, ceremonies and sessions end well.
func TestNetworkRepeatsAndReorders(t *testing.T) {
	for seed := range uint64(2) {
		w := &world{t: t, Cluster: cluster.New(t, cluster.Config{Seed: seed})}
		w.Net.SetFaults(memnet.Faults{MaxDelay: 3 * time.Millisecond, Duplicate: 0.4, Reorder: 0.4})
		w.record = w.Wallet()
		for _, quorum := range []party.Set{{"a", "b"}, {"a", "c"}, {"b", "c"}} {
			w.mustSign(w.payment(), quorum...)
		}
		if n := w.Net.Counts(); n.Duplicated == 0 || n.Reordered == 0 {
			t.Errorf("nothing was repeated or reordered: %+v", n)
		}
		w.VerifyAudits()
	}
}

// What does not arrive ends the session by name, in time, and blames nobody.
func TestNetworkLosesAndCuts(t *testing.T) {
	w := newWorld(t, cluster.Config{SessionWithin: 2 * time.Second})
	for name, fault := range map[string]func(){
		"loss":       func() { w.Net.SetFaults(memnet.Faults{Loss: 0.1}) },
		"corruption": func() { w.Net.SetFaults(memnet.Faults{Corrupt: 0.1}) },
		"partition":  func() { w.Net.Partition(party.Set{"b"}) },
		"one way":    func() { w.Net.CutOneWay("b", "a") },
	} {
		fault()
		var orders []order
		for range 4 {
			orders = append(orders, w.payment())
		}
		failed := make([]int, len(orders))
		var g sync.WaitGroup
		for n, o := range orders {
			g.Go(func() {
				for id, a := range w.session(t.Context(), o, "a", "b") {
					switch got := w.how(id, a); got {
					case "PARTIAL":
					case engine.CodeTimeout, "PEER_AWAY", "PEER_ABORTED":
						failed[n]++
						if len(a.Failed.Culprits) > 0 {
							t.Errorf("%s: signer %s accuses %v", name, id, a.Failed.Culprits)
						}
					default:
						t.Errorf("%s: signer %s answers %s (%v)", name, id, got, a)
					}
				}
			})
		}
		g.Wait()
		t.Logf("%s: failed at so many of two signers, by session: %v", name, failed)
		w.Net.SetFaults(memnet.Faults{})
		w.mustSign(w.payment(), "a", "c")
		w.Net.Heal()
		for _, o := range orders {
			w.mustSign(o, "a", "b")
		}
	}
	w.VerifyAudits()
}

// ceremony runs one ceremony of the wallet and hangs up when until is closed.
func (w *world) ceremony(ref string, until <-chan struct{}) (*wallet.Record, error) {
	w.t.Helper()
	i := w.Cluster.CreateWallet(ref)
	ctx, cancel := context.WithCancel(w.t.Context())
	defer cancel()
	go func() {
		select {
		case <-until:
		case <-ctx.Done():
		}
		cancel()
	}()
	return w.Ceremony(ctx, i, w.Approvals(i))
}

// drop makes the network lose all messages of a kind, and says when want were lost.
func (w *world) drop(want int, lost func(from, to party.ID, kind string) bool) <-chan struct{} {
	enough, n := make(chan struct{}), 0
	w.Net.SetTamper(func(from, to party.ID, data []byte) []byte {
		e, err := envelope.Parse(data)
		if err != nil || !lost(from, to, e.Kind) {
			return data
		}
		if n++; n == want {
			close(enough)
		}
		return nil
	})
	return enough
}

// One wallet whose ceremony fails at every stage, at last succeeds.
func TestCeremonyFailsThenSucceeds(t *testing.T) {
	w := &world{t: t, hosts: &hosts{}}
	w.Cluster = cluster.New(t, cluster.Config{Host: w.hosts.make})
	// Hung up when the first message of each stage is lost.
	for _, kind := range []string{"nonce", dkg.KindCommit, dkg.KindReveal, engine.KindKG1, engine.KindKG2b, engine.KindKG3, dkg.KindConfirm, engine.KindS2, engine.KindS8} {
		lost := w.drop(1, func(_, _ party.ID, k string) bool { return k == kind })
		if _, err := w.ceremony("AT-"+kind, lost); err == nil {
			t.Fatalf("a ceremony without %s succeeded", kind)
		}
		w.Net.SetTamper(nil)
		w.idle("a", "b", "c")
	}
	// A worker dies in the middle.
	died := make(chan struct{}, 8)
	w.hosts.on(func(id party.ID, e *engine.Event) bool {
		if id == "b" && e.Keygen != nil {
			*e = engine.Event{Session: e.Session, Failed: &engine.Fault{Code: engine.CodeWorkerDied, Text: "killed"}}
			died <- struct{}{}
		}
		return true
	})
	if _, err := w.ceremony("DIES", nil); err == nil {
		t.Fatal("a ceremony without b's worker succeeded")
	}
	<-died
	w.hosts.on(nil)
	w.idle("a", "b", "c")
	w.record = w.Wallet()
	w.mustSign(w.payment(), "a", "b")
	w.mustSign(w.payment(), "b", "c")
	w.VerifyAudits()
}

// A ceremony breaks off when all have proved their shares, or signed the record, and nobody
// hears of it. Somebody could have all the signatures, and show them in a year, so no
// second key is ever made for the name: the next try finishes the ceremony from the
// disks, whoever was restarted meanwhile.
func TestBrokenCeremonyIsFinished(t *testing.T) {
	for _, kind := range []string{dkg.KindProved, dkg.KindAttest} {
		for _, restarted := range []party.Set{{}, {"b"}, {"a", "b", "c"}} {
			t.Run(fmt.Sprintf("%s %v", kind, restarted), func(t *testing.T) {
				w := &world{t: t, Cluster: cluster.New(t, cluster.Config{})}
				var mu sync.Mutex
				records, n := map[canon.Digest]bool{}, 0
				lost := make(chan struct{})
				w.Net.SetTamper(func(_, _ party.ID, data []byte) []byte {
					e, err := envelope.Parse(data)
					if err != nil || e.Kind != kind {
						return data
					}
					mu.Lock()
					defer mu.Unlock()
					if m, err := dkg.ParseProved(e.Body); err == nil {
						records[m.Record] = true
					}
					if m, err := dkg.ParseAttestation(e.Body); err == nil {
						records[m.Record] = true
					}
					if n++; n == 6 {
						close(lost)
					}
					return nil
				})
				if _, err := w.ceremony("UNHEARD", lost); err == nil {
					t.Fatal("a ceremony succeeded that nobody could end")
				}
				w.Net.SetTamper(nil)
				for _, id := range restarted {
					w.Members[id].Stop()
				}
				for _, id := range restarted {
					w.Members[id].Start()
				}
				var err error
				w.Eventually("the next try succeeds", func() bool { // those who stayed take a moment to notice
					w.record, err = w.ceremony("AGAIN-"+canon.Digest(cluster.Attempt()).Short(), nil)
					return err == nil
				})
				if mu.Lock(); len(records) != 1 || !records[w.record.Digest()] {
					t.Errorf("wallet %s was made, the records before are %v", w.record.Digest().Short(), records)
				}
				mu.Unlock()
				w.mustSign(w.payment(), "a", "b")
				w.mustSign(w.payment(), "b", "c")
				w.VerifyAudits()
			})
		}
	}
}

// anew is a link that tells of c's process what the test wants.
type anew struct {
	transport.Link
	process *atomic.Int64
}

func (l anew) State(of party.ID) transport.PeerState {
	s := l.Link.State(of)
	if of == "c" {
		s.Process = fmt.Sprint(l.process.Load())
	}
	return s
}

// A peer that was started anew, so fast that it was never seen away, has forgotten the
// session: it ends at once, not when its time is over.
func TestPeerStartedAnew(t *testing.T) {
	var process atomic.Int64
	w := newWorld(t, cluster.Config{Link: func(id party.ID, l transport.Link) transport.Link {
		if id != "a" {
			return l
		}
		return anew{l, &process}
	}})
	o := w.payment()
	attempt := cluster.Attempt()
	answers := make(chan cluster.Answer, 1)
	// c is not even asked: a has only its link to tell that nothing will come.
	go func() { answers <- w.Members["a"].Sign(t.Context(), o.request(attempt, "a", "c")) }()
	api := w.Members["a"].API()
	w.Eventually("the session has begun", func() bool {
		st, err := api.Status(t.Context(), &pb.StatusRequest{})
		return err == nil && st.ActiveSessions == 1
	})
	for {
		process.Add(1)
		select {
		case a := <-answers:
			if got := w.how("a", a); got != "PEER_AWAY" || !strings.Contains(a.Failed.Text, "anew") {
				t.Errorf("a answers %v", a)
			}
			return
		case <-time.After(300 * time.Millisecond): // a looks four times a second
		}
	}
}

// While a ceremony runs, another one of the same wallet is refused: each could end
// well at some of the signers.
func TestOneCeremonyAtATime(t *testing.T) {
	w := &world{t: t, Cluster: cluster.New(t, cluster.Config{})}
	lost := w.drop(2, func(from, _ party.ID, k string) bool { return from == "c" && k == engine.KindKG3 })
	hangUp := make(chan struct{})
	ended := make(chan error, 1)
	go func() { _, err := w.ceremony("FIRST", hangUp); ended <- err }()
	<-lost
	i := w.Cluster.CreateWallet("SECOND")
	for id, m := range w.Members {
		_, err := m.CreateWallet(t.Context(), i, w.Approvals(i), cluster.Attempt())
		if got := w.how(id, cluster.Answer{Err: err}); got != "FailedPrecondition" {
			t.Errorf("signer %s: a second ceremony: %v", id, err)
		}
	}
	close(hangUp)
	if err := <-ended; err == nil {
		t.Fatal("the first ceremony succeeded without messages of c")
	}
	w.Net.SetTamper(nil)
	w.idle("a", "b", "c")
	w.record = w.Wallet()
	// And none after it: a ceremony never replaces a key.
	i = w.Cluster.CreateWallet("THIRD")
	if _, err := w.Members["a"].CreateWallet(t.Context(), i, w.Approvals(i), cluster.Attempt()); err == nil {
		t.Error("a second wallet of one name")
	}
}

// Signers that were cut off in the ceremony's last moment learn of the wallet from
// whoever has its record.
func TestAdopt(t *testing.T) {
	w := &world{t: t, Cluster: cluster.New(t, cluster.Config{CeremonyWithin: 4 * time.Second})}
	lost := w.drop(2, func(from, _ party.ID, k string) bool {
		return from == "b" && (k == dkg.KindAttest || k == dkg.KindAttested)
	})
	b := w.Members["b"].API()
	done := make(chan struct{})
	go func() {
		<-lost
		w.Eventually("the wallet is active at b", func() bool {
			st, err := b.Status(t.Context(), &pb.StatusRequest{})
			return err == nil && len(st.Wallets) == 1
		})
		close(done)
	}()
	if _, err := w.ceremony("CUT", done); err == nil {
		t.Fatal("the ceremony ended well for all")
	}
	w.Net.SetTamper(nil)
	w.idle("a", "b", "c")
	st, err := b.Status(t.Context(), &pb.StatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	signed, err := wallet.FromProto(st.Wallets[0])
	if err != nil {
		t.Fatal(err)
	}
	if w.record, err = signed.Open(w.Charter.Only()); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	before, err := w.Members["a"].API().Status(ctx, &pb.StatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if len(before.Wallets) != 0 {
		t.Fatal("the wallet is active at a, which was cut off")
	}
	// Not without every signature, nor one that nobody here has a share of.
	forged := wallet.Signed{Raw: signed.Raw, Signatures: map[party.ID][]byte{"a": signed.Signatures["a"], "b": signed.Signatures["b"], "c": signed.Signatures["b"]}}
	short := wallet.Signed{Raw: signed.Raw, Signatures: map[party.ID][]byte{"a": signed.Signatures["a"], "b": signed.Signatures["b"]}}
	for _, bad := range []*pb.SignedRecord{nil, {}, forged.ToProto(), short.ToProto()} {
		if _, err := w.Members["a"].API().AdoptWallet(ctx, &pb.AdoptWalletRequest{Wallet: bad}); err == nil {
			t.Errorf("adopted %v", bad)
		}
	}
	// a is restarted before it hears of it; its pending share is on disk.
	w.Members["a"].Stop()
	w.Members["a"].Start()
	for _, id := range []party.ID{"a", "c", "a"} { // twice is harmless
		if _, err := w.Members[id].API().AdoptWallet(ctx, &pb.AdoptWalletRequest{Wallet: st.Wallets[0]}); err != nil {
			t.Fatalf("signer %s: %v", id, err)
		}
	}
	for n, quorum := range []party.Set{{"a", "b"}, {"a", "c"}} {
		w.mustSign(w.order(w.Payment(w.record, fmt.Sprint("ADOPTED-", n), uint64(n+1), 1)), quorum...)
	}
	w.VerifyAudits()
}

// Once all have signed the record, a coordinator that hangs up stops nothing.
func TestHangUpAfterAttestation(t *testing.T) {
	w := &world{t: t, Cluster: cluster.New(t, cluster.Config{})}
	w.Net.SetFaults(memnet.Faults{MinDelay: 60 * time.Millisecond, MaxDelay: 60 * time.Millisecond})
	sent, n := make(chan struct{}), 0
	w.Net.SetTamper(func(_, _ party.ID, data []byte) []byte {
		if e, err := envelope.Parse(data); err == nil && e.Kind == dkg.KindAttest {
			if n++; n == 6 {
				close(sent)
			}
		}
		return data
	})
	_, _ = w.ceremony("HANG-UP", sent) // whether its answers came before the end is a race
	for id, m := range w.Members {
		api := m.API()
		w.Eventually(fmt.Sprintf("the wallet at %s", id), func() bool {
			st, err := api.Status(t.Context(), &pb.StatusRequest{})
			return err == nil && len(st.Wallets) == 1
		})
	}
}
