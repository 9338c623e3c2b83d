package keyshare

import (
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"

	"coffer/canon"
)

// ShareDomain begins the plaintext of a sealed share.
const ShareDomain = "coffer/share/v1"

// Share is one party's secret share of a wallet's key, in the engine's encoding.
// It has verbs and no getter: it is sealed, lent to a function, wiped.
type Share struct {
	state func() *shareState // a function for the same reason as WrapKey.state
}

type shareState struct {
	mu     sync.Mutex // Wipe may come from another goroutine than Use
	meta   Meta
	format uint64
	secret []byte
}

// NewShare copies secret, which the caller should then clear. The format number is
// the engine's own: it names the encoding of secret, so that a later engine knows
// what it reads.
func NewShare(meta Meta, format uint64, secret []byte) (*Share, error) {
	if err := meta.Validate(); err != nil {
		return nil, err
	}
	if len(secret) == 0 {
		return nil, fmt.Errorf("share: %w", ErrWiped)
	}
	// The wrapping adds the domain, a number and two lengths.
	if max := MaxPlaintext - 64; len(secret) > max {
		return nil, fmt.Errorf("share of %d bytes, at most %d", len(secret), max)
	}
	return newShare(meta, format, append([]byte(nil), secret...)), nil
}

func newShare(meta Meta, format uint64, secret []byte) *Share {
	meta.Signers = slices.Clone(meta.Signers)
	state := &shareState{meta: meta, format: format, secret: secret}
	return &Share{state: func() *shareState { return state }}
}

// OpenShare opens a record that Seal made for exactly this meta.
func OpenShare(k *WrapKey, meta Meta, sealed []byte) (*Share, error) {
	if err := meta.Validate(); err != nil {
		return nil, err
	}
	plaintext, err := Open(k, meta.AD(), sealed)
	if err != nil {
		return nil, fmt.Errorf("share of wallet %q, epoch %d: %w", meta.Wallet, meta.Epoch, err)
	}
	defer clear(plaintext)
	format, secret, err := parseShare(plaintext)
	if err != nil {
		return nil, fmt.Errorf("share of wallet %q, epoch %d: %w", meta.Wallet, meta.Epoch, err)
	}
	return newShare(meta, format, secret), nil
}

func encodeShare(format uint64, secret []byte) []byte {
	return canon.New(ShareDomain).Uint64(format).Bytes(secret).Encoded()
}

func parseShare(plaintext []byte) (format uint64, secret []byte, err error) {
	d := canon.NewDecoder(ShareDomain, plaintext)
	format, secret = d.Uint64(), d.Bytes(MaxPlaintext)
	if err := d.Finish(); err != nil {
		clear(secret)
		return 0, nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if len(secret) == 0 {
		return 0, nil, fmt.Errorf("%w: it holds no share", ErrFormat)
	}
	return format, secret, nil
}

// Meta says which share it is.
func (s *Share) Meta() (Meta, error) {
	if s == nil || s.state == nil {
		return Meta{}, fmt.Errorf("share: %w", ErrWiped)
	}
	meta := s.state().meta
	meta.Signers = slices.Clone(meta.Signers)
	return meta, nil
}

// Seal encrypts the share under k, bound to its meta.
func (s *Share) Seal(k *WrapKey) ([]byte, error) {
	var sealed []byte
	err := s.Use(func(format uint64, secret []byte) error {
		plaintext := encodeShare(format, secret)
		defer clear(plaintext)
		var err error
		sealed, err = Seal(k, s.state().meta.AD(), plaintext)
		return err
	})
	return sealed, err
}

// Use lends the secret to f, which must not keep it. The bytes are cleared by Wipe.
func (s *Share) Use(f func(format uint64, secret []byte) error) error {
	if s == nil || s.state == nil {
		return fmt.Errorf("share: %w", ErrWiped)
	}
	state := s.state()
	state.mu.Lock()
	defer state.mu.Unlock()
	if state.secret == nil {
		return fmt.Errorf("share: %w", ErrWiped)
	}
	return f(state.format, state.secret)
}

// Wipe clears the secret and waits for a Use under way. It may be called more than once.
func (s *Share) Wipe() {
	if s == nil || s.state == nil {
		return
	}
	state := s.state()
	state.mu.Lock()
	defer state.mu.Unlock()
	clear(state.secret)
	state.secret = nil
}

const shareText = "share (redacted)"

func (s Share) String() string               { return shareText }
func (s Share) GoString() string             { return shareText }
func (s Share) LogValue() slog.Value         { return slog.StringValue(shareText) }
func (s Share) Format(st fmt.State, _ rune)  { _, _ = io.WriteString(st, shareText) }
func (s Share) MarshalText() ([]byte, error) { return []byte(shareText), nil }
