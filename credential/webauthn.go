package credential

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/protocol/webauthncbor"
	"github.com/go-webauthn/webauthn/protocol/webauthncose"
	"golang.org/x/crypto/ssh"

	"coffer/canon"
)

const (
	webauthnDomain  = "coffer/webauthn/v1"
	challengeDomain = "coffer/webauthn-challenge/v1"

	// Localhost is the relying party of passkeys that coffer's own page asks for.
	Localhost = "localhost"

	maxCredentialID = 1023 // WebAuthn's bound
	maxClientData   = 2 << 10
	maxRP           = 253 // of a DNS name
	maxMembers      = 16  // of client data
	authDataSize    = 37  // hash of the relying party, flags, counter; nothing after
)

// NewWebAuthnKey names a passkey: the relying party that it was made for, its
// credential ID and its public key. The public key is spelled as SSH spells it, so
// that there is one set of rules about which keys are strong enough and one way to
// write each, and so that no signer ever parses CBOR that somebody sent.
func NewWebAuthnKey(rp string, id []byte, pub ssh.PublicKey) (Key, error) {
	if pub == nil {
		return Key{}, fmt.Errorf("%w: there is none", ErrUnsupportedKey)
	}
	return ParseKey(strings.Join([]string{KindWebAuthn, rp, writeID(id), sshLine(pub)}, " "))
}

func parseWebAuthn(fields []string) (parsed, error) {
	if len(fields) < 5 {
		return parsed{}, fmt.Errorf("%w: a passkey is written webauthn, relying party, credential ID, key type, key", ErrMalformedKey)
	}
	rp := fields[1]
	if err := checkRP(rp); err != nil {
		return parsed{}, err
	}
	id, err := readID(fields[2])
	if err != nil {
		return parsed{}, err
	}
	pub, err := parseLine(fields[3], fields[4])
	if err != nil {
		return parsed{}, err
	}
	if securityKey(pub) {
		return parsed{}, fmt.Errorf("%w: type %s inside a passkey", ErrUnsupportedKey, pub.Type())
	}
	line := strings.Join([]string{KindWebAuthn, rp, writeID(id), sshLine(pub)}, " ")
	return parsed{key: Key{Kind: KindWebAuthn, Public: line}, ssh: pub, rp: rp}, nil
}

// checkRP accepts "localhost" and DNS names in lower case with a dot, as browsers do.
func checkRP(rp string) error {
	if rp == Localhost {
		return nil
	}
	bad := fmt.Errorf("%w: relying party %.60q; want localhost or a domain name in lower case", ErrMalformedKey, rp)
	labels := strings.Split(rp, ".")
	if len(rp) > maxRP || len(labels) < 2 {
		return bad
	}
	for _, l := range labels {
		if len(l) == 0 || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' {
			return bad
		}
		for _, r := range l {
			if (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' {
				return bad
			}
		}
	}
	// Numbers at the end are an address, which is no relying party.
	if last := labels[len(labels)-1]; strings.Trim(last, "0123456789") == "" {
		return bad
	}
	return nil
}

// checkOrigin accepts the one page that may ask: the relying party's own over TLS,
// or any port of this machine's, of which coffer takes whichever is free.
func checkOrigin(rp, origin string) error {
	if rp != Localhost {
		if origin == "https://"+rp {
			return nil
		}
		return fmt.Errorf("%w: the page that asked was %s, want https://%s", ErrOrigin, clip(origin), rp)
	}
	port, ok := strings.CutPrefix(origin, "http://"+Localhost+":")
	n, err := strconv.ParseUint(port, 10, 16)
	if !ok || err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
		return fmt.Errorf("%w: the page that asked was %s, want http://%s:PORT", ErrOrigin, clip(origin), Localhost)
	}
	return nil
}

// RelyingParty is that of a passkey, and "" of any other key.
func (k Key) RelyingParty() string {
	if k.Kind != KindWebAuthn {
		return ""
	}
	p, err := k.parse()
	if err != nil {
		return ""
	}
	return p.rp
}

// CredentialID is that of a passkey, and nil of any other key.
func (k Key) CredentialID() []byte {
	if k.RelyingParty() == "" {
		return nil
	}
	id, err := readID(strings.Fields(k.Public)[2])
	if err != nil {
		return nil
	}
	return id
}

// Challenge is what a passkey is asked to sign for a namespace and message. SSHSIG
// separates namespaces in its own format; WebAuthn has none, so the challenge does.
func Challenge(namespace string, message []byte) canon.Digest {
	return canon.New(challengeDomain).String(namespace).Bytes(message).Sum()
}

// Assertion is what an authenticator and browser answered.
type Assertion struct {
	AuthenticatorData []byte
	ClientData        []byte // JSON
	Signature         []byte
}

// Signature is the form in which an assertion travels. It names the whole key, as an
// SSHSIG does.
func (a Assertion) signature(k Key) []byte {
	return canon.New(webauthnDomain).String(k.Public).Bytes(a.AuthenticatorData).Bytes(a.ClientData).Bytes(a.Signature).Encoded()
}

// Seal makes a signature of what an authenticator answered, if it is one by k over
// message: a browser answers over a socket, and may answer anything.
func (a Assertion) Seal(k Key, namespace string, message []byte) ([]byte, error) {
	sig := a.signature(k)
	if err := k.Verify(namespace, message, sig); err != nil {
		return nil, fmt.Errorf("check own signature: %w", err)
	}
	return sig, nil
}

// isWebAuthn tells the two forms apart by their first bytes: armor is text, and a
// canonical message begins with a length.
func isWebAuthn(signature []byte) bool {
	return len(signature) > 0 && signature[0] == 0
}

func openAssertion(signature []byte) (Assertion, parsed, error) {
	if len(signature) > MaxSignature {
		return Assertion{}, parsed{}, fmt.Errorf("%w: %d bytes, at most %d", ErrMalformedSignature, len(signature), MaxSignature)
	}
	d := canon.NewDecoder(webauthnDomain, signature)
	line := d.String(maxLine)
	a := Assertion{AuthenticatorData: d.Bytes(authDataSize), ClientData: d.Bytes(maxClientData), Signature: d.Bytes(maxRSABits / 8)}
	if err := d.Finish(); err != nil {
		return Assertion{}, parsed{}, fmt.Errorf("%w: %w", ErrMalformedSignature, err)
	}
	p, err := Key{Kind: KindWebAuthn, Public: line}.parse()
	if err != nil {
		return Assertion{}, parsed{}, err
	}
	// Attested keys and extensions are never asked for; without them there is no CBOR here.
	if len(a.AuthenticatorData) != authDataSize {
		return Assertion{}, parsed{}, fmt.Errorf("%w: authenticator data of %d bytes, want %d", ErrMalformedSignature, len(a.AuthenticatorData), authDataSize)
	}
	if len(a.Signature) == 0 {
		return Assertion{}, parsed{}, fmt.Errorf("%w: the authenticator signed nothing", ErrMalformedSignature)
	}
	return a, p, nil
}

// clientData is what a browser says that it asked an authenticator for.
type clientData struct {
	kind, challenge, origin string
}

// parseClientData reads strictly what encoding/json reads loosely: no member twice,
// none that differs from a known one in case only, nothing after. Members that the
// standard may add are let through, as it demands; they are signed and mean nothing here.
func parseClientData(raw []byte) (clientData, error) {
	bad := func(format string, args ...any) (clientData, error) {
		return clientData{}, fmt.Errorf("%w: client data: %s", ErrMalformedSignature, fmt.Sprintf(format, args...))
	}
	if !utf8.Valid(raw) {
		return bad("it is not UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return bad("it is not a JSON object")
	}
	members := map[string]json.RawMessage{}
	for dec.More() {
		t, err := dec.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return bad("it is not a JSON object")
		}
		folded := strings.ToLower(name)
		if _, twice := members[folded]; twice || len(members) == maxMembers {
			return bad("member %s is there twice, or there are more than %d", clip(name), maxMembers)
		}
		for _, known := range []string{"type", "challenge", "origin", "crossOrigin", "topOrigin", "tokenBinding"} {
			if strings.EqualFold(name, known) && name != known {
				return bad("member %s, want %q", clip(name), known)
			}
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return bad("member %s has no value", clip(name))
		}
		members[folded] = value
	}
	if _, err := dec.Token(); err != nil {
		return bad("it does not end")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return bad("more follows it")
	}
	if v, ok := members["crossorigin"]; ok && string(v) != "false" {
		return clientData{}, fmt.Errorf("%w: the page that asked was framed by another", ErrOrigin)
	}
	if _, ok := members["toporigin"]; ok {
		return clientData{}, fmt.Errorf("%w: the page that asked was framed by another", ErrOrigin)
	}
	var c clientData
	for name, into := range map[string]*string{"type": &c.kind, "challenge": &c.challenge, "origin": &c.origin} {
		if v := members[name]; len(v) == 0 || v[0] != '"' || json.Unmarshal(v, into) != nil {
			return bad("member %q is missing or is no text", name)
		}
	}
	return c, nil
}

func (k Key) verifyWebAuthn(p parsed, namespace string, message, signature []byte) error {
	if !isWebAuthn(signature) {
		return fmt.Errorf("%w: it is an SSH signature, want one of a passkey", ErrOtherKey)
	}
	a, by, err := openAssertion(signature)
	if err != nil {
		return err
	}
	if by.key != k {
		return fmt.Errorf("%w: %s, want %s", ErrOtherKey, by.key.Fingerprint(), k.Fingerprint())
	}
	if err := checkFlags(a.AuthenticatorData[32]); err != nil {
		return err
	}
	c, err := parseClientData(a.ClientData)
	if err != nil {
		return err
	}
	if c.kind != string(protocol.AssertCeremony) {
		return fmt.Errorf("%w: it is a %s, want %s", ErrSignature, clip(c.kind), protocol.AssertCeremony)
	}
	if err := checkOrigin(p.rp, c.origin); err != nil {
		return err
	}
	digest := Challenge(namespace, message)
	challenge := base64.RawURLEncoding.EncodeToString(digest[:])
	if c.challenge != challenge {
		return fmt.Errorf("%w under %s: something else was signed, or for another purpose", ErrSignature, k.Fingerprint())
	}
	cose, err := coseOf(p.ssh)
	if err != nil {
		return err
	}
	// The checks above are stricter than the library's, and these do not lean on them.
	var assertion protocol.ParsedCredentialAssertionData
	assertion.Raw.AssertionResponse.AuthenticatorData = a.AuthenticatorData
	assertion.Raw.AssertionResponse.ClientDataJSON = a.ClientData
	assertion.Response.Signature = a.Signature
	if err := json.Unmarshal(a.ClientData, &assertion.Response.CollectedClientData); err != nil {
		return fmt.Errorf("%w: client data: %w", ErrMalformedSignature, err)
	}
	if err := assertion.Response.AuthenticatorData.Unmarshal(a.AuthenticatorData); err != nil {
		return fmt.Errorf("%w: authenticator data: %w", ErrMalformedSignature, err)
	}
	err = assertion.Verify(challenge, p.rp, "", []string{c.origin}, nil, nil, protocol.TopOriginExplicitVerificationMode, false, true, true, cose, protocol.SignaturePolicy{})
	if err != nil {
		return fmt.Errorf("%w under %s: %w", ErrSignature, k.Fingerprint(), err)
	}
	return nil
}

// coseOf writes a public key as WebAuthn does. It fixes the algorithm: a key has one.
func coseOf(pub ssh.PublicKey) ([]byte, error) {
	inner, ok := pub.(ssh.CryptoPublicKey)
	if !ok {
		return nil, fmt.Errorf("%w: type %s", ErrUnsupportedKey, pub.Type())
	}
	head := func(kind webauthncose.COSEKeyType, alg webauthncose.COSEAlgorithmIdentifier) webauthncose.PublicKeyData {
		return webauthncose.PublicKeyData{KeyType: int64(kind), Algorithm: int64(alg)}
	}
	switch k := inner.CryptoPublicKey().(type) {
	case ed25519.PublicKey:
		return webauthncbor.Marshal(webauthncose.OKPPublicKeyData{
			PublicKeyData: head(webauthncose.OctetKey, webauthncose.AlgEdDSA), Curve: int64(webauthncose.Ed25519), XCoord: k,
		})
	case *ecdsa.PublicKey:
		point, err := k.Bytes() // 4, x, y: of P-256, the only curve that is enrolled
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnsupportedKey, err)
		}
		return webauthncbor.Marshal(webauthncose.EC2PublicKeyData{
			PublicKeyData: head(webauthncose.EllipticKey, webauthncose.AlgES256), Curve: int64(webauthncose.P256),
			XCoord: point[1:33], YCoord: point[33:],
		})
	case *rsa.PublicKey:
		return webauthncbor.Marshal(webauthncose.RSAPublicKeyData{
			PublicKeyData: head(webauthncose.RSAKey, webauthncose.AlgRS256), Modulus: k.N.Bytes(), Exponent: big.NewInt(int64(k.E)).Bytes(),
		})
	}
	return nil, fmt.Errorf("%w: type %s", ErrUnsupportedKey, pub.Type())
}

// KeyFromCOSE reads the public key of a passkey that an authenticator has just made.
// The algorithms are those that Algorithms lists.
func KeyFromCOSE(rp string, id, cose []byte) (Key, error) {
	k, err := webauthncose.ParsePublicKey(cose)
	if err != nil {
		return Key{}, fmt.Errorf("%w: %w", ErrMalformedKey, err)
	}
	var plain any
	switch k := k.(type) {
	case webauthncose.OKPPublicKeyData:
		if k.Algorithm == int64(webauthncose.AlgEdDSA) {
			plain = ed25519.PublicKey(k.XCoord)
		}
	case webauthncose.EC2PublicKeyData:
		if k.Algorithm == int64(webauthncose.AlgES256) {
			if plain, err = k.ToECDSA(); err != nil {
				return Key{}, fmt.Errorf("%w: %w", ErrMalformedKey, err)
			}
		}
	case webauthncose.RSAPublicKeyData:
		e, err := webauthncose.ParseRSAPublicKeyDataExponent(&k)
		if err != nil {
			return Key{}, fmt.Errorf("%w: %w", ErrMalformedKey, err)
		}
		if k.Algorithm == int64(webauthncose.AlgRS256) {
			plain = &rsa.PublicKey{N: new(big.Int).SetBytes(k.Modulus), E: e}
		}
	}
	if plain == nil {
		return Key{}, fmt.Errorf("%w: the authenticator made a key of another algorithm than it was asked for", ErrUnsupportedKey)
	}
	pub, err := ssh.NewPublicKey(plain)
	if err != nil {
		return Key{}, fmt.Errorf("%w: %w", ErrUnsupportedKey, err)
	}
	return NewWebAuthnKey(rp, id, pub)
}

// Algorithms are the COSE algorithms that a passkey may have, the best first.
func Algorithms() []int {
	return []int{int(webauthncose.AlgEdDSA), int(webauthncose.AlgES256), int(webauthncose.AlgRS256)}
}
