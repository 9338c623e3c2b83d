package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"coffer/internal/cli"
	"coffer/internal/cluster"
)

func TestDay(t *testing.T) {
	w := cluster.NewTreasury(t)
	d := newDesk(t, w.File, "")
	d.script("day", map[string]func(){
		"fund": func() {
			type row struct{ Address string }
			d.vars["ACCOUNT"] = decode[row](t, d.must("carol", "wallet", "show", "treasury", "--json")).Address
			w.Give(d.vars["ACCOUNT"])
		},
		"the coordinator has heard of the wallet from all": func() {
			w.Eventually("every signer has it", func() bool {
				r := d.run("carol", "status", "--json")
				for _, row := range decode[struct{ Signers []signerRow }](t, r.stdout).Signers {
					if !row.Ready || len(row.Wallets) != 1 || len(row.ConnectedTo) != 2 || row.Primes != 1 {
						return false
					}
				}
				return r.code == cli.Done
			})
		},
	})
}

func TestBadInput(t *testing.T) {
	w := cluster.NewTreasury(t).Fund()
	d := newDesk(t, w.File, "")
	d.vars["ACCOUNT"] = w.Account.String()
	pinned := filepath.Join(d.home, "charter.json")
	good, err := os.ReadFile(d.vars["CHARTER"])
	if err != nil {
		t.Fatal(err)
	}
	edited := bytes.Replace(good, []byte(`"2 ETH"`), []byte(`"9 ETH"`), 1)
	if bytes.Equal(good, edited) {
		t.Fatal("the charter has no limit to edit")
	}
	write := func(path string, raw []byte) {
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d.vars["EDITED"] = filepath.Join(d.vars["DIR"], "edited.json")
	d.script("bad-input", map[string]func(){
		"edit the charter":           func() { write(d.vars["EDITED"], edited) },
		"edit the pinned charter":    func() { write(pinned, edited) },
		"restore the pinned charter": func() { write(pinned, good) },
	})
	if _, err := os.Stat(filepath.Join(d.vars["DIR"], "new")); !os.IsNotExist(err) {
		t.Error("a refused join made its home")
	}
}

// Every command has words, and the shell gets them to complete.
func TestCompletionScripts(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		var stdout, stderr bytes.Buffer
		if code := cli.Run(t.Context(), command(), []string{"completion", shell}, &stdout, &stderr); code != cli.Done || stdout.Len() == 0 {
			t.Errorf("%s: exit %d, %d bytes: %s", shell, code, stdout.Len(), stderr.String())
		}
	}
}

// The tab key offers what the charter and the coordinator know, and says nothing and
// waits for nobody when the coordinator is away.
func TestCompletion(t *testing.T) {
	w := cluster.NewTreasury(t).Fund()
	d := newDesk(t, w.File, "")
	id := d.must("alice", "pay", "1.5", "ETH", cluster.Supplier, "--from", "treasury", "--ref", "INV-1")
	offered := func(args ...string) string {
		t.Helper()
		r := d.run("carol", append([]string{"__complete"}, args...)...)
		if r.code != cli.Done {
			t.Fatalf("%q: exit %d: %s", args, r.code, r.stderr)
		}
		words, ok := strings.CutSuffix(r.stdout, ":4\n") // no file names
		if !ok {
			t.Errorf("%q offers files: %q", args, r.stdout)
		}
		return words
	}
	home := []string{"--home", d.home}
	away := []string{"--home", d.home, "--addr", "127.0.0.1:1"}
	nowhere := []string{"--home", filepath.Join(d.home, "none")}
	for _, c := range []struct {
		flags []string
		args  string
		want  string
	}{
		{home, "wallet |", "create\tAsk for a new wallet: the signers generate its key together, and nobody holds it\nlist\t"},
		{home, "wallet show |", "treasury\t" + w.Account.String() + "\n"},
		{home, "pay 1 |", "ETH\ton dev\n"},
		{home, "pay 1 ETH |", cluster.Supplier + "\tcoffee supplier on dev\n"},
		{home, "pay 1 ETH 0xzz|", ""},
		{home, "pay 1 ETH " + cluster.Supplier + " --from |", "treasury\t" + w.Account.String() + "\n"},
		{home, "pay 1 ETH " + cluster.Supplier + " --chain |", "dev\n"},
		{home, "approve |", id[:12] + "\t1.5 ETH to " + cluster.Supplier + " (coffee supplier) from treasury\n"},
		{home, "show " + id[:4] + "|", id[:12] + "\t"},
		{home, "approve " + id[:12] + " |", ""},
		{home, "pending --as b|", "bob\tof exchange\n"},
		{home, "history --stage re|", "refused\n"},
		{home, "history --kind c|", "cancel\ncreate_wallet\n"},
		{home, "history --by a|", "alice\tof exchange\n"},
		{away, "wallet show |", ""},
		{away, "approve |", ""},
		{away, "pay 1 |", "ETH\ton dev\n"}, // the charter needs no coordinator
		{nowhere, "approve |", ""},
		{nowhere, "pay 1 |", ""},
	} {
		words, last, _ := strings.Cut(c.args, "|")
		args := strings.Split(words, " ")
		args = slices.Concat(args[:1], c.flags, args[1:])
		if last != "" {
			t.Fatal(c.args)
		}
		if got := offered(args...); !strings.HasPrefix(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%s: %q, want %q", c.args, got, c.want)
		}
	}
}

// A wait goes on past a restart of the coordinator, and says so.
func TestWaitPastRestart(t *testing.T) {
	w := cluster.NewTreasury(t).Fund()
	d := newDesk(t, w.File, "")
	id := d.must("alice", "pay", "1", "ETH", cluster.Supplier, "--from", "treasury", "--ref", "INV-1")
	done := make(chan result, 1)
	said := make(talk, 100)
	go func() {
		var stdout bytes.Buffer
		code := cli.Run(t.Context(), command(), []string{"--home", d.home, "--as", "alice", "--key", d.keys["alice"], "show", id, "--wait", "--timeout", "60s"}, &stdout, said)
		done <- result{code: code, stdout: stdout.String()}
	}()
	said.until(t, "approval: waits for approvals")
	w.StopDesk()
	said.until(t, "the coordinator is away")
	w.StartDesk()
	said.until(t, "approval: waits for approvals")
	for _, who := range []string{"bob", "carol"} {
		d.must(who, "approve", id, "--yes")
	}
	if r := <-done; r.code != cli.Done || !strings.Contains(r.stdout, "done: mined in block") {
		t.Errorf("exit %d: %s", r.code, r.stdout)
	}
}

// talk is what somebody writes, for another to wait for.
type talk chan string

func (l talk) Write(b []byte) (int, error) { l <- string(b); return len(b), nil }

func (l talk) until(t *testing.T, want string) {
	t.Helper()
	late := time.After(30 * time.Second)
	for {
		select {
		case text := <-l:
			if strings.Contains(text, want) {
				return
			}
		case <-late:
			t.Fatalf("nobody says %q", want)
		}
	}
}

// The same reference asks once: by several at the same time, when the answer was lost,
// and after a restart of the coordinator.
func TestSameReference(t *testing.T) {
	w := cluster.NewTreasury(t).Fund()
	d := newDesk(t, w.File, "")
	pay := func(d *desk, ref string) result {
		return d.run("alice", "pay", "1", "ETH", cluster.Supplier, "--from", "treasury", "--ref", ref)
	}
	const n = 8
	ids := make(chan result, n)
	for range n {
		go func() { ids <- pay(d, "INV-1") }()
	}
	first := ""
	for range n {
		r := <-ids
		id := strings.TrimSpace(r.stdout)
		if r.code != cli.Done || first != "" && id != first {
			t.Errorf("exit %d, %q, the first is %q: %s", r.code, id, first, r.stderr)
		}
		first = id
	}
	w.RestartDesk()
	if r := pay(d, "INV-1"); r.code != cli.Done || strings.TrimSpace(r.stdout) != first || !strings.Contains(r.stderr, "used before") {
		t.Errorf("after a restart: exit %d, %q: %s", r.code, r.stdout, r.stderr)
	}

	l := &liar{honest: w.API}
	cut := newDesk(t, w.File, l.serve(t, w))
	lost := 0
	l.cut = func() error {
		if lost++; lost < 3 {
			return status.Error(codes.Unavailable, "error reading from server: EOF")
		}
		return nil
	}
	r := pay(cut, "INV-2")
	if r.code != cli.Done || lost != 3 || strings.Contains(r.stderr, "used before") || !strings.Contains(r.stderr, "the connection broke") {
		t.Errorf("a lost answer: exit %d after %d tries: %s", r.code, lost, r.stderr)
	}
	rows := decode[struct{ Intents []report }](t, d.must("carol", "history", "--kind", "transfer", "--json")).Intents
	if len(rows) != 2 || rows[0].ID != strings.TrimSpace(r.stdout) || rows[1].ID != first {
		t.Errorf("%d payments were asked for, want 2", len(rows))
	}
}

func TestMoment(t *testing.T) {
	now := time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]string{
		"":                     "",
		"2026-03-01":           "2026-03-01T00:00:00Z",
		"2026-03-01T10:00:00Z": "2026-03-01T10:00:00Z",
		"36h":                  "2026-03-09T00:00:00Z",
		"7d":                   "2026-03-03T12:00:00Z",
		"yesterday":            "error", "-3h": "error", "7 d": "error", "99999999d": "error", "2026-13-01": "error",
	} {
		got, err := moment("--since", text, now)
		switch {
		case want == "error":
			if cli.Code(err) != cli.Usage || err == nil {
				t.Errorf("%q is taken as %d", text, got)
			}
		case err != nil || want == "" && got != 0 || want != "" && stamp(got) != want:
			t.Errorf("%q is %s, want %s: %v", text, stamp(got), want, err)
		}
	}
}

func TestRelative(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	for seconds, want := range map[int64]string{
		0: "now", 59: "in 59 s", -61: "1 min ago", 3599: "in 59 min", 3600: "in 1 h 0 min", -90000: "1 d 1 h ago",
	} {
		if got := relative(now, now.Unix()+seconds); got != want {
			t.Errorf("%d s: %q, want %q", seconds, got, want)
		}
	}
}
