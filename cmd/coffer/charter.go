package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"coffer/authority"
	"coffer/charter"
	"coffer/internal/cli"
)

func charterCommand(o *options) *cobra.Command {
	cmd := cli.Group("charter", "The cluster's constitution: make, change, show, verify")
	cmd.AddCommand(charterInit(o), charterShow(o), charterVerify(o), charterPropose(o), charterSign(o), charterDiff(o), charterExport(o))
	return cmd
}

func charterInit(o *options) *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "init DRAFT CARDS",
		Short: "Make a charter file from a draft and the cards of signers, coordinators, people and services",
		Long: `DRAFT is JSON with the name, organisations, groups, chains, assets, destinations, quorum,
rules and admin rule. CARDS is a file with one card a line. The charter file then goes to
every operator, who runs coffer-signer join with it.`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			var draft charter.Draft
			if err := readJSON(args[0], &draft); err != nil {
				return fmt.Errorf("draft %s: %w", args[0], err)
			}
			cards, err := readCards(args[1])
			if err != nil {
				return err
			}
			file, err := charter.Assemble(draft, cards)
			if err != nil {
				return err
			}
			if _, err := os.Stat(out); !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("%s exists already: choose another name with --out", out)
			}
			if err := charter.WriteFile(out, file); err != nil {
				return err
			}
			if o.json {
				if err := cli.JSON(cmd, map[string]any{"digest": file.Charter.Digest(), "file": out}); err != nil {
					return err
				}
			} else {
				fmt.Fprintln(cmd.OutOrStdout(), file.Charter.Digest())
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "charter written to %s; tell every operator and person the digest above by another channel\n", out)
			return nil
		},
	}
	cmd.Flags().StringVar(&out, "out", "charter.json", "file to write")
	return cmd
}

func readJSON(path string, v any) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	dec := json.NewDecoder(io.LimitReader(f, 1<<20))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("text after the JSON object")
	}
	return nil
}

func readCards(path string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var cards []string
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 64<<10)
	for lines.Scan() {
		if line := strings.TrimSpace(lines.Text()); line != "" && !strings.HasPrefix(line, "#") {
			cards = append(cards, line)
		}
	}
	return cards, lines.Err()
}

func charterShow(o *options) *cobra.Command {
	var number string
	cmd := &cobra.Command{
		Use:   "show [FILE|ID]",
		Short: "Show the version of the charter in force, another one, or a charter file",
		Args:  cobra.MaximumNArgs(1),

		ValidArgsFunction: o.completeVersions(true),
		RunE: func(cmd *cobra.Command, args []string) error {
			if number != "" && len(args) > 0 {
				return cli.Usagef("give --version, an ID or a file, not two of them")
			}
			show := func(c *charter.Charter) error {
				if o.json {
					return cli.JSON(cmd, map[string]any{"digest": c.Digest(), "charter": c})
				}
				for _, line := range c.Describe() {
					fmt.Fprintln(cmd.OutOrStdout(), line)
				}
				return nil
			}
			if len(args) == 1 {
				// A file needs no home: whoever joins looks at it first.
				if file, err := charter.ReadFile(args[0]); err == nil {
					return show(file.Charter)
				} else if !errors.Is(err, fs.ErrNotExist) {
					return err
				}
			}
			return o.withHome(cmd, func(h *home) error {
				c := h.inForce()
				if word := number + strings.Join(args, ""); word != "" {
					var err error
					if c, err = h.version(word, nil); err != nil {
						return err
					}
				}
				if err := show(c); err != nil {
					return err
				}
				for _, p := range h.ledger.Pending() {
					if p.Kind == authority.KindCharter {
						fmt.Fprintf(cmd.ErrOrStderr(), "%s (%s) waits: coffer charter diff says what it changes\n", p.Title, p.Record.Short())
					}
				}
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&number, "version", "", "number of a version")
	return cmd
}

func charterVerify(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "verify FILE",
		Short: "Verify a charter file: version 1 with every operator's signature and every key's proof, and every record since",
		Long: `verify prints the digest of the newest version that is in force by what the file holds. With a
charter of yours pinned, it says so when the file is of another cluster or of an older version.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			file, err := charter.ReadFile(args[0])
			if err != nil {
				return err
			}
			ledger, err := authority.Open(file, unixNow())
			if err != nil {
				return &cli.ExitError{Code: cli.Refused, Err: err}
			}
			newest := ledger.InForce()
			if o.json {
				return cli.JSON(cmd, map[string]any{"digest": newest.Digest(), "version": newest.Version, "records": len(file.Records)})
			}
			fmt.Fprintln(cmd.OutOrStdout(), newest.Digest())
			if h, err := o.open(); err == nil {
				switch mine := h.inForce(); {
				case newest.Cluster != mine.Cluster:
					fmt.Fprintln(cmd.ErrOrStderr(), "it is of another cluster than the charter that you pinned")
				case newest.Version < mine.Version:
					fmt.Fprintf(cmd.ErrOrStderr(), "it ends with version %d; version %d is in force\n", newest.Version, mine.Version)
				}
			}
			return nil
		},
	}
}
