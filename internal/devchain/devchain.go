package devchain

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"coffer/chain/evm"
	"coffer/store"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/rawdb"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/eth/ethconfig"
	"github.com/ethereum/go-ethereum/ethclient/simulated"
	"github.com/ethereum/go-ethereum/node"
	"github.com/ethereum/go-ethereum/rpc"
)

const (
	// ChainID is the simulated chain's; it cannot be another.
	ChainID = 1337

	// blockTick is how often the chain looks for waiting transactions: the longest that one waits for its block.
	blockTick = 20 * time.Millisecond
	// attempts to get a free port that nobody takes between choosing and using it.
	attempts = 8
)

// Config says where the chain listens and who is rich on it.
type Config struct {
	Listen string                   // host:port; default 127.0.0.1:0, and port 0 takes a free one
	Alloc  map[evm.Address]*big.Int // wei in the first block
	Ready  func(url string)         // optional; called once, when requests are answered
	Logger *slog.Logger             // optional
	// BlockTime, if not zero, is how often a block is sealed, whatever waits: transactions
	// hang and confirmations are counted as elsewhere.
	BlockTime time.Duration
	// Control, if set, takes the chain into its hands once Ready was called.
	Control *Control
	// Dir, if set, keeps the blocks, so that the chain goes on where it was when it is
	// started with it again; else they are gone when Run ends.
	Dir string
}

// Run serves the chain until ctx ends, which is not an error.
func Run(ctx context.Context, cfg Config) error {
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	alloc := types.GenesisAlloc{}
	for address, wei := range cfg.Alloc {
		if wei == nil || wei.Sign() < 0 || wei.BitLen() > 256 {
			return fmt.Errorf("dev chain: allocation of %s: %v is no amount of wei", address, wei)
		}
		alloc[common.Address(address)] = types.Account{Balance: wei}
	}
	backend, url, err := start(cfg.Listen, alloc, cfg.Dir)
	if err != nil {
		return fmt.Errorf("dev chain: %w", err)
	}
	defer func() {
		if err := backend.Close(); err != nil {
			cfg.Logger.Warn("dev chain did not close cleanly", "error", err)
		}
	}()
	cfg.Logger.Info("dev chain serves", "url", url, "chain_id", ChainID)
	if cfg.Control == nil {
		cfg.Control = new(Control)
	}
	cfg.Control.take(backend)
	defer cfg.Control.take(nil)
	if cfg.Ready != nil {
		cfg.Ready(url)
	}
	return mine(ctx, cfg, url)
}

// mine seals a block whenever transactions wait. A transaction whose fee cap is below
// the base fee waits through blocks that lower it, as it would elsewhere.
func mine(ctx context.Context, cfg Config, url string) error {
	// The pool is asked through our own server: the backend's client only has the
	// pending block, which go-ethereum keeps for two seconds, as long as each payment would take.
	pool, err := rpc.DialContext(ctx, url)
	if err != nil {
		return fmt.Errorf("dev chain: %w", err)
	}
	defer pool.Close()
	tick := time.NewTicker(blockTick)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		due := cfg.BlockTime > 0 && time.Since(last) >= cfg.BlockTime
		if cfg.BlockTime == 0 {
			if due, err = waiting(ctx, pool); err != nil {
				if ctx.Err() != nil {
					return nil
				}
				return fmt.Errorf("dev chain: look for waiting transactions: %w", err)
			}
		}
		if due {
			if block, sealed := cfg.Control.tick(); sealed {
				last = time.Now()
				if cfg.Dir != "" {
					if err := store.WriteFile(filepath.Join(cfg.Dir, headFile), []byte(block.Hex()+"\n"), 0o600); err != nil {
						return fmt.Errorf("dev chain: %w", err)
					}
				}
				cfg.Logger.Debug("dev chain sealed a block", "hash", block.Hex())
			}
		}
	}
}

// waiting says whether the pool has a transaction that the next block can take. Right
// after a block it still counts those that are in it, for each of which an empty block
// would follow.
func waiting(ctx context.Context, pool *rpc.Client) (bool, error) {
	var status struct{ Pending hexutil.Uint }
	if err := pool.CallContext(ctx, &status, "txpool_status"); err != nil || status.Pending == 0 {
		return false, err
	}
	var content struct {
		Pending map[common.Address]map[uint64]struct{}
	}
	if err := pool.CallContext(ctx, &content, "txpool_content"); err != nil {
		return false, err
	}
	for account, byNonce := range content.Pending {
		var next hexutil.Uint64
		if err := pool.CallContext(ctx, &next, "eth_getTransactionCount", account, "latest"); err != nil {
			return false, err
		}
		if _, ok := byNonce[uint64(next)]; ok {
			return true, nil
		}
	}
	return false, nil
}

// start finds out the port first: the simulated chain does not tell which one it got.
// Between choosing a free port and using it another process may take it; then another is tried.
func start(listen string, alloc types.GenesisAlloc, dir string) (*simulated.Backend, string, error) {
	var last error
	for range attempts {
		probe, err := net.Listen("tcp", listen)
		if err != nil {
			return nil, "", fmt.Errorf("%w on %q: %w; choose another address, or port 0 for a free one", ErrListen, listen, err)
		}
		address := probe.Addr().String()
		probe.Close()
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, "", fmt.Errorf("%w on %q: %w", ErrListen, listen, err)
		}
		number, err := strconv.Atoi(port)
		if err != nil {
			return nil, "", fmt.Errorf("%w on %q: %w", ErrListen, listen, err)
		}
		backend, err := serve(host, number, alloc, dir)
		if err == nil {
			return backend, "http://" + address, nil
		}
		last = err
		if _, wanted, _ := net.SplitHostPort(listen); wanted != "0" {
			break
		}
	}
	return nil, "", last
}

func serve(host string, port int, alloc types.GenesisAlloc, dir string) (backend *simulated.Backend, err error) {
	// NewBackend has no error result and panics when its node does not start.
	defer func() {
		if r := recover(); r != nil {
			backend, err = nil, fmt.Errorf("%w: %v", ErrStart, r)
		}
	}()
	// Elsewhere than on loopback, in a container network, clients use names that are not known here.
	hosts := []string{"localhost"}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		hosts = []string{"*"}
	}
	backend = simulated.NewBackend(alloc, func(n *node.Config, c *ethconfig.Config) {
		n.HTTPHost, n.HTTPPort = host, port
		n.HTTPModules = []string{"eth", "net", "web3", "txpool"}
		n.HTTPVirtualHosts = hosts
		if dir != "" {
			// The state of each block is on disk when the block is, also when the process
			// is killed.
			n.DataDir, c.NoPruning, c.StateScheme = dir, true, rawdb.HashScheme
		}
	})
	if dir != "" {
		if err := resume(backend, dir); err != nil {
			return nil, errors.Join(err, backend.Close())
		}
	}
	return backend, nil
}

// headFile names the last block: a simulated chain goes back to its first one whenever
// it starts.
const headFile = "head"

func resume(backend *simulated.Backend, dir string) error {
	raw, err := os.ReadFile(filepath.Join(dir, headFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	head := common.HexToHash(strings.TrimSpace(string(raw)))
	// Going back to the first block has put the transactions of the later ones into the
	// pool again, and may still be doing so.
	for range attempts {
		backend.Rollback()
		if err = backend.Fork(head); err == nil {
			return nil
		}
	}
	return fmt.Errorf("go on from the last block of %s: %w", dir, err)
}
