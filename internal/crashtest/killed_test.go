//go:build e2e && crashpoint

package crashtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/ethclient"

	"coffer/internal/testcharter"
)

const (
	// killings is how often each of four processes is killed.
	killings = 20
	// patience is how long the next one waits for a payment.
	patience = 15 * time.Second
)

// TestKilledUnderPayments runs the real programs, made without crash points, as the
// demo sets them up, kills each process again and again without warning while people
// pay, and reads the chain back: none lost, none doubled, every reference mined once.
func TestKilledUnderPayments(t *testing.T) {
	t.Parallel()
	d := newDemo(t)
	daemons := d.daemons()
	if len(daemons) != 4 {
		t.Fatalf("want three signers and a coordinator, the demo runs %d daemons", len(daemons))
	}
	ctx, over := context.WithCancel(t.Context())
	defer over()
	var paid atomic.Int64
	var payers sync.WaitGroup
	refs := make(chan string, 10_000)
	for payer := range 3 {
		payers.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				ref := fmt.Sprintf("KILL-%d-%d", payer, n)
				// Amounts tell payments apart on the chain.
				if err := d.pay(fmt.Sprintf("0.000%d%06d", payer+1, n), ref); err != nil {
					t.Errorf("%s: %v", ref, err)
					over()
					return
				}
				refs <- ref
				paid.Add(1)
			}
		})
	}
	idle := 0 // how often no payment was made for so long
	for round := range killings {
		for _, p := range daemons {
			if ctx.Err() != nil {
				break
			}
			p.killAndStart(t)
			// The next one dies somewhere in the course of the payment after the next.
			enough := time.After(patience)
			for before := paid.Load(); paid.Load() == before && ctx.Err() == nil; {
				select {
				case <-enough:
					before = -1
					idle++
				case <-time.After(20 * time.Millisecond):
				case <-ctx.Done():
				}
			}
			<-time.After(time.Duration(rand.IntN(1000)) * time.Millisecond)
		}
		t.Logf("%d payments after %d killings", paid.Load(), (round+1)*len(daemons))
	}
	over()
	payers.Wait()
	close(refs)
	amounts := d.mined(t)
	count := 0
	for ref := range refs {
		count++
		var payer, n int
		if _, err := fmt.Sscanf(ref, "KILL-%d-%d", &payer, &n); err != nil {
			t.Fatal(err)
		}
		wei := new(big.Int).Mul(big.NewInt(int64(payer+1)*1e6+int64(n)), big.NewInt(1e8))
		if got := amounts[wei.String()]; got != 1 {
			t.Errorf("%s of %s wei was mined %d times", ref, wei, got)
		}
		delete(amounts, wei.String())
	}
	for _, own := range []string{"1500000000000000000", "250000000000000000"} { // the demo's: at once, and after the freeze
		if amounts[own] != 1 {
			t.Errorf("the demo's payment of %s wei was mined %d times", own, amounts[own])
		}
		delete(amounts, own)
	}
	if len(amounts) > 0 {
		t.Errorf("mined, and nobody was told so: %v", amounts)
	}
	if count < killings {
		t.Errorf("only %d payments were made: that is no stream", count)
	}
	if idle > killings {
		t.Errorf("%d times no payment was made within %s of a killing", idle, patience)
	}
	t.Logf("%d payments through %d killings, each mined once; %d times none was made within %s", count, killings*len(daemons), idle, patience)
}

// demo is a cluster that coffer-demo has made and keeps.
type demo struct {
	t    testing.TB
	bin  string
	dir  string
	cmd  *exec.Cmd
	talk *bytes.Buffer
}

func newDemo(t *testing.T) *demo {
	t.Helper()
	d := &demo{t: t, bin: t.TempDir(), talk: new(bytes.Buffer)}
	d.dir = filepath.Join(t.TempDir(), "cluster")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-tags", "grpcnotrace", "-o", d.bin+"/", "coffer/cmd/...")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	for _, name := range []string{"coffer-signer", "coffer-coordinator"} {
		raw, err := os.ReadFile(filepath.Join(d.bin, name))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(raw, []byte("COFFER_CRASHPOINT")) {
			t.Errorf("%s can be told to end itself", name)
		}
	}
	d.cmd = exec.Command(filepath.Join(d.bin, "coffer-demo"), "--json", "--keep", "--dir", d.dir)
	d.cmd.Stderr = d.talk
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = d.cmd.Process.Signal(syscall.SIGINT)
		_ = d.cmd.Wait() // it may not like what became of its daemons
		for _, p := range d.running() {
			_ = syscall.Kill(p.pid, syscall.SIGKILL)
		}
	})
	var result struct{ Wallet struct{ Address string } }
	if err := json.NewDecoder(out).Decode(&result); err != nil {
		t.Fatalf("the demo does not come up: %v\n%s", err, d.talk)
	}
	return d
}

// program is one process of the demo.
type program struct {
	d    *demo
	pid  int
	args []string // with the program's path first
}

// running lists the processes of the demo's programs.
func (d *demo) running() []*program {
	links, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		d.t.Fatal(err)
	}
	var out []*program
	for _, link := range links {
		exe, err := os.Readlink(link)
		if err != nil || !strings.HasPrefix(exe, d.bin+"/") {
			continue
		}
		var pid int
		if _, err := fmt.Sscanf(link, "/proc/%d/exe", &pid); err != nil {
			continue
		}
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil {
			continue // it has just ended
		}
		args := strings.Split(strings.TrimRight(string(raw), "\x00"), "\x00")
		out = append(out, &program{d: d, pid: pid, args: args})
	}
	return out
}

// daemons are the signers and the coordinator, the coordinator first.
func (d *demo) daemons() []*program {
	var out []*program
	for _, p := range d.running() {
		if len(p.args) < 2 || p.args[1] != "run" {
			continue
		}
		switch filepath.Base(p.args[0]) {
		case "coffer-coordinator":
			out = append([]*program{p}, out...)
		case "coffer-signer":
			out = append(out, p)
		}
	}
	return out
}

// killAndStart kills the process and runs the same command again until it serves.
func (p *program) killAndStart(t *testing.T) {
	if err := syscall.Kill(p.pid, syscall.SIGKILL); err != nil {
		t.Fatalf("kill %v: %v", p.args, err)
	}
	// As a supervisor does: the next begins when the last has ended.
	if err := await(10*time.Second, func() error { return gone(p.pid) }); err != nil {
		t.Fatal(err)
	}
	log, err := os.OpenFile(filepath.Join(p.d.dir, filepath.Base(p.args[0])+"-again.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(p.args[0], p.args[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.pid = cmd.Process.Pid
	ready := make(chan error, 1)
	go func() {
		line := make([]byte, 64)
		n, err := out.Read(line)
		if err == nil && !bytes.HasPrefix(line[:n], []byte("ready ")) {
			err = fmt.Errorf("it says %q", line[:n])
		}
		ready <- err
		_ = cmd.Wait() // killed, sooner or later
	}()
	select {
	case err := <-ready:
		if err != nil {
			raw, _ := os.ReadFile(log.Name()) // to explain
			t.Fatalf("%v does not start again: %v\n%s", p.args, err, raw[max(0, len(raw)-2000):])
		}
	case <-time.After(30 * time.Second):
		t.Fatalf("%v does not serve within 30 seconds", p.args)
	}
}

// gone says that a process and all its threads have ended, which may take as long as
// the disk does for what they were writing; only then its files are free.
func gone(pid int) error {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil {
		return err
	}
	for _, path := range threads {
		raw, err := os.ReadFile(path)
		if err != nil {
			continue // it has just ended
		}
		_, state, _ := strings.Cut(string(raw), ") ")
		if !strings.HasPrefix(state, "Z") {
			return fmt.Errorf("process %d has a thread that lives: %s", pid, raw)
		}
	}
	return nil
}

// coffer runs the command as a person.
func (d *demo) coffer(who string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	args = append(args, "--home", filepath.Join(d.dir, "people", who, "home"), "--as", who, "--key", filepath.Join(d.dir, "people", who, "key"))
	cmd := exec.CommandContext(ctx, filepath.Join(d.bin, "coffer"), args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(stdout.String()), nil
}

// persist does what people do when a command fails while a machine is away: the same
// again.
func persist(within time.Duration, f func() error) error {
	deadline := time.Now().Add(within)
	for {
		err := f()
		var exit *exec.ExitError
		hopeless := errors.As(err, &exit) && exit.ExitCode() != 1 // usage, or refused
		if err == nil || hopeless || time.Now().After(deadline) {
			return err
		}
		<-time.After(100 * time.Millisecond)
	}
}

// pay asks, has two people approve, and waits for the end.
func (d *demo) pay(amount, ref string) error {
	var id string
	err := persist(time.Minute, func() (err error) {
		id, err = d.coffer("alice", "pay", amount, "ETH", testcharter.Supplier, "--from", "treasury", "--ref", ref)
		return err
	})
	if err != nil {
		return err
	}
	for _, who := range []string{"bob", "carol"} {
		if err := persist(time.Minute, func() error { _, err := d.coffer(who, "approve", id, "--yes"); return err }); err != nil {
			return err
		}
	}
	return persist(2*time.Minute, func() error {
		out, err := d.coffer("alice", "show", id, "--json")
		if err != nil {
			return err
		}
		var report struct{ Stage, Detail string }
		if err := json.Unmarshal([]byte(out), &report); err != nil {
			return err
		}
		switch report.Stage {
		case "done":
			return nil
		default:
			return errors.New(report.Stage + ": " + report.Detail)
		}
	})
}

// mined counts by amount what the supplier got.
func (d *demo) mined(t *testing.T) map[string]int {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(d.dir, "coordinator", "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	_, url, found := strings.Cut(string(raw), `"http://`)
	url, _, _ = strings.Cut(url, `"`)
	if !found {
		t.Fatalf("no endpoint in %s", raw)
	}
	eth, err := ethclient.DialContext(t.Context(), "http://"+url)
	if err != nil {
		t.Fatal(err)
	}
	defer eth.Close()
	return minedAmounts(t, eth)
}
