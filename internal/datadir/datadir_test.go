package datadir_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coffer/internal/datadir"
)

type settings struct {
	Name string `json:"name"`
}

func (s *settings) Validate() error {
	if s.Name == "" {
		return errors.New("name is empty")
	}
	return nil
}

func files(dir string) datadir.Files {
	return datadir.Files{
		Identity: filepath.Join(dir, "key"), Store: filepath.Join(dir, "db"), Audit: filepath.Join(dir, "audit"), Settings: filepath.Join(dir, "config.json"),
	}
}

func TestMakeAndRead(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	more := false
	key, err := datadir.Make(files(dir), settings{"a"}, func() error { more = true; return nil })
	if err != nil || key == nil || !more {
		t.Fatal(key, more, err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	var back settings
	if err := datadir.ReadSettings(files(dir).Settings, "coffer-x", &back); err != nil || back.Name != "a" {
		t.Errorf("%+v, %v", back, err)
	}
	if _, err := datadir.Make(files(dir), settings{"b"}, nil); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("a full directory: %v", err)
	}
}

// What fails half-way leaves no settings, so nobody takes the directory for complete.
func TestMakeFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	if _, err := datadir.Make(files(dir), settings{"a"}, func() error { return errors.New("no") }); err == nil {
		t.Fatal("it did not fail")
	}
	err := datadir.ReadSettings(files(dir).Settings, "coffer-x", new(settings))
	if err == nil || !strings.Contains(err.Error(), "coffer-x init --dir "+dir) {
		t.Errorf("incomplete directory: %v", err)
	}
}

func TestReadRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.json")
	for text, want := range map[string]string{
		`{"name":"a","nmae":"b"}`: "nmae",
		`{"name":"a"} {}`:         "text after",
		`{"name":""}`:             "name is empty",
		`{"name":`:                "unexpected EOF",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := datadir.ReadSettings(path, "coffer-x", new(settings)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
