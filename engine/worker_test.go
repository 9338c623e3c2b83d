package engine_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"coffer/engine"
	"coffer/internal/testkeys"
	"coffer/keyshare"
	"coffer/partial"
	"coffer/party"
)

// TestMain is also the worker's binary, as coffer-signer is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "worker":
			os.Exit(engine.WorkerMain(os.Stdin, os.Stdout))
		case "worker-unguarded": // the library as it is, for crashes to reach
			os.Exit(engine.UnguardedWorkerMain(os.Stdin, os.Stdout))
		case "worker-hardened": // reports whether WorkerMain's protection holds
			if err := engine.CheckHardened(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			os.Exit(0)
		case "worker-garbage":
			_, _ = os.Stdout.WriteString("this is no frame, this is no frame")
			_, _ = os.Stdin.Read(make([]byte, 1))
			os.Exit(0)
		}
	}
	os.Exit(m.Run())
}

// logbook is a slog handler that keeps what was logged.
type logbook struct {
	mu   sync.Mutex
	text strings.Builder
	news chan struct{}
}

func (l *logbook) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(b)
	select {
	case l.news <- struct{}{}:
	default:
	}
	return len(b), nil
}

func (l *logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// await waits until the log says so.
func (l *logbook) await(t *testing.T, want string, count int) {
	t.Helper()
	for strings.Count(l.String(), want) < count {
		select {
		case <-l.news:
		case <-t.Context().Done():
			t.Fatalf("log never said %q %d times:\n%s", want, count, l)
		}
	}
}

func newWorker(t *testing.T, cfg engine.WorkerConfig) (engine.Host, *logbook) {
	t.Helper()
	log := &logbook{news: make(chan struct{}, 1)}
	cfg.Logger = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	h, err := engine.NewWorker(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return h, log
}

func TestWorkerKeygenAndSign(t *testing.T) {
	c := clusterOf(t, func(party.ID) engine.Host {
		h, _ := newWorker(t, engine.WorkerConfig{})
		return h
	})
	o := c.run(c.startKeygen(pairMeta, pair), pair, nil)
	if len(o.keygen) != 2 {
		t.Fatal(o.faults)
	}
	session, digest := fresh(), digestOf("in processes")
	for _, id := range pair {
		if err := c.hosts[id].Sign(engine.SignConfig{Session: session, Meta: pairMeta(id), Share: o.keygen[id].Sealed, Signers: pair}); err != nil {
			t.Fatal(err)
		}
	}
	c.run(session, pair, func(o *outcome) bool { return len(o.prepared) == 2 })
	c.release(session, pair, digest)
	signed := c.run(session, pair, nil)
	var partials []partial.Partial
	for _, p := range signed.partials {
		partials = append(partials, *p)
	}
	if _, err := partial.Combine(digest, o.keygen["alice"].PublicKey, 2, partials); err != nil {
		t.Fatalf("%v, %v", err, signed.faults)
	}
}

// TestWorkerDeath lets the attacks on tss-lib v2.0.2 that panic in a goroutine of
// the library through to it. The worker dies, the session fails, this process
// lives, and the next session of the same host succeeds in another worker.
func TestWorkerDeath(t *testing.T) {
	logs := map[party.ID]*logbook{}
	c := clusterOf(t, func(id party.ID) engine.Host {
		h, log := newWorker(t, engine.WorkerConfig{Args: []string{"worker-unguarded"}})
		logs[id] = log
		return h
	})
	c.quiet = true
	deaths := 0
	for _, a := range crashes() {
		if strings.ContainsAny(a.name[:1], "EF") {
			continue // these panic in line: TestPanicInLine
		}
		t.Run(a.name, func(t *testing.T) {
			c.t = t
			f := c.crashInto(a)
			if f == nil || f.Code != engine.CodeWorkerDied || len(f.Culprits) != 0 {
				t.Errorf("%v, want WORKER_DIED", f)
			}
			deaths++
			logs["alice"].await(t, "worker died", deaths)
		})
	}
	c.t = t
	session, digest := c.prepare(pair), digestOf("after the deaths")
	c.release(session, pair, digest)
	if _, err := c.combine(digest, c.run(session, pair, nil)); err != nil {
		t.Fatal(err)
	}
	// The diary names where it happened and repeats no argument.
	text := logs["alice"].String()
	if !strings.Contains(text, "tss-lib/v2/crypto.ScalarBaseMult") || !strings.Contains(text, "panic") {
		t.Errorf("log does not say where the worker died:\n%s", text)
	}
	if strings.Contains(text, "0x") || strings.Contains(text, "goroutine") {
		t.Errorf("log repeats a trace:\n%s", text)
	}
}

// TestPanicInLine: what the library does on the session's own goroutine ends that
// session only, even in process.
func TestPanicInLine(t *testing.T) {
	c := clusterOf(t, func(party.ID) engine.Host { return engine.NewUnguarded() })
	c.quiet = true
	for _, a := range crashes() {
		if !strings.ContainsAny(a.name[:1], "EF") {
			continue
		}
		if f := c.crashInto(a); f == nil || f.Code != engine.CodeProtocol {
			t.Errorf("%s: %v, want PROTOCOL", a.name, f)
		}
	}
	session, digest := c.prepare(pair), digestOf("after the panics")
	c.release(session, pair, digest)
	if _, err := c.combine(digest, c.run(session, pair, nil)); err != nil {
		t.Fatal(err)
	}
}

// TestNoSecretCrossesThePipe records both pipes and stderr of two workers through a
// key generation and a signature, and looks for the secrets of the new wallet.
func TestNoSecretCrossesThePipe(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	logs := map[party.ID]*logbook{}
	c := clusterOf(t, func(id party.ID) engine.Host {
		tap := func(what string) string { return filepath.Join(dir, string(id)+"."+what) }
		h, log := newWorker(t, engine.WorkerConfig{Path: "/bin/sh", Env: []string{"PATH=/usr/bin:/bin"},
			Args: []string{"-c", fmt.Sprintf("tee '%s' | '%s' worker 2>'%s' | tee '%s'", tap("in"), self, tap("err"), tap("out"))}})
		logs[id] = log
		return h
	})
	o := c.run(c.startKeygen(pairMeta, pair), pair, nil)
	if len(o.keygen) != 2 {
		t.Fatal(o.faults)
	}
	session := fresh()
	for _, id := range pair {
		if err := c.hosts[id].Sign(engine.SignConfig{Session: session, Meta: pairMeta(id), Share: o.keygen[id].Sealed, Signers: pair}); err != nil {
			t.Fatal(err)
		}
	}
	c.release(session, pair, digestOf("tapped"))
	if signed := c.run(session, pair, nil); len(signed.partials) != 2 {
		t.Fatal(signed.faults)
	}
	for _, id := range pair {
		if err := c.hosts[id].Close(); err != nil {
			t.Fatal(err)
		}
		secrets, err := engine.Secrets(c.keys[id], pairMeta(id), o.keygen[id].Sealed)
		if err != nil {
			t.Fatal(err)
		}
		text := []byte(logs[id].String())
		for _, what := range []string{"in", "out", "err"} {
			b, err := os.ReadFile(filepath.Join(dir, string(id)+"."+what))
			if err != nil {
				t.Fatal(err)
			}
			if what != "err" && len(b) < 100_000 {
				t.Fatalf("%s.%s has %d bytes: nothing was recorded", id, what, len(b))
			}
			text = append(text, b...)
		}
		for name, secret := range secrets {
			for form, needle := range map[string][]byte{
				"raw": secret, "hex": []byte(hex.EncodeToString(secret)), "base64": []byte(base64.RawStdEncoding.EncodeToString(secret)[:40]),
			} {
				if bytes.Contains(text, needle) {
					t.Errorf("%s: %s of the share crosses the pipe (%s)", id, name, form)
				}
			}
		}
	}
}

func TestWorkerIsHardened(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), self, "worker-hardened").CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// TestWorkerIdles: a worker without work ends, and the next session starts another.
func TestWorkerIdles(t *testing.T) {
	logs := map[party.ID]*logbook{}
	c := clusterOf(t, func(id party.ID) engine.Host {
		h, log := newWorker(t, engine.WorkerConfig{Idle: time.Millisecond})
		logs[id] = log
		return h
	})
	for i := range 2 {
		session, digest := c.prepare(pair), digestOf(fmt.Sprint("idle ", i))
		c.release(session, pair, digest)
		if _, err := c.combine(digest, c.run(session, pair, nil)); err != nil {
			t.Fatal(err)
		}
		logs["alice"].await(t, "worker ended", i+1)
	}
	if n := strings.Count(logs["alice"].String(), "worker started"); n != 2 {
		t.Errorf("%d workers were started, want 2", n)
	}
	if strings.Contains(logs["alice"].String(), "died") {
		t.Error("an idle worker's end was taken for a death")
	}
}

func TestWorkerGarbage(t *testing.T) {
	h, _ := newWorker(t, engine.WorkerConfig{Args: []string{"worker-garbage"}})
	defer h.Close()
	unlockFresh(t, h)
	if err := h.GeneratePreParams(); err != nil {
		t.Fatal(err)
	}
	if e := <-h.Events(); e.Failed == nil || e.Failed.Code != engine.CodeWorkerDied {
		t.Errorf("%+v, want WORKER_DIED", e)
	}
	missing, _ := newWorker(t, engine.WorkerConfig{Path: filepath.Join(t.TempDir(), "none")})
	defer missing.Close()
	unlockFresh(t, missing)
	if err := missing.GeneratePreParams(); err == nil {
		t.Error("a binary that is not there was started")
	}
}

func unlockFresh(t *testing.T, h engine.Host) {
	t.Helper()
	k, err := keyshare.NewWrapKey()
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Unlock(k); err != nil {
		t.Fatal(err)
	}
}

// TestWorkerLies: this side believes no event that its session cannot have.
func TestWorkerLies(t *testing.T) {
	session := fresh()
	out := func(kind string, from, to party.ID, n int) engine.Event {
		return engine.Event{Session: session, Out: &engine.Message{Kind: kind, From: from, To: to, Payload: make([]byte, n)}}
	}
	for name, c := range map[string]struct {
		keygen, released bool
		e                engine.Event
		ok               bool
	}{
		"S3":                         {e: out("S3", "alice", "", 34), ok: true},
		"S2":                         {e: out("S2", "alice", "carol", 34), ok: true},
		"S4 released":                {released: true, e: out("S4", "alice", "", 34), ok: true},
		"S4 before the release":      {e: out("S4", "alice", "", 34)},
		"in another's name":          {e: out("S3", "carol", "", 34)},
		"to a stranger":              {e: out("S2", "alice", "bob", 34)},
		"to itself":                  {e: out("S2", "alice", "alice", 34)},
		"broadcast to one":           {e: out("S3", "alice", "carol", 34)},
		"direct to all":              {e: out("S2", "alice", "", 34)},
		"above the cap":              {e: out("S3", "alice", "", 44)},
		"other protocol":             {e: out("KG3", "alice", "", 34)},
		"no kind":                    {e: out("S9", "alice", "", 34)},
		"partial":                    {released: true, e: engine.Event{Session: session, Partial: &partial.Partial{Session: session}}, ok: true},
		"partial of another session": {released: true, e: engine.Event{Session: session, Partial: &partial.Partial{Session: fresh()}}},
		"partial before the release": {e: engine.Event{Session: session, Partial: &partial.Partial{Session: session}}},
		"share out of signing":       {e: engine.Event{Session: session, Keygen: &engine.KeygenResult{}}},
		"share":                      {keygen: true, e: engine.Event{Session: session, Keygen: &engine.KeygenResult{}}, ok: true},
		"prepared in keygen":         {keygen: true, e: engine.Event{Session: session, Prepared: true}},
		"fault":                      {e: engine.Event{Session: session, Failed: &engine.Fault{Code: "X", Culprits: []party.ID{"carol"}}}, ok: true},
		"a stranger's fault":         {e: engine.Event{Session: session, Failed: &engine.Fault{Code: "X", Culprits: []party.ID{"bob"}}}},
		"own fault":                  {e: engine.Event{Session: session, Failed: &engine.Fault{Code: "X", Culprits: []party.ID{"alice"}}}},
		"progress of a session":      {e: engine.Event{Session: session, Progress: "x"}},
		"search that nobody began":   {e: engine.Event{PreParams: []byte{1}}},
		"gone session":               {e: engine.Event{Session: fresh(), Prepared: true}, ok: true},
	} {
		if err := engine.WorkerTakes(session, "alice", pair, c.keygen, c.released, c.e); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWorkerRefusals(t *testing.T) {
	h, log := newWorker(t, engine.WorkerConfig{})
	if err := h.GeneratePreParams(); !errors.Is(err, engine.ErrSealed) {
		t.Errorf("locked: %v", err)
	}
	unlockFresh(t, h)
	if err := h.Sign(engine.SignConfig{Session: fresh(), Meta: testkeys.Meta("alice"), Signers: signers}); err == nil {
		t.Error("three of two signers accepted")
	}
	session := fresh()
	if err := h.Deliver(session, engine.Message{}); !errors.Is(err, engine.ErrSession) {
		t.Errorf("unknown session: %v", err)
	}
	if strings.Contains(log.String(), "started") {
		t.Error("a refused call started a worker")
	}
	// A share that does not open fails the session, by the worker's word.
	if err := h.Sign(engine.SignConfig{Session: session, Meta: testkeys.Meta("alice"), Signers: pair, Share: []byte("nonsense")}); err != nil {
		t.Fatal(err)
	}
	if e := <-h.Events(); e.Session != session || e.Failed == nil || e.Failed.Code != engine.CodeShare {
		t.Errorf("%+v, want SHARE", e)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if err := h.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if _, open := <-h.Events(); open {
		t.Error("events stay open")
	}
	if err := h.GeneratePreParams(); !errors.Is(err, engine.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

// TestOversizeNeverReachesTheWorker: a peer's message above its cap ends the session here.
func TestOversizeNeverReachesTheWorker(t *testing.T) {
	c := clusterOf(t, func(party.ID) engine.Host {
		h, _ := newWorker(t, engine.WorkerConfig{})
		return h
	})
	c.quiet = true
	session := c.startSign(pair)
	if err := c.hosts["alice"].Deliver(session, engine.Message{Kind: "S3", From: "carol", Payload: make([]byte, 2<<20)}); err != nil {
		t.Fatal(err)
	}
	o := c.run(session, party.Set{"alice"}, func(o *outcome) bool { return o.faults["alice"] != nil })
	if f := o.faults["alice"]; f.Code != engine.GuardPrefix+"SIZE" || len(f.Culprits) != 1 || f.Culprits[0] != "carol" {
		t.Errorf("%v, want GUARD_SIZE by carol", f)
	}
}
