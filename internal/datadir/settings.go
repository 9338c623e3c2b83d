package datadir

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"coffer/internal/nearest"
)

// maxSettings bounds a settings file.
const maxSettings = 1 << 20

// SettingsError is about what stands in a file of settings.
type SettingsError struct {
	Path string
	Err  error
}

func (e *SettingsError) Error() string { return "settings " + e.Path + ": " + e.Err.Error() }
func (e *SettingsError) Unwrap() error { return e.Err }

// ReadSettings reads and validates settings: JSON without unknown or repeated keys and
// without text behind it. program is whose directory it should be, such as "coffer-signer".
func ReadSettings(path, program string, into interface{ Validate() error }) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		dir := filepath.Dir(path)
		return fmt.Errorf("%s is not a directory of %s: run %s init --dir %s first", dir, program, program, dir)
	} else if err != nil {
		return fmt.Errorf("read settings: %w", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxSettings+1))
	switch {
	case err != nil:
		return fmt.Errorf("read settings: %w", err)
	case len(raw) > maxSettings:
		return &SettingsError{path, fmt.Errorf("over %d bytes", maxSettings)}
	}
	if err := decode(raw, into); err != nil {
		return &SettingsError{path, err}
	}
	if err := into.Validate(); err != nil {
		return &SettingsError{path, err}
	}
	return nil
}

// decode is json.Unmarshal, but exact: a key that is written in other case, twice or
// wrongly must not leave its field at the default in silence.
func decode(raw []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	if err := checkKeys(dec, reflect.TypeOf(into), ""); err != nil {
		return place(raw, dec, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("text after the settings: remove it")
	}
	var wrong *json.UnmarshalTypeError
	err := json.Unmarshal(raw, into)
	if errors.As(err, &wrong) && wrong.Field != "" {
		return fmt.Errorf("%s: a %s stands where %s is wanted", wrong.Field, wrong.Value, kind(wrong.Type))
	}
	return err
}

// place adds the line to an error of the JSON itself.
func place(raw []byte, dec *json.Decoder, err error) error {
	var syntax *json.SyntaxError
	if !errors.As(err, &syntax) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return err
	}
	at := min(int(dec.InputOffset()), len(raw))
	return fmt.Errorf("line %d is no JSON (a comma, quote or bracket?): %w", 1+bytes.Count(raw[:at], []byte("\n")), err)
}

// checkKeys reads one value and compares the keys of all objects in it with the fields
// of t; path is where it stands.
func checkKeys(dec *json.Decoder, t reflect.Type, path string) error {
	token, err := dec.Token()
	if err != nil {
		return err
	}
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch token {
	case json.Delim('['):
		var elem reflect.Type
		if t != nil && (t.Kind() == reflect.Slice || t.Kind() == reflect.Array) {
			elem = t.Elem()
		}
		for n := 0; dec.More(); n++ {
			if err := checkKeys(dec, elem, fmt.Sprintf("%s[%d]", path, n)); err != nil {
				return err
			}
		}
	case json.Delim('{'):
		seen := map[string]bool{}
		for dec.More() {
			key, err := dec.Token()
			if err != nil {
				return err
			}
			name, _ := key.(string) // the decoder gives nothing else here
			at := strings.TrimPrefix(path+"."+name, ".")
			if seen[name] {
				return fmt.Errorf("key %q stands twice: which one is meant?", at)
			}
			seen[name] = true
			field, err := fieldOf(t, name, at)
			if err != nil {
				return err
			}
			if err := checkKeys(dec, field, at); err != nil {
				return err
			}
		}
	default:
		return nil
	}
	_, err = dec.Token()
	return err
}

// fieldOf is the type of a key's value; nil means that anything may stand there, and
// the decoding itself says what is wrong with it.
func fieldOf(t reflect.Type, name, at string) (reflect.Type, error) {
	switch {
	case t == nil:
		return nil, nil
	case t.Kind() == reflect.Map:
		return t.Elem(), nil
	case t.Kind() != reflect.Struct || own(t):
		return nil, nil
	}
	fields := Fields(t)
	var known []string
	for _, f := range fields {
		if f.Key == name {
			return f.Type, nil
		}
		known = append(known, f.Key)
	}
	if near := nearest.Word(name, known); near != "" {
		return nil, fmt.Errorf("unknown key %q: did you mean %q?", at, near)
	}
	return nil, fmt.Errorf("unknown key %q: known are %s", at, strings.Join(known, ", "))
}

// Field is one key of settings.
type Field struct {
	Key  string
	Type reflect.Type
}

// Fields are the keys of a struct of settings, in the order of its fields.
func Fields(t reflect.Type) []Field {
	var out []Field
	for i := range t.NumField() {
		f := t.Field(i)
		key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if key != "" && key != "-" && f.IsExported() {
			out = append(out, Field{key, f.Type})
		}
	}
	return out
}

// own says whether a type reads its JSON itself.
func own(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(reflect.TypeFor[json.Unmarshaler]()) || p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

func kind(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "a text"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice, reflect.Array:
		return "a list"
	case reflect.Map, reflect.Struct:
		return "an object"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "a whole number"
	default:
		return "a " + t.String()
	}
}
