package demo

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// processes are the daemons under way, ended in reverse order of their start.
type processes struct {
	bin string
	dir string

	mu   sync.Mutex
	list []*process
}

type process struct {
	name string
	cmd  *exec.Cmd
	log  *os.File
	said chan string // the address that it is ready at
	done chan struct{}
	err  error
}

// start runs a daemon and waits until it is ready.
func (p *processes) start(ctx context.Context, name, program string, args ...string) (address string, err error) {
	proc, err := p.launch(name, program, args...)
	if err != nil {
		return "", err
	}
	return proc.ready(ctx)
}

// launch runs a daemon. Its talk goes to a log file in the demo's directory.
func (p *processes) launch(name, program string, args ...string) (*process, error) {
	logPath := filepath.Join(p.dir, name+".log")
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(filepath.Join(p.bin, program), args...)
	cmd.Stderr = log
	// A group of its own: Ctrl-C reaches the demo, which ends the daemons in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", program, err), log.Close())
	}
	proc := &process{name: name, cmd: cmd, log: log, said: make(chan string, 1), done: make(chan struct{})}
	p.mu.Lock()
	p.list = append(p.list, proc)
	p.mu.Unlock()

	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if addr, ok := strings.CutPrefix(lines.Text(), "ready "); ok {
				select {
				case proc.said <- addr:
				default:
				}
			}
		}
		proc.err = cmd.Wait()
		close(proc.done)
	}()
	return proc, nil
}

// ready waits until a daemon prints "ready ADDRESS".
func (p *process) ready(ctx context.Context) (address string, err error) {
	select {
	case addr := <-p.said:
		return addr, nil
	case <-p.done:
		return "", fmt.Errorf("%s ended at its start: %s", p.name, tail(p.log.Name()))
	case <-time.After(30 * time.Second):
		return "", fmt.Errorf("%s was not ready within 30 seconds: %s", p.name, tail(p.log.Name()))
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// stop ends all daemons: asked first, killed after five seconds.
func (p *processes) stop() {
	p.mu.Lock()
	list := p.list
	p.list = nil
	p.mu.Unlock()
	for i := len(list) - 1; i >= 0; i-- {
		_ = list[i].cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
		_ = list[i].cmd.Process.Signal(syscall.SIGCONT) // and one that is held must hear it
	}
	deadline := time.After(5 * time.Second)
	for i := len(list) - 1; i >= 0; i-- {
		select {
		case <-list[i].done:
		case <-deadline:
			_ = syscall.Kill(-list[i].cmd.Process.Pid, syscall.SIGKILL)
			<-list[i].done
		}
		_ = list[i].log.Close()
	}
}

// signal sends a signal to a daemon.
func (p *processes) signal(name string, sig os.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, proc := range p.list {
		if proc.name == name {
			return proc.cmd.Process.Signal(sig)
		}
	}
	return fmt.Errorf("%s does not run", name)
}

// dead names a daemon that has ended by itself, with the end of its log.
func (p *processes) dead() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, proc := range p.list {
		select {
		case <-proc.done:
			return fmt.Errorf("%s has ended (%w): %s", proc.name, proc.err, tail(proc.log.Name()))
		default:
		}
	}
	return nil
}

func tail(path string) string {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
	if len(lines) > 5 {
		lines = lines[len(lines)-5:]
	}
	return strings.Join(lines, " / ")
}

// command runs one of our programs to its end. Progress lines on its stderr are passed on.
func (p *processes) command(ctx context.Context, progress func(string), program string, args ...string) (stdout string, code int, err error) {
	return command(ctx, progress, filepath.Join(p.bin, program), args...)
}

func command(ctx context.Context, progress func(string), path string, args ...string) (stdout string, code int, err error) {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	var out, errText bytes.Buffer
	cmd.Stdout = &out
	if progress == nil {
		progress = func(string) {}
	}
	cmd.Stderr = &lineWriter{line: func(s string) { errText.WriteString(s + "\n"); progress(s) }}
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && ctx.Err() == nil {
		return out.String(), exit.ExitCode(), fmt.Errorf("%s %s: %s", filepath.Base(path), args[0], strings.TrimSpace(errText.String()))
	}
	return out.String(), 0, err
}

type lineWriter struct {
	buf  []byte
	line func(string)
}

func (w *lineWriter) Write(b []byte) (int, error) {
	w.buf = append(w.buf, b...)
	for {
		i := bytes.IndexByte(w.buf, '\n')
		if i < 0 {
			return len(b), nil
		}
		w.line(string(w.buf[:i]))
		w.buf = w.buf[i+1:]
	}
}
