package coordinator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
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
	// URL of the chain's JSON-RPC endpoint, http or https. Required, or URLFile.
	URL string `json:"url,omitempty"`
	// URLFile names a file with the URL in its first line, and fallbacks below, for
	// endpoints whose URL holds a key. Nobody but its owner may read it.
	URLFile string `json:"url_file,omitempty"`
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
	switch {
	case s.URLFile != "" && (s.URL != "" || len(s.Fallbacks) > 0):
		return errors.New("url_file: give url and fallbacks in that file, or in the settings, not both")
	case s.URLFile == "":
		if err := checkURL(s.URL); err != nil {
			return fmt.Errorf("url: %w", err)
		}
		if u, err := url.Parse(s.URL); err != nil || u.User != nil {
			return errors.New("url: it holds a user or a password: put it into a file and name that as url_file")
		}
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

// maxURLFile bounds a file of URLs.
const maxURLFile = 16 << 10

func checkURL(raw string) error {
	u, err := url.Parse(raw)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return errors.New("not an http or https URL")
	}
	return nil
}

// endpoints are the URLs of a chain, the first one first.
func (s *ChainSettings) endpoints() ([]string, error) {
	if s.URLFile == "" {
		return append([]string{s.URL}, s.Fallbacks...), nil
	}
	f, err := os.Open(s.URLFile)
	if err != nil {
		return nil, fmt.Errorf("url_file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("url_file: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("url_file: %s has mode %04o, others could read it: chmod 600 it", s.URLFile, info.Mode().Perm())
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxURLFile))
	if err != nil {
		return nil, fmt.Errorf("url_file: %w", err)
	}
	lines := strings.Fields(string(raw))
	if len(lines) == 0 {
		return nil, fmt.Errorf("url_file: %s is empty: its first line is the URL", s.URLFile)
	}
	for n, line := range lines {
		if err := checkURL(line); err != nil {
			return nil, fmt.Errorf("url_file: line %d of %s: %w", n+1, s.URLFile, err)
		}
	}
	return lines, nil
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
	info, ok := c.inForce().Chain(name)
	if !ok {
		return nil, fmt.Errorf("the charter has no chain %q", name)
	}
	urls, err := settings.endpoints()
	if err != nil {
		return nil, fmt.Errorf("settings: chains.%s.%w", name, err)
	}
	client, err = rpc.Dial(ctx, urls[0], info.ChainID, urls[1:]...)
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
