package coordinator

import (
	"context"
	"errors"
	"fmt"

	"coffer/charter"
	"coffer/identity"
	"coffer/internal/anchor"
	"coffer/observe"
	pb "coffer/proto/coffer/v1"
	cofferrpc "coffer/rpc"
	"coffer/store"
)

// A coordinator changes its identity without a pause: Rotate makes the next one, the
// admins put its card into the next version of the charter, and when that is in force the
// coordinator goes over to it by itself. Signers and clients that have not heard of the
// version yet ask for the one before, and are answered with it.

// Rotate makes the next identity of a coordinator, or finds the one that was made, and
// answers its card.
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

// Serve opens a directory and runs the coordinator in it until ctx ends; and again, under
// the next identity, when the charter in force lists that.
func Serve(ctx context.Context, cfg Config) error {
	cfg.Ready, cfg.Watching = observe.Once(cfg.Ready), observe.Once(cfg.Watching)
	for {
		c, err := New(cfg)
		var closeErr error
		if err == nil {
			err = c.Run(ctx)
			closeErr = c.Close()
		}
		var over *goingOver
		if errors.As(err, &over) {
			err = nil // it is no reason to end
		}
		if closeErr != nil || over == nil {
			return errors.Join(err, closeErr)
		}
		if err := over.do(cfg.Dir); err != nil {
			return err
		}
		cfg.Logger.Warn("this coordinator has another identity", "before", string(over.from.ID()), "now", string(over.to.ID()))
	}
}

// goingOver ends a run because the charter in force lists the next identity.
type goingOver struct {
	from, to *identity.Key
	origin   string // of the audit log
}

func (g *goingOver) Error() string {
	return fmt.Sprintf("the charter in force lists this coordinator with its next identity, %s", g.to.ID())
}

// do is done again from the beginning after a crash: the last step is the one that counts.
func (g *goingOver) do(d Dir) error {
	raw, err := g.from.MarshalPEM()
	if err != nil {
		return err
	}
	defer clear(raw)
	if err := store.WriteFile(d.PreviousIdentity(), raw, 0o600); err != nil {
		return fmt.Errorf("keep the identity before: %w", err)
	}
	db, err := store.Open(d.Store()) // whoever found out that it is time has closed it
	if err != nil {
		return err
	}
	if err := errors.Join(anchor.Handover(db, d.Audit(), g.from, g.to, g.origin), db.Close()); err != nil {
		return err
	}
	if err := store.Move(d.NextIdentity(), d.Identity()); err != nil {
		return fmt.Errorf("take the next identity: %w", err)
	}
	return nil
}

// goOver says whether the charter lists the next identity in the place of this one.
func (c *Coordinator) goOver(now *charter.Charter) *goingOver {
	if _, ok := now.CoordinatorByPeer(c.key.ID()); ok {
		return nil
	}
	next, err := identity.Load(c.cfg.Dir.NextIdentity())
	if err != nil {
		return nil
	}
	if me, ok := now.CoordinatorByPeer(next.ID()); !ok || me.Name != c.settings.Name {
		return nil
	}
	return &goingOver{from: c.key, to: next, origin: c.origin()}
}

// otherKeys are the identity before and the one to come, where there is one.
func (c *Coordinator) otherKeys() []*identity.Key {
	var out []*identity.Key
	for _, path := range []string{c.cfg.Dir.NextIdentity(), c.cfg.Dir.PreviousIdentity()} {
		if key, err := identity.Load(path); err == nil {
			out = append(out, key)
		}
	}
	return out
}

// proveAll has the API answer with whichever of its identities a client asks for.
func (c *Coordinator) proveAll() error {
	return c.ring.Use(append([]*identity.Key{c.key}, c.otherKeys()...)...)
}

// askOtherwise exchanges records with a signer that does not answer this identity, as the
// other ones: it may have the version of the charter that changes it, or not have it yet.
func (c *Coordinator) askOtherwise(ctx context.Context, s *signer) {
	for _, key := range c.otherKeys() {
		conn, err := cofferrpc.DialWhere(key, s.peer, func() string { return c.where(s.id) })
		if err != nil {
			continue
		}
		c.exchangeBy(ctx, s, pb.NewSignerClient(conn))
		_ = conn.Close() // nothing is lost with it
	}
}
