package gethdev_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coffer/internal/gethdev"
)

func TestGethBinary(t *testing.T) {
	t.Setenv(gethdev.Env, "")
	if _, err := gethdev.Binary(); err == nil || !strings.Contains(err.Error(), "make test") {
		t.Errorf("unset: %v", err)
	}
	t.Setenv(gethdev.Env, "some/geth")
	if path, err := gethdev.Binary(); path != "some/geth" || err != nil {
		t.Errorf("%q, %v", path, err)
	}
}

func TestGethStartRefuses(t *testing.T) {
	dir := t.TempDir()
	if _, err := gethdev.Start(t.Context(), filepath.Join(dir, "missing"), dir); err == nil {
		t.Error("a missing binary started")
	}
	if _, err := gethdev.Start(t.Context(), "geth", filepath.Join(dir, "missing")); err == nil {
		t.Error("started in a missing directory")
	}
	// A program that does not know geth's flags ends at once; the error says so and ends with what it said.
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := gethdev.Start(t.Context(), self, dir); err == nil || !strings.Contains(err.Error(), "it ended") {
		t.Errorf("another program: %v", err)
	}
}
