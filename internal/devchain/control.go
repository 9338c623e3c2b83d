package devchain

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"sync"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/ethclient/simulated"
)

// Control makes a running chain do what chains do to those who wait: leave transactions
// lying, and take blocks back.
type Control struct {
	mu      sync.Mutex
	backend *simulated.Backend // nil while the chain does not run
	held    bool
}

var errStopped = errors.New("the dev chain does not run")

func (c *Control) take(b *simulated.Backend) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.backend = b
}

// tick seals a block unless the chain is held.
func (c *Control) tick() (common.Hash, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held || c.backend == nil {
		return common.Hash{}, false
	}
	return c.backend.Commit(), true
}

// Hold stops the sealing of blocks, or lets it go on. Waiting transactions stay in the pool.
func (c *Control) Hold(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = on
}

// Seal makes that many blocks now, also while the chain is held. The first takes what waits.
func (c *Control) Seal(blocks int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.backend == nil {
		return errStopped
	}
	for range blocks {
		c.backend.Commit()
	}
	return nil
}

// Rewind takes the newest blocks back, and forgets their transactions and those that
// wait, as if this node had followed a fork on which they never were.
func (c *Control) Rewind(ctx context.Context, blocks uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.backend == nil {
		return errStopped
	}
	head, err := c.backend.Client().BlockNumber(ctx)
	if err != nil {
		return fmt.Errorf("rewind dev chain: %w", err)
	}
	if blocks > head {
		return fmt.Errorf("rewind dev chain: it has %d blocks, not %d", head, blocks)
	}
	parent, err := c.backend.Client().HeaderByNumber(ctx, new(big.Int).SetUint64(head-blocks))
	if err != nil {
		return fmt.Errorf("rewind dev chain: %w", err)
	}
	c.backend.Rollback()
	if err := c.backend.Fork(parent.Hash()); err != nil {
		return fmt.Errorf("rewind dev chain: %w", err)
	}
	// The pool must have seen the old head before another block comes, or it takes back what
	// was in the blocks that are gone.
	c.backend.Rollback()
	return nil
}
