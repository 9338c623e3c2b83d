//go:build geth

package gethdev_test

import (
	"context"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"coffer/chain/evm"
	"coffer/chain/rpc"
	"coffer/internal/devchain"
	"coffer/internal/gethdev"
)

func TestGethStartsAndStops(t *testing.T) {
	binary, err := gethdev.Binary()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	dir := t.TempDir()
	node, err := gethdev.Start(ctx, binary, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer node.Stop()
	client, err := rpc.Dial(ctx, node.URL, gethdev.ChainID)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	to := evm.Address{7}
	hash, err := node.Fund(ctx, to, big.NewInt(12345))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := devchain.Mined(ctx, client, hash); err != nil {
		t.Fatal(err)
	}
	if got, err := client.Balance(ctx, to); err != nil || got.Int64() != 12345 {
		t.Errorf("balance %s, %v", got, err)
	}
	for range 2 {
		if err := node.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	if conn, err := net.Dial("tcp", strings.TrimPrefix(node.URL, "http://")); err == nil {
		conn.Close()
		t.Error("it still listens")
	}
	if log, err := os.ReadFile(filepath.Join(dir, "geth.log")); err != nil || len(log) == 0 {
		t.Errorf("log of %d bytes, %v", len(log), err)
	}
}
