package coordinator

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"coffer/chain/rpc"
	"coffer/intent"
	pb "coffer/proto/coffer/v1"
)

// settle broadcasts the signed transaction and waits for its block.
func (c *Coordinator) settle(ctx context.Context, it *item, i *intent.Intent, wake <-chan struct{}) error {
	client, err := c.chain(ctx, i.Chain)
	if err != nil {
		return err
	}
	hash, err := parseHash(it.Hash)
	if err != nil {
		return c.end(it, pb.Stage_STAGE_FAILED, "STORE", "the stored transaction hash is damaged: "+err.Error())
	}
	receipt, err := client.Receipt(ctx, hash)
	if errors.Is(err, rpc.ErrNotFound) {
		if _, err := client.Broadcast(ctx, it.Raw); err != nil {
			if errors.Is(err, rpc.ErrNonceTooLow) {
				return c.overtaken(it)
			}
			return err
		}
		c.say(it.ID, "waiting for the block of %s", it.Hash)
		receipt, err = awaitReceipt(ctx, client, hash, wake)
		if errors.Is(err, rpc.ErrNotFound) {
			return nil // and broadcast again: the endpoint may have forgotten it, or another was mined
		}
	}
	if err != nil {
		return err
	}
	it.phaseDone("mining", time.Now())
	it.Block = receipt.Block
	if !receipt.Succeeded {
		return c.end(it, pb.Stage_STAGE_FAILED, "REVERTED", fmt.Sprintf("mined in block %d and reverted by the chain", receipt.Block))
	}
	if i.Kind == intent.Cancel {
		if err := c.items.markCancelled(i.Cancel.Subject, it.ID); err != nil {
			return err
		}
		defer c.wake(i.Cancel.Subject)
	}
	return c.end(it, pb.Stage_STAGE_DONE, "", fmt.Sprintf("mined in block %d", receipt.Block))
}

// overtaken ends an intent whose nonce another transaction has used up: a cancel, or
// another one signed for the same slot. This one never will be mined.
func (c *Coordinator) overtaken(it *item) error {
	by, err := c.items.cancelledBy(it.ID)
	if err != nil {
		return err
	}
	if by != nil {
		return c.end(it, pb.Stage_STAGE_FAILED, "CANCELLED", "cancelled by intent "+by.Short())
	}
	return c.end(it, pb.Stage_STAGE_FAILED, "NONCE_USED", "another transaction with this account and nonce was mined")
}

// awaitReceipt polls until there is a receipt, news of the intent, or ten seconds went by.
func awaitReceipt(ctx context.Context, client *rpc.Client, hash [32]byte, wake <-chan struct{}) (*rpc.Receipt, error) {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for range 40 {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-wake:
			return client.Receipt(ctx, hash)
		case <-tick.C:
		}
		receipt, err := client.Receipt(ctx, hash)
		if !errors.Is(err, rpc.ErrNotFound) {
			return receipt, err
		}
	}
	return nil, rpc.ErrNotFound
}

func parseHash(s string) (hash [32]byte, err error) {
	raw, err := hex.DecodeString(strings.TrimPrefix(s, "0x"))
	if err != nil || len(raw) != len(hash) {
		return hash, fmt.Errorf("%q is no transaction hash", s)
	}
	return [32]byte(raw), nil
}
