package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"coffer/audit"
	"coffer/canon"
	"coffer/dkg"
	"coffer/engine"
	"coffer/envelope"
	"coffer/gate"
	"coffer/intent"
	"coffer/journal"
	"coffer/keyshare"
	"coffer/partial"
	"coffer/party"
	"coffer/signing"
	"coffer/transport"
	"coffer/verdict"
	"coffer/wallet"
)

const (
	// sessionWithin and ceremonyWithin are how long a run may take before it is ended.
	sessionWithin  = 45 * time.Second
	ceremonyWithin = 8 * time.Minute
	// awayWithin is how long a peer of a run may be disconnected.
	awayWithin = 2 * time.Second
	// maxRuns bounds what runs at once; every run holds memory and a worker's CPU.
	maxRuns = 16
	// idleWithin is how long a worker is kept that has nothing to do: a share is in
	// memory only while its wallet is in use.
	idleWithin = time.Minute
	tick       = 250 * time.Millisecond
)

var errBusy = fmt.Errorf("%d sessions run already: try again when one has ended", maxRuns)

// loopState is owned by the loop; nobody else touches it.
type loopState struct {
	runs  map[canon.Digest]*run // by run ID, under which peers name it, and by session ID, under which the engine does
	early *envelope.Early
	hosts map[string]engine.Host // by wallet; "" searches primes
	used  map[string]time.Time   // when a host last began something
	wrap  *keyshare.WrapKey
	news  chan hostEvent
}

type hostEvent struct {
	name  string
	host  engine.Host
	event engine.Event
}

func newLoopState() loopState {
	return loopState{
		runs: map[canon.Digest]*run{}, early: envelope.NewEarly(earlyLimits), hosts: map[string]engine.Host{}, used: map[string]time.Time{},
		news: make(chan hostEvent, 64),
	}
}

func (l *loopState) distinct() []*run {
	seen := map[*run]bool{}
	var out []*run
	for _, r := range l.runs {
		if !seen[r] {
			seen[r] = true
			out = append(out, r)
		}
	}
	return out
}

// run is one session or ceremony under way.
type run struct {
	ids      []canon.Digest
	peers    party.Set
	host     engine.Host
	deadline time.Time
	awayFrom map[party.ID]time.Time
	events   chan runEvent
	ended    bool
	stage    string

	// of a signing session
	session    *signing.Session
	request    request
	record     *wallet.Record
	authorized *gate.Authorized // of the second judgement

	// of a ceremony
	ceremony *dkg.Ceremony
	permit   *gate.Ceremony
}

// runEvent is what the coordinator is told; at most one of the pointers is set.
type runEvent struct {
	stage, text string
	partial     *partial.Partial
	wallet      *wallet.Signed
	refused     *verdict.Verdict
	failed      *engine.Fault
}

// run is the loop: one goroutine, all state. Whatever is put on disk in a turn is
// there before anything that depends on it leaves in that turn.
func (n *Node) run(ctx context.Context) error {
	defer close(n.closed)
	defer n.stop()
	clock := time.NewTicker(tick)
	defer clock.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case f := <-n.mail:
			f()
		case frame, ok := <-n.link.Frames():
			if !ok {
				return errors.New("the link to the peers is closed")
			}
			n.receive(frame)
		case e := <-n.loop.news:
			n.engineEvent(e)
		case now := <-clock.C:
			n.tick(now)
		}
	}
}

// stop ends all runs and workers; nothing of them survives a restart.
func (n *Node) stop() {
	for _, r := range n.loop.distinct() {
		n.fail(r, &engine.Fault{Code: "STOPPING", Text: "this signer is stopping"})
	}
	n.closeHosts()
}

func (n *Node) closeHosts() {
	for name, h := range n.loop.hosts {
		if err := h.Close(); err != nil {
			n.log.Warn("closing a worker", "error", err)
		}
		delete(n.loop.hosts, name)
	}
	n.setBusy(false)
}

// startSigning begins a session that the gate has judged once.
func (n *Node) startSigning(ctx context.Context, req request, record *wallet.Record, signers party.Set, attempt canon.Digest) (*run, error) {
	r := &run{request: req, record: record, peers: signers.Without(n.self), events: make(chan runEvent, 64)}
	var err error
	if doErr := n.do(ctx, func() { err = n.beginSigning(r, signers, attempt) }); doErr != nil {
		return nil, doErr
	}
	return r, err
}

func (n *Node) beginSigning(r *run, signers party.Set, attempt canon.Digest) error {
	if err := n.mayBegin(r); err != nil {
		return err
	}
	meta, sealed, err := n.keys.Share(r.record.Name, r.record.Epoch)
	if err != nil {
		return err
	}
	nonce, err := fresh()
	if err != nil {
		return err
	}
	r.session, err = signing.New(signing.Config{
		Cluster: n.charter.Cluster, Record: r.record, Path: r.record.Paths, Self: n.self, Signers: signers, Attempt: attempt,
		Roster: n.roster, Key: n.key, Nonce: nonce, Share: sealed, Meta: meta,
	})
	if err != nil {
		return err
	}
	if r.host, err = n.host(r.record.Name); err != nil {
		return err
	}
	if err := n.openRun(r.session.Run()); err != nil {
		return err
	}
	r.deadline = time.Now().Add(sessionWithin)
	n.route(r, r.session.Run())
	n.pump(r)
	return nil
}

// startCeremony begins a key generation that the gate has permitted.
func (n *Node) startCeremony(ctx context.Context, permit *gate.Ceremony, attempt canon.Digest) (*run, error) {
	r := &run{permit: permit, peers: permit.Signers().Without(n.self), events: make(chan runEvent, 64)}
	var err error
	if doErr := n.do(ctx, func() { err = n.beginCeremony(r, attempt) }); doErr != nil {
		return nil, doErr
	}
	return r, err
}

func (n *Node) beginCeremony(r *run, attempt canon.Digest) error {
	if err := n.mayBegin(r); err != nil {
		return err
	}
	// Asked before anything is sent; the set itself is taken when the ceremony has its ID.
	if count, err := n.keys.PreParamsCount(); err != nil {
		return err
	} else if count == 0 {
		return errNoPrimes
	}
	nonce, err := fresh()
	if err != nil {
		return err
	}
	chainCode, err := fresh()
	if err != nil {
		return err
	}
	p := r.permit
	r.ceremony, err = dkg.New(dkg.Config{
		Authority: p, Cluster: p.Cluster(), Charter: p.Charter(), Wallet: p.Wallet(), Quorum: p.Quorum(), Signers: p.Signers(),
		Self: n.self, Attempt: attempt, Roster: n.roster, Key: n.key, Nonce: nonce, ChainCodeShare: chainCode,
	})
	if err != nil {
		return err
	}
	if r.host, err = n.host(p.Wallet()); err != nil {
		return err
	}
	if err := n.openRun(r.ceremony.Run()); err != nil {
		return err
	}
	r.deadline = time.Now().Add(ceremonyWithin)
	for _, id := range r.ceremony.Routes() {
		n.route(r, id)
	}
	n.pump(r)
	return nil
}

var errNoPrimes = errors.New("this signer has no pre-parameters ready: it searches for them, ask again later")

// openRun writes a run ID down before its nonce is sent. A coordinator that repeats
// an attempt would otherwise make an honest signer send two nonces under one run,
// which its peers rightly call equivocation.
func (n *Node) openRun(id canon.Digest) error {
	err := n.journal.OpenSession(id, "run")
	if errors.Is(err, journal.ErrSeen) {
		return errRepeated
	}
	return err
}

var errRepeated = errors.New("this attempt was made before: every try needs a fresh attempt")

func (n *Node) mayBegin(r *run) error {
	if n.loop.wrap == nil {
		return ErrSealed
	}
	if len(n.loop.distinct()) >= maxRuns {
		return errBusy
	}
	r.awayFrom = map[party.ID]time.Time{}
	return nil
}

func fresh() (b [32]byte, err error) {
	_, err = rand.Read(b[:])
	return b, err
}

// route makes a run known under an ID, and hands it what peers sent too early.
func (n *Node) route(r *run, id canon.Digest) {
	for _, known := range r.ids {
		if known == id {
			return
		}
	}
	r.ids = append(r.ids, id)
	n.loop.runs[id] = r
	n.mu.Lock()
	n.active = len(n.loop.distinct())
	n.mu.Unlock()
	for _, f := range n.loop.early.Take(id, r.peers) {
		n.step(r, f.From, f.Raw)
	}
}

// receive takes one frame of a peer. The sender is who the link says it is.
func (n *Node) receive(f transport.Frame) {
	e, err := envelope.Parse(f.Data)
	if err != nil {
		n.log.Warn("peer sent a malformed envelope", "peer", string(f.From), "error", err)
		return
	}
	r, ok := n.loop.runs[e.Run]
	if !ok {
		// The other signer may have heard of a run a moment earlier than this one.
		if err := n.loop.early.Add(time.Now().Unix(), f.From, e.Run, f.Data); err != nil {
			n.log.Debug("early message dropped", "peer", string(f.From), "error", err)
		}
		return
	}
	n.step(r, f.From, f.Data)
	n.pump(r)
}

func (n *Node) step(r *run, from party.ID, raw []byte) {
	if r.ended || !r.peers.Has(from) {
		return
	}
	var err error
	if r.session != nil {
		err = r.session.Step(from, raw)
	} else {
		err = r.ceremony.Step(from, raw)
	}
	if err != nil {
		n.log.Debug("message refused", "peer", string(from), "error", err)
	}
}

// engineEvent takes news from a worker.
func (n *Node) engineEvent(he hostEvent) {
	e := he.event
	if e.Session.IsZero() {
		n.primesEvent(he)
		return
	}
	r, ok := n.loop.runs[e.Session]
	if !ok || r.ended || r.host != he.host {
		return
	}
	if e.Progress != "" {
		n.tell(r, runEvent{stage: r.stage, text: e.Progress})
		return
	}
	var err error
	if r.session != nil {
		err = r.session.Engine(e)
	} else {
		err = r.ceremony.Engine(e)
	}
	if err != nil {
		n.log.Warn("engine event refused", "error", err)
	}
	n.pump(r)
}

// pump carries out what a run's machine asks for until it asks for nothing more.
func (n *Node) pump(r *run) {
	for !r.ended {
		var again bool
		if r.session != nil {
			again = n.pumpSession(r)
		} else {
			again = n.pumpCeremony(r)
		}
		if !again {
			return
		}
	}
}

// pumpSession follows the order that signing.Ready prescribes.
func (n *Node) pumpSession(r *run) (again bool) {
	ready := r.session.Ready()
	n.stage(r, string(ready.Stage))
	if ready.Start != nil {
		// A session ID is written down before its first message: after a restart no
		// message of it is ever sent again.
		if err := n.journal.OpenSession(ready.Start.Session, "sign"); err != nil {
			n.fail(r, &engine.Fault{Code: "JOURNAL", Text: err.Error()})
			return false
		}
		n.route(r, ready.Start.Session)
		if err := r.host.Sign(*ready.Start); err != nil {
			n.fail(r, &engine.Fault{Code: "ENGINE", Text: err.Error()})
			return false
		}
	}
	if !n.deliver(r, r.session.ID(), ready.Deliver) {
		return false
	}
	if ready.ReleaseDigest != nil {
		if err := r.host.Release(r.session.ID(), *ready.ReleaseDigest); err != nil {
			n.fail(r, &engine.Fault{Code: "ENGINE", Text: err.Error()})
			return false
		}
	}
	if ready.Partial != nil && !n.markSigned(r) {
		return false
	}
	n.send(ready.Send)
	switch {
	case ready.Fault != nil:
		n.runFailed(r, ready.Fault)
		return false
	case ready.Partial != nil:
		n.log.Info("partial given", "intent", r.authorized.Intent().Short(), "session", r.authorized.Session().Short())
		n.tell(r, runEvent{partial: ready.Partial})
		n.finish(r)
		return false
	case ready.Prepared:
		n.release(r)
		return true
	}
	return ready.Start != nil || len(ready.Deliver) > 0 || ready.ReleaseDigest != nil
}

// pumpCeremony follows the order that dkg.Ready prescribes.
func (n *Node) pumpCeremony(r *run) (again bool) {
	ready := r.ceremony.Ready()
	n.stage(r, string(ready.Stage))
	fail := func(code string, err error) bool {
		n.fail(r, &engine.Fault{Code: code, Text: err.Error()})
		return false
	}
	if start := ready.Start; start != nil {
		if err := n.journal.OpenSession(start.Session, "keygen"); err != nil {
			return fail("JOURNAL", err)
		}
		// Taken and bound to this ceremony in one step: whatever happens from here on,
		// these primes are never used for another key.
		primes, err := n.keys.TakePreParams(start.Session)
		if err != nil {
			return fail("PRIMES", err)
		}
		start.PreParams = primes
		n.route(r, start.Session)
		if err := r.host.Keygen(*start); err != nil {
			return fail("ENGINE", err)
		}
	}
	for _, start := range ready.StartSign {
		if err := n.journal.OpenSession(start.Session, "challenge"); err != nil {
			return fail("JOURNAL", err)
		}
		n.route(r, start.Session)
		if err := r.host.Sign(start); err != nil {
			return fail("ENGINE", err)
		}
	}
	for _, d := range ready.Deliver {
		if !n.deliver(r, d.Session, []engine.Message{d.Message}) {
			return false
		}
	}
	for _, rel := range ready.Release {
		if err := r.host.Release(rel.Session, rel.Digest); err != nil {
			return fail("ENGINE", err)
		}
	}
	if s := ready.Store; s != nil {
		err := n.record(audit.Event{Code: "SHARE_PENDING", Subject: s.Meta.Wallet, Session: s.Meta.Ceremony.String(), Detail: map[string]string{"record": s.Record.Digest().String()}})
		if err != nil {
			return fail("AUDIT", err)
		}
		if err := n.keys.PutShare(s.Meta, s.Sealed); err != nil {
			return fail("KEYSTORE", err)
		}
		if err := r.ceremony.Stored(); err != nil {
			return fail("CEREMONY", err)
		}
	}
	if ready.Done != nil {
		if err := n.completeWallet(*ready.Done); err != nil {
			return fail("KEYSTORE", err)
		}
	}
	n.send(ready.Send)
	switch {
	case ready.Fault != nil:
		n.discard(r)
		n.runFailed(r, ready.Fault)
		return false
	case ready.Done != nil:
		n.tell(r, runEvent{wallet: ready.Done})
		n.finish(r)
		return false
	}
	return ready.Start != nil || len(ready.StartSign) > 0 || len(ready.Deliver) > 0 || len(ready.Release) > 0 || ready.Store != nil
}

// completeWallet makes a share active together with the record that all signed.
func (n *Node) completeWallet(signed wallet.Signed) error {
	record, err := signed.Open(n.charter)
	if err != nil {
		return err
	}
	err = n.record(audit.Event{Code: "WALLET_ACTIVE", Subject: record.Name, Session: record.Ceremony.String(), Detail: map[string]string{
		"record": record.Digest().String(), "public_key": fmt.Sprintf("%x", record.PublicKey),
	}})
	if err != nil {
		return err
	}
	return n.activate(signed, record)
}

// discard drops the pending share of a failed ceremony, unless this signer has
// given its word under the record: then the others may have all signatures, and the
// wallet may exist without this signer knowing it yet.
func (n *Node) discard(r *run) {
	if r.ceremony == nil || r.ceremony.Attested() || r.ceremony.ID().IsZero() {
		return
	}
	if err := n.keys.DropPending(r.permit.Wallet(), 1, r.ceremony.ID()); err != nil {
		n.log.Error("cannot drop a pending share", "wallet", r.permit.Wallet(), "error", err)
	}
}

// release is the second judgement: everything again, now bound to the session's
// own ID, then journal and audit on disk, and only then the Binding.
func (n *Node) release(r *run) {
	in, err := n.input(r.request, r.session.ID())
	if err != nil {
		n.fail(r, &engine.Fault{Code: "JOURNAL", Text: err.Error()})
		return
	}
	authorized, v := gate.Check(in)
	if authorized == nil {
		if err := n.auditVerdict("RELEASE_REFUSED", &v, true); err != nil {
			n.fail(r, &engine.Fault{Code: "AUDIT", Text: err.Error()})
			return
		}
		r.session.Abort("REFUSED", "the gate refused at release")
		n.send(r.session.Ready().Send)
		n.tell(r, runEvent{refused: &v})
		n.finish(r)
		return
	}
	i, err := intent.Parse(r.request.intent.Raw) // the gate has verified these bytes
	if err != nil {
		n.fail(r, &engine.Fault{Code: "GATE", Text: err.Error()})
		return
	}
	chain, _ := n.charter.Chain(i.Chain) // the gate has just checked that it exists
	var replaces *canon.Digest
	if i.Kind == intent.Cancel {
		replaces = &i.Cancel.Subject
	}
	err = n.journal.Reserve(journal.Reservation{
		Replaces: replaces, Chain: chain.ChainID, Account: i.Account, Nonce: i.Nonce, Intent: authorized.Intent(), Initiator: i.Initiator,
		Reference: i.Reference, Expires: i.Expires, Transaction: authorized.Transaction(), Session: authorized.Session(), Time: in.Now,
	})
	if err != nil {
		n.fail(r, &engine.Fault{Code: "JOURNAL", Text: err.Error()})
		return
	}
	err = n.record(audit.Event{Code: "RELEASE", Intent: authorized.Intent().String(), Session: authorized.Session().String(), Detail: map[string]string{
		"transaction": authorized.Transaction().String(), "charter": authorized.Charter().String(), "wallet": r.record.Name,
	}})
	if err != nil {
		n.fail(r, &engine.Fault{Code: "AUDIT", Text: err.Error()})
		return
	}
	if err := n.journal.MarkReleased(authorized.Intent(), authorized.Session(), authorized.Transaction()); err != nil {
		n.fail(r, &engine.Fault{Code: "JOURNAL", Text: err.Error()})
		return
	}
	r.authorized = authorized
	if err := r.session.Release(authorized); err != nil {
		n.fail(r, &engine.Fault{Code: "RELEASE", Text: err.Error()})
	}
}

// markSigned writes down that a signature may exist, before the partial leaves.
func (n *Node) markSigned(r *run) bool {
	a := r.authorized
	if err := n.journal.MarkSigned(a.Intent(), a.Session(), a.Transaction()); err != nil {
		n.fail(r, &engine.Fault{Code: "JOURNAL", Text: err.Error()})
		return false
	}
	err := n.record(audit.Event{Code: "PARTIAL", Intent: a.Intent().String(), Session: a.Session().String(), Detail: map[string]string{"transaction": a.Transaction().String()}})
	if err != nil {
		n.fail(r, &engine.Fault{Code: "AUDIT", Text: err.Error()})
		return false
	}
	return true
}

// send hands envelopes to the link. One that cannot be queued is lost; the run then
// ends by its deadline or because the peer is away, which tick notices.
func (n *Node) send(list []envelope.Outbound) {
	for _, out := range list {
		if err := n.link.Send(out.To, out.Raw); err != nil {
			n.log.Debug("cannot send", "peer", string(out.To), "error", err)
		}
	}
}

func (n *Node) deliver(r *run, session canon.Digest, list []engine.Message) bool {
	for _, m := range list {
		if err := r.host.Deliver(session, m); err != nil {
			n.fail(r, &engine.Fault{Code: "ENGINE", Text: err.Error()})
			return false
		}
	}
	return true
}

// stage tells the coordinator where a run stands.
func (n *Node) stage(r *run, stage string) {
	if stage == "" || stage == r.stage {
		return
	}
	r.stage = stage
	if stageText[stage] == "" {
		return // how it ended is told by an event of its own
	}
	n.tell(r, runEvent{stage: stage, text: stageText[stage]})
}

// stageText says the stages in words.
var stageText = map[string]string{
	"nonces":    "agreeing on a session with the other signers",
	"commit":    "committing to the chain code",
	"reveal":    "revealing the chain code",
	"keygen":    "generating the key together",
	"confirm":   "comparing the public data with every signer",
	"store":     "storing the share",
	"challenge": "proving the shares by test signatures",
	"record":    "signing the wallet record",
	"prepare":   "preparing the session",
	"prepared":  "prepared; deciding",
	"bind":      "binding the session to the transaction",
	"release":   "signing",
}

// tell queues an event. Progress is dropped when nobody reads; how a run ended never is.
func (n *Node) tell(r *run, e runEvent) {
	if e.partial == nil && e.wallet == nil && e.refused == nil && e.failed == nil && len(r.events) >= cap(r.events)-1 {
		return
	}
	select {
	case r.events <- e:
	default:
	}
}

// fail ends a run for a reason of this signer's and tells its peers.
func (n *Node) fail(r *run, f *engine.Fault) {
	if r.ended {
		return
	}
	if r.session != nil {
		r.session.Abort(f.Code, f.Text)
		n.send(r.session.Ready().Send)
	} else if r.ceremony != nil {
		r.ceremony.Abort(f.Code, f.Text)
		n.send(r.ceremony.Ready().Send)
		n.discard(r)
	}
	n.runFailed(r, f)
}

// runFailed writes down how a run failed and tells the coordinator.
func (n *Node) runFailed(r *run, f *engine.Fault) {
	e := audit.Event{Code: "RUN_FAILED", Detail: map[string]string{"code": f.Code, "text": f.Text, "culprits": fmt.Sprint(f.Culprits)}}
	if len(r.ids) > 0 {
		e.Session = r.ids[len(r.ids)-1].String()
	}
	if err := n.record(e); err != nil {
		n.log.Error("a failed session is not in the audit log", "error", err)
	}
	n.log.Warn("session ended", "session", short(e.Session), "code", f.Code, "culprits", f.Culprits, "text", f.Text)
	n.tell(r, runEvent{failed: f})
	n.finish(r)
}

func short(s string) string {
	if len(s) > 12 {
		return s[:12]
	}
	return s
}

// finish forgets a run. Its IDs are not remembered here: a session never comes
// back, because its ID needs a fresh nonce of this signer.
func (n *Node) finish(r *run) {
	if r.ended {
		return
	}
	r.ended = true
	for _, id := range r.ids {
		if r.host != nil {
			r.host.Drop(id)
		}
		delete(n.loop.runs, id)
	}
	n.mu.Lock()
	n.active = len(n.loop.distinct())
	n.mu.Unlock()
	n.searchPrimes()
}

// abort ends a run from outside the loop.
func (n *Node) abort(r *run, code, text string) {
	// Nobody waits: the caller's context is over, and a stopping loop ends all runs itself.
	go func() {
		_ = n.do(context.Background(), func() { n.fail(r, &engine.Fault{Code: code, Text: text}) })
	}()
}

// tick ends what takes too long or lost a peer.
func (n *Node) tick(now time.Time) {
	n.junk.flush(n, now)
	for _, r := range n.loop.distinct() {
		if now.After(r.deadline) {
			n.fail(r, &engine.Fault{Code: engine.CodeTimeout, Text: "took too long in stage " + r.stage})
			continue
		}
		for _, p := range r.peers {
			if n.link.Connected(p) {
				delete(r.awayFrom, p)
				continue
			}
			if since, ok := r.awayFrom[p]; !ok {
				r.awayFrom[p] = now
			} else if now.Sub(since) > awayWithin {
				n.fail(r, &engine.Fault{Code: "PEER_AWAY", Text: fmt.Sprintf("signer %s is not connected", p)})
				break
			}
		}
	}
	n.closeIdle(now)
	n.searchPrimes()
}

// closeIdle ends workers, and the shares in their memory, that nobody needs.
func (n *Node) closeIdle(now time.Time) {
	busy := map[engine.Host]bool{}
	for _, r := range n.loop.distinct() {
		busy[r.host] = true
	}
	for name, h := range n.loop.hosts {
		if name == "" || busy[h] || now.Sub(n.loop.used[name]) < idleWithin {
			continue
		}
		delete(n.loop.hosts, name)
		if err := h.Close(); err != nil {
			n.log.Warn("closing a worker", "error", err)
		}
	}
}

// host returns the worker of a wallet, started on demand and unlocked.
func (n *Node) host(name string) (engine.Host, error) {
	n.loop.used[name] = time.Now()
	if h, ok := n.loop.hosts[name]; ok {
		return h, nil
	}
	h, err := n.cfg.Host()
	if err != nil {
		return nil, fmt.Errorf("start worker: %w", err)
	}
	if err := h.Unlock(n.loop.wrap); err != nil {
		return nil, errors.Join(fmt.Errorf("unlock worker: %w", err), h.Close())
	}
	n.loop.hosts[name] = h
	go func() {
		for e := range h.Events() {
			select {
			case n.loop.news <- hostEvent{name: name, host: h, event: e}:
			case <-n.closed:
			}
		}
	}()
	return h, nil
}

// searchPrimes keeps the pool of pre-parameters at its size, when nothing that
// people wait for needs the processor.
func (n *Node) searchPrimes() {
	if n.loop.wrap == nil || n.isBusy() || len(n.loop.runs) > 0 {
		return
	}
	count, err := n.keys.PreParamsCount()
	if err != nil {
		n.log.Error("cannot read the pool of pre-parameters", "error", err)
		return
	}
	if count >= n.settings.preParameters() {
		return
	}
	h, err := n.host("")
	if err == nil {
		err = h.GeneratePreParams()
	}
	if err != nil {
		n.log.Error("cannot search for primes", "error", err)
		return
	}
	n.setBusy(true)
	n.log.Info("searching for primes", "have", count, "want", n.settings.preParameters())
}

func (n *Node) primesEvent(he hostEvent) {
	switch {
	case he.event.PreParams != nil:
		if err := n.keys.AddPreParams(he.event.PreParams); err != nil {
			n.log.Error("cannot store pre-parameters", "error", err)
		} else {
			n.log.Info("pre-parameters are ready")
		}
	case he.event.Failed != nil:
		n.log.Error("the search for primes failed", "code", he.event.Failed.Code, "text", he.event.Failed.Text)
	default:
		n.log.Debug("primes", "progress", he.event.Progress)
		return
	}
	// The worker has done its work: its memory goes with it.
	if h, ok := n.loop.hosts[""]; ok && h == he.host {
		delete(n.loop.hosts, "")
		if err := h.Close(); err != nil {
			n.log.Warn("closing a worker", "error", err)
		}
	}
	n.setBusy(false)
}

func (n *Node) isBusy() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.busy
}

func (n *Node) setBusy(v bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.busy = v
}
