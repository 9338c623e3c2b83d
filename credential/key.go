package credential

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"
)

// The kinds of Key, which rules name.
const (
	// KindSSH: Public is an OpenSSH public key line; the secret is a file's or an agent's.
	KindSSH = "ssh"
	// KindSK: Public is an OpenSSH line of a security key (FIDO), which signs only
	// when it was touched and knows who touched it.
	KindSK = "ssh-sk"
	// KindWebAuthn: Public is a line of ours about a passkey; see NewWebAuthnKey.
	KindWebAuthn = "webauthn"
)

const (
	minRSABits = 3072
	// Verification time grows with the modulus; larger keys buy a caller CPU time of ours.
	maxRSABits = 8192
	maxLine    = 4 << 10
)

// Key is a public key in its only accepted spelling, so that two Keys are of the
// same secret, held in the same way, exactly when they are equal. Make one with ParseKey.
type Key struct {
	Kind   string `json:"kind"`
	Public string `json:"public"`
}

// ParseKey reads one line as in id_ed25519.pub, or a passkey's as coffer enrol shows
// it. A comment is dropped; options, as authorized_keys has them, are refused because
// nothing here would obey them.
func ParseKey(line string) (Key, error) {
	p, err := parseKey(line)
	return p.key, err
}

// parsed is a key that was taken apart.
type parsed struct {
	key Key
	ssh ssh.PublicKey // of a passkey: the plain key inside
	rp  string        // of a passkey
}

func parseKey(line string) (parsed, error) {
	if len(line) > maxLine {
		return parsed{}, fmt.Errorf("%w: it is longer than %d bytes", ErrMalformedKey, maxLine)
	}
	line = strings.TrimRight(line, "\r\n")
	if strings.ContainsAny(line, "\r\n") {
		return parsed{}, fmt.Errorf("%w: give exactly one line", ErrMalformedKey)
	}
	fields := strings.Fields(line)
	if len(fields) < 2 {
		return parsed{}, fmt.Errorf("%w: want a key type and base64, as in the .pub file that ssh-keygen writes", ErrMalformedKey)
	}
	if strings.HasPrefix(fields[0], "-----BEGIN") {
		return parsed{}, fmt.Errorf("%w: this is the private key; give the .pub file", ErrMalformedKey)
	}
	if fields[0] == KindWebAuthn {
		return parseWebAuthn(fields)
	}
	pub, err := parseLine(fields[0], fields[1])
	if err != nil {
		return parsed{}, err
	}
	return parsed{key: keyOf(pub), ssh: pub}, nil
}

func parseLine(name, encoded string) (ssh.PublicKey, error) {
	if err := acceptedType(name); err != nil {
		return nil, err
	}
	blob, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return nil, fmt.Errorf("%w: %s is not followed by valid base64", ErrMalformedKey, name)
	}
	pub, err := parseBlob(blob)
	if err != nil {
		return nil, err
	}
	if pub.Type() != name {
		return nil, fmt.Errorf("%w: the line says %s, the key inside is %s", ErrMalformedKey, name, pub.Type())
	}
	return pub, nil
}

func keyOf(pub ssh.PublicKey) Key {
	kind := KindSSH
	if securityKey(pub) {
		kind = KindSK
	}
	return Key{Kind: kind, Public: sshLine(pub)}
}

func sshLine(pub ssh.PublicKey) string {
	return pub.Type() + " " + base64.StdEncoding.EncodeToString(pub.Marshal())
}

// parseBlob accepts a wire-format public key of an accepted type in its one encoding.
func parseBlob(blob []byte) (ssh.PublicKey, error) {
	pub, err := ssh.ParsePublicKey(blob)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformedKey, err)
	}
	if err := accepted(pub); err != nil {
		return nil, err
	}
	if !bytes.Equal(pub.Marshal(), blob) {
		return nil, fmt.Errorf("%w: the %s key is not in its canonical encoding", ErrMalformedKey, pub.Type())
	}
	return pub, nil
}

func acceptedType(name string) error {
	const use = "use ssh-keygen -t ed25519"
	switch {
	case name == ssh.KeyAlgoED25519, name == ssh.KeyAlgoECDSA256, name == ssh.KeyAlgoRSA, name == ssh.KeyAlgoSKED25519, name == ssh.KeyAlgoSKECDSA256:
		return nil
	case strings.Contains(name, "-cert-"):
		return fmt.Errorf("%w: %s is a certificate; give the plain public key", ErrUnsupportedKey, name)
	case strings.HasPrefix(name, "sk-"):
		return fmt.Errorf("%w: type %s; use ssh-keygen -t ed25519-sk -O verify-required", ErrUnsupportedKey, name)
	case strings.HasPrefix(name, "ssh-"), strings.HasPrefix(name, "ecdsa-"):
		return fmt.Errorf("%w: type %s; %s", ErrUnsupportedKey, name, use)
	}
	return fmt.Errorf("%w: it begins with %.40q, not with a key type (options are not allowed)", ErrMalformedKey, name)
}

func accepted(pub ssh.PublicKey) error {
	if err := acceptedType(pub.Type()); err != nil {
		return err
	}
	inner, ok := pub.(ssh.CryptoPublicKey)
	if !ok {
		return fmt.Errorf("%w: type %s", ErrUnsupportedKey, pub.Type())
	}
	if securityKey(pub) {
		if err := acceptedApplication(pub); err != nil {
			return err
		}
	}
	switch k := inner.CryptoPublicKey().(type) {
	case ed25519.PublicKey:
		if weakEd25519(k) {
			return fmt.Errorf("%w: this Ed25519 point has no secret key; make a key with ssh-keygen -t ed25519", ErrUnsupportedKey)
		}
		return nil
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() {
			return nil
		}
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < minRSABits || bits > maxRSABits {
			return fmt.Errorf("%w: RSA of %d bits, want %d to %d; or use ssh-keygen -t ed25519", ErrUnsupportedKey, bits, minRSABits, maxRSABits)
		}
		if k.N.Bit(0) == 0 {
			return fmt.Errorf("%w: the RSA modulus is even", ErrUnsupportedKey)
		}
		return nil
	}
	return fmt.Errorf("%w: type %s", ErrUnsupportedKey, pub.Type())
}

// smallOrder holds the y coordinates of the eight points of small order, without
// the sign bit. Under such a key S=0 signs every message, so its holder can show a
// signature that somebody else "made", and nobody can tell.
var smallOrder = [][32]byte{
	{},
	{1},
	{0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0,
		0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05},
	{0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f,
		0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a},
	{0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
}

func weakEd25519(k ed25519.PublicKey) bool {
	if len(k) != ed25519.PublicKeySize {
		return true
	}
	var y [32]byte
	copy(y[:], k)
	y[31] &= 0x7f
	// y of 2^255-19 or more is a second spelling of a smaller y: one key would be two.
	if y[31] == 0x7f && y[0] >= 0xed {
		all := true
		for _, b := range y[1:31] {
			all = all && b == 0xff
		}
		if all {
			return true
		}
	}
	for _, s := range smallOrder {
		if y == s {
			return true
		}
	}
	return false
}

// Validate reports whether k is exactly what ParseKey would make of it; for keys
// that were decoded from a file rather than parsed.
func (k Key) Validate() error {
	_, err := k.parse()
	return err
}

func (k Key) parse() (parsed, error) {
	switch k.Kind {
	case KindSSH, KindSK, KindWebAuthn:
	default:
		return parsed{}, fmt.Errorf("%w: kind %.40q, want %q, %q or %q", ErrUnsupportedKey, k.Kind, KindSSH, KindSK, KindWebAuthn)
	}
	p, err := parseKey(k.Public)
	if err != nil {
		return parsed{}, err
	}
	if p.key.Kind != k.Kind {
		return parsed{}, fmt.Errorf("%w: a key of kind %q is called %q", ErrUnsupportedKey, p.key.Kind, k.Kind)
	}
	if p.key != k {
		return parsed{}, fmt.Errorf("%w: spell it without comment or spaces: %s", ErrMalformedKey, p.key.Public)
	}
	return p, nil
}

// Bare is the plain public key inside k as an OpenSSH line, without what says how
// the secret is held, or "" for a key that is not valid. Two keys with the same Bare
// have the same secret, and must not pass for two people's.
func (k Key) Bare() string {
	p, err := k.parse()
	if err != nil {
		return ""
	}
	pub, err := bare(p.ssh)
	if err != nil {
		return ""
	}
	return sshLine(pub)
}

// Fingerprint is "SHA256:…", for an SSH key OpenSSH's, or "" for a key that is not valid.
func (k Key) Fingerprint() string {
	p, err := k.parse()
	if err != nil {
		return ""
	}
	if k.Kind == KindWebAuthn {
		sum := sha256.Sum256([]byte(k.Public))
		return "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:])
	}
	return ssh.FingerprintSHA256(p.ssh)
}

// IsZero reports that no key is named.
func (k Key) IsZero() bool { return k == Key{} }

func (k Key) String() string { return k.Public }
