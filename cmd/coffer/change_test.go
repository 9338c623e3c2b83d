package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"coffer/charter"
	"coffer/credential"
	"coffer/internal/cli"
	"coffer/internal/testcharter"
	"coffer/policy"
)

// edited is a file with what charter show --json prints, after a change.
func (p *person) edited(change func(*charter.Charter)) string {
	p.o.t.Helper()
	shown := decode[struct{ Charter *charter.Charter }](p.o.t, p.must("charter", "show", "--json"))
	change(shown.Charter)
	raw, err := json.Marshal(map[string]any{"charter": shown.Charter})
	if err != nil {
		p.o.t.Fatal(err)
	}
	path := filepath.Join(p.o.t.TempDir(), "edited.json")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		p.o.t.Fatal(err)
	}
	return path
}

// card is a file with the card of whoever is new, or of the key that is.
func (o *office) card(name, org string, key ...string) string {
	o.t.Helper()
	path := filepath.Join(o.t.TempDir(), name+".card")
	signer := testcharter.SSH(o.t, strings.Join(append(key, name)[:1], ""))
	if err := os.WriteFile(path, []byte(testcharter.Card(o.t, signer, name, org)+"\n"), 0o600); err != nil {
		o.t.Fatal(err)
	}
	return path
}

// digestOf is the digest of the version that an edited copy means.
func (p *person) digestOf(path string, cards ...string) string {
	p.o.t.Helper()
	r := p.run(append([]string{"charter", "propose", path}, cards...)...)
	for _, line := range strings.Split(r.stderr, "\n") {
		if text, ok := strings.CutPrefix(line, "record"); ok {
			return strings.TrimSpace(text)
		}
	}
	p.o.t.Fatalf("propose shows no digest: %s", r.stderr)
	return ""
}

func addErin(c *charter.Charter) {
	c.People = append(c.People, charter.Person{Name: "erin", Org: "auditor", Groups: []string{"approvers"}})
}

// An admin adds a person by an edited copy and a card, another one signs, the signers
// wait out the delay, and everybody has the next version; erin joins with its file.
func TestCharterChange(t *testing.T) {
	t.Parallel()
	o := newOffice(t, func(c *charter.Charter) { c.Admin.Delay = "1h" })
	alice, bob, dave := o.person("alice"), o.person("bob"), o.person("dave")
	path, card := alice.edited(addErin), o.card("erin", "auditor")
	alice.fails(cli.Failed, []string{`"erin" has no key`}, "charter", "propose", path)
	id := alice.digestOf(path, "--card", card)
	if d := decode[struct{ To string }](t, alice.must("charter", "diff", path, "--card", card, "--json")); d.To != id {
		t.Errorf("diff says digest %s, propose %s", d.To, id)
	}
	if r := alice.run("charter", "propose", path, "--card", card); !strings.Contains(r.stderr, "state         not signed by anybody yet") {
		t.Errorf("what nobody has signed: %s", r.stderr)
	}
	alice.fails(cli.Refused, []string{"nothing was signed"}, "charter", "propose", path, "--card", card, "--digest", o.f.Charter.Digest().String())
	dave.fails(cli.Refused, []string{`"dave" is not in that group`}, "charter", "propose", path, "--card", card, "--digest", id)
	r := alice.fails(cli.Done, []string{"WIDENS", "erin", "decided by    2 of treasury from 2 organisations", "still missing"}, "charter", "propose", path, "--card", card, "--digest", id)
	if r.stdout != id+"\n" {
		t.Errorf("%q", r.stdout)
	}
	bob.fails(cli.Done, []string{id, "version 2", "2 of treasury", "alice of exchange", "coffer approve " + id[:12]}, "pending")
	bob.fails(cli.Done, []string{"WIDENS", "erin"}, "charter", "diff")
	bob.fails(cli.Usage, []string{"give all 64 digits"}, "approve", id[:12], "--yes")
	bob.fails(cli.Done, []string{"approve " + id}, "charter", "sign", id, "--yes")
	bob.fails(cli.Failed, []string{`"bob" has signed version 2 of the charter already`}, "approve", id, "--yes")
	dave.fails(cli.Refused, []string{"not in that group"}, "approve", id, "--yes")
	if v := decode[struct{ Charter *charter.Charter }](t, bob.must("charter", "show", "--json")); v.Charter.Version != 1 {
		t.Fatalf("version %d in force before the delay", v.Charter.Version)
	}
	o.pass(2 * time.Hour)
	dave.fails(cli.Done, []string{"version 2"}, "charter", "show")
	dave.fails(cli.Done, []string{"version 1"}, "charter", "show", "--version", "1")
	dave.fails(cli.Done, []string{"from          version 1", "to            version 2", "erin"}, "charter", "diff", "1", "2")
	dave.fails(cli.Failed, []string{"version 3 was never in force"}, "charter", "show", "--version", "3")
	alice.fails(cli.Refused, []string{"the edited copy is of version 1, in force is version 2", "would undo"}, "charter", "propose", path, "--card", card, "--digest", id)

	// Whoever joins now confirms the newest version.
	file := filepath.Join(t.TempDir(), "charter.json")
	if got := strings.TrimSpace(bob.must("charter", "export", "--out", file)); got != id {
		t.Errorf("export says %s", got)
	}
	alice.fails(cli.Done, []string{id}, "charter", "verify", file)
	home := filepath.Join(t.TempDir(), "erin")
	if r := alice.bare("--home", home, "join", file, "--digest", o.f.Charter.Digest().String()); r.code != cli.Refused {
		t.Errorf("joined by the digest of version 1: exit %d: %s", r.code, r.stderr)
	}
	if r := alice.bare("--home", home, "join", file, "--digest", id); r.code != cli.Done || !strings.Contains(r.stderr, "version 2") {
		t.Errorf("exit %d: %s", r.code, r.stderr)
	}
	erin := &person{o: o, name: "erin", home: home, more: alice.more}
	erin.fails(cli.Done, []string{"effective"}, "freeze", "--reason", "I may")
}

// Who only asks is removed as soon as the admins say so; an admin not before the whole
// delay is over, and whoever signs reads why, and what is quick.
func TestRemovals(t *testing.T) {
	t.Parallel()
	o := newOffice(t, func(c *charter.Charter) { c.Admin.Delay = "1h" })
	alice, bob, carol := o.person("alice"), o.person("bob"), o.person("carol")
	remove := func(name string, want ...string) {
		t.Helper()
		path := alice.edited(func(c *charter.Charter) {
			c.People = slices.DeleteFunc(c.People, func(p charter.Person) bool { return p.Name == name })
		})
		id := alice.digestOf(path)
		alice.fails(cli.Done, want, "charter", "propose", path, "--digest", id)
		bob.fails(cli.Done, want, "charter", "sign", id, "--yes")
	}
	remove("dave", "changes       dave of exchange is removed")
	carol.fails(cli.Done, []string{"version 2"}, "charter", "show")
	remove("carol", "WIDENS        carol of auditor is removed", "somebody who could stop things no longer can; freeze --person carol stops", "delay         1 h")
	carol.fails(cli.Done, []string{"version 2"}, "charter", "show")
	carol.fails(cli.Done, []string{"effective"}, "freeze", "--reason", "who removes me?")
}

// A copy that two edited: the number is taken once, and what nobody signs dies.
func TestCharterWithdrawAndRivals(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	alice, bob, carol := o.person("alice"), o.person("bob"), o.person("carol")
	propose := func(p *person, change func(*charter.Charter)) string {
		t.Helper()
		path := p.edited(change)
		id := p.digestOf(path)
		p.must("charter", "propose", path, "--digest", id)
		return id
	}
	first := propose(alice, func(c *charter.Charter) { c.Rules[0].MaxAmount[0] = "1 ETH" })
	alice.fails(cli.Done, []string{"withdraw " + first}, "withdraw", first, "--yes")
	alice.fails(cli.Refused, []string{"withdrew"}, "approve", first, "--yes")
	bob.fails(cli.Usage, []string{"whoever is against it does not sign it"}, "reject", first, "--yes")
	bob.fails(cli.Failed, []string{`"bob" has not signed`}, "withdraw", first, "--yes")
	if r := alice.fails(cli.Failed, []string{"back already"}, "withdraw", first, "--yes"); r.stdout != "" {
		t.Error(r.stdout)
	}
	if r := bob.run("show", first); !strings.Contains(r.stdout, "alice of exchange, who WITHDREW it") || strings.Contains(r.stdout, "alice of exchange\n") {
		t.Errorf("a signature that was taken back: %s", r.stdout)
	}
	second := propose(bob, func(c *charter.Charter) { c.Rules[0].MaxAmount[0] = "1.5 ETH" })
	// Who signed one version signs no other of its number, by either way.
	third := bob.edited(func(c *charter.Charter) { c.Rules[0].MaxAmount[0] = "1.7 ETH" })
	bob.fails(cli.Refused, []string{`"bob" has signed another version 2 of the charter, ` + second[:12], "coffer withdraw " + second[:12]}, "charter", "propose", third)
	rival := propose(carol, func(c *charter.Charter) { c.Rules[0].MaxAmount[0] = "1.8 ETH" })
	bob.fails(cli.Refused, []string{second[:12]}, "approve", rival, "--yes")
	alice.fails(cli.Done, []string{"beside        version 2 of the charter (" + second[:12] + "), signed by bob of custodian"}, "show", rival)
	carol.must("withdraw", rival, "--yes")
	carol.must("approve", second, "--yes")
	if got := strings.TrimSpace(decode[struct{ Digest string }](t, alice.must("charter", "show", "--json")).Digest); got != second {
		t.Errorf("%s in force, want %s", got, second)
	}
	if r := alice.run("pending", "--json"); strings.Contains(r.stdout, first) {
		t.Errorf("a rival for a number that is taken still waits: %s", r.stdout)
	}
	alice.fails(cli.Usage, []string{"changes nothing"}, "charter", "propose", alice.edited(func(*charter.Charter) {}))
}

// A version needs the card of every new key, and no other.
func TestCharterCards(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	alice := o.person("alice")
	second := func(c *charter.Charter) {
		c.People[0].Keys = append(c.People[0].Keys, testcharter.SSH(t, "mallory").Key())
	}
	alice.fails(cli.Failed, []string{"alice"}, "charter", "propose", alice.edited(second))
	// An identity that is rotated: its card says who it is from then on.
	rotated := filepath.Join(t.TempDir(), "south.card")
	if err := os.WriteFile(rotated, []byte(testcharter.SignerCard(t, testcharter.Identity(t, "south's next"), "south", "custodian")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	alice.fails(cli.Refused, []string{"another identity", `take "peer" out of "south"`}, "charter", "diff", alice.edited(func(*charter.Charter) {}), "--card", rotated)
	alice.fails(cli.Done, []string{"WIDENS", "signer south is whoever holds identity"}, "charter", "diff", alice.edited(func(c *charter.Charter) {
		for i, s := range c.Signers {
			if s.Name == "south" {
				c.Signers[i].Peer = ""
			}
		}
	}), "--card", rotated)
	// One key more takes the place that the edited copy keeps for it.
	card := o.card("carol", "auditor", "carol's third")
	keys := func(more ...credential.Key) func(*charter.Charter) {
		return func(c *charter.Charter) {
			for i, p := range c.People {
				if p.Name == "carol" {
					c.People[i].Keys = append(p.Keys, more...)
				}
			}
		}
	}
	alice.fails(cli.Refused, []string{`a key that the edited copy does not list`, `add {} to the keys of "carol"`}, "charter", "diff", alice.edited(keys()), "--card", card)
	alice.fails(cli.Done, []string{"WIDENS", "carol"}, "charter", "diff", alice.edited(keys(credential.Key{})), "--card", card)
	alice.fails(cli.Failed, []string{"carol"}, "charter", "diff", alice.edited(keys(credential.Key{}, credential.Key{})), "--card", card)
	alice.fails(cli.Refused, []string{`card of person "erin", whom the edited copy does not list`, `{"name": "erin"`}, "charter", "propose", alice.edited(func(*charter.Charter) {}), "--card", o.card("erin", "auditor"))
	alice.fails(cli.Refused, []string{`organisation "exchange"`}, "charter", "propose", alice.edited(addErin), "--card", o.card("erin", "exchange"))
	alice.fails(cli.Refused, []string{`"erin" has a key that the edited copy does not list`}, "charter", "propose", alice.edited(func(c *charter.Charter) {
		addErin(c)
		c.People[len(c.People)-1].Keys = []credential.Key{testcharter.SSH(t, "mallory").Key()}
	}), "--card", o.card("erin", "auditor"))
}

// Keepers change a list without the admins; entries are shown as they come and go.
func TestLists(t *testing.T) {
	t.Parallel()
	o := newOffice(t, testcharter.Lists)
	alice, bob, dave := o.person("alice"), o.person("bob"), o.person("dave")
	dave.fails(cli.Done, []string{"suppliers", "banned", "sanctions", "STALE", "kept by"}, "list", "show")
	dave.fails(cli.Refused, []string{`"dave" is not in that group`}, "list", "add", "staff", testcharter.Stranger, "erin's desk")
	id := alice.must("list", "add", "staff", testcharter.Stranger, "the desk")
	bob.fails(cli.Done, []string{"staff, version 1", "adds", testcharter.Stranger, "the desk"}, "show", id)
	bob.must("list", "sign", id, "--yes")
	dave.fails(cli.Done, []string{"version 1 issued", testcharter.Stranger}, "list", "show", "staff")
	alice.fails(cli.Usage, []string{"already"}, "list", "add", "staff", testcharter.Stranger, "again")
	alice.fails(cli.Usage, []string{`did you mean "the desk"?`}, "list", "remove", "staff", "the dask")
	alice.fails(cli.Usage, []string{`did you mean "staff"?`}, "list", "show", "stuff")
	// The first version of the sanctions, from an edited copy; a stale copy is refused.
	path := filepath.Join(t.TempDir(), "banned.json")
	if err := os.WriteFile(path, []byte(alice.must("list", "show", "banned", "--json")), 0o600); err != nil {
		t.Fatal(err)
	}
	alice.fails(cli.Usage, []string{"changes nothing", "list renew"}, "list", "propose", "banned", path)
	renewed := alice.must("list", "renew", "banned")
	bob.must("approve", renewed, "--yes")
	if r := dave.run("list", "show"); strings.Contains(r.stdout, "STALE") {
		t.Errorf("a list that was renewed is stale: %s", r.stdout)
	}
	alice.fails(cli.Refused, []string{"is of version 0, in force is version 1"}, "list", "propose", "banned", path)
	removed := alice.must("list", "remove", "staff", "The Desk")
	bob.fails(cli.Done, []string{"removes"}, "approve", removed, "--yes")
	if r := decode[listReport](t, dave.must("list", "show", "staff", "--json")); r.Version != 2 || len(r.Entries) != 0 {
		t.Errorf("%+v", r)
	}
}

// Somebody who was last here under the version before keeps, of one answer, the next one
// and what was proposed under it, whatever the order of their IDs.
func TestListBehindCharter(t *testing.T) {
	t.Parallel()
	o := newOffice(t, func(c *charter.Charter) { c.Admin.Delay = "1h" })
	alice, bob := o.person("alice"), o.person("bob")
	path := alice.edited(func(c *charter.Charter) {
		for n := range 4 { // so that some ID of a version is below the charter's, and some above
			c.Destinations = append(c.Destinations, charter.DestinationList{Name: fmt.Sprintf("desks-%d", n), Keepers: &policy.Requirement{Group: "treasury", K: 2}})
		}
	})
	id := alice.digestOf(path)
	alice.must("charter", "propose", path, "--digest", id)
	bob.must("charter", "sign", id, "--yes")
	o.pass(2 * time.Hour)
	var lists []string
	for n := range 4 {
		lists = append(lists, alice.must("list", "add", fmt.Sprintf("desks-%d", n), testcharter.Stranger, "the desk"))
	}
	for _, id := range lists {
		bob.must("show", id)
	}
}

// Only the admin rule lifts a freeze, and only the ones that the order names.
func TestUnfreeze(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	alice, bob, dave := o.person("alice"), o.person("bob"), o.person("dave")
	alice.fails(cli.Failed, []string{"nothing is frozen"}, "unfreeze", "--all", "--reason", "x")
	first := dave.must("freeze", "--reason", "a laptop was stolen")
	second := dave.must("freeze", "--wallet", "treasury", "--reason", "an odd payment")
	dave.fails(cli.Refused, []string{"not in that group"}, "unfreeze", first, "--reason", "mine")
	id := alice.must("unfreeze", first[:12], "--reason", "the laptop was found")
	bob.fails(cli.Done, []string{"lifts", "the whole cluster by dave", "a laptop was stolen", "leaves", "an odd payment", "the laptop was found"}, "show", id)
	alice.fails(cli.Failed, []string{"FROZEN"}, "status")
	bob.must("approve", id, "--yes")
	r := alice.run("status", "--json")
	rows := decode[struct{ Freezes []freezeRow }](t, r.stdout).Freezes
	if r.code != cli.Done || len(rows) != 1 || rows[0].ID != second {
		t.Errorf("exit %d: %+v", r.code, rows)
	}
	alice.fails(cli.Failed, []string{"0 freezes in force"}, "unfreeze", first, "--reason", "again")
}
