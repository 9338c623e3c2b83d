package credential

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"
)

// The flags of FIDO authenticator data, which the token signs.
const (
	flagPresent        = 0x01
	flagVerified       = 0x04
	flagBackupEligible = 0x08
	flagBackedUp       = 0x10

	// flagsKnown leaves out what would say that more data follows, where none may.
	flagsKnown = flagPresent | flagVerified | flagBackupEligible | flagBackedUp
)

// checkFlags demands that the token saw a person, and knew which one.
func checkFlags(flags byte) error {
	switch {
	case flags&^byte(flagsKnown) != 0:
		return fmt.Errorf("%w: flags %#02x announce data that must not be there", ErrMalformedSignature, flags)
	case flags&flagPresent == 0:
		return fmt.Errorf("%w: nobody touched the security key", ErrPresence)
	case flags&flagVerified == 0:
		return fmt.Errorf("%w: the security key did not ask for its PIN or fingerprint; make an SSH key anew with ssh-keygen -t ed25519-sk -O verify-required", ErrPresence)
	}
	return nil
}

func securityKey(pub ssh.PublicKey) bool {
	return pub.Type() == ssh.KeyAlgoSKED25519 || pub.Type() == ssh.KeyAlgoSKECDSA256
}

// maxApplication bounds an application, which OpenSSH calls "ssh:" unless told otherwise.
const maxApplication = 128

// acceptedApplication keeps keys apart that a token made for something else: a
// browser's would be a web site's.
func acceptedApplication(pub ssh.PublicKey) error {
	var w struct {
		Type string
		Rest []byte `ssh:"rest"`
	}
	if err := ssh.Unmarshal(pub.Marshal(), &w); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformedKey, err)
	}
	var application string
	var err error
	if pub.Type() == ssh.KeyAlgoSKECDSA256 {
		var k struct {
			Curve       string
			Key         []byte
			Application string
		}
		err = ssh.Unmarshal(w.Rest, &k)
		application = k.Application
	} else {
		var k struct {
			Key         []byte
			Application string
		}
		err = ssh.Unmarshal(w.Rest, &k)
		application = k.Application
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMalformedKey, err)
	}
	printable := strings.IndexFunc(application, func(r rune) bool { return r <= ' ' || r > '~' }) < 0
	if !strings.HasPrefix(application, "ssh:") || !printable || len(application) > maxApplication {
		return fmt.Errorf("%w: the security key made it for application %.40q, not for \"ssh:\"", ErrUnsupportedKey, application)
	}
	return nil
}

// bare is the plain key that a security key holds the secret of.
func bare(pub ssh.PublicKey) (ssh.PublicKey, error) {
	if !securityKey(pub) {
		return pub, nil
	}
	inner, ok := pub.(ssh.CryptoPublicKey)
	if !ok {
		return nil, fmt.Errorf("%w: type %s", ErrUnsupportedKey, pub.Type())
	}
	switch k := inner.CryptoPublicKey().(type) {
	case ed25519.PublicKey:
		return ssh.NewPublicKey(k)
	case *ecdsa.PublicKey:
		return ssh.NewPublicKey(k)
	}
	return nil, fmt.Errorf("%w: type %s", ErrUnsupportedKey, pub.Type())
}

// handleOf answers the public key if a private key file is only the handle of a
// security key, which nothing but ssh-agent can sign with.
func handleOf(file []byte) (ssh.PublicKey, bool) {
	block, _ := pem.Decode(file)
	if block == nil {
		return nil, false
	}
	body, ok := strings.CutPrefix(string(block.Bytes), "openssh-key-v1\x00")
	if !ok {
		return nil, false
	}
	var w struct {
		Cipher, KDF, Options string
		Keys                 uint32
		Public               []byte
		Rest                 []byte `ssh:"rest"`
	}
	if err := ssh.Unmarshal([]byte(body), &w); err != nil {
		return nil, false
	}
	pub, err := ssh.ParsePublicKey(w.Public)
	if err != nil || !securityKey(pub) {
		return nil, false
	}
	return pub, true
}

// readID and writeID are the one spelling of a passkey's credential ID.
func readID(text string) ([]byte, error) {
	id, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || writeID(id) != text {
		return nil, fmt.Errorf("%w: the credential ID is not base64url", ErrMalformedKey)
	}
	if len(id) == 0 || len(id) > maxCredentialID {
		return nil, fmt.Errorf("%w: the credential ID has %d bytes, want 1 to %d", ErrMalformedKey, len(id), maxCredentialID)
	}
	return id, nil
}

func writeID(id []byte) string { return base64.RawURLEncoding.EncodeToString(id) }
