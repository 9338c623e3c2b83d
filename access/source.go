package access

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"coffer/canon"
	"coffer/credential"
	"coffer/identity"
	"coffer/store"
)

const (
	pemGrant = "COFFER GRANT"
	// renewBefore is how long before its end a grant is replaced: longer than any wait of
	// a command for an answer.
	renewBefore = 30 * time.Minute
	// Lifetime is how long the grants that a Source makes hold.
	Lifetime = 12 * time.Hour
)

// ErrLogin says that somebody has to touch a key before there is a grant.
var ErrLogin = errors.New("no grant that holds: run coffer login")

// Source is a client's grants, as rpc.Grants. It keeps the newest in a file, with the
// TLS key that it is of. It is safe for concurrent use.
type Source struct {
	path    string
	cluster canon.Digest
	name    string
	signer  func() (credential.Signer, error)
	now     func() time.Time

	mu    sync.Mutex
	key   *identity.Key
	grant *Grant
	raw   []byte
}

// OpenSource reads what path, of mode 0600 in a directory of mode 0700, holds for this
// name; what does not fit or has ended counts as nothing. signer gives the key that
// renews grants without asking anybody; nil when Login alone may sign.
func OpenSource(path string, cluster canon.Digest, name string, signer func() (credential.Signer, error)) (*Source, error) {
	s := newSource(path, cluster, name, signer, time.Now)
	return s, s.open()
}

func newSource(path string, cluster canon.Digest, name string, signer func() (credential.Signer, error), now func() time.Time) *Source {
	return &Source{path: path, cluster: cluster, name: name, signer: signer, now: now}
}

func (s *Source) open() error {
	err := s.load()
	if err == nil && s.key == nil {
		s.key, err = identity.Generate()
	}
	return err
}

func (s *Source) load() error {
	info, err := os.Stat(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("grant: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("grant %s has mode %04o: others could read as you; chmod 600 it", s.path, info.Mode().Perm())
	}
	file, err := os.ReadFile(s.path)
	if err != nil {
		return fmt.Errorf("grant: %w", err)
	}
	defer clear(file)
	if len(file) > 4*MaxGrant {
		return nil
	}
	first, rest := pem.Decode(file)
	if first == nil || first.Type != pemGrant {
		return nil
	}
	grant, _, _, err := open(first.Bytes)
	if err != nil {
		return nil
	}
	key, err := identity.ParsePEM(rest)
	if err != nil {
		return nil
	}
	// A key outlives its grant only where the grant was renewed in time.
	if grant.Cluster != s.cluster || grant.Name != s.name || grant.Client != key.ID() || grant.Valid(s.now()) != nil {
		return nil
	}
	s.key, s.grant, s.raw = key, grant, first.Bytes
	return nil
}

// Key is the TLS key that the grants are of, for as long as the Source lives.
func (s *Source) Key() *identity.Key { return s.key }

// Expires is when the grant at hand ends; zero when there is none that holds.
func (s *Source) Expires() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left() <= 0 {
		return time.Time{}
	}
	return time.Unix(s.grant.Expires, 0)
}

func (s *Source) left() time.Duration {
	if s.grant == nil || s.grant.Valid(s.now()) != nil {
		return 0
	}
	return time.Unix(s.grant.Expires, 0).Sub(s.now())
}

// Login makes a grant by signer and keeps it. show, if set, gets what will be signed and
// may say no.
func (s *Source) Login(signer credential.Signer, show func(*Grant) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.login(signer, show)
}

func (s *Source) login(signer credential.Signer, show func(*Grant) error) error {
	now := s.now()
	g := &Grant{Cluster: s.cluster, Name: s.name, Client: s.key.ID(), Issued: now.Unix(), Expires: now.Add(Lifetime).Unix()}
	if show != nil {
		if err := show(g); err != nil {
			return err
		}
	}
	raw, err := Sign(g, signer)
	if err != nil {
		return err
	}
	s.grant, s.raw = g, raw
	return s.keep()
}

// keep writes grant and key as one file, so that no other process finds one without the
// other, and none finds half of them.
func (s *Source) keep() error {
	secret, err := s.key.MarshalPEM()
	if err != nil {
		return err
	}
	defer clear(secret)
	file := append(pem.EncodeToMemory(&pem.Block{Type: pemGrant, Bytes: s.raw}), secret...)
	defer clear(file)
	dir := filepath.Dir(s.path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("keep the grant: %w", err)
	}
	if err := store.WriteFile(s.path, file, 0o600); err != nil {
		return fmt.Errorf("keep the grant: %w", err)
	}
	return nil
}

// Grant is a grant for the next call: the one at hand, or a new one when that ends soon.
func (s *Source) Grant(context.Context) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	left := s.left()
	if left > renewBefore || left > 0 && s.signer == nil {
		return s.raw, nil
	}
	if s.signer == nil {
		return nil, ErrLogin
	}
	signer, err := s.signer()
	if err == nil {
		err = s.login(signer, nil)
	}
	if err != nil && left <= 0 {
		return nil, err
	}
	return s.raw, nil
}

// Forget removes the grant from the disk, and from here.
func (s *Source) Forget() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.grant, s.raw = nil, nil
	if err := os.Remove(s.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget the grant: %w", err)
	}
	return nil
}
