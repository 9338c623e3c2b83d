package keyshare

import (
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"

	"coffer/canon"
)

// A sealed record is
//
//	version (1) | nonce (24) | data key, wrapped (32+16) | nonce (24) | plaintext, encrypted (n+16)
//
// The data key is fresh per record, so that moving to another wrap key (a KMS, an
// HSM, a new passphrase) rewraps 48 bytes and leaves the body as it is.
const (
	sealVersion = 1

	wrapDomain = "coffer/seal-key/v1"
	bodyDomain = "coffer/seal-body/v1"

	wrappedSize = chacha20poly1305.KeySize + chacha20poly1305.Overhead
	bodyAt      = 1 + chacha20poly1305.NonceSizeX + wrappedSize + chacha20poly1305.NonceSizeX

	// Overhead is what sealing adds to a plaintext.
	Overhead = bodyAt + chacha20poly1305.Overhead

	// MaxPlaintext bounds what is sealed and opened. The largest share, of 20
	// parties, is well under 100 KiB.
	MaxPlaintext = 1 << 20
)

// Seal encrypts plaintext under the wrap key, bound to ad, which must not be empty:
// it is what keeps one record from standing in for another.
func Seal(k *WrapKey, ad, plaintext []byte) ([]byte, error) {
	if len(ad) == 0 {
		return nil, errors.New("seal: associated data is empty: it must say what the record is")
	}
	if len(plaintext) > MaxPlaintext {
		return nil, fmt.Errorf("seal: plaintext of %d bytes, at most %d", len(plaintext), MaxPlaintext)
	}
	out := make([]byte, bodyAt, len(plaintext)+Overhead)
	out[0] = sealVersion
	wrapNonce, bodyNonce := out[1:1+chacha20poly1305.NonceSizeX], out[bodyAt-chacha20poly1305.NonceSizeX:bodyAt]
	dataKey := make([]byte, chacha20poly1305.KeySize)
	defer clear(dataKey)
	for _, b := range [][]byte{wrapNonce, bodyNonce, dataKey} {
		if _, err := rand.Read(b); err != nil {
			return nil, fmt.Errorf("seal: %w", err)
		}
	}
	wrap, err := k.cipher()
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	body, err := chacha20poly1305.NewX(dataKey)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	wrap.Seal(out[1+chacha20poly1305.NonceSizeX:][:0], wrapNonce, dataKey, bind(wrapDomain, ad))
	return body.Seal(out, bodyNonce, plaintext, bind(bodyDomain, ad)), nil
}

// Open decrypts what Seal made with the same key and ad. The caller clears the
// plaintext after use.
func Open(k *WrapKey, ad, sealed []byte) ([]byte, error) {
	wrap, err := k.cipher()
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	if err := CheckSealed(sealed); err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	wrapNonce, wrapped := sealed[1:1+chacha20poly1305.NonceSizeX], sealed[1+chacha20poly1305.NonceSizeX:][:wrappedSize]
	dataKey, err := wrap.Open(nil, wrapNonce, wrapped, bind(wrapDomain, ad))
	if err != nil {
		return nil, fmt.Errorf("open: %w", ErrOpen)
	}
	defer clear(dataKey)
	body, err := chacha20poly1305.NewX(dataKey)
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	plaintext, err := body.Open(nil, sealed[bodyAt-chacha20poly1305.NonceSizeX:bodyAt], sealed[bodyAt:], bind(bodyDomain, ad))
	if err != nil {
		return nil, fmt.Errorf("open: %w", ErrOpen)
	}
	return plaintext, nil
}

// CheckSealed looks at the form only: what a process without the key can say.
func CheckSealed(sealed []byte) error {
	switch {
	case len(sealed) < Overhead || len(sealed) > MaxPlaintext+Overhead:
		return fmt.Errorf("%w: it has %d bytes", ErrFormat, len(sealed))
	case sealed[0] != sealVersion:
		return fmt.Errorf("%w: it is of version %d, this release reads version %d", ErrFormat, sealed[0], sealVersion)
	}
	return nil
}

func (k *WrapKey) cipher() (aead cipher.AEAD, err error) {
	err = k.use(func(secret []byte) error {
		aead, err = chacha20poly1305.NewX(secret)
		return err
	})
	return aead, err
}

// bind keeps a wrapped data key from being taken for a body, and the reverse.
func bind(domain string, ad []byte) []byte { return canon.New(domain).Bytes(ad).Encoded() }
