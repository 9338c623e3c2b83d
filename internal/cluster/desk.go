package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"google.golang.org/grpc"

	"coffer/access"
	"coffer/chain/evm"
	chainrpc "coffer/chain/rpc"
	"coffer/coordinator"
	"coffer/credential"
	"coffer/internal/devchain"
	pb "coffer/proto/coffer/v1"
	"coffer/rpc"
	"coffer/wallet"
)

// Treasury is a cluster with a chain, behind a gate that can be shut, and a
// coordinator that can be stopped and started.
type Treasury struct {
	*Cluster
	Chain   *chainrpc.Client // past the gate
	Gate    *Gate
	Miner   *devchain.Control
	API     pb.CoordinatorClient
	Address string // of the API
	// Watching is the loopback address of the metrics, if the settings have one.
	Watching string

	Rebuild bool // the coordinator may begin without its store

	Record  *wallet.Record // once Fund was called
	Account evm.Address

	faucet *devchain.Faucet
	cancel context.CancelFunc
	done   chan error
}

// Tenths of an ether, in wei.
func Tenths(n int64) *big.Int { return new(big.Int).Mul(big.NewInt(n), big.NewInt(1e17)) }

// NewTreasury starts everything; there is no wallet yet.
func NewTreasury(t testing.TB, options ...func(*Config)) *Treasury {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	w := &Treasury{Miner: new(devchain.Control)}
	var err error
	w.faucet, err = devchain.NewFaucet()
	must(err)
	ready, done := make(chan string, 1), make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		done <- devchain.Run(ctx, devchain.Config{
			Alloc: map[evm.Address]*big.Int{w.faucet.Address(): Tenths(1_000_000)}, Ready: func(u string) { ready <- u }, Control: w.Miner,
		})
	}()
	t.Cleanup(func() {
		cancel()
		must(<-done)
	})
	select {
	case endpoint := <-ready:
		w.Chain, err = chainrpc.Dial(t.Context(), endpoint, devchain.ChainID)
		must(err)
		t.Cleanup(w.Chain.Close)
		w.Gate = newGate(t, endpoint)
	case err := <-done:
		done <- nil
		t.Fatal(err)
	}
	cfg := Config{Chain: coordinator.ChainSettings{URL: w.Gate.URL}}
	for _, o := range options {
		o(&cfg)
	}
	w.Cluster = New(t, cfg)
	w.StartDesk()
	t.Cleanup(w.StopDesk)
	return w
}

// Fund has the signers make the wallet, without the coordinator, and gives it 100 ETH.
func (w *Treasury) Fund() *Treasury {
	w.t.Helper()
	w.Record = w.Wallet()
	var err error
	w.Account, err = evm.AddressOf(w.Record.PublicKey)
	w.must(err)
	w.Give(w.Account.String())
	w.Eventually("the coordinator knows the wallet", func() bool {
		reply, err := w.API.Wallets(w.t.Context(), &pb.WalletsRequest{})
		return err == nil && len(reply.Wallets) == 1
	})
	return w
}

// Give pays 100 ETH to an account.
func (w *Treasury) Give(account string) {
	w.t.Helper()
	to, err := evm.ParseAddress(account)
	w.must(err)
	_, err = w.faucet.Pay(w.t.Context(), w.Chain, to, Tenths(1000))
	w.must(err)
}

// StartDesk runs the coordinator until StopDesk or the end of the test.
func (w *Treasury) StartDesk() {
	w.t.Helper()
	ready, watching := make(chan string, 1), make(chan string, 1)
	cfg := coordinator.Config{Dir: w.Desk, Rebuild: w.Rebuild, Watching: func(address string) { watching <- address }, Logger: w.logger("desk"), Ready: func(address string) { ready <- address }}
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel, w.done = cancel, make(chan error, 1)
	go func() { w.done <- coordinator.Serve(ctx, cfg) }()
	select {
	case w.Address = <-ready:
		conn, err := w.Dial("alice")
		w.must(err)
		w.t.Cleanup(func() { _ = conn.Close() })
		w.API = pb.NewCoordinatorClient(conn)
		if settings, err := w.Desk.LoadSettings(); err != nil {
			w.t.Fatal(err)
		} else if settings.MetricsListen != "" {
			w.Watching = <-watching
		}
	case err := <-w.done:
		w.cancel = nil
		w.t.Fatal(err)
	}
}

// Dial connects to the coordinator as a person.
func (w *Treasury) Dial(who string) (*grpc.ClientConn, error) {
	grants, err := access.OpenSource(filepath.Join(w.t.TempDir(), who), w.Charter.Cluster, who, func() (credential.Signer, error) { return w.People[who], nil })
	if err != nil {
		return nil, err
	}
	return rpc.DialGranted(grants, w.DeskKey.ID(), w.Address)
}

// StopDesk ends the coordinator and waits for it. It is idempotent.
func (w *Treasury) StopDesk() {
	w.t.Helper()
	if w.cancel == nil {
		return
	}
	w.cancel()
	w.cancel = nil
	w.must(<-w.done)
}

// LoseDesk stops the coordinator and takes away all that it wrote; identity, settings
// and charter stay.
func (w *Treasury) LoseDesk() {
	w.t.Helper()
	w.StopDesk()
	w.must(os.Remove(w.Desk.Store()))
	w.must(os.RemoveAll(w.Desk.Audit()))
}

// RestartDesk stops the coordinator and starts it again.
func (w *Treasury) RestartDesk() { w.t.Helper(); w.StopDesk(); w.StartDesk() }

// Gate stands before the chain's endpoint and can fail methods, before or after the
// node has carried them out.
type Gate struct {
	*httptest.Server
	mu           sync.Mutex
	before, lost map[string]bool
}

func newGate(t testing.TB, endpoint string) *Gate {
	t.Helper()
	target, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	g := &Gate{before: map[string]bool{}, lost: map[string]bool{}}
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

// Fail makes a method fail before it reaches the node.
func (g *Gate) Fail(method string, on bool) { g.mu.Lock(); g.before[method] = on; g.mu.Unlock() }

// Lose makes a method reach the node and its answer get lost.
func (g *Gate) Lose(method string, on bool) { g.mu.Lock(); g.lost[method] = on; g.mu.Unlock() }
