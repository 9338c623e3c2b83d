package credential

import (
	"bytes"
	"crypto/rsa"
	_ "crypto/sha256" // both hashes that an SSHSIG can name
	_ "crypto/sha512"
	"encoding/base64"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"
)

// MaxSignature bounds an armored signature; one of the largest accepted RSA key needs 3 KiB.
const MaxSignature = 8 << 10

const (
	armorHead = "-----BEGIN SSH SIGNATURE-----\n"
	armorTail = "-----END SSH SIGNATURE-----\n"
)

// lineWidths are those of OpenSSH and of PEM (RFC 7468), which other tools write.
var lineWidths = []int{70, 64}

func armor(blob []byte, width int) []byte {
	encoded := base64.StdEncoding.EncodeToString(blob)
	var b strings.Builder
	b.WriteString(armorHead)
	for len(encoded) > width {
		b.WriteString(encoded[:width])
		b.WriteByte('\n')
		encoded = encoded[width:]
	}
	b.WriteString(encoded)
	b.WriteByte('\n')
	b.WriteString(armorTail)
	return []byte(b.String())
}

// unarmor accepts only what armor writes: PEM headers, text around the block and odd
// line ends are places where two parsers disagree.
func unarmor(text []byte) ([]byte, error) {
	if len(text) > MaxSignature {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrMalformedSignature, len(text), MaxSignature)
	}
	body, head := strings.CutPrefix(string(text), armorHead)
	body, tail := strings.CutSuffix(body, armorTail)
	if !head || !tail {
		return nil, fmt.Errorf("%w: it must begin and end with the lines that ssh-keygen -Y sign writes, nothing before or after", ErrMalformedSignature)
	}
	blob, err := base64.StdEncoding.Strict().DecodeString(strings.ReplaceAll(body, "\n", ""))
	if err != nil {
		return nil, fmt.Errorf("%w: bad base64 between its lines", ErrMalformedSignature)
	}
	for _, width := range lineWidths {
		if bytes.Equal(armor(blob, width), text) {
			return blob, nil
		}
	}
	return nil, fmt.Errorf("%w: its lines are broken in an unusual place; pass it on unchanged", ErrMalformedSignature)
}

// parseSignature decodes strictly: encoding the result again gives the input.
func parseSignature(text []byte) (*sshsig.Signature, Key, error) {
	blob, err := unarmor(text)
	if err != nil {
		return nil, Key{}, err
	}
	sig, err := sshsig.ParseSignature(blob)
	if err != nil {
		return nil, Key{}, fmt.Errorf("%w: %w", ErrMalformedSignature, err)
	}
	if err := accepted(sig.PublicKey); err != nil {
		return nil, Key{}, err
	}
	// The library drops the reserved field, and keeps the rest of the inner
	// signature: flags and counter of security keys.
	if (len(sig.Signature.Rest) > 0) != securityKey(sig.PublicKey) || !bytes.Equal(sig.Marshal(), blob) {
		return nil, Key{}, fmt.Errorf("%w: it is not in its canonical encoding", ErrMalformedSignature)
	}
	if err := canonicalInner(sig); err != nil {
		return nil, Key{}, err
	}
	return sig, keyOf(sig.PublicKey), nil
}

// canonicalInner fixes the algorithm to the key's type and the encoding of the numbers inside.
func canonicalInner(sig *sshsig.Signature) error {
	inner := sig.Signature
	bad := func(what string) error {
		return fmt.Errorf("%w: %s", ErrMalformedSignature, what)
	}
	// One byte of flags and four of a counter. The counter is signed and not looked at:
	// nobody here remembers the last one, and keys on several tokens have none.
	if securityKey(sig.PublicKey) && len(inner.Rest) != 5 {
		return bad("want flags and counter of a security key at its end")
	}
	switch sig.PublicKey.Type() {
	case ssh.KeyAlgoED25519, ssh.KeyAlgoSKED25519:
		if inner.Format != sig.PublicKey.Type() || len(inner.Blob) != 64 {
			return bad("not an " + sig.PublicKey.Type() + " signature of 64 bytes")
		}
	case ssh.KeyAlgoECDSA256, ssh.KeyAlgoSKECDSA256:
		if inner.Format != sig.PublicKey.Type() {
			return bad("algorithm " + clip(inner.Format) + " under an ECDSA key")
		}
		var rs struct{ R, S *big.Int }
		if err := ssh.Unmarshal(inner.Blob, &rs); err != nil {
			return fmt.Errorf("%w: %w", ErrMalformedSignature, err)
		}
		if rs.R.Sign() <= 0 || rs.S.Sign() <= 0 || !bytes.Equal(ssh.Marshal(rs), inner.Blob) {
			return bad("the ECDSA numbers are not in their canonical encoding")
		}
	case ssh.KeyAlgoRSA:
		// ssh-rsa means SHA-1, for which collisions are bought by the hour.
		if inner.Format != ssh.KeyAlgoRSASHA256 && inner.Format != ssh.KeyAlgoRSASHA512 {
			return bad("algorithm " + clip(inner.Format) + " under an RSA key, want rsa-sha2-512")
		}
		if len(inner.Blob) != rsaSize(sig.PublicKey) {
			return bad("the RSA signature is not as long as its key")
		}
	default:
		return bad("unknown key type")
	}
	return nil
}

func rsaSize(pub ssh.PublicKey) int {
	if c, ok := pub.(ssh.CryptoPublicKey); ok {
		if k, ok := c.CryptoPublicKey().(*rsa.PublicKey); ok {
			return k.Size()
		}
	}
	return 0
}

func clip(s string) string {
	if len(s) > 40 {
		s = s[:40] + "…"
	}
	return fmt.Sprintf("%q", s)
}

// SignatureKey is the key that a signature claims to be by. It proves nothing until Verify.
func SignatureKey(signature []byte) (Key, error) {
	if isWebAuthn(signature) {
		_, by, err := openAssertion(signature)
		return by.key, err
	}
	_, k, err := parseSignature(signature)
	return k, err
}

// Verify accepts a signature by exactly this key, for exactly this namespace, over
// exactly message: an armored SSHSIG, hashed with SHA-256 or SHA-512, or what
// Assertion.Seal made of a passkey's answer. A security key and a passkey must have
// been touched by somebody whom they recognised.
func (k Key) Verify(namespace string, message, signature []byte) error {
	if namespace == "" {
		return fmt.Errorf("%w: none was asked for", ErrNamespace)
	}
	p, err := k.parse()
	if err != nil {
		return err
	}
	if k.Kind == KindWebAuthn {
		return k.verifyWebAuthn(p, namespace, message, signature)
	}
	if isWebAuthn(signature) {
		return fmt.Errorf("%w: it is of a passkey, want an SSH signature", ErrOtherKey)
	}
	sig, by, err := parseSignature(signature)
	if err != nil {
		return err
	}
	if by != k {
		return fmt.Errorf("%w: %s, want %s", ErrOtherKey, by.Fingerprint(), k.Fingerprint())
	}
	if sig.Namespace != namespace {
		return fmt.Errorf("%w: %s, want %q", ErrNamespace, clip(sig.Namespace), namespace)
	}
	if k.Kind == KindSK {
		// Not left to the library: it once verified signatures without a touch
		// (CVE-2026-39831), and it never asks for verification.
		if err := checkFlags(sig.Signature.Rest[0]); err != nil {
			return err
		}
	}
	if err := sshsig.Verify(bytes.NewReader(message), sig, p.ssh, sig.HashAlgorithm, namespace); err != nil {
		return fmt.Errorf("%w under %s: something else was signed", ErrSignature, k.Fingerprint())
	}
	return nil
}

// seal armors what a signer made, and refuses to hand on what nobody would accept:
// an agent answers over a socket, and may answer anything.
func seal(k Key, namespace string, message []byte, sig *sshsig.Signature) ([]byte, error) {
	// Some agents cut leading zeros off an RSA signature.
	if n := rsaSize(sig.PublicKey); n > 0 && len(sig.Signature.Blob) < n {
		sig.Signature.Blob = append(make([]byte, n-len(sig.Signature.Blob)), sig.Signature.Blob...)
	}
	out := armor(sig.Marshal(), lineWidths[0])
	if err := k.Verify(namespace, message, out); err != nil {
		return nil, fmt.Errorf("check own signature: %w", err)
	}
	return slices.Clip(out), nil
}
