package engine

import (
	"bytes"
	"errors"
	"fmt"
	"math/big"
	"runtime"
	"strings"
	"sync"

	"github.com/bnb-chain/tss-lib/v2/tss"
	golog "github.com/ipfs/go-log"
	"google.golang.org/protobuf/proto"

	"coffer/canon"
	"coffer/keyshare"
	"coffer/party"
)

func init() {
	// tss-lib logs messages and keys' public parts through a global logger, to
	// stderr. The engine reports by events; the library says nothing.
	_ = golog.SetLogLevel("tss-lib", "fatal")
}

// session runs one protocol for one party. One goroutine owns the library's
// party and all fields below owned; others only put messages into the mailbox.
//
// Rounds are strict: a round's messages are kept until all are there, then
// checked together and given to the library together, and only then are the
// next round's looked at. The library would take them in any order, and take a
// second message in place of a first.
type session struct {
	id      canon.Digest
	meta    keyshare.Meta
	parties party.Set
	kinds   map[string]Class
	emit    func(Event)

	mail struct {
		sync.Mutex
		wake     chan struct{}
		messages []Message
		digest   *[32]byte
		dropped  bool
	}

	// owned
	guard    *guard
	table    []check
	unguard  bool // tests of the process boundary only
	ids      map[party.ID]*tss.PartyID
	names    map[string]party.ID // by tss.PartyID.Id
	received map[slot]*inbound
	payloads map[slot][]byte // to tell a repetition from a conflict
	round    int             // whose messages are awaited
	proto    protocol
}

type slot struct {
	kind string
	from party.ID
}

// protocol is what key generation and signing differ in.
type protocol interface {
	// start makes the library's party and starts it.
	start() error
	// before is called with a complete round, own messages included, after the
	// guard; go is false to wait for a release.
	before(round []*inbound) (goOn bool, err error)
	// party is the library's.
	party() tss.Party
	// after hears the library's messages before they are sent; send is false to keep one back.
	after(kind string, content proto.Message) (send bool)
	// outbox is where the library puts its messages.
	outbox() <-chan tss.Message
	// finish is called after each step; done when the session has ended.
	finish() (e Event, done bool, err error)
	lastRound() int
}

func newSession(id canon.Digest, meta keyshare.Meta, parties party.Set, kinds map[string]Class, table []check, emit func(Event)) *session {
	s := &session{
		id: id, meta: meta, parties: parties, kinds: kinds, emit: emit, table: table, round: 1,
		guard:    &guard{need: meta.Quorum.Need, self: meta.Party, parties: parties, moduli: make(map[party.ID]*moduli), thetas: make(map[party.ID]*big.Int)},
		ids:      make(map[party.ID]*tss.PartyID),
		names:    make(map[string]party.ID),
		received: make(map[slot]*inbound), payloads: make(map[slot][]byte),
	}
	s.mail.wake = make(chan struct{}, 1)
	return s
}

// route refuses what only a caller's mistake can produce; it is cheap and runs
// on the caller's goroutine, in the worker's parent too.
func route(kinds map[string]Class, self party.ID, parties party.Set, m Message) error {
	class, ok := kinds[m.Kind]
	want := party.ID("")
	if !class.Broadcast {
		want = self
	}
	switch {
	case !ok:
		return fmt.Errorf("engine: %q is no kind of message of this session", clip(m.Kind))
	case m.From == self || !parties.Has(m.From):
		return fmt.Errorf("engine: %s is from %q, who is not another party of the session", m.Kind, clip(string(m.From)))
	case m.To != want:
		return fmt.Errorf("engine: %s is addressed to %q, want %q", m.Kind, clip(string(m.To)), want)
	}
	return nil
}

func clip(s string) string { return s[:min(len(s), 40)] }

func (s *session) deliver(m Message) {
	s.mail.Lock()
	s.mail.messages = append(s.mail.messages, m)
	s.mail.Unlock()
	s.signal()
}

func (s *session) release(digest [32]byte) error {
	s.mail.Lock()
	defer s.mail.Unlock()
	if s.mail.digest != nil {
		return ErrDigest
	}
	s.mail.digest = &digest
	s.signal()
	return nil
}

// released is the digest, if it was set.
func (s *session) released() *[32]byte {
	s.mail.Lock()
	defer s.mail.Unlock()
	return s.mail.digest
}

func (s *session) drop() {
	s.mail.Lock()
	s.mail.dropped = true
	s.mail.Unlock()
	s.signal()
}

func (s *session) signal() {
	select {
	case s.mail.wake <- struct{}{}:
	default:
	}
}

// take empties the mailbox.
func (s *session) take() (messages []Message, dropped bool) {
	s.mail.Lock()
	defer s.mail.Unlock()
	messages, s.mail.messages = s.mail.messages, nil
	return messages, s.mail.dropped
}

// run is the session's goroutine. It returns the event that ends the session,
// or none when it was dropped.
func (s *session) run() (last Event, ok bool) {
	// The library panics in line too (and may then hold its mutex for ever): the
	// session is over, its party is never called again. What panics in a goroutine
	// of the library ends the process; that is what the worker is for.
	defer func() {
		if recover() != nil {
			last, ok = s.failed(&Fault{Code: CodeProtocol, Text: "the library panicked"}), true
		}
	}()
	if err := s.proto.start(); err != nil {
		return s.failed(s.faultOf(err)), true
	}
	for {
		e, done, err := s.step()
		switch {
		case err != nil:
			return s.failed(s.faultOf(err)), true
		case done:
			return e, true
		}
		<-s.mail.wake
		messages, dropped := s.take()
		if dropped {
			return Event{}, false
		}
		for _, m := range messages {
			if err := s.accept(m); err != nil {
				return s.failed(s.faultOf(err)), true
			}
		}
	}
}

func (s *session) failed(f *Fault) Event { return Event{Session: s.id, Failed: f} }

// accept parses and stores one message; the first of its kind and sender counts.
func (s *session) accept(m Message) error {
	at := slot{m.Kind, m.From}
	if old, have := s.payloads[at]; have {
		if bytes.Equal(old, m.Payload) {
			return nil
		}
		// A second commitment in place of the first would undo commit and reveal.
		return &Fault{Code: CodeConflict, Culprits: []party.ID{m.From}, Text: "two different messages " + m.Kind}
	}
	in, fault := parse(m)
	if fault != nil {
		return fault
	}
	s.payloads[at], s.received[at] = m.Payload, in
	return nil
}

// complete returns the messages of the current round if all are there.
func (s *session) complete() []*inbound {
	var round []*inbound
	for _, id := range s.parties {
		for kind, class := range s.kinds {
			if class.Round != s.round {
				continue
			}
			in := s.received[slot{kind, id}]
			if in == nil {
				if id == s.meta.Party && !class.Broadcast {
					continue // nobody sends itself a direct message
				}
				return nil
			}
			round = append(round, in)
		}
	}
	return round
}

// step sends what the library has made and feeds it as many complete rounds as there are.
func (s *session) step() (Event, bool, error) {
	for {
		if err := s.flush(); err != nil {
			return Event{}, false, err
		}
		if e, done, err := s.proto.finish(); done || err != nil {
			return e, done, err
		}
		round := s.complete()
		if round == nil || s.round > s.proto.lastRound() {
			return Event{}, false, nil
		}
		goOn, err := s.proto.before(round)
		if err != nil {
			return Event{}, false, err
		}
		if !goOn {
			return Event{}, false, nil
		}
		for _, in := range round {
			if in.from == s.meta.Party {
				continue
			}
			if err := s.feed(in); err != nil {
				return Event{}, false, err
			}
		}
		s.round++
	}
}

// check runs the guard over a complete round.
func (s *session) check(round []*inbound) error {
	if s.unguard {
		return nil
	}
	if fault := s.guard.run(s.table, round); fault != nil {
		return fault
	}
	return nil
}

// feed gives the library the object that the guard has checked.
func (s *session) feed(in *inbound) error {
	content, ok := in.content.(tss.MessageContent)
	if !ok {
		return fmt.Errorf("%s is no message of the library", in.kind)
	}
	routing := tss.MessageRouting{From: s.ids[in.from], IsBroadcast: s.kinds[in.kind].Broadcast}
	if !routing.IsBroadcast {
		routing.To = []*tss.PartyID{s.ids[s.meta.Party]}
	}
	_, err := s.proto.party().Update(tss.NewMessage(routing, content, tss.NewMessageWrapper(routing, content)))
	if err != nil {
		return err
	}
	return nil
}

// flush takes over what the library wants sent.
func (s *session) flush() error {
	for {
		select {
		case out := <-s.proto.outbox():
			if err := s.send(out); err != nil {
				return err
			}
		default:
			return nil
		}
	}
}

func (s *session) send(out tss.Message) error {
	parsed, ok := out.(tss.ParsedMessage)
	if !ok {
		return errors.New("the library sent a message of unknown form")
	}
	content := parsed.Content()
	kind := kindOf(content)
	if !s.proto.after(kind, content) {
		return nil
	}
	class, ok := s.kinds[kind]
	if !ok || class.Broadcast != (len(out.GetTo()) == 0) {
		return fmt.Errorf("the library sent a message %q that this protocol does not have", kind)
	}
	payload, err := marshal(content)
	if err != nil {
		return err
	}
	if len(payload) > class.Cap {
		return fmt.Errorf("own %s has %d bytes, more than the cap of %d", kind, len(payload), class.Cap)
	}
	if class.Broadcast {
		s.received[slot{kind, s.meta.Party}] = &inbound{kind: kind, from: s.meta.Party, content: content}
		s.emit(Event{Session: s.id, Out: &Message{Kind: kind, From: s.meta.Party, Payload: payload}})
		return nil
	}
	for _, to := range out.GetTo() {
		name, ok := s.names[to.Id]
		if !ok {
			return errors.New("the library addressed a message to nobody")
		}
		s.emit(Event{Session: s.id, Out: &Message{Kind: kind, From: s.meta.Party, To: name, Payload: payload}})
	}
	return nil
}

func kindOf(content proto.Message) string {
	name := content.ProtoReflect().Descriptor().FullName()
	for kind, empty := range contents {
		if empty().ProtoReflect().Descriptor().FullName() == name {
			return kind
		}
	}
	return ""
}

// parameters makes the library's identifiers and parameters, fresh for each
// session: it writes indices into them.
func (s *session) parameters() (*tss.Parameters, error) {
	keys, err := partyKeys(s.meta, s.parties)
	if err != nil {
		return nil, err
	}
	var unsorted tss.UnSortedPartyIDs
	for i, id := range s.parties {
		p := tss.NewPartyID(string(id), string(id), keys[i])
		s.ids[id], s.names[string(id)] = p, id
		unsorted = append(unsorted, p)
	}
	sorted := tss.SortPartyIDs(unsorted)
	// Quorum.Need is tss-lib's threshold and one: here and nowhere else.
	params := tss.NewParameters(tss.S256(), tss.NewPeerContext(sorted), s.ids[s.meta.Party], len(sorted), s.meta.Quorum.Need-1)
	params.SetConcurrency(max(1, runtime.GOMAXPROCS(0)))
	return params, nil
}

// faultOf names what ended a session. The library's culprits are kept except
// self: it blames the own party where it does not know.
func (s *session) faultOf(err error) *Fault {
	var fault *Fault
	if errors.As(err, &fault) {
		return fault
	}
	f := &Fault{Code: CodeProtocol, Text: err.Error()}
	var lib *tss.Error
	if errors.As(err, &lib) {
		f.Text = fmt.Sprintf("round %d: %s", lib.Round(), strings.Join(strings.Fields(lib.Cause().Error()), " "))
		for _, c := range lib.Culprits() {
			if c == nil {
				continue
			}
			if id, ok := s.names[c.Id]; ok && id != s.meta.Party {
				f.Culprits = append(f.Culprits, id)
			}
		}
	}
	return f
}
