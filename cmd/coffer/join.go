package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"coffer/authority"
	"coffer/canon"
	"coffer/charter"
	"coffer/internal/cli"
	pb "coffer/proto/coffer/v1"
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
			newest := file.Charter
			if len(file.Records) > 0 {
				ledger, err := authority.Open(file, unixNow())
				if err != nil {
					return &cli.ExitError{Code: cli.Refused, Err: err}
				}
				newest = ledger.InForce()
			}
			got := newest.Digest()
			for _, line := range newest.Describe() {
				fmt.Fprintln(cmd.ErrOrStderr(), line)
			}
			pin, err := cli.HeardDigest(digest, got)
			if err != nil {
				return err
			}
			if pin != got {
				return cli.Refusedf("the file's charter has digest %s, you gave %s: it is not the charter that you were told of", got, pin)
			}
			if err := o.joinWith(file, got); err != nil {
				return err
			}
			text := "charter pinned"
			if newest.Version > 1 {
				text = fmt.Sprintf("charter pinned, version %d", newest.Version)
			}
			missing := file.Missing()
			if len(missing) > 0 {
				text += "; the signatures of " + strings.Join(missing.Strings(), ", ") + " come through the coordinator"
			}
			fmt.Fprintln(cmd.ErrOrStderr(), text)
			if o.json {
				return cli.JSON(cmd, map[string]any{"digest": got, "version": newest.Version, "home": o.home, "missing": missing.Strings()})
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&digest, "digest", "", "the digest that you heard by another channel; asked for if absent")
	return cmd
}

// joinWith pins a charter file whose newest version somebody confirmed. A home that
// pins the same cluster takes the file's records and goes back no version.
func (o *options) joinWith(file *charter.File, newest canon.Digest) error {
	first := file.Charter.Digest()
	old, err := o.pins()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		old = pins{first, first}
	case err != nil:
		return err
	case old.first != first:
		return cli.Refusedf("%s pins another charter, %s, and is never changed by join: use another --home", o.home, old.first)
	}
	records, err := authority.FromFile(file)
	if err != nil {
		return err
	}
	root := file.Clone()
	root.Records = nil
	if err := o.keep(root); err != nil {
		return err
	}
	if _, err := os.Stat(o.pinFile()); err != nil {
		if err := o.writePins(old); err != nil {
			return err
		}
	}
	if len(records) == 0 {
		return nil
	}
	h, err := o.open()
	if err != nil {
		return err
	}
	for _, r := range records {
		if _, err := h.ledger.Add(r, unixNow()); lie(err) {
			return &cli.ExitError{Code: cli.Refused, Err: err}
		}
	}
	if _, ok := h.ledger.Charter(newest); !ok {
		return cli.Refusedf("version %s does not take force after the records of %s", newest.Short(), o.home)
	}
	return h.save()
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

// openComplete opens the home, and gets operators' signatures that its charter lacks.
func (o *options) openComplete(ctx context.Context) (*home, error) {
	h, err := o.open()
	var incomplete *charter.IncompleteError
	if !errors.As(err, &incomplete) {
		return h, err
	}
	file, _, err := o.pinned()
	if err != nil {
		return nil, err
	}
	if err := o.fetchSignatures(ctx, file); err != nil {
		return nil, err
	}
	return o.open()
}

// fetchSignatures gets the operators' signatures that a pinned charter lacks. Whoever
// hands them over is believed nothing: each is verified under the charter that is
// pinned here, and a wrong one is named, because an operator or the coordinator lies.
func (o *options) fetchSignatures(ctx context.Context, file *charter.File) error {
	incomplete := &charter.IncompleteError{Missing: file.Missing()}
	// Nothing is done under it yet; it says who the coordinator is.
	ledger, err := authority.NewLedger(file.Charter, nil)
	if err != nil {
		return err
	}
	desk, err := o.connect(&home{o: o, root: file, ledger: ledger})
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
