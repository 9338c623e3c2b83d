package docs_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const root = "../.."

func read(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// walk calls f with the slash path, relative to the root, of every file of the tree.
func walk(t *testing.T, f func(name string)) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if base := d.Name(); name != "." && (strings.HasPrefix(base, ".") || base == "testdata" || base == "bin") {
				return filepath.SkipDir
			}
			return nil
		}
		f(filepath.ToSlash(name))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func parse(t *testing.T, name string) *ast.File {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, name), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// sources parses a package's files, without its tests.
func sources(t *testing.T, dir string) []*ast.File {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(root, dir))
	if err != nil {
		t.Fatal(err)
	}
	var out []*ast.File
	for _, e := range entries {
		if name := e.Name(); strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") {
			out = append(out, parse(t, dir+"/"+name))
		}
	}
	if len(out) == 0 {
		t.Fatalf("%s has no Go files", dir)
	}
	return out
}

func text(e ast.Expr) (string, bool) {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	s, err := strconv.Unquote(lit.Value)
	return s, err == nil
}

// last is a name without its qualifier.
func last(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}

func called(call *ast.CallExpr) string { return last(call.Fun) }

// markdown lists all documents, relative to the root.
func markdown(t *testing.T) []string {
	t.Helper()
	var out []string
	walk(t, func(name string) {
		if strings.HasSuffix(name, ".md") {
			out = append(out, name)
		}
	})
	if len(out) < 5 {
		t.Fatalf("only %d documents found", len(out))
	}
	return out
}

// section returns the text below a heading of level 2, up to the next one.
func section(t *testing.T, document, heading string) string {
	t.Helper()
	_, rest, ok := strings.Cut("\n"+document, "\n## "+heading+"\n")
	if !ok {
		t.Fatalf("no section %q", heading)
	}
	rest, _, _ = strings.Cut(rest, "\n## ")
	return rest
}

// rows returns the cells of all table rows, without heads.
func rows(text string) [][]string {
	var out [][]string
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "|--") {
			continue
		}
		if i+1 < len(lines) && strings.HasPrefix(lines[i+1], "|--") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for j := range cells {
			cells[j] = strings.TrimSpace(cells[j])
		}
		out = append(out, cells)
	}
	return out
}

func unquote(cell string) string { return strings.Trim(cell, "`") }

var (
	testName  = regexp.MustCompile("`([a-z0-9/-]+)\\.((?:Test|Fuzz)[A-Za-z0-9_]+)(/[^`]*)?`")
	bareName  = regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z][A-Za-z0-9_]*`)
	checkName = regexp.MustCompile(`\bG-[A-Z0-9]+(?:-[A-Z0-9]+)*`)
)

// testsExist looks for every test that a document names.
func testsExist(t *testing.T, document string) {
	t.Helper()
	functions := map[string]bool{}
	walk(t, func(name string) {
		if !strings.HasSuffix(name, "_test.go") {
			return
		}
		for _, d := range parse(t, name).Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil {
				functions[filepath.ToSlash(filepath.Dir(name))+"."+f.Name.Name] = true
			}
		}
	})
	named := testName.FindAllStringSubmatch(document, -1)
	if len(named) == 0 {
		t.Error("the document names no test")
	}
	for _, m := range named {
		if !functions[m[1]+"."+m[2]] {
			t.Errorf("test %s.%s does not exist", m[1], m[2])
		}
	}
	for _, name := range bareName.FindAllString(testName.ReplaceAllString(document, ""), -1) {
		t.Errorf("%s is named without its package, or not in `code`", name)
	}
}

// TestThreatModel: every threat has its row, every row a test or the word open, and
// every test and check that is named exists.
func TestThreatModel(t *testing.T) {
	document := read(t, "docs/threat-model.md")
	testsExist(t, document)
	checks := map[string]bool{}
	for _, c := range append(gateChecks(t), guardChecks(t)...) {
		checks[c.id] = true
	}
	for _, id := range checkName.FindAllString(document, -1) {
		if !checks[id] {
			t.Errorf("there is no check %s", id)
		}
	}

	var want []string
	for _, group := range []struct {
		letter string
		count  int
	}{{"A", 22}, {"B", 8}, {"C", 18}, {"D", 9}, {"E", 11}} {
		for i := range group.count {
			want = append(want, fmt.Sprintf("%s%d", group.letter, i+1))
		}
	}
	id := regexp.MustCompile(`^[A-E][0-9]+$`)
	var got []string
	for _, row := range rows(document) {
		if !id.MatchString(row[0]) {
			continue
		}
		got = append(got, row[0])
		if len(row) != 4 {
			t.Errorf("%s has %d cells, want 4", row[0], len(row))
		} else if !testName.MatchString(row[3]) && !strings.Contains(row[3], "**open**") {
			t.Errorf("%s: neither a test nor **open**", row[0])
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("threats are\n%v, want\n%v", got, want)
	}
}

type checkRow struct{ id, code, kind, doc string }

// checkTable reads the rows of a table of checks: composite literals with an ID and a Doc.
func checkTable(t *testing.T, dir string) []checkRow {
	t.Helper()
	var out []checkRow
	for _, file := range sources(t, dir) {
		ast.Inspect(file, func(n ast.Node) bool {
			lit, ok := n.(*ast.CompositeLit)
			if !ok {
				return true
			}
			var c checkRow
			for _, e := range lit.Elts {
				kv, ok := e.(*ast.KeyValueExpr)
				if !ok {
					continue
				}
				key, ok := kv.Key.(*ast.Ident)
				if !ok {
					continue
				}
				value, _ := text(kv.Value)
				switch key.Name {
				case "ID":
					c.id = value
				case "Code":
					c.code = value
				case "Doc":
					c.doc = value
				case "Kind":
					if name, ok := kv.Value.(*ast.Ident); ok {
						c.kind = strings.TrimPrefix(name.Name, "Kind")
					}
				}
			}
			if strings.HasPrefix(c.id, "G-") && c.doc != "" {
				out = append(out, c)
			}
			return true
		})
	}
	return out
}

func gateChecks(t *testing.T) []checkRow {
	t.Helper()
	out := checkTable(t, "gate")
	if len(out) < 20 {
		t.Fatalf("only %d checks found in gate", len(out))
	}
	return out
}

func guardChecks(t *testing.T) []checkRow {
	t.Helper()
	out := checkTable(t, "engine")
	if len(out) < 20 {
		t.Fatalf("only %d checks found in engine", len(out))
	}
	return out
}

// TestChecksAreExplained: gate and guard, row by row.
func TestChecksAreExplained(t *testing.T) {
	document := read(t, "docs/errors.md")
	var want, got [][]string
	for _, c := range gateChecks(t) {
		want = append(want, []string{c.id, c.code, c.doc})
	}
	for _, row := range rows(section(t, document, "The gate's checks")) {
		if len(row) != 4 || row[3] == "" {
			t.Errorf("%s: want four cells, the last one says what to do", row[0])
			continue
		}
		got = append(got, []string{unquote(row[0]), unquote(row[1]), row[2]})
	}
	compare(t, "gate", got, want)

	want, got = nil, nil
	for _, c := range guardChecks(t) {
		want = append(want, []string{"GUARD_" + strings.TrimPrefix(c.id, "G-"), c.kind, c.doc})
	}
	for _, row := range rows(section(t, document, "The guard's checks")) {
		if row[1] == "all" { // before the tables
			continue
		}
		got = append(got, []string{unquote(row[0]), row[1], row[2]})
	}
	compare(t, "guard", got, want)
}

func compare(t *testing.T, what string, got, want [][]string) {
	t.Helper()
	index := func(list [][]string) map[string]string {
		m := map[string]string{}
		for _, row := range list {
			m[row[0]] = strings.Join(row, " | ")
		}
		return m
	}
	g, w := index(got), index(want)
	for id, row := range w {
		if g[id] != row {
			t.Errorf("%s: the document says %q, the code %q", what, g[id], row)
		}
	}
	for id := range g {
		if _, ok := w[id]; !ok {
			t.Errorf("%s: the document explains %s, which the code does not have", what, id)
		}
	}
}

// constants are the string constants of a package whose names begin with prefix.
func constants(prefix string) func(*testing.T, string) []string {
	return func(t *testing.T, dir string) []string {
		var out []string
		for _, file := range sources(t, dir) {
			ast.Inspect(file, func(n ast.Node) bool {
				spec, ok := n.(*ast.ValueSpec)
				if !ok {
					return true
				}
				for i, name := range spec.Names {
					if strings.HasPrefix(name.Name, prefix) && i < len(spec.Values) {
						if s, ok := text(spec.Values[i]); ok {
							out = append(out, s)
						}
					}
				}
				return true
			})
		}
		return out
	}
}

var codeForm = regexp.MustCompile(`^[A-Z][A-Z0-9_]+$`)

// passed are the codes given as an argument to calls of the named functions.
func passed(position int, functions ...string) func(*testing.T, string) []string {
	return func(t *testing.T, dir string) []string {
		var out []string
		for _, file := range sources(t, dir) {
			ast.Inspect(file, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok || len(call.Args) <= position {
					return true
				}
				if s, ok := text(call.Args[position]); ok && slices.Contains(functions, called(call)) && codeForm.MatchString(s) {
					out = append(out, s)
				}
				return true
			})
		}
		return out
	}
}

// fields are the codes in composite literals of a type.
func fields(typeName, field string) func(*testing.T, string) []string {
	return func(t *testing.T, dir string) []string {
		var out []string
		for _, file := range sources(t, dir) {
			ast.Inspect(file, func(n ast.Node) bool {
				lit, ok := n.(*ast.CompositeLit)
				if !ok {
					return true
				}
				name := last(lit.Type)
				for _, e := range lit.Elts {
					kv, ok := e.(*ast.KeyValueExpr)
					if !ok || name != typeName {
						continue
					}
					if key, ok := kv.Key.(*ast.Ident); ok && key.Name == field {
						if s, ok := text(kv.Value); ok {
							out = append(out, s)
						}
					}
				}
				return true
			})
		}
		return out
	}
}

// TestCodesAreExplained: each code that the code has stands in its section of
// docs/errors.md, and each that stands there exists.
func TestCodesAreExplained(t *testing.T) {
	document := read(t, "docs/errors.md")
	type source struct {
		dir  string
		find func(*testing.T, string) []string
	}
	for heading, list := range map[string][]source{
		"Rules":                        {{"policy", constants("Code")}},
		"Statements":                   {{"approval", constants("Code")}},
		"Authority records":            {{"authority", constants("Code")}},
		"Faults of the engine":         {{"engine", constants("Code")}},
		"Faults of envelopes":          {{"envelope", constants("Code")}},
		"Faults of sessions":           {{"signing", constants("Code")}},
		"Faults of ceremonies":         {{"dkg", constants("Code")}},
		"Faults of a signer":           {{"node", fields("Fault", "Code")}, {"node", passed(0, "fail", "Abort")}, {"node", passed(1, "abort")}},
		"How an intent ends":           {{"coordinator", passed(2, "end")}},
		"What the coordinator saw":     {{"coordinator", fields("sessionError", "code")}},
		"Audit log of a signer":        {{"node", fields("Event", "Code")}, {"node", passed(0, "auditVerdict")}, {"node", passed(2, "refuse")}, {"audit", constants("Code")}},
		"Audit log of the coordinator": {{"coordinator", passed(0, "record")}, {"audit", constants("Code")}},
	} {
		t.Run(heading, func(t *testing.T) {
			want := map[string]bool{}
			for _, s := range list {
				found := s.find(t, s.dir)
				if len(found) == 0 {
					t.Fatalf("no codes found in %s", s.dir)
				}
				for _, code := range found {
					want[code] = true
				}
			}
			got := map[string]bool{}
			for _, row := range rows(section(t, document, heading)) {
				got[unquote(row[0])] = true
				if len(row) != 3 || row[1] == "" || row[2] == "" {
					t.Errorf("%s: want code, meaning, what to do", row[0])
				}
			}
			for code := range want {
				if !got[code] {
					t.Errorf("%s is not explained", code)
				}
			}
			for code := range got {
				if !want[code] {
					t.Errorf("%s is explained, and the code does not have it", code)
				}
			}
		})
	}
}

// TestExitCodes: the numbers are those of internal/cli.
func TestExitCodes(t *testing.T) {
	want := map[string]string{}
	for _, file := range sources(t, "internal/cli") {
		for _, d := range file.Decls {
			decl, ok := d.(*ast.GenDecl)
			if !ok || decl.Tok != token.CONST {
				continue
			}
			for _, s := range decl.Specs {
				spec := s.(*ast.ValueSpec)
				for i, name := range spec.Names {
					if i >= len(spec.Values) {
						continue
					}
					if lit, ok := spec.Values[i].(*ast.BasicLit); ok && lit.Kind == token.INT && name.IsExported() {
						want[lit.Value] = strings.ToLower(name.Name)
					}
				}
			}
		}
	}
	got := map[string]string{}
	for _, row := range rows(section(t, read(t, "docs/errors.md"), "Exit codes")) {
		got[unquote(row[0])] = row[1]
	}
	if len(want) == 0 || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("exit codes are %v, want %v", got, want)
	}
}

var domainForm = regexp.MustCompile(`^coffer/[a-z0-9/-]+/v[0-9]+$`)

// TestEncodings: every domain of the code is described, every one that is described
// is in the code, and the golden files that are named exist.
func TestEncodings(t *testing.T) {
	document := read(t, "docs/encoding.md")
	code := map[string]string{}
	walk(t, func(name string) {
		if !strings.HasSuffix(name, ".go") || strings.HasPrefix(name, "internal/docs/") {
			return
		}
		file := parse(t, name)
		ast.Inspect(file, func(n ast.Node) bool {
			if _, ok := n.(*ast.ImportSpec); ok {
				return false
			}
			if e, ok := n.(ast.Expr); ok {
				if s, ok := text(e); ok && domainForm.MatchString(s) && (code[s] == "" || strings.HasSuffix(code[s], "_test.go")) {
					code[s] = name
				}
			}
			return true
		})
	})
	if len(code) < 30 {
		t.Fatalf("only %d domains found in the code", len(code))
	}
	for domain, name := range code {
		if !strings.HasSuffix(name, "_test.go") && !strings.Contains(document, "`"+domain+"`") {
			t.Errorf("%s has the domain %s, which docs/encoding.md does not describe", name, domain)
		}
	}
	for _, m := range regexp.MustCompile("`(coffer/[a-z0-9/-]+/v[0-9]+)(/signed)?`").FindAllStringSubmatch(document, -1) {
		if code[m[1]] == "" {
			t.Errorf("docs/encoding.md describes %s, which is not in the code", m[1])
		}
	}
	golden := regexp.MustCompile("`([a-z0-9/]+/testdata/[a-z0-9._-]+)`").FindAllStringSubmatch(document, -1)
	if len(golden) < 10 {
		t.Errorf("only %d golden files are named", len(golden))
	}
	for _, m := range golden {
		if _, err := os.Stat(filepath.Join(root, m[1])); err != nil {
			t.Errorf("golden vector: %v", err)
		}
	}
}

// TestLinks: every relative link of every document leads to a file, and every
// document that is named in words exists.
func TestLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	named := regexp.MustCompile(`\bdocs/[a-z0-9/-]+\.md`)
	for _, name := range markdown(t) {
		document := read(t, name)
		for _, m := range link.FindAllStringSubmatch(document, -1) {
			target, _, _ := strings.Cut(m[1], "#")
			if target == "" || strings.Contains(target, "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(root, filepath.Dir(name), target)); err != nil {
				t.Errorf("%s: link: %v", name, err)
			}
		}
		for _, path := range named.FindAllString(document, -1) {
			if _, err := os.Stat(filepath.Join(root, path)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// TestReadme: it stays readable in a minute, and what it tells people to type exists.
func TestReadme(t *testing.T) {
	document := read(t, "README.md")
	if n := strings.Count(document, "\n"); n > 130 {
		t.Errorf("README.md has %d lines, at most 130", n)
	}
	makefile := read(t, "Makefile")
	for _, m := range regexp.MustCompile("(?m)(?:^ *(?:\\$ )?|`)make ([a-z-]+)").FindAllStringSubmatch(document+read(t, "CONTRIBUTING.md"), -1) {
		if !strings.Contains(makefile, "\n"+m[1]+":") {
			t.Errorf("make %s is named, and the Makefile has no such target", m[1])
		}
	}
}

// TestCommands: every command that a document names is in that program.
func TestCommands(t *testing.T) {
	named := regexp.MustCompile("`(?:bin/)?(coffer(?:-signer|-coordinator|-demo)?) ([a-z]+)")
	words := map[string]map[string]bool{}
	count := 0
	for _, name := range markdown(t) {
		for _, m := range named.FindAllStringSubmatch(read(t, name), -1) {
			program, command := m[1], m[2]
			if words[program] == nil {
				words[program] = map[string]bool{}
				for _, word := range uses(t, program) {
					words[program][word] = true
				}
			}
			if count++; !words[program][command] {
				t.Errorf("%s names the command %s %s, which does not exist", name, program, command)
			}
		}
	}
	if count == 0 {
		t.Error("no document names a command")
	}
}

// TestGlossary: each word is one that the code uses.
func TestGlossary(t *testing.T) {
	var code strings.Builder
	walk(t, func(name string) {
		if strings.HasSuffix(name, ".go") && !strings.HasPrefix(name, "internal/docs/") {
			code.WriteString(read(t, name))
		}
	})
	all := strings.ToLower(code.String())
	var previous string
	list := rows(read(t, "docs/glossary.md"))
	if len(list) < 20 {
		t.Fatalf("only %d words", len(list))
	}
	for _, row := range list {
		entry, _, _ := strings.Cut(row[0], " (")
		if key := strings.ToLower(entry); key < previous {
			t.Errorf("%q stands after %q", entry, previous)
		} else {
			previous = key
		}
		for _, word := range strings.Split(entry, ", ") {
			if !regexp.MustCompile(`\b` + regexp.QuoteMeta(strings.ToLower(word))).MatchString(all) {
				t.Errorf("%q is not a word of the code", word)
			}
		}
	}
}
