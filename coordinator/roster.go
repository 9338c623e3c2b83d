package coordinator

import (
	"context"
	"fmt"

	"coffer/canon"
	"coffer/charter"
	"coffer/intent"
	cofferrpc "coffer/rpc"
	"coffer/wallet"
)

// roster is the charter in force with a connection to each of its signers. It is never
// changed, only replaced: whoever asks signers takes one and keeps to it until the
// answers are in.
type roster struct {
	charter *charter.Charter
	signers []*signer
}

// inForce is the charter that counts now. A flow asks for it at every step: another
// version may take force between two of them.
func (c *Coordinator) inForce() *charter.Charter { return c.roster.Load().charter }

// signers are those of the charter in force.
func (c *Coordinator) signers() []*signer { return c.roster.Load().signers }

// follow makes a version of the charter the one in force here. Connections to signers
// whose identity stays live on, what is known of their health with them; cards are those
// of all versions. The caller holds c.following, so that no older version comes last.
func (c *Coordinator) follow(next *charter.Charter, cards []string) error {
	old := c.roster.Load()
	if err := c.addresses.Use(next, cards, nil); err != nil {
		return err
	}
	r := &roster{charter: next}
	var fresh []*signer
	stays := map[*signer]bool{}
	for _, listed := range next.Signers {
		s := old.signer(listed)
		if s == nil {
			var err error
			if s, err = c.connect(listed); err != nil {
				for _, s := range fresh {
					s.leave()
				}
				return err
			}
			fresh = append(fresh, s)
		}
		stays[s] = true
		r.signers = append(r.signers, s)
	}
	c.roster.Store(r)
	for _, s := range old.signers {
		if !stays[s] {
			s.leave()
		}
	}
	for _, s := range fresh {
		c.attend(s)
	}
	return nil
}

// signer is the connection to a listed signer, or nil.
func (r *roster) signer(listed charter.Signer) *signer {
	for _, s := range r.signers {
		if s.id == listed.Name && s.peer == listed.Peer {
			return s
		}
	}
	return nil
}

// connect makes the connection to a signer, which is dialled when first used.
func (c *Coordinator) connect(listed charter.Signer) (*signer, error) {
	conn, err := cofferrpc.DialWhere(c.key, listed.Peer, func() string { return c.where(listed.Name) })
	if err != nil {
		return nil, fmt.Errorf("signer %q: %w", listed.Name, err)
	}
	return newSigner(listed.Name, listed.Peer, conn), nil
}

// attend watches a signer and tells it things until Run ends or the signer leaves.
func (c *Coordinator) attend(s *signer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.flows == nil {
		return
	}
	ctx, cancel := context.WithCancel(c.flowCtx)
	context.AfterFunc(s.listed, cancel)
	c.flows.Go(func() error { c.watchSigner(ctx, s); return nil })
	c.flows.Go(func() error { c.tellSigner(ctx, s); return nil })
}

// leave ends the connection to a signer that is no longer listed.
func (s *signer) leave() {
	s.delist()
	_ = s.conn.Close() // nothing is lost with a connection
}

// charterOf is a version of the charter that is or was in force.
func (c *Coordinator) charterOf(digest canon.Digest) (*charter.Charter, bool) {
	if b := c.book.Load(); b != nil {
		return b.Charter(digest)
	}
	now := c.inForce()
	return now, now.Digest() == digest
}

// open verifies an intent under the version of the charter that it names. Whether that
// still counts is another question (standing).
func (c *Coordinator) open(signed intent.Signed) (*intent.Intent, error) {
	i, _, _, err := signed.OpenUnder(c.charterOf)
	return i, err
}

// madeUnder is the version that an intent names, which says what its words mean.
func (c *Coordinator) madeUnder(i *intent.Intent) *charter.Charter {
	if made, ok := c.charterOf(i.Charter); ok {
		return made
	}
	return c.inForce() // open would have refused it
}

// signersOf are a wallet's signers that the charter in force lists still: only they hold
// shares of it and may use them.
func (c *Coordinator) signersOf(r *wallet.Record) []*signer {
	var out []*signer
	for _, s := range c.signers() {
		if r.Signers.Has(s.id) {
			out = append(out, s)
		}
	}
	return out
}
