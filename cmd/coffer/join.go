package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"coffer/canon"
	"coffer/charter"
	"coffer/internal/cli"
	pb "coffer/proto/coffer/v1"
	"coffer/store"
)

func joinCommand(o *options) *cobra.Command {
	var digest string
	cmd := &cobra.Command{
		Use:   "join FILE",
		Short: "Pin a charter, by a digest heard by another channel",
		Long: `join shows the charter of FILE, asks for the digest that you heard by another channel, and
pins it. Operators may still have to sign it: the signatures that FILE lacks are fetched from
the coordinator when they are needed, and each is verified here.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			file, err := charter.ReadFile(args[0])
			if err != nil {
				return err
			}
			if err := file.VerifyPresent(); err != nil {
				return &cli.ExitError{Code: cli.Refused, Err: err}
			}
			got := file.Charter.Digest()
			for _, line := range file.Charter.Describe() {
				fmt.Fprintln(cmd.ErrOrStderr(), line)
			}
			pin, err := cli.HeardDigest(digest, got)
			if err != nil {
				return err
			}
			if pin != got {
				return cli.Refusedf("the file's charter has digest %s, you gave %s: it is not the charter that you were told of", got, pin)
			}
			switch old, err := o.pin(); {
			case errors.Is(err, fs.ErrNotExist):
			case err != nil:
				return err
			case old != pin:
				return cli.Refusedf("%s pins another charter, %s, and is never changed by join: use another --home", o.home, old)
			}
			if err := o.keep(file); err != nil {
				return err
			}
			if err := store.WriteFile(o.pinFile(), []byte(got.String()+"\n"), 0o600); err != nil {
				return err
			}
			text := "charter pinned"
			missing := file.Missing()
			if len(missing) > 0 {
				text += "; the signatures of " + strings.Join(missing.Strings(), ", ") + " come through the coordinator"
			}
			fmt.Fprintln(cmd.ErrOrStderr(), text)
			if o.json {
				return cli.JSON(cmd, map[string]any{"digest": got, "home": o.home, "missing": missing.Strings()})
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&digest, "digest", "", "the digest that you heard by another channel; asked for if absent")
	return cmd
}

// pin is the digest that this user confirmed.
func (o *options) pin() (canon.Digest, error) {
	raw, err := os.ReadFile(o.pinFile())
	if err != nil {
		return canon.Digest{}, err
	}
	pin, err := canon.ParseDigest(strings.TrimSpace(string(raw)))
	if err != nil {
		return canon.Digest{}, fmt.Errorf("pin %s: %w", o.pinFile(), err)
	}
	return pin, nil
}

// keep writes a charter file, with the signatures that were fetched for it before.
func (o *options) keep(file *charter.File) error {
	if old, err := charter.OpenPresent(o.charterFile(), file.Charter.Digest()); err == nil {
		for _, s := range old.Signatures {
			if _, err := file.Add(s); err != nil {
				return err
			}
		}
	}
	if err := os.MkdirAll(o.home, 0o700); err != nil {
		return err
	}
	return charter.WriteFile(o.charterFile(), file)
}

// pinned opens the charter that this user pinned; operators' signatures may be missing.
func (o *options) pinned() (*charter.File, error) {
	pin, err := o.pin()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, cli.Hint(fmt.Errorf("no charter is pinned in %s", o.home), "coffer join FILE pins one; --home or COFFER_HOME names another folder")
	} else if err != nil {
		return nil, err
	}
	return charter.OpenPresent(o.charterFile(), pin)
}

// charter opens the charter that this user pinned, with every operator's signature.
func (o *options) charter(ctx context.Context) (*charter.Charter, *charter.File, error) {
	file, err := o.pinned()
	if err != nil {
		return nil, nil, err
	}
	if len(file.Missing()) > 0 {
		if err := o.fetchSignatures(ctx, file); err != nil {
			return nil, nil, err
		}
	}
	return file.Charter, file, nil
}

// fetchSignatures gets the operators' signatures that a pinned charter lacks. Whoever
// hands them over is believed nothing: each is verified under the charter that is
// pinned here, and a wrong one is named, because an operator or the coordinator lies.
func (o *options) fetchSignatures(ctx context.Context, file *charter.File) error {
	incomplete := &charter.IncompleteError{Missing: file.Missing()}
	desk, err := o.dialDesk(file)
	if err != nil {
		return fmt.Errorf("%w (%w)", incomplete, err)
	}
	defer desk.conn.Close()
	ctx, cancel := brief(ctx)
	defer cancel()
	reply, err := desk.api.Charter(ctx, &pb.CharterRequest{})
	if err != nil {
		return fmt.Errorf("fetch the signatures under the charter that your file lacks: %w", err)
	}
	theirs, err := charter.ParseFile(reply.File)
	if err != nil {
		return fmt.Errorf("the coordinator's charter cannot be read: %w", err)
	}
	if got, pin := theirs.Charter.Digest(), file.Charter.Digest(); got != pin {
		return cli.Refusedf("the coordinator serves charter %s, you pinned %s: ask the operators which is meant", got, pin)
	}
	for _, s := range theirs.Signatures {
		if _, err := file.Add(s); err != nil {
			return cli.Refusedf("the coordinator hands out a signature that does not count: %w", err)
		}
	}
	if missing := file.Missing(); len(missing) > 0 {
		return &cli.ExitError{Code: cli.Waiting, Err: &charter.IncompleteError{Missing: missing}}
	}
	return charter.WriteFile(o.charterFile(), file)
}
