package envelope

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"coffer/canon"
	"coffer/identity"
	"coffer/party"
)

// Class says how messages of one kind travel.
type Class struct {
	Broadcast bool // to all parties; otherwise to one
	Echo      bool // a broadcast that is delivered only after equal echoes of all
	Opening   bool // sent under the run's ID, before the session's is known
	Final     bool // may be sent after a fault, so that peers need not wait for a time-out
	Cap       int  // the largest payload in bytes
}

// Config describes a run. Everything but Self and Key is equal at all parties.
type Config struct {
	Cluster canon.Digest
	Run     canon.Digest
	Self    party.ID
	Parties party.Set                // Self among them
	Roster  map[party.ID]identity.ID // at least the parties
	Key     *identity.Key
	Kinds   map[string]Class
}

// echoPrefix makes the kind of the echoes of a kind.
const echoPrefix = "echo:"

func (c Config) validate() error {
	switch {
	case c.Cluster.IsZero():
		return errors.New("exchange: cluster is not set")
	case c.Run.IsZero():
		return errors.New("exchange: run is not set")
	case c.Key == nil:
		return errors.New("exchange: key is not set")
	case len(c.Parties) < 2 || len(c.Parties) > 20:
		return fmt.Errorf("exchange: %d parties, want 2 to 20", len(c.Parties))
	case !c.Parties.Has(c.Self):
		return fmt.Errorf("exchange: self %q is not one of the parties %v", c.Self, c.Parties)
	case !slices.IsSorted(c.Parties):
		return errors.New("exchange: parties are not sorted; make them with party.NewSet")
	}
	for i, p := range c.Parties {
		if len(p) == 0 || len(p) > maxName {
			return fmt.Errorf("exchange: party name %q is empty or longer than %d bytes", p, maxName)
		}
		if i > 0 && p == c.Parties[i-1] {
			return fmt.Errorf("exchange: party %q is named twice", p)
		}
		if _, err := c.Roster[p].PublicKey(); err != nil {
			return fmt.Errorf("exchange: roster entry of %q: %w", p, err)
		}
	}
	if c.Roster[c.Self] != c.Key.ID() {
		return fmt.Errorf("exchange: the roster gives %q another identity than this key", c.Self)
	}
	for kind, class := range c.Kinds {
		switch {
		case kind == "" || len(echoPrefix+kind) > maxKind || strings.HasPrefix(kind, echoPrefix):
			return fmt.Errorf("exchange: kind %q is not a usable name", kind)
		case class.Cap <= 0 || class.Cap > MaxPayload:
			return fmt.Errorf("exchange: kind %q has a cap of %d bytes, want 1 to %d", kind, class.Cap, MaxPayload)
		case class.Echo && !class.Broadcast:
			return fmt.Errorf("exchange: kind %q is not a broadcast and cannot be echoed", kind)
		}
	}
	return nil
}

// Outbound is an envelope to be sent to one party over its authenticated link.
type Outbound struct {
	To  party.ID
	Raw []byte
}

// Delivered is a message that passed every check of this package.
type Delivered struct {
	Kind    string
	From    party.ID
	Payload []byte
}

// place is where at most one message may ever stand.
type place struct {
	kind string
	from party.ID
}

// Exchange is one party's side of a run. It belongs to one goroutine.
//
// Invariants:
//  1. a place, once filled, keeps its first content;
//  2. nothing of a peer is delivered twice;
//  3. a broadcast with Echo is delivered only when everybody is known to have the same;
//  4. after a fault nothing is accepted or delivered, and only final kinds are sent.
type Exchange struct {
	cfg     Config
	session canon.Digest // zero until Bind
	kinds   map[string]Class
	slots   map[place]*Envelope // bodies are dropped at delivery, headers stay as evidence
	done    map[place]bool      // delivered, or for an echo: compared
	sent    map[string]map[party.ID]bool

	out   []Outbound
	in    []Delivered
	fault *Fault
}

// NewExchange checks the configuration and begins the run.
func NewExchange(cfg Config) (*Exchange, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	kinds := maps.Clone(cfg.Kinds)
	for kind, class := range cfg.Kinds {
		if class.Echo && len(cfg.Parties) > 2 {
			// An echo is itself not echoed: it need not be the same for all, only
			// the same as what its receiver has.
			kinds[echoPrefix+kind] = Class{Broadcast: true, Opening: class.Opening, Cap: 256 + len(cfg.Parties)*(32+4+64)}
		}
	}
	return &Exchange{
		cfg: cfg, kinds: kinds,
		slots: map[place]*Envelope{}, done: map[place]bool{}, sent: map[string]map[party.ID]bool{},
	}, nil
}

// Session is the session ID, or zero before Bind.
func (x *Exchange) Session() canon.Digest { return x.session }

// Fault is what ended the run, or nil.
func (x *Exchange) Fault() *Fault { return x.fault }

// Bind fixes the session ID. Messages that waited under it are processed; one that
// waited under another ID is a fault of its sender, because the ID follows from what
// all parties agreed on while opening.
func (x *Exchange) Bind(session canon.Digest) error {
	switch {
	case x.fault != nil:
		return ErrEnded
	case !x.session.IsZero():
		return errors.New("exchange: session is bound already")
	case session.IsZero() || session == x.cfg.Run:
		return errors.New("exchange: session ID is zero or the run's")
	}
	x.session = session
	for _, at := range x.filled() {
		if e := x.slots[at]; !x.kinds[at.kind].Opening && e.Session != session {
			x.mismatch(e)
			return nil
		}
	}
	for _, at := range x.filled() {
		if !x.kinds[at.kind].Opening {
			x.advance(at)
		}
	}
	return nil
}

// filled lists the occupied places in a fixed order, so that a run is a function of
// its inputs.
func (x *Exchange) filled() []place {
	list := slices.Collect(maps.Keys(x.slots))
	slices.SortFunc(list, func(a, b place) int {
		if c := strings.Compare(a.kind, b.kind); c != 0 {
			return c
		}
		return strings.Compare(string(a.from), string(b.from))
	})
	return list
}

func (x *Exchange) mismatch(e *Envelope) {
	x.fail(&Fault{Code: CodeSessionMismatch, Culprits: []party.ID{e.From},
		Text: fmt.Sprintf("%s sent %s under session %s, the session of this run is %s", e.From, e.Kind, e.Session.Short(), x.session.Short())})
}

func (x *Exchange) fail(f *Fault) {
	if x.fault == nil {
		x.fault = f
		x.in, x.out = nil, nil // what was not yet taken is not used any more
	}
}

// Send queues a message of this party: to "" for a broadcast kind, else to one
// other party. Each may be sent once.
func (x *Exchange) Send(kind string, to party.ID, payload []byte) error {
	class, ok := x.kinds[kind]
	switch {
	case x.fault != nil && !class.Final:
		return ErrEnded
	case !ok || strings.HasPrefix(kind, echoPrefix):
		return fmt.Errorf("send %q: %w", kind, ErrKind)
	case len(payload) > class.Cap:
		return fmt.Errorf("send %s: %w: %d bytes, at most %d", kind, ErrTooLarge, len(payload), class.Cap)
	case class.Broadcast != (to == ""):
		return fmt.Errorf("send %s to %q: %w: broadcast is %t for this kind", kind, to, ErrRoute, class.Broadcast)
	case to != "" && (to == x.cfg.Self || !x.cfg.Parties.Has(to)):
		return fmt.Errorf("send %s to %q: %w: not another party of this run", kind, to, ErrRoute)
	case !class.Opening && x.session.IsZero():
		return fmt.Errorf("send %s: the session ID is not known yet", kind)
	case x.sent[kind][to]:
		// Two different messages in one place would be our own equivocation.
		return fmt.Errorf("send %s: sent already in this session", kind)
	}
	x.put(kind, class, to, payload)
	if class.Echo {
		x.advance(place{kind, x.cfg.Self})
	}
	return nil
}

func (x *Exchange) put(kind string, class Class, to party.ID, payload []byte) {
	if x.sent[kind] == nil {
		x.sent[kind] = map[party.ID]bool{}
	}
	x.sent[kind][to] = true
	e := Sign(x.cfg.Key, Header{
		Cluster: x.cfg.Cluster, Run: x.cfg.Run, Session: x.sessionOf(class),
		From: x.cfg.Self, To: to, Kind: kind,
	}, payload)
	raw := e.Encode()
	if !class.Broadcast {
		x.out = append(x.out, Outbound{to, raw})
		return
	}
	e.Body = nil
	x.slots[place{kind, x.cfg.Self}] = &e
	for _, p := range x.cfg.Parties {
		if p != x.cfg.Self {
			x.out = append(x.out, Outbound{p, raw})
		}
	}
}

func (x *Exchange) sessionOf(class Class) canon.Digest {
	if class.Opening {
		return x.cfg.Run
	}
	return x.session
}

// Step takes one envelope that the transport's authenticated peer from delivered. An
// error means that the message was refused and nothing changed. Faults are not
// errors: they are the sender's doing, not the caller's, and come out of Ready.
//
// The order of the checks is from cheap to dear, so that junk costs little, and the
// signature is checked before the message may have any effect.
func (x *Exchange) Step(from party.ID, raw []byte) error {
	if x.fault != nil {
		return ErrEnded
	}
	e, err := Parse(raw)
	if err != nil {
		return err
	}
	class, ok := x.kinds[e.Kind]
	if !ok {
		return fmt.Errorf("%w: %q", ErrKind, e.Kind)
	}
	if len(e.Body) > class.Cap {
		return fmt.Errorf("%w: %s of %d bytes, at most %d", ErrTooLarge, e.Kind, len(e.Body), class.Cap)
	}
	switch {
	case e.From != from:
		return fmt.Errorf("%w: it says %q, the link is with %q", ErrSender, e.From, from)
	case from == x.cfg.Self:
		return fmt.Errorf("%w: it is in our own name", ErrSender)
	case !x.cfg.Parties.Has(from):
		return fmt.Errorf("%w: %q is not a party of this run", ErrSender, from)
	case e.Cluster != x.cfg.Cluster:
		return fmt.Errorf("%w: cluster %s", ErrRoute, e.Cluster.Short())
	case e.Run != x.cfg.Run:
		return fmt.Errorf("%w: run %s", ErrRoute, e.Run.Short())
	case class.Opening && e.Session != x.cfg.Run:
		return fmt.Errorf("%w: %s under session %s, it belongs under the run", ErrRoute, e.Kind, e.Session.Short())
	case class.Broadcast && e.To != "", !class.Broadcast && e.To != x.cfg.Self:
		return fmt.Errorf("%w: %s to %q", ErrRoute, e.Kind, e.To)
	}
	at := place{e.Kind, from}
	first := x.slots[at]
	if first != nil && first.Header == e.Header {
		return nil // the transport may deliver twice
	}
	if err := e.Verify(x.cfg.Roster); err != nil {
		return err
	}
	switch {
	case !class.Opening && !x.session.IsZero() && e.Session != x.session,
		first != nil && first.Session != e.Session:
		x.mismatch(&e)
	case first != nil:
		x.equivocation(first, &e, "sent")
	default:
		x.slots[at] = &e
		x.advance(at)
	}
	return nil
}

func (x *Exchange) equivocation(a, b *Envelope, how string) {
	x.fail(&Fault{Code: CodeEquivocation, Culprits: []party.ID{a.From},
		Text: fmt.Sprintf("%s %s two different messages %s in one session", a.From, how, a.Kind),
		Evidence: &Evidence{First: a.Header.Encode(), FirstSignature: a.Signature[:],
			Second: b.Header.Encode(), SecondSignature: b.Signature[:]}})
}

// advance does whatever the message at this place makes possible.
func (x *Exchange) advance(at place) {
	class := x.kinds[at.kind]
	if x.fault != nil || (!class.Opening && x.session.IsZero()) {
		return
	}
	kind, isEcho := strings.CutPrefix(at.kind, echoPrefix)
	switch {
	case isEcho:
		x.compare(kind)
	case class.Echo && len(x.cfg.Parties) > 2:
		x.compare(at.kind)
	case at.from != x.cfg.Self:
		x.deliver(at)
	}
}

func (x *Exchange) deliver(at place) {
	if x.done[at] {
		return
	}
	x.done[at] = true
	e := x.slots[at]
	x.in = append(x.in, Delivered{at.kind, at.from, e.Body})
	e.Body = nil
}

// compare echoes the broadcasts of a kind once they are all there, and delivers
// them once every party has echoed the same.
func (x *Exchange) compare(kind string) {
	mine := Echo{Session: x.sessionOf(x.kinds[kind]), Kind: kind}
	for _, p := range x.cfg.Parties {
		e := x.slots[place{kind, p}]
		if e == nil {
			return
		}
		mine.Entries = append(mine.Entries, EchoEntry{e.Header.Payload, e.Signature})
	}
	echoKind := echoPrefix + kind
	if !x.sent[echoKind][""] {
		x.put(echoKind, x.kinds[echoKind], "", mine.Encode())
	}
	equal := 0
	for _, p := range x.cfg.Parties.Without(x.cfg.Self) {
		at := place{echoKind, p}
		if x.slots[at] == nil {
			continue
		}
		if !x.done[at] {
			x.check(kind, p, mine)
			if x.fault != nil {
				return
			}
			x.done[at] = true
			x.slots[at].Body = nil
		}
		equal++
	}
	if equal < len(x.cfg.Parties)-1 {
		return
	}
	for _, p := range x.cfg.Parties.Without(x.cfg.Self) {
		x.deliver(place{kind, p})
	}
}

// check compares one echo with what this party received. Any difference proves
// somebody's fault: whoever signed two headers, or the echoer that has no signature.
func (x *Exchange) check(kind string, echoer party.ID, mine Echo) {
	forged := func(text string) {
		x.fail(&Fault{Code: CodeForgedEcho, Culprits: []party.ID{echoer}, Text: fmt.Sprintf("%s's echo of %s %s", echoer, kind, text)})
	}
	theirs, err := ParseEcho(x.slots[place{echoPrefix + kind, echoer}].Body)
	if err != nil {
		forged("is malformed")
		return
	}
	if theirs.Session != mine.Session || theirs.Kind != kind || len(theirs.Entries) != len(mine.Entries) {
		forged("is of another session, kind or set of parties")
		return
	}
	for i, p := range x.cfg.Parties {
		got := theirs.Entries[i]
		if got.Payload == mine.Entries[i].Payload {
			continue
		}
		first := x.slots[place{kind, p}]
		second := *first
		second.Header.Payload, second.Signature = got.Payload, got.Signature
		switch {
		case second.Verify(x.cfg.Roster) != nil:
			forged(fmt.Sprintf("shows a message that %s did not sign", p))
		case p == x.cfg.Self:
			x.fail(&Fault{Code: CodeCloned, Text: fmt.Sprintf("%s received a message %s that this signer's key signed and this process did not send: does a copy of it run?", echoer, kind)})
		default:
			x.equivocation(first, &second, "showed")
		}
		return
	}
}

// Ready hands over what is to be sent and what was delivered since the last call,
// and the fault once there is one. After a fault nothing more comes.
func (x *Exchange) Ready() (out []Outbound, in []Delivered, fault *Fault) {
	out, in = x.out, x.in
	x.out, x.in = nil, nil
	return out, in, x.fault
}

// Awaited lists the parties whose message of this kind, or whose echo of it, is
// missing. It is for the text of a time-out: silence proves nothing.
func (x *Exchange) Awaited(kind string) party.Set {
	var list party.Set
	for _, p := range x.cfg.Parties.Without(x.cfg.Self) {
		if !x.done[place{kind, p}] && (x.slots[place{kind, p}] == nil || x.missingEcho(kind, p)) {
			list = append(list, p)
		}
	}
	return list
}

func (x *Exchange) missingEcho(kind string, p party.ID) bool {
	_, echoed := x.kinds[echoPrefix+kind]
	return echoed && x.slots[place{echoPrefix + kind, p}] == nil
}
