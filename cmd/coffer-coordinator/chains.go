package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"coffer/coordinator"
)

// chainFlags are what the settings of chains are made of: each flag is NAME=VALUE.
type chainFlags struct {
	urls, bumps   map[string]string
	confirmations map[string]int64
}

func (c *chainFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringToStringVar(&c.urls, "chain", nil, "NAME=URL of a chain's JSON-RPC endpoint")
	f.StringToInt64Var(&c.confirmations, "confirmations", nil, "NAME=N: blocks that a payment on that chain waits for, its own the first (default 1)")
	f.StringToStringVar(&c.bumps, "bump-after", nil, "NAME=TIME: how long a transaction may hang before it is signed with a higher fee (default 2m)")
}

func (c *chainFlags) settings() (map[string]coordinator.ChainSettings, error) {
	out := map[string]coordinator.ChainSettings{}
	for name, url := range c.urls {
		out[name] = coordinator.ChainSettings{URL: url}
	}
	for name, n := range c.confirmations {
		s, ok := out[name]
		if !ok || n < 1 {
			return nil, fmt.Errorf("--confirmations %s=%d: give a number from 1 and the chain's --chain %s=URL", name, n, name)
		}
		s.Confirmations = uint64(n)
		out[name] = s
	}
	for name, text := range c.bumps {
		s, ok := out[name]
		if !ok {
			return nil, fmt.Errorf("--bump-after %s=%s: give the chain's --chain %s=URL too", name, text, name)
		}
		if err := s.BumpAfter.UnmarshalText([]byte(text)); err != nil {
			return nil, fmt.Errorf("--bump-after %s: %w", name, err)
		}
		out[name] = s
	}
	return out, nil
}
