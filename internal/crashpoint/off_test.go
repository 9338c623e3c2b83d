//go:build !crashpoint

package crashpoint_test

import (
	"os"
	"path/filepath"
	"testing"

	"coffer/internal/crashpoint"
)

// Without the tag an order changes nothing.
func TestNothingIsCompiledIn(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("COFFER_CRASHPOINT", dir)
	for name, text := range map[string]string{"armed": "kill place 1", "seen": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	crashpoint.Hit("place")
	if err := crashpoint.Write("place"); err != nil || crashpoint.Enabled {
		t.Errorf("enabled: %v, write: %v", crashpoint.Enabled, err)
	}
	seen, err := os.ReadFile(filepath.Join(dir, "seen"))
	if err != nil || len(seen) > 0 {
		t.Errorf("a place was written down: %q %v", seen, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "armed")); err != nil {
		t.Errorf("the order was taken: %v", err)
	}
}
