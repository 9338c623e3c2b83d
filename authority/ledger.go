package authority

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"coffer/approval"
	"coffer/canon"
	"coffer/charter"
	"coffer/credential"
	"coffer/identity"
	"coffer/party"
)

const (
	// MaxFreezes is how many active freezes one author has. With so many the whole
	// cluster counts as frozen by that author, so that no order of arrival and no flood
	// makes a difference between signers, or a freeze do less than it says.
	MaxFreezes = 16
	// MaxOrders is how many intents the orders of one person's key are remembered about,
	// and maxAllOrders all.
	MaxOrders    = 256
	maxAllOrders = 2048
	// MaxRefs is how many records are compared at once.
	MaxRefs = 4096
	// orderFor is how long an order is remembered, in seconds: longer than any intent
	// that it can be about lives.
	orderFor = 31 * 24 * 3600
)

// Ledger is what a set of records comes to. It is in memory, for one goroutine, and
// asks nothing: the time comes with each call. The same records lead to the same ledger
// in whatever order they come, but for delays that have not passed everywhere and for
// statements that were over before they came; receipts make up for both.
//
// A ledger with an identity is a signer's: delays pass in it, and it signs receipts. One
// without is an observer's, at a coordinator or a person: it believes that a version is
// in force when Need signers say so.
type Ledger struct {
	root  *charter.Charter
	self  *identity.Key
	now   int64     // as the last call told it: whoever keeps the clock honest keeps this honest
	chain []version // that are or were in force, from the first
	items map[canon.Digest]*item

	lifted map[canon.Digest]bool
	dirty  map[canon.Digest]bool
}

// version is a charter with its digest, which takes a while to compute.
type version struct {
	*charter.Charter
	digest canon.Digest
}

// item is a record whose parts have all been verified.
type item struct {
	Kept
	id   canon.Digest
	said []said

	// One of them, but for orders.
	charter  *charter.Charter
	list     *ListVersion
	freeze   *Freeze
	unfreeze *Unfreeze

	wait time.Duration // of a charter
}

// said is a statement whose signature holds under a key that some version of the charter
// that is or was in force lists for that person. Whether it counts is another question.
type said struct {
	signed approval.Signed
	*approval.Statement
	key credential.Key
}

// NewLedger begins with version 1 of the charter, which the caller has verified and
// pinned. self is the identity of the signer whose ledger it is, or nil for an observer.
func NewLedger(root *charter.Charter, self *identity.Key) (*Ledger, error) {
	if root == nil || root.Version != 1 {
		return nil, errors.New("a ledger begins with version 1 of the charter")
	}
	return &Ledger{
		root: root, self: self, chain: []version{{root, root.Digest()}},
		items: map[canon.Digest]*item{}, lifted: map[canon.Digest]bool{}, dirty: map[canon.Digest]bool{},
	}, nil
}

// Use changes the identity that signs receipts, once another one is in the charter. What
// is in force gets a receipt of it.
func (l *Ledger) Use(self *identity.Key, now int64) []Event {
	l.self = self
	return l.settle(now)
}

// InForce is the version of the charter that counts now.
func (l *Ledger) InForce() *charter.Charter { return l.chain[len(l.chain)-1].Charter }

// Charter finds a version that is or was in force by its digest.
func (l *Ledger) Charter(d canon.Digest) (*charter.Charter, bool) {
	for _, v := range slices.Backward(l.chain) {
		if v.digest == d {
			return v.Charter, true
		}
	}
	return nil, false
}

// History is every version that is or was in force, from the first.
func (l *Ledger) History() []*charter.Charter {
	var out []*charter.Charter
	for _, v := range l.chain {
		out = append(out, v.Charter)
	}
	return out
}

// EventKind says what became new.
type EventKind string

const (
	EventSigned          EventKind = "signed"           // statements or receipts were added; worth handing on
	EventCharterComplete EventKind = "charter_complete" // enough admins signed; it waits for its delay
	EventCharterInForce  EventKind = "charter_in_force"
	EventFork            EventKind = "fork" // two complete versions of one number, of the charter or a list
	EventListInForce     EventKind = "list_in_force"
	EventFrozen          EventKind = "frozen"
	EventLifted          EventKind = "lifted"
	EventOrder           EventKind = "order"
	EventDropped         EventKind = "dropped" // a part of the record does not hold; whoever sent it lies or errs
)

// Event is something new, for logs, alarms, audit and gossip. Every change of a record
// has at least one.
type Event struct {
	Kind   EventKind
	Record canon.Digest
	Of     Kind
	Text   string // for people, on one line
}

// Add verifies every part of a record, and unions what holds with what is here. An error
// says that nothing new was taken and why; it wraps *Refusal. A record that is here
// already gives neither events nor an error.
func (l *Ledger) Add(r Record, now int64) ([]Event, error) {
	l.now = now
	if err := r.validate(); err != nil {
		return nil, refuse(CodeMalformed, "record: %w", err)
	}
	id := r.ID()
	if it, known := l.items[id]; known && it.Record.Kind != r.Kind || r.Kind != KindCharter && id == l.chain[0].digest {
		return nil, refuse(CodeMalformed, "it is no %s", r.Kind)
	}
	var events []Event
	var err error
	switch r.Kind {
	case KindFreeze:
		events, err = l.addFreeze(r, now)
	case KindOrder:
		events, err = l.addOrder(r, now)
	case KindCharter, KindList, KindUnfreeze:
		events, err = l.addProposal(r, now)
	}
	if err != nil {
		return nil, err
	}
	return append(events, l.settle(now)...), nil
}

// Advance says how much uptime passed since the last call: delays run in it, and what is
// over is forgotten. While two versions contend no delay runs.
func (l *Ledger) Advance(elapsed time.Duration, now int64) []Event {
	var complete []*item
	for _, it := range l.items {
		if it.charter != nil && it.waits() && it.Complete {
			complete = append(complete, it)
		}
	}
	if len(complete) == 1 && elapsed > 0 {
		it := complete[0]
		if _, signer := l.me(l.vouchers(it)); signer {
			it.Waited += elapsed
			l.dirty[it.id] = true
		}
	}
	return l.settle(now)
}

// settle brings everything to where the records lead.
func (l *Ledger) settle(now int64) (events []Event) {
	l.now = now
	l.prune()
	for again := true; again; {
		var more []Event
		more, again = l.decide(now)
		events = append(events, more...)
	}
	l.sign(now)
	return events
}

func (l *Ledger) touch(it *item, now int64) {
	it.Arrived = max(it.Arrived, now)
	l.items[it.id] = it
	l.dirty[it.id] = true
}

func (l *Ledger) drop(id canon.Digest) {
	delete(l.items, id)
	l.dirty[id] = true
}

// hear verifies a statement about a subject: under the newest version in which that
// person has that key. An unknown person or key costs no signature check.
func (l *Ledger) hear(subject canon.Digest, signed approval.Signed) (said, error) {
	s, err := approval.Parse(signed.Raw)
	if err != nil {
		return said{}, refuse(CodeMalformed, "%w", err)
	}
	if s.Cluster != l.root.Cluster {
		return said{}, refuse(CodeCluster, "statement of %q is for cluster %s, this is %s", s.Person, s.Cluster.Short(), l.root.Cluster.Short())
	}
	key, err := credential.SignatureKey(signed.Signature)
	if err != nil {
		return said{}, refuse(CodeSignature, "statement of %q: %w", s.Person, err)
	}
	for _, v := range slices.Backward(l.chain) {
		if !enrolled(v.Charter, s.Person, key) {
			continue
		}
		if _, err := approval.Verify(v.Charter, subject, signed); err != nil {
			return said{}, refuse(CodeSignature, "%w: %w", errForged, err)
		}
		return said{signed, s, key}, nil
	}
	return said{}, refuse(CodeSignature, "no version of the charter lists %q with key %s", s.Person, key.Fingerprint())
}

// errForged says that a signature was checked and did not hold, which nobody who only
// passes records on brings about.
var errForged = errors.New("it does not hold")

func enrolled(c *charter.Charter, person string, key credential.Key) bool {
	p, ok := c.Person(person)
	return ok && slices.Contains(p.Keys, key)
}

// receipts are those of signers of c that hold and are not among the known ones.
func (l *Ledger) receipts(c *charter.Charter, r Record, known []Receipt) (fresh []Receipt, dropped int) {
	for _, x := range r.Receipts {
		if slices.ContainsFunc(known, func(k Receipt) bool { return k.Signer == x.Signer }) {
			continue
		}
		s, ok := c.Signer(x.Signer)
		if !ok || s.Peer.Verify(receiptMessage(c.Cluster, x.Signer, r.ID(), x.Time), x.Signature) != nil {
			dropped++
			continue
		}
		fresh = append(fresh, x)
	}
	return fresh, dropped
}

// me is the signer whose ledger this is, under a version of the charter.
func (l *Ledger) me(c *charter.Charter) (party.ID, bool) {
	if l.self == nil {
		return "", false
	}
	s, ok := c.SignerByPeer(l.self.ID())
	return s.Name, ok
}

// sign adds this signer's receipts to what is in force here.
func (l *Ledger) sign(now int64) {
	for id, it := range l.items {
		if it.freeze == nil && !(it.proposal() && it.Final) {
			continue
		}
		// The next version is witnessed by who was a signer before it, under the
		// identity of then.
		me, ok := l.me(l.vouchers(it))
		if !ok || len(it.Record.Receipts) >= MaxReceipts || slices.ContainsFunc(it.Record.Receipts, func(r Receipt) bool { return r.Signer == me }) {
			continue
		}
		it.Record.Receipts = append(slices.Clip(it.Record.Receipts), NewReceipt(l.self, l.root.Cluster, me, id, now))
		l.dirty[id] = true
	}
}

func (l *Ledger) addFreeze(r Record, now int64) ([]Event, error) {
	f, err := ParseFreeze(r.Raw)
	if err != nil {
		return nil, err
	}
	id, c := r.ID(), l.InForce()
	switch {
	case f.Cluster != c.Cluster:
		return nil, refuse(CodeCluster, "the freeze is of cluster %s, this is %s", f.Cluster.Short(), c.Cluster.Short())
	case l.lifted[id]:
		return nil, refuse(CodeFreezeLifted, "freeze %s was lifted; freeze anew if that was wrong", id.Short())
	}
	it, known := l.items[id]
	if !known {
		it = &item{Kept: Kept{Record: Record{Kind: KindFreeze, Raw: r.Raw}}, id: id, freeze: f}
	}
	fresh, dropped := l.receipts(c, r, it.Record.Receipts)
	var events []Event
	if dropped > 0 {
		events = append(events, Event{EventDropped, id, KindFreeze, fmt.Sprintf("%d receipts of freeze %s do not hold", dropped, id.Short())})
	}
	if known {
		if len(fresh) == 0 {
			return events, nil
		}
		it.Record.Receipts = append(it.Record.Receipts, fresh...)
		l.touch(it, now)
		return append(events, Event{EventSigned, id, KindFreeze, fmt.Sprintf("freeze %s is held by %d signers", id.Short(), len(it.Record.Receipts))}), nil
	}
	current, err := l.author(it, r)
	if err != nil {
		return nil, err
	}
	// Who was removed may freeze no more. A signer's receipt says that it came in time:
	// a lying signer could freeze by itself as well.
	if !current && len(fresh) == 0 {
		return nil, refuse(CodeSignature, "%q may freeze no more, and no signer says that it had this freeze before", f.By)
	}
	if l.active(f.By) >= MaxFreezes {
		return nil, refuse(CodeFreezeLimit, "%q has %d freezes that nobody lifted: all is frozen already", f.By, MaxFreezes)
	}
	it.Record.Receipts = fresh
	l.touch(it, now)
	return append(events, Event{EventFrozen, id, KindFreeze, fmt.Sprintf("%q froze %s: %s", f.By, f.What(), f.Reason)}), nil
}

// author verifies who made a freeze, and says whether it is somebody of the version in force.
func (l *Ledger) author(it *item, r Record) (current bool, err error) {
	f := it.freeze
	switch {
	case len(r.Statements) == 1 && len(r.Signers) == 0:
		s, err := l.hear(it.id, r.Statements[0])
		if err != nil {
			return false, err
		}
		if s.Kind != approval.Freeze || s.Person != f.By {
			return false, refuse(CodeSignature, "the freeze is by %q, the statement is a %s of %q", f.By, s.Kind, s.Person)
		}
		it.said, it.Record.Statements = []said{s}, r.Statements
		return enrolled(l.InForce(), s.Person, s.key), nil
	case len(r.Signers) == 1 && len(r.Statements) == 0 && string(r.Signers[0].Signer) == f.By:
		tried := map[identity.ID]bool{}
		for n, v := range slices.Backward(l.chain) {
			s, ok := v.Signer(party.ID(f.By))
			if !ok || tried[s.Peer] {
				continue
			}
			tried[s.Peer] = true
			if s.Peer.Verify(r.Raw, r.Signers[0].Signature) == nil {
				it.Record.Signers = r.Signers
				return n == len(l.chain)-1, nil
			}
		}
		return false, refuse(CodeSignature, "no signer %q of the charter signed the freeze", f.By)
	}
	return false, refuse(CodeMalformed, "a freeze has one statement of a person, or one signature of a signer, of whom it names")
}

// current says whether the author of a freeze is somebody of the version in force.
func (l *Ledger) current(it *item) bool {
	c := l.InForce()
	for _, s := range it.said {
		return enrolled(c, s.Person, s.key)
	}
	s, ok := c.Signer(party.ID(it.freeze.By))
	return ok && len(it.Record.Signers) == 1 && s.Peer.Verify(it.Record.Raw, it.Record.Signers[0].Signature) == nil
}

// active counts an author's freezes.
func (l *Ledger) active(by string) (n int) {
	for _, it := range l.items {
		if it.freeze != nil && it.freeze.By == by {
			n++
		}
	}
	return n
}

func (l *Ledger) addOrder(r Record, now int64) ([]Event, error) {
	id := r.ID()
	it, known := l.items[id]
	if !known {
		it = &item{Kept: Kept{Record: Record{Kind: KindOrder, Raw: r.Raw}}, id: id}
	}
	old := it.said
	list, first := l.hearAll(it, r)
	if sameWords(old, list) {
		if first == nil && !known {
			first = refuse(CodeMalformed, "an order without a statement")
		}
		return nil, first
	}
	var events []Event
	if first != nil {
		events = append(events, Event{EventDropped, id, KindOrder, first.Error()})
	}
	var words []string
	for _, s := range list {
		words = append(words, fmt.Sprintf("%s of %q", s.Kind, s.Person))
	}
	it.say(list)
	l.touch(it, now)
	return append(events, Event{EventOrder, id, KindOrder, fmt.Sprintf("about intent %s: %s", r.Subject().Short(), strings.Join(words, ", "))}), nil
}

// hearAll is what an item's statements are with those of a record that hold and may have
// a place; the first that does not is named.
func (l *Ledger) hearAll(it *item, r Record) (list []said, first error) {
	list = it.said
	forged := 0
	for _, signed := range r.Statements {
		if slices.ContainsFunc(it.said, func(s said) bool {
			return bytes.Equal(s.signed.Raw, signed.Raw) && bytes.Equal(s.signed.Signature, signed.Signature)
		}) {
			continue
		}
		s, err := l.hear(r.Subject(), signed)
		if err == nil {
			err = l.admit(it, s, len(r.Receipts) > 0)
		}
		if err == nil {
			list, err = l.place(it, list, s)
		}
		if err != nil {
			if first == nil {
				first = err
			}
			if errors.Is(err, errForged) {
				forged++
			}
			if forged >= maxForged {
				break
			}
		}
	}
	return list, first
}

// admit says whether a statement may have a place in an item at all. It comes before it is
// placed, so that what counts for nothing, such as the word of a key that was taken from
// its owner, displaces nothing and uses nothing up.
func (l *Ledger) admit(it *item, s said, witnessed bool) error {
	switch order := it.Record.Kind == KindOrder; {
	case order && !s.Kind.Narrows():
		return refuse(CodeMalformed, "a statement of kind %s is no order about an intent", s.Kind)
	case order && s.Issued+orderFor < l.now:
		return refuse(CodeExpired, "the %s of %q was issued at %d, more than 31 days ago; check the clock and sign anew", s.Kind, s.Person, s.Issued)
	case order && !l.lately(s):
		return refuse(CodeSignature, "the charter has not listed %q with key %s for 31 days", s.Person, s.key.Fingerprint())
	case !order && s.Kind == approval.Freeze,
		!order && !l.stands(it, s) && !(witnessed || len(it.Record.Receipts) > 0) && it.waits(),
		!order && !l.could(it, s),
		!order && it.Final && s.Kind != approval.Approve:
		return l.misplaced(it, s)
	case l.crowded(it, s):
		return refuse(CodeLimit, "%q has a word about %d newer records of this kind", s.Person, it.most())
	}
	return nil
}

// lately says whether somebody is in the charter with a key, or was when an intent could
// be made that still lives. Whoever left longer ago says nothing about intents.
func (l *Ledger) lately(s said) bool {
	for n, v := range slices.Backward(l.chain) {
		if enrolled(v.Charter, s.Person, s.key) {
			return true
		}
		if it := l.items[v.digest]; n == 0 || it != nil && it.Arrived+orderFor < l.now {
			return false
		}
	}
	return false
}

func (it *item) say(list []said) {
	it.said, it.Record.Statements = list, nil
	for _, s := range list {
		it.Record.Statements = append(it.Record.Statements, s.signed)
	}
}

// place adds a statement. Of one person, one key and one of yes and no (of an order: one
// kind of no) only one stands: no key displaces the word of another, which may be the
// only one that counts in the end. A no stays as it came; of approvals the one that is in
// time and lasts longest stays, and of what is decided the one that decided.
func (l *Ledger) place(it *item, list []said, s said) ([]said, error) {
	for n, old := range list {
		if old.Person != s.Person || old.key != s.key || it.slot(old.Kind) != it.slot(s.Kind) {
			continue
		}
		live := func(x said) bool { return it.counted(x) || l.timely(x) }
		if s.Kind != approval.Approve || it.Final || live(old) && !live(s) || live(old) == live(s) && old.Expires >= s.Expires {
			return list, nil
		}
		list = slices.Clone(list)
		list[n] = s
		return l.fit(it, list, s)
	}
	return l.fit(it, append(slices.Clone(list), s), s)
}

func (it *item) slot(k approval.Kind) approval.Kind {
	if it.Record.Kind != KindOrder && k != approval.Approve {
		return approval.Withdraw
	}
	return k
}

// receiptsRoom is what all receipts that a record can get take of MaxRecord.
const receiptsRoom = MaxReceipts * 128

// fit makes room for what was just added: a record never grows over what can be read
// again. Whoever said most makes it, the oldest first; what is decided keeps what it has.
func (l *Ledger) fit(it *item, list []said, added said) ([]said, error) {
	bare := it.Record
	bare.Statements, bare.Receipts = nil, nil
	room := MaxRecord - receiptsRoom - len(bare.Encode())
	for {
		size := 0
		by := map[string]int{}
		for _, s := range list {
			n := len(s.signed.Raw) + len(s.signed.Signature) + 8
			size, by[s.Person] = size+n, by[s.Person]+n
		}
		if len(list) <= MaxStatements && size <= room {
			break
		}
		worst := 0
		for n, s := range list {
			old := list[worst]
			if cmp.Or(cmp.Compare(by[old.Person], by[s.Person]), cmp.Compare(s.Person, old.Person), cmp.Compare(s.Issued, old.Issued), bytes.Compare(s.signed.Raw, old.signed.Raw)) < 0 {
				worst = n
			}
		}
		if it.Final {
			worst = len(list) - 1
		}
		list = slices.Delete(list, worst, worst+1)
	}
	if !slices.ContainsFunc(list, func(s said) bool { return bytes.Equal(s.signed.Raw, added.signed.Raw) && s.key == added.key }) {
		return list, refuse(CodeLimit, "%q has said as much about this as a record holds", added.Person)
	}
	return list, nil
}

// crowd names what a voice's newest words are counted over, and how many count. What
// is in force is over no number.
func (it *item) crowd() (name string, most int) {
	switch {
	case it.Record.Kind == KindOrder:
		return string(KindOrder), MaxOrders
	case !it.waits():
		return "", 0
	case it.list != nil:
		return "list " + it.list.Name, MaxOpen
	}
	return string(it.Record.Kind), MaxOpen
}

func (it *item) most() int { _, most := it.crowd(); return most }

// crowded says whether a person has words about so many newer records of this kind that
// this one goes. So the newest stay, whatever came first.
func (l *Ledger) crowded(it *item, s said) bool {
	crowd, most := it.crowd()
	newer := 0
	for _, other := range l.items {
		if name, _ := other.crowd(); crowd == "" || name != crowd || other.id == it.id {
			continue
		}
		if n := other.newest(it.voice(s)); n != nil && compareStatements(n, s.Statement) > 0 {
			newer++
		}
	}
	return crowd != "" && newer >= most
}

func compareStatements(a, b *approval.Statement) int {
	return cmp.Or(cmp.Compare(a.Issued, b.Issued), bytes.Compare(a.Subject[:], b.Subject[:]))
}

// voice is whose words are counted: a person's, and of orders those of one key, so that
// nobody who has one of somebody's keys pushes out what they said with another.
func (it *item) voice(s said) string {
	if it.Record.Kind == KindOrder {
		return s.Person + " " + s.key.Public
	}
	return s.Person
}

// newest is a voice's last word here.
func (it *item) newest(voice string) (last *approval.Statement) {
	for _, s := range it.said {
		if it.voice(s) == voice && (last == nil || compareStatements(s.Statement, last) > 0) {
			last = s.Statement
		}
	}
	return last
}

// prune forgets orders that are over, and words over a person's number.
func (l *Ledger) prune() {
	type whose struct{ crowd, voice string }
	by := map[whose][]*item{}
	orders := 0
	for _, it := range l.items {
		crowd, _ := it.crowd()
		if crowd == "" {
			continue
		}
		if it.Record.Kind == KindOrder {
			l.keep(it, func(s said) bool { return max(s.Issued, it.Arrived)+orderFor >= l.now })
		}
		for _, voice := range it.voices() {
			by[whose{crowd, voice}] = append(by[whose{crowd, voice}], it)
			if it.Record.Kind == KindOrder {
				orders++
			}
		}
	}
	for at, list := range by {
		slices.SortFunc(list, func(a, b *item) int { return compareStatements(b.newest(at.voice), a.newest(at.voice)) })
		for len(list) > list[0].most() {
			if list = l.forget(list, at.voice); at.crowd == string(KindOrder) {
				orders--
			}
		}
		by[at] = list
	}
	maps.DeleteFunc(by, func(at whose, _ []*item) bool { return at.crowd != string(KindOrder) })
	names := slices.SortedFunc(maps.Keys(by), func(a, b whose) int { return cmp.Compare(a.voice, b.voice) })
	for orders > maxAllOrders { // of whoever has most
		most := slices.MaxFunc(names, func(a, b whose) int { return cmp.Compare(len(by[a]), len(by[b])) })
		by[most], orders = l.forget(by[most], most.voice), orders-1
	}
}

func (it *item) voices() []string {
	var out []string
	for _, s := range it.said {
		out = append(out, it.voice(s))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// forget takes a voice's words out of the last record of a list.
func (l *Ledger) forget(list []*item, voice string) []*item {
	last := list[len(list)-1]
	l.keep(last, func(s said) bool { return last.voice(s) != voice })
	return list[:len(list)-1]
}

// keep leaves the statements that ok accepts, and drops a record that has none.
func (l *Ledger) keep(it *item, ok func(said) bool) {
	list := slices.DeleteFunc(slices.Clone(it.said), func(s said) bool { return !ok(s) })
	switch {
	case len(list) == len(it.said):
	case len(list) == 0:
		l.drop(it.id)
	default:
		it.say(list)
		l.dirty[it.id] = true
	}
}

// Pending is a record that waits: for people, for its delay, or for signers.
type Pending struct {
	Record   canon.Digest
	Kind     Kind
	Title    string   // in words: version 3 of the charter
	Name     string   // of a list
	Version  uint64   // of a charter or list
	Have     []string // people whose approvals count, sorted
	Complete bool
	Missing  string        // in words: waits for 1 more of admins
	Due      time.Duration // uptime until it is in force here
	Fork     bool
}

// Held is an active freeze.
type Held struct {
	ID        canon.Digest
	Freeze    Freeze
	Receipts  party.Set // signers of the version in force that have it on disk
	Effective bool      // Of-Need+1 have: no quorum is without one of them
}

// Freezes are the active ones, by time and ID.
func (l *Ledger) Freezes() []Held {
	c := l.InForce()
	var out []Held
	for _, it := range l.items {
		if it.freeze == nil {
			continue
		}
		h := Held{ID: it.id, Freeze: *it.freeze}
		for _, r := range it.Record.Receipts {
			h.Receipts = append(h.Receipts, r.Signer)
		}
		slices.Sort(h.Receipts)
		h.Effective = len(h.Receipts) > c.Quorum.Of-c.Quorum.Need
		out = append(out, h)
	}
	slices.SortFunc(out, func(a, b Held) int {
		return cmp.Or(cmp.Compare(a.Freeze.Time, b.Freeze.Time), bytes.Compare(a.ID[:], b.ID[:]))
	})
	return out
}

// Frozen says what stands still, and by which freezes.
type Frozen struct {
	Cluster []canon.Digest
	Wallets map[string][]canon.Digest
	People  map[string][]canon.Digest
}

// Any says whether there is a freeze at all.
func (f Frozen) Any() bool { return len(f.Cluster)+len(f.Wallets)+len(f.People) > 0 }

// Wallet is what stops a wallet: the cluster's freezes and its own.
func (f Frozen) Wallet(name string) []canon.Digest {
	return slices.Concat(f.Cluster, f.Wallets[name])
}

// Person is what stops a person's requests and approvals.
func (f Frozen) Person(name string) []canon.Digest { return f.People[name] }

// Frozen is what stands still now. All freezes of an author with MaxFreezes of them stop
// the cluster.
func (l *Ledger) Frozen() Frozen {
	f := Frozen{Wallets: map[string][]canon.Digest{}, People: map[string][]canon.Digest{}}
	held := l.Freezes()
	authors := map[string]int{}
	for _, h := range held {
		authors[h.Freeze.By]++
	}
	for _, h := range held {
		switch name := h.Freeze.Name; {
		case h.Freeze.Scope == ScopeCluster, authors[h.Freeze.By] >= MaxFreezes:
			f.Cluster = append(f.Cluster, h.ID)
		case h.Freeze.Scope == ScopeWallet:
			f.Wallets[name] = append(f.Wallets[name], h.ID)
		default:
			f.People[name] = append(f.People[name], h.ID)
		}
	}
	return f
}

// Lifted says whether an unfreeze in force names a freeze.
func (l *Ledger) Lifted(freeze canon.Digest) bool { return l.lifted[freeze] }

// Orders are the statements that narrow an intent.
func (l *Ledger) Orders(intent canon.Digest) []approval.Signed {
	it, ok := l.items[OrderID(intent)]
	if !ok {
		return nil
	}
	return slices.Clone(it.Record.Statements)
}

// ListState is the newest version of a list that its keepers signed.
type ListState = charter.ListState

// Lists are the lists that the charter in force leaves to keepers and of which a version
// is in force, by name.
func (l *Ledger) Lists() map[string]ListState {
	out := map[string]ListState{}
	for _, it := range l.items {
		if it.list == nil || !it.Final {
			continue
		}
		if _, kept := keepersOf(l.InForce(), it.list.Name); kept {
			out[it.list.Name] = ListState{Version: it.list.Version, Issued: it.list.Issued, Digest: it.id, Entries: it.list.Entries}
		}
	}
	return out
}

// Ref is what one holder has of a record.
type Ref struct{ ID, Sum canon.Digest }

// Refs is all that is here, by ID; what is over MaxRefs is left out.
func (l *Ledger) Refs() []Ref {
	var out []Ref
	for _, r := range l.Records() {
		out = append(out, Ref{r.ID(), r.Sum()})
	}
	if len(out) > MaxRefs {
		out = out[:MaxRefs]
	}
	slices.SortFunc(out, func(a, b Ref) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	return out
}

// Missing are the records that whoever has these refs lacks or has less of, in the order
// in which they can be verified. Their encodings have at most limit bytes, but the first
// is always there; more says that some were left out.
func (l *Ledger) Missing(have []Ref, limit int) (records []Record, more bool) {
	known := map[Ref]bool{}
	for _, r := range have {
		known[r] = true
	}
	size := 0
	for _, r := range l.Records() {
		if known[Ref{r.ID(), r.Sum()}] {
			continue
		}
		size += len(r.Encode())
		if size > limit && len(records) > 0 {
			return records, true
		}
		records = append(records, r)
	}
	return records, false
}

// Record is one record as it stands here.
func (l *Ledger) Record(id canon.Digest) (Record, bool) {
	it, ok := l.items[id]
	if !ok {
		return Record{}, false
	}
	return it.Record.sorted(), true
}

// Records are all that others should have, each after those that it stands on.
func (l *Ledger) Records() []Record {
	var list []*item
	for _, it := range l.items {
		list = append(list, it)
	}
	slices.SortFunc(list, func(a, b *item) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.number(), b.number()), bytes.Compare(a.id[:], b.id[:]))
	})
	var out []Record
	for _, it := range list {
		r := it.Record.sorted()
		if r.Kind == KindOrder {
			// Others refuse what is so old: offering it would never end.
			r.Statements = nil
			for _, s := range it.said {
				if s.Issued+orderFor >= l.now {
					r.Statements = append(r.Statements, s.signed)
				}
			}
			if len(r.Statements) == 0 {
				continue
			}
			r = r.sorted()
		}
		out = append(out, r)
	}
	return out
}

// rank is the order in which records can be verified; of those that wait last, since
// whoever refuses one must not keep the others out of a bounded answer.
func rank(it *item) int {
	switch {
	case it.waits():
		return 4
	case it.charter != nil:
		return 0
	case it.freeze != nil, it.unfreeze != nil:
		return 1
	case it.list != nil:
		return 2
	}
	return 3
}

// Head is where this ledger stands, not signed.
func (l *Ledger) Head(signer party.ID, auditSize uint64, auditRoot canon.Digest, now int64) Head {
	c := l.InForce()
	all := canon.New(contentDomain).String("records")
	refs := l.Refs()
	all.List(len(refs))
	for _, r := range refs {
		all.Digest(r.ID).Digest(r.Sum)
	}
	return Head{
		Cluster: c.Cluster, Signer: signer, Version: c.Version, Charter: c.Digest(), Freezes: l.freezes(), Lists: l.lists(),
		Records: all.Sum(), AuditSize: auditSize, AuditRoot: auditRoot, Time: now,
	}
}

// freezes is equal wherever the same is frozen and lifted. Of an author with MaxFreezes
// it holds the name: which of a flood came first is another one at each signer.
func (l *Ledger) freezes() canon.Digest {
	held := l.Freezes()
	authors := map[string]int{}
	for _, h := range held {
		authors[h.Freeze.By]++
	}
	var ids []canon.Digest
	for _, h := range held {
		if authors[h.Freeze.By] < MaxFreezes {
			ids = append(ids, h.ID)
		}
	}
	maps.DeleteFunc(authors, func(_ string, n int) bool { return n < MaxFreezes })
	e := canon.New(contentDomain).String("freezes").Strings(slices.Sorted(maps.Keys(authors)))
	for _, list := range [][]canon.Digest{SortDigests(ids), SortDigests(slices.Collect(maps.Keys(l.lifted)))} {
		e.List(len(list))
		for _, id := range list {
			e.Digest(id)
		}
	}
	return e.Sum()
}

func (l *Ledger) lists() canon.Digest {
	lists := l.Lists()
	e := canon.New(contentDomain).String("lists").List(len(lists))
	for _, name := range slices.Sorted(maps.Keys(lists)) {
		e.String(name).Uint64(lists[name].Version).Digest(lists[name].Digest)
	}
	return e.Sum()
}

// Changes are the records that are new or other since the last call, and those that are
// gone: what a store has to write to hold what the ledger does.
func (l *Ledger) Changes() (put []Kept, gone []canon.Digest) {
	for _, id := range SortDigests(slices.Collect(maps.Keys(l.dirty))) {
		if it, ok := l.items[id]; ok {
			put = append(put, it.kept())
		} else {
			gone = append(gone, id)
		}
	}
	clear(l.dirty)
	return put, gone
}

func (it *item) kept() Kept {
	k := it.Kept
	k.Record = k.Record.sorted()
	return k
}

// All is everything that Restore takes.
func (l *Ledger) All() []Kept {
	var out []Kept
	for _, it := range l.items {
		out = append(out, it.kept())
	}
	slices.SortFunc(out, func(a, b Kept) int {
		x, y := a.Record.ID(), b.Record.ID()
		return bytes.Compare(x[:], y[:])
	})
	return out
}

// Restore fills a ledger that was just made with what an earlier one held. Signatures are
// verified again; times are not: what was good when it came stays good. An error names
// the record that is not what was kept.
func (l *Ledger) Restore(kept []Kept, now int64) error {
	kept = slices.Clone(kept)
	var charters []Kept
	// Versions first, and in their order: all else is verified under them.
	number := func(k Kept) uint64 {
		if c, err := charter.Parse(k.Record.Raw); err == nil {
			return c.Version
		}
		return 0
	}
	kept = slices.DeleteFunc(kept, func(k Kept) bool {
		final := k.Record.Kind == KindCharter && k.Final
		if final {
			charters = append(charters, k)
		}
		return final
	})
	slices.SortStableFunc(charters, func(a, b Kept) int { return cmp.Compare(number(a), number(b)) })
	for _, k := range append(charters, kept...) {
		if err := l.restore(k); err != nil {
			return fmt.Errorf("record %s: %w", k.Record.ID().Short(), err)
		}
	}
	l.settle(now)
	return nil
}

// restore verifies again what was kept: signatures, and that what is in force was decided.
// It looks at no time and at no rival, which have been looked at, and it leaves out what
// does not hold of what waits. What stops something, or is in force, has to hold: without
// it this would be another ledger.
func (l *Ledger) restore(k Kept) error {
	r := k.Record
	it := &item{Kept: k, id: r.ID()}
	if _, twice := l.items[it.id]; twice {
		return refuse(CodeMalformed, "it is there twice")
	}
	must := it.Final || r.Kind == KindFreeze
	leave := func(err error) error {
		if must {
			return err
		}
		l.dirty[it.id] = true
		return nil
	}
	switch r.Kind {
	case KindFreeze:
		var err error
		if it.freeze, err = ParseFreeze(r.Raw); err != nil {
			return err
		}
		if it.freeze.Cluster != l.root.Cluster {
			return refuse(CodeCluster, "freeze of another cluster")
		}
		if _, err := l.author(it, r); err != nil {
			return err
		}
	case KindOrder:
	default:
		read, err := l.parse(r)
		if err != nil {
			return leave(err)
		}
		it.charter, it.list, it.unfreeze = read.charter, read.list, read.unfreeze
		if it.charter != nil && it.charter.Version != l.InForce().Version+1 {
			return leave(refuse(CodeCharterFork, "it contends with version %d", it.charter.Version))
		}
		if it.charter != nil {
			if err := l.check(it); err != nil {
				return leave(err)
			}
		}
	}
	if r.Kind != KindFreeze {
		var list []said
		for _, signed := range r.Statements {
			s, err := l.hear(r.Subject(), signed)
			if err != nil {
				l.dirty[it.id] = true
				continue
			}
			list = append(list, s)
		}
		if it.say(list); len(list) == 0 {
			return leave(refuse(CodeSignature, "no statement in it holds"))
		}
	}
	var lost int
	if it.Record.Receipts, lost = l.receipts(l.vouchers(it), r, nil); lost > 0 {
		if must {
			return refuse(CodeSignature, "%d receipts do not hold", lost)
		}
		l.dirty[it.id] = true
	}
	if it.Final && !l.decided(it) {
		return refuse(CodeSignature, "%s is in force here without enough approvals", it.title())
	}
	l.items[it.id] = it
	switch {
	case !it.Final:
	case it.charter != nil:
		l.chain = append(l.chain, version{it.charter, it.id})
	case it.unfreeze != nil:
		for _, id := range it.unfreeze.Freezes {
			l.lifted[id] = true
		}
	}
	return nil
}

// File is the charter's file with what was decided since, from which a newcomer comes to
// the newest version. root is the file of version 1. What waits is not in it.
func (l *Ledger) File(root *charter.File) *charter.File {
	f := root.Clone()
	f.Records = nil
	for _, r := range l.Records() {
		if it := l.items[r.ID()]; it.waits() || r.Kind == KindOrder {
			continue
		}
		f.Records = append(f.Records, r.Encode())
	}
	return f
}

// Cards are those of a charter's version 1 and of every later one among some records, in
// their order.
func Cards(root *charter.File, records []Record) []string {
	cards := slices.Clone(root.Cards)
	for _, r := range records {
		if r.Kind == KindCharter {
			cards = append(cards, r.Cards...)
		}
	}
	return cards
}

// Chain is a charter file with the versions of the charter, of some records, up to a
// number: those in force now or before, and none that waits. What waits comes from
// whoever proposes, may expire, and would make the file as large as they like.
func Chain(root *charter.File, records []Record, last uint64) *charter.File {
	f := root.Clone()
	f.Records = nil
	for _, r := range records {
		if r.Kind != KindCharter {
			continue
		}
		if c, err := charter.Parse(r.Raw); err == nil && c.Version <= last {
			f.Records = append(f.Records, r.Encode())
		}
	}
	return f
}

// Open verifies a charter file and its records, as an observer: what Need signers say is
// in force is. Only the versions of the charter that took force have to hold: other records
// that do not are left out.
func Open(file *charter.File, now int64) (*Ledger, error) {
	if err := file.Verify(); err != nil {
		return nil, err
	}
	l, err := NewLedger(file.Charter, nil)
	if err != nil {
		return nil, err
	}
	for n, raw := range file.Records {
		r, err := Parse(raw)
		if err != nil {
			return nil, fmt.Errorf("record %d of the charter file: %w", n+1, err)
		}
		_, err = l.Add(r, now)
		// A version that never took force may be over by now.
		if code := CodeOf(err); err != nil && r.Kind == KindCharter && code != CodeExpired && code != CodeCharterStale {
			return nil, fmt.Errorf("record %d of the charter file: %w", n+1, err)
		}
	}
	return l, nil
}
