package docs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"coffer/coordinator"
	"coffer/node"
)

// The examples of configuration are accepted as they stand.
func TestDeployExamples(t *testing.T) {
	for program, load := range map[string]func(dir string) error{
		"signer":      func(dir string) error { _, err := node.Dir(dir).LoadSettings(); return err },
		"coordinator": func(dir string) error { _, err := coordinator.Dir(dir).LoadSettings(); return err },
	} {
		if err := load(filepath.Join("../../deploy", program)); err != nil {
			t.Errorf("%s: %v", program, err)
		}
	}
}

// must stands in each unit. The test names what systemd's own figure would not miss.
var must = []string{
	"User=coffer-", "StateDirectoryMode=0700", "UMask=0077", "LimitCORE=0", "NoNewPrivileges=yes", "CapabilityBoundingSet=\n", "ProtectSystem=strict",
	"MemoryDenyWriteExecute=yes", "PrivateDevices=yes", "RestrictNamespaces=yes", "SystemCallFilter=@system-service", "Restart=on-failure",
}

// The units are what systemd understands, and leave little open by its own measure.
func TestDeployUnits(t *testing.T) {
	analyze, lookErr := exec.LookPath("systemd-analyze")
	for _, name := range []string{"coffer-signer", "coffer-coordinator"} {
		unit := read(t, "deploy/systemd/"+name+".service")
		lines := append([]string{"ExecStart=/usr/local/bin/" + name + " run --dir /var/lib/" + name}, must...)
		if name == "coffer-signer" {
			lines = append(lines, "LoadCredential=passphrase:", "--passphrase-file %d/passphrase", "MemorySwapMax=0", "KillMode=mixed")
		}
		for _, line := range lines {
			if !strings.Contains(unit, line) {
				t.Errorf("%s.service does not say %q", name, line)
			}
		}
		if lookErr != nil {
			continue // what systemd says of the units needs systemd
		}
		dir := t.TempDir()
		program := filepath.Join(dir, name)
		if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, name+".service")
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(unit, "/usr/local/bin/"+name, program)), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(analyze, "verify", "--man=no", path).CombinedOutput(); err != nil || strings.Contains(string(out), name) {
			t.Errorf("systemd-analyze verify %s: %v\n%s", name, err, out)
		}
		out, err := exec.Command(analyze, "security", "--offline=true", "--no-pager", path).CombinedOutput()
		if err != nil {
			t.Fatalf("systemd-analyze security %s: %v\n%s", name, err, out)
		}
		level := regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`).FindSubmatch(out)
		if level == nil {
			t.Fatalf("systemd-analyze security %s:\n%s", name, out)
		}
		// 0 is best, 10 worst; an ordinary service has over 9.
		if exposure, err := strconv.ParseFloat(string(level[1]), 64); err != nil || exposure > 2 {
			t.Errorf("%s: exposure %s, want at most 2: %v\n%s", name, level[1], err, out)
		}
	}
}

// The tests that docs/operations.md says its procedures were tried by exist.
func TestOperations(t *testing.T) { testsExist(t, read(t, "docs/operations.md")) }
