package signing

import (
	"fmt"
	"strings"

	"coffer/canon"
	"coffer/party"
)

// The kinds of message beside those of the engine.
const (
	KindNonce   = "nonce"
	KindBinding = "binding"
	KindAbort   = "abort"
)

const (
	runDomain     = "coffer/run/v1"
	prepareDomain = "coffer/prepare/v1"
	nonceDomain   = "coffer/nonce/v1"
	bindingDomain = "coffer/release/v1"
	abortDomain   = "coffer/abort/v1"

	maxCode = 64
)

// Scope is what a session is about, as far as it is known before it begins.
type Scope struct {
	Cluster canon.Digest
	Wallet  string
	Epoch   uint64
	Path    string
	Signers party.Set
	Attempt canon.Digest // chosen by who asks for the session, fresh each time
}

// Run is the ID by which nodes route the messages of a session. All parties can
// compute it from what they were asked; it is no session ID, because a coordinator
// could ask for the same attempt twice.
func (s Scope) Run() canon.Digest { return s.encode(runDomain).Sum() }

// Session is the ID of the session: the scope and a fresh nonce of each signer, in
// the order of the signers.
func (s Scope) Session(nonces [][32]byte) canon.Digest {
	e := s.encode(prepareDomain).List(len(nonces))
	for _, n := range nonces {
		e.Digest(n)
	}
	return e.Sum()
}

func (s Scope) encode(domain string) *canon.Encoder {
	return canon.New(domain).Digest(s.Cluster).String(s.Wallet).Uint64(s.Epoch).String(s.Path).
		Strings(s.Signers.Strings()).Digest(s.Attempt)
}

// Nonce is a signer's contribution to the ID of a session or ceremony.
type Nonce struct {
	Run   canon.Digest
	Value [32]byte
}

// Encode returns the canonical bytes.
func (n Nonce) Encode() []byte {
	return canon.New(nonceDomain).Digest(n.Run).Digest(n.Value).Encoded()
}

// ParseNonce decodes a nonce.
func ParseNonce(raw []byte) (Nonce, error) {
	d := canon.NewDecoder(nonceDomain, raw)
	n := Nonce{Run: d.Digest(), Value: d.Digest()}
	if err := d.Finish(); err != nil {
		return Nonce{}, fmt.Errorf("%w: nonce: %w", ErrMessage, err)
	}
	return n, nil
}

// Binding is a signer's word that its gate authorised this session for this
// transaction and no other. It leaves only after the journal has it on disk.
type Binding struct {
	Session     canon.Digest
	Intent      canon.Digest
	Charter     canon.Digest
	Transaction canon.Digest
}

// Encode returns the canonical bytes.
func (b Binding) Encode() []byte {
	return canon.New(bindingDomain).Digest(b.Session).Digest(b.Intent).Digest(b.Charter).Digest(b.Transaction).Encoded()
}

// ParseBinding decodes a binding.
func ParseBinding(raw []byte) (Binding, error) {
	d := canon.NewDecoder(bindingDomain, raw)
	b := Binding{Session: d.Digest(), Intent: d.Digest(), Charter: d.Digest(), Transaction: d.Digest()}
	if err := d.Finish(); err != nil {
		return Binding{}, fmt.Errorf("%w: binding: %w", ErrMessage, err)
	}
	return b, nil
}

// Abort tells the others that this signer has ended the run, so that they need not
// wait for their deadline. It accuses nobody: whoever reads it learns only that the
// sender stopped.
type Abort struct {
	Run  canon.Digest
	Code string
}

// Encode returns the canonical bytes. A code outside the alphabet is made to fit: our
// own mistake must not look to peers like malice.
func (a Abort) Encode() []byte {
	code := strings.Map(func(r rune) rune {
		if codeRune(r) {
			return r
		}
		return '_'
	}, a.Code)
	return canon.New(abortDomain).Digest(a.Run).String(code[:min(len(code), maxCode)]).Encoded()
}

func codeRune(r rune) bool {
	return (r >= 'A' && r <= 'Z') || (r >= '0' && r <= '9') || r == '_' || r == '-'
}

// ParseAbort decodes an abort. The code is a peer's text and goes into logs, so it
// is held to the alphabet of codes.
func ParseAbort(raw []byte) (Abort, error) {
	d := canon.NewDecoder(abortDomain, raw)
	a := Abort{Run: d.Digest(), Code: d.String(maxCode)}
	for _, r := range a.Code {
		if !codeRune(r) {
			d.Fail(fmt.Errorf("code has the character %q", r))
		}
	}
	if err := d.Finish(); err != nil {
		return Abort{}, fmt.Errorf("%w: abort: %w", ErrMessage, err)
	}
	return a, nil
}
