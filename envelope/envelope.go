package envelope

import (
	"crypto/ed25519"
	"fmt"

	"coffer/canon"
	"coffer/identity"
	"coffer/party"
)

const (
	// Domain begins the header, which is what a sender signs.
	Domain = "coffer/envelope/v1"

	wireDomain    = "coffer/envelope-wire/v1"
	payloadDomain = "coffer/payload/v1"

	// MaxPayload is the largest payload of any kind.
	MaxPayload = 256 << 10
	// MaxRaw is the largest envelope on the wire; a transport's frame must hold it.
	MaxRaw = MaxPayload + maxHeader + 256

	maxName   = 32
	maxKind   = 32
	maxHeader = 512
)

// Header is the part of an envelope that is signed.
type Header struct {
	Cluster canon.Digest
	Run     canon.Digest // routing: known to every party before the session is
	Session canon.Digest // equal to Run for the opening kinds
	From    party.ID
	To      party.ID // empty for a broadcast
	Kind    string
	Payload canon.Digest // PayloadDigest of the payload
}

// PayloadDigest is the digest under which a payload is signed and echoed.
func PayloadDigest(payload []byte) canon.Digest {
	return canon.New(payloadDomain).Bytes(payload).Sum()
}

// Encode returns the canonical bytes that the sender signs.
func (h Header) Encode() []byte {
	return canon.New(Domain).Digest(h.Cluster).Digest(h.Run).Digest(h.Session).
		String(string(h.From)).String(string(h.To)).String(h.Kind).Digest(h.Payload).Encoded()
}

// ParseHeader decodes a header.
func ParseHeader(raw []byte) (Header, error) {
	if len(raw) > maxHeader {
		return Header{}, fmt.Errorf("%w: header has %d bytes, at most %d", ErrMalformed, len(raw), maxHeader)
	}
	d := canon.NewDecoder(Domain, raw)
	h := Header{
		Cluster: d.Digest(), Run: d.Digest(), Session: d.Digest(),
		From: party.ID(d.String(maxName)), To: party.ID(d.String(maxName)), Kind: d.String(maxKind),
		Payload: d.Digest(),
	}
	if err := d.Finish(); err != nil {
		return Header{}, fmt.Errorf("%w: header: %w", ErrMalformed, err)
	}
	return h, nil
}

// Envelope is a header with its signature and payload.
type Envelope struct {
	Header
	Signature [ed25519.SignatureSize]byte
	Body      []byte
}

// Sign makes an envelope; the header's payload digest is computed here.
func Sign(key *identity.Key, h Header, payload []byte) Envelope {
	h.Payload = PayloadDigest(payload)
	e := Envelope{Header: h, Body: payload}
	copy(e.Signature[:], key.Sign(h.Encode()))
	return e
}

// Encode returns the bytes for the wire.
func (e Envelope) Encode() []byte {
	return canon.New(wireDomain).Bytes(e.Header.Encode()).Bytes(e.Signature[:]).Bytes(e.Body).Encoded()
}

// Parse decodes an envelope and checks that the payload is the one that the header
// names. It verifies no signature: that is Verify, for which the roster is needed.
func Parse(raw []byte) (Envelope, error) {
	if len(raw) > MaxRaw {
		return Envelope{}, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(raw), MaxRaw)
	}
	d := canon.NewDecoder(wireDomain, raw)
	head, sig, body := d.Bytes(maxHeader), d.Bytes(ed25519.SignatureSize), d.Bytes(MaxPayload)
	if err := d.Finish(); err != nil {
		return Envelope{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if len(sig) != ed25519.SignatureSize {
		return Envelope{}, fmt.Errorf("%w: signature has %d bytes, want %d", ErrMalformed, len(sig), ed25519.SignatureSize)
	}
	h, err := ParseHeader(head)
	if err != nil {
		return Envelope{}, err
	}
	if h.Payload != PayloadDigest(body) {
		return Envelope{}, fmt.Errorf("%w: payload is not the one that the header names", ErrMalformed)
	}
	return Envelope{Header: h, Signature: [ed25519.SignatureSize]byte(sig), Body: body}, nil
}

// Verify checks the signature under the sender's identity in the roster.
func (e Envelope) Verify(roster map[party.ID]identity.ID) error {
	id, ok := roster[e.From]
	if !ok {
		return fmt.Errorf("%w: %q is not in the roster", ErrSender, e.From)
	}
	if err := id.Verify(e.Header.Encode(), e.Signature[:]); err != nil {
		return fmt.Errorf("%w: %w", ErrSignature, err)
	}
	return nil
}
