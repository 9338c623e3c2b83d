package coordinator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"coffer/approval"
	"coffer/canon"
	"coffer/chain/evm"
	"coffer/charter"
	"coffer/intent"
	"coffer/internal/crashpoint"
	"coffer/policy"
	pb "coffer/proto/coffer/v1"
	"coffer/store"
)

// A coordinator that lost its store makes an empty one and asks the signers. Each of
// them remembers what it was shown, and whoever signed a payment remembered it before:
// once Of-Need+1 honest signers have answered, no payment that a quorum signed is missing. What
// was mined the chain says. Nothing of it is believed: intents and statements carry
// their people's signatures, wallets those of all signers, and a transaction counts for
// an intent when it does exactly what that says.

const (
	// maxDoubtful is how many intents of one signer may fail to verify before nothing more
	// of it is read: an honest one has none.
	maxDoubtful = 20
	// maxPages bounds what one signer may tell; none remembers nearly so many.
	maxPages = 5000
	// maxRecalled bounds an intent's statements and a page, as signers do.
	maxRecalled = 100
)

var rebuildBegun, rebuildDone = []byte("begun"), []byte("done")

// rebuild is what a coordinator knows of its own rebuilding.
type rebuild struct {
	table *store.Table

	mu    sync.Mutex
	begun bool // this store began empty in the place of a lost one
	done  bool // enough signers were heard
	heard map[string]bool
}

// openStore opens the store, or says what can be done where there is none.
func openStore(cfg Config) (*bbolt.DB, error) {
	path := cfg.Dir.Store()
	db, err := store.Open(path)
	switch {
	case errors.Is(err, store.ErrNotFound) && cfg.Rebuild:
		if err := os.MkdirAll(cfg.Dir.Audit(), 0o700); err != nil { // lost with the store, on a new machine
			return nil, fmt.Errorf("make audit folder: %w", err)
		}
		if err := emptyStore(path); err != nil {
			return nil, err
		}
		return store.Open(path)
	case errors.Is(err, store.ErrNotFound):
		return nil, fmt.Errorf("%w If it is lost, start with coffer-coordinator run --rebuild, which asks the signers and the chains for what was in it", err)
	case errors.Is(err, store.ErrCorrupt):
		return nil, fmt.Errorf("%w. A coordinator can do without: move it away and start with coffer-coordinator run --rebuild, which asks the signers and the chains for what was in it", err)
	}
	return db, err
}

// emptyStore makes a store in the place of one that is lost. It appears whole, with the
// note that it is to be rebuilt: a crash on the way leaves no store, never one that
// looks as if there had been no intents.
func emptyStore(path string) error {
	unfinished := path + ".rebuild"
	if err := os.Remove(unfinished); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("make store: %w", err)
	}
	db, err := store.Create(unfinished)
	if err != nil {
		return err
	}
	table, err := store.OpenTable(db, rebuildTable)
	if err == nil {
		err = store.NewWriter(db).Do(func(tx *bbolt.Tx) error {
			return table.Put(tx, rebuildBegun, []byte(strconv.FormatInt(time.Now().Unix(), 10)))
		})
	}
	if err := errors.Join(err, db.Close()); err != nil {
		return fmt.Errorf("make store: %w", err)
	}
	crashpoint.Hit("rebuild: before the store appears")
	// A link never replaces.
	if err := os.Link(unfinished, path); err != nil {
		return fmt.Errorf("make store: %w", err)
	}
	crashpoint.Hit("rebuild: after the store appeared")
	return os.Remove(unfinished)
}

const rebuildTable = "rebuild"

func openRebuild(db *bbolt.DB) (*rebuild, error) {
	table, err := store.OpenTable(db, rebuildTable)
	if err != nil {
		return nil, err
	}
	r := &rebuild{table: table, heard: map[string]bool{}}
	err = store.View(db, func(tx *bbolt.Tx) error {
		return table.ForEach(tx, nil, func(key, _ []byte) error {
			if name, ok := strings.CutPrefix(string(key), "heard/"); ok {
				r.heard[name] = true
			}
			r.begun = r.begun || bytes.Equal(key, rebuildBegun)
			r.done = r.done || bytes.Equal(key, rebuildDone)
			return nil
		})
	})
	return r, err
}

// enough is how many signers have to be heard so that one of them took part in
// whatever any quorum signed.
func enough(c *charter.Charter) int { return c.Quorum.Of - c.Quorum.Need + 1 }

// wants says whether a signer is yet to tell what it remembers.
func (r *rebuild) wants(s *signer) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.begun && !r.heard[string(s.id)]
}

// underWay says who is still to be heard; nil when nothing is being rebuilt.
func (c *Coordinator) underWay() error {
	r := c.rebuild
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.begun || r.done {
		return nil
	}
	var missing []string
	for _, s := range c.signers() {
		if !r.heard[string(s.id)] {
			missing = append(missing, string(s.id))
		}
	}
	return status.Errorf(codes.Unavailable, "this coordinator lost its store and asks the signers for what they know: %d of %d that are needed have told, missing are %s; ask again once they are up",
		len(r.heard), enough(c.inForce()), strings.Join(missing, ", "))
}

// recall has one signer tell all that it remembers, and begins the flows once enough
// signers have.
func (c *Coordinator) recall(ctx context.Context, s *signer) {
	begin := time.Now()
	found, err := c.recallAll(ctx, s)
	if err != nil {
		if ctx.Err() == nil {
			c.log.Warn("signer does not tell what it remembers", "signer", s.id, "error", err)
		}
		return
	}
	if err := c.heard(s, found); err != nil {
		c.log.Error("the store is not rebuilt", "error", err)
		return
	}
	c.log.Info("signer has told what it remembers", "signer", s.id, "intents", found, "took", time.Since(begin).Round(time.Millisecond).String())
}

// recallAll reads a signer's pages. They come in order of digests, so that nothing comes
// twice and the end is reached.
func (c *Coordinator) recallAll(ctx context.Context, s *signer) (found int, err error) {
	var last canon.Digest
	doubtful := 0
	for range maxPages {
		ask, cancel := context.WithTimeout(ctx, askWithin)
		reply, err := s.api.Recall(ask, &pb.RecallRequest{After: last[:], Limit: maxRecalled})
		cancel()
		if err != nil {
			return found, err
		}
		s.alive()
		if len(reply.Intents) > maxRecalled {
			return found, fmt.Errorf("it tells %d intents at once, at most %d were asked for", len(reply.Intents), maxRecalled)
		}
		for _, known := range reply.Intents {
			id := canon.Sum(known.GetIntent().GetRaw())
			if bytes.Compare(id[:], last[:]) <= 0 {
				return found, fmt.Errorf("it tells intent %s out of order", id.Short())
			}
			last = id
			it, i, err := c.verified(known, time.Now())
			if err != nil {
				c.log.Warn("signer tells an intent that does not verify", "signer", s.id, "error", err)
				if doubtful++; doubtful > maxDoubtful {
					return found, fmt.Errorf("%d of its intents do not verify: it is not asked on", doubtful)
				}
				continue
			}
			if err := c.items.recalled(it, i, string(s.id), known.State); err != nil {
				return found, err
			}
			c.wake(it.ID) // what is new of one that runs already
			found++
		}
		if !reply.More {
			return found, nil
		}
		if len(reply.Intents) == 0 {
			return found, errors.New("it says that there is more, and tells nothing")
		}
	}
	return found, fmt.Errorf("it does not come to an end after %d answers", maxPages)
}

// verified makes an item of what a signer tells: of that what people signed, and nothing else.
func (c *Coordinator) verified(known *pb.KnownIntent, now time.Time) (item, *intent.Intent, error) {
	signed, err := intent.FromProto(known.GetIntent())
	if err != nil {
		return item{}, nil, err
	}
	i, err := c.open(signed)
	if err != nil {
		return item{}, nil, err
	}
	if len(known.Statements) > approval.MaxStatements {
		return item{}, nil, fmt.Errorf("intent %s comes with %d statements, nobody takes more than %d", i.Digest().Short(), len(known.Statements), approval.MaxStatements)
	}
	seen := min(max(known.Seen, i.NotBefore), now.Unix()) * 1000
	it := item{
		ID: i.Digest(), Intent: signed, Created: seen, Since: now.UnixMilli(), Updated: now.UnixMilli(), Recalled: map[string]bool{},
		Stage: pb.Stage_STAGE_APPROVAL, Detail: "found again by asking the signers; it is looked for among what exists",
	}
	if i.Kind != intent.CreateWallet {
		it.Stage, it.Detail = pb.Stage_STAGE_BROADCAST, "found again by asking the signers; it is looked for on the chain"
	}
	for _, s := range known.Statements {
		st := approval.Signed{Raw: s.GetRaw(), Signature: s.GetSignature()}
		if _, err := approval.Verify(c.inForce(), it.ID, st); err != nil {
			continue // the others may still count
		}
		if it.Statements, _, err = approval.Keep(it.Statements, st); err != nil {
			return item{}, nil, err
		}
	}
	return it, i, nil
}

// recalled adds what one more signer tells of an intent to what is known of it.
func (s *items) recalled(it item, i *intent.Intent, signer, state string) error {
	err := s.writer.Do(func(tx *bbolt.Tx) error {
		next := it
		stored, err := s.read(tx, it.ID[:])
		switch {
		case err == nil:
			if next = *stored; next.ended() || len(next.Sent) > 0 {
				return nil
			}
			for _, st := range it.Statements {
				if next.Statements, _, err = approval.Keep(next.Statements, st); err != nil {
					break // the list is full of other people's
				}
			}
		case !errors.Is(err, errNoItem):
			return err
		default:
			ref := referenceKey(i.Initiator, i.Reference)
			if _, used, err := s.refs.Get(tx, ref); err != nil {
				return err
			} else if !used {
				if err := s.refs.Put(tx, ref, it.ID[:]); err != nil {
					return err
				}
			}
		}
		if next.Recalled != nil {
			next.Recalled = cloned(next.Recalled)
			next.Recalled[signer] = state == "released" || state == "signed"
		}
		return s.put(tx, next)
	})
	if err != nil {
		return fmt.Errorf("store intent: %w", err)
	}
	return nil
}

func cloned(m map[string]bool) map[string]bool {
	out := make(map[string]bool, len(m)+1)
	for k, v := range m {
		out[k] = v
	}
	return out
}

// heard notes that a signer has told everything. The last one that was needed ends the
// rebuilding; what others tell later is added.
func (c *Coordinator) heard(s *signer, found int) error {
	if err := c.record("RECALLED", canon.Digest{}, map[string]string{"signer": string(s.id), "intents": strconv.Itoa(found)}); err != nil {
		return err
	}
	r := c.rebuild
	err := c.items.writer.Do(func(tx *bbolt.Tx) error { return r.table.Put(tx, []byte("heard/"+string(s.id)), nil) })
	if err != nil {
		return fmt.Errorf("store who was heard: %w", err)
	}
	r.mu.Lock()
	r.heard[string(s.id)] = true
	done := r.done
	r.mu.Unlock()
	if done {
		c.startRecalled()
		return nil
	}
	return c.completeRebuild()
}

// completeRebuild ends the rebuilding if enough signers were heard.
func (c *Coordinator) completeRebuild() error {
	r := c.rebuild
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.begun || r.done || len(r.heard) < enough(c.inForce()) {
		return nil
	}
	if err := c.items.settleReferences(); err != nil {
		return err
	}
	if err := c.record("REBUILT", canon.Digest{}, map[string]string{"signers": strconv.Itoa(len(r.heard))}); err != nil {
		return err
	}
	if err := c.items.writer.Do(func(tx *bbolt.Tx) error { return r.table.Put(tx, rebuildDone, nil) }); err != nil {
		return fmt.Errorf("store that the store is rebuilt: %w", err)
	}
	// First the flows, which claim their nonces, names and references; then new requests.
	c.startRecalled()
	r.done = true
	c.log.Info("the store is rebuilt", "signers", len(r.heard))
	return nil
}

// startRecalled starts the flow of everything that has not ended and does not run.
func (c *Coordinator) startRecalled() {
	all, err := c.items.all()
	if err != nil {
		c.log.Error("the intents that were found are not begun", "error", err)
		return
	}
	c.tellAll(all)
	for n := range all {
		if !all[n].ended() {
			c.start(all[n].ID)
		}
	}
}

// settleReferences decides, where two intents of one initiator and reference came back,
// which of them the reference stands for: the one that more signers went on with, then
// the one that more people spoke about, then the older. Only an initiator who signed
// both can have made that happen, and the signers' journals let only one be paid.
func (s *items) settleReferences() error {
	all, err := s.all()
	if err != nil {
		return err
	}
	best := map[string]*item{}
	for n := range all {
		it := &all[n]
		i, err := intent.Parse(it.Intent.Raw)
		if err != nil {
			return err
		}
		key := string(referenceKey(i.Initiator, i.Reference))
		if first := best[key]; first == nil || before(it, first) {
			best[key] = it
		}
	}
	err = s.writer.Do(func(tx *bbolt.Tx) error {
		for key, it := range best {
			if err := s.refs.Put(tx, []byte(key), it.ID[:]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("store references: %w", err)
	}
	return nil
}

func before(a, b *item) bool {
	switch {
	case a.released() != b.released():
		return a.released() > b.released()
	case len(a.Statements) != len(b.Statements):
		return len(a.Statements) > len(b.Statements)
	case a.Created != b.Created:
		return a.Created < b.Created
	}
	return bytes.Compare(a.ID[:], b.ID[:]) < 0
}

// unsent says that the chain is watched for it, and no transaction of it is known here.
func (it *item) unsent() bool { return it.onChain() && len(it.Sent) == 0 }

// lookedFor says that it came back, and whether it was ever mined is not known yet.
func (it *item) lookedFor() bool { return it.Recalled != nil && it.unsent() }

// shownStage is what people are shown: of something that is on its way into a block they
// demand to see the transaction, and of one that is only looked for there is none.
func (it *item) shownStage() pb.Stage {
	if it.unsent() {
		return pb.Stage_STAGE_SIGNING
	}
	return it.Stage
}

// mayBeMined keeps an intent that may be signed elsewhere under watch while it cannot be
// signed here. To end it as expired or rejected would invite somebody to pay again, and
// both could be mined.
func (c *Coordinator) mayBeMined(it *item, i *intent.Intent, now int64) bool {
	if !it.SignedElsewhere || len(it.Sent) > 0 {
		return false
	}
	weighed := c.preview(it, i, now)
	outcome := weighed.Decision.Outcome
	return now >= i.Expires || len(weighed.Ended) > 0 || outcome != policy.Allow && !(outcome == policy.Deny && it.Anyway)
}

// released is how many signers say that they went on with an intent that was found again.
func (it *item) released() (n int) {
	for _, yes := range it.Recalled {
		if yes {
			n++
		}
	}
	return n
}

// errBehind: another intent of the same account and nonce is looked for first.
var errBehind = errors.New("another intent of its account and nonce is looked for on the chain first")

// found looks an intent up that came back, before its flow goes on where it belongs. It
// says whether the item has moved.
func (c *Coordinator) found(ctx context.Context, it *item, i *intent.Intent) (moved bool, err error) {
	switch {
	case it.Recalled == nil:
		return false, nil
	case it.lookedFor():
		// What was mined may do what two intents say. It is the one's that signers signed.
		return false, c.behind(it, i)
	case it.onChain():
		return false, nil
	case i.Kind == intent.CreateWallet && it.released() > 0:
		c.pollAll(ctx)
		if record := c.walletRecord(i.Wallet); record != nil {
			return true, c.finishWallet(it, record)
		}
	}
	// It is not done yet. Of two with one reference only one may go on.
	first, err := c.items.byReference(i.Initiator, i.Reference)
	if err != nil {
		return false, err
	}
	if first != nil && first.ID != it.ID {
		return true, c.end(it, pb.Stage_STAGE_FAILED, "REFERENCE_USED", "its reference stands for intent "+first.ID.Short())
	}
	it.SignedElsewhere = i.Kind != intent.CreateWallet && it.released() > 0
	it.Recalled, it.Stage, it.Detail = nil, pb.Stage_STAGE_APPROVAL, "waits for approvals"
	return true, c.save(it)
}

// lookedForAs is another intent that came back and that a mined transaction does, or nil.
func (c *Coordinator) lookedForAs(not canon.Digest, from evm.Address, u *evm.Unsigned) (*canon.Digest, error) {
	for other, err := range c.underFlow() {
		if err != nil {
			return nil, err
		}
		if other.ID == not || !other.unsent() {
			continue
		}
		o, err := intent.Parse(other.Intent.Raw)
		if err != nil {
			return nil, err
		}
		if len(evm.Compare(o, c.madeUnder(o), from, u)) == 0 {
			return &other.ID, nil
		}
	}
	return nil, nil
}

func (c *Coordinator) behind(it *item, i *intent.Intent) error {
	for other, err := range c.underFlow() {
		if err != nil {
			return err
		}
		if other.ID == it.ID || !other.lookedFor() || other.released() <= it.released() {
			continue
		}
		o, err := intent.Parse(other.Intent.Raw)
		if err != nil {
			return err
		}
		if o.Chain == i.Chain && o.Account == i.Account && o.Nonce == i.Nonce {
			return fmt.Errorf("%w: %s", errBehind, other.ID.Short())
		}
	}
	return nil
}
