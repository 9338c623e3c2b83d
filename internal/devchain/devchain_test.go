package devchain_test

import (
	"context"
	"errors"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"coffer/chain/evm"
	"coffer/chain/rpc"
	"coffer/internal/devchain"
	"coffer/internal/devchain/token"
)

var ether = big.NewInt(1e18)

// up starts a chain on a free port, on which the faucet has 100 ether, and stops it with the test.
func up(t *testing.T, options ...func(*devchain.Config)) (url string, faucet *devchain.Faucet) {
	t.Helper()
	faucet, err := devchain.NewFaucet()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ready, done := make(chan string, 1), make(chan error, 1)
	cfg := devchain.Config{
		Alloc: map[evm.Address]*big.Int{faucet.Address(): new(big.Int).Mul(ether, big.NewInt(100))},
		Ready: func(url string) { ready <- url },
	}
	for _, o := range options {
		o(&cfg)
	}
	go func() { done <- devchain.Run(ctx, cfg) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("dev chain ended with %v", err)
		}
	})
	select {
	case url = <-ready:
	case err := <-done:
		done <- nil
		t.Fatalf("dev chain did not start: %v", err)
	}
	return url, faucet
}

func TestPaysAndMines(t *testing.T) {
	url, faucet := up(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	client, err := rpc.Dial(ctx, url, devchain.ChainID)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	to := evm.Address{1, 2, 3}
	for n := range 3 {
		receipt, err := faucet.Pay(ctx, client, to, ether)
		if err != nil {
			t.Fatal(err)
		}
		// The n-th payment is in block n: none without a payment comes in between.
		if receipt.GasUsed != evm.PlainGas || receipt.Fee.Sign() <= 0 || receipt.Block != uint64(n+1) {
			t.Errorf("receipt %+v", receipt)
		}
		got, err := client.Balance(ctx, to)
		if err != nil || got.Cmp(new(big.Int).Mul(ether, big.NewInt(int64(n+1)))) != 0 {
			t.Fatalf("balance %s after %d payments, %v", got, n+1, err)
		}
	}

	supply := big.NewInt(1_000_000_000)
	contract, err := token.Deploy(ctx, url, faucet.Key(), "Test Dollar", "TUSD", 6, supply)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := token.ABI()
	if err != nil {
		t.Fatal(err)
	}
	call, err := parsed.Pack("transfer", to, big.NewInt(2_500_000))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := faucet.Call(ctx, client, contract, nil, call); err != nil {
		t.Fatal(err)
	}
	for holder, want := range map[evm.Address]int64{to: 2_500_000, faucet.Address(): 1_000_000_000 - 2_500_000} {
		if got, err := client.TokenBalance(ctx, contract, holder); err != nil || got.Int64() != want {
			t.Errorf("token balance of %s is %s, want %d, %v", holder, got, want, err)
		}
	}
}

// Several chains live in one process, each on the port that it reported, and a port is
// free again once its chain has stopped.
func TestStopsCleanly(t *testing.T) {
	for range 2 {
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		ready := make(chan string, 1)
		go func() {
			done <- devchain.Run(ctx, devchain.Config{Listen: "127.0.0.1:0", Ready: func(url string) { ready <- url }})
		}()
		url := <-ready
		if !strings.HasPrefix(url, "http://127.0.0.1:") || strings.HasSuffix(url, ":0") {
			t.Errorf("url %q", url)
		}
		response, err := http.Post(url, "application/json", strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}`))
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		stop()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		free, err := net.Listen("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatalf("the port is still taken: %v", err)
		}
		free.Close()
	}
}

func TestRefuses(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for name, c := range map[string]struct {
		config devchain.Config
		says   string
	}{
		"port in use":         {devchain.Config{Listen: taken.Addr().String()}, "cannot listen"},
		"no port":             {devchain.Config{Listen: "127.0.0.1"}, "cannot listen"},
		"negative allocation": {devchain.Config{Alloc: map[evm.Address]*big.Int{{}: big.NewInt(-1)}}, "allocation"},
		"no amount":           {devchain.Config{Alloc: map[evm.Address]*big.Int{{}: nil}}, "allocation"},
	} {
		c.config.Ready = func(url string) { t.Errorf("%s: it serves at %s", name, url) }
		if err := devchain.Run(t.Context(), c.config); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want an error that says %q", name, err, c.says)
		}
	}
	if err := devchain.Run(t.Context(), devchain.Config{Listen: taken.Addr().String()}); !errors.Is(err, devchain.ErrListen) {
		t.Errorf("port in use: %v", err)
	}
}

// A chain with a folder goes on where it was: balances, nonces, receipts.
func TestKeepsItsBlocks(t *testing.T) {
	faucet, err := devchain.NewFaucet()
	if err != nil {
		t.Fatal(err)
	}
	dir, to := t.TempDir(), evm.Address{7}
	var seen []*rpc.Receipt
	for life := range 3 {
		ctx, stop := context.WithCancel(t.Context())
		ready, done := make(chan string, 1), make(chan error, 1)
		go func() {
			done <- devchain.Run(ctx, devchain.Config{
				Dir: dir, Alloc: map[evm.Address]*big.Int{faucet.Address(): new(big.Int).Mul(ether, big.NewInt(100))},
				Ready: func(url string) { ready <- url },
			})
		}()
		var url string
		select {
		case url = <-ready:
		case err := <-done:
			t.Fatalf("life %d: %v", life, err)
		}
		client, err := rpc.Dial(t.Context(), url, devchain.ChainID)
		if err != nil {
			t.Fatal(err)
		}
		for n, r := range seen {
			again, err := client.Receipt(t.Context(), r.Hash)
			if err != nil || again.Block != r.Block || again.BlockHash != r.BlockHash {
				t.Errorf("life %d, payment %d: receipt %+v, was %+v: %v", life, n, again, r, err)
			}
		}
		for range 2 {
			r, err := faucet.Pay(t.Context(), client, to, ether)
			if err != nil {
				t.Fatal(err)
			}
			seen = append(seen, r)
		}
		if got, err := client.Balance(t.Context(), to); err != nil || got.Cmp(new(big.Int).Mul(ether, big.NewInt(int64(len(seen))))) != 0 {
			t.Errorf("life %d: balance %s after %d payments: %v", life, got, len(seen), err)
		}
		client.Close()
		stop()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}
