package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

// testOf names the table test of a package, by the package's name.
var testOf = map[string]string{"gate": "TestCheck", "engine": "TestGuard"}

const (
	switchEnv  = "COFFER_MUTANT"
	runTimeout = 3 * time.Minute
)

func main() {
	race := flag.Bool("race", false, "compile the tests with the race detector")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: mutants [-race] PACKAGE-DIR...")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	survivors := 0
	for _, dir := range flag.Args() {
		n, err := mutate(os.Stdout, dir, *race)
		if err != nil {
			fmt.Fprintf(os.Stderr, "mutants: %s: %v\n", dir, err)
			os.Exit(1)
		}
		survivors += n
	}
	if survivors > 0 {
		fmt.Fprintf(os.Stderr, "mutants: %d checks are not held by their test\n", survivors)
		os.Exit(1)
	}
}

// mutate reports how many checks of the package in dir no test holds.
func mutate(out io.Writer, dir string, race bool) (int, error) {
	pkg, err := Scan(dir)
	if err != nil {
		return 0, err
	}
	if len(pkg.Checks) == 0 {
		return 0, errors.New("no check table found: want a package-level list whose elements have the fields ID and Run")
	}
	test := testOf[pkg.Name]
	if test == "" {
		return 0, fmt.Errorf("package %s has no table test; name it in testOf", pkg.Name)
	}
	work, err := os.MkdirTemp("", "mutants-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(work)
	binary, err := compile(pkg, dir, work, race)
	if err != nil {
		return 0, err
	}

	// With every check on, one run for all: the table test makes its material once.
	base, err := run(binary, dir, test, "")
	if err != nil && !strings.Contains(base, "--- FAIL: "+test+" ") {
		return 0, fmt.Errorf("%s does not run with every check on: %w\n%s", test, err, base)
	}
	results := make([]result, len(pkg.Checks))
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	var wg sync.WaitGroup
	for i, id := range pkg.Checks {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			began := time.Now()
			results[i] = examine(binary, dir, test+"/"+id, id, base)
			fmt.Fprintf(os.Stderr, "%s %s: %.1f s\n", id, results[i].text, time.Since(began).Seconds())
		})
	}
	wg.Wait()

	bad := 0
	table := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintf(table, "%s\ttest\tresult\n", pkg.Name)
	for i, id := range pkg.Checks {
		if !results[i].held {
			bad++
		}
		fmt.Fprintf(table, "%s\t%s/%s\t%s\n", id, test, id, results[i].text)
	}
	if err := table.Flush(); err != nil {
		return 0, err
	}
	fmt.Fprintf(out, "%s: %d checks, %d held by their test\n\n", pkg.Name, len(pkg.Checks), len(pkg.Checks)-bad)
	return bad, nil
}

// compile builds the package's test binary once, with all switches in it.
func compile(pkg *Package, dir, work string, race bool) (string, error) {
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	for path, source := range pkg.Mutated {
		abs, err := filepath.Abs(path)
		if err != nil {
			return "", err
		}
		file := filepath.Join(work, filepath.Base(path))
		if err := os.WriteFile(file, source, 0o600); err != nil {
			return "", err
		}
		overlay.Replace[abs] = file
	}
	raw, err := json.Marshal(overlay)
	if err != nil {
		return "", err
	}
	list := filepath.Join(work, "overlay.json")
	if err := os.WriteFile(list, raw, 0o600); err != nil {
		return "", err
	}
	binary := filepath.Join(work, pkg.Name+".test")
	args := []string{"test", "-c", "-vet=off", "-overlay", list, "-o", binary}
	if race {
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, ".")...)
	cmd.Dir = dir
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("compile with switches: %w\n%s", err, text)
	}
	return binary, nil
}

type result struct {
	held bool
	text string
}

// examine runs the named test with this check off, which must fail. In base, the
// run with every check on, it passed.
func examine(binary, dir, test, id, base string) result {
	switch {
	case strings.Contains(base, "--- FAIL: "+test+" "):
		return result{false, "BROKEN: the test fails with the check on"}
	case !strings.Contains(base, "--- PASS: "+test+" "):
		return result{false, "NO TEST of this name"}
	}
	text, err := run(binary, dir, test, id)
	switch {
	case err == nil:
		return result{false, "SURVIVED: the test passes with the check off"}
	case errors.Is(err, context.DeadlineExceeded):
		return result{true, "killed (timeout)"}
	case strings.Contains(text, "panic: "):
		return result{true, "killed (panic)"}
	}
	return result{true, "killed"}
}

func run(binary, dir, test, off string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), runTimeout)
	defer cancel()
	parts := strings.Split(test, "/")
	for i, p := range parts {
		parts[i] = "^" + regexp.QuoteMeta(p) + "$"
	}
	cmd := exec.CommandContext(ctx, binary, "-test.v", "-test.run", strings.Join(parts, "/"))
	cmd.Dir = dir // as go test does: testdata is found relative to the package
	cmd.Env = append(os.Environ(), switchEnv+"="+off)
	var text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &text, &text
	err := cmd.Run()
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return text.String(), err
}
