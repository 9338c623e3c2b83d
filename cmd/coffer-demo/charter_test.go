//go:build e2e

package main_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"coffer/charter"
	"coffer/internal/demo"
)

const (
	supplierAddress = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
	partnerAddress  = "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"
	bannedAddress   = "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB"
	within          = 90 * time.Second
)

// office is a demo's cluster while it is kept up, and all who work with it.
type office struct {
	t       *testing.T
	dir     string
	result  demo.Result
	started map[string]*exec.Cmd // signers that this test started again
	payment int
}

// changes has the authority of a cluster change while it runs: people, lists, keys of
// daemons. It leaves the cluster up as the demo did.
func (o *office) changes(t *testing.T) {
	for _, step := range []struct {
		name string
		run  func()
	}{
		{"a person is added and approves, to an entry of a kept list", o.addition},
		{"an approver is removed between approval and signing, a signer is off", o.removal},
		{"signer and coordinator get other identities", o.rotation},
		{"a stale sanctions list denies", o.stale},
	} {
		if !t.Run(step.name, func(t *testing.T) { o.t = t; step.run() }) {
			t.Fatalf("the next steps need what %q does", step.name)
		}
	}
}

// stop ends what this test started, as the demo ends the rest.
func (o *office) stop() {
	for name, cmd := range o.started {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		_ = cmd.Wait()                          // by that signal
		delete(o.started, name)
	}
}

// run is one command, of whomever.
func (o *office) run(program string, args ...string) (stdout string, code int) {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(o.t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(bin, program), args...)
	var out, talk bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &talk
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil || ctx.Err() != nil {
		o.t.Fatalf("%s %q: %v\n%s%s", program, args, err, out.String(), talk.String())
	}
	o.t.Logf("%s %s: exit %d\n%s", program, strings.Join(args, " "), cmd.ProcessState.ExitCode(), talk.String())
	return strings.TrimSpace(out.String()), cmd.ProcessState.ExitCode()
}

func (o *office) must(program string, args ...string) string {
	o.t.Helper()
	out, code := o.run(program, args...)
	if code != 0 {
		o.t.Fatalf("%s %q: exit %d: %s", program, args, code, out)
	}
	return out
}

func (o *office) home(person string) string { return filepath.Join(o.dir, "people", person) }
func (o *office) signer(name string) string { return filepath.Join(o.dir, "signers", name) }
func (o *office) desk() string              { return filepath.Join(o.dir, "coordinator") }

func (o *office) person(name string, args ...string) []string {
	return append(args, "--home", filepath.Join(o.home(name), "home"), "--as", name, "--key", filepath.Join(o.home(name), "key"))
}

func (o *office) as(name string, args ...string) string {
	o.t.Helper()
	return o.must("coffer", o.person(name, args...)...)
}

func (o *office) decode(text string, into any) {
	o.t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		o.t.Fatalf("%v: %s", err, text)
	}
}

// poll waits until f has nothing to say.
func (o *office) poll(f func() string) {
	o.t.Helper()
	deadline := time.Now().Add(within)
	for {
		text := f()
		if text == "" {
			return
		}
		if time.Now().After(deadline) {
			o.t.Fatal(text)
		}
		<-time.After(200 * time.Millisecond)
	}
}

type signerStatus struct {
	Peer    string `json:"peer_id"`
	Version string `json:"charter_version"`
	Fresh   bool   `json:"fresh"`
	Sealed  bool   `json:"sealed"`
	Freezes []any  `json:"freezes"`
}

func (o *office) status(name string) (st signerStatus) {
	o.t.Helper()
	if out, code := o.run("coffer-signer", "status", "--dir", o.signer(name), "--json"); code == 0 {
		o.decode(out, &st)
	}
	return st
}

// follow waits until these signers have a version in force, are fresh and not frozen.
func (o *office) follow(version int, names ...string) {
	o.t.Helper()
	for _, name := range names {
		o.poll(func() string {
			if st := o.status(name); st.Version != fmt.Sprint(version) || !st.Fresh || st.Sealed || len(st.Freezes) > 0 {
				return fmt.Sprintf("signer %s is not at version %d: %+v", name, version, st)
			}
			return ""
		})
	}
}

// change has bob propose the next version of the charter and carol sign it, and waits
// until the coordinator has it in force, and with it as many signers as sign.
func (o *office) change(edit func(c map[string]any), cards ...string) {
	o.t.Helper()
	var shown struct {
		Charter map[string]any `json:"charter"`
	}
	o.decode(o.as("bob", "charter", "show", "--json"), &shown)
	version := int(shown.Charter["version"].(float64)) + 1
	edit(shown.Charter)
	raw, err := json.Marshal(shown.Charter)
	if err != nil {
		o.t.Fatal(err)
	}
	edited, proof := filepath.Join(o.t.TempDir(), "edited.json"), filepath.Join(o.t.TempDir(), "cards.txt")
	for path, content := range map[string][]byte{edited: raw, proof: []byte(strings.Join(cards, "\n") + "\n")} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			o.t.Fatal(err)
		}
	}
	var diff struct {
		To string `json:"to"`
	}
	o.decode(o.as("bob", "charter", "diff", edited, "--json"), &diff)
	args := []string{"charter", "propose", edited, "--digest", diff.To, "--json"}
	if len(cards) > 0 {
		args = append(args, "--card", proof)
	}
	id := o.record(o.as("bob", args...))
	o.as("carol", "charter", "sign", id, "--yes")
	o.poll(func() string {
		var st struct {
			Version int `json:"charter_version"`
		}
		out, code := o.run("coffer-coordinator", "status", "--dir", o.desk(), "--json")
		if code == 0 {
			o.decode(out, &st)
		}
		if st.Version != version {
			return fmt.Sprintf("the coordinator has version %d in force, not %d", st.Version, version)
		}
		return ""
	})
}

// record is the ID of the authority record that a command printed.
func (o *office) record(out string) string {
	o.t.Helper()
	var r struct {
		ID string `json:"id"`
	}
	o.decode(out, &r)
	if len(r.ID) != 64 {
		o.t.Fatalf("no ID: %s", out)
	}
	return r.ID
}

func list(c map[string]any, name string) []any { return c[name].([]any) }

// named is the entry of a list of the charter that has a name.
func (o *office) named(c map[string]any, in, name string) map[string]any {
	o.t.Helper()
	for _, e := range list(c, in) {
		if e := e.(map[string]any); e["name"] == name {
			return e
		}
	}
	o.t.Fatalf("the charter has no %s in %s", name, in)
	return nil
}

// pay has alice ask for a payment.
func (o *office) pay(to string) (id string) {
	o.t.Helper()
	o.payment++
	return o.as("alice", "pay", "0.01", "ETH", to, "--from", "treasury", "--ref", fmt.Sprintf("CHANGE-%d", o.payment))
}

func (o *office) approve(id string, people ...string) {
	o.t.Helper()
	for _, p := range people {
		o.as(p, "approve", id, "--yes")
	}
}

// mined waits until a payment is, and says who signed it.
func (o *office) mined(id string) (signers []string) {
	o.t.Helper()
	var r struct {
		Stage    string   `json:"stage"`
		Detail   string   `json:"detail"`
		SignedBy []string `json:"signed_by"`
	}
	o.decode(o.as("alice", "show", id, "--wait", "--timeout", "2m", "--json"), &r)
	if r.Stage != "done" || len(r.SignedBy) != 2 {
		o.t.Fatalf("the payment is %s: %s, signed by %q", r.Stage, r.Detail, r.SignedBy)
	}
	return r.SignedBy
}

// judged is what a signer itself says that it would do.
func (o *office) judged(signer, id string) (state, outcome, why string) {
	o.t.Helper()
	var known struct {
		Intents []struct {
			ID, State, Outcome string
			Checks, Reasons    []string
		} `json:"intents"`
	}
	o.decode(o.must("coffer-signer", "pending", "--all", "--dir", o.signer(signer), "--json"), &known)
	for _, i := range known.Intents {
		if i.ID == id {
			return i.State, i.Outcome, strings.Join(append(i.Checks, i.Reasons...), "; ")
		}
	}
	return "", "", "it does not know the payment"
}

func (o *office) addition() {
	const name = "erin"
	_, secret, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		o.t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(secret, name)
	if err != nil {
		o.t.Fatal(err)
	}
	if err := os.MkdirAll(o.home(name), 0o700); err != nil {
		o.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(o.home(name), "key"), pem.EncodeToMemory(block), 0o600); err != nil {
		o.t.Fatal(err)
	}
	line := o.must("coffer", o.person(name, "enrol", "--org", "auditor")...)
	card, err := charter.ParseCard(line)
	if err != nil {
		o.t.Fatal(err)
	}
	keepers := map[string]any{"group": "admins", "k": 2}
	o.change(func(c map[string]any) {
		c["people"] = append(list(c, "people"), map[string]any{
			"name": name, "org": "auditor", "groups": []string{"approvers"},
			"keys": []any{map[string]any{"kind": card.Key.Kind, "public": card.Key.Public}},
		})
		c["destinations"] = append(list(c, "destinations"),
			map[string]any{"name": "partners", "keepers": keepers},
			map[string]any{"name": "banned", "kind": "sanctions", "keepers": keepers, "max_age": "24h"})
		o.named(c, "rules", "payments")["destinations"] = []string{"suppliers", "partners"}
	}, line)
	o.follow(2, "a", "b", "c")

	// She joins by a file that holds the whole chain of versions, and its newest digest.
	file := filepath.Join(o.t.TempDir(), "charter.json")
	digest := o.as("alice", "charter", "export", "--out", file)
	if _, code := o.run("coffer", "join", file, "--home", filepath.Join(o.home("x"), "home"), "--digest", strings.Repeat("0", 64)); code != 3 {
		o.t.Errorf("join under another digest: exit %d, want 3", code)
	}
	o.must("coffer", "join", file, "--home", filepath.Join(o.home(name), "home"), "--digest", digest)

	// The lists' keepers: one is not enough.
	if _, code := o.run("coffer", o.person("alice", "pay", "0.01", "ETH", partnerAddress, "--from", "treasury", "--ref", "EARLY")...); code != 3 {
		o.t.Errorf("a payment to an address that is on no list: exit %d, want 3", code)
	}
	for list, entry := range map[string][]string{"partners": {partnerAddress, "a partner"}, "banned": {bannedAddress, "a thief"}} {
		id := o.record(o.as("bob", "list", "add", list, entry[0], entry[1], "--json"))
		o.as("carol", "list", "sign", id, "--yes")
	}
	id := o.pay(partnerAddress)
	o.approve(id, name, "bob")
	o.mined(id)
}

// daemon finds the process of a daemon by its program and directory.
func (o *office) daemon(program, dir string) *os.Process {
	o.t.Helper()
	for _, pid := range running(o.t) {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		args := strings.Split(string(raw), "\x00")
		if err == nil && len(args) > 3 && filepath.Base(args[0]) == program && args[1] == "run" && slices.Contains(args, dir) {
			p, err := os.FindProcess(pid)
			if err != nil {
				o.t.Fatal(err)
			}
			return p
		}
	}
	return nil
}

func (o *office) signal(p *os.Process, s os.Signal) {
	o.t.Helper()
	if p == nil {
		o.t.Fatal("the daemon does not run")
	}
	if err := p.Signal(s); err != nil {
		o.t.Fatal(err)
	}
}

// off ends a signer.
func (o *office) off(name string) {
	o.t.Helper()
	o.signal(o.daemon("coffer-signer", o.signer(name)), syscall.SIGTERM)
	if cmd := o.started[name]; cmd != nil {
		_ = cmd.Wait() // by that signal
		delete(o.started, name)
	}
	o.poll(func() string {
		if o.daemon("coffer-signer", o.signer(name)) != nil {
			return "signer " + name + " does not end"
		}
		return ""
	})
}

// on starts it again.
func (o *office) on(name string) {
	o.t.Helper()
	cmd := exec.Command(filepath.Join(bin, "coffer-signer"), "run", "--dir", o.signer(name), "--passphrase-file", filepath.Join(o.dir, "passphrases", name, "passphrase"))
	log, err := os.OpenFile(filepath.Join(o.dir, "signer-"+name+".log"), os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		o.t.Fatal(err)
	}
	defer log.Close()
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		o.t.Fatal(err)
	}
	o.started[name] = cmd
}

func (o *office) removal() {
	o.off("c")
	// While all is frozen, approvals are taken and the charter changes; signing waits.
	freeze := o.record(o.must("coffer-signer", "freeze", "--reason", "erin's laptop is gone", "--dir", o.signer("a"), "--json"))
	id := o.pay(supplierAddress)
	o.approve(id, "erin", "bob")
	o.poll(func() string {
		for _, name := range []string{"a", "b"} {
			if _, outcome, why := o.judged(name, id); outcome == "sign" || !strings.Contains(why, "FROZEN") || strings.Contains(why, "of approvers") {
				return fmt.Sprintf("signer %s does not wait for the freeze alone: %s, %s", name, outcome, why)
			}
		}
		return ""
	})
	o.change(func(c map[string]any) {
		c["people"] = slices.DeleteFunc(list(c, "people"), func(p any) bool { return p.(map[string]any)["name"] == "erin" })
	})
	lift := o.record(o.as("bob", "unfreeze", freeze, "--reason", "she is out", "--json"))
	o.as("carol", "approve", lift, "--yes")
	o.follow(3, "a", "b")
	o.poll(func() string {
		for _, name := range []string{"a", "b"} {
			state, outcome, why := o.judged(name, id)
			if state == "signed" || outcome == "sign" {
				o.t.Fatalf("signer %s signs with the approval of somebody who was removed: %s", name, why)
			}
			if !strings.Contains(why, "1 so far") {
				return fmt.Sprintf("signer %s does not wait for another approval: %s", name, why)
			}
		}
		return ""
	})
	if out, code := o.run("coffer", o.person("erin", "history")...); code == 0 {
		o.t.Errorf("erin still reads: %s", out)
	}

	// Signer c was off for all of that. The coordinator is silent, so only its peers tell it.
	desk := o.daemon("coffer-coordinator", o.desk())
	o.signal(desk, syscall.SIGSTOP)
	defer func() { _ = desk.Signal(syscall.SIGCONT) }() // once more does no harm
	o.on("c")
	o.follow(3, "c")
	o.signal(desk, syscall.SIGCONT)

	o.approve(id, "carol")
	o.mined(id)
}

func (o *office) rotation() {
	next := map[string]string{}
	var cards []string
	for what, args := range map[string][]string{
		"signers": {"coffer-signer", "rotate", "--dir", o.signer("c")}, "coordinators": {"coffer-coordinator", "rotate", "--dir", o.desk()},
	} {
		line := o.must(args[0], args[1:]...)
		card, err := charter.ParseCard(line)
		if err != nil {
			o.t.Fatal(err)
		}
		next[what] = string(card.Peer)
		cards = append(cards, line)
	}
	history := o.as("alice", "history")
	o.change(func(c map[string]any) {
		o.named(c, "signers", "c")["peer"] = next["signers"]
		o.named(c, "coordinators", "desk")["peer"] = next["coordinators"]
	}, cards...)
	o.follow(4, "a", "b", "c")
	if st := o.status("c"); st.Peer != next["signers"] {
		o.t.Fatalf("signer c is %s, the charter lists %s", st.Peer, next["signers"])
	}

	// Without b nothing goes without c, and c answers nobody but the charter's coordinator.
	o.off("b")
	if again := o.as("alice", "history"); again != history {
		o.t.Errorf("the history is another:\n%s\n%s", history, again)
	}
	id := o.pay(supplierAddress)
	o.approve(id, "bob", "carol")
	if by := o.mined(id); !slices.Contains(by, "c") {
		o.t.Errorf("signed by %q", by)
	}
	var wallet struct{ Address string }
	o.decode(o.as("carol", "wallet", "show", "treasury", "--json"), &wallet)
	if wallet.Address != o.result.Wallet.Address {
		o.t.Errorf("the wallet is %s, was %s", wallet.Address, o.result.Wallet.Address)
	}
	o.must("coffer-signer", "audit", "--dir", o.signer("c"))
	o.on("b")
	o.follow(4, "a", "b", "c")
}

func (o *office) stale() {
	o.change(func(c map[string]any) { o.named(c, "destinations", "banned")["max_age"] = "1s" })
	o.follow(5, "a", "b", "c")
	// Issued minutes ago, it counts no longer.
	args := []string{"pay", "0.01", "ETH", supplierAddress, "--from", "treasury", "--ref", "STALE"}
	if out, code := o.run("coffer", o.person("alice", args...)...); code != 3 {
		o.t.Errorf("a payment under a stale sanctions list: exit %d, %s", code, out)
	}
	id := o.as("alice", append(args, "--anyway")...)
	o.approve(id, "bob", "carol")
	for _, name := range []string{"a", "b", "c"} {
		o.poll(func() string {
			state, outcome, why := o.judged(name, id)
			if state == "signed" || outcome == "sign" {
				o.t.Fatalf("signer %s signs under a stale sanctions list: %s", name, why)
			}
			if outcome != "refuse" || !strings.Contains(why, "POLICY_LIST_STALE") || strings.Contains(why, "approvers") {
				return fmt.Sprintf("signer %s does not refuse for the stale list alone: %s, %s", name, outcome, why)
			}
			return ""
		})
	}
}
