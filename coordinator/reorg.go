package coordinator

import (
	"context"
	"time"

	"coffer/canon"
	"coffer/intent"
	pb "coffer/proto/coffer/v1"
)

// takenBack is how many blocks a chain may take back after an intent has ended, and the
// coordinator still notices: two epochs of Ethereum, after which its blocks are final.
const takenBack = 64

// landed is an ended intent's place on a chain.
type landed struct {
	chain string
	block uint64
	hash  canon.Digest
}

// sawBlock keeps the newest block of a chain, which confirmations are counted by.
func (c *Coordinator) sawBlock(chain string, head uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.newest[chain] = head
}

// remember has the chain watched for what ended in one of its blocks.
func (c *Coordinator) remember(it *item) {
	if it.Mined == nil || !it.ended() {
		return
	}
	i, err := intent.Parse(it.Intent.Raw)
	if err != nil {
		return // what does not parse was never paid
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settled[it.ID] = landed{i.Chain, it.Mined.Block, it.Mined.BlockHash}
}

// followChain looks whether a chain takes back blocks in which intents ended.
func (c *Coordinator) followChain(ctx context.Context, name string) {
	tick := time.NewTicker(pollSlow)
	defer tick.Stop()
	var last string
	for {
		err := c.lookBack(ctx, name)
		if ctx.Err() != nil {
			return
		}
		text := ""
		if err != nil {
			text = err.Error()
		}
		if text != last && err != nil {
			c.log.Warn("chain cannot be watched", "chain", name, "error", err)
		} else if text != last {
			c.log.Info("chain is watched again", "chain", name)
		}
		last = text
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// lookBack checks the newest block in which something ended: while it stands, those
// below it stand too. Otherwise it checks each.
func (c *Coordinator) lookBack(ctx context.Context, name string) error {
	c.mu.Lock()
	watched := map[canon.Digest]landed{}
	for id, l := range c.settled {
		if l.chain == name {
			watched[id] = l
		}
	}
	c.mu.Unlock()
	if len(watched) == 0 {
		return nil // an idle coordinator asks nothing
	}
	client, err := c.chain(ctx, name)
	if err != nil {
		return err
	}
	head, err := client.Block(ctx)
	if err != nil {
		return err
	}
	c.sawBlock(name, head)
	var newest landed
	for id, l := range watched {
		if head >= l.block && head-l.block >= takenBack {
			c.mu.Lock()
			delete(c.settled, id)
			c.mu.Unlock()
			delete(watched, id)
			continue
		}
		if l.block <= head && l.block >= newest.block {
			newest = l
		}
	}
	if newest.chain == "" {
		return nil // nothing near enough, or the endpoint is behind all of it
	}
	if stands, err := c.stands(ctx, client, head, newest.block, newest.hash); err != nil || stands {
		return err
	}
	for id, l := range watched {
		stands, err := c.stands(ctx, client, head, l.block, l.hash)
		if err != nil {
			if l.block > head {
				continue // the endpoint has no block there yet
			}
			return err
		}
		if !stands {
			if err := c.reopen(id); err != nil {
				return err
			}
		}
	}
	return nil
}

// reopen takes an ended intent back to the chain.
func (c *Coordinator) reopen(id canon.Digest) error {
	it, err := c.items.get(id)
	if err != nil {
		return err
	}
	if it.ended() {
		if err := c.reorganised(it); err != nil {
			return err
		}
	}
	// Forgotten first: the flow may remember it again at once.
	c.mu.Lock()
	was := c.settled[id]
	delete(c.settled, id)
	c.mu.Unlock()
	if !c.start(id) {
		c.mu.Lock()
		c.settled[id] = was // the flow that ended it is not gone yet: the next look starts one
		c.mu.Unlock()
	}
	return nil
}

// revive takes an intent up again that had ended without a block, when its transaction is
// mined after all: the cancel in its place stood in a block that the chain took back.
func (c *Coordinator) revive(it *item) error {
	if !it.ended() || it.Mined != nil {
		return nil
	}
	if err := c.record("REORG", it.ID, map[string]string{"code": it.Code}); err != nil {
		return err
	}
	c.log.Warn("an intent that had ended is mined after all", "intent", it.ID.String(), "code", it.Code)
	it.Code, it.Stage, it.Since = "", pb.Stage_STAGE_BROADCAST, time.Now().UnixMilli()
	it.Detail = "mined after all, since the chain took back what was in its place"
	if err := c.save(it); err != nil {
		return err
	}
	c.start(it.ID)
	return nil
}
