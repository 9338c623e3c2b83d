package access

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"coffer/canon"
	"coffer/charter"
	"coffer/identity"
	"coffer/rpc"
)

// maxVerified bounds the grants that a Guard remembers: a cluster has tens of people.
const maxVerified = 256

// Guard decides for a server who may call what. It is safe for concurrent use.
type Guard struct {
	inForce func() *charter.Charter
	now     func() time.Time

	mu       sync.Mutex
	charter  *charter.Charter // that verified was verified under
	digest   canon.Digest
	verified map[[sha256.Size]byte]*Grant
	order    [][sha256.Size]byte // oldest first
}

// NewGuard makes a guard over the charter in force, which it asks for at each call.
func NewGuard(inForce func() *charter.Charter, now func() time.Time) *Guard {
	return &Guard{inForce: inForce, now: now, verified: map[[sha256.Size]byte]*Grant{}}
}

// Authorize is an rpc.Authorize.
func (g *Guard) Authorize(_ context.Context, caller identity.ID, signed []byte, role rpc.Role) (string, error) {
	if len(signed) == 0 {
		return "", status.Error(codes.Unauthenticated, "no grant came with the call: run coffer login")
	}
	if caller == "" {
		return "", status.Error(codes.Unauthenticated, "a grant without the key that it was given to")
	}
	c := g.inForce()
	grant, err := g.verify(c, signed)
	if err == nil {
		err = grant.Valid(g.now())
	}
	if err == nil && grant.Client != caller {
		err = fmt.Errorf("%w: it was given to another key than the connection shows", ErrRefused)
	}
	if err != nil {
		return "", status.Error(codes.Unauthenticated, err.Error())
	}
	if roles := Roles(c, grant.Name); !slices.Contains(roles, role) {
		return "", status.Errorf(codes.PermissionDenied, "%q is no %s by the charter in force", grant.Name, role)
	}
	return grant.Name, nil
}

// verify remembers what it verified, under one charter: a signature is checked once and
// not at each of the thousand questions that a page of history is.
func (g *Guard) verify(c *charter.Charter, signed []byte) (*Grant, error) {
	id := sha256.Sum256(signed)
	g.mu.Lock()
	if g.charter != c {
		if digest := c.Digest(); digest != g.digest {
			g.digest, g.order = digest, nil
			clear(g.verified)
		}
		g.charter = c
	}
	known := g.verified[id]
	g.mu.Unlock()
	if known != nil {
		return known, nil
	}
	grant, err := Verify(c, signed)
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.charter == c && g.verified[id] == nil {
		if len(g.order) == maxVerified {
			delete(g.verified, g.order[0])
			g.order = g.order[1:]
		}
		g.verified[id], g.order = grant, append(g.order, id)
	}
	return grant, nil
}

// Roles are what a person or service of the charter may call. Every person may read,
// ask and answer; what an answer is worth is for the rules to say. A service never answers.
func Roles(c *charter.Charter, name string) []rpc.Role {
	if _, ok := c.Person(name); ok {
		return []rpc.Role{rpc.Reader, rpc.Initiator, rpc.Approver}
	}
	s, ok := c.Service(name)
	switch {
	case !ok:
		return nil
	case s.Initiates():
		return []rpc.Role{rpc.Reader, rpc.Initiator}
	}
	return []rpc.Role{rpc.Reader}
}

// NoGrant says whether a call failed for want of a grant that holds.
func NoGrant(err error) bool {
	return status.Code(err) == codes.Unauthenticated
}
