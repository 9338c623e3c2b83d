package dkg

import (
	"bytes"
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
	"coffer/signing"
	"coffer/wallet"
)

// firstEpoch is the epoch of the shares of a key generation.
const firstEpoch = 1

// Config describes a ceremony. Cluster to Signers repeat what the authority says,
// and New refuses a difference.
type Config struct {
	Authority *gate.Ceremony
	Cluster   canon.Digest
	Charter   canon.Digest
	Wallet    string
	Quorum    party.Quorum
	Signers   party.Set

	Self           party.ID
	Attempt        canon.Digest // chosen by who asks for the ceremony, fresh each time
	Roster         map[party.ID]identity.ID
	Key            *identity.Key
	Nonce          [32]byte // fresh from crypto/rand
	ChainCodeShare [32]byte // fresh from crypto/rand
	// PreParams is sealed. It may stay empty; then the owner puts it into Ready.Start,
	// so that a ceremony that fails for want of a nonce costs no search for primes.
	PreParams []byte

	// Proved is the record of a ceremony of this wallet that broke off after this signer
	// had proved its share, if there is one; Signed says that this signer has signed it.
	// When all signers have the same, this ceremony finishes that one.
	Proved *wallet.Record
	Signed bool
}

func (c Config) terms() (Terms, error) {
	a := c.Authority
	if !a.Valid() {
		return Terms{}, fmt.Errorf("dkg: %w: the permission was not made by the gate", ErrNotAuthorized)
	}
	t := Terms{Cluster: a.Cluster(), Charter: a.Charter(), Intent: a.Intent(), Wallet: a.Wallet(), Quorum: a.Quorum(), Signers: a.Signers()}
	if c.Cluster != t.Cluster || c.Charter != t.Charter || c.Wallet != t.Wallet || c.Quorum != t.Quorum || !c.Signers.Equal(t.Signers) {
		return Terms{}, fmt.Errorf("dkg: %w: the permission is for wallet %q, %s of %v under charter %s", ErrNotAuthorized, t.Wallet, t.Quorum, t.Signers, t.Charter.Short())
	}
	return t, nil
}

func (c Config) validate(t Terms) error {
	if err := t.Quorum.Validate(); err != nil {
		return fmt.Errorf("dkg: %w", err)
	}
	switch {
	case len(t.Signers) != t.Quorum.Of:
		return fmt.Errorf("dkg: %d signers for a quorum of %s", len(t.Signers), t.Quorum)
	case !t.Signers.Has(c.Self):
		return fmt.Errorf("dkg: %q is not one of the signers %v", c.Self, t.Signers)
	case c.Attempt.IsZero():
		return errors.New("dkg: attempt is not set")
	case c.Nonce == [32]byte{}:
		return errors.New("dkg: nonce is not set")
	case c.ChainCodeShare == [32]byte{}:
		return errors.New("dkg: share of the chain code is not set")
	case c.Signed && c.Proved == nil:
		return errors.New("dkg: a record that was signed and is not known cannot be finished")
	}
	if r := c.Proved; r != nil && (r.Validate() != nil || r.Cluster != t.Cluster || r.Charter != t.Charter || r.Name != t.Wallet ||
		r.Epoch != firstEpoch || r.Quorum != t.Quorum || !r.Signers.Equal(t.Signers)) {
		return fmt.Errorf("dkg: the record that was proved is not of wallet %q, %s of %v under charter %s", t.Wallet, t.Quorum, t.Signers, t.Charter.Short())
	}
	return nil
}

// PendingShare is what must be on disk before the challenges begin.
type PendingShare struct {
	Meta   keyshare.Meta
	Sealed []byte
	Public []byte        // the engine's canonical public data
	Record wallet.Record // not yet signed by anybody
}

// Delivery is a message for a session of the engine.
type Delivery struct {
	Session canon.Digest
	Message engine.Message
}

// Release is the digest of a challenge session.
type Release struct {
	Session canon.Digest
	Digest  [32]byte
}

// Ready is what the owner must do, in the order of the fields:
//
//  1. Forget: drop the pending share of that earlier ceremony and its proof, sync. Some
//     signer does not have it, so nobody can have signed its record but by a lie.
//  2. Start, StartSign: record the session in the journal as used (one that was seen
//     before means Abort), sync, then start it in the engine. An empty Start.PreParams
//     is filled first, from the pool, with the set consumed for this session.
//  3. Deliver, then Release, to the engine.
//  4. Store: put the share on disk as pending, sync, then call Stored.
//  5. Prove: note the record as proved, sync, then call Noted.
//  6. Done: make the share active together with the record, in one transaction, sync;
//     only then tell anybody that the wallet exists.
//  7. Send, to the authenticated peers.
//
// After Fault the owner drops Drop in the engine and still sends Send. It keeps a
// pending share if Proved says so.
type Ready struct {
	Forget    *wallet.Record
	Start     *engine.KeygenConfig
	StartSign []engine.SignConfig
	Deliver   []Delivery
	Release   []Release
	Store     *PendingShare
	Prove     *wallet.Record
	Done      *wallet.Signed
	Send      []envelope.Outbound
	Fault     *engine.Fault // once: the ceremony has failed for good
	Evidence  *envelope.Evidence
	Drop      []canon.Digest // sessions that may still run in the engine
	Stage     State
}

// challenge is one quorum's test signature.
type challenge struct {
	quorum   party.Set
	run      canon.Digest
	session  *signing.Session // nil before the share is stored, and for observers
	partials map[party.ID]partial.Partial
	verified bool
}

// Ceremony is one signer's side of a key generation. It belongs to one goroutine.
type Ceremony struct {
	cfg   Config
	terms Terms
	run   canon.Digest
	id    canon.Digest
	x     *envelope.Exchange
	state State

	nonces      map[party.ID][32]byte
	haves       map[party.ID]canon.Digest
	commits     map[party.ID]canon.Digest
	reveals     map[party.ID][32]byte
	chainCode   [32]byte
	held        []Delivery // for the engine, before it is started: one message of each kind and peer at most
	keygen      *engine.KeygenResult
	confirms    map[party.ID][]byte
	record      *wallet.Record
	challenges  []*challenge
	early       *envelope.Early // challenge messages of signers that stored before us
	proofs      map[party.ID]bool
	isProved    bool // the proof is on this signer's disk
	attests     map[party.ID]Attestation
	attested    map[party.ID]Attested
	signatures  map[party.ID][]byte
	hasAttested bool

	started []canon.Digest
	ready   Ready
	fault   *engine.Fault
}

// New checks the permission and begins with this signer's nonce. Before the first
// Ready is acted on, the owner records Run in its journal as used, and does not go on
// with one that was seen before: two nonces under one run are equivocation.
func New(cfg Config) (*Ceremony, error) {
	terms, err := cfg.terms()
	if err != nil {
		return nil, err
	}
	return begin(cfg, terms)
}

func begin(cfg Config, terms Terms) (*Ceremony, error) {
	if err := cfg.validate(terms); err != nil {
		return nil, err
	}
	c := &Ceremony{
		cfg: cfg, terms: terms, run: terms.Run(cfg.Attempt), state: StateNonces,
		nonces:   map[party.ID][32]byte{cfg.Self: cfg.Nonce},
		haves:    map[party.ID]canon.Digest{cfg.Self: {}},
		commits:  map[party.ID]canon.Digest{},
		reveals:  map[party.ID][32]byte{cfg.Self: cfg.ChainCodeShare},
		confirms: map[party.ID][]byte{},
		// Before this signer takes part a peer can have sent its nonce and an abort for
		// each of at most two challenges; the rest of the room is for repeated sends.
		early:      envelope.NewEarly(envelope.Limits{Messages: 8, Bytes: 16 << 10, Age: 1}),
		proofs:     map[party.ID]bool{},
		attests:    map[party.ID]Attestation{},
		attested:   map[party.ID]Attested{},
		signatures: map[party.ID][]byte{},
	}
	kinds := signing.Kinds(engine.KeygenKinds())
	kinds[KindCommit] = envelope.Class{Broadcast: true, Echo: true, Cap: 256}
	// The rest needs no echo: a commitment has one opening, confirmations are compared
	// with our own, and a difference in what follows ends in no record.
	kinds[KindReveal] = envelope.Class{Broadcast: true, Cap: 256}
	// As the nonces, and before them: what all have decides which way the ceremony goes.
	kinds[KindHave] = envelope.Class{Broadcast: true, Echo: true, Opening: true, Cap: 256}
	kinds[KindProved] = envelope.Class{Broadcast: true, Cap: 256}
	kinds[KindConfirm] = envelope.Class{Broadcast: true, Cap: 2048}
	kinds[KindAttest] = envelope.Class{Broadcast: true, Cap: 512}
	kinds[KindAttested] = envelope.Class{Broadcast: true, Cap: 256 + maxParties*68}
	for i, quorum := range Quorums(terms.Quorum, terms.Signers) {
		kinds[partialKind(i)] = envelope.Class{Broadcast: true, Cap: 512}
		c.challenges = append(c.challenges, &challenge{quorum: quorum, partials: map[party.ID]partial.Partial{}, run: signing.Scope{
			Cluster: terms.Cluster, Wallet: terms.Wallet, Epoch: firstEpoch, Path: signing.RootPath, Signers: quorum, Attempt: c.attempt(i),
		}.Run()})
	}
	var err error
	c.x, err = envelope.NewExchange(envelope.Config{
		Cluster: terms.Cluster, Run: c.run, Self: cfg.Self, Parties: terms.Signers, Roster: cfg.Roster, Key: cfg.Key, Kinds: kinds,
	})
	if err != nil {
		return nil, fmt.Errorf("dkg: %w", err)
	}
	if cfg.Proved != nil {
		c.haves[cfg.Self], c.isProved = cfg.Proved.Digest(), true
	}
	err = errors.Join(
		c.x.Send(signing.KindNonce, "", signing.Nonce{Run: c.run, Value: cfg.Nonce}.Encode()),
		c.x.Send(KindHave, "", Have{c.run, c.haves[cfg.Self]}.Encode()),
	)
	if err != nil {
		return nil, fmt.Errorf("dkg: %w", err)
	}
	c.pump()
	return c, nil
}

// Quorums are the quorums whose challenge signatures a ceremony demands: the same at
// every signer, and every signer in at least one. As more than half take part in
// each, there are at most two.
func Quorums(q party.Quorum, signers party.Set) []party.Set {
	var list []party.Set
	for i := 0; i < len(signers); i += q.Need {
		from := min(i, len(signers)-q.Need)
		list = append(list, slices.Clone(signers[from:from+q.Need]))
	}
	return list
}

func partialKind(i int) string { return fmt.Sprintf("%s-%d", KindPartial, i) }

// attempt is fixed by the run, so that messages of a challenge can be routed before
// the ceremony has come to it.
func (c *Ceremony) attempt(i int) canon.Digest {
	return canon.New(attemptDomain).Digest(c.run).Uint64(uint64(i)).Sum()
}

// nonce of a challenge is fresh because the ceremony's ID is.
func (c *Ceremony) nonce(i int) [32]byte {
	return canon.New(nonceDomain).Digest(c.id).Digest(c.cfg.Nonce).String(string(c.cfg.Self)).Uint64(uint64(i)).Sum()
}

// Run is the ceremony's own routing ID.
func (c *Ceremony) Run() canon.Digest { return c.run }

// Routes are all routing IDs whose envelopes belong to this ceremony, known from the
// start: its own, and those of the challenges in which this signer takes part.
func (c *Ceremony) Routes() []canon.Digest {
	list := []canon.Digest{c.run}
	for _, ch := range c.challenges {
		if ch.quorum.Has(c.cfg.Self) {
			list = append(list, ch.run)
		}
	}
	return list
}

// ID is the ceremony's ID, or zero while the nonces are not complete. Of one that
// finishes an earlier ceremony it is that one's.
func (c *Ceremony) ID() canon.Digest { return c.id }

// Record is the record that this signer is to sign, or nil before it is known.
func (c *Ceremony) Record() *wallet.Record { return c.record }

// State is where the ceremony stands.
func (c *Ceremony) State() State { return c.state }

// Fault is why the ceremony failed, or nil.
func (c *Ceremony) Fault() *engine.Fault { return c.fault }

// Proved reports whether this signer's proof is on disk. From then on the others may sign
// the record: the pending share must be kept even if the ceremony fails here, because
// the next one can finish it, or a record with all signatures turn up.
func (c *Ceremony) Proved() bool { return c.isProved }

// Attested reports whether this signer's signature under the wallet record left.
func (c *Ceremony) Attested() bool { return c.hasAttested }

// Step takes an envelope from the authenticated peer from. An error means that it was
// refused and changed nothing.
func (c *Ceremony) Step(from party.ID, raw []byte) error {
	switch c.state {
	case StateFailed:
		return ErrEnded
	case StateDone:
		return nil
	default:
	}
	err := c.route(from, raw)
	c.pump()
	return err
}

func (c *Ceremony) route(from party.ID, raw []byte) error {
	e, err := envelope.Parse(raw)
	if err != nil {
		return err
	}
	for _, ch := range c.challenges {
		switch {
		case e.Run != ch.run:
		case !ch.quorum.Has(c.cfg.Self) || !ch.quorum.Has(from):
			return fmt.Errorf("%w: challenge of %v", envelope.ErrRoute, ch.quorum)
		case ch.session != nil:
			return ch.session.Step(from, raw)
		case e.Kind != signing.KindNonce && e.Kind != signing.KindAbort:
			// Everything else needs our nonce, which we have not sent.
			return fmt.Errorf("%w: %s before the challenge has begun here", envelope.ErrKind, e.Kind)
		default:
			return c.early.Add(0, from, ch.run, raw)
		}
	}
	return c.x.Step(from, raw)
}

// move goes to another state; a move that the table does not list is a defect of
// this package, and ends the ceremony rather than going on in an unknown order.
func (c *Ceremony) move(to State) bool {
	if !Legal(c.state, to) {
		c.fail(signing.CodeEngine, fmt.Sprintf("no move leads from %s to %s", c.state, to))
		return false
	}
	c.state = to
	return true
}

// pump moves everything on until nothing more follows.
func (c *Ceremony) pump() {
	for c.state != StateFailed {
		out, in, fault := c.x.Ready()
		if fault != nil {
			c.ready.Evidence = fault.Evidence
			c.fail(fault.Code, fault.Text, fault.Culprits...)
			return
		}
		moved := len(out)+len(in) > 0
		c.ready.Send = append(c.ready.Send, out...)
		for _, d := range in {
			if c.state != StateFailed {
				c.handle(d)
			}
		}
		for i, ch := range c.challenges {
			if ch.session != nil && c.state != StateFailed {
				moved = c.takeChallenge(i, ch) || moved
			}
		}
		if !moved {
			return
		}
	}
}

func (c *Ceremony) handle(d envelope.Delivered) {
	var err error
	switch kind, _, _ := strings.Cut(d.Kind, "-"); kind {
	case signing.KindNonce:
		err = c.handleNonce(d)
	case signing.KindAbort:
		err = c.handleAbort(d)
	case KindHave:
		err = c.handleHave(d)
	case KindCommit:
		err = c.handleCommit(d)
	case KindReveal:
		err = c.handleReveal(d)
	case KindConfirm:
		c.confirms[d.From] = d.Payload
		c.compareConfirms()
	case KindPartial:
		err = c.handlePartial(d)
	case KindProved:
		err = c.handleProved(d)
	case KindAttest:
		err = c.handleAttest(d)
	case KindAttested:
		err = c.handleAttested(d)
	default:
		to := c.cfg.Self
		if engine.KeygenKinds()[d.Kind].Broadcast {
			to = ""
		}
		m := Delivery{c.id, engine.Message{Kind: d.Kind, From: d.From, To: to, Payload: d.Payload}}
		if c.state == StateCommit || c.state == StateReveal {
			// A peer that has our opening may begin before we have all the others'.
			c.held = append(c.held, m)
			break
		}
		c.ready.Deliver = append(c.ready.Deliver, m)
	}
	if err != nil {
		c.fail(signing.CodeMalformed, fmt.Sprintf("%s: %v", d.From, err), d.From)
	}
}

// ours refuses a message that was made for another ceremony.
func (c *Ceremony) ours(ceremony canon.Digest) error {
	if ceremony != c.id {
		return fmt.Errorf("%w: it is of ceremony %s", ErrMessage, ceremony.Short())
	}
	return nil
}

func (c *Ceremony) send(kind string, payload []byte) {
	if err := c.x.Send(kind, "", payload); err != nil {
		c.fail(signing.CodeEngine, err.Error())
	}
}

func (c *Ceremony) handleNonce(d envelope.Delivered) error {
	n, err := signing.ParseNonce(d.Payload)
	if err != nil {
		return err
	}
	if n.Run != c.run {
		return fmt.Errorf("%w: nonce of run %s", ErrMessage, n.Run.Short())
	}
	c.nonces[d.From] = n.Value
	c.open()
	return nil
}

func (c *Ceremony) handleHave(d envelope.Delivered) error {
	h, err := ParseHave(d.Payload)
	if err != nil {
		return err
	}
	if h.Run != c.run {
		return fmt.Errorf("%w: word of run %s", ErrMessage, h.Run.Short())
	}
	c.haves[d.From] = h.Record
	c.open()
	return nil
}

// open begins when the nonces and the words of all are there. All have proved the same
// ceremony: it is finished. Somebody has not: then nobody but a liar has signed its
// record, and whoever has proved it forgets it, for the sake of a new one. Whoever has
// signed it forgets nothing, ever: there is no second key for its wallet's name.
func (c *Ceremony) open() {
	if c.state != StateNonces || len(c.nonces) < len(c.terms.Signers) || len(c.haves) < len(c.terms.Signers) {
		return
	}
	list := make([][32]byte, 0, len(c.terms.Signers))
	for _, p := range c.terms.Signers {
		list = append(list, c.nonces[p])
	}
	session := c.terms.Ceremony(c.cfg.Attempt, list)
	if err := c.x.Bind(session); err != nil {
		c.fail(signing.CodeEngine, err.Error())
		return
	}
	if c.x.Fault() != nil {
		return // what waited was of another session; pump reports it
	}
	if mine := c.haves[c.cfg.Self]; c.cfg.Proved != nil {
		for _, p := range c.terms.Signers {
			if c.haves[p] == mine {
				continue
			}
			if c.cfg.Signed {
				c.fail(CodeSigned, fmt.Sprintf("%s does not have the ceremony whose record (%s of wallet %q) this signer has signed; the record may turn up complete: choose another name", p, mine.Short(), c.terms.Wallet))
				return
			}
			c.ready.Forget, c.isProved = c.cfg.Proved, false
		}
		if c.ready.Forget == nil {
			c.id, c.record = c.cfg.Proved.Ceremony, c.cfg.Proved
			if c.move(StateRecord) {
				c.attest()
			}
			return
		}
	}
	if !c.move(StateCommit) {
		return
	}
	c.id = session
	commitment := ShareCommitment(c.id, c.cfg.Self, c.cfg.ChainCodeShare)
	c.commits[c.cfg.Self] = commitment
	c.send(KindCommit, Commit{c.id, commitment}.Encode())
}

// handleAbort believes a peer that gives up. After the proof is on disk that costs no
// more than another try, which finishes the ceremony.
func (c *Ceremony) handleAbort(d envelope.Delivered) error {
	a, err := signing.ParseAbort(d.Payload)
	if err != nil {
		return err
	}
	if a.Run != c.run {
		return fmt.Errorf("%w: abort of run %s", ErrMessage, a.Run.Short())
	}
	c.fail(signing.CodePeerAborted, fmt.Sprintf("%s ended the ceremony: %s", d.From, a.Code))
	return nil
}

func (c *Ceremony) handleCommit(d envelope.Delivered) error {
	m, err := ParseCommit(d.Payload)
	if err == nil {
		err = c.ours(m.Ceremony)
	}
	if err != nil {
		return err
	}
	c.commits[d.From] = m.Commitment
	if len(c.commits) < len(c.terms.Signers) || !c.move(StateReveal) {
		return nil
	}
	// Only now: nobody can choose its part after it has seen another's.
	c.send(KindReveal, Reveal{c.id, c.cfg.ChainCodeShare}.Encode())
	c.checkReveals()
	return nil
}

func (c *Ceremony) handleReveal(d envelope.Delivered) error {
	m, err := ParseReveal(d.Payload)
	if err == nil {
		err = c.ours(m.Ceremony)
	}
	if err != nil {
		return err
	}
	c.reveals[d.From] = m.Share
	c.checkReveals()
	return nil
}

func (c *Ceremony) checkReveals() {
	if c.state != StateReveal || len(c.reveals) < len(c.terms.Signers) {
		return
	}
	for _, p := range c.terms.Signers {
		if ShareCommitment(c.id, p, c.reveals[p]) != c.commits[p] {
			c.fail(CodeReveal, fmt.Sprintf("%s's part of the chain code is not the one that it committed to", p), p)
			return
		}
	}
	if !c.move(StateKeygen) {
		return
	}
	c.chainCode = ChainCode(c.id, c.terms.Signers, c.reveals)
	c.started = append(c.started, c.id)
	c.ready.Start = &engine.KeygenConfig{Session: c.id, Meta: c.meta(), PreParams: c.cfg.PreParams}
	c.ready.Deliver, c.held = append(c.ready.Deliver, c.held...), nil
}

func (c *Ceremony) meta() keyshare.Meta {
	return keyshare.Meta{Cluster: c.terms.Cluster, Wallet: c.terms.Wallet, Epoch: firstEpoch, Party: c.cfg.Self,
		Quorum: c.terms.Quorum, Signers: c.terms.Signers, Ceremony: c.id}
}

// Engine takes an event of the key generation or of a challenge from the engine.
func (c *Ceremony) Engine(ev engine.Event) error {
	if !slices.Contains(c.started, ev.Session) {
		return fmt.Errorf("dkg: event of session %s, which this ceremony did not start", ev.Session.Short())
	}
	if c.state == StateFailed || c.state == StateDone {
		return nil // it was on its way when the ceremony ended
	}
	var err error
	if ev.Session == c.id {
		c.keygenEvent(ev)
	} else {
		for _, ch := range c.challenges {
			if ch.session != nil && ch.session.ID() == ev.Session {
				err = ch.session.Engine(ev)
			}
		}
	}
	c.pump()
	return err
}

func (c *Ceremony) keygenEvent(ev engine.Event) {
	switch {
	case ev.Out != nil:
		if err := c.x.Send(ev.Out.Kind, ev.Out.To, ev.Out.Payload); err != nil {
			c.fail(signing.CodeEngine, err.Error())
		}
	case ev.Failed != nil:
		c.fail(ev.Failed.Code, ev.Failed.Text, ev.Failed.Culprits...)
	case ev.Partial != nil, ev.Prepared:
		c.fail(signing.CodeEngine, "the engine answered a key generation with a signature")
	case ev.Keygen != nil:
		if c.state != StateKeygen {
			c.fail(signing.CodeEngine, fmt.Sprintf("the engine made a key at %s", c.state))
			return
		}
		c.finishKeygen(*ev.Keygen)
	}
}

func (c *Ceremony) finishKeygen(r engine.KeygenResult) {
	record := &wallet.Record{
		Cluster: c.terms.Cluster, Charter: c.terms.Charter, Name: c.terms.Wallet, PublicKey: r.PublicKey, ChainCode: c.chainCode,
		Paths: signing.RootPath, Epoch: firstEpoch, Quorum: c.terms.Quorum, Signers: c.terms.Signers, Ceremony: c.id,
	}
	if err := record.Validate(); err != nil || len(r.Sealed) == 0 || len(r.Public) == 0 {
		c.fail(signing.CodeEngine, fmt.Sprintf("the engine's key cannot be used: %v", err))
		return
	}
	if !c.move(StateConfirm) {
		return
	}
	c.keygen, c.record = &r, record
	mine := Confirm{Terms: c.terms, Ceremony: c.id, Epoch: firstEpoch, PublicKey: r.PublicKey, ChainCode: c.chainCode, Public: canon.Sum(r.Public)}.Encode()
	c.confirms[c.cfg.Self] = mine
	c.send(KindConfirm, mine)
	c.compareConfirms()
}

// compareConfirms names whoever differs: all broadcasts of key generation were echoed,
// so from the same messages an honest signer computes the same public data.
func (c *Ceremony) compareConfirms() {
	mine := c.confirms[c.cfg.Self]
	if c.state != StateConfirm || mine == nil {
		return
	}
	for _, p := range c.terms.Signers {
		theirs := c.confirms[p]
		if theirs == nil || bytes.Equal(theirs, mine) {
			continue
		}
		field := "form"
		if t, err := ParseConfirm(theirs); err == nil {
			own, _ := ParseConfirm(mine)
			field = own.differs(t)
		}
		c.fail(CodeConfirm, fmt.Sprintf("%s ended key generation with another %s", p, field), p)
		return
	}
	if len(c.confirms) < len(c.terms.Signers) || !c.move(StateStore) {
		return
	}
	c.ready.Store = &PendingShare{Meta: c.meta(), Sealed: c.keygen.Sealed, Public: c.keygen.Public, Record: *c.record}
}

// Stored says that the pending share is on disk; the challenges begin. Taking part in
// one shows the others that this signer has stored its share.
func (c *Ceremony) Stored() error {
	if c.state == StateFailed || c.state == StateDone {
		return ErrEnded
	}
	if c.state != StateStore {
		return fmt.Errorf("%w: the ceremony is at %s", ErrNotPending, c.state)
	}
	if !c.move(StateChallenge) {
		return nil
	}
	for i, ch := range c.challenges {
		if !ch.quorum.Has(c.cfg.Self) {
			continue
		}
		s, err := signing.New(signing.Config{
			Cluster: c.terms.Cluster, Record: c.record, Path: signing.RootPath, Self: c.cfg.Self, Signers: ch.quorum, Attempt: c.attempt(i),
			Roster: c.cfg.Roster, Key: c.cfg.Key, Nonce: c.nonce(i), Share: c.keygen.Sealed, Meta: c.meta(),
		})
		if err != nil {
			c.fail(signing.CodeEngine, err.Error())
			break
		}
		ch.session = s
		for _, p := range c.early.Take(ch.run, ch.quorum) {
			// A refusal here is what it would have been on arrival: no effect.
			_ = s.Step(p.From, p.Raw)
		}
	}
	c.verifyChallenges()
	c.pump()
	return nil
}

// takeChallenge passes on what a challenge session has ready.
func (c *Ceremony) takeChallenge(i int, ch *challenge) bool {
	r := ch.session.Ready()
	if r.Fault != nil {
		c.ready.Evidence = r.Evidence
		c.fail(r.Fault.Code, fmt.Sprintf("challenge of %v: %s", ch.quorum, r.Fault.Text), r.Fault.Culprits...)
		return false
	}
	if r.Start != nil {
		c.started = append(c.started, r.Start.Session)
		c.ready.StartSign = append(c.ready.StartSign, *r.Start)
	}
	for _, m := range r.Deliver {
		c.ready.Deliver = append(c.ready.Deliver, Delivery{ch.session.ID(), m})
	}
	if r.ReleaseDigest != nil {
		c.ready.Release = append(c.ready.Release, Release{ch.session.ID(), *r.ReleaseDigest})
	}
	c.ready.Send = append(c.ready.Send, r.Send...)
	if r.Prepared {
		if err := ch.session.Release(gate.Challenge(ch.session.ID(), c.record, c.id)); err != nil {
			c.fail(signing.CodeEngine, err.Error())
			return false
		}
	}
	if r.Partial != nil {
		ch.partials[c.cfg.Self] = *r.Partial
		c.send(partialKind(i), Partial{c.id, uint64(i), *r.Partial}.Encode())
		c.verifyChallenges()
	}
	return r.Start != nil || r.Prepared || r.Partial != nil || len(r.Send) > 0
}

func (c *Ceremony) handlePartial(d envelope.Delivered) error {
	m, err := ParsePartial(d.Payload)
	if err == nil {
		err = c.ours(m.Ceremony)
	}
	if err != nil {
		return err
	}
	if m.Challenge >= uint64(len(c.challenges)) || d.Kind != partialKind(int(m.Challenge)) || !c.challenges[m.Challenge].quorum.Has(d.From) {
		return fmt.Errorf("%w: partial of challenge %d, in which its sender has no part", ErrMessage, m.Challenge)
	}
	c.challenges[m.Challenge].partials[d.From] = m.Partial
	c.verifyChallenges()
	return nil
}

// verifyChallenges combines what is complete, at every signer; when all of it verifies
// the proof is to be noted.
func (c *Ceremony) verifyChallenges() {
	if c.state != StateChallenge {
		return
	}
	for _, ch := range c.challenges {
		if ch.verified {
			continue
		}
		mine, inside := ch.partials[c.cfg.Self]
		list := make([]partial.Partial, 0, len(ch.quorum))
		for _, p := range ch.quorum {
			got, ok := ch.partials[p]
			if !ok {
				continue
			}
			// Session and R follow from echoed broadcasts: who took part and says
			// otherwise lies. A wrong s can be laid at nobody's door.
			if inside && (got.Session != mine.Session || got.R != mine.R) {
				c.fail(CodeChallenge, fmt.Sprintf("%s's partial is of another session or nonce point", p), p)
				return
			}
			list = append(list, got)
		}
		if len(list) < len(ch.quorum) {
			return
		}
		a := gate.Challenge(list[0].Session, c.record, c.id)
		if !a.Valid() {
			c.fail(CodeChallenge, fmt.Sprintf("partials of %v name no session", ch.quorum))
			return
		}
		if _, err := partial.Combine(a.SigningDigest(), c.record.PublicKey, c.terms.Quorum.Need, list); err != nil {
			c.fail(CodeChallenge, fmt.Sprintf("challenge of %v: %v", ch.quorum, err))
			return
		}
		ch.verified = true
	}
	if c.move(StateProved) {
		c.ready.Prove = c.record
	}
}

// Noted says that the proof is on disk: this signer can finish the ceremony whenever the
// others can. The record is signed when all have said so.
func (c *Ceremony) Noted() error {
	if c.state == StateFailed || c.state == StateDone {
		return ErrEnded
	}
	if c.state != StateProved || c.isProved {
		return fmt.Errorf("%w: the ceremony is at %s", ErrNotProving, c.state)
	}
	c.isProved, c.proofs[c.cfg.Self] = true, true
	c.send(KindProved, Proved{c.id, c.record.Digest()}.Encode())
	c.checkProofs()
	c.pump()
	return nil
}

func (c *Ceremony) handleProved(d envelope.Delivered) error {
	m, err := ParseProved(d.Payload)
	if err == nil {
		err = c.ours(m.Ceremony)
	}
	if err != nil {
		return err
	}
	if c.record == nil || m.Record != c.record.Digest() {
		return fmt.Errorf("%w: proof of record %s", ErrMessage, m.Record.Short())
	}
	c.proofs[d.From] = true
	c.checkProofs()
	return nil
}

func (c *Ceremony) checkProofs() {
	if c.state == StateProved && len(c.proofs) == len(c.terms.Signers) && c.move(StateRecord) {
		c.attest()
	}
}

// attest signs the record. Wherever this signature is, every honest signer can finish
// the ceremony from its disk.
func (c *Ceremony) attest() {
	a := Attestation{Ceremony: c.id, Record: c.record.Digest(), Signature: [64]byte(c.cfg.Key.Sign(c.record.Encode()))}
	c.attests[c.cfg.Self] = a
	c.send(KindAttest, a.Encode())
	c.completeRecord()
}

func (c *Ceremony) handleAttest(d envelope.Delivered) error {
	m, err := ParseAttestation(d.Payload)
	if err == nil {
		err = c.ours(m.Ceremony)
	}
	if err != nil {
		return err
	}
	c.attests[d.From] = m
	c.completeRecord()
	return nil
}

func (c *Ceremony) handleAttested(d envelope.Delivered) error {
	m, err := ParseAttested(d.Payload)
	if err == nil {
		err = c.ours(m.Ceremony)
	}
	if err != nil {
		return err
	}
	if len(m.Signatures) != len(c.terms.Signers) {
		return fmt.Errorf("%w: %d signatures of %d signers", ErrMessage, len(m.Signatures), len(c.terms.Signers))
	}
	c.attested[d.From] = m
	c.completeRecord()
	return nil
}

// completeRecord ends the ceremony when every signer's signature is there, from
// itself or from somebody who has them all.
func (c *Ceremony) completeRecord() {
	if c.state != StateRecord {
		return
	}
	raw, digest := c.record.Encode(), c.record.Digest()
	take := func(from, signer party.ID, record canon.Digest, sig []byte) bool {
		if record == digest && c.cfg.Roster[signer].Verify(raw, sig) == nil {
			c.signatures[signer] = sig
			return true
		}
		c.fail(CodeAttestation, fmt.Sprintf("the signature of %s under the wallet record, sent by %s, does not verify", signer, from), from)
		return false
	}
	for _, p := range c.terms.Signers {
		if a, ok := c.attests[p]; ok && c.signatures[p] == nil && !take(p, p, a.Record, a.Signature[:]) {
			return
		}
	}
	for _, p := range c.terms.Signers {
		for i, sig := range c.attested[p].Signatures {
			if signer := c.terms.Signers[i]; c.signatures[signer] == nil && !take(p, signer, c.attested[p].Record, sig[:]) {
				return
			}
		}
	}
	if len(c.signatures) < len(c.terms.Signers) || !c.move(StateDone) {
		return
	}
	all := Attested{Ceremony: c.id, Record: digest}
	for _, p := range c.terms.Signers {
		all.Signatures = append(all.Signatures, [64]byte(c.signatures[p]))
	}
	c.send(KindAttested, all.Encode())
	c.ready.Done = &wallet.Signed{Raw: raw, Signatures: maps.Clone(c.signatures)}
}

// Abort ends the ceremony for a reason of the owner's: a deadline, a full disk, a
// session ID that the journal has seen.
func (c *Ceremony) Abort(code, text string) {
	if c.state != StateDone {
		c.fail(code, text)
	}
}

func (c *Ceremony) fail(code, text string, culprits ...party.ID) {
	if c.state == StateFailed || c.state == StateDone {
		return
	}
	c.state = StateFailed
	c.fault = &engine.Fault{Code: code, Culprits: culprits, Text: text}
	// Whatever was not yet taken must not happen any more.
	c.ready = Ready{Fault: c.fault, Evidence: c.ready.Evidence, Drop: c.started}
	if c.x.Send(signing.KindAbort, "", signing.Abort{Run: c.run, Code: code}.Encode()) == nil {
		out, _, _ := c.x.Ready()
		for _, o := range out {
			if e, err := envelope.Parse(o.Raw); err == nil && e.Kind == signing.KindAbort {
				c.ready.Send = append(c.ready.Send, o)
			}
		}
	}
}

// Ready hands over what is to be done since the last call.
func (c *Ceremony) Ready() Ready {
	r := c.ready
	r.Stage = c.state
	c.ready = Ready{}
	if c.state == StateRecord || c.state == StateDone {
		c.hasAttested = true // the attestation leaves with this
	}
	return r
}

// Awaited names the signers from whom something is missing, for the text of a time-out.
func (c *Ceremony) Awaited() party.Set {
	var kinds []string
	switch c.state {
	case StateNonces:
		kinds = []string{signing.KindNonce, KindHave}
	case StateCommit:
		kinds = []string{KindCommit}
	case StateReveal:
		kinds = []string{KindReveal}
	case StateKeygen:
		kinds = []string{engine.KindKG1, engine.KindKG2a, engine.KindKG2b, engine.KindKG3}
	case StateConfirm:
		kinds = []string{KindConfirm}
	case StateProved:
		kinds = []string{KindProved}
	case StateRecord:
		kinds = []string{KindAttest}
	case StateChallenge:
		for i, ch := range c.challenges {
			if ch.session != nil {
				if w := ch.session.Awaited(); len(w) > 0 {
					return w
				}
			}
			var missing party.Set
			for _, p := range ch.quorum {
				if _, ok := ch.partials[p]; !ok && p != c.cfg.Self {
					missing = append(missing, p)
				}
			}
			if len(missing) > 0 && !c.challenges[i].verified {
				return missing
			}
		}
	default:
	}
	for _, kind := range kinds {
		if w := c.x.Awaited(kind); len(w) > 0 {
			return w
		}
	}
	return nil
}
