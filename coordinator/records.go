package coordinator

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"coffer/approval"
	"coffer/authority"
	"coffer/authority/book"
	"coffer/authority/exchange"
	"coffer/canon"
	"coffer/charter"
	"coffer/hook"
	"coffer/intent"
	"coffer/observe"
	pb "coffer/proto/coffer/v1"
	"coffer/rpc"
)

// Charter versions, lists, freezes and orders travel as authority records (package
// authority). This coordinator holds them as everybody does: it verifies, keeps and hands
// on, and decides nothing. Nothing that it does is needed for a record to reach the
// signers, who exchange them among themselves and take narrowing ones from anybody.

const (
	// maxExchanges is how many callers' records are verified at once; more are refused,
	// since what waits holds memory.
	maxExchanges = 4
	// forgetEvery is how soon a signer that still differs is told everything anew.
	forgetEvery = time.Minute
)

// spoken is what was exchanged with one signer.
type spoken struct {
	mu     sync.Mutex // held while it is exchanged
	peer   exchange.Peer
	anew   time.Time
	refuse string // what it did not take last, so that it is said once
}

// openBook opens the records once every operator has signed version 1: no record counts
// before. It is called again and again until then.
func (c *Coordinator) openBook() error {
	c.following.Lock()
	defer c.following.Unlock()
	file := c.charterFile()
	if c.book.Load() != nil || len(file.Missing()) > 0 {
		return nil
	}
	now := time.Now().Unix()
	b, err := book.Open(c.db, file.Charter, nil, now)
	if err != nil {
		return err
	}
	handed := &pb.ExchangeRequest{Records: file.Records} // what a newcomer's file brings
	reply, _, err := exchange.Serve(b, handed, nil, now)
	if err != nil {
		return err
	}
	for _, no := range reply.Refused {
		c.log.Warn("a record in the charter file is not taken", "record", fmt.Sprintf("%x", no.Id), "code", no.Code, "error", no.Text)
	}
	c.book.Store(b)
	return nil
}

// allCards are those of version 1 and of all that followed.
func (c *Coordinator) allCards() []string {
	var records []authority.Record
	if b := c.book.Load(); b != nil {
		records = b.Records()
	}
	return authority.Cards(c.charterFile(), records)
}

// exchange has a signer and this coordinator hold the same records.
func (c *Coordinator) exchange(ctx context.Context, s *signer) { c.exchangeBy(ctx, s, s.api) }

func (c *Coordinator) exchangeBy(ctx context.Context, s *signer, api pb.SignerClient) {
	b := c.book.Load()
	if b == nil {
		return
	}
	s.spoken.mu.Lock()
	defer s.spoken.mu.Unlock()
	result, err := s.spoken.peer.Sync(ctx, b, unixNow, func(ctx context.Context, req *pb.ExchangeRequest) (*pb.ExchangeResponse, error) {
		ask, cancel := context.WithTimeout(ctx, askWithin)
		defer cancel()
		return api.Exchange(ask, req)
	})
	c.happened(result.Events, s)
	for _, no := range result.Refused {
		c.log.Warn("signer hands out a record that cannot be taken", "signer", s.id, "record", no.ID.String(), "error", no.Err)
	}
	for _, no := range result.Not {
		if what := fmt.Sprintf("%x %s", no.Id, no.Code); what != s.spoken.refuse {
			s.spoken.refuse = what
			c.log.Warn("signer does not take a record", "signer", s.id, "record", fmt.Sprintf("%x", no.Id), "code", no.Code, "error", no.Text)
		}
	}
	if err != nil && ctx.Err() == nil {
		c.log.Debug("records were not exchanged", "signer", s.id, "error", err)
	}
}

func unixNow() int64 { return time.Now().Unix() }

// differs says whether a signer shows other records than are here. Its head is believed
// nothing else: whether the two hold the same, and not what that is.
func (c *Coordinator) differs(s *signer, st *pb.StatusResponse) bool {
	b := c.book.Load()
	if b == nil || len(st.GetHead()) == 0 {
		return false
	}
	head, err := authority.ParseHead(st.Head)
	if err != nil || head.Records == b.Head("", 0, canon.Digest{}, unixNow()).Records {
		return false
	}
	s.spoken.mu.Lock()
	defer s.spoken.mu.Unlock()
	if time.Since(s.spoken.anew) > forgetEvery {
		s.spoken.anew = time.Now()
		s.spoken.peer.Forget() // it was restored, perhaps, and has less than it had
	}
	return true
}

// outdated says whether a signer goes by a later version of the charter than is known here:
// what it remembers was made under versions that cannot be verified yet. A signer that
// lies about it is only not heard.
func (c *Coordinator) outdated(st *pb.StatusResponse) bool {
	if len(st.GetHead()) == 0 {
		return false
	}
	head, err := authority.ParseHead(st.Head)
	return err != nil || c.book.Load() == nil || head.Version > c.inForce().Version
}

// happened acts on what became new: people are told, flows look again, and every other
// signer is handed it at once. from is who brought it, or nil.
func (c *Coordinator) happened(events []authority.Event, from *signer) {
	if len(events) == 0 {
		return
	}
	b := c.book.Load()
	for _, e := range events {
		c.note(b, e, from)
	}
	if err := c.followBook(); err != nil {
		c.log.Error("the charter in force cannot be followed", "error", err)
	}
	if err := c.proveAll(); err != nil { // a next identity may have been made
		c.log.Error("the API does not answer with all its identities", "error", err)
	}
	c.wakeAll()
	for _, s := range c.signers() {
		if s != from {
			s.hand()
		}
	}
}

// hand has a signer handed what is new.
func (s *signer) hand() {
	select {
	case s.handing <- struct{}{}:
	default: // it is coming
	}
}

func (c *Coordinator) wakeAll() {
	c.mu.Lock()
	var ids []canon.Digest
	for id := range c.running {
		ids = append(ids, id)
	}
	c.mu.Unlock()
	for _, id := range ids {
		c.wake(id)
	}
}

func (c *Coordinator) note(b *book.Book, e authority.Event, from *signer) {
	by := "a caller"
	if from != nil {
		by = string(from.id)
	}
	detail := map[string]string{"record": e.Record.String(), "text": e.Text}
	var err error
	var event string
	switch e.Kind {
	case authority.EventFrozen:
		err, event = c.record("FREEZE", canon.Digest{}, detail), hook.Frozen
	case authority.EventLifted:
		err, event = c.record("LIFT", canon.Digest{}, detail), hook.Lifted
	case authority.EventCharterComplete:
		err, event = c.record("CHARTER_PENDING", canon.Digest{}, detail), hook.CharterPending
	case authority.EventCharterInForce:
		err, event = c.record("CHARTER_IN_FORCE", canon.Digest{}, detail), hook.CharterInForce
	case authority.EventFork:
		if e.Of == authority.KindList {
			err, event = c.record("LIST_FORK", canon.Digest{}, detail), hook.Alarm
		} else {
			err, event = c.record("CHARTER_FORK", canon.Digest{}, detail), hook.CharterFork
		}
	case authority.EventListInForce:
		err = c.record("LIST", canon.Digest{}, detail)
	case authority.EventOrder:
		if c.obey(b, e.Record) {
			err = c.record("ORDER", canon.Digest{}, detail)
		} else { // with a line for each, anybody with a key could fill the disk
			c.log.Debug("an order about an intent that is not known here", "record", e.Record.String(), "text", e.Text)
		}
	case authority.EventDropped:
		c.log.Warn("part of a record does not hold", "record", e.Record.String(), "from", by, "text", e.Text)
	case authority.EventSigned:
		c.log.Debug("a record has more signatures", "record", e.Record.String(), "text", e.Text)
	}
	if err != nil {
		c.log.Error("not written to the audit log", "error", err)
	}
	if event != "" {
		c.seen.hooks.Fire(hook.Event{Name: event, Subject: e.Record.Short(), Text: e.Text}, e.Record.String()+event)
	}
}

// obey has what people said against an intent count here too, whoever brought it. It says
// whether the intent is known here.
func (c *Coordinator) obey(b *book.Book, id canon.Digest) bool {
	r, ok := b.Record(id)
	if !ok || !c.shown(r.Subject()) {
		return false
	}
	for _, signed := range r.Statements {
		if _, err := c.items.addStatement(r.Subject(), signed); err != nil {
			c.log.Debug("an order is about nothing that waits here", "intent", r.Subject().String(), "error", err)
		}
	}
	return true
}

// shown says whether an intent was ever submitted here.
func (c *Coordinator) shown(id canon.Digest) bool {
	_, err := c.items.get(id)
	return err == nil
}

// order hands a statement that narrows to the signers as a record, beside the intent that
// it is about: it reaches those that were never shown the intent.
func (c *Coordinator) order(subject canon.Digest, signed approval.Signed) error {
	b := c.book.Load()
	if b == nil {
		return nil
	}
	events, err := b.Add(authority.Record{Kind: authority.KindOrder, Raw: subject[:], Statements: []approval.Signed{signed}}, unixNow())
	c.happened(events, nil)
	if authority.CodeOf(err) != "" {
		return nil //nolint:nilerr // it counts for the intent nevertheless, and says why where it is handed in as a record
	}
	return err
}

// followBook makes the version that the records put in force the one that counts here,
// and keeps it in the charter's file, for the day on which the store is lost.
func (c *Coordinator) followBook() error {
	b := c.book.Load()
	if b == nil {
		return nil
	}
	c.following.Lock()
	defer c.following.Unlock()
	next := b.InForce()
	if next.Digest() == c.inForce().Digest() {
		return nil
	}
	if err := c.follow(next, c.allCards()); err != nil {
		return err
	}
	c.log.Info("another version of the charter is in force", "version", next.Version, "charter", next.Digest().Short())
	over := c.goOver(next)
	if over == nil {
		c.checkListed(next)
	}
	if err := c.keepVersions(b); err != nil {
		// It lives without: an empty store asks the signers for them.
		c.log.Warn("the charter's versions are not in its file", "error", err)
	}
	if over != nil {
		select {
		case c.anew <- over:
		default: // it ends already
		}
	}
	return nil
}

// keepVersions writes the versions of the charter that are in force or were beside the
// first one.
func (c *Coordinator) keepVersions(b *book.Book) error {
	return charter.WriteFile(c.cfg.Dir.Charter(), authority.Chain(c.charterFile(), b.Records(), b.InForce().Version))
}

// checkListed says loudly when the charter no longer lists this coordinator: no signer
// answers it from then on.
func (c *Coordinator) checkListed(now *charter.Charter) {
	if me, ok := now.CoordinatorByPeer(c.key.ID()); ok && me.Name == c.settings.Name {
		return
	}
	text := fmt.Sprintf("version %d of the charter does not list coordinator %q with identity %s: no signer answers it any more", now.Version, c.settings.Name, c.key.ID())
	c.log.Error("this coordinator is not in the charter", "why", text)
	c.seen.hooks.Fire(hook.Event{Name: hook.Alarm, Subject: c.settings.Name, Text: text}, text)
}

// recordGauges counts what is frozen and what is about to change.
func (c *Coordinator) recordGauges(set observe.Set) {
	set("coffer_coordinator_charter_version", float64(c.inForce().Version))
	freezes := map[string]int{authority.ScopeCluster: 0, authority.ScopeWallet: 0, authority.ScopePerson: 0}
	pending := map[authority.Kind]int{authority.KindCharter: 0, authority.KindList: 0, authority.KindUnfreeze: 0}
	if b := c.book.Load(); b != nil {
		for _, h := range b.Freezes() {
			freezes[h.Freeze.Scope]++
		}
		for _, p := range b.Pending() {
			pending[p.Kind]++
		}
	}
	for scope, n := range freezes {
		set("coffer_coordinator_freezes", float64(n), scope)
	}
	for kind, n := range pending {
		set("coffer_coordinator_records_pending", float64(n), string(kind))
	}
}

// Exchange takes authority records of anybody, and answers what the caller lacks: each
// is verified by what is signed in it, and none is a secret.
func (s *service) Exchange(ctx context.Context, req *pb.ExchangeRequest) (*pb.ExchangeResponse, error) {
	c := s.c
	b := c.book.Load()
	if b == nil {
		return nil, c.awaitsOperators()
	}
	select {
	case c.exchanges <- struct{}{}:
		defer func() { <-c.exchanges }()
	default:
		return nil, status.Error(codes.ResourceExhausted, "too many callers hand records over at once: try again in a second")
	}
	reply, events, err := c.front.Serve(rpc.Host(ctx), b, req, nil, time.Now())
	c.happened(events, nil)
	if _, ok := status.FromError(err); !ok {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return reply, err
}

// frozen are the freezes that stop an intent here and at every signer that has heard of
// them. A cancel makes nothing leave a wallet but its fee, and stops what may: only a
// freeze of whoever asks for it stops it.
func (c *Coordinator) frozen(i *intent.Intent) []authority.Held {
	b := c.book.Load()
	if b == nil {
		return nil
	}
	now := b.Frozen()
	ids := now.Person(i.Initiator)
	if i.Kind != intent.Cancel {
		ids = append(now.Wallet(i.Wallet), ids...)
	}
	if len(ids) == 0 {
		return nil
	}
	stops := map[canon.Digest]bool{}
	for _, id := range ids {
		stops[id] = true
	}
	var out []authority.Held
	for _, held := range b.Freezes() {
		if stops[held.ID] {
			out = append(out, held)
		}
	}
	return out
}

// frozenText says by whom and why something is frozen, and what lifts it.
func (c *Coordinator) frozenText(list []authority.Held) string {
	var texts, ids []string
	for _, h := range list {
		texts = append(texts, fmt.Sprintf("%s, by %s: %s", h.Freeze.What(), h.Freeze.By, h.Freeze.Reason))
		ids = append(ids, h.ID.Short())
	}
	admin := c.inForce().Admin
	return fmt.Sprintf("frozen: %s; lifted by coffer unfreeze %s once %d of %s have signed that", strings.Join(texts, "; "), strings.Join(ids, " "), admin.K, admin.Group)
}
