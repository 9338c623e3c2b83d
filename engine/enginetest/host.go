package enginetest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"

	"coffer/canon"
	"coffer/engine"
	"coffer/engine/internal/queue"
	"coffer/keyshare"
	"coffer/partial"
	"coffer/party"
)

// GuardCode is the fault code of a payload that the fake engine did not expect.
const GuardCode = engine.GuardPrefix + "FAKE"

// Host is the fake. Its methods do all work before they return; only the
// delivery of events is concurrent.
type Host struct {
	events *queue.Queue[engine.Event]

	mu       sync.Mutex
	key      *keyshare.WrapKey
	sessions map[canon.Digest]*session
	used     map[canon.Digest]bool
	pre      uint64
	closed   bool

	// OnEvent, if set before the first call, may change an event or swallow it by returning false.
	OnEvent func(*engine.Event) bool
}

var _ engine.Host = (*Host)(nil)

// New returns a locked host.
func New() *Host {
	return &Host{events: queue.New[engine.Event](), sessions: make(map[canon.Digest]*session), used: make(map[canon.Digest]bool)}
}

// Share makes the share of meta.Party of a wallet whose key follows from the rest
// of meta, so that the shares of all parties fit without a key generation.
func Share(k *keyshare.WrapKey, meta keyshare.Meta) (sealed []byte, publicKey [33]byte, err error) {
	if err := meta.Validate(); err != nil {
		return nil, publicKey, err
	}
	common := meta
	common.Party = meta.Signers[0]
	return sealShare(k, meta, scalar("key", canon.Sum(common.AD()), ""))
}

func sealShare(k *keyshare.WrapKey, meta keyshare.Meta, secret secp256k1.ModNScalar) ([]byte, [33]byte, error) {
	b := secret.Bytes()
	share, err := keyshare.NewShare(meta, shareFormat, b[:])
	if err != nil {
		return nil, [33]byte{}, err
	}
	sealed, err := share.Seal(k)
	return sealed, public(secret), err
}

const shareFormat = 0xfa5e // no real engine reads it

// PreParams seals stand-ins that this package's Keygen takes; n tells them apart.
func PreParams(k *keyshare.WrapKey, n uint64) ([]byte, error) {
	return keyshare.Seal(k, keyshare.PreParamsAD(), canon.New("coffer/fake-preparams").Uint64(n).Encoded())
}

func (h *Host) emit(e engine.Event) {
	if h.OnEvent == nil || h.OnEvent(&e) {
		h.events.Push(e)
	}
}

// Unlock implements engine.Host.
func (h *Host) Unlock(k *keyshare.WrapKey) error {
	b, err := k.Export()
	if err != nil {
		return err
	}
	defer clear(b)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.key, err = keyshare.ImportWrapKey(b)
	return err
}

// Events implements engine.Host.
func (h *Host) Events() <-chan engine.Event { return h.events.Out() }

// Close implements engine.Host.
func (h *Host) Close() error {
	h.mu.Lock()
	h.closed = true
	h.sessions = nil
	h.mu.Unlock()
	h.events.Close()
	return nil
}

// Kill does what the death of a worker does: every session fails.
func (h *Host) Kill() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.sessions {
		h.fail(s, engine.CodeWorkerDied, "killed")
	}
}

// Sessions is how many sessions are open.
func (h *Host) Sessions() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.sessions)
}

// Drop implements engine.Host.
func (h *Host) Drop(id canon.Digest) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.sessions, id)
}

// GeneratePreParams implements engine.Host.
func (h *Host) GeneratePreParams() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.ready(); err != nil {
		return err
	}
	h.pre++
	sealed, err := PreParams(h.key, h.pre)
	if err != nil {
		return err
	}
	h.emit(engine.Event{Progress: "primes: 4 of 4 found"})
	h.emit(engine.Event{PreParams: sealed})
	return nil
}

func (h *Host) ready() error {
	switch {
	case h.closed:
		return engine.ErrClosed
	case h.key == nil:
		return engine.ErrSealed
	}
	return nil
}

type session struct {
	id       canon.Digest
	meta     keyshare.Meta
	parties  party.Set
	keygen   bool
	secret   secp256k1.ModNScalar
	round    int
	got      map[slot][]byte
	digest   *[32]byte
	prepared bool
}

type slot struct {
	kind string
	from party.ID
}

func (h *Host) begin(id canon.Digest, meta keyshare.Meta) error {
	if err := h.ready(); err != nil {
		return err
	}
	if err := meta.Validate(); err != nil {
		return err
	}
	if id.IsZero() {
		return errors.New("enginetest: session id is zero")
	}
	if h.used[id] {
		return engine.ErrReused
	}
	h.used[id] = true
	return nil
}

// Keygen implements engine.Host.
func (h *Host) Keygen(c engine.KeygenConfig) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.begin(c.Session, c.Meta); err != nil {
		return err
	}
	s := &session{id: c.Session, meta: c.Meta, parties: c.Meta.Signers, keygen: true, got: make(map[slot][]byte)}
	h.sessions[s.id] = s
	if _, err := keyshare.Open(h.key, keyshare.PreParamsAD(), c.PreParams); err != nil {
		h.fail(s, engine.CodeShare, "pre-parameters: "+err.Error())
		return nil
	}
	h.enter(s, 1)
	h.advance(s)
	return nil
}

// Sign implements engine.Host.
func (h *Host) Sign(c engine.SignConfig) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case len(c.Signers) != c.Meta.Quorum.Need || !c.Signers.SubsetOf(c.Meta.Signers) || !c.Signers.Has(c.Meta.Party):
		return fmt.Errorf("enginetest: signers %v do not fit quorum %s of %v with %s", c.Signers, c.Meta.Quorum, c.Meta.Signers, c.Meta.Party)
	case c.Path != "" && c.Path != "m":
		return fmt.Errorf("enginetest: path %q is not the root", c.Path)
	}
	if err := h.begin(c.Session, c.Meta); err != nil {
		return err
	}
	s := &session{id: c.Session, meta: c.Meta, parties: c.Signers, got: make(map[slot][]byte)}
	h.sessions[s.id] = s
	share, err := keyshare.OpenShare(h.key, c.Meta, c.Share)
	if err == nil {
		err = share.Use(func(format uint64, secret []byte) error {
			if format != shareFormat || len(secret) != 32 {
				return errors.New("not a share of the fake engine")
			}
			s.secret.SetByteSlice(secret)
			return nil
		})
	}
	if err != nil {
		h.fail(s, engine.CodeShare, err.Error())
		return nil
	}
	h.enter(s, 1)
	h.advance(s)
	return nil
}

// Release implements engine.Host.
func (h *Host) Release(id canon.Digest, digest [32]byte) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.sessions[id]
	switch {
	case s == nil || s.keygen:
		return engine.ErrSession
	case s.digest != nil || digest == [32]byte{}:
		return engine.ErrDigest
	}
	var m secp256k1.ModNScalar
	if overflow := m.SetBytes(&digest); overflow != 0 {
		return engine.ErrDigest
	}
	s.digest = &digest
	h.advance(s)
	return nil
}

// Deliver implements engine.Host.
func (h *Host) Deliver(id canon.Digest, m engine.Message) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.sessions[id]
	if s == nil {
		return engine.ErrSession
	}
	class, ok := engine.Kinds()[m.Kind]
	want := party.ID("")
	if !class.Broadcast {
		want = s.meta.Party
	}
	switch {
	case !ok || (m.Kind[0] == 'K') != s.keygen:
		return fmt.Errorf("enginetest: %q is no kind of this session", m.Kind)
	case m.From == s.meta.Party || !s.parties.Has(m.From):
		return fmt.Errorf("enginetest: %s from %q, who is not another party of the session", m.Kind, m.From)
	case m.To != want:
		return fmt.Errorf("enginetest: %s to %q, want %q", m.Kind, m.To, want)
	}
	if len(m.Payload) > class.Cap {
		h.fail(s, engine.GuardPrefix+"SIZE", m.Kind+" is above its cap", m.From)
		return nil
	}
	at := slot{m.Kind, m.From}
	if old, have := s.got[at]; have {
		if !bytes.Equal(old, m.Payload) {
			h.fail(s, engine.CodeConflict, "two different "+m.Kind, m.From)
		}
		return nil
	}
	ok = bytes.Equal(m.Payload, payload(s, m.Kind, m.From, m.To))
	if m.Kind == engine.KindKG2b || m.Kind == engine.KindS4 {
		var v secp256k1.ModNScalar
		ok = len(m.Payload) == 32 && !v.SetByteSlice(m.Payload) && !v.IsZero()
	}
	if !ok {
		h.fail(s, GuardCode, "unexpected payload of "+m.Kind, m.From)
		return nil
	}
	s.got[at] = bytes.Clone(m.Payload)
	h.advance(s)
	return nil
}

func (h *Host) fail(s *session, code, text string, culprits ...party.ID) {
	delete(h.sessions, s.id)
	h.emit(engine.Event{Session: s.id, Failed: &engine.Fault{Code: code, Culprits: culprits, Text: text}})
}

func kindsOf(round int, keygen bool) []string {
	var out []string
	for k, c := range engine.Kinds() {
		if c.Round == round && (k[0] == 'K') == keygen {
			out = append(out, k)
		}
	}
	slices.Sort(out)
	return out
}

// enter sends this party's messages of a round.
func (h *Host) enter(s *session, round int) {
	s.round = round
	for _, kind := range kindsOf(round, s.keygen) {
		if engine.Kinds()[kind].Broadcast {
			h.emit(engine.Event{Session: s.id, Out: &engine.Message{Kind: kind, From: s.meta.Party, Payload: payload(s, kind, s.meta.Party, "")}})
			continue
		}
		for _, to := range s.parties.Without(s.meta.Party) {
			h.emit(engine.Event{Session: s.id, Out: &engine.Message{Kind: kind, From: s.meta.Party, To: to, Payload: payload(s, kind, s.meta.Party, to)}})
		}
	}
}

// advance goes on for as long as a round's messages are complete.
func (h *Host) advance(s *session) {
	for h.sessions[s.id] == s {
		for _, kind := range kindsOf(s.round, s.keygen) {
			for _, from := range s.parties.Without(s.meta.Party) {
				if _, have := s.got[slot{kind, from}]; !have {
					return
				}
			}
		}
		switch {
		case s.keygen && s.round == 3:
			h.finishKeygen(s)
			return
		case !s.keygen && s.round == 8:
			h.finishSign(s)
			return
		case !s.keygen && s.round == 3:
			if !s.prepared {
				s.prepared = true
				h.emit(engine.Event{Session: s.id, Prepared: true})
			}
			if s.digest == nil {
				return
			}
		}
		h.enter(s, s.round+1)
	}
}

// sum adds up what all parties opened in messages of kind.
func (s *session) sum(kind string) (v secp256k1.ModNScalar) {
	for _, id := range s.parties {
		var part secp256k1.ModNScalar
		if id == s.meta.Party {
			part.SetByteSlice(payload(s, kind, id, ""))
		} else {
			part.SetByteSlice(s.got[slot{kind, id}])
		}
		v.Add(&part)
	}
	return v
}

func (h *Host) finishKeygen(s *session) {
	key := s.sum(engine.KindKG2b)
	sealed, pub, err := sealShare(h.key, s.meta, key)
	if err != nil {
		h.fail(s, engine.CodeResult, err.Error())
		return
	}
	data := canon.New("coffer/fake-public").Bytes(pub[:]).Uint64(uint64(s.meta.Quorum.Need)).Strings(s.parties.Strings()).Encoded()
	delete(h.sessions, s.id)
	h.emit(engine.Event{Session: s.id, Keygen: &engine.KeygenResult{PublicKey: pub, Public: data, Sealed: sealed}})
}

func (h *Host) finishSign(s *session) {
	k := s.sum(engine.KindS4)
	R := public(k)
	var r, m, x secp256k1.ModNScalar
	r.SetByteSlice(R[1:])
	m.SetBytes(s.digest)
	// Additive shares of the key: the first signer has what is missing from the others' numbers.
	if s.parties[0] == s.meta.Party {
		x = s.secret
		for _, id := range s.parties[1:] {
			other := scalar("share", s.id, id)
			x.Add(other.Negate())
		}
	} else {
		x = scalar("share", s.id, s.meta.Party)
		m.SetInt(0)
	}
	inv := new(secp256k1.ModNScalar).InverseValNonConst(&k)
	sum := new(secp256k1.ModNScalar).Mul2(&r, &x).Add(&m).Mul(inv)
	delete(h.sessions, s.id)
	h.emit(engine.Event{Session: s.id, Partial: &partial.Partial{Session: s.id, R: R, S: sum.Bytes()}})
}

// payload is what the fake protocol says in a message: a number where the real
// one opens a commitment, else a hash that the recipient can recompute.
func payload(s *session, kind string, from, to party.ID) []byte {
	if kind == engine.KindKG2b || kind == engine.KindS4 {
		v := scalar(kind, s.id, from)
		b := v.Bytes()
		return b[:]
	}
	d := canon.New("coffer/fake-message").Digest(s.id).String(kind).String(string(from)).String(string(to)).Sum()
	return d[:]
}

func scalar(label string, id canon.Digest, from party.ID) (v secp256k1.ModNScalar) {
	d := canon.New("coffer/fake-scalar").String(label).Digest(id).String(string(from)).Sum()
	v.SetByteSlice(d[:])
	return v
}

func public(v secp256k1.ModNScalar) [33]byte {
	return [33]byte(secp256k1.NewPrivateKey(&v).PubKey().SerializeCompressed())
}
