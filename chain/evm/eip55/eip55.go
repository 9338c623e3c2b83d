package eip55

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/sha3"
)

// ErrAddress: the text is no EVM address with a right checksum.
var ErrAddress = errors.New("not an EVM address")

// Parse accepts exactly the form that Format writes.
func Parse(s string) ([20]byte, error) {
	var address [20]byte
	if len(s) != 2+2*len(address) {
		return [20]byte{}, fmt.Errorf("address %q: %w: %d characters, want 0x and 40 hex digits", clip(s), ErrAddress, len(s))
	}
	if s[:2] != "0x" {
		return [20]byte{}, fmt.Errorf("address %q: %w: it must begin with 0x", clip(s), ErrAddress)
	}
	if _, err := hex.Decode(address[:], []byte(s[2:])); err != nil {
		return [20]byte{}, fmt.Errorf("address %q: %w: it has a character that is no hex digit", clip(s), ErrAddress)
	}
	if want := Format(address); s != want {
		digits := s[2:]
		if digits == strings.ToLower(digits) || digits == strings.ToUpper(digits) {
			return [20]byte{}, fmt.Errorf("address %q: %w: it carries no checksum; ask for it in mixed case (%s, if no digit is wrong)", s, ErrAddress, want)
		}
		// No suggestion here: a digit was changed, and the suggestion would be somebody else's address.
		return [20]byte{}, fmt.Errorf("address %q: %w: its checksum is wrong, so at least one character was changed; copy it again from its source", s, ErrAddress)
	}
	return address, nil
}

// Format writes an address with its checksum.
func Format(address [20]byte) string {
	text := []byte(hex.EncodeToString(address[:]))
	hash := sha3.NewLegacyKeccak256()
	hash.Write(text)
	sum := hash.Sum(nil)
	for i, c := range text {
		nibble := sum[i/2] >> 4
		if i%2 == 1 {
			nibble = sum[i/2] & 0x0f
		}
		if c >= 'a' && nibble >= 8 {
			text[i] = c - 'a' + 'A'
		}
	}
	return "0x" + string(text)
}

func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}
