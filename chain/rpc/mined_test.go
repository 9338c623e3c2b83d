package rpc_test

import (
	"bytes"
	"context"
	"errors"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"coffer/chain/evm"
	"coffer/chain/rpc"
	"coffer/internal/devchain"

	"github.com/ethereum/go-ethereum/crypto"
)

// history pays a few times, with blocks of others in between, and demands that each
// nonce is found with its transaction, block and bytes.
func history(t *testing.T, ctx context.Context, client *rpc.Client, w wallet) {
	first, err := client.Nonce(ctx, w.address)
	if err != nil {
		t.Fatal(err)
	}
	var sent [][]byte
	var blocks []*rpc.Receipt
	for n := range uint64(5) {
		raw := w.sign(t, transfer(t, ctx, client, first+n))
		hash, err := client.Broadcast(ctx, raw)
		if err != nil {
			t.Fatal(err)
		}
		receipt, err := devchain.Mined(ctx, client, hash)
		if err != nil {
			t.Fatal(err)
		}
		sent, blocks = append(sent, raw), append(blocks, receipt)
	}
	for n, raw := range sent {
		hash, block, err := client.MinedAt(ctx, w.address, first+uint64(n))
		if err != nil || hash != blocks[n].Hash || block != blocks[n].Block {
			t.Errorf("nonce %d: transaction %x in block %d, %v; want %x in %d", n, hash, block, err, blocks[n].Hash, blocks[n].Block)
		}
		if got, err := client.Transaction(ctx, blocks[n].Hash); err != nil || !bytes.Equal(got, raw) {
			t.Errorf("nonce %d: transaction %x, %v", n, got, err)
		}
		if got, err := client.BlockHash(ctx, blocks[n].Block); err != nil || got != blocks[n].BlockHash {
			t.Errorf("block %d is %x, %v; its receipt says %x", blocks[n].Block, got, err, blocks[n].BlockHash)
		}
	}
	for _, account := range []evm.Address{w.address, {5: 7}} {
		if _, _, err := client.MinedAt(ctx, account, first+5); !errors.Is(err, rpc.ErrNotFound) {
			t.Errorf("a nonce that is not used: %v", err)
		}
	}
	if _, err := client.BlockHash(ctx, 1<<40); !errors.Is(err, rpc.ErrNotFound) {
		t.Errorf("a block that is not there: %v", err)
	}
	none := crypto.Keccak256Hash([]byte("none"))
	if _, err := client.Transaction(ctx, none); !errors.Is(err, rpc.ErrNotFound) {
		t.Errorf("a transaction that is not there: %v", err)
	}
	if r, err := client.Found(ctx, none, blocks[2].Hash); err != nil || r.Hash != blocks[2].Hash {
		t.Errorf("one of two transactions: %+v, %v", r, err)
	}
	if _, err := client.Found(ctx, none); !errors.Is(err, rpc.ErrNotFound) {
		t.Errorf("no transaction of one: %v", err)
	}
}

// replace puts another transaction in the place of one that waits, on a node whose rules
// are not ours: a twentieth more is not enough, what Outbid says is, and it is mined.
func replace(t *testing.T, ctx context.Context, client *rpc.Client, w wallet) {
	next, err := client.Nonce(ctx, w.address)
	if err != nil {
		t.Fatal(err)
	}
	// Behind a gap it waits as long as it should, whatever it offers.
	waiting := transfer(t, ctx, client, next+1)
	first, err := client.Broadcast(ctx, w.sign(t, waiting))
	if err != nil {
		t.Fatal(err)
	}
	with := func(tip, feeCap *big.Int) []byte {
		u := *waiting
		u.TipCap, u.FeeCap = tip, feeCap
		return w.sign(t, &u)
	}
	more := func(v *big.Int, percent int64) *big.Int {
		return new(big.Int).Div(new(big.Int).Mul(v, big.NewInt(100+percent)), big.NewInt(100))
	}
	fees := evm.Outbid(waiting)
	for name, raw := range map[string][]byte{
		"a twentieth more": with(more(waiting.TipCap, 5), more(waiting.FeeCap, 5)),
		"only the tip":     with(fees.TipCap, waiting.FeeCap),
		"only the fee cap": with(waiting.TipCap, fees.FeeCap),
		"a little less":    with(more(waiting.TipCap, -1), more(waiting.FeeCap, -1)),
	} {
		if _, err := client.Broadcast(ctx, raw); !errors.Is(err, rpc.ErrUnderpriced) {
			t.Errorf("%s: %v", name, err)
		}
	}
	second, err := client.Broadcast(ctx, with(fees.TipCap, fees.FeeCap))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Broadcast(ctx, w.sign(t, transfer(t, ctx, client, next))); err != nil {
		t.Fatal(err)
	}
	if _, err := devchain.Mined(ctx, client, second); err != nil {
		t.Fatal(err)
	}
	if r, err := client.Found(ctx, first, second); err != nil || r.Hash != second {
		t.Errorf("mined is %+v, %v", r, err)
	}
	if hash, _, err := client.MinedAt(ctx, w.address, next+1); err != nil || hash != second {
		t.Errorf("the nonce was used by %x, %v", hash, err)
	}
}

func TestHistory(t *testing.T) {
	w := newWallet(t)
	ctx, _, client := chain(t, w)
	history(t, ctx, client, w)
	replace(t, ctx, client, w)
}

// A node that has thrown the state away says so, and what to do.
func TestMinedAtPruned(t *testing.T) {
	for _, words := range []string{"missing trie node 1234 (path ) state is not available", "header not found: state not available", "history has been pruned for this block"} {
		answers := map[string]string{"eth_blockNumber": `"result":"0x100"`, "eth_getTransactionCount": `"error":{"code":-32000,"message":"` + words + `"}`}
		client, err := rpc.Dial(t.Context(), node(t, answers).URL, 1337)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := client.MinedAt(t.Context(), evm.Address{}, 1); !errors.Is(err, rpc.ErrPruned) || !strings.Contains(err.Error(), "archive") {
			t.Errorf("%q: %v", words, err)
		}
		client.Close()
	}
}

// A first node that takes the question and says nothing leaves time to ask the next one,
// which then stays in use.
func TestFallbackFromSilence(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // the kernel accepts, and nobody answers
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	good := node(t, map[string]string{"eth_getTransactionCount": `"result":"0x2"`})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second) // as the coordinator's question for the newest block
	defer cancel()
	client, err := rpc.Dial(ctx, "http://"+silent.Addr().String(), 1337, good.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if got := client.Endpoint(); got != strings.TrimPrefix(good.URL, "http://") {
		t.Errorf("%s answered", got)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if got, err := client.Nonce(ctx, evm.Address{}); err != nil || got != 2 {
		t.Errorf("nonce %d, %v; want 2 at once", got, err)
	}
}

// While the first node is away the next one serves, and one of another chain never does.
func TestFallback(t *testing.T) {
	down := atomic.Bool{}
	serve := func(chain, nonce string, away *atomic.Bool) *httptest.Server {
		inner := node(t, map[string]string{"eth_chainId": `"result":"` + chain + `"`, "eth_getTransactionCount": `"result":"` + nonce + `"`})
		outer := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if away != nil && away.Load() {
				rw.WriteHeader(http.StatusBadGateway)
				return
			}
			inner.Config.Handler.ServeHTTP(rw, r)
		}))
		t.Cleanup(outer.Close)
		return outer
	}
	first, foreign, second := serve("0x539", "0x1", &down), serve("0x1", "0x7", nil), serve("0x539", "0x2", nil)
	gone := httptest.NewServer(nil)
	gone.Close()
	client, err := rpc.Dial(t.Context(), first.URL, 1337, gone.URL, foreign.URL, second.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	want := func(nonce uint64) {
		t.Helper()
		if got, err := client.Nonce(t.Context(), evm.Address{}); err != nil || got != nonce {
			t.Fatalf("nonce %d, %v; want %d", got, err, nonce)
		}
	}
	want(1)
	down.Store(true)
	want(2)
	want(2)

	if _, err := rpc.Dial(t.Context(), gone.URL, 1337, foreign.URL); !errors.Is(err, rpc.ErrChainID) {
		t.Errorf("only a node of another chain answers: %v", err)
	}
	if _, err := rpc.Dial(t.Context(), first.URL, 1337, "ftp://x"); !errors.Is(err, rpc.ErrURL) {
		t.Errorf("a fallback that is no URL: %v", err)
	}
	if _, err := rpc.Dial(t.Context(), gone.URL, 1337, first.URL); !errors.Is(err, rpc.ErrUnreachable) {
		t.Errorf("all are away: %v", err)
	}
}
