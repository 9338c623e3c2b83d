package coordinator

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"coffer/approval"
	"coffer/canon"
	"coffer/chain/evm"
	"coffer/intent"
	"coffer/partial"
	"coffer/policy"
	pb "coffer/proto/coffer/v1"
)

// tries is how many sessions of one intent may fail before it is given up; enough to
// have every quorum of a 3-of-5 once, and each of a 2-of-3 four times.
const tries = 12

// flow drives one intent to its end. Each stage reads the item from disk, does one
// thing and saves it; whatever happens in between, the next run begins with the
// same stage.
//
//	approval ◀─▶ signing ──▶ broadcast ◀─▶ confirmation ──▶ done
//	    └────────────┴───────────┴──────────────┴──────▶ refused, failed
//
// A chain may take a block back: then broadcast comes again, also after done.
func (c *Coordinator) flow(ctx context.Context, id canon.Digest, wake <-chan struct{}) error {
	pause := backoff{}
	for ctx.Err() == nil {
		it, err := c.items.get(id)
		if err != nil {
			return err
		}
		if it.ended() {
			return nil
		}
		if err := c.step(ctx, it, wake); err != nil && ctx.Err() == nil {
			// What a stage returns as an error passes: a signer or an endpoint that is away.
			c.log.Warn("intent waits", "intent", id.String(), "stage", it.Stage.String(), "error", err)
			c.say(id, "%v", err)
			pause.wait(ctx, wake)
			continue
		}
		pause = backoff{}
	}
	return nil
}

// step takes an intent one step further, or waits for news of it.
func (c *Coordinator) step(ctx context.Context, it *item, wake <-chan struct{}) error {
	i, err := c.open(it.Intent)
	if err != nil {
		return c.end(it, pb.Stage_STAGE_FAILED, "INTENT", err.Error())
	}
	if moved, err := c.found(ctx, it, i); err != nil || moved {
		return err
	}
	if it.onChain() {
		return c.settle(ctx, it, i, wake)
	}
	if c.mayBeMined(it, i, time.Now().Unix()) {
		it.Stage, it.Detail = pb.Stage_STAGE_BROADCAST, "signers went on with it before the store was lost: it may be mined yet, and only a cancel stops it"
		return c.save(it)
	}
	ready, err := c.standing(it, i, time.Now().Unix())
	switch {
	case err != nil || it.ended():
		return err
	case !ready && it.Stage == pb.Stage_STAGE_SIGNING:
		it.Stage, it.Detail = pb.Stage_STAGE_APPROVAL, c.waitsFor(it, i, time.Now().Unix())
		return c.save(it)
	case !ready:
		untilNews(ctx, i.Expires, wake)
		return nil
	case it.Stage == pb.Stage_STAGE_APPROVAL:
		if err := c.record("APPROVED", it.ID, map[string]string{"anyway": strconv.FormatBool(it.Anyway)}); err != nil {
			return err
		}
		it.phaseDone("approval", time.Now())
		it.Stage, it.Detail = pb.Stage_STAGE_SIGNING, "the signers are asked"
		return c.save(it)
	case it.Stage != pb.Stage_STAGE_SIGNING:
		return c.end(it, pb.Stage_STAGE_FAILED, "STORE", fmt.Sprintf("the stored intent has the unknown stage %d", it.Stage))
	}
	if by := c.frozen(i); len(by) > 0 {
		c.say(it.ID, "%s", c.frozenText(by))
		untilNews(ctx, i.Expires, wake)
		return nil
	}
	if i.Kind == intent.CreateWallet {
		return c.generate(ctx, it, i)
	}
	return c.sign(ctx, it, i)
}

// standing says whether an intent that is not signed yet may go to the signers, and
// ends it when nothing can help it any more. It is looked at again before every
// session: people may have changed their minds. It only decides when to ask the
// signers, never what they answer.
func (c *Coordinator) standing(it *item, i *intent.Intent, now int64) (ready bool, err error) {
	by, err := c.items.cancelledBy(it.ID)
	if err != nil {
		return false, err
	}
	if by != nil {
		return false, c.end(it, pb.Stage_STAGE_FAILED, "CANCELLED", "cancelled by intent "+by.Short())
	}
	if now >= i.Expires {
		return false, c.end(it, pb.Stage_STAGE_FAILED, "EXPIRED", "expired before it was "+map[bool]string{true: "approved", false: "signed"}[it.Stage == pb.Stage_STAGE_APPROVAL])
	}
	weighed := c.preview(it, i, now)
	switch {
	case len(weighed.Ended) > 0:
		return false, c.end(it, pb.Stage_STAGE_FAILED, "REJECTED", "rejected by "+strings.Join(weighed.Ended, ", "))
	case weighed.Decision.Outcome == policy.Allow:
		return true, nil
	case weighed.Decision.Outcome != policy.Deny, awaitsList(weighed.Decision) && !it.Anyway:
		return false, nil
	case it.Anyway:
		return true, nil
	}
	// Submit lets nothing in that the rules deny; this is a second look at a stored item.
	return false, c.end(it, pb.Stage_STAGE_REFUSED, "PREVIEW", reasons(weighed.Decision))
}

// untilNews waits for a statement, or for the end of the intent's time.
func untilNews(ctx context.Context, expires int64, wake <-chan struct{}) {
	timer := time.NewTimer(time.Until(time.Unix(expires, 0)))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-wake:
	}
}

// preview is the coordinator's own look at approvals and rules: what a signer that holds
// the same records makes of them.
func (c *Coordinator) preview(it *item, i *intent.Intent, now int64) approval.Weighed {
	u := approval.Under{Force: c.inForce(), Made: c.madeUnder(i), Now: now}
	if b := c.book.Load(); b != nil {
		u.Frozen, u.Lists = b.Frozen().People, b.Lists()
	}
	weighed := approval.Weigh(u, i, it.ID, it.Statements)
	_, who, _, err := it.Intent.OpenUnder(c.charterOf)
	if err == nil {
		_, err = intent.Enrolled(u.Force, i.Initiator, who.Key)
	}
	if err != nil {
		weighed.Decision.Outcome = policy.Deny
		weighed.Decision.Reasons = []policy.Reason{{Code: "INTENT_INITIATOR", Text: fmt.Sprintf("in the charter in force: %v", err)}}
	}
	return weighed
}

// awaitsList says whether a list that is too old is all that denies it: the next version
// may permit it, so that this ends nothing.
func awaitsList(d policy.Decision) bool {
	stale := false
	for _, r := range d.Reasons {
		stale = stale || r.Code == policy.CodeListStale
		if r.Code != policy.CodeListStale && r.Code != policy.CodeApprovals {
			return false
		}
	}
	return stale && d.Outcome == policy.Deny
}

// waitsFor says what an intent waits for that was with the signers already.
func (c *Coordinator) waitsFor(it *item, i *intent.Intent, now int64) string {
	weighed := c.preview(it, i, now)
	if awaitsList(weighed.Decision) {
		return "waits for the next version of a list: " + reasons(weighed.Decision)
	}
	text := "waits for approvals again"
	if lost := disregarded(weighed); len(lost) > 0 {
		text += ": " + strings.Join(lost, "; ")
	}
	return text
}

// disregarded are the statements that do not count, and why: else nobody finds out.
func disregarded(w approval.Weighed) []string {
	var out []string
	for _, r := range w.Refused {
		out = append(out, fmt.Sprintf("statement of %q: %s", r.Person, r.Text))
	}
	return out
}

// sign builds the transaction and has it signed.
func (c *Coordinator) sign(ctx context.Context, it *item, i *intent.Intent) error {
	leave, err := c.enter(ctx, it, i)
	if err != nil || leave == nil {
		return err
	}
	defer leave()
	// Built anew for each try, at the fee of the day: of all that were ever signed for
	// this intent at most one can be mined, they share its account and nonce.
	c.say(it.ID, "building the transaction")
	unsigned, err := c.build(ctx, it, i)
	if err != nil {
		return err
	}
	v, err := c.signed(ctx, it, i, unsigned)
	if err != nil || v == nil {
		return err
	}
	it.phaseDone("signing", time.Now())
	it.Sent = append(it.Sent, *v)
	it.Stage, it.Detail = pb.Stage_STAGE_BROADCAST, "signed by "+strings.Join(v.SignedBy, " and ")
	return c.passOn(it, i)
}

// signed asks every signer, has exactly Need of those who would sign do it, and combines.
// Nothing without an error means that the item has moved on.
func (c *Coordinator) signed(ctx context.Context, it *item, i *intent.Intent, unsigned *evm.Unsigned) (*sent, error) {
	record, err := c.wallet(i.Wallet)
	if err != nil {
		return nil, err
	}
	it.Unsigned = unsigned.Encode()
	willing, err := c.ask(ctx, it, c.signersOf(record), record.Quorum.Need)
	if err != nil || willing == nil {
		return nil, err
	}
	signers := choose(willing, record.Quorum.Need, it.Quorums, time.Now())
	if signers == nil {
		return nil, fmt.Errorf("%s would sign, and no %d of them are connected to each other", quorumKey(willing), record.Quorum.Need)
	}
	names := make([]string, len(signers))
	for n, s := range signers {
		names[n] = string(s.id)
	}
	if err := c.record("SESSION", it.ID, map[string]string{"signers": strings.Join(names, ",")}); err != nil {
		return nil, err
	}
	c.say(it.ID, "%s sign", strings.Join(names, " and "))
	partials, err := c.session(ctx, it, signers)
	if ctx.Err() != nil {
		return nil, ctx.Err() // this coordinator stops: nobody failed
	}
	if err != nil {
		return nil, c.retry(it, signers, false, err)
	}
	sig, err := partial.Combine(unsigned.Digest(), record.PublicKey, record.Quorum.Need, partials)
	if err != nil {
		// Somebody's partial is wrong and it cannot be told whose: try others.
		return nil, c.retry(it, signers, false, err)
	}
	raw, hash, err := unsigned.Assemble(sig)
	if err != nil {
		return nil, c.retry(it, signers, false, err)
	}
	for _, s := range signers {
		s.count(true, time.Now())
	}
	if err := c.record("SIGNED", it.ID, map[string]string{"transaction": fmt.Sprintf("0x%x", hash), "signers": strings.Join(names, ",")}); err != nil {
		return nil, err
	}
	return &sent{Raw: raw, SignedBy: names, Time: time.Now().UnixMilli()}, nil
}

// enter waits for the turn of a session. A nil leave without an error means that the
// item has to be looked at again, because people may have spoken meanwhile.
func (c *Coordinator) enter(ctx context.Context, it *item, i *intent.Intent) (leave func(), err error) {
	leave = func() { <-c.slots }
	select {
	case c.slots <- struct{}{}:
		return leave, nil
	default:
	}
	c.say(it.ID, "waits for other sessions to end")
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	stored, err := c.items.get(it.ID)
	if err != nil || len(stored.Statements) != len(it.Statements) || len(c.frozen(i)) > 0 {
		leave()
		return nil, err
	}
	return leave, nil
}

// passOn stores a signed payment, after which it will be broadcast, unless somebody
// rejected it during the session: what State has accepted counts.
func (c *Coordinator) passOn(it *item, i *intent.Intent) error {
	for {
		stored, err := c.items.get(it.ID)
		if err != nil {
			return err
		}
		if by := c.preview(stored, i, time.Now().Unix()).Ended; len(by) > 0 {
			it.Sent = nil
			return c.end(it, pb.Stage_STAGE_FAILED, "REJECTED", fmt.Sprintf("rejected by %s while it was signed; it is not broadcast, but nonce %d is spoken for: ask for a cancel of it", strings.Join(by, ", "), i.Nonce))
		}
		it.Updated = time.Now().UnixMilli()
		err = c.items.saveUnlessNews(*it, len(stored.Statements))
		if errors.Is(err, errNews) {
			continue
		}
		c.saved(it.ID)
		return err
	}
}

// ask gets every signer's signed verdict. It returns those among them who would sign, once
// there are enough of them; nil without an error means that the item has moved on.
func (c *Coordinator) ask(ctx context.Context, it *item, among []*signer, need int) ([]*signer, error) {
	c.say(it.ID, "asking every signer for its verdict")
	it.Verdicts = c.judge(ctx, it, need)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err := c.save(it); err != nil {
		return nil, err
	}
	t := c.tally(it, among)
	hopeless := len(t.refuse) > 0 && len(among)-len(t.refuse) < need
	switch {
	case len(t.sign) >= need:
		return t.sign, nil
	case hopeless && it.onChain():
		return nil, fmt.Errorf("refused by the signers: %s", strings.Join(t.reasons, " | "))
	case hopeless:
		// What a person said meanwhile the signers have heard too, and it says more.
		if stored, err := c.items.get(it.ID); err != nil || len(stored.Statements) != len(it.Statements) {
			return nil, err
		}
		// The refusals are final for this intent, whoever else may come back.
		return nil, c.end(it, pb.Stage_STAGE_REFUSED, "REFUSED", "refused by the signers: "+strings.Join(t.reasons, " | "))
	}
	return nil, fmt.Errorf("%s of %d would sign now, %d needed: %s", plural(len(t.sign), "signer"), len(among), need, strings.Join(t.reasons, " | "))
}

// retry counts a failed session; the next one has a new attempt and, where there is
// a choice, other signers.
func (c *Coordinator) retry(it *item, signers []*signer, ceremony bool, cause error) error {
	var at *sessionError
	named := map[string]bool{}
	if errors.As(cause, &at) {
		if at.refused != nil {
			// A signer that refuses now will be heard again in the next round of verdicts.
			it.Verdicts[string(at.signer)] = *at.refused
		}
		for _, culprit := range at.culprits {
			named[culprit] = true
		}
		if at.code == "SIGNER_UNREACHABLE" { // this coordinator saw it itself
			named[string(at.signer)] = true
		}
	}
	// Only a preference among quorums that were tried as often: what a signer says of
	// another may be a lie, and who reports a failure is not who caused it.
	for _, s := range signers {
		if named[string(s.id)] {
			s.count(false, time.Now())
		}
	}
	if it.Quorums == nil {
		it.Quorums = map[string]int{}
	}
	key := quorumKey(signers)
	it.Quorums[key]++
	// A payment whose signers are away waits for them as long as it lives; a ceremony costs
	// primes each time, so that it is given up.
	absent := at != nil && at.passes && !ceremony
	if !absent {
		it.Tries++
	}
	if it.Tries >= tries && !it.onChain() { // what was sent before may be mined whatever fails now
		return c.end(it, pb.Stage_STAGE_FAILED, "TRIES", fmt.Sprintf("%d tries failed, the last one: %v", it.Tries, cause))
	}
	if err := c.record("SESSION_FAILED", it.ID, map[string]string{"error": cause.Error()}); err != nil {
		return err
	}
	if err := c.save(it); err != nil {
		return err
	}
	if absent && it.Quorums[key] == 1 {
		c.log.Info("a signer is away: others are asked", "intent", it.ID.String(), "error", cause)
		return nil // at once: another quorum may be whole
	}
	return fmt.Errorf("try %d failed: %w", it.Tries, cause)
}

// generate runs the ceremony of a create-wallet intent with all signers.
func (c *Coordinator) generate(ctx context.Context, it *item, i *intent.Intent) error {
	// A ceremony may have ended well without this coordinator hearing of it.
	c.pollAll(ctx)
	if record := c.walletRecord(i.Wallet); record != nil {
		return c.finishWallet(it, record)
	}
	signers := c.signers() // those that the ceremony is of
	willing, err := c.ask(ctx, it, signers, len(signers))
	if err != nil || willing == nil {
		return err
	}
	var waiting []string
	for _, s := range signers {
		if st, err := s.seen(); err != nil || st == nil || st.PreParameters == 0 {
			waiting = append(waiting, string(s.id))
		}
	}
	if len(waiting) > 0 {
		return fmt.Errorf("waiting for the primes of %s (each signer searches its own; seconds to minutes)", strings.Join(waiting, ", "))
	}
	if !phaseNamed(it, "primes") {
		it.phaseDone("primes", time.Now())
	}
	if err := c.record("CEREMONY", it.ID, map[string]string{"wallet": i.Wallet}); err != nil {
		return err
	}
	record, err := c.ceremony(ctx, it, i, signers)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return c.retry(it, signers, true, err)
	}
	return c.finishWallet(it, record)
}

func (c *Coordinator) finishWallet(it *item, record *pb.SignedRecord) error {
	raw, err := proto.Marshal(record)
	if err != nil {
		return err
	}
	it.phaseDone("keygen", time.Now())
	it.Wallet = raw
	return c.end(it, pb.Stage_STAGE_DONE, "", "the wallet exists; every signer has proved its share")
}

// end closes an intent.
func (c *Coordinator) end(it *item, stage pb.Stage, code, detail string) error {
	it.Stage, it.Code, it.Detail = stage, code, detail
	if err := c.record("ENDED", it.ID, map[string]string{"stage": stage.String(), "code": code, "detail": detail}); err != nil {
		return err
	}
	if err := c.save(it); err != nil {
		return err
	}
	c.remember(it)
	c.over(it)
	return nil
}

func reasons(d policy.Decision) string {
	var texts []string
	for _, r := range d.Reasons {
		texts = append(texts, r.Text)
	}
	return strings.Join(texts, "; ")
}

func phaseNamed(it *item, name string) bool {
	for _, p := range it.Phases {
		if p.Name == name {
			return true
		}
	}
	return false
}

// backoff waits longer after each failure, and no longer once there is news.
type backoff struct{ next time.Duration }

func (b *backoff) wait(ctx context.Context, wake <-chan struct{}) {
	b.next = min(max(2*b.next, 200*time.Millisecond), 2*time.Second)
	timer := time.NewTimer(b.next)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-wake:
	}
}
