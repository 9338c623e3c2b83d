//go:build e2e && crashpoint

package crashtest

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"coffer/coordinator"
	"coffer/engine"
	"coffer/engine/enginetest"
	"coffer/node"
	"coffer/party"
	"coffer/transport"
	"coffer/transport/libp2p"
)

const (
	roleEnv    = "COFFER_CRASHTEST_ROLE"
	dirEnv     = "COFFER_CRASHTEST_DIR"
	passphrase = "correct horse battery"
)

func TestMain(m *testing.M) {
	role := os.Getenv(roleEnv)
	if role == "" {
		os.Exit(m.Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	ready := func(address string) { fmt.Println("ready " + address) }
	run := runSigner
	if role == "coordinator" {
		run = runCoordinator
	}
	if err := run(ctx, os.Getenv(dirEnv), log, ready); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func runSigner(ctx context.Context, dir string, log *slog.Logger, ready func(string)) error {
	return node.Serve(ctx, node.Config{
		Dir: node.Dir(dir), Logger: log, Version: "test", Passphrase: []byte(passphrase), Ready: ready,
		Host: func() (engine.Host, error) { return enginetest.New(), nil },
		Link: func(p node.Peers) (transport.Link, error) {
			peers := map[party.ID]libp2p.Peer{}
			for id, address := range p.Others {
				peers[id] = libp2p.Peer{ID: address.Peer, Addrs: address.P2P}
			}
			l, err := libp2p.New(libp2p.Config{Key: p.Key, Self: p.Self, Peers: peers, Listen: p.Listen, Cluster: p.Cluster, Build: p.Version, Logger: log})
			if err != nil {
				return nil, err
			}
			return l, nil
		},
	})
}

func runCoordinator(ctx context.Context, dir string, log *slog.Logger, ready func(string)) error {
	return coordinator.Serve(ctx, coordinator.Config{Dir: coordinator.Dir(dir), Logger: log, Ready: ready})
}
