package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"coffer/approval"
	"coffer/authority"
	"coffer/canon"
	"coffer/charter"
	"coffer/credential"
	"coffer/identity"
	"coffer/internal/cli"
	"coffer/party"
)

// maxEdited bounds an edited charter.
const maxEdited = 4 << 20

func charterPropose(o *options) *cobra.Command {
	var edit bool
	var cards []string
	var digest string
	cmd := &cobra.Command{
		Use:   "propose [EDITED.json]",
		Short: "Make the next version of the charter from an edited copy of the one in force, and sign it as the first",
		Long: `propose takes what coffer charter show --json printed, edited; --edit opens it in $VISUAL or $EDITOR.
Number, previous and cluster are filled in. Every new key needs the card of whoever holds it
(--card FILE, with one card a line). The key of a person, service, signer or coordinator without
one in the edited copy is taken from the card; for one key more of a person write {} among the
keys. What the change lets whom do is shown in words
before you are asked to sign. It takes force as the admin rule of the version before says: coffer
charter sign adds the other admins' signatures, and each signer waits out the delay.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if edit == (len(args) == 1) {
				return cli.Usagef("give the edited copy, or --edit")
			}
			return o.with(cmd, func(ctx context.Context, c *client) error {
				var raw []byte
				var err error
				if edit {
					raw, err = editCharter(ctx, c.charter)
				} else {
					raw, err = readUpTo(args[0], maxEdited)
				}
				if err != nil {
					return err
				}
				next, proof, err := nextVersion(c.charter, raw, cards)
				if err != nil {
					return named(args, err)
				}
				a, err := c.home.decode(authority.Record{Kind: authority.KindCharter, Raw: next.Encode(), Cards: proof})
				if err != nil {
					return err
				}
				given, err := heardWhole(digest, a.id)
				if err != nil {
					return err
				}
				return o.propose(cmd, ctx, c, a, given)
			})
		},
	}
	cmd.Flags().BoolVar(&edit, "edit", false, "open the charter in force in $VISUAL or $EDITOR")
	cmd.Flags().StringArrayVar(&cards, "card", nil, "file with cards of new keys, one a line; may be given several times")
	cmd.Flags().StringVar(&digest, "digest", "", "do not ask: the digest of the version that you mean, as coffer charter diff EDITED.json --card FILE prints it")
	return cmd
}

// named says which file an error is about.
func named(args []string, err error) error {
	if len(args) == 0 {
		return err
	}
	return fmt.Errorf("%s: %w", args[0], err)
}

// heardWhole says whether flag, the whole digest of what is to be signed, was given.
func heardWhole(flag string, id canon.Digest) (bool, error) {
	if flag == "" {
		return false, nil
	}
	want, err := canon.ParseDigest(flag)
	if err != nil {
		return false, cli.Usagef("--digest: %w", err)
	}
	if want != id {
		return false, cli.Refusedf("it has digest %s, you gave %s: nothing was signed", id, want)
	}
	return true, nil
}

// nextVersion is the version that an edited copy of old means, and the cards of its new
// keys. A copy of an older version is refused: it would take back silently what was
// changed since.
func nextVersion(old *charter.Charter, raw []byte, files []string) (*charter.Charter, []string, error) {
	next, err := readEdited(raw)
	if err != nil {
		return nil, nil, err
	}
	again := next.Version == old.Version+1 && next.Previous == old.Digest()
	if next.Version != old.Version && !again {
		return nil, nil, cli.Hint(cli.Refusedf("the edited copy is of version %d, in force is version %d: signing it would undo what was changed between", next.Version, old.Version),
			"edit what coffer charter show --json prints now")
	}
	if next.Cluster != old.Cluster {
		return nil, nil, cli.Refusedf("the edited copy is of cluster %s, yours is %s", next.Cluster.Short(), old.Cluster.Short())
	}
	cards, err := fillAll(next, files)
	if err != nil {
		return nil, nil, err
	}
	next.Follow(old)
	if err := next.Validate(); err != nil {
		return nil, nil, err
	}
	// Cards of keys that are listed already prove nothing new.
	cards = slices.DeleteFunc(cards, func(line string) bool {
		card, _ := charter.ParseCard(line)
		return !slices.ContainsFunc(next.NewKeys(old), func(n charter.Card) bool {
			return n.Kind == card.Kind && n.Name == card.Name && n.Key == card.Key && n.Peer == card.Peer
		})
	})
	if err := charter.VerifyCards(next, old, cards); err != nil {
		return nil, nil, cli.Hint(err, "--card FILE brings the cards of new keys: coffer enrol, coffer-signer card and coffer-coordinator card print them")
	}
	if next.Digest() == old.Digest() || len(charter.Diff(old, next)) == 0 {
		return nil, nil, cli.Usagef("the edited copy changes nothing")
	}
	return next, cards, nil
}

// fillAll puts the keys of the cards in files where the edited copy lacks them, and
// answers the cards.
func fillAll(next *charter.Charter, files []string) (cards []string, err error) {
	without := map[string]bool{} // people whose keys all come from cards
	for _, p := range next.People {
		without[p.Name] = len(p.Keys) == 0
	}
	for _, path := range files {
		lines, err := readCards(path)
		if err != nil {
			return nil, err
		}
		for _, line := range lines {
			if slices.Contains(cards, line) {
				continue
			}
			card, err := charter.ParseCard(line)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", path, err)
			}
			if err := fill(next, card, without[card.Name]); err != nil {
				return nil, err
			}
			cards = append(cards, line)
		}
	}
	return cards, nil
}

// readEdited reads a charter, bare or in what coffer charter show --json prints.
func readEdited(raw []byte) (*charter.Charter, error) {
	var wrapped struct {
		Charter json.RawMessage `json:"charter"`
	}
	if err := json.Unmarshal(raw, &wrapped); err == nil && len(wrapped.Charter) > 0 {
		raw = wrapped.Charter
	}
	return charter.ParseJSON(raw)
}

// fill puts the key of a card where the edited copy has a holder without one; without
// says that a person had no key before the cards.
func fill(c *charter.Charter, card charter.Card, without bool) error {
	other := func(org string) error {
		return cli.Refusedf("the card of %s %q says organisation %q, the edited copy says %q", card.Kind, card.Name, card.Org, org)
	}
	switch card.Kind {
	case charter.CardPerson:
		for i, p := range c.People {
			if p.Name != card.Name {
				continue
			}
			if p.Org != card.Org {
				return other(p.Org)
			}
			blank := slices.IndexFunc(p.Keys, credential.Key.IsZero)
			switch {
			case slices.Contains(p.Keys, card.Key):
			case without:
				c.People[i].Keys = append(p.Keys, card.Key)
			case blank >= 0:
				c.People[i].Keys[blank] = card.Key
			default:
				return cli.Hint(cli.Refusedf("the card of person %q has a key that the edited copy does not list", card.Name),
					"add {} to the keys of %q in the edited copy, or put it in place of the key that goes: the card's key takes that place", card.Name)
			}
			return nil
		}
	case charter.CardService:
		for i, s := range c.Services {
			if s.Name != card.Name {
				continue
			}
			if s.Org != card.Org {
				return other(s.Org)
			}
			if s.Key.IsZero() {
				c.Services[i].Key = card.Key
			}
			if c.Services[i].Key != card.Key {
				return cli.Hint(cli.Refusedf("the card of service %q has another key than the edited copy", card.Name),
					`take "key" out of service %q in the edited copy: the card's key takes its place`, card.Name)
			}
			return nil
		}
	case charter.CardSigner:
		for i, s := range c.Signers {
			if s.Name == party.ID(card.Name) {
				return fillPeer(&c.Signers[i].Peer, card)
			}
		}
	case charter.CardCoordinator:
		for i, s := range c.Coordinators {
			if s.Name == card.Name {
				return fillPeer(&c.Coordinators[i].Peer, card)
			}
		}
	}
	return cli.Hint(cli.Refusedf("there is a card of %s %q, whom the edited copy does not list", card.Kind, card.Name),
		`add them to the edited copy, without a key: {"name": %q, "org": %q, …}`, card.Name, card.Org)
}

// fillPeer puts a card's identity where the edited copy has none.
func fillPeer(listed *identity.ID, card charter.Card) error {
	if *listed == "" {
		*listed = card.Peer
	}
	if *listed != card.Peer {
		return cli.Hint(cli.Refusedf("the card of %s %q has another identity than the edited copy", card.Kind, card.Name),
			`take "peer" out of %q in the edited copy: the card's identity takes its place`, card.Name)
	}
	return nil
}

// editCharter has the user edit a copy of the charter in force.
func editCharter(ctx context.Context, c *charter.Charter) ([]byte, error) {
	editor := os.Getenv("VISUAL")
	if editor == "" {
		editor = os.Getenv("EDITOR")
	}
	if editor == "" {
		return nil, cli.Usagef("--edit needs VISUAL or EDITOR; or edit what coffer charter show --json prints")
	}
	dir, err := os.MkdirTemp("", "coffer-charter-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	raw, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "charter.json")
	if err := os.WriteFile(path, append(raw, '\n'), 0o600); err != nil {
		return nil, err
	}
	words := strings.Fields(editor) // such as "code --wait"
	run := exec.CommandContext(ctx, words[0], append(words[1:], path)...)
	run.Stdin, run.Stdout, run.Stderr = os.Stdin, os.Stderr, os.Stderr
	if err := run.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w", editor, err)
	}
	return readUpTo(path, maxEdited)
}

func charterSign(o *options) *cobra.Command {
	return actCommand(o, approval.Approve, "sign ID|FILE", "Show a version of the charter that waits for admins, and sign it", authority.KindCharter)
}

func charterExport(o *options) *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write a charter file with all authority records, for whoever joins later",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.with(cmd, func(_ context.Context, c *client) error {
				file := c.home.ledger.File(c.home.root)
				if out == "" {
					raw, err := file.Marshal()
					if err != nil {
						return err
					}
					_, err = cmd.OutOrStdout().Write(raw)
					return err
				}
				if _, err := os.Stat(out); !errors.Is(err, fs.ErrNotExist) {
					return fmt.Errorf("%s exists already: choose another name with --out", out)
				}
				if err := charter.WriteFile(out, file); err != nil {
					return err
				}
				if o.json {
					return cli.JSON(cmd, map[string]any{"digest": c.charter.Digest(), "version": c.charter.Version, "file": out})
				}
				fmt.Fprintln(cmd.OutOrStdout(), c.charter.Digest())
				fmt.Fprintf(cmd.ErrOrStderr(), "written to %s; tell whoever joins with it the digest above, of version %d, by another channel\n", out, c.charter.Version)
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "file to write; stdout if absent")
	return cmd
}

func charterDiff(o *options) *cobra.Command {
	var cards []string
	cmd := &cobra.Command{
		Use:   "diff [A] [B]",
		Short: "Say in words what one version lets whom do that another does not",
		Long: `A and B are numbers of versions, IDs of versions that wait, or files: an edited copy, or a charter
file. Without B, A is compared with the version in force; without both, the version that waits is.
An edited copy has the digest that charter propose makes of it; --card brings the keys that it lacks.`,
		Args: cobra.MaximumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.withHome(cmd, func(h *home) error {
				from := h.inForce()
				if len(args) == 2 {
					var err error
					if from, err = h.version(args[0], nil); err != nil {
						return err
					}
					args = args[1:]
				}
				word := ""
				if len(args) == 1 {
					word = args[0]
				}
				to, err := h.version(word, cards)
				if err != nil {
					return err
				}
				changes := charter.Diff(from, to)
				if o.json {
					rows := []map[string]any{}
					for _, c := range changes {
						rows = append(rows, map[string]any{"widens": c.Widens, "text": c.Text})
					}
					return cli.JSON(cmd, map[string]any{"from": from.Digest(), "to": to.Digest(), "version": to.Version, "narrows": charter.Narrows(from, to), "changes": rows})
				}
				w := cmd.OutOrStdout()
				line(w, "from", "version %d, %s", from.Version, from.Digest())
				line(w, "to", "version %d, %s", to.Version, to.Digest())
				printLines(w, changeLines(changes))
				return nil
			})
		},
	}
	cmd.Flags().StringArrayVar(&cards, "card", nil, "file with cards of keys that an edited copy lacks; may be given several times")
	return cmd
}

// version is the one that word means; "" is the one that waits. cards are files with
// the keys that an edited copy lacks.
func (h *home) version(word string, cards []string) (*charter.Charter, error) {
	if word == "" {
		var found []*charter.Charter
		for _, p := range h.ledger.Pending() {
			if p.Kind == authority.KindCharter {
				r, _ := h.ledger.Record(p.Record)
				next, err := charter.Parse(r.Raw)
				if err != nil {
					return nil, err
				}
				found = append(found, next)
			}
		}
		switch len(found) {
		case 0:
			return nil, cli.Hint(errors.New("no version of the charter waits"), "coffer charter propose makes one")
		case 1:
			return found[0], nil
		}
		return nil, cli.Hint(cli.Usagef("%d versions of the charter wait: name one by its ID", len(found)), "coffer pending lists them")
	}
	if info, err := os.Stat(word); err == nil && info.Mode().IsRegular() {
		raw, err := readUpTo(word, maxEdited)
		if err != nil {
			return nil, err
		}
		c, err := readEdited(raw)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", word, err)
		}
		if _, err := fillAll(c, cards); err != nil {
			return nil, err
		}
		if c.Version == h.inForce().Version && c.Digest() != h.inForce().Digest() {
			c.Follow(h.inForce())
		}
		if err := c.Validate(); err != nil {
			return nil, fmt.Errorf("%s: %w", word, err)
		}
		return c, nil
	}
	if n, err := strconv.ParseUint(word, 10, 32); err == nil && len(word) < 6 {
		for c := h.inForce(); ; {
			if c.Version == n {
				return c, nil
			}
			before, ok := h.ledger.Charter(c.Previous)
			if !ok || n == 0 || n > c.Version {
				return nil, fmt.Errorf("version %d was never in force; the newest is version %d", n, h.inForce().Version)
			}
			c = before
		}
	}
	a, err := h.find(word)
	if err != nil {
		return nil, err
	}
	if a != nil && a.Kind == authority.KindCharter {
		return charter.Parse(a.Raw)
	}
	if c := h.root.Charter; likeID.MatchString(word) && strings.HasPrefix(c.Digest().String(), strings.ToLower(word)) {
		return c, nil
	}
	return nil, cli.Hint(fmt.Errorf("%q is no number of a version, no ID of one, and no file", word), "coffer pending lists what waits")
}
