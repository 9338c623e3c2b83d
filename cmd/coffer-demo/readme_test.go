//go:build e2e

package main_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"coffer/chain/evm"
	"coffer/chain/rpc"
	"coffer/internal/devchain"
	"coffer/internal/freeport"
)

const (
	// maxCommands is the design's figure: from nothing to a mined payment.
	maxCommands = 25
	// patience bounds one step; two of them search primes and generate a key.
	patience = 5 * time.Minute
)

// step is one line of the README's script: who types what.
type step struct{ who, command string }

// script reads the README's commands, in its order.
func script(t *testing.T) []step {
	t.Helper()
	raw, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(string(raw), "\n## Run a cluster\n")
	if !ok {
		t.Fatal("the README has no section Run a cluster")
	}
	text, _, _ = strings.Cut(text, "\n## ")
	var steps []step
	for _, m := range regexp.MustCompile(`(?m)^([a-z]+)\$ (.+)$`).FindAllStringSubmatch(text, -1) {
		steps = append(steps, step{m[1], m[2]})
	}
	return steps
}

// The README's "Run a cluster", followed to the letter by three organisations and
// three people in homes of their own, who share nothing but the lines that are mailed
// to the charter's author, the one file that is mailed back, and a digest that they
// hear. What is asked on a terminal is typed on a terminal.
func TestReadme(t *testing.T) {
	steps := script(t)
	if len(steps) == 0 || len(steps) > maxCommands {
		t.Fatalf("the README has %d commands, at most %d are allowed", len(steps), maxCommands)
	}
	counts(t, steps)

	ctx, cancel := context.WithTimeout(t.Context(), 12*time.Minute)
	defer cancel()
	p := &play{t: t, ctx: ctx, homes: map[string]string{}, ports: map[string]string{}, address: make(chan string, 1)}
	t.Cleanup(p.stop)
	for n, s := range steps {
		t.Logf("%d %s$ %s", n+1, s.who, s.command)
		p.step(s)
	}
	for _, c := range p.waits {
		p.finish(c)
	}
	p.paid("0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", new(big.Int).Mul(big.NewInt(15), big.NewInt(1e17)))
	p.stop()
	waitGone(t)
}

// counts demands three commands of each operator and two of each person before the
// first payment is thought of.
func counts(t *testing.T, steps []step) {
	t.Helper()
	got := map[string]int{}
	for _, s := range steps {
		words := strings.Fields(s.command)
		got[s.who+" "+words[0]+" "+words[1]]++
	}
	for _, who := range []string{"exchange", "custodian", "auditor"} {
		for _, verb := range []string{"init", "join", "run"} {
			if got[who+" coffer-signer "+verb] != 1 {
				t.Errorf("%s runs coffer-signer %s %d times, want once", who, verb, got[who+" coffer-signer "+verb])
			}
		}
	}
	for _, who := range []string{"alice", "bob", "carol"} {
		for _, verb := range []string{"enrol", "join"} {
			if got[who+" coffer "+verb] != 1 {
				t.Errorf("%s runs coffer %s %d times, want once", who, verb, got[who+" coffer "+verb])
			}
		}
	}
}

// play is the world in which the script is followed.
type play struct {
	t       *testing.T
	ctx     context.Context
	homes   map[string]string // of each party, made when it first appears
	ports   map[string]string // the README's ports, and the free ones that stand for them
	cards   []string          // what was mailed to the charter's author
	digest  string            // what everybody was told by phone
	address chan string       // of the new wallet
	chain   string
	daemons []*typed
	waits   []*typed // commands with --wait
}

// typed is a command on a terminal of its own.
type typed struct {
	step
	cmd  *exec.Cmd
	done chan struct{}
	err  error

	mu             sync.Mutex
	stdout, stderr bytes.Buffer
}

func (c *typed) says() (stdout, stderr string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stdout.String(), c.stderr.String()
}

type locked struct {
	c *typed
	b *bytes.Buffer
}

func (l locked) Write(b []byte) (int, error) {
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	return l.b.Write(b)
}

func (p *play) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// home is a party's own folder, with an SSH key, as people have.
func (p *play) home(who string) string {
	p.t.Helper()
	if dir, ok := p.homes[who]; ok {
		return dir
	}
	dir := filepath.Join(p.t.TempDir(), who)
	p.must(os.MkdirAll(filepath.Join(dir, ".ssh"), 0o700))
	_, secret, err := ed25519.GenerateKey(rand.Reader)
	p.must(err)
	block, err := ssh.MarshalPrivateKey(secret, who)
	p.must(err)
	p.must(os.WriteFile(filepath.Join(dir, ".ssh", "id_ed25519"), pem.EncodeToMemory(block), 0o600))
	p.homes[who] = dir
	return dir
}

var port = regexp.MustCompile(`(127\.0\.0\.1:|/ip4/127\.0\.0\.1/tcp/)(\d+)`)

// here puts free ports in the place of the README's, which somebody may be using.
func (p *play) here(command string) string {
	return port.ReplaceAllStringFunc(command, func(s string) string {
		m := port.FindStringSubmatch(s)
		if p.ports[m[2]] == "" {
			free, err := freeport.Take(1)
			p.must(err)
			p.ports[m[2]] = strconv.Itoa(free[0])
		}
		return m[1] + p.ports[m[2]]
	})
}

func (p *play) step(s step) {
	p.t.Helper()
	s.command = p.here(s.command)
	words := strings.Fields(s.command)
	verb := words[0] + " " + words[1]
	if strings.Contains(s.command, "ADDRESS") {
		s.command = strings.ReplaceAll(s.command, "ADDRESS", p.walletAddress())
	}
	daemon := slices.Contains([]string{"coffer-signer run", "coffer-coordinator run", "coffer-demo devchain"}, verb)
	if !daemon {
		p.ready() // whoever goes on has seen that what was started runs
	}
	if verb == "coffer charter" {
		// The mail: one line of everybody.
		p.must(os.WriteFile(filepath.Join(p.home(s.who), "cards.txt"), []byte(strings.Join(p.cards, "\n")+"\n"), 0o600))
		draft, err := os.ReadFile("../../docs/first-charter.json")
		p.must(err)
		p.must(os.WriteFile(filepath.Join(p.home(s.who), "draft.json"), draft, 0o600))
	}
	c := p.launch(s)
	switch {
	case daemon:
		p.daemons = append(p.daemons, c)
		if verb == "coffer-demo devchain" {
			p.chain = strings.TrimPrefix(p.await(c, "ready "), "ready ")
		}
		return
	case slices.Contains(words, "--wait"):
		p.waits = append(p.waits, c)
		p.awaitTalk(c, "approval: ")
		return
	}
	out := p.finish(c)
	switch verb {
	case "coffer charter":
		p.digest = out
		file, err := os.ReadFile(filepath.Join(p.home(s.who), "desk", "charter.json"))
		p.must(err)
		for _, who := range []string{"exchange", "custodian", "auditor", "alice", "bob", "carol"} {
			p.must(os.WriteFile(filepath.Join(p.home(who), "charter.json"), file, 0o600))
		}
	case "coffer-signer init", "coffer-coordinator init", "coffer enrol":
		if !strings.HasPrefix(out, "coffer-card-v1:") || strings.Contains(out, "\n") {
			p.t.Fatalf("%s printed %q, want one card", s.command, out)
		}
		p.cards = append(p.cards, out)
	}
}

// launch types a command on a new terminal, in its party's home, and answers what is
// asked there.
func (p *play) launch(s step) *typed {
	p.t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	p.must(err)
	p.must(unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	p.must(err)
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	p.must(err)

	c := &typed{step: s, done: make(chan struct{})}
	c.cmd = exec.Command("bash", "-c", "exec "+s.command)
	c.cmd.Dir = p.home(s.who)
	c.cmd.Env = []string{"HOME=" + c.cmd.Dir, "PATH=" + bin + ":/usr/bin:/bin", "LANG=C"}
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = slave, locked{c, &c.stdout}, locked{c, &c.stderr}
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	p.must(c.cmd.Start())
	p.must(slave.Close())
	go p.answer(s.who, master)
	go func() {
		c.err = c.cmd.Wait()
		_ = master.Close() // the terminal goes with who sat at it
		close(c.done)
	}()
	return c
}

// answer types what a person would. Answers to secrets are not echoed, the others are.
func (p *play) answer(who string, terminal *os.File) {
	confirm := regexp.MustCompile(`to approve this, type ([0-9a-f]{6}): $`)
	var screen []byte
	buf := make([]byte, 1024)
	for {
		n, err := terminal.Read(buf)
		if err != nil {
			return // the command has ended
		}
		screen = append(screen, buf[:n]...)
		reply := ""
		switch m := confirm.FindSubmatch(screen); {
		case m != nil:
			reply = string(m[1])
		case bytes.HasSuffix(screen, []byte("heard by another channel: ")):
			reply = p.digest
		case bytes.HasSuffix(screen, []byte("again: ")), regexp.MustCompile(`passphrase[^\n]*: $`).Match(screen):
			reply = "the passphrase of " + who
		default:
			continue
		}
		screen = nil
		if _, err := terminal.WriteString(reply + "\n"); err != nil {
			return
		}
	}
}

// finish waits for the end of a command, which must be a good one.
func (p *play) finish(c *typed) (stdout string) {
	p.t.Helper()
	select {
	case <-c.done:
	case <-time.After(patience):
		p.fail(c, "has not ended")
	case <-p.ctx.Done():
		p.fail(c, "has not ended")
	}
	if c.err != nil {
		p.fail(c, c.err.Error())
	}
	out, _ := c.says()
	return strings.TrimSpace(out)
}

func (p *play) fail(c *typed, why string) {
	p.t.Helper()
	out, talk := c.says()
	text := fmt.Sprintf("%s$ %s\n%s\n%s%s", c.who, c.command, why, out, talk)
	for _, d := range p.daemons {
		if d != c {
			out, talk := d.says()
			text += fmt.Sprintf("\n\n%s$ %s\n%s%s", d.who, d.command, out, talk)
		}
	}
	p.t.Fatal(text)
}

// await waits for a line of stdout that begins so, and returns it.
func (p *play) await(c *typed, begin string) string {
	p.t.Helper()
	return p.line(c, begin, func() string { out, _ := c.says(); return out })
}

func (p *play) awaitTalk(c *typed, begin string) {
	p.t.Helper()
	p.line(c, begin, func() string { _, talk := c.says(); return talk })
}

func (p *play) line(c *typed, begin string, text func() string) string {
	p.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		for _, line := range strings.Split(text(), "\n") {
			if strings.HasPrefix(line, begin) {
				return line
			}
		}
		select {
		case <-c.done:
			p.fail(c, "ended without "+begin)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) || p.ctx.Err() != nil {
			p.fail(c, "never said "+begin)
		}
	}
}

// ready waits until every daemon that was started says so.
func (p *play) ready() {
	p.t.Helper()
	for _, d := range p.daemons {
		p.await(d, "ready ")
	}
}

// walletAddress is what the first command that waited showed at its end.
func (p *play) walletAddress() string {
	p.t.Helper()
	if len(p.waits) == 0 {
		p.t.Fatal("nobody has asked for a wallet")
	}
	out := p.finish(p.waits[0])
	m := regexp.MustCompile(`(?m)^address +(0x[0-9a-fA-F]{40})$`).FindStringSubmatch(out)
	if m == nil {
		p.t.Fatalf("no address is shown:\n%s", out)
	}
	return m[1]
}

// paid asks the chain.
func (p *play) paid(to string, want *big.Int) {
	p.t.Helper()
	client, err := rpc.Dial(p.ctx, p.chain, devchain.ChainID)
	p.must(err)
	defer client.Close()
	address, err := evm.ParseAddress(to)
	p.must(err)
	got, err := client.Balance(p.ctx, address)
	p.must(err)
	if got.Cmp(want) != 0 {
		p.t.Errorf("the chain says that %s has %s wei, want %s", to, got, want)
	}
}

// stop ends every command that still runs, as Ctrl-C would; what does not go is killed.
func (p *play) stop() {
	all := append(slices.Clone(p.daemons), p.waits...)
	for _, c := range all {
		_ = c.cmd.Process.Signal(os.Interrupt) // it may have ended
	}
	deadline := time.After(15 * time.Second)
	for _, c := range all {
		select {
		case <-c.done:
			if c.err != nil {
				out, talk := c.says()
				p.t.Logf("%s$ %s: %v\n%s%s", c.who, c.command, c.err, out, talk)
			}
		case <-deadline:
			p.t.Errorf("%s$ %s does not end after Ctrl-C", c.who, c.command)
			_ = c.cmd.Process.Kill()
			<-c.done
		}
	}
	p.daemons, p.waits = nil, nil
}
