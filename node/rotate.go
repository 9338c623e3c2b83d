package node

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"coffer/identity"
	"coffer/internal/anchor"
	"coffer/party"
	"coffer/store"
	"coffer/transport"
)

// NextIdentity is the file of the identity that this signer will have once a version of
// the charter lists it.
func (d Dir) NextIdentity() string { return d.path("identity.next.key") }

// Rotate makes the next identity of a signer, or finds the one that was made, and answers
// its card: the admins put it into the next version of the charter. The signer goes over to
// it by itself, when that version takes force.
func Rotate(d Dir) (card string, err error) {
	s, err := d.LoadSettings()
	if err != nil {
		return "", err
	}
	key, err := identity.Next(d.Identity(), d.NextIdentity())
	if err != nil {
		return "", err
	}
	return makeCard(key, s)
}

// proveNext has the servers answer as the next identity too, once its operator has made
// it. Whoever holds the version of the charter that lists it asks for that one and brings
// the version: a signer that was away meanwhile is admitted by no peer any more.
func (n *Node) proveNext() {
	next, err := identity.Load(n.cfg.Dir.NextIdentity())
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err == nil {
		err = n.ring.Use(n.key, next)
	}
	if err != nil {
		n.log.Error("this signer cannot answer as its next identity", "error", err) // it is half written, perhaps, and read again
	}
}

// rotate goes over to the next identity, if it is the one that the charter in force lists.
// The log comes first: a crash in between finds the old key, and does the rest again.
func (n *Node) rotate(listed identity.ID, now int64) error {
	path := n.cfg.Dir.NextIdentity()
	next, err := identity.Load(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && next.ID() != listed {
		n.log.Error("the charter in force lists this signer under an identity that is not here", "listed", string(listed), "here", string(n.key.ID()))
		return nil // it is unlisted, and says so
	} else if err != nil {
		return err
	}
	if err := anchor.Handover(n.db, n.cfg.Dir.Audit(), n.key, next, n.origin()); err != nil {
		return err
	}
	if err := store.Move(path, n.cfg.Dir.Identity()); err != nil {
		return fmt.Errorf("take the next identity: %w", err)
	}
	n.log.Warn("this signer has another identity", "before", string(n.key.ID()), "now", string(next.ID()))
	n.key = next
	_, err = n.book.Use(next, now)
	return err
}

// silence is the link of a signer that the charter in force does not list: nobody admits
// it, and it admits nobody.
type silence struct{ frames chan transport.Frame }

func newSilence() silence { return silence{make(chan transport.Frame)} }

func (silence) Send(party.ID, []byte) error       { return transport.ErrUnknownPeer }
func (s silence) Frames() <-chan transport.Frame  { return s.frames }
func (silence) Connected(party.ID) bool           { return false }
func (silence) SetAddrs(party.ID, []string) error { return transport.ErrUnknownPeer }
func (silence) Close() error                      { return nil }
func (silence) State(party.ID) transport.PeerState {
	return transport.PeerState{Since: time.Time{}, Problem: errUnlisted}
}
