package charter

import (
	"errors"
	"fmt"
)

// ErrSuccession says that a charter does not follow the one before it.
var ErrSuccession = errors.New("charter does not follow")

// ParseJSON reads one charter as strictly as a charter file is read. It does not
// validate it: whoever edits one fills in the rest with Follow.
func ParseJSON(raw []byte) (*Charter, error) {
	if len(raw) > maxCharter {
		return nil, fmt.Errorf("charter has more than %d bytes", maxCharter)
	}
	c := new(Charter)
	if err := decodeStrictly(raw, c); err != nil {
		return nil, fmt.Errorf("charter: %w", err)
	}
	return c, nil
}

// Clone is a copy that shares nothing.
func (c *Charter) Clone() (*Charter, error) { return Parse(c.Encode()) }

// Follow makes c the next version after old, whatever of that was filled in.
func (c *Charter) Follow(old *Charter) {
	c.Name, c.Cluster, c.Version, c.Previous = old.Name, old.Cluster, old.Version+1, old.Digest()
}

// Succeeds checks that c is a next version after old by its structure. Whether it is
// valid, and who must have signed it, are other questions.
func (c *Charter) Succeeds(old *Charter) error {
	switch {
	case c.Cluster != old.Cluster:
		return fmt.Errorf("%w: it is of another cluster (%s, not %s)", ErrSuccession, c.Cluster.Short(), old.Cluster.Short())
	case c.Name != old.Name:
		return fmt.Errorf("%w: it is named %q, and the cluster's name %q does not change", ErrSuccession, clip(c.Name), old.Name)
	case c.Version != old.Version+1:
		return fmt.Errorf("%w: it is version %d, after version %d comes %d", ErrSuccession, c.Version, old.Version, old.Version+1)
	case c.Previous != old.Digest():
		return fmt.Errorf("%w: it follows %s, and version %d is %s", ErrSuccession, c.Previous, old.Version, old.Digest())
	}
	return nil
}

// NewKeys are the cards that must prove the keys which old does not list for the same
// holder. A nil old lists none.
func (c *Charter) NewKeys(old *Charter) []Card {
	known := map[string]bool{}
	if old != nil {
		for _, card := range old.cards() {
			known[cardKey(card)] = true
		}
	}
	var out []Card
	for _, card := range c.cards() {
		if !known[cardKey(card)] {
			out = append(out, card)
		}
	}
	return out
}

// VerifyCards makes sure that cards are exactly one for each new key of c, by its
// holder. One more would be a place for foreign addresses.
func VerifyCards(c, old *Charter, cards []string) error {
	need := c.NewKeys(old)
	if err := verifyCards(cards, c, need, cardKey); err != nil {
		return err
	}
	if len(cards) > len(need) {
		return fmt.Errorf("%w: there are %d cards for %d new keys; leave out those of keys that version %d lists", ErrCard, len(cards), len(need), old.Version)
	}
	return nil
}
