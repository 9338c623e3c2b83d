//go:build e2e && compose

package main_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// left lists what Docker still has of the demo's projects.
func left(t *testing.T) string {
	t.Helper()
	var all []string
	for _, args := range [][]string{
		{"ps", "--all", "--filter", "name=coffer-demo-", "--format", "container {{.Names}}"},
		{"volume", "ls", "--filter", "name=coffer-demo-", "--format", "volume {{.Name}}"},
		{"network", "ls", "--filter", "name=coffer-demo-", "--format", "network {{.Name}}"},
	} {
		out, err := exec.Command("docker", args...).CombinedOutput()
		if err != nil {
			t.Fatalf("docker %q: %v\n%s", args, err, out)
		}
		all = append(all, strings.Fields(string(out))...)
	}
	return strings.Join(all, " ")
}

// Ctrl-C while the containers are busy leaves no container, network or volume.
func TestComposeInterrupted(t *testing.T) {
	if out := left(t); out != "" {
		t.Fatalf("an earlier demo has left %s: remove it first", out)
	}
	cmd := exec.Command(filepath.Join(bin, "coffer-demo"), "compose", "--file", "../../docker-compose.yml")
	stderr := &watcher{want: "alice asks for the wallet", seen: make(chan struct{})}
	cmd.Stderr = stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-stderr.seen:
	case err := <-ended:
		t.Fatalf("the demo ended early: %v\n%s", err, stderr.text.String())
	case <-time.After(4 * time.Minute):
		t.Error("the containers did not start")
	}
	if out := left(t); !strings.Contains(out, "signer-a") {
		t.Errorf("this test looks for the wrong names: %q", out)
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Error("an interrupted demo exits with 0")
	}
	if out := left(t); out != "" {
		t.Errorf("left behind: %s\n%s", out, stderr.text.String())
	}
}

// What is missing is said before anything is made.
func TestComposeNeeds(t *testing.T) {
	out, err := exec.Command(filepath.Join(bin, "coffer-demo"), "compose", "--file", "nowhere.yml").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "nowhere.yml") {
		t.Errorf("no file: %v\n%s", err, out)
	}
	cmd := exec.Command(filepath.Join(bin, "coffer-demo"), "compose", "--file", "../../docker-compose.yml")
	cmd.Env = append(cmd.Environ(), "DOCKER_HOST=unix:///nonexistent/docker.sock")
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "no Docker daemon answers") {
		t.Errorf("no daemon: %v\n%s", err, out)
	}
}
