package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"coffer/charter"
	"coffer/internal/cli"
	"coffer/internal/cluster"
	"coffer/internal/testcharter"
)

var update = flag.Bool("update", false, "write the transcripts anew")

// desk is what runs coffer as one person after another, in this process.
type desk struct {
	t    testing.TB
	home string
	addr string
	keys map[string]string
	vars map[string]string // what a script may write as $NAME, and a transcript shows so
}

func newDesk(t testing.TB, file *charter.File, addr string) *desk {
	t.Helper()
	d := &desk{t: t, home: filepath.Join(t.TempDir(), "home"), addr: addr, keys: map[string]string{}, vars: map[string]string{}}
	for _, name := range []string{"alice", "bob", "carol", "mallory"} {
		d.keys[name] = testcharter.KeyFile(t, name)
		d.vars["KEY_"+strings.ToUpper(name)] = d.keys[name]
	}
	path := filepath.Join(t.TempDir(), "charter.json")
	if err := charter.WriteFile(path, file); err != nil {
		t.Fatal(err)
	}
	d.vars["CHARTER"], d.vars["DIGEST"], d.vars["HOME"], d.vars["DIR"] = path, file.Charter.Digest().String(), d.home, filepath.Dir(path)
	d.vars["SUPPLIER"] = cluster.Supplier
	if r := d.run("", "join", path, "--digest", d.vars["DIGEST"]); r.code != cli.Done {
		t.Fatalf("join: %s", r.stderr)
	}
	return d
}

type result struct {
	code           int
	stdout, stderr string
}

// run runs coffer as a person; "" is nobody.
func (d *desk) run(who string, args ...string) result {
	d.t.Helper()
	var full []string
	add := func(flag, value string) {
		for _, a := range args {
			if a == flag {
				return
			}
		}
		full = append(full, flag, value)
	}
	add("--home", d.home)
	if d.addr != "" {
		add("--addr", d.addr)
	}
	if who != "" {
		add("--as", who)
		add("--key", d.keys[who])
	}
	var stdout, stderr bytes.Buffer
	code := cli.Run(d.t.Context(), command(), append(full, args...), &stdout, &stderr)
	return result{code, stdout.String(), stderr.String()}
}

func (d *desk) must(who string, args ...string) string {
	d.t.Helper()
	r := d.run(who, args...)
	if r.code != cli.Done {
		d.t.Fatalf("coffer %s: exit %d: %s", strings.Join(args, " "), r.code, r.stderr)
	}
	return strings.TrimSpace(r.stdout)
}

// progress is what a wait shows on its way; how much of it is chance.
var progress = regexp.MustCompile(`^(approval|signing|broadcast): `)

var unstable = []struct {
	form *regexp.Regexp
	as   string
}{
	{regexp.MustCompile(`\b(0x)?[0-9a-f]{64}\b`), "${1}<digest>"},
	{regexp.MustCompile(`\b[0-9a-f]{12}\b`), "<short>"},
	{regexp.MustCompile(`\b0x02f8[0-9a-f]{100,}\b`), "<transaction>"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(Z| UTC)`), "<time>"},
	{regexp.MustCompile(`(?m)^(\s*(address +|"address": "))0x[0-9a-fA-F]{40}`), "${1}<account>"},
	{regexp.MustCompile(`"time": \d+`), `"time": <time>`},
	{regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d`), "<time>"},
	{regexp.MustCompile(`\((in )?\d+ (s|min|h|d)( \d+ (min|h))?( ago)?\)`), "(${1}<while>${5})"},
	{regexp.MustCompile(`answers in [0-9.]+(µs|ms|s)`), "answers in <while>"},
	{regexp.MustCompile(`"(round_trip_us|clock_ahead_ms|audit_size)": -?\d+`), `"$1": <number>`},
	{regexp.MustCompile(`"fee_cap": "0\.000\d+"`), `"fee_cap": "<fee>"`},
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "<address>"},
	{regexp.MustCompile(`at most 0\.000\d+ ETH`), "at most <fee>"},
	{regexp.MustCompile(`"(approval|signing|mining|keygen|primes)": \d+`), `"$1": <ms>`},
	{regexp.MustCompile(`\b12D3KooW\w{44}\b`), "<peer>"},
	{regexp.MustCompile(`\b1[789]\d{8}\b`), "<unix>"},
	{regexp.MustCompile(`\b101\.000\d+ ETH`), "<sum>"},
	{regexp.MustCompile(`SHA256:[A-Za-z0-9+/]{43}`), "<fingerprint>"},
}

// stable takes out of an output what differs from run to run.
func (d *desk) stable(text string) string {
	// Longest first: one value may begin another.
	names := slices.SortedFunc(maps.Keys(d.vars), func(a, b string) int {
		return cmp.Or(cmp.Compare(len(d.vars[b]), len(d.vars[a])), cmp.Compare(a, b))
	})
	for _, name := range names {
		if value := d.vars[name]; len(value) > 8 {
			text = strings.ReplaceAll(text, value, "$"+name)
		}
	}
	for _, u := range unstable {
		text = u.form.ReplaceAllString(text, u.as)
	}
	return text
}

// script runs the commands of testdata/NAME.txt, lines such as "$ alice: pay 1 ETH …",
// and compares what they print and how they exit with what follows them there.
// "> NAME" after a command keeps its stdout as $NAME. do runs lines that begin with "!".
func (d *desk) script(name string, do map[string]func()) {
	d.t.Helper()
	path := filepath.Join("testdata", name+".txt")
	want, err := os.ReadFile(path)
	if err != nil {
		d.t.Fatal(err)
	}
	var got strings.Builder
	for _, line := range strings.Split(string(want), "\n") {
		switch {
		case strings.HasPrefix(line, "#"):
			fmt.Fprintln(&got, line)
		case strings.HasPrefix(line, "! "):
			fmt.Fprintln(&got, line)
			do[line[2:]]()
		case strings.HasPrefix(line, "$ "):
			fmt.Fprintln(&got, line)
			d.line(&got, line[2:])
		}
	}
	if *update {
		if err := os.WriteFile(path, []byte(got.String()), 0o644); err != nil {
			d.t.Fatal(err)
		}
		return
	}
	if got.String() != string(want) {
		d.t.Errorf("%s differs (-update writes it anew):\n%s", path, difference(string(want), got.String()))
	}
}

func (d *desk) line(got *strings.Builder, line string) {
	d.t.Helper()
	who, command, ok := strings.Cut(line, ": ")
	if !ok {
		d.t.Fatalf("script line %q names nobody", line)
	}
	command, keep, _ := strings.Cut(command, " > ")
	var args []string
	for _, word := range strings.Fields(command) {
		if word == `""` {
			word = ""
		}
		args = append(args, os.Expand(word, func(name string) string {
			value, ok := d.vars[name]
			if !ok {
				d.t.Fatalf("script line %q: no $%s", line, name)
			}
			return value
		}))
	}
	if who == "-" {
		who = ""
	}
	r := d.run(who, args...)
	if keep != "" {
		d.vars[keep] = strings.TrimSpace(r.stdout)
	}
	for _, l := range strings.Split(strings.TrimSuffix(d.stable(r.stdout), "\n"), "\n") {
		if l != "" {
			fmt.Fprintln(got, "  "+l)
		}
	}
	for _, l := range strings.Split(strings.TrimSuffix(d.stable(r.stderr), "\n"), "\n") {
		if l != "" && !progress.MatchString(l) {
			fmt.Fprintln(got, "  2> "+l)
		}
	}
	if r.code != 0 {
		fmt.Fprintf(got, "  exit %d\n", r.code)
	}
}

func difference(want, got string) string {
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	for n := range max(len(a), len(b)) {
		var x, y string
		if n < len(a) {
			x = a[n]
		}
		if n < len(b) {
			y = b[n]
		}
		if x != y {
			return fmt.Sprintf("line %d:\n- %s\n+ %s", n+1, x, y)
		}
	}
	return "nothing"
}

func decode[T any](t testing.TB, text string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}
