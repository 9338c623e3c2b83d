package keyshare

import (
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
	"sync"
)

// WrapKeySize is the length of a wrap key in bytes.
const WrapKeySize = 32

// WrapKey is the key that every record of one signer is sealed under. It lies on
// disk only inside the seal file, encrypted under the operator's passphrase.
type WrapKey struct {
	// Behind a function: fmt calls no method on unexported fields of a surrounding
	// struct, and an unknown verb makes it print even what a pointer points to. Of a
	// function it can print the address only. It is also not comparable, and ==
	// would not be constant time.
	state func() *wrapState
}

type wrapState struct {
	mu     sync.Mutex // Wipe may come from another goroutine than a use
	secret []byte     // nil once wiped; shared by copies of the WrapKey, so a wipe is of all
}

func newWrapKey(secret []byte) *WrapKey {
	state := &wrapState{secret: secret}
	return &WrapKey{state: func() *wrapState { return state }}
}

// NewWrapKey makes a fresh key.
func NewWrapKey() (*WrapKey, error) {
	secret := make([]byte, WrapKeySize)
	if _, err := rand.Read(secret); err != nil {
		return nil, fmt.Errorf("make wrap key: %w", err)
	}
	return newWrapKey(secret), nil
}

// ImportWrapKey copies b, which the caller should then clear.
func ImportWrapKey(b []byte) (*WrapKey, error) {
	if len(b) != WrapKeySize {
		return nil, fmt.Errorf("wrap key has %d bytes, want %d", len(b), WrapKeySize)
	}
	return newWrapKey(append([]byte(nil), b...)), nil
}

func (k *WrapKey) use(f func(secret []byte) error) error {
	if k == nil || k.state == nil {
		return fmt.Errorf("wrap key: %w", ErrWiped)
	}
	state := k.state()
	state.mu.Lock()
	defer state.mu.Unlock()
	if state.secret == nil {
		return fmt.Errorf("wrap key: %w", ErrWiped)
	}
	return f(state.secret)
}

// Export returns a copy of the secret, which the caller clears after use. It is for
// two places only: the seal file and the pipe to a worker process.
func (k *WrapKey) Export() ([]byte, error) {
	var out []byte
	err := k.use(func(secret []byte) error {
		out = append(out, secret...)
		return nil
	})
	return out, err
}

// Equal compares in constant time. A missing or wiped key equals none, itself included.
func (k *WrapKey) Equal(o *WrapKey) bool {
	a, errA := k.Export()
	defer clear(a)
	b, errB := o.Export()
	defer clear(b)
	return errA == nil && errB == nil && subtle.ConstantTimeCompare(a, b) == 1
}

// Wipe clears the key and every copy of it; they refuse to work from then on.
func (k *WrapKey) Wipe() {
	if k == nil || k.state == nil {
		return
	}
	state := k.state()
	state.mu.Lock()
	defer state.mu.Unlock()
	clear(state.secret)
	state.secret = nil
}

const wrapKeyText = "wrap key (redacted)"

func (k WrapKey) String() string               { return wrapKeyText }
func (k WrapKey) GoString() string             { return wrapKeyText }
func (k WrapKey) LogValue() slog.Value         { return slog.StringValue(wrapKeyText) }
func (k WrapKey) Format(s fmt.State, _ rune)   { _, _ = io.WriteString(s, wrapKeyText) }
func (k WrapKey) MarshalText() ([]byte, error) { return []byte(wrapKeyText), nil }
