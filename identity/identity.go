package identity

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"time"

	p2pcrypto "github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
)

// ID is a libp2p peer ID in its text form ("12D3KooW…"). An Ed25519 peer ID
// contains the whole public key, so an ID is all that is needed to verify.
type ID string

// PublicKey unpacks the key, and refuses IDs that are not of Ed25519.
func (id ID) PublicKey() (ed25519.PublicKey, error) {
	p, err := peer.Decode(string(id))
	if err != nil {
		return nil, fmt.Errorf("peer ID %q: %w", string(id), err)
	}
	if p.String() != string(id) {
		return nil, fmt.Errorf("peer ID %q is not in its canonical form %q", string(id), p.String())
	}
	pub, err := p.ExtractPublicKey()
	if err != nil {
		return nil, fmt.Errorf("peer ID %q holds no public key: %w", string(id), err)
	}
	if pub.Type() != p2pcrypto.Ed25519 {
		return nil, fmt.Errorf("peer ID %q is of a %s key, want Ed25519", string(id), pub.Type())
	}
	raw, err := pub.Raw()
	if err != nil {
		return nil, fmt.Errorf("peer ID %q: %w", string(id), err)
	}
	return ed25519.PublicKey(raw), nil
}

// Verify checks an identity signature over a canonical message.
func (id ID) Verify(message, signature []byte) error {
	pub, err := id.PublicKey()
	if err != nil {
		return err
	}
	if len(signature) != ed25519.SignatureSize || !ed25519.Verify(pub, message, signature) {
		return fmt.Errorf("signature does not verify under identity %s", id)
	}
	return nil
}

// FromPublicKey is the peer ID of an Ed25519 key.
func FromPublicKey(pub ed25519.PublicKey) (ID, error) {
	k, err := p2pcrypto.UnmarshalEd25519PublicKey(pub)
	if err != nil {
		return "", err
	}
	p, err := peer.IDFromPublicKey(k)
	if err != nil {
		return "", err
	}
	return ID(p.String()), nil
}

// Key is a process's identity. It prints as its ID, never as its secret.
type Key struct {
	id     ID
	secret ed25519.PrivateKey
}

// Generate makes a fresh key.
func Generate() (*Key, error) {
	_, secret, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	return fromSecret(secret)
}

func fromSecret(secret ed25519.PrivateKey) (*Key, error) {
	id, err := FromPublicKey(secret.Public().(ed25519.PublicKey))
	if err != nil {
		return nil, err
	}
	return &Key{id: id, secret: secret}, nil
}

// ID is the public name of this key.
func (k *Key) ID() ID { return k.id }

// Sign signs a canonical message; its domain separates purposes.
func (k *Key) Sign(message []byte) []byte { return ed25519.Sign(k.secret, message) }

// Libp2p is the key in the form that the transport takes.
func (k *Key) Libp2p() (p2pcrypto.PrivKey, error) {
	return p2pcrypto.UnmarshalEd25519PrivateKey(k.secret)
}

func (k *Key) String() string             { return "identity " + string(k.id) }
func (k *Key) GoString() string           { return k.String() }
func (k *Key) LogValue() slog.Value       { return slog.StringValue(k.String()) }
func (k *Key) Format(s fmt.State, _ rune) { _, _ = fmt.Fprint(s, k.String()) }

// MarshalText keeps the secret out of JSON and friends.
func (k *Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

const pemType = "PRIVATE KEY"

// MarshalPEM is the key's file. It is a secret.
func (k *Key) MarshalPEM() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k.secret)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der}), nil
}

// ParsePEM reads what MarshalPEM made.
func ParsePEM(raw []byte) (*Key, error) {
	block, _ := pem.Decode(raw)
	if block == nil || block.Type != pemType {
		return nil, errors.New("it is not a PEM private key")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("it is damaged") // the cause would quote what is secret
	}
	secret, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, errors.New("it is not an Ed25519 key")
	}
	return fromSecret(secret)
}

// Create writes a new key to path, mode 0600, and refuses to replace one.
func Create(path string) (*Key, error) {
	k, err := Generate()
	if err != nil {
		return nil, err
	}
	raw, err := k.MarshalPEM()
	if err != nil {
		return nil, err
	}
	defer clear(raw)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("identity %s exists already: choose another directory, or keep using it", path)
	} else if err != nil {
		return nil, fmt.Errorf("create identity: %w", err)
	}
	_, err = f.Write(raw)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		// Half a key would stand in the way of the next try.
		return nil, errors.Join(fmt.Errorf("write identity: %w", err), os.Remove(path))
	}
	if dir, err := os.Open(filepath.Dir(path)); err == nil {
		defer dir.Close()
		if err := dir.Sync(); err != nil {
			return nil, fmt.Errorf("write identity: %w", err)
		}
	}
	return k, nil
}

// Load reads a key and refuses one that others on the machine can read.
func Load(path string) (*Key, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("load identity: %w (has init been run for this directory?)", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("identity %s has mode %04o: others could read it; chmod 600 it", path, info.Mode().Perm())
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("load identity: %w", err)
	}
	defer clear(raw)
	k, err := ParsePEM(raw)
	if err != nil {
		return nil, fmt.Errorf("identity %s: %w", path, err)
	}
	return k, nil
}

// Next makes the identity that takes the place of the one in current, in a file beside it,
// or finds the one that was made.
func Next(current, next string) (*Key, error) {
	if _, err := Load(current); err != nil {
		return nil, err
	}
	k, err := Load(next)
	if errors.Is(err, fs.ErrNotExist) {
		return Create(next)
	}
	return k, err
}

// ErrUnknownPeer says that a TLS peer's key is not one that the caller admits.
var ErrUnknownPeer = errors.New("peer's key is not in the charter")

// ServerTLS demands a client certificate whose key admit accepts. A nil admit
// accepts clients without a certificate: for endpoints where every request is
// itself signed, or carries a grant.
func (k *Key) ServerTLS(admit func(ID) error) (*tls.Config, error) {
	ring, err := NewRing(k)
	if err != nil {
		return nil, err
	}
	return ring.ServerTLS(admit)
}

// ClientTLS presents this key and accepts only the server whose identity is want.
func (k *Key) ClientTLS(want ID) (*tls.Config, error) {
	cfg, err := k.baseTLS()
	if err != nil {
		return nil, err
	}
	pin(cfg, want)
	return cfg, nil
}

// AnonymousTLS presents nothing and accepts only the server whose identity is want.
func AnonymousTLS(want ID) *tls.Config {
	cfg := &tls.Config{MinVersion: tls.VersionTLS13}
	pin(cfg, want)
	return cfg
}

func pin(cfg *tls.Config, want ID) {
	// A server that is about to change its identity has two: it answers with the one asked for.
	cfg.ServerName = want.ServerName()
	// Chain and name checks make no sense for self-signed keys; VerifyConnection
	// replaces them by equality with the pinned key, and runs on resumption too.
	cfg.InsecureSkipVerify = true
	cfg.VerifyConnection = verifier(func(got ID) error {
		if got != want {
			return fmt.Errorf("%w: it is %s, want %s", ErrUnknownPeer, got, want)
		}
		return nil
	})
}

func verifier(admit func(ID) error) func(tls.ConnectionState) error {
	return func(cs tls.ConnectionState) error {
		id, err := PeerID(cs)
		if err != nil {
			return err
		}
		return admit(id)
	}
}

// PeerID is the identity that the other side of a TLS connection proved.
func PeerID(cs tls.ConnectionState) (ID, error) {
	if len(cs.PeerCertificates) != 1 {
		return "", fmt.Errorf("peer sent %d certificates, want 1", len(cs.PeerCertificates))
	}
	pub, ok := cs.PeerCertificates[0].PublicKey.(ed25519.PublicKey)
	if !ok {
		return "", errors.New("peer's certificate is not of an Ed25519 key")
	}
	return FromPublicKey(pub)
}

func (k *Key) baseTLS() (*tls.Config, error) {
	cert, err := k.certificate()
	if err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{*cert}, NextProtos: []string{"h2"}}, nil
}

func (k *Key) certificate() (*tls.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	// The dates are wide: a key is trusted because the charter names it, for as
	// long as the charter names it.
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: string(k.id)},
		NotBefore:    time.Unix(0, 0),
		NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.secret.Public(), k.secret)
	if err != nil {
		return nil, fmt.Errorf("make certificate: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: k.secret}, nil
}
