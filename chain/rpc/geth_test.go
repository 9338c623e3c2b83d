//go:build geth

package rpc_test

import (
	"context"
	"math/big"
	"testing"
	"time"

	"coffer/chain/rpc"
	"coffer/internal/devchain"
	"coffer/internal/gethdev"
)

// The same scenario on a real geth, a client that none of our code wrote.
func TestGethScenario(t *testing.T) {
	binary, err := gethdev.Binary()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	node, err := gethdev.Start(ctx, binary, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := node.Stop(); err != nil {
			t.Error(err)
		}
	}()
	client, err := rpc.Dial(ctx, node.URL, gethdev.ChainID)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	w := newWallet(t)
	hash, err := node.Fund(ctx, w.address, new(big.Int).Mul(ether, big.NewInt(10)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := devchain.Mined(ctx, client, hash); err != nil {
		t.Fatal(err)
	}
	scenario(t, ctx, node.URL, client, w)
	history(t, ctx, client, w)
	replace(t, ctx, client, w)
}
