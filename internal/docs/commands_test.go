package docs_test

import (
	"go/ast"
	"slices"
	"strings"
	"testing"
)

// uses lists the words of all commands of a program. A command's name is its Use, or an
// argument of what makes the command.
func uses(t *testing.T, program string) (out []string) {
	t.Helper()
	note := func(e ast.Expr) {
		if s, ok := text(e); ok {
			word, _, _ := strings.Cut(s, " ")
			if word != "" && word == strings.ToLower(word) && !slices.Contains(out, word) {
				out = append(out, word)
			}
		}
	}
	for _, file := range sources(t, "cmd/"+program) {
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.KeyValueExpr:
				if key, ok := n.Key.(*ast.Ident); ok && key.Name == "Use" {
					note(n.Value)
				}
			case *ast.CallExpr:
				if name := called(n); strings.HasSuffix(name, "Command") || name == "Group" {
					for _, e := range n.Args {
						note(e)
					}
				}
			}
			return true
		})
	}
	return out
}

// Every command has a row in docs/commands.md, and every row is of one.
func TestEveryCommand(t *testing.T) {
	doc := read(t, "docs/commands.md")
	for _, program := range []string{"coffer", "coffer-signer", "coffer-coordinator", "coffer-demo"} {
		known := uses(t, program)
		if len(known) < 5 {
			t.Fatalf("%s: only %q found", program, known)
		}
		var documented []string
		for _, row := range rows(section(t, doc, program)) {
			words := strings.Fields(unquote(row[0]))
			if words[0] != program {
				t.Errorf("section %s has a row of %s", program, words[0])
			}
			for _, word := range words {
				if strings.HasPrefix(word, "-") || strings.HasPrefix(word, "[") || word != strings.ToLower(word) {
					break
				}
				documented = append(documented, word)
				if !slices.Contains(known, word) {
					t.Errorf("docs/commands.md has `%s`, and %s has no command %q", unquote(row[0]), program, word)
				}
			}
		}
		for _, word := range known {
			if !slices.Contains(documented, word) {
				t.Errorf("docs/commands.md has no row of %s %s", program, word)
			}
		}
	}
}
