package cli_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"coffer/internal/cli"
	"coffer/internal/datadir"
)

func tree(err error) *cobra.Command {
	root := &cobra.Command{Use: "prog", Version: cli.Version()}
	cli.JSONFlag(root, new(bool))
	leaf := &cobra.Command{Use: "leaf ONE", Args: cobra.ExactArgs(1), RunE: func(*cobra.Command, []string) error { return err }}
	leaf.Flags().Int("number", 0, "")
	group := cli.Group("group", "things")
	group.AddCommand(&cobra.Command{Use: "thing", RunE: func(cmd *cobra.Command, _ []string) error {
		return cli.JSON(cmd, map[string]string{"text": "a<b>&c"})
	}})
	root.AddCommand(leaf, group, &cobra.Command{Use: "bare", Args: cobra.NoArgs, RunE: leaf.RunE})
	return root
}

func run(err error, args ...string) (code int, stdout, stderr string) {
	var out, talk bytes.Buffer
	code = cli.Run(context.Background(), tree(err), args, &out, &talk)
	return code, out.String(), talk.String()
}

func TestExitCodes(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		args string
		code int
		says string
	}{
		"done":                 {nil, "leaf x", cli.Done, ""},
		"failed":               {errors.New("the disk is full"), "leaf x", cli.Failed, "prog: the disk is full\n"},
		"usage":                {cli.Usagef("--from is missing"), "leaf x", cli.Usage, "--from is missing"},
		"refused":              {cli.Refusedf("no"), "leaf x", cli.Refused, "prog: no\n"},
		"waiting":              {&cli.ExitError{Code: cli.Waiting, Err: errors.New("still waits")}, "leaf x", cli.Waiting, "still waits"},
		"wrapped":              {fmt.Errorf("outside: %w", cli.Refusedf("no")), "leaf x", cli.Refused, "outside: no"},
		"permission denied":    {status.Error(codes.PermissionDenied, "the rules deny it"), "leaf x", cli.Refused, "prog: the rules deny it\n"},
		"not found":            {status.Error(codes.NotFound, "no such intent"), "leaf x", cli.Failed, "prog: no such intent\n"},
		"nobody there":         {status.Error(codes.Unavailable, "connection error: refused"), "leaf x", cli.Failed, "does the daemon run"},
		"looks like cobra's":   {cli.Refusedf("requires a friend"), "leaf x", cli.Refused, "prog: requires a friend\n"},
		"with a hint":          {fmt.Errorf("outside: %w", cli.Hint(cli.Refusedf("no"), "ask %s", "bob")), "leaf x", cli.Refused, "prog: outside: no\nhint: ask bob\n"},
		"two hints":            {cli.Hint(cli.Hint(errors.New("no"), "inner"), "outer"), "leaf x", cli.Failed, "prog: no\nhint: inner\n"},
		"gRPC with a hint":     {cli.Hint(status.Error(codes.NotFound, "no such intent"), "look"), "leaf x", cli.Failed, "prog: no such intent\nhint: look\n"},
		"refused connection":   {status.Error(codes.Unavailable, `connection error: desc = "transport: Error while dialing: dial tcp 127.0.0.1:1: connect: connection refused"`), "leaf x", cli.Failed, "prog: no connection to 127.0.0.1:1: connect: connection refused\n"},
		"another's key":        {status.Error(codes.Unavailable, `connection error: desc = "transport: authentication handshake failed: not the pinned key"`), "leaf x", cli.Failed, "prog: no connection: authentication handshake failed: not the pinned key\n"},
		"nobody answers":       {cli.Hint(status.Error(codes.Unavailable, `connection error: desc = "transport: authentication handshake failed: context deadline exceeded"`), "mine"), "leaf x", cli.Failed, "prog: no connection: what listens there does not answer\nhint: mine\n"},
		"bad settings":         {fmt.Errorf("open: %w", &datadir.SettingsError{Path: "config.json", Err: errors.New("no")}), "leaf x", cli.Usage, "prog: open: settings config.json: no\nhint: edit that file"},
		"no argument":          {nil, "leaf", cli.Usage, "prog: it takes 1 argument(s), 0 given\nhint: usage: prog leaf ONE"},
		"unknown command":      {nil, "nonsense", cli.Usage, "there is no command \"prog nonsense\"\nhint: see prog --help\n"},
		"mistyped command":     {nil, "laef x", cli.Usage, "there is no command \"prog laef\"\nhint: did you mean prog leaf?\n"},
		"a word too many":      {nil, "bare x", cli.Usage, "prog: it takes no argument, \"x\" given\nhint: usage: prog bare"},
		"unknown flag":         {nil, "leaf x --nonsense", cli.Usage, "\nhint: see prog leaf --help\n"},
		"flag of another type": {nil, "leaf x --number many", cli.Usage, "number"},
		"negative number":      {nil, "leaf -1", cli.Usage, "sign"},
		"group alone":          {nil, "group", cli.Usage, "a command is missing: thing\n"},
		"group, mistyped":      {nil, "group thign", cli.Usage, "did you mean prog group thing?"},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := run(c.err, strings.Fields(c.args)...)
			if code != c.code || !strings.Contains(stderr, c.says) || stdout != "" {
				t.Errorf("exit %d, want %d; stdout %q, stderr %q, want %q in it", code, c.code, stdout, stderr, c.says)
			}
		})
	}
}

func TestJSONAndVersion(t *testing.T) {
	if code, stdout, _ := run(nil, "group", "thing"); code != cli.Done || stdout != "{\n  \"text\": \"a<b>&c\"\n}\n" {
		t.Errorf("exit %d, %q", code, stdout)
	}
	if code, stdout, _ := run(nil, "--version"); code != cli.Done || !strings.Contains(stdout, cli.Version()) || cli.Version() == "" {
		t.Errorf("exit %d, %q", code, stdout)
	}
}

// Under --json a failure is one line of JSON, whatever came before it, and whether or
// not the command line could be read.
func TestJSONFailure(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		args string
		want string
	}{
		"failed":       {errors.New("a\nb<c>"), "leaf x --json", `{"error":"a b<c>","exit":1}`},
		"refused":      {cli.Hint(cli.Refusedf("no"), "ask bob"), "leaf x --json", `{"error":"no","hint":"ask bob","exit":3}`},
		"unknown flag": {nil, "leaf x --nonsense --json", `{"error":"unknown flag: --nonsense","hint":"see prog leaf --help","exit":2}`},
		"unknown word": {nil, "laef x --json", `{"error":"there is no command \"prog laef\"","hint":"did you mean prog leaf?","exit":2}`},
	} {
		if _, stdout, stderr := run(c.err, strings.Fields(c.args)...); stderr != c.want+"\n" || stdout != "" {
			t.Errorf("%s: stdout %q, stderr %s, want %s", name, stdout, stderr, c.want)
		}
	}
}

func TestSecret(t *testing.T) {
	dir := t.TempDir()
	file := func(text string, mode os.FileMode) string {
		path := filepath.Join(dir, fmt.Sprintf("%x-%o", text[:min(len(text), 8)], mode))
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, c := range map[string]struct {
		path string
		want string
		says string
	}{
		"a line":       {file("correct horse\n", 0o600), "correct horse", ""},
		"no line end":  {file("no line end", 0o400), "no line end", ""},
		"two lines":    {file("first\nsecond\n", 0o600), "first", ""},
		"of Windows":   {file("windows\r\n", 0o600), "windows", ""},
		"spaces":       {file("  kept  \n", 0o600), "  kept  ", ""},
		"empty":        {file("\n", 0o600), "", "empty"},
		"group reads":  {file("group reads", 0o640), "", "chmod 600"},
		"others read":  {file("others", 0o604), "", "chmod 600"},
		"longest":      {file(strings.Repeat("x", 1024)+"\n", 0o600), strings.Repeat("x", 1024), ""},
		"too long":     {file(strings.Repeat("y", 1025)+"\n", 0o600), "", "longer than 1024"},
		"far too long": {file(strings.Repeat("z", 1<<20), 0o600), "", "longer than 1024"},
		"absent":       {filepath.Join(dir, "absent"), "", "passphrase file"},
		"a folder":     {t.TempDir(), "", "passphrase"},
	} {
		t.Run(name, func(t *testing.T) {
			s := cli.Secret{File: c.path, Descriptor: -1}
			got, err := s.Read("passphrase", true)
			if c.says == "" && (err != nil || string(got) != c.want) {
				t.Errorf("%q, %v", got, err)
			}
			if c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("error %v, want %q in it", err, c.says)
			}
		})
	}

	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteString("by descriptor\n"); err != nil {
		t.Fatal(err)
	}
	w.Close()
	// Read closes the descriptor that it was given; r keeps its own.
	cmd := &cobra.Command{Use: "x"}
	var s cli.Secret
	s.Flags(cmd)
	if err := cmd.ParseFlags([]string{"--passphrase-fd", fmt.Sprint(dup(t, r))}); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Read("passphrase", false); err != nil || string(got) != "by descriptor" {
		t.Errorf("%q, %v", got, err)
	}
	r.Close()
	if _, err := (&cli.Secret{Descriptor: 987}).Read("passphrase", false); err == nil {
		t.Error("a descriptor that is not open gave a passphrase")
	}
	_, err = (&cli.Secret{File: "x", Descriptor: 3}).Read("passphrase", false)
	if cli.Code(err) != cli.Usage {
		t.Errorf("file and descriptor together: %v", err)
	}
}

func TestLogger(t *testing.T) {
	for level, want := range map[string]bool{"": false, "debug": true, "error": false, "loud": false} {
		t.Setenv("COFFER_LOG", level)
		var out bytes.Buffer
		log := cli.Logger(&out, "")
		if got := log.Enabled(t.Context(), slog.LevelDebug); got != want {
			t.Errorf("COFFER_LOG=%q: debug is enabled: %v", level, got)
		}
		if said := strings.Contains(out.String(), "COFFER_LOG"); said != (level == "loud") {
			t.Errorf("COFFER_LOG=%q: said %q", level, out.String())
		}
	}
	t.Setenv("COFFER_LOG", "")
	for format, want := range map[string]string{"": "msg=hello", "text": "msg=hello", "json": `"msg":"hello"`} {
		var out bytes.Buffer
		cli.Logger(&out, format).Info("hello")
		if !strings.Contains(out.String(), want) {
			t.Errorf("format %q: %s", format, out.String())
		}
	}
}

// systemd may show a credential that only the service's user can read with a group's bit.
func TestSecretOfSystemd(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	for _, c := range []struct {
		dir  string
		mode os.FileMode
		ok   bool
	}{
		{dir, 0o400, true}, {dir, 0o440, true}, {dir, 0o444, false}, {dir, 0o460, false},
		{elsewhere, 0o400, true}, {elsewhere, 0o440, false},
	} {
		path := filepath.Join(c.dir, fmt.Sprintf("passphrase-%o", c.mode))
		if err := os.WriteFile(path, []byte("correct horse\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, c.mode); err != nil {
			t.Fatal(err)
		}
		secret := cli.Secret{File: path, Descriptor: -1}
		if got, err := secret.Read("", false); (err == nil) != c.ok || c.ok && string(got) != "correct horse" {
			t.Errorf("%s mode %o: %q, %v; want accepted: %v", path, c.mode, got, err, c.ok)
		}
	}
}

func TestASCII(t *testing.T) {
	for _, c := range []struct {
		text string
		most int
		want string
	}{
		{"Schlüssel\tgestohlen\r\n von  “außen”", 200, `Schluessel gestohlen von "aussen"`},
		{"\x1b[2J 鍵 \xff", 200, "?[2J ? ?"},
		{"", 200, ""},
		{" \n ", 200, ""},
		{"0123456789", 8, "01234567"},
		{"0123456 89", 8, "0123456"},
	} {
		if got := cli.ASCII(c.text, c.most); got != c.want {
			t.Errorf("%q: got %q, want %q", c.text, got, c.want)
		}
	}
}
