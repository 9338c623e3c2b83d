package envelope

import (
	"errors"
	"fmt"

	"coffer/canon"
	"coffer/identity"
	"coffer/party"
)

// Evidence is two headers that one party signed for the same place in the same
// session, with different payloads. An honest party never makes such a pair, so it
// convinces anybody who knows the party's identity. It holds no payload and may be
// logged and sent.
type Evidence struct {
	First, FirstSignature   []byte
	Second, SecondSignature []byte
}

// Verify checks the pair under the accused party's identity and returns its name.
func (e Evidence) Verify(id identity.ID) (party.ID, error) {
	a, err := ParseHeader(e.First)
	if err != nil {
		return "", fmt.Errorf("first header: %w", err)
	}
	b, err := ParseHeader(e.Second)
	if err != nil {
		return "", fmt.Errorf("second header: %w", err)
	}
	if a.Payload == b.Payload {
		return "", errors.New("evidence shows the same payload twice: that is a resend, not equivocation")
	}
	want := a
	want.Payload = b.Payload
	if b != want {
		return "", errors.New("evidence is of two different places: a sender may fill each of them")
	}
	if err := id.Verify(e.First, e.FirstSignature); err != nil {
		return "", fmt.Errorf("first header: %w", err)
	}
	if err := id.Verify(e.Second, e.SecondSignature); err != nil {
		return "", fmt.Errorf("second header: %w", err)
	}
	return a.From, nil
}

// Fault codes of this package; docs/errors.md lists all codes.
const (
	CodeEquivocation    = "EQUIVOCATION"     // one sender signed two payloads for one place
	CodeForgedEcho      = "FORGED_ECHO"      // an echo names a payload that its sender never signed
	CodeSessionMismatch = "SESSION_MISMATCH" // a message of this run under another session ID
	CodeCloned          = "CLONED_IDENTITY"  // this party's own key signed something that it did not send here
)

// Fault ends a run. Culprits are named only where the evidence leaves no doubt.
type Fault struct {
	Code     string
	Culprits []party.ID
	Text     string
	Evidence *Evidence
}

func (f *Fault) Error() string { return f.Code + ": " + f.Text }

const echoDomain = "coffer/echo/v1"

// EchoEntry is what an echoer received from one party: the payload's digest and the
// party's signature of the header that names it.
type EchoEntry struct {
	Payload   canon.Digest
	Signature [64]byte
}

// Echo says what its sender received as the broadcasts of one kind, in the order of
// the parties; its own broadcast is among them.
type Echo struct {
	Session canon.Digest
	Kind    string
	Entries []EchoEntry
}

// Encode returns the canonical bytes, which travel as the payload of an envelope.
func (e Echo) Encode() []byte {
	enc := canon.New(echoDomain).Digest(e.Session).String(e.Kind).List(len(e.Entries))
	for _, x := range e.Entries {
		enc.Digest(x.Payload).Bytes(x.Signature[:])
	}
	return enc.Encoded()
}

// ParseEcho decodes an echo among at most 20 parties.
func ParseEcho(raw []byte) (Echo, error) {
	d := canon.NewDecoder(echoDomain, raw)
	e := Echo{Session: d.Digest(), Kind: d.String(maxKind)}
	n := d.List(20)
	for i := 0; i < n && d.Err() == nil; i++ {
		x := EchoEntry{Payload: d.Digest()}
		sig := d.Bytes(len(x.Signature))
		if d.Err() == nil && len(sig) != len(x.Signature) {
			d.Fail(fmt.Errorf("signature has %d bytes, want %d", len(sig), len(x.Signature)))
		}
		copy(x.Signature[:], sig)
		e.Entries = append(e.Entries, x)
	}
	if err := d.Finish(); err != nil {
		return Echo{}, fmt.Errorf("%w: echo: %w", ErrMalformed, err)
	}
	return e, nil
}
