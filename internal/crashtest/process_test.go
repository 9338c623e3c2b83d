//go:build e2e && crashpoint

package crashtest

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"coffer/internal/crashpoint"
)

// process is one signer or the coordinator, which dies and is started again.
type process struct {
	name   string
	role   string
	dir    string // its data
	points string // its orders
	log    string

	autopsy func() // if set, before it is started again

	t    testing.TB
	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
}

func newProcess(t testing.TB, root, name, role, dir string) *process {
	t.Helper()
	p := &process{t: t, name: name, role: role, dir: dir, points: filepath.Join(root, "points-"+name), log: filepath.Join(root, name+".log")}
	if err := os.Mkdir(p.points, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("log of %s: %s", name, p.tail())
		}
	})
	return p
}

func (p *process) tail() string {
	raw, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
	return strings.Join(lines[max(0, len(lines)-25):], "\n")
}

// start runs the process until it serves, or has ended: then the error is the last
// that it said.
func (p *process) start() error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleEnv+"="+p.role, dirEnv+"="+p.dir, crashpoint.Env+"="+p.points)
	cmd.Stderr = log
	// Killed with the test, whatever becomes of it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	done, ready := make(chan struct{}), make(chan struct{})
	p.mu.Lock()
	p.cmd, p.done = cmd, done
	p.mu.Unlock()
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if strings.HasPrefix(lines.Text(), "ready ") {
				close(ready)
			}
		}
		_ = cmd.Wait() // how it ended is asked of ProcessState
		close(done)
	}()
	select {
	case <-ready:
		return nil
	case <-done:
		return fmt.Errorf("%s: %s: %s", p.name, cmd.ProcessState, p.lastError())
	case <-time.After(30 * time.Second):
		return fmt.Errorf("%s is not ready after 30 seconds: %s", p.name, p.tail())
	}
}

// lastError is what the process said when it ended.
func (p *process) lastError() string {
	lines := strings.Split(p.tail(), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		if text, ok := strings.CutPrefix(lines[i], "error: "); ok {
			return text
		}
	}
	return ""
}

func (p *process) mustStart() {
	p.t.Helper()
	if err := p.start(); err != nil {
		p.t.Fatal(err)
	}
}

// ended is closed when the process is over.
func (p *process) ended() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.done
}

func (p *process) signal(s syscall.Signal) {
	p.mu.Lock()
	cmd := p.cmd
	p.mu.Unlock()
	if cmd != nil {
		_ = cmd.Process.Signal(s) // it may have ended already
	}
}

// kill ends the process at once and waits for its end.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	if done := p.ended(); done != nil {
		<-done
	}
}

// stop has the process end in order.
func (p *process) stop() {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	select {
	case <-p.ended():
		if code := p.cmd.ProcessState.ExitCode(); code != 0 {
			p.t.Errorf("%s ends with %d when asked: %s", p.name, code, p.lastError())
		}
	case <-time.After(20 * time.Second):
		p.t.Errorf("%s does not end when asked", p.name)
		p.kill()
	}
}

// revive looks at what a dead process has left, and starts it again.
func (p *process) revive() {
	p.t.Helper()
	if p.autopsy != nil {
		p.autopsy()
	}
	p.mustStart()
}

func (p *process) point(name string) string { return filepath.Join(p.points, name) }

// order arms the process: action when it comes to a place for the nth time.
func (p *process) order(action, place string, n int) {
	p.t.Helper()
	_ = os.Remove(p.point("fired")) // of the order before
	// In one step: the process reads it at any moment.
	text := fmt.Sprintf("%s %s %d\n", action, place, n)
	if err := os.WriteFile(p.point("new"), []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
	if err := os.Rename(p.point("new"), p.point("armed")); err != nil {
		p.t.Fatal(err)
	}
}

// fired reports whether the last order was carried out, and takes it back if not.
func (p *process) fired() bool {
	_ = os.Remove(p.point("armed")) // gone when it was carried out
	_, err := os.Stat(p.point("fired"))
	return err == nil
}

// record has the process write down the places that it comes to.
func (p *process) record() {
	p.t.Helper()
	if err := os.WriteFile(p.point("seen"), nil, 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// recorded ends the recording: how often the process came to each place.
func (p *process) recorded() map[string]int {
	p.t.Helper()
	raw, err := os.ReadFile(p.point("seen"))
	if err != nil {
		p.t.Fatal(err)
	}
	if err := os.Remove(p.point("seen")); err != nil {
		p.t.Fatal(err)
	}
	out := map[string]int{}
	for _, name := range strings.Fields(string(raw)) {
		out[name]++
	}
	return out
}
