package coordinator_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"
	"time"

	"coffer/approval"
	"coffer/canon"
	"coffer/chain/evm"
	"coffer/chain/rpc"
	"coffer/coordinator"
	"coffer/intent"
	"coffer/internal/cluster"
	"coffer/internal/devchain"
	pb "coffer/proto/coffer/v1"
	cofferrpc "coffer/rpc"
	"coffer/wallet"
)

// world is a cluster, a chain behind a gate that can be shut, and a coordinator that
// can be stopped and started.
type world struct {
	t       testing.TB
	cluster *cluster.Cluster
	chain   *rpc.Client
	faucet  *devchain.Faucet
	gate    *gate
	api     pb.CoordinatorClient
	wallet  *wallet.Record
	account evm.Address

	cancel context.CancelFunc
	done   chan error
	nonce  uint64
}

func ether(tenths int64) *big.Int { return new(big.Int).Mul(big.NewInt(tenths), big.NewInt(1e17)) }

// newWorld starts everything; there is no wallet yet.
func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t}
	var err error
	w.faucet, err = devchain.NewFaucet()
	w.must(err)
	url := make(chan string, 1)
	ctx, cancel := context.WithCancel(context.Background())
	chainDone := make(chan error, 1)
	go func() {
		chainDone <- devchain.Run(ctx, devchain.Config{
			Alloc: map[evm.Address]*big.Int{w.faucet.Address(): ether(1_000_000)}, Ready: func(u string) { url <- u },
		})
	}()
	t.Cleanup(func() {
		cancel()
		w.must(<-chainDone)
	})
	var endpoint string
	select {
	case endpoint = <-url:
	case err := <-chainDone:
		t.Fatal(err)
	}
	w.chain, err = rpc.Dial(t.Context(), endpoint, devchain.ChainID)
	w.must(err)
	t.Cleanup(w.chain.Close)
	w.gate = newGate(t, endpoint)
	w.cluster = cluster.New(t, cluster.Config{ChainURL: w.gate.URL})
	w.start()
	t.Cleanup(w.stop)
	return w
}

// newFunded is a world with a wallet that has money.
func newFunded(t testing.TB) *world {
	t.Helper()
	w := newWorld(t)
	w.wallet = w.cluster.Wallet()
	var err error
	w.account, err = evm.AddressOf(w.wallet.PublicKey)
	w.must(err)
	_, err = w.faucet.Pay(t.Context(), w.chain, w.account, ether(1000))
	w.must(err)
	w.cluster.Eventually("the coordinator knows the wallet", func() bool {
		reply, err := w.api.Wallets(t.Context(), &pb.WalletsRequest{})
		return err == nil && len(reply.Wallets) == 1
	})
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

type logs struct{ t testing.TB }

func (l logs) Write(b []byte) (int, error) { l.t.Log(string(bytes.TrimSpace(b))); return len(b), nil }

// start runs the coordinator until stop.
func (w *world) start() {
	w.t.Helper()
	ready := make(chan string, 1)
	c, err := coordinator.New(coordinator.Config{
		Dir: w.cluster.Desk, Logger: slog.New(slog.NewTextHandler(logs{w.t}, nil)), Ready: func(address string) { ready <- address },
	})
	w.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel, w.done = cancel, make(chan error, 1)
	go func() {
		err := c.Run(ctx)
		if closeErr := c.Close(); err == nil {
			err = closeErr
		}
		w.done <- err
	}()
	select {
	case address := <-ready:
		conn, err := cofferrpc.DialAnonymous(w.cluster.DeskKey.ID(), address)
		w.must(err)
		w.t.Cleanup(func() { _ = conn.Close() })
		w.api = pb.NewCoordinatorClient(conn)
	case err := <-w.done:
		w.t.Fatal(err)
	}
}

// stop ends the coordinator and waits for it. It is idempotent.
func (w *world) stop() {
	w.t.Helper()
	if w.cancel == nil {
		return
	}
	w.cancel()
	w.cancel = nil
	w.must(<-w.done)
}

func (w *world) restart() { w.t.Helper(); w.stop(); w.start() }

// payment is alice's for the supplier, at the next nonce.
func (w *world) payment(ref string, tenths int64) intent.Signed {
	w.t.Helper()
	advice, err := w.api.Advise(w.t.Context(), &pb.AdviseRequest{Wallet: w.wallet.Name, Chain: "dev", Asset: "ETH"})
	w.must(err)
	return w.cluster.Sign("alice", w.cluster.Payment(w.wallet, ref, advice.Nonce, tenths))
}

func (w *world) submit(i intent.Signed) (*pb.SubmitResponse, error) {
	return w.api.Submit(w.t.Context(), &pb.SubmitRequest{Intent: i.ToProto()})
}

func (w *world) mustSubmit(i intent.Signed) canon.Digest {
	w.t.Helper()
	reply, err := w.submit(i)
	w.must(err)
	if reply.Existed {
		w.t.Fatal("a new intent existed")
	}
	return canon.Sum(i.Raw)
}

func (w *world) state(who string, kind approval.Kind, id canon.Digest) error {
	_, err := w.api.State(w.t.Context(), &pb.StateRequest{Statement: w.cluster.State(who, kind, id).ToProto()})
	return err
}

func (w *world) approve(id canon.Digest) {
	w.t.Helper()
	w.must(w.state("bob", approval.Approve, id))
	w.must(w.state("carol", approval.Approve, id))
}

func (w *world) get(id canon.Digest) *pb.IntentView {
	w.t.Helper()
	view, err := w.api.Get(w.t.Context(), &pb.GetRequest{Id: id.String()})
	w.must(err)
	return view
}

// until watches an intent until ok.
func (w *world) until(id canon.Digest, what string, ok func(*pb.IntentView) bool) *pb.IntentView {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 30*time.Second)
	defer cancel()
	stream, err := w.api.Watch(ctx, &pb.GetRequest{Id: id.String()})
	w.must(err)
	var last *pb.IntentView
	for {
		view, err := stream.Recv()
		if err != nil {
			w.t.Fatalf("intent %s is not %s: %v; last: %v", id.Short(), what, err, last)
		}
		if last = view; ok(view) {
			return view
		}
	}
}

func ended(v *pb.IntentView) bool {
	return v.Stage == pb.Stage_STAGE_DONE || v.Stage == pb.Stage_STAGE_FAILED || v.Stage == pb.Stage_STAGE_REFUSED
}

func (w *world) end(id canon.Digest) *pb.IntentView { w.t.Helper(); return w.until(id, "ended", ended) }

func (w *world) wantDone(id canon.Digest) *pb.IntentView {
	w.t.Helper()
	view := w.end(id)
	if view.Stage != pb.Stage_STAGE_DONE {
		w.t.Fatalf("intent %s ended %s: %s %s", id.Short(), view.Stage, view.FailureCode, view.Detail)
	}
	return view
}

func (w *world) wantEnd(id canon.Digest, stage pb.Stage, code string) *pb.IntentView {
	w.t.Helper()
	view := w.end(id)
	if view.Stage != stage || view.FailureCode != code {
		w.t.Fatalf("intent %s ended %s %s (%s), want %s %s", id.Short(), view.Stage, view.FailureCode, view.Detail, stage, code)
	}
	return view
}

// paid runs f and demands that the supplier then has so many tenths of an ether more.
func (w *world) paid(tenths int64, f func()) {
	w.t.Helper()
	supplier, err := evm.ParseAddress(cluster.Supplier)
	w.must(err)
	before, err := w.chain.Balance(w.t.Context(), supplier)
	w.must(err)
	f()
	after, err := w.chain.Balance(w.t.Context(), supplier)
	w.must(err)
	if got := new(big.Int).Sub(after, before); got.Cmp(ether(tenths)) != 0 {
		w.t.Errorf("the supplier got %s wei, want %s", got, ether(tenths))
	}
}

// gate stands before the chain's endpoint and can fail methods, before or after the
// node has carried them out.
type gate struct {
	*httptest.Server
	mu           sync.Mutex
	before, lost map[string]bool
}

func newGate(t testing.TB, endpoint string) *gate {
	t.Helper()
	target, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{before: map[string]bool{}, lost: map[string]bool{}}
	proxy := httputil.NewSingleHostReverseProxy(target)
	g.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(rw, err.Error(), http.StatusBadRequest)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		var call struct{ Method string }
		_ = json.Unmarshal(body, &call) // a batch has no method and passes
		g.mu.Lock()
		before, lost := g.before[call.Method], g.lost[call.Method]
		g.mu.Unlock()
		if before {
			http.Error(rw, "away", http.StatusServiceUnavailable)
			return
		}
		if lost {
			proxy.ServeHTTP(httptest.NewRecorder(), r)
			http.Error(rw, "away", http.StatusServiceUnavailable)
			return
		}
		proxy.ServeHTTP(rw, r)
	}))
	t.Cleanup(g.Close)
	return g
}

// fail makes a method fail before it reaches the node.
func (g *gate) fail(method string, on bool) { g.mu.Lock(); g.before[method] = on; g.mu.Unlock() }

// lose makes a method reach the node and its answer get lost.
func (g *gate) lose(method string, on bool) { g.mu.Lock(); g.lost[method] = on; g.mu.Unlock() }
