//go:build crashpoint

package crashpoint_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"coffer/internal/crashpoint"
)

// TestMain makes the test binary a process that passes places until it ends.
func TestMain(m *testing.M) {
	if os.Getenv("PASS_PLACES") != "" {
		for range 3 {
			crashpoint.Hit("one")
			if err := crashpoint.Write("two"); errors.Is(err, syscall.ENOSPC) {
				os.Exit(28)
			}
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestOrders(t *testing.T) {
	for order, want := range map[string]struct {
		seen   string
		killed bool
		code   int
	}{
		"kill one 2":  {"one two one", true, -1},
		"kill two 3":  {"one two one two one two", true, -1},
		"kill one 4":  {"one two one two one two", false, 0},
		"kill none 1": {"one two one two one two", false, 0},
		"full two 1":  {"one two", false, 28},
		"full one 2":  {"one two one two", false, 28},
	} {
		dir := t.TempDir()
		for name, text := range map[string]string{"armed": order + "\n", "seen": ""} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "PASS_PLACES=1", crashpoint.Env+"="+dir)
		var exit *exec.ExitError
		if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		status := cmd.ProcessState.Sys().(syscall.WaitStatus)
		if got := status.Signaled() && status.Signal() == syscall.SIGKILL; got != want.killed || cmd.ProcessState.ExitCode() != want.code {
			t.Errorf("%s: killed %v, exit code %d", order, got, cmd.ProcessState.ExitCode())
		}
		seen, err := os.ReadFile(filepath.Join(dir, "seen"))
		if got := strings.Join(strings.Fields(string(seen)), " "); err != nil || got != want.seen {
			t.Errorf("%s: passed %q, want %q (%v)", order, got, want.seen, err)
		}
		_, err = os.Stat(filepath.Join(dir, "fired"))
		if fired := err == nil; fired != (want.killed || want.code == 28) {
			t.Errorf("%s: fired is %v", order, fired)
		}
	}
}
