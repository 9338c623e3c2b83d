package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"coffer/approval"
	"coffer/audit"
	"coffer/authority"
	"coffer/canon"
	"coffer/charter"
	"coffer/engine"
	"coffer/gate"
	"coffer/hook"
	"coffer/party"
	"coffer/verdict"
)

// holder is the book as requests use it. What becomes new has taken effect before Add
// returns: whoever hears that a freeze was taken knows that it is on this disk, and that
// no partial leaves that it forbids.
type holder struct{ n *Node }

func (h holder) Add(r authority.Record, now int64) ([]authority.Event, error) {
	events, err := h.n.book.Add(r, now)
	if effect := h.n.tookEffect(r.ID(), events); effect != nil {
		return events, errors.Join(err, effect)
	}
	return events, err
}

func (h holder) Records() []authority.Record { return h.n.book.Records() }

func (h holder) History() []*charter.Charter { return h.n.book.History() }

func (h holder) Orders(intent canon.Digest) []approval.Signed { return h.n.book.Orders(intent) }

// tookEffect has the loop obey, and waits for it.
func (n *Node) tookEffect(id canon.Digest, events []authority.Event) error {
	if len(events) == 0 {
		return nil
	}
	n.moved.Add(1) // before the loop's next turn: a partial that is about to leave is judged again
	return n.do(context.Background(), func() { n.obey(events, id) })
}

// addInLoop is Add for the loop.
func (n *Node) addInLoop(r authority.Record) ([]authority.Event, error) {
	events, err := n.book.Add(r, time.Now().Unix())
	if len(events) > 0 {
		n.moved.Add(1)
		n.obey(events, r.ID())
	}
	return events, err
}

// obey carries out what became new. What stops something comes first, then the others
// hear of it, then it is written down and told.
func (n *Node) obey(events []authority.Event, touched ...canon.Digest) {
	n.follow()
	n.overrule()
	for _, e := range events {
		if !slices.Contains(touched, e.Record) {
			touched = append(touched, e.Record)
		}
	}
	n.spread(touched, n.others...)
	n.tellHead(n.others...)
	for _, e := range events {
		n.announce(e)
	}
	n.recordCharter(events)
}

// advance lets the delays of the charter run, in this process's uptime.
func (n *Node) advance(now time.Time) {
	elapsed := now.Sub(n.loop.advanced)
	if elapsed < time.Second {
		return
	}
	n.loop.advanced = now
	events, err := n.book.Advance(elapsed, now.Unix())
	if err != nil {
		n.log.Error("cannot keep the delays of the charter", "error", err) // a failed store ends the loop
	}
	if len(events) > 0 {
		n.moved.Add(1)
		n.obey(events)
	}
}

// follow goes over to the version of the charter that is in force. One that leaves the
// signers as they are is only looked up from now on; any other has this signer opened
// anew, with the links and the identity of that version.
func (n *Node) follow() {
	next, old := n.book.InForce(), n.inForce()
	if next.Digest() == old.Digest() {
		return
	}
	n.current.Store(next)
	n.moved.Add(1) // what was judged a moment ago, after the book had it, was judged by the version before
	n.log.Info("another version of the charter is in force", "version", next.Version, "charter", next.Digest().String())
	if !slices.Equal(next.Signers, old.Signers) {
		n.loop.reopen = true
		return
	}
	if err := n.addresses.Use(next, n.cards(), nil); err != nil {
		n.log.Error("cannot look up the addresses of the charter's signers", "error", err)
		n.loop.reopen = true
	}
}

// cards are those of version 1 and of every later one that is known.
func (n *Node) cards() []string {
	return authority.Cards(n.file, n.book.Records())
}

// overrule ends the runs that would not begin now. A session whose partial has not left is
// stopped here, whatever its stage; one that only misses heads of signers which are just
// hearing the news is asked again before its partial leaves.
func (n *Node) overrule() {
	for _, r := range n.loop.distinct() {
		if v := n.doubt(r); v != nil && !onlyStale(v) {
			n.refuse(r, v, "OVERRULED")
		}
	}
}

// doubt judges a run again, if anything moved since it was judged. It answers nil, or why
// the run must not go on.
func (n *Node) doubt(r *run) *verdict.Verdict {
	if r.judged == n.moved.Load() {
		return nil
	}
	return n.again(r)
}

// again is doubt whatever moved: what others said grows old by itself.
func (n *Node) again(r *run) *verdict.Verdict {
	moved := n.moved.Load()
	n.follow() // the book may have a version that the loop has not heard of
	session := r.attempt
	if r.session != nil && !r.session.ID().IsZero() {
		session = r.session.ID()
	}
	var v verdict.Verdict
	in, err := n.input(r.request, session)
	if err != nil {
		n.fail(r, &engine.Fault{Code: "JOURNAL", Text: err.Error()})
		return nil
	}
	if r.permit != nil {
		_, v = gate.CheckCeremony(in)
	} else {
		_, v = gate.Check(in)
	}
	if v.Outcome != verdict.Sign {
		return &v
	}
	r.judged = moved
	return nil
}

// onlyStale says that a verdict waits for nothing but heads of the others.
func onlyStale(v *verdict.Verdict) bool {
	return len(v.Reasons) > 0 && !slices.ContainsFunc(v.Reasons, func(r verdict.Reason) bool { return r.Check != "G-FRESH" })
}

// refuse ends a run by the gate's word, and tells it: the peers the code, the coordinator
// the verdict.
func (n *Node) refuse(r *run, v *verdict.Verdict, code string) {
	if r.ended {
		return
	}
	if err := n.auditVerdict(code, v, true); err != nil {
		n.fail(r, &engine.Fault{Code: "AUDIT", Text: err.Error()})
		return
	}
	if r.session != nil {
		r.session.Abort("REFUSED", "the gate of this signer refused")
		n.send(r.session.Ready().Send)
	} else {
		r.ceremony.Abort("REFUSED", "the gate of this signer refused")
		n.send(r.ceremony.Ready().Send)
		n.discard(r)
	}
	r.refused = true
	n.tell(r, runEvent{refused: v})
	n.finish(r)
}

// judged is a request that the gate let pass, and how much had moved before it was asked:
// what moves between that and the run's beginning has it judged again.
type judged struct {
	request
	moved uint64
}

var errOverruled = errors.New("something changed while the request was judged: ask again")

// stillMay says whether a run that was judged outside the loop may begin.
func (n *Node) stillMay(r *run) error {
	v := n.doubt(r)
	if r.ended {
		return errOverruled
	}
	if v != nil {
		return fmt.Errorf("%w: %s", errOverruled, strings.Join(append(reasonTexts(v), v.Missing...), "; "))
	}
	return nil
}

// announce tells operator and audit log what became new.
func (n *Node) announce(e authority.Event) {
	if e.Kind == authority.EventOrder && !n.shown(e.Record) {
		// Anybody with a key may give as many as they like: a line in the log for each
		// would fill the disk. The verdict on the intent, if it ever comes, has a line.
		n.junk.count("ORDER about an intent that was never shown here")
		return
	}
	entry, told := entryOf(e)
	if entry.Code == "" {
		n.log.Info("authority record", "what", string(e.Kind), "record", e.Record.String(), "text", e.Text)
		return
	}
	entry.Subject, entry.Detail = e.Record.String(), map[string]string{"text": e.Text}
	if err := n.record(entry); err != nil {
		n.log.Error("not in the audit log", "code", entry.Code, "error", err) // the loop ends by it
	}
	n.log.Warn("authority", "code", entry.Code, "record", e.Record.String(), "text", e.Text)
	if told != "" {
		n.seen.hooks.Fire(hook.Event{Name: told, Subject: e.Record.String(), Text: e.Text}, e.Record.String())
	}
}

// shown says whether the intent that a record of orders is about was ever shown here.
func (n *Node) shown(order canon.Digest) bool {
	r, ok := n.book.Record(order)
	return ok && n.memory.has(r.Subject())
}

// entryOf is what the audit log and the hooks say of an event; nothing of what only adds
// to what they have said.
func entryOf(e authority.Event) (entry audit.Event, told string) {
	switch e.Kind {
	case authority.EventFrozen:
		return audit.Event{Code: "FREEZE"}, hook.Frozen
	case authority.EventLifted:
		return audit.Event{Code: "LIFT"}, hook.Lifted
	case authority.EventCharterComplete:
		return audit.Event{Code: "CHARTER_PENDING"}, hook.CharterPending
	case authority.EventCharterInForce:
		return audit.Event{Code: "CHARTER_IN_FORCE"}, hook.CharterInForce
	case authority.EventFork:
		if e.Of == authority.KindList {
			return audit.Event{Code: "LIST_FORK"}, hook.Alarm
		}
		return audit.Event{Code: "CHARTER_FORK"}, hook.CharterFork
	case authority.EventListInForce:
		return audit.Event{Code: "LIST"}, ""
	case authority.EventOrder:
		return audit.Event{Code: "ORDER"}, ""
	case authority.EventSigned, authority.EventDropped:
	}
	return audit.Event{}, ""
}

// recordCharter keeps the versions of the charter beside the first one in charter.json:
// for this signer's commands, and for newcomers.
func (n *Node) recordCharter(events []authority.Event) {
	if slices.ContainsFunc(events, func(e authority.Event) bool { return e.Of == authority.KindCharter }) {
		n.writeCharter(n.inForce())
	}
}

func (n *Node) writeCharter(c *charter.Charter) {
	file := authority.Chain(n.file, n.book.Records(), c.Version)
	if c.Version == 1 && len(n.file.Records) == 0 {
		return // it stands there
	}
	if err := charter.WriteFile(n.cfg.Dir.Charter(), file); err != nil {
		n.log.Error("cannot write charter.json; the store has all versions", "error", err)
	}
}

// freeze makes this signer's own order for its operator, and waits a moment for the
// others.
func (n *Node) freeze(ctx context.Context, scope, name, reason string) (authority.Record, bool, error) {
	if err := authority.CheckScope(scope, name); err != nil {
		return authority.Record{}, false, err
	}
	if err := n.names(scope, name); err != nil {
		return authority.Record{}, false, err
	}
	r, events, err := n.book.Freeze(scope, name, reason, time.Now().Unix())
	if err != nil {
		return authority.Record{}, false, err
	}
	if err := n.tookEffect(r.ID(), events); err != nil {
		return r, false, err
	}
	return n.awaitReceipts(ctx, r.ID())
}

// names refuses a name that this signer has never heard: by a slip of the pen nothing
// would be frozen, and whoever froze would think that it was.
func (n *Node) names(scope, name string) error {
	var known []string
	switch scope {
	case authority.ScopeWallet:
		n.mu.Lock()
		known = slices.Sorted(maps.Keys(n.wallets))
		n.mu.Unlock()
	case authority.ScopePerson:
		c := n.inForce()
		for _, p := range c.People {
			known = append(known, p.Name)
		}
		for _, s := range c.Services {
			known = append(known, s.Name)
		}
	default:
		return nil
	}
	if slices.Contains(known, name) {
		return nil
	}
	return fmt.Errorf("%w: there is no %s %q here (known: %s); whoever is not sure freezes the cluster", errName, scope, name, cmp.Or(strings.Join(known, ", "), "none"))
}

var errName = errors.New("nothing is frozen")

// receiptsWithin is how long whoever freezes is made to wait for the other signers.
const receiptsWithin = 2 * time.Second

func (n *Node) awaitReceipts(ctx context.Context, id canon.Digest) (r authority.Record, effective bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, receiptsWithin)
	defer cancel()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for {
		for _, h := range n.book.Freezes() {
			if h.ID == id {
				effective = h.Effective
			}
		}
		if r, ok := n.book.Record(id); effective || ctx.Err() != nil || !ok {
			return r, effective, nil
		}
		select {
		case <-look.C:
		case <-ctx.Done():
		}
	}
}

// heard is the newest head of another signer, and when it came.
type heard struct {
	head authority.Head
	at   time.Time
}

// age is how old a head is: since it came, or by its signer's clock if that is more, for
// a head may have been held up, or this machine have slept.
func (n *Node) age(of party.ID, h heard, now time.Time) time.Duration {
	said := time.Unix(h.head.Time, 0).Add(-n.link.State(of).ClockAhead)
	return max(now.Sub(h.at), now.Sub(said), 0)
}

// here is where this signer stands, without the audit log.
func (n *Node) here() authority.Head {
	moved := n.moved.Load()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.own == nil || n.own.moved != moved {
		n.own = &ownHead{moved, n.book.Head(n.self, 0, canon.Digest{}, 0)}
	}
	return n.own.head
}

// ownHead keeps the head: to work it out goes over all records.
type ownHead struct {
	moved uint64
	head  authority.Head
}

// othersHeads are the newest heads of the others.
func (n *Node) othersHeads() map[party.ID]heard {
	n.mu.Lock()
	defer n.mu.Unlock()
	return maps.Clone(n.heads)
}

// fresh says whether enough of the others stand where this signer stands.
func (n *Node) fresh(now time.Time) authority.Freshness {
	need, within := n.inForce().Fresh()
	return authority.Fresh(n.here(), n.standing(now), need, within)
}

// standing is where the others stand, by their own words, and how old those are.
func (n *Node) standing(now time.Time) (out []authority.Seen) {
	for id, h := range n.othersHeads() {
		out = append(out, authority.Seen{Head: h.head, Age: n.age(id, h, now)})
	}
	return out
}

// unlisted says that the charter in force does not list this signer, with its identity.
func (n *Node) unlisted() bool {
	me, ok := n.inForce().Signer(n.self)
	return !ok || me.Peer != n.key.ID()
}

var errUnlisted = errors.New("the charter in force does not list this signer: it signs nothing; its operator asks the admins")

// charterOf finds a version that is or was in force here.
func (n *Node) charterOf(d canon.Digest) (*charter.Charter, bool) { return n.book.Charter(d) }
