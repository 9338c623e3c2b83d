package credentialtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"math/big"
	"testing"

	"github.com/go-webauthn/webauthn/protocol/webauthncbor"
	"golang.org/x/crypto/ssh"

	"coffer/credential"
)

// The flags that a token sets when somebody whom it recognised touched it.
const (
	Present  byte = 0x01
	Verified byte = 0x04
)

func seed(name string) []byte {
	sum := sha256.Sum256([]byte("coffer test token " + name))
	return sum[:]
}

func p256(t testing.TB, name string) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), seed(name))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// SK is an OpenSSH security key; as an ssh.Signer it works like one that an agent holds.
type SK struct {
	Application string
	Flags       byte
	Counter     uint32
	secret      crypto.Signer
}

// NewSK makes a key of type sk-ssh-ed25519@openssh.com.
func NewSK(name string) *SK {
	return &SK{Application: "ssh:", Flags: Present | Verified, Counter: 7, secret: ed25519.NewKeyFromSeed(seed(name))}
}

// NewSKP256 makes a key of type sk-ecdsa-sha2-nistp256@openssh.com.
func NewSKP256(t testing.TB, name string) *SK {
	k := NewSK(name)
	k.secret = p256(t, name)
	return k
}

// PublicKey implements ssh.Signer.
func (k *SK) PublicKey() ssh.PublicKey {
	var blob []byte
	switch pub := k.secret.Public().(type) {
	case ed25519.PublicKey:
		blob = ssh.Marshal(struct {
			Type string
			Key  []byte
			App  string
		}{ssh.KeyAlgoSKED25519, pub, k.Application})
	case *ecdsa.PublicKey:
		point, err := pub.Bytes()
		if err != nil {
			panic(err)
		}
		blob = ssh.Marshal(struct {
			Type, Curve string
			Key         []byte
			App         string
		}{ssh.KeyAlgoSKECDSA256, "nistp256", point, k.Application})
	}
	out, err := ssh.ParsePublicKey(blob)
	if err != nil {
		panic(err)
	}
	return out
}

// Sign implements ssh.Signer.
func (k *SK) Sign(_ io.Reader, data []byte) (*ssh.Signature, error) {
	rest := binary.BigEndian.AppendUint32([]byte{k.Flags}, k.Counter)
	app, sum := sha256.Sum256([]byte(k.Application)), sha256.Sum256(data)
	signed := append(append(app[:], rest...), sum[:]...)
	out := &ssh.Signature{Format: k.PublicKey().Type(), Rest: rest}
	switch secret := k.secret.(type) {
	case ed25519.PrivateKey:
		out.Blob = ed25519.Sign(secret, signed)
	case *ecdsa.PrivateKey:
		digest := sha256.Sum256(signed)
		r, s, err := ecdsa.Sign(rand.Reader, secret, digest[:])
		if err != nil {
			return nil, err
		}
		out.Blob = ssh.Marshal(struct{ R, S *big.Int }{r, s})
	}
	return out, nil
}

// SecurityKey is a person's security key that was touched and verified.
func SecurityKey(t testing.TB, name string) credential.Signer {
	t.Helper()
	s, err := credential.NewSigner(NewSK(name))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Authenticator is a passkey, and the browser before it.
type Authenticator struct {
	RP          string // whose hash is in the authenticator data
	Flags       byte
	Counter     uint32
	Type        string
	Origin      string
	CrossOrigin string // JSON; left out if empty
	Extra       string // JSON members after the others, with a comma before
	key         credential.Key
	secret      crypto.Signer
}

// NewAuthenticator makes a passkey of relying party localhost with a P-256 key.
func NewAuthenticator(t testing.TB, name string) *Authenticator {
	t.Helper()
	return newAuthenticator(t, credential.Localhost, name, p256(t, name))
}

// NewAuthenticatorOf makes a passkey of another relying party or key.
func NewAuthenticatorOf(t testing.TB, rp, name string, secret crypto.Signer) *Authenticator {
	t.Helper()
	if secret == nil {
		secret = p256(t, name)
	}
	return newAuthenticator(t, rp, name, secret)
}

// Ed25519 is the secret of a name, for NewAuthenticatorOf.
func Ed25519(name string) crypto.Signer { return ed25519.NewKeyFromSeed(seed(name)) }

func newAuthenticator(t testing.TB, rp, name string, secret crypto.Signer) *Authenticator {
	t.Helper()
	pub, err := ssh.NewPublicKey(secret.Public())
	if err != nil {
		t.Fatal(err)
	}
	key, err := credential.NewWebAuthnKey(rp, seed("id of " + name)[:20], pub)
	if err != nil {
		t.Fatal(err)
	}
	origin := "https://" + rp
	if rp == credential.Localhost {
		origin = "http://localhost:42139"
	}
	return &Authenticator{RP: rp, Flags: Present | Verified, Counter: 3, Type: "webauthn.get", Origin: origin, CrossOrigin: "false", key: key, secret: secret}
}

// Key implements credential.Signer.
func (a *Authenticator) Key() credential.Key { return a.key }

// Sign implements credential.Signer.
func (a *Authenticator) Sign(namespace string, message []byte) ([]byte, error) {
	answer, err := a.Assert(namespace, message)
	if err != nil {
		return nil, err
	}
	return answer.Seal(a.key, namespace, message)
}

// ClientData is the JSON that the browser writes about a challenge.
func (a *Authenticator) ClientData(namespace string, message []byte) []byte {
	digest := credential.Challenge(namespace, message)
	cross := ""
	if a.CrossOrigin != "" {
		cross = `,"crossOrigin":` + a.CrossOrigin
	}
	return fmt.Appendf(nil, `{"type":%q,"challenge":%q,"origin":%q%s%s}`, a.Type, base64.RawURLEncoding.EncodeToString(digest[:]), a.Origin, cross, a.Extra)
}

// Assert answers as the browser would, checking nothing.
func (a *Authenticator) Assert(namespace string, message []byte) (credential.Assertion, error) {
	rp := sha256.Sum256([]byte(a.RP))
	data := binary.BigEndian.AppendUint32(append(rp[:], a.Flags), a.Counter)
	return a.SignParts(data, a.ClientData(namespace, message))
}

// SignParts signs any authenticator data and client data.
func (a *Authenticator) SignParts(authData, clientData []byte) (credential.Assertion, error) {
	sum := sha256.Sum256(clientData)
	signed := append(append([]byte(nil), authData...), sum[:]...)
	digest := sha256.Sum256(signed)
	var sig []byte
	var err error
	switch secret := a.secret.(type) {
	case ed25519.PrivateKey:
		sig = ed25519.Sign(secret, signed)
	case *rsa.PrivateKey:
		sig, err = rsa.SignPKCS1v15(rand.Reader, secret, crypto.SHA256, digest[:])
	default:
		sig, err = secret.Sign(rand.Reader, digest[:], crypto.SHA256)
	}
	return credential.Assertion{AuthenticatorData: authData, ClientData: clientData, Signature: sig}, err
}

// Passkey is a person's passkey for the page that coffer serves on localhost.
func Passkey(t testing.TB, name string) credential.Signer {
	t.Helper()
	return NewAuthenticator(t, name)
}

// Creation is what a browser answers when a passkey is made.
type Creation struct {
	ID, Attestation, ClientData []byte
}

// Create answers a request to make this passkey, checking nothing. The type and
// extra members of its client data and the flags are those of a.
func (a *Authenticator) Create(t testing.TB, challenge string) Creation {
	t.Helper()
	cose, err := a.COSE()
	if err != nil {
		t.Fatal(err)
	}
	id := a.key.CredentialID()
	rp := sha256.Sum256([]byte(a.RP))
	data := binary.BigEndian.AppendUint32(append(rp[:], a.Flags|0x40), a.Counter)
	data = append(data, make([]byte, 16)...) // of an authenticator that does not say its make
	data = binary.BigEndian.AppendUint16(data, uint16(len(id)))
	data = append(append(data, id...), cose...)
	object, err := webauthncbor.Marshal(map[string]any{"fmt": "none", "attStmt": map[string]any{}, "authData": data})
	if err != nil {
		t.Fatal(err)
	}
	cross := ""
	if a.CrossOrigin != "" {
		cross = `,"crossOrigin":` + a.CrossOrigin
	}
	return Creation{ID: id, Attestation: object, ClientData: fmt.Appendf(nil, `{"type":%q,"challenge":%q,"origin":%q%s%s}`, a.Type, challenge, a.Origin, cross, a.Extra)}
}

// COSE is the public key as an authenticator hands it over.
func (a *Authenticator) COSE() ([]byte, error) {
	switch pub := a.secret.Public().(type) {
	case ed25519.PublicKey:
		return webauthncbor.Marshal(map[int]any{1: 1, 3: -8, -1: 6, -2: []byte(pub)})
	case *ecdsa.PublicKey:
		point, err := pub.Bytes()
		if err != nil {
			return nil, err
		}
		return webauthncbor.Marshal(map[int]any{1: 2, 3: -7, -1: 1, -2: point[1:33], -3: point[33:]})
	case *rsa.PublicKey:
		return webauthncbor.Marshal(map[int]any{1: 3, 3: -257, -1: pub.N.Bytes(), -2: big.NewInt(int64(pub.E)).Bytes()})
	}
	return nil, fmt.Errorf("no COSE for %T", a.secret)
}
