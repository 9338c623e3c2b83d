package docs_test

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"coffer/coordinator"
	"coffer/internal/datadir"
	"coffer/node"
)

// settings are the files that docs/configuration.md documents, by its headings.
var settings = map[string]func() interface{ Validate() error }{
	"coffer-signer":      func() interface{ Validate() error } { return new(node.Settings) },
	"coffer-coordinator": func() interface{ Validate() error } { return new(coordinator.Settings) },
}

// keys lists the keys of settings by path; of lists "[]" and of maps "NAME" stands for each.
func keys(t reflect.Type, path string, out map[string]reflect.Type) {
	switch t.Kind() {
	case reflect.Pointer:
		keys(t.Elem(), path, out)
	case reflect.Slice:
		keys(t.Elem(), path+"[]", out)
	case reflect.Map:
		keys(t.Elem(), path+".NAME", out)
	case reflect.Struct:
		for _, f := range datadir.Fields(t) {
			at := strings.TrimPrefix(path+"."+f.Key, ".")
			out[at] = f.Type
			keys(f.Type, at, out)
		}
	default: // a plain value has no keys
	}
}

// Every key of the settings has a row with type, default, a meaning and an example that
// is accepted, and every row is of a key.
func TestConfiguration(t *testing.T) {
	doc := read(t, "docs/configuration.md")
	for program, fresh := range settings {
		known := map[string]reflect.Type{}
		keys(reflect.TypeOf(fresh()), "", known)
		if len(known) < 4 {
			t.Fatalf("%s: only %d keys found", program, len(known))
		}
		whole := map[string]json.RawMessage{}
		seen := map[string]bool{}
		for _, row := range rows(section(t, doc, program)) {
			if len(row) != 5 {
				t.Errorf("%s: row %q has %d cells, want 5: no | in a cell", program, row[0], len(row))
				continue
			}
			key, example := unquote(row[0]), unquote(row[3])
			if seen[key] {
				t.Errorf("%s: two rows of %q", program, key)
			}
			seen[key] = true
			typ, ok := known[key]
			if !ok {
				t.Errorf("%s: docs/configuration.md documents %q, which is no key of the settings", program, key)
				continue
			}
			if row[1] == "" || row[2] == "" || row[4] == "" {
				t.Errorf("%s: %q lacks its type, default or meaning", program, key)
			}
			value := reflect.New(typ)
			if err := json.Unmarshal([]byte(example), value.Interface()); err != nil || value.Elem().IsZero() {
				t.Errorf("%s: the example of %q, %s, says nothing: %v", program, key, example, err)
			}
			if !strings.ContainsAny(key, ".[") {
				whole[key] = json.RawMessage(example)
			}
		}
		for key := range known {
			if !seen[key] {
				t.Errorf("%s: docs/configuration.md has no row of %q", program, key)
			}
		}
		raw, err := json.Marshal(whole)
		if err != nil {
			t.Errorf("%s: %v", program, err)
			continue
		}
		path := filepath.Join(t.TempDir(), "config.json")
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := datadir.ReadSettings(path, program, fresh()); err != nil {
			t.Errorf("%s: the examples together: %v", program, err)
		}
	}
}

// secret is what a key or flag is called that holds one.
var secret = regexp.MustCompile(`(?i)passphrase|password|secret|token|credential|private|api_?key|mnemonic|seed`)

// place is how one is called that says where to find it.
var place = regexp.MustCompile(`(?i)[-_](file|fd|path)$`)

// No setting, flag or variable holds a secret: each names a file or a descriptor.
// Others read a process's arguments and environment.
func TestSecretsArePlaces(t *testing.T) {
	check := func(what, name string) {
		if secret.MatchString(name) && !place.MatchString(name) {
			t.Errorf("%s %q would hold a secret: take a file or a descriptor (…_file, …_fd)", what, name)
		}
	}
	for program, fresh := range settings {
		known := map[string]reflect.Type{}
		keys(reflect.TypeOf(fresh()), "", known)
		for key := range known {
			check(program+" setting", key)
		}
	}
	flags := 0
	for _, dir := range []string{"cmd/coffer", "cmd/coffer-signer", "cmd/coffer-coordinator", "cmd/coffer-demo", "internal/cli"} {
		for _, file := range sources(t, dir) {
			ast.Inspect(file, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok || !strings.Contains(called(call), "Var") || len(call.Args) < 3 {
					return true
				}
				if name, ok := text(call.Args[1]); ok {
					flags++
					check("flag", name)
				}
				return true
			})
		}
	}
	if flags < 20 {
		t.Errorf("only %d flags found", flags)
	}
}

// Every variable of the environment that a program reads is documented, and no other.
func TestEnvironment(t *testing.T) {
	var documented, used []string
	for _, row := range rows(section(t, read(t, "docs/configuration.md"), "Environment")) {
		documented = append(documented, unquote(row[0]))
	}
	walk(t, func(name string) {
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") || strings.HasPrefix(name, "scripts/") ||
			strings.HasPrefix(name, "internal/gethdev/") || strings.HasPrefix(name, "internal/crashpoint/") { // for tests only
			return
		}
		ast.Inspect(parse(t, name), func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) != 1 || called(call) != "Getenv" && called(call) != "LookupEnv" {
				return true
			}
			variable, ok := text(call.Args[0])
			if !ok {
				variable = fmt.Sprintf("(computed, in %s)", name)
			}
			if !slices.Contains(used, variable) {
				used = append(used, variable)
			}
			return true
		})
	})
	slices.Sort(documented)
	slices.Sort(used)
	if !slices.Equal(documented, used) {
		t.Errorf("documented are %v, read are %v", documented, used)
	}
}
