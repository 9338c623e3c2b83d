package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coffer/internal/cli"
	"coffer/internal/cluster"
)

func TestDay(t *testing.T) {
	w := cluster.NewTreasury(t)
	d := newDesk(t, w.File, "")
	d.script("day", map[string]func(){"fund": func() {
		type row struct{ Address string }
		d.vars["ACCOUNT"] = decode[row](t, d.must("", "wallet", "show", "treasury", "--json")).Address
		w.Give(d.vars["ACCOUNT"])
	}})
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
func TestCompletion(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		var stdout, stderr bytes.Buffer
		if code := cli.Run(t.Context(), command(), []string{"completion", shell}, &stdout, &stderr); code != cli.Done || stdout.Len() == 0 {
			t.Errorf("%s: exit %d, %d bytes: %s", shell, code, stdout.Len(), stderr.String())
		}
	}
	var stdout, stderr bytes.Buffer
	cli.Run(t.Context(), command(), []string{"__complete", "wallet", ""}, &stdout, &stderr)
	for _, word := range []string{"create", "list", "show"} {
		if !strings.Contains(stdout.String(), word) {
			t.Errorf("completion of wallet lacks %q: %s", word, stdout.String())
		}
	}
}
