package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"coffer/access"
	"coffer/canon"
	"coffer/charter"
	"coffer/credential"
	"coffer/identity"
	"coffer/intent"
	"coffer/internal/cli"
	"coffer/policy"
	pb "coffer/proto/coffer/v1"
	"coffer/rpc"
)

// reach connects to a coordinator with the user's grants. The first call that needs one
// makes it, if a key can sign without being touched.
func (o *options) reach(c *charter.Charter, peer identity.ID, addr string) (*grpc.ClientConn, error) {
	key, err := identity.Generate()
	if err != nil {
		return nil, err
	}
	g := &grants{o: o, none: key}
	if o.as == "" {
		g.err = cli.Usagef("--as is missing: your name in the charter")
	} else if g.source, g.err = o.source(c, o.signer); g.err == nil {
		g.none = g.source.Key()
	}
	return rpc.DialGranted(g, peer, addr, pb.Coordinator_Charter_FullMethodName, pb.Coordinator_Exchange_FullMethodName)
}

// source is what the home keeps of the user's grants.
func (o *options) source(c *charter.Charter, signer func() (credential.Signer, error)) (*access.Source, error) {
	if err := policy.CheckName(o.as); err != nil {
		return nil, cli.Usagef("--as: %v", err)
	}
	return access.OpenSource(filepath.Join(o.home, "access", o.as), c.Cluster, o.as, func() (credential.Signer, error) {
		if o.passkey {
			return nil, access.ErrLogin
		}
		key, err := signer()
		if err != nil {
			return nil, err
		}
		if key.Key().Kind != credential.KindSSH {
			return nil, access.ErrLogin // it would wait for a touch that nobody was told of
		}
		return key, nil
	})
}

// grants keeps the reason why there is no grant: gRPC would make a text of it.
type grants struct {
	o      *options
	source *access.Source
	none   *identity.Key
	err    error
}

func (g *grants) Key() *identity.Key { return g.none }

func (g *grants) Grant(ctx context.Context) ([]byte, error) {
	if g.err != nil {
		g.o.granting.Store(&g.err)
		return nil, g.err
	}
	grant, err := g.source.Grant(ctx)
	if err != nil {
		g.o.granting.Store(&err)
		return nil, err
	}
	g.o.granting.Store(nil)
	return grant, nil
}

// ungranted is why a call failed that a coordinator, or this side, has no grant for.
func (o *options) ungranted(err error) error {
	if !access.NoGrant(err) {
		return err
	}
	if why := o.granting.Load(); why != nil {
		err = *why
		if errors.Is(err, access.ErrLogin) {
			return cli.Hint(err, "the coordinator answers people and services of the charter only; a grant lasts %d hours", int(access.Lifetime.Hours()))
		}
		return err
	}
	return cli.Hint(&cli.ExitError{Code: cli.Refused, Err: err}, "the coordinator answers people and services of the charter in force only, by a key that it lists: look at --as and --key; coffer charter show says who they are")
}

func loginCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "login",
		Short: "Get a grant to read and ask at the coordinator, for half a day",
		Long: `Get a grant to read and ask at the coordinator, for half a day.

Commands do this by themselves with a key file or ssh-agent. With a security key or a
passkey, which somebody has to touch, run this first. A grant approves nothing.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			defer func() { o.endPage(err) }()
			h, err := o.openComplete(cmd.Context())
			if err != nil {
				return err
			}
			key, err := o.signerOf(h.inForce())
			if err != nil {
				return err
			}
			source, err := o.source(h.inForce(), nil)
			if err != nil {
				return err
			}
			if err := source.Login(key, func(g *access.Grant) error {
				until := time.Unix(g.Expires, 0).UTC().Format(time.RFC3339)
				_, err := o.consent(cmd.Context(), cmd, key, view{
					Title: "Log in at the coordinator", ID: canon.Sum(g.Encode()), Given: true, // the command says it all
					Lines: []intent.Line{{Label: "log in as", Value: g.Name}, {Label: "until", Value: until}, {Label: "allows", Value: "to read and to ask on this machine; approves nothing"}},
				}, "log in")
				return err
			}); err != nil {
				return err
			}
			if o.json {
				return cli.JSON(cmd, map[string]any{"name": o.as, "expires": source.Expires().Unix()})
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s may read and ask until %s\n", o.as, source.Expires().UTC().Format(time.RFC3339))
			return nil
		},
	}
}

func logoutCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "logout",
		Short: "Forget the grant, so that this machine's next command needs the key again",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			file, _, err := o.pinned()
			if err != nil {
				return err
			}
			if o.as == "" {
				return cli.Usagef("--as is missing: your name in the charter")
			}
			source, err := o.source(file.Charter, nil)
			if err != nil {
				return err
			}
			return source.Forget()
		},
	}
}
