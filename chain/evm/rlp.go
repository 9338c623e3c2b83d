package evm

import (
	"fmt"
	"math/big"
	"math/bits"
)

// The subset of RLP that a transaction needs: strings, and lists of one level. RLP's
// definition leaves an encoder no choice, and the reader here refuses every input
// that an encoder would not have written.

const (
	rlpString = 0x80 // + length, for up to 55 bytes
	rlpList   = 0xc0
	rlpShort  = 55 // longer ones carry the length of their length
)

func appendString(out, s []byte) []byte {
	if len(s) == 1 && s[0] < rlpString {
		return append(out, s[0])
	}
	return append(appendHeader(out, rlpString, len(s)), s...)
}

func appendUint(out []byte, v uint64) []byte { return appendString(out, minimal(v)) }

func appendBig(out []byte, v *big.Int) []byte {
	if v == nil {
		return appendString(out, nil)
	}
	return appendString(out, v.Bytes())
}

func appendHeader(out []byte, kind byte, size int) []byte {
	if size <= rlpShort {
		return append(out, kind+byte(size))
	}
	length := minimal(uint64(size))
	return append(append(out, kind+rlpShort+byte(len(length))), length...)
}

// minimal is v big-endian without leading zeros; 0 is empty.
func minimal(v uint64) []byte {
	out := make([]byte, (bits.Len64(v)+7)/8)
	for i := len(out) - 1; i >= 0; i-- {
		out[i] = byte(v)
		v >>= 8
	}
	return out
}

// reader reads items in order. Its first error sticks and names the field, so that
// callers read all fields and check once.
type reader struct {
	rest []byte
	err  error
}

func (r *reader) fail(field, format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%s: %w: %s", field, ErrEncoding, fmt.Sprintf(format, args...))
	}
}

// item cuts the next item of the kind off and returns its content.
func (r *reader) item(field string, kind byte) []byte {
	if r.err != nil {
		return nil
	}
	if len(r.rest) == 0 {
		r.fail(field, "missing")
		return nil
	}
	head := r.rest[0]
	if kind == rlpString && head < rlpString {
		content := r.rest[:1:1]
		r.rest = r.rest[1:]
		return content
	}
	if isList := head >= rlpList; isList != (kind == rlpList) {
		if isList {
			r.fail(field, "a list stands where a string belongs")
		} else {
			r.fail(field, "a string stands where a list belongs")
		}
		return nil
	}
	rest, size := r.rest[1:], uint64(head-kind)
	if size > rlpShort {
		n := int(size - rlpShort)
		if n > len(rest) {
			r.fail(field, "cut short within its length")
			return nil
		}
		if rest[0] == 0 {
			r.fail(field, "its length has a leading zero")
			return nil
		}
		// n is at most 8, so the length fits.
		size = 0
		for _, b := range rest[:n] {
			size = size<<8 | uint64(b)
		}
		if size <= rlpShort {
			r.fail(field, "its length of %d is written in the long form", size)
			return nil
		}
		rest = rest[n:]
	}
	if size > uint64(len(rest)) {
		r.fail(field, "cut short: %d bytes announced, %d left", size, len(rest))
		return nil
	}
	content := rest[:size:size]
	if kind == rlpString && size == 1 && content[0] < rlpString {
		r.fail(field, "a byte below 0x80 is written with a length")
		return nil
	}
	r.rest = rest[size:]
	return content
}

// integer reads a number of at most max bytes.
func (r *reader) integer(field string, max int) []byte {
	b := r.item(field, rlpString)
	if len(b) > max {
		r.fail(field, "an integer of %d bytes, at most %d allowed", len(b), max)
		return nil
	}
	if len(b) > 0 && b[0] == 0 {
		r.fail(field, "an integer has a leading zero")
		return nil
	}
	return b
}

func (r *reader) uint64(field string) (v uint64) {
	for _, b := range r.integer(field, 8) {
		v = v<<8 | uint64(b)
	}
	return v
}

// big reads a number of at most 256 bits.
func (r *reader) big(field string) *big.Int {
	return new(big.Int).SetBytes(r.integer(field, 32))
}

// fixed reads exactly len(out) bytes.
func (r *reader) fixed(field string, out []byte) {
	b := r.item(field, rlpString)
	if r.err == nil && len(b) != len(out) {
		r.fail(field, "%d bytes, want %d", len(b), len(out))
		return
	}
	copy(out, b)
}

// end demands that nothing is left.
func (r *reader) end(field string) {
	if len(r.rest) > 0 {
		r.fail(field, "%d bytes too many at its end", len(r.rest))
	}
}
