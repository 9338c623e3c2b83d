package devchain_test

import (
	"context"
	"errors"
	"math/big"
	"testing"
	"time"

	"coffer/chain/evm"
	"coffer/chain/rpc"
	"coffer/internal/devchain"
)

// A held chain leaves transactions lying; a rewound one forgets its newest blocks and
// what was in them, and goes on from there.
func TestControl(t *testing.T) {
	control := new(devchain.Control)
	if err := control.Seal(1); err == nil {
		t.Error("a chain that does not run sealed a block")
	}
	url, faucet := up(t, func(cfg *devchain.Config) { cfg.Control = control })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	client, err := rpc.Dial(ctx, url, devchain.ChainID)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	to := evm.Address{1, 2, 3}
	first, err := faucet.Pay(ctx, client, to, ether)
	if err != nil {
		t.Fatal(err)
	}
	if err := control.Seal(3); err != nil {
		t.Fatal(err)
	}
	if head, err := client.Block(ctx); err != nil || head != first.Block+3 {
		t.Fatalf("block %d, want %d, %v", head, first.Block+3, err)
	}
	if err := control.Rewind(ctx, 100); err == nil {
		t.Error("rewound more blocks than there are")
	}
	control.Hold(true)
	if err := control.Rewind(ctx, 4); err != nil {
		t.Fatal(err)
	}
	if got, err := client.Balance(ctx, to); err != nil || got.Sign() != 0 {
		t.Fatalf("after the reorganisation the payee has %s, %v", got, err)
	}
	if _, err := client.Receipt(ctx, first.Hash); !errors.Is(err, rpc.ErrNotFound) {
		t.Fatalf("the receipt is still there: %v", err)
	}
	paid := make(chan *rpc.Receipt, 1)
	go func() {
		again, err := faucet.Pay(ctx, client, to, new(big.Int).Mul(ether, big.NewInt(2)))
		if err != nil {
			t.Error(err)
		}
		paid <- again
	}()
	if err := control.Seal(2); err != nil {
		t.Fatal(err)
	}
	control.Hold(false)
	again := <-paid
	if again == nil || again.Hash == first.Hash {
		t.Fatalf("after the reorganisation: %+v", again)
	}
	got, err := client.BlockHash(ctx, again.Block)
	if err != nil || got != again.BlockHash {
		t.Fatalf("block %d is %x, %v", again.Block, got, err)
	}
}

// With a block time the chain grows though nothing happens on it.
func TestBlockTime(t *testing.T) {
	url, _ := up(t, func(cfg *devchain.Config) { cfg.BlockTime = 10 * time.Millisecond })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	client, err := rpc.Dial(ctx, url, devchain.ChainID)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for {
		head, err := client.Block(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if head >= 3 {
			return
		}
		<-time.After(5 * time.Millisecond)
	}
}
