package archtest_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"coffer/internal/archtest"
)

// listed is what `go list -json` says of a package.
type listed struct {
	ImportPath, Dir, Name                    string
	GoFiles, TestGoFiles, XTestGoFiles       []string
	Imports, Deps, TestImports, XTestImports []string
	Error                                    *struct{ Err string }
}

var list = sync.OnceValues(func() ([]listed, error) {
	cmd := exec.Command("go", "list", "-tags", archtest.BuildTags, "-e",
		"-json=ImportPath,Dir,Name,GoFiles,TestGoFiles,XTestGoFiles,Imports,Deps,TestImports,XTestImports,Error", "coffer/...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w\n%s", err, stderr.String())
	}
	var all []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := dec.Decode(&p); err == io.EOF {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
})

func packages(t *testing.T) []listed {
	t.Helper()
	all, err := list()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		if p.Error != nil {
			t.Errorf("%s: %s", p.ImportPath, p.Error.Err)
		}
	}
	return all
}

func matches(path string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		if prefix, ok := strings.CutSuffix(pattern, "/..."); ok {
			return path == prefix || strings.HasPrefix(path, prefix+"/")
		}
		return path == pattern
	})
}

func TestImports(t *testing.T) {
	all := packages(t)
	for _, rule := range archtest.Rules {
		t.Run(rule.Name, func(t *testing.T) {
			for _, who := range rule.Who {
				if !slices.ContainsFunc(all, func(p listed) bool { return matches(p.ImportPath, []string{who}) }) {
					t.Errorf("the rule names %s, which does not exist: it guards nothing", who)
				}
			}
			for _, p := range all {
				if !matches(p.ImportPath, rule.Who) || matches(p.ImportPath, rule.Except) {
					continue
				}
				imports := slices.Clone(p.Imports)
				if rule.Linked {
					imports = p.Deps
				}
				if rule.Tests {
					imports = slices.Concat(imports, p.TestImports, p.XTestImports)
				}
				for _, path := range imports {
					if path != p.ImportPath && matches(path, rule.Never) {
						t.Errorf("%s must not import %s: %s%s", p.ImportPath, path, rule.Reason, chain(all, p, path))
					}
				}
			}
		})
	}
}

// chain says through which of our packages an import comes, so that the error
// names the line to remove.
func chain(all []listed, p listed, path string) string {
	for _, q := range all {
		if q.ImportPath != p.ImportPath && slices.Contains(q.Imports, path) && slices.Contains(p.Deps, q.ImportPath) {
			return " (through " + q.ImportPath + ")"
		}
	}
	return ""
}

func TestNodeAndCoordinatorMeetOnlyInPureStages(t *testing.T) {
	deps := map[string][]string{}
	for _, p := range packages(t) {
		deps[p.ImportPath] = p.Deps
	}
	for _, name := range []string{"coffer/node", "coffer/coordinator"} {
		if deps[name] == nil {
			t.Fatalf("%s does not exist", name)
		}
	}
	for _, path := range deps["coffer/node"] {
		if strings.HasPrefix(path, "coffer/") && slices.Contains(deps["coffer/coordinator"], path) && !matches(path, archtest.Meeting) {
			t.Errorf("node and coordinator both link %s: they meet only in proto and the stages that hold no secret", path)
		}
	}
}

func TestPurePackagesAskNoClock(t *testing.T) {
	all := packages(t)
	for _, p := range all {
		if !slices.Contains(archtest.Pure, p.ImportPath) {
			continue
		}
		for _, name := range p.GoFiles {
			fset := token.NewFileSet()
			file, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				sel, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				if x, ok := sel.X.(*ast.Ident); ok && slices.Contains(archtest.ImpureCalls[x.Name], sel.Sel.Name) {
					t.Errorf("%s: %s.%s in a pure package: take the time as an argument", fset.Position(n.Pos()), x.Name, sel.Sel.Name)
				}
				return true
			})
		}
	}
	for _, name := range archtest.Pure {
		if !slices.ContainsFunc(all, func(p listed) bool { return p.ImportPath == name }) {
			t.Errorf("%s is called pure and does not exist", name)
		}
	}
}

func TestEveryPackageHasOneComment(t *testing.T) {
	for _, p := range packages(t) {
		if slices.Contains(archtest.PackageNames, p.Name) {
			t.Errorf("%s: the name %q says nothing about what the package is for", p.ImportPath, p.Name)
		}
		// A folder of tests only, or of generated code only, documents itself.
		var written, commented []string
		for _, name := range p.GoFiles {
			path := filepath.Join(p.Dir, name)
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments|parser.PackageClauseOnly)
			if err != nil {
				t.Fatal(err)
			}
			if ast.IsGenerated(file) {
				continue
			}
			written = append(written, name)
			if file.Doc != nil {
				commented = append(commented, name)
			}
		}
		if len(written) > 0 && !slices.Equal(commented, []string{"doc.go"}) {
			t.Errorf("%s: package comments stand in %v; want exactly one, in doc.go", p.ImportPath, commented)
		}
	}
}

func TestStagesSayWhichTheyAre(t *testing.T) {
	dirs := map[string]string{}
	for _, p := range packages(t) {
		dirs[p.ImportPath] = p.Dir
	}
	for i, name := range archtest.StageDocs {
		raw, err := os.ReadFile(filepath.Join(dirs[name], "doc.go"))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want := fmt.Sprintf("stage %d of %d", i+1, len(archtest.StageDocs))
		first, _, _ := strings.Cut(string(raw), "\n//\n")
		if !strings.Contains(strings.ToLower(first), want) {
			t.Errorf("%s: the first paragraph of its comment does not say %q", name, want)
		}
	}
}

func TestWords(t *testing.T) {
	root := filepath.Join("..", "..")
	type word struct {
		archtest.Word
		expr *regexp.Regexp
	}
	var words []word
	for _, w := range archtest.Words {
		words = append(words, word{w, regexp.MustCompile("(?i)" + w.Pattern)})
	}
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); rel != "." && (strings.HasPrefix(name, ".") || name == "testdata" || name == "node_modules" || name == "bin") {
				return filepath.SkipDir
			}
			return nil
		}
		if !slices.Contains([]string{".go", ".proto", ".md", ".sh", ".yaml"}, filepath.Ext(rel)) ||
			strings.HasSuffix(rel, ".pb.go") || strings.HasPrefix(rel, "internal/archtest/") {
			return nil
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for n, line := range strings.Split(string(raw), "\n") {
			for _, w := range words {
				if found := w.expr.FindString(line); found != "" &&
					!slices.ContainsFunc(w.Except, func(prefix string) bool { return strings.HasPrefix(rel, prefix) }) {
					t.Errorf("%s:%d: %q: %s", rel, n+1, found, w.Reason)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
