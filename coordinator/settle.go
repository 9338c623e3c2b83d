package coordinator

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"coffer/canon"
	"coffer/chain/evm"
	"coffer/chain/rpc"
	"coffer/intent"
	"coffer/policy"
	pb "coffer/proto/coffer/v1"
)

const (
	// resendEvery is after how long without a block a transaction is handed over again: an
	// endpoint may have forgotten it.
	resendEvery = 10 * time.Second
	// prunedEvery is how often an endpoint that keeps no old state is asked again for what
	// only another one can tell: every question costs it several calls.
	prunedEvery = time.Minute
	// pollFast and pollSlow are how often a chain is asked for what is awaited: a block that
	// may come any moment, and those on top of it.
	pollFast = 250 * time.Millisecond
	pollSlow = time.Second
)

// hang is since when one version of a transaction waits in the pool, with its nonce next.
// It is not stored: after a restart a transaction gets its whole time again.
type hang struct {
	version int
	since   time.Time
}

// settle brings a signed transaction into a block, and waits for those on top of it. An
// intent that expires meanwhile goes on: its expiry bounds what signers sign, and what
// they have signed stays good until its nonce is used. To call it dead would invite
// somebody to pay again.
func (c *Coordinator) settle(ctx context.Context, it *item, i *intent.Intent, wake <-chan struct{}) error {
	client, err := c.chain(ctx, i.Chain)
	if err != nil {
		return err
	}
	if it.Stage == pb.Stage_STAGE_CONFIRMATION {
		return c.confirm(ctx, it, i, client, wake)
	}
	receipt, err := client.Found(ctx, it.hashes()...)
	switch {
	case err == nil:
		return c.mined(ctx, it, i, client, receipt, wake)
	case !errors.Is(err, rpc.ErrNotFound):
		return err
	}
	account, err := evm.ParseAddress(i.Account)
	if err != nil {
		return c.end(it, pb.Stage_STAGE_FAILED, "INTENT", err.Error())
	}
	next, err := client.Nonce(ctx, account)
	switch {
	case err != nil:
		return err
	case next > i.Nonce:
		return c.overtaken(ctx, it, i, client, account, wake)
	case len(it.Sent) == 0:
		if c.mayBeMined(it, i, time.Now().Unix()) {
			c.say(it.ID, "nonce %d of %s is free still", i.Nonce, i.Account)
			return c.await(ctx, it, client, wake, resendEvery)
		}
		// Taken over from elsewhere as paid, and it is not: it can be signed still.
		it.Stage, it.Detail = pb.Stage_STAGE_SIGNING, "the signers are asked"
		return c.save(it)
	}
	if by := c.cancelUnderWay(it.ID); by != nil {
		c.say(it.ID, "held back: its cancel, intent %s, has its approvals", by.Short())
		return c.await(ctx, it, client, wake, pollSlow)
	}
	if by := c.frozen(i); len(by) > 0 {
		// What signers have signed nobody calls back; this coordinator does not help it along.
		c.say(it.ID, "held back: %s", c.frozenText(by))
		return c.await(ctx, it, client, wake, resendEvery)
	}
	if err := c.send(ctx, it, client); errors.Is(err, rpc.ErrNonceTooLow) {
		return c.await(ctx, it, client, wake, pollFast) // a block came in between
	} else if err != nil && !errors.Is(err, rpc.ErrUnderpriced) {
		return err
	} else if err != nil {
		c.say(it.ID, "not taken: %v", err)
	} else if next < i.Nonce {
		c.say(it.ID, "waits for the transaction with nonce %d of %s", next, i.Account)
	} else {
		c.say(it.ID, "waiting for the block of 0x%x%s", it.version().hash(), late(i))
	}
	patience := resendEvery
	if next == i.Nonce {
		if due := time.Until(c.hangsSince(it).Add(c.settings.Chains[i.Chain].bumpAfter())); due <= 0 {
			return c.bump(ctx, it, i, client)
		} else if due < patience {
			patience = due
		}
	}
	return c.await(ctx, it, client, wake, patience)
}

// late says of an intent that has expired that its transaction stays good.
func late(i *intent.Intent) string {
	if time.Now().Unix() < i.Expires {
		return ""
	}
	return " (the intent has expired since; it was signed in time, and only a cancel can stop it)"
}

// hangsSince is since when the newest version waits with its nonce next: since now, if
// that is new.
func (c *Coordinator) hangsSince(it *item) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	h, ok := c.hangs[it.ID]
	if !ok || h.version != len(it.Sent) {
		h = hang{version: len(it.Sent), since: time.Now()}
		c.hangs[it.ID] = h
	}
	return h.since
}

// send hands the newest version to the endpoint that it takes: an older one where it
// refuses what is newer, for want of money for the higher fee.
func (c *Coordinator) send(ctx context.Context, it *item, client *rpc.Client) error {
	var first error
	for n := len(it.Sent) - 1; n >= 0; n-- {
		_, err := client.Broadcast(ctx, it.Sent[n].Raw)
		if err == nil || errors.Is(err, rpc.ErrNonceTooLow) || errors.Is(err, rpc.ErrUnreachable) || ctx.Err() != nil {
			return err
		}
		if first == nil {
			first = err
		}
	}
	return first
}

// await waits until one of the versions is in a block, there is news of the intent, or
// patience ends. What happened the next look at the item finds out.
func (c *Coordinator) await(ctx context.Context, it *item, client *rpc.Client, wake <-chan struct{}, patience time.Duration) error {
	until := time.NewTimer(patience)
	defer until.Stop()
	tick := time.NewTicker(pollFast)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-wake:
			return nil
		case <-until.C:
			return nil
		case <-tick.C:
		}
		if _, err := client.Found(ctx, it.hashes()...); !errors.Is(err, rpc.ErrNotFound) {
			return err
		}
	}
}

// bump has the same payment signed once more, at a higher fee. Whichever version is mined,
// it is the only one: they have one nonce.
func (c *Coordinator) bump(ctx context.Context, it *item, i *intent.Intent, client *rpc.Client) error {
	waited := c.settings.Chains[i.Chain].bumpAfter()
	v, err := c.raise(ctx, it, i)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if v == nil && err == nil {
		return nil // other signers are asked at once
	}
	c.mu.Lock()
	delete(c.hangs, it.ID) // the next version, or the next try, gets as long
	c.mu.Unlock()
	if err != nil {
		c.log.Warn("no higher fee", "intent", it.ID.String(), "error", err)
		it.Detail = fmt.Sprintf("signed by %s; not mined within %s, and no higher fee: %v", signedBy(it.version()), waited, err)
		return c.save(it)
	}
	it.Sent = append(it.Sent, *v)
	it.Detail = fmt.Sprintf("signed by %s, with a higher fee: the version before was not mined within %s", signedBy(v), waited)
	return c.save(it)
}

// raise makes and has signed what outbids the newest version. Nothing without an error
// means that it is worth trying again at once.
func (c *Coordinator) raise(ctx context.Context, it *item, i *intent.Intent) (*sent, error) {
	now := time.Now().Unix()
	if now >= i.Expires {
		return nil, errors.New("the intent has expired, and signers sign nothing for it any more; wait, or cancel")
	}
	decision := c.preview(it, i, now).Decision
	if decision.Outcome == policy.Wait {
		return nil, fmt.Errorf("approvals have expired (%s); wait, or cancel", reasons(decision))
	}
	leave, err := c.enter(ctx, it, i)
	if err != nil {
		return nil, err
	} else if leave == nil {
		return nil, nil
	}
	defer leave()
	c.say(it.ID, "building a version with a higher fee")
	unsigned, err := c.build(ctx, it, i)
	if err != nil {
		return nil, err
	}
	if err := c.record("BUMP", it.ID, map[string]string{"version": strconv.Itoa(len(it.Sent) + 1), "fee_cap": unsigned.FeeCap.String(), "tip_cap": unsigned.TipCap.String()}); err != nil {
		return nil, err
	}
	return c.signed(ctx, it, i, unsigned)
}

// mined notes the block of a transaction, and goes on if that is enough.
func (c *Coordinator) mined(ctx context.Context, it *item, i *intent.Intent, client *rpc.Client, receipt *rpc.Receipt, wake <-chan struct{}) error {
	it.phaseDone("mining", time.Now())
	it.Mined = &mined{Hash: receipt.Hash, Block: receipt.Block, BlockHash: receipt.BlockHash, Reverted: !receipt.Succeeded}
	it.Stage, it.Detail = pb.Stage_STAGE_CONFIRMATION, fmt.Sprintf("mined in block %d", receipt.Block)
	c.sawBlock(i.Chain, receipt.Block)
	if c.settings.Chains[i.Chain].confirmations() <= 1 {
		return c.finish(it, i)
	}
	if err := c.save(it); err != nil {
		return err
	}
	return c.confirm(ctx, it, i, client, wake)
}

// confirm counts the blocks from the transaction's own, as long as that stands.
func (c *Coordinator) confirm(ctx context.Context, it *item, i *intent.Intent, client *rpc.Client, wake <-chan struct{}) error {
	if it.Mined == nil {
		return c.end(it, pb.Stage_STAGE_FAILED, "STORE", "the stored intent waits for confirmations of no block")
	}
	want := c.settings.Chains[i.Chain].confirmations()
	for ctx.Err() == nil {
		head, err := client.Block(ctx)
		if err != nil {
			return err
		}
		c.sawBlock(i.Chain, head)
		stands, err := c.stands(ctx, client, head, it.Mined.Block, it.Mined.BlockHash)
		switch {
		case errors.Is(err, rpc.ErrNotFound):
			// It follows another fork, or lags behind: handing it over again harms in neither case.
			if err := c.send(ctx, it, client); err != nil {
				return err
			}
			c.say(it.ID, "the chain's endpoint is at block %d, before block %d which had it; sent again", head, it.Mined.Block)
		case err != nil:
			return err
		case !stands:
			return c.reorganised(it)
		case head-it.Mined.Block+1 >= want:
			it.phaseDone("confirmation", time.Now())
			return c.finish(it, i)
		default:
			c.say(it.ID, "%d of %d confirmations", head-it.Mined.Block+1, want)
		}
		timer := time.NewTimer(pollSlow)
		select {
		case <-ctx.Done():
		case <-wake:
		case <-timer.C:
		}
		timer.Stop()
	}
	return ctx.Err()
}

// stands says whether a block is still part of the chain. ErrNotFound: the endpoint has
// no block at that height, which says nothing.
func (c *Coordinator) stands(ctx context.Context, client *rpc.Client, head, number uint64, hash canon.Digest) (bool, error) {
	if head < number {
		return false, fmt.Errorf("block %d: %w", number, rpc.ErrNotFound)
	}
	got, err := client.BlockHash(ctx, number)
	return got == hash, err
}

// finish ends an intent whose transaction has the blocks that it was to wait for.
func (c *Coordinator) finish(it *item, i *intent.Intent) error {
	if it.Mined.Reverted {
		return c.end(it, pb.Stage_STAGE_FAILED, "REVERTED", fmt.Sprintf("mined in block %d and reverted by the chain", it.Mined.Block))
	}
	if i.Kind == intent.Cancel {
		if err := c.items.markCancelled(i.Cancel.Subject, it.ID); err != nil {
			return err
		}
		defer c.wake(i.Cancel.Subject)
	}
	return c.end(it, pb.Stage_STAGE_DONE, "", fmt.Sprintf("mined in block %d", it.Mined.Block))
}

// reorganised takes an intent back whose block is no longer part of the chain.
func (c *Coordinator) reorganised(it *item) error {
	was := it.Mined
	if err := c.record("REORG", it.ID, map[string]string{"block": strconv.FormatUint(was.Block, 10), "block_hash": was.BlockHash.String(), "transaction": was.Hash.String()}); err != nil {
		return err
	}
	c.log.Warn("the chain took a block back", "intent", it.ID.String(), "block", was.Block)
	it.Mined, it.Code, it.Stage, it.Since = nil, "", pb.Stage_STAGE_BROADCAST, time.Now().UnixMilli()
	it.Detail = fmt.Sprintf("the chain took block %d back, which had it; it is sent again", was.Block)
	return c.save(it)
}

// overtaken finds out which transaction has used the nonce of an intent. One that does
// what the intent says pays it, whoever sent it; any other one ends it.
func (c *Coordinator) overtaken(ctx context.Context, it *item, i *intent.Intent, client *rpc.Client, account evm.Address, wake <-chan struct{}) error {
	hash, block, err := client.MinedAt(ctx, account, i.Nonce)
	if errors.Is(err, rpc.ErrPruned) {
		c.say(it.ID, "nonce %d is used, by which transaction this endpoint cannot tell: %v", i.Nonce, err)
		return c.await(ctx, it, client, wake, prunedEvery)
	} else if err != nil {
		return err
	}
	for n := range it.Sent {
		if it.Sent[n].hash() == hash {
			return c.await(ctx, it, client, wake, pollSlow) // its receipt comes
		}
	}
	other, err := c.items.byTransaction(hash)
	if err != nil {
		return err
	}
	if other != nil {
		if err := c.revive(other); err != nil {
			return err
		}
		// A cancel ends before what it cancels: it notes that it is the cancel.
		if o, err := intent.Parse(other.Intent.Raw); err == nil && o.Kind == intent.Cancel && o.Cancel.Subject == it.ID && !other.ended() {
			return c.await(ctx, it, client, wake, pollSlow)
		}
	} else {
		raw, err := client.Transaction(ctx, hash)
		if err != nil {
			return err
		}
		from, u, err := evm.Recover(raw)
		if err == nil && len(evm.Compare(i, c.madeUnder(i), from, u)) == 0 {
			it.Sent = append(it.Sent, sent{Raw: raw, Time: time.Now().UnixMilli()})
			return c.save(it)
		}
		if err == nil {
			if by, err := c.lookedForAs(it.ID, from, u); err != nil || by != nil {
				return errors.Join(err, c.await(ctx, it, client, wake, pollSlow)) // it is that one's, which finds it itself
			}
		}
	}
	head, err := client.Block(ctx)
	if err != nil {
		return err
	}
	if want := c.settings.Chains[i.Chain].confirmations(); head < block || head-block+1 < want {
		c.say(it.ID, "nonce %d was used by transaction 0x%x in block %d; waiting for %d confirmations of that", i.Nonce, hash, block, want)
		return c.await(ctx, it, client, wake, pollSlow)
	}
	by, err := c.items.cancelledBy(it.ID)
	rejected := c.preview(it, i, time.Now().Unix()).Ended
	switch {
	case err != nil:
		return err
	case it.lookedFor() && len(rejected) > 0:
		return c.end(it, pb.Stage_STAGE_FAILED, "REJECTED", "rejected by "+strings.Join(rejected, ", "))
	case by != nil:
		return c.end(it, pb.Stage_STAGE_FAILED, "CANCELLED", "cancelled by intent "+by.Short())
	case other != nil:
		return c.end(it, pb.Stage_STAGE_FAILED, "NONCE_USED", fmt.Sprintf("nonce %d was used by intent %s, transaction 0x%x in block %d", i.Nonce, other.ID.Short(), hash, block))
	}
	return c.end(it, pb.Stage_STAGE_FAILED, "NONCE_USED", fmt.Sprintf("nonce %d was used by transaction 0x%x in block %d, which is of no intent known here: find out who signed it", i.Nonce, hash, block))
}

// cancelUnderWay is the cancel of an intent that has its approvals and is not at its end,
// or nil. From then on nothing is done to have the intent itself mined.
func (c *Coordinator) cancelUnderWay(subject canon.Digest) *canon.Digest {
	for it, err := range c.underFlow() {
		if err != nil || it.ID == subject || !it.onChain() && it.Stage != pb.Stage_STAGE_SIGNING {
			continue
		}
		if i, err := intent.Parse(it.Intent.Raw); err == nil && i.Kind == intent.Cancel && i.Cancel.Subject == subject {
			return &it.ID
		}
	}
	return nil
}

func signedBy(v *sent) string {
	if len(v.SignedBy) == 0 {
		return "signers that are not known here"
	}
	return strings.Join(v.SignedBy, " and ")
}

// showTransactions puts what is known of an intent's transactions into its view.
func (c *Coordinator) showTransactions(v *pb.IntentView, it *item) {
	for n := range it.Sent {
		s := &it.Sent[n]
		shown := &pb.Sent{TxHash: fmt.Sprintf("0x%x", s.hash()), RawTx: s.Raw, SignedBy: s.SignedBy, Time: s.Time}
		if _, u, err := evm.Recover(s.Raw); err == nil {
			shown.FeeCap, shown.TipCap = u.FeeCap.Bytes(), u.TipCap.Bytes()
		}
		v.Sent = append(v.Sent, shown)
	}
	if s := it.version(); s != nil {
		v.TxHash, v.RawTx, v.SignedBy = fmt.Sprintf("0x%x", s.hash()), s.Raw, s.SignedBy
	}
	i, err := intent.Parse(it.Intent.Raw)
	if err != nil || len(it.Sent) == 0 {
		return
	}
	v.ConfirmationsWanted = uint32(c.settings.Chains[i.Chain].confirmations()) //nolint:gosec // at most mostConfirmations
	if it.Mined == nil {
		return
	}
	v.Block, v.BlockHash = it.Mined.Block, it.Mined.BlockHash[:]
	c.mu.Lock()
	defer c.mu.Unlock()
	if head := c.newest[i.Chain]; head >= it.Mined.Block {
		v.Confirmations = uint32(min(head-it.Mined.Block+1, 1<<31)) //nolint:gosec // bounded
	}
}
