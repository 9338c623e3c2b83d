package docs_test

import (
	"go/ast"
	"go/token"
	"strings"
	"testing"
)

// roleNames are the constants of type Role in package rpc, by name.
func roleNames(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, file := range sources(t, "rpc") {
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if ok && len(spec.Names) == 1 && len(spec.Values) == 1 && last(spec.Type) == "Role" {
				out[spec.Names[0].Name], _ = text(spec.Values[0])
			}
			return true
		})
	}
	if len(out) < 5 {
		t.Fatalf("only %d roles found", len(out))
	}
	return out
}

// TestAccess: docs/access.md has each method of each service with the role that the
// code gives it, and explains each role.
func TestAccess(t *testing.T) {
	document := read(t, "docs/access.md")
	roles := roleNames(t)
	var want [][]string
	for _, dir := range []string{"node", "coordinator"} {
		for _, file := range sources(t, dir) {
			ast.Inspect(file, func(n ast.Node) bool {
				lit, ok := n.(*ast.CompositeLit)
				if !ok || last(lit.Type) != "Methods" {
					return true
				}
				for _, e := range lit.Elts {
					kv := e.(*ast.KeyValueExpr)
					method := strings.TrimSuffix(last(kv.Key), "_FullMethodName")
					service, name, ok := strings.Cut(method, "_")
					role := roles[last(kv.Value)]
					if !ok || role == "" {
						t.Errorf("%s: cannot read the entry %s: %s", dir, last(kv.Key), last(kv.Value))
						continue
					}
					want = append(want, []string{service + "." + name, role})
				}
				return true
			})
		}
	}
	var got [][]string
	for _, row := range rows(section(t, document, "Methods")) {
		got = append(got, []string{row[0] + "." + row[1], unquote(row[2])})
	}
	compare(t, "who may call what", got, want)

	// Nor does a service that has a table lack a method there: its server would not start,
	// and here it is said earlier.
	listed := map[string]bool{}
	for _, row := range want {
		service, _, _ := strings.Cut(row[0], ".")
		listed[row[0]], listed[service] = true, true
	}
	for _, file := range sources(t, "proto/coffer/v1") {
		for _, d := range file.Decls {
			decl, ok := d.(*ast.GenDecl)
			if !ok || decl.Tok != token.CONST {
				continue
			}
			for _, s := range decl.Specs {
				name := s.(*ast.ValueSpec).Names[0].Name
				method, ok := strings.CutSuffix(name, "_FullMethodName")
				service, _, _ := strings.Cut(method, "_")
				if ok && listed[service] && !listed[strings.Replace(method, "_", ".", 1)] {
					t.Errorf("%s is in no table of who may call what", method)
				}
			}
		}
	}

	explained := map[string]bool{}
	for _, row := range rows(section(t, document, "Roles")) {
		explained[unquote(row[0])] = true
	}
	for _, role := range roles {
		if !explained[role] {
			t.Errorf("role %s is not explained", role)
		}
	}
	if len(explained) != len(roles) {
		t.Errorf("%d roles are explained, there are %d", len(explained), len(roles))
	}
}
