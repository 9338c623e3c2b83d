package canon

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/big"
	"unicode/utf8"
)

// Digest is SHA-256 over a canonical message, whose first field is its domain.
type Digest [sha256.Size]byte

// Sum hashes a complete canonical message. The domain is part of the message,
// so digests of different kinds of message never collide by construction.
func Sum(message []byte) Digest { return sha256.Sum256(message) }

func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// Short is the form for logs and screens: 12 hex digits, enough to find, too few to trust.
func (d Digest) Short() string { return hex.EncodeToString(d[:6]) }

// IsZero reports whether d is unset. No message hashes to zero in practice; zero means "none".
func (d Digest) IsZero() bool { return d == Digest{} }

// MarshalText makes digests hex in JSON.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText accepts exactly 64 lower-case hex digits.
func (d *Digest) UnmarshalText(text []byte) error {
	parsed, err := ParseDigest(string(text))
	if err != nil {
		return err
	}
	*d = parsed
	return nil
}

// ParseDigest accepts exactly 64 lower-case hex digits.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(d) || hex.EncodeToString(b) != s {
		return Digest{}, fmt.Errorf("digest %q is not 64 lower-case hex digits", clip(s))
	}
	copy(d[:], b)
	return d, nil
}

// DigestFrom copies a 32-byte slice, as protobuf carries digests.
func DigestFrom(b []byte) (Digest, error) {
	var d Digest
	if len(b) != len(d) {
		return Digest{}, fmt.Errorf("digest has %d bytes, want %d", len(b), len(d))
	}
	copy(d[:], b)
	return d, nil
}

func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}

// Encoder builds one canonical message. Its zero value is not usable; use New.
type Encoder struct{ buf []byte }

// New starts a message of the given domain, such as "coffer/intent/v1".
func New(domain string) *Encoder { return new(Encoder).String(domain) }

// Bytes appends a 32-bit big-endian length and b.
func (e *Encoder) Bytes(b []byte) *Encoder {
	e.buf = binary.BigEndian.AppendUint32(e.buf, uint32(len(b)))
	e.buf = append(e.buf, b...)
	return e
}

// String appends s as Bytes.
func (e *Encoder) String(s string) *Encoder { return e.Bytes([]byte(s)) }

// Strings appends a list of strings in the order given.
func (e *Encoder) Strings(list []string) *Encoder {
	e.List(len(list))
	for _, s := range list {
		e.String(s)
	}
	return e
}

// Digest appends 32 bytes without a length: the width is fixed.
func (e *Encoder) Digest(d Digest) *Encoder { e.buf = append(e.buf, d[:]...); return e }

// Uint64 appends eight bytes, big-endian.
func (e *Encoder) Uint64(v uint64) *Encoder {
	e.buf = binary.BigEndian.AppendUint64(e.buf, v)
	return e
}

// Time appends Unix seconds. Times before 1970 do not occur in signed data and panic.
func (e *Encoder) Time(unix int64) *Encoder {
	if unix < 0 {
		panic("canon: negative time")
	}
	return e.Uint64(uint64(unix))
}

// Bool appends one byte, 0 or 1.
func (e *Encoder) Bool(v bool) *Encoder {
	if v {
		e.buf = append(e.buf, 1)
	} else {
		e.buf = append(e.buf, 0)
	}
	return e
}

// Big appends the minimal big-endian magnitude as Bytes; zero is empty. Negative
// values do not occur in signed data and panic; nil counts as zero.
func (e *Encoder) Big(v *big.Int) *Encoder {
	if v == nil {
		return e.Bytes(nil)
	}
	if v.Sign() < 0 {
		panic("canon: negative integer")
	}
	return e.Bytes(v.Bytes())
}

// List appends a count; the caller appends that many items next.
func (e *Encoder) List(n int) *Encoder {
	e.buf = binary.BigEndian.AppendUint32(e.buf, uint32(n))
	return e
}

// Encoded returns the message built so far.
func (e *Encoder) Encoded() []byte { return e.buf }

// Sum hashes the message built so far.
func (e *Encoder) Sum() Digest { return Sum(e.buf) }

// Decoder reads one canonical message. Its first error sticks: every later read
// returns a zero value, and Finish reports it. Callers therefore read all fields
// and check once.
type Decoder struct {
	rest []byte
	err  error
}

// NewDecoder checks the domain and stands at the first field.
func NewDecoder(domain string, message []byte) *Decoder {
	d := &Decoder{rest: message}
	if got := d.String(128); d.err == nil && got != domain {
		d.err = fmt.Errorf("message is of domain %q, want %q", clip(got), domain)
	}
	return d
}

func (d *Decoder) take(n int) []byte {
	if d.err != nil {
		return nil
	}
	if n > len(d.rest) {
		d.err = fmt.Errorf("message is cut short: %d bytes wanted, %d left", n, len(d.rest))
		return nil
	}
	b := d.rest[:n:n]
	d.rest = d.rest[n:]
	return b
}

// Fail records err unless one is recorded already; for checks that belong to decoding.
func (d *Decoder) Fail(err error) {
	if d.err == nil {
		d.err = err
	}
}

// Err returns the first error so far.
func (d *Decoder) Err() error { return d.err }

// Bytes reads at most max bytes into a fresh slice.
func (d *Decoder) Bytes(max int) []byte {
	head := d.take(4)
	if d.err != nil {
		return nil
	}
	n := binary.BigEndian.Uint32(head)
	if uint64(n) > uint64(max) {
		d.err = fmt.Errorf("field of %d bytes, at most %d allowed", n, max)
		return nil
	}
	return append([]byte(nil), d.take(int(n))...)
}

// String reads at most max bytes of valid UTF-8.
func (d *Decoder) String(max int) string {
	b := d.Bytes(max)
	if d.err == nil && !utf8.Valid(b) {
		d.err = fmt.Errorf("text field is not valid UTF-8")
		return ""
	}
	return string(b)
}

// Strings reads a list of at most maxItems strings of at most max bytes each.
func (d *Decoder) Strings(maxItems, max int) []string {
	n := d.List(maxItems)
	var list []string
	for i := 0; i < n && d.err == nil; i++ {
		list = append(list, d.String(max))
	}
	return list
}

// Digest reads 32 bytes.
func (d *Decoder) Digest() (out Digest) {
	copy(out[:], d.take(len(out)))
	return out
}

// Uint64 reads eight bytes.
func (d *Decoder) Uint64() uint64 {
	b := d.take(8)
	if d.err != nil {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

// Time reads Unix seconds.
func (d *Decoder) Time() int64 {
	v := d.Uint64()
	if v > 1<<62 {
		d.Fail(fmt.Errorf("time %d is out of range", v))
		return 0
	}
	return int64(v)
}

// Bool reads one byte that must be 0 or 1.
func (d *Decoder) Bool() bool {
	b := d.take(1)
	if d.err != nil {
		return false
	}
	if b[0] > 1 {
		d.err = fmt.Errorf("boolean byte is %d", b[0])
	}
	return b[0] == 1
}

// Big reads a minimal big-endian magnitude of at most maxBytes.
func (d *Decoder) Big(maxBytes int) *big.Int {
	b := d.Bytes(maxBytes)
	if d.err == nil && len(b) > 0 && b[0] == 0 {
		d.err = fmt.Errorf("integer has a leading zero")
	}
	return new(big.Int).SetBytes(b)
}

// List reads a count of at most max items.
func (d *Decoder) List(max int) int {
	head := d.take(4)
	if d.err != nil {
		return 0
	}
	n := binary.BigEndian.Uint32(head)
	if uint64(n) > uint64(max) {
		d.err = fmt.Errorf("list of %d items, at most %d allowed", n, max)
		return 0
	}
	return int(n)
}

// Finish reports the first error, or that bytes are left over.
func (d *Decoder) Finish() error {
	if d.err == nil && len(d.rest) > 0 {
		d.err = fmt.Errorf("%d bytes left after the last field", len(d.rest))
	}
	return d.err
}
