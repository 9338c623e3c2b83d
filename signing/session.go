package signing

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"coffer/canon"
	"coffer/engine"
	"coffer/envelope"
	"coffer/gate"
	"coffer/identity"
	"coffer/keyshare"
	"coffer/partial"
	"coffer/party"
	"coffer/wallet"
)

// RootPath is the one derivation path that wallets have so far.
const RootPath = "m"

// Config describes a session. All but Self, Key, Nonce, Share and Meta.Party is equal
// at all signers.
type Config struct {
	Cluster canon.Digest
	Record  *wallet.Record
	Path    string // RootPath
	Self    party.ID
	Signers party.Set // exactly Need of the record's signers
	Attempt canon.Digest
	Roster  map[party.ID]identity.ID
	Key     *identity.Key
	Nonce   [32]byte // fresh from crypto/rand for every session
	Share   []byte   // sealed; only the engine opens it
	Meta    keyshare.Meta
}

func (c Config) validate() error {
	if c.Record == nil {
		return errors.New("signing: wallet record is not set")
	}
	r, m := c.Record, c.Meta
	switch {
	case c.Cluster != r.Cluster:
		return fmt.Errorf("signing: wallet %q belongs to cluster %s, not to %s", r.Name, r.Cluster.Short(), c.Cluster.Short())
	case c.Path != RootPath:
		return fmt.Errorf("signing: path %q is not the root %q, the only one that wallet %q has", c.Path, RootPath, r.Name)
	case len(c.Signers) != r.Quorum.Need:
		return fmt.Errorf("signing: %d signers, exactly %d take part (quorum %s)", len(c.Signers), r.Quorum.Need, r.Quorum)
	case !c.Signers.SubsetOf(r.Signers):
		return fmt.Errorf("signing: signers %v are not all among wallet %q's %v", c.Signers, r.Name, r.Signers)
	case !c.Signers.Has(c.Self):
		return fmt.Errorf("signing: %q is not one of the signers %v", c.Self, c.Signers)
	case c.Attempt.IsZero():
		return errors.New("signing: attempt is not set")
	case c.Nonce == [32]byte{}:
		return errors.New("signing: nonce is not set")
	case len(c.Share) == 0:
		return errors.New("signing: share is not set")
	// The share's own metadata is authenticated by its seal. Starting with a share of
	// other signers, quorum or epoch fails only in round 9, and blames the wrong one.
	case m.Cluster != r.Cluster, m.Wallet != r.Name, m.Epoch != r.Epoch, m.Party != c.Self,
		m.Quorum != r.Quorum, !m.Signers.Equal(r.Signers), m.Ceremony != r.Ceremony:
		return fmt.Errorf("signing: the share is not %s's share of wallet %q, epoch %d", c.Self, r.Name, r.Epoch)
	}
	return nil
}

// Scope is the part of the configuration that the IDs are made of.
func (c Config) Scope() Scope {
	return Scope{Cluster: c.Cluster, Wallet: c.Record.Name, Epoch: c.Record.Epoch, Path: c.Path, Signers: c.Signers, Attempt: c.Attempt}
}

// Stage is where a session stands; doc.go explains them in order.
type Stage string

// The stages.
const (
	StageNonces   Stage = "nonces"
	StagePrepare  Stage = "prepare"
	StagePrepared Stage = "prepared"
	StageBind     Stage = "bind"
	StageRelease  Stage = "release"
	StageDone     Stage = "done"
	StageFailed   Stage = "failed"
)

// Ready is what the owner must do, in the order of the fields:
//
//  1. Start: record Start.Session in the journal as used (a session ID that was seen
//     before means Abort), sync, then start it in the engine.
//  2. Deliver, then ReleaseDigest, to the engine.
//  3. Partial: record the transaction as signed, sync, and only then hand it out.
//  4. Send, to the authenticated peers.
//
// Before calling Release, which makes a Binding to be sent, the owner has the
// reservation and the audit entry on disk. After Fault it drops the session in the
// engine, still sends Send, and forgets the session.
type Ready struct {
	Start         *engine.SignConfig
	Deliver       []engine.Message
	ReleaseDigest *[32]byte
	Prepared      bool // once: the session waits for Release
	Partial       *partial.Partial
	Send          []envelope.Outbound
	Fault         *engine.Fault // once: the session has failed for good
	Evidence      *envelope.Evidence
	Stage         Stage
}

// Session is one signer's side of one session. It belongs to one goroutine.
//
// Invariants:
//  1. at most one digest is ever released, and only after every signer's Binding to
//     the same transaction is there;
//  2. nothing of round 4 or later leaves before that;
//  3. a failed session does nothing more, whatever it is given.
type Session struct {
	cfg   Config
	run   canon.Digest
	id    canon.Digest
	x     *envelope.Exchange
	kinds map[string]engine.Class

	stage    Stage
	nonces   map[party.ID][32]byte
	bindings map[party.ID]Binding
	digest   [32]byte // set with this signer's own Binding

	ready Ready
	fault *engine.Fault
}

// New checks the configuration and begins with this signer's nonce. Before the first
// Ready is acted on, the owner records Run in its journal as used, and does not go on
// with one that was seen before: two nonces under one run are equivocation, and a
// coordinator that asks twice for one attempt must not make this signer look guilty.
func New(cfg Config) (*Session, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	s := &Session{
		cfg: cfg, run: cfg.Scope().Run(), kinds: engine.SignKinds(), stage: StageNonces,
		nonces:   map[party.ID][32]byte{cfg.Self: cfg.Nonce},
		bindings: map[party.ID]Binding{},
	}
	kinds := Kinds(s.kinds)
	kinds[KindBinding] = envelope.Class{Broadcast: true, Cap: 256} // compared with our own, so no echo
	var err error
	s.x, err = envelope.NewExchange(envelope.Config{
		Cluster: cfg.Cluster, Run: s.run, Self: cfg.Self, Parties: cfg.Signers, Roster: cfg.Roster, Key: cfg.Key, Kinds: kinds,
	})
	if err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	if err := s.x.Send(KindNonce, "", Nonce{s.run, cfg.Nonce}.Encode()); err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	s.pump()
	return s, nil
}

// Kinds gives the engine's kinds their place in an exchange, with the nonces and
// aborts that every run has. Every broadcast of the engine is echoed.
func Kinds(of map[string]engine.Class) map[string]envelope.Class {
	kinds := map[string]envelope.Class{
		KindNonce: {Broadcast: true, Echo: true, Opening: true, Cap: 256},
		KindAbort: {Broadcast: true, Opening: true, Final: true, Cap: 256},
	}
	for kind, c := range of {
		kinds[kind] = envelope.Class{Broadcast: c.Broadcast, Echo: c.Broadcast, Cap: c.Cap}
	}
	return kinds
}

// Run is the routing ID, known from the start.
func (s *Session) Run() canon.Digest { return s.run }

// ID is the session ID, or zero while the nonces are not complete.
func (s *Session) ID() canon.Digest { return s.id }

// Stage is where the session stands.
func (s *Session) Stage() Stage { return s.stage }

// Fault is why the session failed, or nil.
func (s *Session) Fault() *engine.Fault { return s.fault }

// Step takes an envelope from the authenticated peer from. An error means that it
// was refused and changed nothing. A finished session takes late duplicates silently.
func (s *Session) Step(from party.ID, raw []byte) error {
	switch s.stage {
	case StageFailed:
		return ErrEnded
	case StageDone:
		return nil
	default:
	}
	err := s.x.Step(from, raw)
	s.pump()
	return err
}

// pump moves everything on until nothing more follows.
func (s *Session) pump() {
	for s.stage != StageFailed {
		out, in, fault := s.x.Ready()
		if fault != nil {
			s.ready.Evidence = fault.Evidence
			s.fail(fault.Code, fault.Text, fault.Culprits...)
			return
		}
		s.ready.Send = append(s.ready.Send, out...)
		if len(in) == 0 {
			if len(out) == 0 {
				return
			}
			continue
		}
		for _, d := range in {
			if s.stage != StageFailed {
				s.handle(d)
			}
		}
	}
}

func (s *Session) handle(d envelope.Delivered) {
	switch d.Kind {
	case KindNonce:
		s.handleNonce(d)
	case KindBinding:
		s.handleBinding(d)
	case KindAbort:
		s.handleAbort(d)
	default:
		to := s.cfg.Self
		if s.kinds[d.Kind].Broadcast {
			to = ""
		}
		s.ready.Deliver = append(s.ready.Deliver, engine.Message{Kind: d.Kind, From: d.From, To: to, Payload: d.Payload})
	}
}

func (s *Session) handleNonce(d envelope.Delivered) {
	n, err := ParseNonce(d.Payload)
	if err == nil && n.Run != s.run {
		err = fmt.Errorf("%w: nonce is of run %s", ErrMessage, n.Run.Short())
	}
	if err != nil {
		s.fail(CodeMalformed, fmt.Sprintf("%s: %v", d.From, err), d.From)
		return
	}
	s.nonces[d.From] = n.Value
	if s.stage != StageNonces || len(s.nonces) < len(s.cfg.Signers) {
		return
	}
	list := make([][32]byte, 0, len(s.cfg.Signers))
	for _, p := range s.cfg.Signers {
		list = append(list, s.nonces[p])
	}
	s.id = s.cfg.Scope().Session(list)
	s.stage = StagePrepare
	s.ready.Start = &engine.SignConfig{Session: s.id, Meta: s.cfg.Meta, Share: s.cfg.Share, Signers: s.cfg.Signers, Path: s.cfg.Path}
	if err := s.x.Bind(s.id); err != nil {
		s.fail(CodeEngine, err.Error())
	}
}

func (s *Session) handleBinding(d envelope.Delivered) {
	b, err := ParseBinding(d.Payload)
	if err == nil && b.Session != s.id {
		err = fmt.Errorf("%w: binding is of session %s", ErrMessage, b.Session.Short())
	}
	if err != nil {
		s.fail(CodeMalformed, fmt.Sprintf("%s: %v", d.From, err), d.From)
		return
	}
	s.bindings[d.From] = b
	s.compareBindings()
}

// compareBindings releases when all are there and equal. A difference names no
// culprit: a coordinator that asks two honest signers for two transactions makes each
// look guilty to the other.
func (s *Session) compareBindings() {
	var first *Binding
	for _, p := range s.cfg.Signers {
		b, ok := s.bindings[p]
		switch {
		case !ok:
		case first == nil:
			first = &b
		case b != *first:
			var who []string
			for _, p := range s.cfg.Signers {
				if b, ok := s.bindings[p]; ok {
					who = append(who, fmt.Sprintf("%s to transaction %s of intent %s", p, b.Transaction.Short(), b.Intent.Short()))
				}
			}
			s.fail(CodeBindingMismatch, "the signers bound this session differently: "+strings.Join(who, ", ")+"; the request was not the same for all, or one of them lies")
			return
		}
	}
	if s.stage == StageBind && len(s.bindings) == len(s.cfg.Signers) {
		digest := s.digest
		s.stage, s.ready.ReleaseDigest = StageRelease, &digest
	}
}

func (s *Session) handleAbort(d envelope.Delivered) {
	a, err := ParseAbort(d.Payload)
	if err != nil || a.Run != s.run {
		s.fail(CodeMalformed, fmt.Sprintf("%s sent a malformed abort", d.From), d.From)
		return
	}
	s.fail(CodePeerAborted, fmt.Sprintf("%s ended the session: %s", d.From, a.Code))
}

// Release takes the gate's permission, once, after the session is prepared. The
// caller has the reservation on disk: the Binding that this queues may be all that
// the others still need.
func (s *Session) Release(a *gate.Authorized) error {
	switch {
	case !a.Valid():
		return fmt.Errorf("release: %w: it was not made by the gate", ErrNotAuthorized)
	case s.stage == StageDone, s.stage == StageFailed:
		return fmt.Errorf("release: %w", ErrEnded)
	case s.id.IsZero() || a.Session() != s.id:
		return fmt.Errorf("release: %w: it is for session %s, this is %s", ErrNotAuthorized, a.Session().Short(), s.id.Short())
	case s.stage == StageBind, s.stage == StageRelease:
		return fmt.Errorf("release: %w", ErrReleased)
	case s.stage != StagePrepared:
		return fmt.Errorf("release: %w: it is at %s", ErrNotPrepared, s.stage)
	}
	b := Binding{Session: s.id, Intent: a.Intent(), Charter: a.Charter(), Transaction: a.Transaction()}
	if err := s.x.Send(KindBinding, "", b.Encode()); err != nil {
		return fmt.Errorf("release: %w", err)
	}
	s.stage, s.digest = StageBind, a.SigningDigest()
	s.bindings[s.cfg.Self] = b
	s.compareBindings()
	s.pump()
	return nil
}

// Engine takes an event of this session from the engine.
func (s *Session) Engine(ev engine.Event) error {
	if ev.Session != s.id || s.id.IsZero() {
		return fmt.Errorf("signing: event of session %s, this is %s", ev.Session.Short(), s.id.Short())
	}
	if s.stage == StageFailed || s.stage == StageDone {
		return nil // it was on its way when the session ended
	}
	switch {
	case ev.Out != nil:
		s.engineOut(*ev.Out)
	case ev.Prepared:
		if s.stage != StagePrepare {
			s.fail(CodeEngine, fmt.Sprintf("the engine prepared a session at stage %s", s.stage))
			break
		}
		s.stage, s.ready.Prepared = StagePrepared, true
	case ev.Partial != nil:
		if s.stage != StageRelease || ev.Partial.Session != s.id {
			s.fail(CodeEngine, fmt.Sprintf("the engine made a partial of session %s at stage %s", ev.Partial.Session.Short(), s.stage))
			break
		}
		p := *ev.Partial
		s.stage, s.ready.Partial = StageDone, &p
	case ev.Failed != nil:
		s.fail(ev.Failed.Code, ev.Failed.Text, ev.Failed.Culprits...)
	case ev.Keygen != nil:
		s.fail(CodeEngine, "the engine answered a signing session with a key")
	}
	s.pump()
	return nil
}

func (s *Session) engineOut(m engine.Message) {
	// Round 4 reveals this signer's part of R. Whatever the worker does, it does not
	// leave before every Binding is there.
	if s.kinds[m.Kind].Round > 3 && s.stage != StageRelease {
		s.fail(CodeEngine, fmt.Sprintf("the engine sent %s at stage %s", m.Kind, s.stage))
		return
	}
	if err := s.x.Send(m.Kind, m.To, m.Payload); err != nil {
		s.fail(CodeEngine, err.Error())
	}
}

// Abort ends the session for a reason of the owner's: a refusal of the gate, a
// deadline, a freeze, a session ID that the journal has seen.
func (s *Session) Abort(code, text string) {
	if s.stage != StageDone {
		s.fail(code, text)
	}
}

func (s *Session) fail(code, text string, culprits ...party.ID) {
	if s.stage == StageFailed {
		return
	}
	s.stage = StageFailed
	s.fault = &engine.Fault{Code: code, Culprits: culprits, Text: text}
	// Whatever was not yet taken must not happen any more: neither a Binding nor a release.
	s.ready = Ready{Fault: s.fault, Evidence: s.ready.Evidence}
	if s.x.Send(KindAbort, "", Abort{s.run, code}.Encode()) == nil {
		out, _, _ := s.x.Ready()
		for _, o := range out {
			if e, err := envelope.Parse(o.Raw); err == nil && e.Kind == KindAbort {
				s.ready.Send = append(s.ready.Send, o)
			}
		}
	}
}

// Ready hands over what is to be done since the last call.
func (s *Session) Ready() Ready {
	r := s.ready
	r.Stage = s.stage
	s.ready = Ready{}
	return r
}

// Awaited names the signers from whom something is missing, for the text of a time-out.
func (s *Session) Awaited() party.Set {
	var kinds []string
	switch s.stage {
	case StageNonces:
		kinds = []string{KindNonce}
	case StageBind:
		kinds = []string{KindBinding}
	case StagePrepare, StageRelease:
		kinds = slices.SortedFunc(maps.Keys(s.kinds), func(a, b string) int {
			if c := s.kinds[a].Round - s.kinds[b].Round; c != 0 {
				return c
			}
			return strings.Compare(a, b)
		})
	default:
	}
	for _, kind := range kinds {
		if w := s.x.Awaited(kind); len(w) > 0 {
			return w
		}
	}
	return nil
}
