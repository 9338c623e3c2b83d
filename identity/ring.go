package identity

import (
	"crypto/tls"
	"encoding/hex"
	"errors"
	"sync"

	"coffer/canon"
)

// ServerName is what a client asks a server for that may have several identities. It
// says nothing to those who do not know the ID: it travels in clear.
func (id ID) ServerName() string {
	sum := canon.New("coffer/server-name/v1").String(string(id)).Sum()
	return "id-" + hex.EncodeToString(sum[:16])
}

// Ring is the identities of one server. While an identity is replaced there are two:
// the server answers with the one that the client asks for, so that clients with the
// charter before and with the charter after both reach it.
type Ring struct {
	mu    sync.RWMutex
	first *tls.Certificate
	named map[string]*tls.Certificate
}

// NewRing makes a ring of one or more identities; see Use.
func NewRing(keys ...*Key) (*Ring, error) {
	r := &Ring{}
	return r, r.Use(keys...)
}

// Use replaces the identities, for connections that begin from now on. The first one
// answers clients that ask for none of them, which then refuse it.
func (r *Ring) Use(keys ...*Key) error {
	if len(keys) == 0 {
		return errors.New("a server needs an identity")
	}
	named := map[string]*tls.Certificate{}
	var first *tls.Certificate
	for _, k := range keys {
		cert, err := k.certificate()
		if err != nil {
			return err
		}
		named[k.id.ServerName()] = cert
		if first == nil {
			first = cert
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.first, r.named = first, named
	return nil
}

// ServerTLS is Key.ServerTLS for all identities of the ring.
func (r *Ring) ServerTLS(admit func(ID) error) (*tls.Config, error) {
	cfg := &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{"h2"},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			r.mu.RLock()
			defer r.mu.RUnlock()
			if cert, ok := r.named[hello.ServerName]; ok {
				return cert, nil
			}
			return r.first, nil
		},
		// A resumed session would prove an identity that was taken out of the ring.
		SessionTicketsDisabled: true,
	}
	if admit != nil {
		cfg.ClientAuth, cfg.VerifyConnection = tls.RequireAnyClientCert, verifier(admit)
		return cfg, nil
	}
	cfg.ClientAuth = tls.RequestClientCert
	cfg.VerifyConnection = func(cs tls.ConnectionState) error {
		if len(cs.PeerCertificates) == 0 {
			return nil
		}
		_, err := PeerID(cs)
		return err
	}
	return cfg, nil
}
