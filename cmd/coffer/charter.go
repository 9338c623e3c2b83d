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

	"coffer/charter"
	"coffer/internal/cli"
)

func charterCommand(o *options) *cobra.Command {
	cmd := cli.Group("charter", "The cluster's constitution: make, show, verify")
	cmd.AddCommand(charterInit(o), charterShow(o), charterVerify(o))
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
	return &cobra.Command{
		Use:   "show [FILE]",
		Short: "Show a charter file, or the one that you pinned",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var c *charter.Charter
			if len(args) == 1 {
				file, err := charter.ReadFile(args[0])
				if err != nil {
					return err
				}
				c = file.Charter
			} else {
				var err error
				if c, _, err = o.charter(cmd.Context()); err != nil {
					return err
				}
			}
			if o.json {
				return cli.JSON(cmd, map[string]any{"digest": c.Digest(), "charter": c})
			}
			for _, line := range c.Describe() {
				fmt.Fprintln(cmd.OutOrStdout(), line)
			}
			return nil
		},
	}
}

func charterVerify(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "verify FILE",
		Short: "Verify a charter file: valid, every operator's signature, every key's proof of possession",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			file, err := charter.ReadFile(args[0])
			if err != nil {
				return err
			}
			if err := file.Verify(); err != nil {
				return &cli.ExitError{Code: cli.Refused, Err: err}
			}
			if o.json {
				return cli.JSON(cmd, map[string]any{"digest": file.Charter.Digest()})
			}
			fmt.Fprintln(cmd.OutOrStdout(), file.Charter.Digest())
			return nil
		},
	}
}
