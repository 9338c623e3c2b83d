package coordinator

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"coffer/chain/rpc"
)

// What a chain's settings mean where they say nothing.
const (
	defaultConfirmations = 1
	defaultBumpAfter     = 2 * time.Minute
	mostConfirmations    = 1000
	leastBumpAfter       = time.Second
)

// ChainSettings is how the coordinator reaches a chain, and how patient it is there.
type ChainSettings struct {
	// URL of the chain's JSON-RPC endpoint, http or https. Required.
	URL string `json:"url"`
	// Fallbacks are endpoints of the same chain that are asked, in this order, while the
	// first does not answer.
	Fallbacks []string `json:"fallbacks,omitempty"`
	// Confirmations is how many blocks a payment waits for, its own the first. 0 means 1.
	Confirmations uint64 `json:"confirmations,omitempty"`
	// BumpAfter is how long a transaction may wait in the pool, while its nonce is next,
	// before one with a higher fee is signed in its place. 0 means 2m.
	BumpAfter Duration `json:"bump_after,omitempty"`
}

// Duration is a time.Duration that is written "2m" or "1h30m".
type Duration time.Duration

func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("duration %q: write it as 90s, 2m or 1h", text)
	}
	*d = Duration(v)
	return nil
}

// Validate refuses settings that could not work, naming the field. URLs are not quoted:
// they may contain a key.
func (s *ChainSettings) Validate() error {
	if err := checkURL(s.URL); err != nil {
		return fmt.Errorf("url: %w", err)
	}
	for n, fallback := range s.Fallbacks {
		if err := checkURL(fallback); err != nil {
			return fmt.Errorf("fallbacks[%d]: %w", n, err)
		}
	}
	if s.Confirmations > mostConfirmations {
		return fmt.Errorf("confirmations: %d is more than %d", s.Confirmations, mostConfirmations)
	}
	if s.BumpAfter != 0 && time.Duration(s.BumpAfter) < leastBumpAfter {
		return fmt.Errorf("bump_after: %s is less than %s", s.BumpAfter, leastBumpAfter)
	}
	return nil
}

func checkURL(raw string) error {
	u, err := url.Parse(raw)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return errors.New("not an http or https URL")
	}
	return nil
}

func (s ChainSettings) confirmations() uint64 {
	if s.Confirmations == 0 {
		return defaultConfirmations
	}
	return s.Confirmations
}

func (s ChainSettings) bumpAfter() time.Duration {
	if s.BumpAfter == 0 {
		return defaultBumpAfter
	}
	return time.Duration(s.BumpAfter)
}

// chain dials a chain's endpoint on first use.
func (c *Coordinator) chain(ctx context.Context, name string) (*rpc.Client, error) {
	c.mu.Lock()
	client, ok := c.chains[name]
	c.mu.Unlock()
	if ok {
		return client, nil
	}
	settings, ok := c.settings.Chains[name]
	if !ok {
		return nil, fmt.Errorf("no endpoint for chain %q: add chains.%s to the coordinator's config.json", name, name)
	}
	info, ok := c.charter.Chain(name)
	if !ok {
		return nil, fmt.Errorf("the charter has no chain %q", name)
	}
	client, err := rpc.Dial(ctx, settings.URL, info.ChainID, settings.Fallbacks...)
	if err != nil {
		return nil, fmt.Errorf("chain %q: %w", name, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if other, ok := c.chains[name]; ok {
		client.Close()
		return other, nil
	}
	c.chains[name] = client
	return client, nil
}
