package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"coffer/canon"
	"coffer/keyshare"
	"coffer/partial"
	"coffer/party"
)

// Between a signer and its worker go frames: a 32-bit big-endian length and a
// canonical message. Each side treats the other's frames as it treats a peer's
// messages: a worker may be in the hands of whoever found the library's next hole.
const (
	frameDomain = "coffer/worker/v1"
	maxFrame    = 1 << 20
	maxSealed   = keyshare.MaxPlaintext / 2
	maxName     = 64
	maxText     = 1 << 10
)

// Operations of the signer, then events of the worker; a frame begins with one.
const (
	opUnlock    = "unlock"
	opKeygen    = "keygen"
	opSign      = "sign"
	opDeliver   = "deliver"
	opRelease   = "release"
	opDrop      = "drop"
	opPreParams = "preparams"

	evRefused   = "refused" // an operation's error, for a session
	evOut       = "out"
	evPrepared  = "prepared"
	evKeygen    = "keygen-done"
	evPartial   = "partial"
	evPreParams = "preparams-done"
	evFailed    = "failed"
	evProgress  = "progress"
)

func writeFrame(w io.Writer, body []byte) error {
	if len(body) > maxFrame {
		return fmt.Errorf("frame of %d bytes, at most %d", len(body), maxFrame)
	}
	// One write: frames of two goroutines never mix, and a pipe passes it whole or not.
	_, err := w.Write(append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(body)), uint32(len(body))), body...))
	return err
}

func readFrame(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxFrame {
		return nil, fmt.Errorf("frame of %d bytes, at most %d", n, maxFrame)
	}
	body := make([]byte, n)
	_, err := io.ReadFull(r, body)
	return body, err
}

// command is one operation of the signer.
type command struct {
	op      string
	key     []byte // unlock
	keygen  KeygenConfig
	sign    SignConfig
	session canon.Digest
	message Message
	digest  [32]byte
}

func (c command) encode() []byte {
	e := canon.New(frameDomain).String(c.op)
	switch c.op {
	case opUnlock:
		e.Bytes(c.key)
	case opKeygen:
		e.Digest(c.keygen.Session).Bytes(c.keygen.Meta.AD()).Bytes(c.keygen.PreParams)
	case opSign:
		e.Digest(c.sign.Session).Bytes(c.sign.Meta.AD()).Bytes(c.sign.Share).Strings(c.sign.Signers.Strings()).String(c.sign.Path)
	case opDeliver:
		encodeMessage(e.Digest(c.session), c.message)
	case opRelease:
		e.Digest(c.session).Bytes(c.digest[:])
	case opDrop:
		e.Digest(c.session)
	}
	return e.Encoded()
}

func decodeCommand(body []byte) (command, error) {
	d := canon.NewDecoder(frameDomain, body)
	c := command{op: d.String(maxName)}
	switch c.op {
	case opUnlock:
		c.key = d.Bytes(keyshare.WrapKeySize)
	case opKeygen:
		c.keygen = KeygenConfig{Session: d.Digest(), Meta: decodeMeta(d), PreParams: d.Bytes(maxSealed)}
	case opSign:
		c.sign = SignConfig{Session: d.Digest(), Meta: decodeMeta(d), Share: d.Bytes(maxSealed)}
		for _, name := range d.Strings(maxSigners, maxName) {
			c.sign.Signers = append(c.sign.Signers, party.ID(name))
		}
		c.sign.Path = d.String(maxName)
	case opDeliver:
		c.session, c.message = d.Digest(), decodeMessage(d)
	case opRelease:
		c.session = d.Digest()
		c.digest = decodeFixed[[32]byte](d)
	case opDrop:
		c.session = d.Digest()
	case opPreParams:
	default:
		d.Fail(errors.New("unknown operation"))
	}
	return c, d.Finish()
}

func encodeMessage(e *canon.Encoder, m Message) {
	e.String(m.Kind).String(string(m.From)).String(string(m.To)).Bytes(m.Payload)
}

func decodeMessage(d *canon.Decoder) Message {
	return Message{Kind: d.String(maxName), From: party.ID(d.String(maxName)), To: party.ID(d.String(maxName)), Payload: d.Bytes(maxFrame)}
}

func decodeMeta(d *canon.Decoder) keyshare.Meta {
	raw := d.Bytes(1 << 14)
	if d.Err() != nil {
		return keyshare.Meta{}
	}
	m, err := keyshare.ParseMeta(raw)
	if err != nil {
		d.Fail(err)
	}
	return m
}

// decodeFixed reads a byte string of exactly the array's length.
func decodeFixed[A [32]byte | [33]byte](d *canon.Decoder) (out A) {
	b := d.Bytes(len(out))
	if d.Err() == nil && len(b) != len(out) {
		d.Fail(fmt.Errorf("field of %d bytes, want %d", len(b), len(out)))
		return out
	}
	switch p := any(&out).(type) {
	case *[32]byte:
		copy(p[:], b)
	case *[33]byte:
		copy(p[:], b)
	}
	return out
}

// encodeEvent is a worker's frame for e; refused is set where the worker did not
// accept an operation that its parent had accepted already.
func encodeEvent(e Event, refused bool) []byte {
	begin := func(kind string) *canon.Encoder { return canon.New(frameDomain).String(kind).Digest(e.Session) }
	fault := func(kind string) []byte {
		out := begin(kind).String(e.Failed.Code).List(len(e.Failed.Culprits))
		for _, c := range e.Failed.Culprits {
			out.String(string(c))
		}
		return out.String(text(e.Failed.Text)).Encoded()
	}
	switch {
	case e.Failed != nil && refused:
		return fault(evRefused)
	case e.Failed != nil:
		return fault(evFailed)
	case e.Out != nil:
		out := begin(evOut)
		encodeMessage(out, *e.Out)
		return out.Encoded()
	case e.Prepared:
		return begin(evPrepared).Encoded()
	case e.Keygen != nil:
		return begin(evKeygen).Bytes(e.Keygen.PublicKey[:]).Bytes(e.Keygen.Public).Bytes(e.Keygen.Sealed).Encoded()
	case e.Partial != nil:
		return begin(evPartial).Digest(e.Partial.Session).Bytes(e.Partial.R[:]).Bytes(e.Partial.S[:]).Encoded()
	case e.PreParams != nil:
		return begin(evPreParams).Bytes(e.PreParams).Encoded()
	default:
		return begin(evProgress).String(text(e.Progress)).Encoded()
	}
}

// text cuts to what the other side accepts, between characters.
func text(s string) string { return strings.ToValidUTF8(s[:min(len(s), maxText)], "") }

func decodeEvent(body []byte) (e Event, refused bool, err error) {
	d := canon.NewDecoder(frameDomain, body)
	kind := d.String(maxName)
	e.Session = d.Digest()
	switch kind {
	case evFailed, evRefused:
		f := &Fault{Code: d.String(maxName)}
		for _, name := range d.Strings(maxSigners, maxName) {
			f.Culprits = append(f.Culprits, party.ID(name))
		}
		f.Text = d.String(maxText)
		e.Failed, refused = f, kind == evRefused
	case evOut:
		m := decodeMessage(d)
		e.Out = &m
	case evPrepared:
		e.Prepared = true
	case evKeygen:
		e.Keygen = &KeygenResult{PublicKey: decodeFixed[[33]byte](d), Public: d.Bytes(maxSealed), Sealed: d.Bytes(maxSealed)}
	case evPartial:
		e.Partial = &partial.Partial{Session: d.Digest(), R: decodeFixed[[33]byte](d), S: decodeFixed[[32]byte](d)}
	case evPreParams:
		e.PreParams = d.Bytes(maxSealed)
		if d.Err() == nil && len(e.PreParams) == 0 {
			d.Fail(errors.New("pre-parameters are empty"))
		}
	case evProgress:
		e.Progress = d.String(maxText)
	default:
		d.Fail(errors.New("unknown event"))
	}
	return e, refused, d.Finish()
}
