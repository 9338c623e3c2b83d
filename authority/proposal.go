package authority

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"coffer/approval"
	"coffer/canon"
	"coffer/charter"
	"coffer/policy"
)

// MaxOpen is how many records that wait, of one kind, carry a person's word: the newest.
// Who approves more takes the oldest back by that. So no admin can fill the store, and
// none can keep the others' proposals out.
const MaxOpen = 8

// maxForged is how many signatures of one record may turn out wrong before the rest of
// it is not looked at.
const maxForged = 2

// panel is whose approvals decide: K of a group, with keys of some kinds, under one version.
type panel struct {
	c     *charter.Charter
	need  policy.Requirement
	kinds []string // of key; none means all
}

func adminsOf(c *charter.Charter) panel {
	return panel{c, c.Admin.Requirement(), c.Admin.Keys}
}

func keepersOf(c *charter.Charter, list string) (panel, bool) {
	d, ok := c.List(list)
	if !ok || d.Keepers == nil {
		return panel{}, false
	}
	return panel{c, *d.Keepers, nil}, true
}

// has says whether a statement is by somebody whom the panel asks, with a key that it takes.
func (p panel) has(s said) bool {
	who, ok := p.c.Person(s.Person)
	return ok && slices.Contains(who.Keys, s.key) && slices.Contains(who.Groups, p.need.Group) &&
		slices.Contains(policy.KeyKinds(p.kinds), s.key.Kind)
}

func (p panel) votes(list []said) []policy.Vote {
	var out []policy.Vote
	for _, s := range list {
		if who, ok := p.c.Person(s.Person); ok && p.has(s) {
			out = append(out, policy.Vote{Person: s.Person, Org: who.Org, Groups: who.Groups, KeyKind: s.key.Kind})
		}
	}
	return out
}

func (p panel) met(list []said) bool {
	return p.need.Met(policy.Count(p.need, p.kinds, p.votes(list)))
}

// missing says what the panel waits for.
func (p panel) missing(list []said) string {
	people, orgs := policy.Count(p.need, p.kinds, p.votes(list))
	switch {
	case people < p.need.K:
		return fmt.Sprintf("waits for %d more of %s", p.need.K-people, p.need.Group)
	case orgs < p.need.Orgs:
		return fmt.Sprintf("waits for %s of %d more organisations", p.need.Group, p.need.Orgs-orgs)
	}
	return ""
}

func allMet(panels []panel, list []said) bool {
	for _, p := range panels {
		if !p.met(list) {
			return false
		}
	}
	return len(panels) > 0
}

// proposal says whether an item is decided by approvals.
func (it *item) proposal() bool { return it.charter != nil || it.list != nil || it.unfreeze != nil }

// waits says whether it is still to be decided.
func (it *item) waits() bool { return it.proposal() && !it.Final }

// panels is who decides about an item now. All of them must be met, and only who is in
// all of them counts.
func (l *Ledger) panels(it *item) []panel {
	c := l.InForce()
	switch {
	case it.charter != nil:
		if parent, ok := l.Charter(it.charter.Previous); ok {
			return []panel{adminsOf(parent)}
		}
	case it.unfreeze != nil:
		named, ok := l.Charter(it.unfreeze.Charter)
		if ok && named == c {
			return []panel{adminsOf(c)}
		}
		if ok {
			return []panel{adminsOf(named), adminsOf(c)}
		}
	case it.list != nil:
		if p, ok := keepersOf(c, it.list.Name); ok {
			return []panel{p}
		}
	}
	return nil
}

// earlier is who could have decided about an item: one of these is what Need signers
// vouch for. A receipt replaces times, never the statements.
func (l *Ledger) earlier(it *item) []panel {
	switch {
	case it.list != nil:
		var out []panel
		for _, v := range slices.Backward(l.chain) {
			if p, ok := keepersOf(v.Charter, it.list.Name); ok {
				out = append(out, p)
			}
		}
		return out
	case it.unfreeze != nil:
		if named, ok := l.Charter(it.unfreeze.Charter); ok {
			return []panel{adminsOf(named)}
		}
		return nil
	}
	return l.panels(it)
}

// vouchers is the version whose signers' receipts count for an item: of a charter the
// one before it, else the one in force.
func (l *Ledger) vouchers(it *item) *charter.Charter {
	if it.charter != nil {
		if parent, ok := l.Charter(it.charter.Previous); ok {
			return parent
		}
	}
	return l.InForce()
}

// vouched says whether at least one honest signer has waited for this one.
func (l *Ledger) vouched(it *item) bool {
	c := l.vouchers(it)
	me, _ := l.me(c)
	n := 0
	for _, r := range it.Record.Receipts {
		if r.Signer != me {
			n++
		}
	}
	return n >= c.Quorum.Need && l.decided(it)
}

// decided says whether the approvals, whatever their times, were ever enough.
func (l *Ledger) decided(it *item) bool {
	for _, p := range l.earlier(it) {
		if p.met(approvals(it.said)) {
			return true
		}
	}
	return false
}

func approvals(list []said) []said {
	return slices.DeleteFunc(slices.Clone(list), func(s said) bool { return s.Kind != approval.Approve })
}

// counts are the approvals that count now: in time, or in time when it became complete;
// of people who did not take them back.
func (l *Ledger) counts(it *item) []said {
	back := map[string]bool{}
	for _, s := range it.said {
		if s.Kind != approval.Approve {
			back[s.Person] = true
		}
	}
	return slices.DeleteFunc(approvals(it.said), func(s said) bool {
		return back[s.Person] || !it.counted(s) && !l.timely(s)
	})
}

func (l *Ledger) timely(s said) bool {
	return s.Issued <= l.now+approval.MaxSkew && l.now < s.Expires
}

func (it *item) counted(s said) bool { return slices.Contains(it.Counted, canon.Sum(s.signed.Raw)) }

// stands says whether a statement has a place in a record that waits, or in one that is
// decided.
func (l *Ledger) stands(it *item, s said) bool {
	if it.Final {
		return s.Kind == approval.Approve && l.could(it, s)
	}
	panels := l.panels(it)
	for _, p := range panels {
		if !p.has(s) {
			return false
		}
	}
	switch {
	case len(panels) == 0:
		return false
	case s.Kind == approval.Approve:
		return it.counted(s) || l.timely(s)
	case s.Kind.Narrows(): // of any kind: whoever decides by approving can but take that back
		return max(s.Issued, it.Arrived)+orderFor >= l.now
	}
	return false
}

// could says whether somebody may ever have decided about an item.
func (l *Ledger) could(it *item, s said) bool {
	return slices.ContainsFunc(l.earlier(it), func(p panel) bool { return p.has(s) })
}

// parse makes an item of a record, and checks what costs little and never changes.
func (l *Ledger) parse(r Record) (*item, error) {
	it := &item{Kept: Kept{Record: Record{Kind: r.Kind, Raw: r.Raw, Cards: r.Cards}}, id: r.ID()}
	c := l.InForce()
	var err error
	switch r.Kind {
	case KindCharter:
		if it.charter, err = charter.Parse(r.Raw); err != nil {
			return nil, refuse(CodeMalformed, "%w", err)
		}
		n := it.charter
		if !bytes.Equal(n.Encode(), r.Raw) {
			return nil, refuse(CodeMalformed, "the charter is not in its canonical encoding")
		}
		switch {
		case n.Cluster != c.Cluster:
			return nil, refuse(CodeCluster, "the charter is of cluster %s, this is %s", n.Cluster.Short(), c.Cluster.Short())
		case n.Version <= 1:
			return nil, refuse(CodeCharterStale, "version %d comes with the charter file", n.Version)
		case n.Version > c.Version+1:
			return nil, refuse(CodeCharterGap, "it is version %d, in force here is %d; the versions between come first", n.Version, c.Version)
		}
		parent := l.chain[n.Version-2]
		if n.Previous != parent.digest {
			return nil, refuse(CodeCharterGap, "version %d follows %s, and version %d here is %s", n.Version, n.Previous.Short(), n.Version-1, parent.digest.Short())
		}
		if err := n.Succeeds(parent.Charter); err != nil {
			return nil, refuse(CodeCharterInvalid, "%w", err)
		}
	case KindList:
		if it.list, err = ParseList(r.Raw); err != nil {
			return nil, err
		}
		switch n := it.list; {
		case n.Cluster != c.Cluster:
			return nil, refuse(CodeCluster, "the list is of cluster %s, this is %s", n.Cluster.Short(), c.Cluster.Short())
		case len(l.earlier(it)) == 0:
			return nil, refuse(CodeListUnknown, "the charter leaves no list %q to keepers", n.Name)
		}
	case KindUnfreeze:
		if it.unfreeze, err = ParseUnfreeze(r.Raw); err != nil {
			return nil, err
		}
		if n := it.unfreeze; n.Cluster != c.Cluster {
			return nil, refuse(CodeCluster, "the unfreeze is of cluster %s, this is %s", n.Cluster.Short(), c.Cluster.Short())
		}
		if _, ok := l.Charter(it.unfreeze.Charter); !ok {
			return nil, refuse(CodeCharterGap, "it is made under charter %s, which was never in force here", it.unfreeze.Charter.Short())
		}
	default:
		return nil, refuse(CodeMalformed, "a %s is not decided by approvals", r.Kind)
	}
	return it, nil
}

// read is parse for a record that is not here, with what depends on the time and on what
// is in force.
func (l *Ledger) read(r Record) (*item, error) {
	it, err := l.parse(r)
	if err != nil || it.list == nil {
		return it, err
	}
	held, known := l.list(it.list.Name)
	switch n := it.list; {
	case n.Issued > l.now+approval.MaxSkew:
		return nil, refuse(CodeFuture, "version %d of list %q is issued at %d, now it is %d; check the clocks", n.Version, n.Name, n.Issued, l.now)
	case known && n.Version < held.list.Version:
		return nil, refuse(CodeListStale, "version %d of list %q, in force here is %d", n.Version, n.Name, held.list.Version)
	case known && n.Version == held.list.Version && slices.Contains(held.Forks, it.id):
		return nil, refuse(CodeListFork, "another version %d of list %q is in force; make the next", n.Version, n.Name)
	}
	return it, nil
}

// check is what costs more, and is done only once somebody who may decide has signed.
func (l *Ledger) check(it *item) error {
	switch {
	case it.charter != nil:
		parent, _ := l.Charter(it.charter.Previous)
		if err := it.charter.Validate(); err != nil {
			return refuse(CodeCharterInvalid, "%w", err)
		}
		if err := charter.VerifyCards(it.charter, parent, it.Record.Cards); err != nil {
			return refuse(CodeCharterCard, "%w", err)
		}
		it.wait = parent.Admin.Wait(charter.Narrows(parent, it.charter))
	case it.list != nil:
		d, _ := l.InForce().List(it.list.Name)
		if d.Kind == policy.ListSanctions {
			return nil
		}
		// People decide by the label: no two addresses have one.
		labels := map[[2]string]string{}
		for _, e := range it.list.Entries {
			key := [2]string{e.Chain, strings.ToLower(e.Label)}
			if other, twice := labels[key]; twice {
				return refuse(CodeMalformed, "list %q: %q is the label of %s and of %s; tell them apart", it.list.Name, e.Label, other, e.Address)
			}
			labels[key] = e.Address
		}
	}
	return nil
}

// addProposal takes a version of the charter or of a list, or an unfreeze.
func (l *Ledger) addProposal(r Record, now int64) ([]Event, error) {
	id := r.ID()
	old, known := l.items[id]
	var it *item
	if known {
		it = old.clone() // what is refused in the end leaves no trace
	} else {
		if id == l.chain[0].digest {
			return nil, nil // version 1, which everybody has
		}
		var err error
		if it, err = l.read(r); err != nil {
			return nil, err
		}
		if it.charter != nil && it.charter.Version <= l.InForce().Version {
			return l.lateFork(it, r, now)
		}
	}
	list, first := l.hearAll(it, r)
	it.say(list)
	var events []Event
	fresh, lost := l.receipts(l.vouchers(it), r, it.Record.Receipts)
	it.Record.Receipts = append(slices.Clip(it.Record.Receipts), fresh...)
	if lost > 0 {
		events = append(events, Event{EventDropped, id, r.Kind, fmt.Sprintf("%d receipts of %s do not hold", lost, it.title())})
	}
	if err := l.trim(it); first == nil {
		first = err
	}
	if len(it.said) == 0 {
		if first == nil {
			first = refuse(CodeSignature, "%s: nobody who decides about it has signed it", it.title())
		}
		return nil, first
	}
	if it.waits() && !l.witnessed(it) {
		if held, has := l.listOf(it); has && it.list.Version == held.list.Version && !allMet(l.panels(it), l.counts(it)) {
			return nil, refuse(CodeListStale, "another version %d of list %q is in force; make the next", it.list.Version, it.list.Name)
		}
		if it.unfreeze != nil && !known && l.now >= it.unfreeze.Expires {
			return nil, refuse(CodeUnfreezeExpired, "%s expired at %d, now it is %d; make a new one", it.title(), it.unfreeze.Expires, l.now)
		}
	}
	if known && sameWords(old.said, it.said) && len(fresh) == 0 {
		return events, first
	}
	if !known {
		if err := l.check(it); err != nil {
			return nil, err
		}
	}
	if first != nil {
		events = append(events, Event{EventDropped, id, r.Kind, first.Error()})
	}
	l.touch(it, now)
	return append(events, Event{EventSigned, id, r.Kind, it.standing(l)}), nil
}

// standing says how far an item is.
func (it *item) standing(l *Ledger) string {
	var names []string
	for _, s := range l.counts(it) {
		names = append(names, s.Person)
	}
	slices.Sort(names)
	return fmt.Sprintf("%s: signed by %s", it.title(), strings.Join(slices.Compact(names), ", "))
}

func (it *item) clone() *item {
	c := *it
	c.said = slices.Clone(it.said)
	c.Record.Statements = slices.Clone(it.Record.Statements)
	c.Record.Receipts = slices.Clone(it.Record.Receipts)
	return &c
}

func sameWords(a, b []said) bool {
	return slices.EqualFunc(a, b, func(x, y said) bool { return bytes.Equal(x.signed.Raw, y.signed.Raw) })
}

// witnessed says whether a record has its place although its statements are over: enough
// approved it once, and a signer says that it is in force there. Alone that releases
// nothing; but receipts that come one by one must find each other.
func (l *Ledger) witnessed(it *item) bool {
	return len(it.Record.Receipts) > 0 && l.decided(it)
}

// trim leaves the statements that have a place in a record, and says why the first of
// the others has none.
func (l *Ledger) trim(it *item) (first error) {
	witnessed := l.witnessed(it)
	it.say(slices.DeleteFunc(slices.Clone(it.said), func(s said) bool {
		if l.stands(it, s) || witnessed && s.Kind == approval.Approve && l.could(it, s) {
			return false
		}
		if first == nil {
			first = l.misplaced(it, s)
		}
		return true
	}))
	return first
}

// misplaced says why a statement has no place.
func (l *Ledger) misplaced(it *item, s said) error {
	switch {
	case s.Kind == approval.Approve && l.now >= s.Expires && l.could(it, s):
		return refuse(CodeExpired, "approval of %q expired at %d, now it is %d; approve anew", s.Person, s.Expires, l.now)
	case s.Kind == approval.Approve && s.Issued > l.now+approval.MaxSkew && l.could(it, s):
		return refuse(CodeFuture, "approval of %q is issued at %d, now it is %d; check the clocks", s.Person, s.Issued, l.now)
	}
	return refuse(CodeSignature, "%q with a key of kind %s does not decide about %s", s.Person, s.key.Kind, it.title())
}

// lateFork is for a version whose number is taken.
func (l *Ledger) lateFork(it *item, r Record, now int64) ([]Event, error) {
	holder := l.items[l.chain[it.charter.Version-1].digest]
	if holder == nil || slices.Contains(holder.Forks, it.id) {
		return nil, refuse(CodeCharterFork, "another version %d is in force", it.charter.Version)
	}
	list, err := l.hearAll(it, r)
	if err != nil && len(list) == 0 {
		return nil, err
	}
	it.say(list)
	if !allMet(l.panels(it), l.counts(it)) {
		return nil, refuse(CodeCharterStale, "version %d is in force; make the change again on that", l.InForce().Version)
	}
	if err := l.check(it); err != nil {
		return nil, err
	}
	events := l.fork(now, holder, it)
	if len(events) == 0 {
		return nil, refuse(CodeCharterFork, "another version %d is in force", it.charter.Version)
	}
	return events, nil
}

// fork remembers that items contend for one number, and tells of it once. Of charters a
// signer stops the cluster: more than half of the admins seem to have signed both, or
// somebody has their keys.
func (l *Ledger) fork(now int64, items ...*item) (events []Event) {
	slices.SortFunc(items, func(a, b *item) int { return bytes.Compare(a.id[:], b.id[:]) })
	news := false
	for _, it := range items {
		for _, other := range items {
			if it == other || slices.Contains(it.Forks, other.id) || len(it.Forks) >= maxForks {
				continue
			}
			if _, here := l.items[it.id]; !here {
				continue
			}
			it.Forks = SortDigests(append(slices.Clone(it.Forks), other.id))
			l.dirty[it.id] = true
			news = true
		}
	}
	if !news {
		return nil
	}
	e := canon.New(contentDomain).String("fork")
	var words []string
	for _, it := range items {
		e.Digest(it.id)
		words = append(words, it.id.Short())
	}
	text := fmt.Sprintf("%s is signed more than once: %s", items[0].title(), strings.Join(words, ", "))
	events = append(events, Event{EventFork, items[0].id, items[0].Record.Kind, text})
	me, ok := l.me(l.InForce())
	if !ok || items[0].charter == nil {
		return events
	}
	f := Freeze{Cluster: l.root.Cluster, Scope: ScopeCluster, Reason: text[:min(len(text), MaxReason)], By: string(me), Time: now}
	sum := e.Sum()
	copy(f.Nonce[:], sum[:])
	more, err := l.addFreeze(f.SignedBy(l.self), now)
	if err != nil {
		return events // it froze so much already that all is frozen
	}
	return append(events, more...)
}

// title names what is decided about.
func (it *item) title() string {
	switch {
	case it.charter != nil:
		return fmt.Sprintf("version %d of the charter", it.charter.Version)
	case it.list != nil:
		return fmt.Sprintf("version %d of list %q", it.list.Version, it.list.Name)
	case it.unfreeze != nil:
		if n := len(it.unfreeze.Freezes); n > 1 {
			return fmt.Sprintf("unfreeze %s of %d freezes", it.id.Short(), n)
		}
		return fmt.Sprintf("unfreeze %s of freeze %s", it.id.Short(), it.unfreeze.Freezes[0].Short())
	case it.freeze != nil:
		return fmt.Sprintf("freeze %s of %s", it.id.Short(), it.freeze.What())
	}
	return "order about intent " + it.Record.Subject().Short()
}

// list is the version of a list that is in force.
func (l *Ledger) list(name string) (*item, bool) {
	for _, it := range l.items {
		if it.list != nil && it.Final && it.list.Name == name {
			return it, true
		}
	}
	return nil, false
}

func (l *Ledger) listOf(it *item) (*item, bool) {
	if it.list == nil {
		return nil, false
	}
	return l.list(it.list.Name)
}

// pending lists what waits, in an order that does not depend on how it came.
func (l *Ledger) pending() []*item {
	var out []*item
	for _, it := range l.items {
		if it.waits() {
			out = append(out, it)
		}
	}
	slices.SortFunc(out, func(a, b *item) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.number(), b.number()), bytes.Compare(a.id[:], b.id[:]))
	})
	return out
}

func (it *item) number() uint64 {
	switch {
	case it.charter != nil:
		return it.charter.Version
	case it.list != nil:
		return it.list.Version
	}
	return 0
}

// decide brings what waits to where its approvals, delays and receipts lead, and says
// whether something took force: then others may follow.
func (l *Ledger) decide(now int64) (events []Event, again bool) {
	var complete, ripe []*item
	for _, it := range l.pending() {
		events = append(events, l.weigh(it)...)
		if _, here := l.items[it.id]; !here {
			continue
		}
		switch {
		case it.charter == nil && (it.Complete || l.vouched(it)):
			return append(events, l.enact(it, now)...), true
		case it.charter != nil && l.vouched(it):
			ripe = append(ripe, it)
		}
		if it.charter != nil && it.Complete {
			complete = append(complete, it)
		}
	}
	switch {
	// Two that Need signers have in force each: there are liars among the signers, and
	// nothing here can say which half is right.
	case len(ripe) > 1:
		return append(events, l.fork(now, ripe...)...), false
	case len(ripe) == 1:
		return append(events, l.enact(ripe[0], now)...), true
	case len(complete) > 1:
		return append(events, l.fork(now, complete...)...), false
	case len(complete) == 1:
		it := complete[0]
		if _, signer := l.me(l.vouchers(it)); signer && it.Waited >= it.wait {
			return append(events, l.enact(it, now)...), true
		}
	}
	return events, false
}

// weigh counts an item that waits, and drops one that nothing speaks for any more.
func (l *Ledger) weigh(it *item) (events []Event) {
	c := l.InForce()
	held, has := l.listOf(it)
	switch {
	case it.charter != nil && (it.charter.Version != c.Version+1 || it.charter.Previous != l.chain[len(l.chain)-1].digest):
		l.drop(it.id)
		return nil
	case has && (it.list.Version < held.list.Version || it.list.Version == held.list.Version && !allMet(l.panels(it), l.counts(it)) && !l.vouched(it)):
		l.drop(it.id)
		return nil
	}
	before := len(it.said)
	_ = l.trim(it)
	over := it.unfreeze != nil && !it.Complete && l.now >= it.unfreeze.Expires && !l.witnessed(it)
	if len(it.said) == 0 || over {
		l.drop(it.id)
		return nil
	}
	if len(it.said) != before {
		l.dirty[it.id] = true
	}
	list := l.counts(it)
	met := allMet(l.panels(it), list) && (it.unfreeze == nil || l.now < it.unfreeze.Expires)
	switch {
	case met && !it.Complete:
		it.Complete, it.Counted = true, nil
		for _, s := range list {
			it.Counted = append(it.Counted, canon.Sum(s.signed.Raw))
		}
		it.Counted = SortDigests(it.Counted)
		l.dirty[it.id] = true
		if it.charter != nil {
			events = append(events, Event{EventCharterComplete, it.id, KindCharter, it.standing(l)})
		}
	case !met && it.Complete:
		// Somebody took the approval back: what is approved anew waits anew.
		it.Complete, it.Counted, it.Waited = false, nil, 0
		l.dirty[it.id] = true
	}
	return events
}

// enact puts an item in force.
func (l *Ledger) enact(it *item, now int64) (events []Event) {
	if it.list != nil {
		held, has := l.list(it.list.Name)
		if has && held.list.Version+1 == it.list.Version && it.list.Previous != held.id {
			events = append(events, Event{EventFork, it.id, KindList, fmt.Sprintf("%s was not made from the version %d that was in force", it.title(), held.list.Version)})
		}
		if has && held.list.Version == it.list.Version {
			// Whichever came first, the same one stays everywhere.
			first, second := held, it
			if bytes.Compare(it.id[:], held.id[:]) < 0 {
				first, second = it, held
			}
			events = append(events, l.fork(now, first, second)...)
			l.drop(second.id)
			if first == held {
				return events
			}
		} else if has {
			l.drop(held.id)
		}
	}
	it.Final, it.Complete, it.Counted, it.Waited = true, true, nil, 0
	it.say(slices.DeleteFunc(slices.Clone(it.said), func(s said) bool { return !l.stands(it, s) }))
	l.dirty[it.id] = true
	switch {
	case it.charter != nil:
		events = append(events, l.succeed(it)...)
	case it.list != nil:
		events = append(events, Event{EventListInForce, it.id, KindList, fmt.Sprintf("%s is in force, with %d entries", it.title(), len(it.list.Entries))})
	case it.unfreeze != nil:
		l.lift(it)
		events = append(events, Event{EventLifted, it.id, KindUnfreeze, fmt.Sprintf("%s: %s", it.title(), it.unfreeze.Reason)})
	}
	return events
}

func (l *Ledger) lift(it *item) {
	for _, id := range it.unfreeze.Freezes {
		l.lifted[id] = true
		if _, held := l.items[id]; held {
			l.drop(id)
		}
	}
}

// succeed makes a version the one in force.
func (l *Ledger) succeed(it *item) []Event {
	for _, other := range l.pending() {
		if other.charter == nil || other == it {
			continue
		}
		// Somebody took an approval of that back. Shown again without that word it
		// would look like a fork.
		if slices.ContainsFunc(other.said, func(s said) bool { return s.Kind != approval.Approve }) && len(it.Forks) < maxForks {
			it.Forks = SortDigests(append(slices.Clone(it.Forks), other.id))
		}
		l.drop(other.id)
	}
	c := it.charter
	l.chain = append(l.chain, version{c, it.id})
	for _, other := range l.items {
		if other.charter != nil || other.Record.Kind == KindOrder {
			continue
		}
		// Receipts are of signers of the version in force: what those of before said
		// counts no more, and theirs does not come back.
		kept := slices.DeleteFunc(slices.Clone(other.Record.Receipts), func(r Receipt) bool {
			s, ok := c.Signer(r.Signer)
			return !ok || s.Peer.Verify(receiptMessage(c.Cluster, r.Signer, other.id, r.Time), r.Signature) != nil
		})
		if len(kept) != len(other.Record.Receipts) {
			other.Record.Receipts = kept
			l.dirty[other.id] = true
		}
		// Somebody whom this version does not list froze, and no signer has it: nobody
		// else will take it. What a signer has it never lets go, also while it changes
		// its identity.
		if other.freeze != nil && l.self == nil && len(kept) == 0 && !l.current(other) {
			l.drop(other.id)
		}
	}
	return []Event{{EventCharterInForce, it.id, KindCharter, fmt.Sprintf("%s is in force", it.title())}}
}

// Pending lists what waits, in order of kind, number and ID.
func (l *Ledger) Pending() []Pending {
	var out []Pending
	forked := 0
	list := l.pending()
	for _, it := range list {
		if it.charter != nil && it.Complete {
			forked++
		}
	}
	for _, it := range list {
		p := Pending{Record: it.id, Kind: it.Record.Kind, Title: it.title(), Version: it.number(), Complete: it.Complete}
		counts := l.counts(it)
		for _, s := range counts {
			p.Have = append(p.Have, s.Person)
		}
		slices.Sort(p.Have)
		p.Have = slices.Compact(p.Have)
		if it.list != nil {
			p.Name = it.list.Name
		}
		_, signer := l.me(l.vouchers(it))
		switch {
		case it.charter != nil && it.Complete && forked > 1:
			p.Fork = true
			p.Missing = fmt.Sprintf("another version %d is complete too: neither takes force until the approvals of one are withdrawn", it.charter.Version)
		case it.charter != nil && it.Complete && signer:
			p.Due = max(0, it.wait-it.Waited)
			p.Missing = fmt.Sprintf("in force in %s of uptime", words(p.Due))
		case it.charter != nil && it.Complete:
			n := l.vouchers(it).Quorum.Need - len(it.Record.Receipts)
			p.Missing = fmt.Sprintf("complete; signers wait %s of uptime, %d more must say that it is in force", words(it.wait), n)
		default:
			for _, panel := range l.panels(it) {
				if p.Missing = panel.missing(counts); p.Missing != "" {
					break
				}
			}
		}
		if p.Missing == "" {
			p.Missing = "waits for signers"
		}
		out = append(out, p)
	}
	return out
}

// words says a duration as people do.
func words(d time.Duration) string {
	d = (d + time.Second - 1).Truncate(time.Second)
	var parts []string
	for _, u := range []struct {
		name string
		of   time.Duration
	}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"min", time.Minute}, {"s", time.Second}} {
		if n := d / u.of; n > 0 && len(parts) < 2 {
			parts = append(parts, fmt.Sprintf("%d %s", n, u.name))
			d -= n * u.of
		}
	}
	if len(parts) == 0 {
		return "0 s"
	}
	return strings.Join(parts, " ")
}
