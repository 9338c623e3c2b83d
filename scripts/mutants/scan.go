package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/printer"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Package is what Scan found: the checks in table order, and the source files
// with a switch around each Run.
type Package struct {
	Name    string
	Checks  []string
	Mutated map[string][]byte
}

// edit replaces source[from:to].
type edit struct {
	from, to int
	text     string
}

// Scan reads the non-test files of dir and finds the tables of checks by their
// shape, not by their name, so that a new table is not forgotten here.
func Scan(dir string) (*Package, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	fset := token.NewFileSet()
	files := map[string]*ast.File{}
	sources := map[string][]byte{}
	pkg := &Package{Mutated: map[string][]byte{}}
	var order []string
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		file, err := parser.ParseFile(fset, path, source, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		files[path], sources[path], pkg.Name = file, source, file.Name.Name
		order = append(order, path)
	}
	if len(order) == 0 {
		return nil, fmt.Errorf("no Go files in %s", dir)
	}
	decls := collect(files)
	for _, path := range order {
		s := scanner{fset: fset, source: sources[path], decls: decls}
		for _, decl := range files[path].Decls {
			// Only package-level tables: a check that is built inside a
			// function cannot be listed for a reader either.
			if gen, ok := decl.(*ast.GenDecl); ok && gen.Tok == token.VAR {
				s.walk(gen, nil)
			}
		}
		if s.err != nil {
			return nil, s.err
		}
		if len(s.edits) > 0 {
			pkg.Checks = append(pkg.Checks, s.ids...)
			pkg.Mutated[path] = apply(sources[path], s.edits)
		}
	}
	for i, id := range pkg.Checks {
		if slices.Contains(pkg.Checks[:i], id) {
			return nil, fmt.Errorf("check %s stands in the tables twice", id)
		}
	}
	if len(pkg.Checks) > 0 {
		path := filepath.Join(dir, "zz_mutant_switch.go")
		pkg.Mutated[path] = fmt.Appendf(nil, "package %s\n\nimport \"os\"\n\n"+
			"func mutantOff(id string) bool { return os.Getenv(%q) == id }\n", pkg.Name, switchEnv)
	}
	return pkg, nil
}

// declarations are the package's types and string constants by name.
type declarations struct {
	types  map[string]ast.Expr
	consts map[string]string
}

func collect(files map[string]*ast.File) declarations {
	d := declarations{types: map[string]ast.Expr{}, consts: map[string]string{}}
	for _, file := range files {
		for _, decl := range file.Decls {
			gen, ok := decl.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, spec := range gen.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					d.types[spec.Name.Name] = spec.Type
				case *ast.ValueSpec:
					for i, name := range spec.Names {
						if gen.Tok != token.CONST || i >= len(spec.Values) {
							continue
						}
						if text, ok := literal(spec.Values[i]); ok {
							d.consts[name.Name] = text
						}
					}
				}
			}
		}
	}
	return d
}

func literal(e ast.Expr) (string, bool) {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	text, err := strconv.Unquote(lit.Value)
	return text, err == nil
}

// resolve follows names, pointers and parentheses to the type they stand for.
func (d declarations) resolve(e ast.Expr) ast.Expr {
	for range 8 {
		switch t := e.(type) {
		case *ast.ParenExpr:
			e = t.X
		case *ast.StarExpr:
			e = t.X
		case *ast.Ident:
			next, ok := d.types[t.Name]
			if !ok {
				return e
			}
			e = next
		default:
			return e
		}
	}
	return e
}

// runType is the func type of the field Run of a struct type.
func (d declarations) runType(e ast.Expr) *ast.FuncType {
	s, ok := d.resolve(e).(*ast.StructType)
	if !ok {
		return nil
	}
	for _, field := range s.Fields.List {
		for _, name := range field.Names {
			if name.Name == "Run" {
				f, _ := d.resolve(field.Type).(*ast.FuncType)
				return f
			}
		}
	}
	return nil
}

type scanner struct {
	fset   *token.FileSet
	source []byte
	decls  declarations
	ids    []string
	edits  []edit
	err    error
}

// walk visits composite literals with the type that an element takes from its list.
func (s *scanner) walk(n ast.Node, implied ast.Expr) {
	ast.Inspect(n, func(n ast.Node) bool {
		lit, ok := n.(*ast.CompositeLit)
		if !ok {
			return true
		}
		typ := lit.Type
		if typ == nil {
			typ = implied
		}
		if typ != nil {
			s.element(lit, typ)
		}
		var inner ast.Expr
		if typ != nil {
			switch t := s.decls.resolve(typ).(type) {
			case *ast.ArrayType:
				inner = t.Elt
			case *ast.MapType:
				inner = t.Value
			}
		}
		for _, elt := range lit.Elts {
			s.walk(elt, inner)
		}
		return false
	})
}

func (s *scanner) element(lit *ast.CompositeLit, typ ast.Expr) {
	var id string
	var run ast.Expr
	for _, elt := range lit.Elts {
		kv, ok := elt.(*ast.KeyValueExpr)
		if !ok {
			continue
		}
		key, ok := kv.Key.(*ast.Ident)
		if !ok {
			continue
		}
		switch key.Name {
		case "ID":
			if text, ok := literal(kv.Value); ok {
				id = text
			} else if name, ok := kv.Value.(*ast.Ident); ok {
				id = s.decls.consts[name.Name]
			}
		case "Run":
			run = kv.Value
		}
	}
	if run == nil {
		return
	}
	at := s.fset.Position(lit.Pos())
	if !strings.HasPrefix(id, "G-") {
		s.fail(fmt.Errorf("%s: a check whose ID is not a constant that begins with G-", at))
		return
	}
	f := s.decls.runType(typ)
	if f == nil {
		s.fail(fmt.Errorf("%s: the type of Run of %s is not a func type of this package", at, id))
		return
	}
	s.ids = append(s.ids, id)
	from, to := s.offset(run.Pos()), s.offset(run.End())
	s.edits = append(s.edits, edit{from, to, s.wrap(id, f, string(s.source[from:to]))})
}

// wrap writes a func of the same type that returns zero values, which mean
// "accepted", when the switch of id is thrown.
func (s *scanner) wrap(id string, f *ast.FuncType, original string) string {
	var params, args, results []string
	n := 0
	for _, field := range f.Params.List {
		for range max(1, len(field.Names)) {
			name := fmt.Sprintf("mutantArg%d", n)
			n++
			params = append(params, name+" "+s.text(field.Type))
			if _, ok := field.Type.(*ast.Ellipsis); ok {
				name += "..."
			}
			args = append(args, name)
		}
	}
	if f.Results != nil {
		for _, field := range f.Results.List {
			for range max(1, len(field.Names)) {
				results = append(results, fmt.Sprintf("mutantResult%d %s", len(results), s.text(field.Type)))
			}
		}
	}
	// One line, so that positions in failures stay those of the real source.
	return fmt.Sprintf("func(%s) (%s) { if mutantOff(%q) { return }; return (%s)(%s) }",
		strings.Join(params, ", "), strings.Join(results, ", "), id, original, strings.Join(args, ", "))
}

// text prints a type expression. The func type may stand in another file than the table.
func (s *scanner) text(e ast.Expr) string {
	var b bytes.Buffer
	if err := printer.Fprint(&b, token.NewFileSet(), e); err != nil {
		s.fail(err)
	}
	return b.String()
}

func (s *scanner) offset(p token.Pos) int { return s.fset.Position(p).Offset }

func (s *scanner) fail(err error) {
	if s.err == nil {
		s.err = err
	}
}

func apply(source []byte, edits []edit) []byte {
	slices.SortFunc(edits, func(a, b edit) int { return b.from - a.from })
	out := slices.Clone(source)
	for _, e := range edits {
		out = slices.Concat(out[:e.from], []byte(e.text), out[e.to:])
	}
	return out
}
