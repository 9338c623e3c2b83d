package hook_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"coffer/canon"
	"coffer/hook"
	"coffer/identity"
)

func hooks(t *testing.T, log io.Writer, settings ...hook.Setting) (*hook.Hooks, *identity.Key) {
	t.Helper()
	if err := hook.Check(settings, hook.OfSigner); err != nil {
		t.Fatal(err)
	}
	key, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	h := hook.New(hook.Config{Settings: settings, Key: key, Role: "signer", Name: "a", Cluster: canon.Digest{7}, Logger: slog.New(slog.NewTextHandler(log, nil))})
	hook.Hurry(h)
	return h, key
}

// run delivers in the background until the test ends.
func run(t *testing.T, h *hook.Hooks) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

type request struct {
	body            []byte
	signature, peer string
}

func TestPost(t *testing.T) {
	got := make(chan request, 8)
	answers := make(chan int, 8)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- request{body, r.Header.Get(hook.HeaderSignature), r.Header.Get(hook.HeaderPeer)}
		w.WriteHeader(<-answers)
	}))
	defer server.Close()
	h, key := hooks(t, io.Discard, hook.Setting{On: []string{hook.SignerAway}, URL: server.URL + "/x"})
	run(t, h)
	h.Fire(hook.Event{Name: hook.IntentNeedsYou}, "") // not wanted
	answers <- 503
	answers <- 429
	answers <- 204
	h.Fire(hook.Event{Name: hook.SignerAway, Subject: "b", Text: "signer b is away"}, "1")
	first, second, third := <-got, <-got, <-got
	if !bytes.Equal(first.body, second.body) || !bytes.Equal(second.body, third.body) {
		t.Error("a further try is another event")
	}
	e, err := hook.Verify(first.body, first.signature, key.ID())
	if err != nil || e.Name != hook.SignerAway || e.Subject != "b" || e.From != "a" || e.Role != "signer" || e.Cluster != (canon.Digest{7}).String() || first.peer != string(key.ID()) {
		t.Errorf("%+v, %v, peer %s", e, err, first.peer)
	}
	until(t, "delivered", func() bool { n, _, _ := h.Counts(); return n == 1 })

	// The same event after a restart has the same ID; what another signed, or what
	// somebody changed, does not verify.
	answers <- 200
	h.Fire(hook.Event{Name: hook.SignerAway, Subject: "b", Text: "still"}, "1")
	again := <-got
	e2, err := hook.Verify(again.body, again.signature, key.ID())
	if err != nil || e2.ID != e.ID {
		t.Errorf("IDs %s and %s, %v", e.ID, e2.ID, err)
	}
	if _, err := hook.Verify(again.body, first.signature, key.ID()); err == nil {
		t.Error("the signature of another event is taken")
	}
	other, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := hook.Verify(first.body, first.signature, other.ID()); err == nil {
		t.Error("the event of another process is taken")
	}
	if _, err := hook.Verify(bytes.Replace(first.body, []byte(`"b"`), []byte(`"c"`), 1), first.signature, key.ID()); err == nil {
		t.Error("a changed event is taken")
	}

	// A receiver that does not want it is not asked again; nor is a redirect followed.
	answers <- 302
	h.Fire(hook.Event{Name: hook.SignerAway}, "")
	<-got
	until(t, "given up", func() bool { _, n, _ := h.Counts(); return n == 1 })
	if len(got) > 0 {
		t.Error("asked again")
	}
}

func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hook.sh")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestExec(t *testing.T) {
	t.Setenv("COFFER_SECRET", "of the daemon")
	out := filepath.Join(t.TempDir(), "out")
	path := script(t, `{ echo "$1"; env; echo BODY; cat; } > "$2.tmp" && mv "$2.tmp" "$2"`)
	h, key := hooks(t, io.Discard, hook.Setting{Exec: []string{path, "an $(argument); as it is", out}})
	run(t, h)
	h.Fire(hook.Event{Name: hook.IntentNeedsYou, Intent: "abc", Text: "`x` $(y)"}, "")
	var raw []byte
	until(t, "the program ran", func() bool { raw, _ = os.ReadFile(out); return len(raw) > 0 })
	head, body, _ := strings.Cut(string(raw), "BODY\n")
	for _, want := range []string{"an $(argument); as it is\n", "COFFER_EVENT=intent_needs_you\n", "COFFER_INTENT=abc\n"} {
		if !strings.Contains(head, want) {
			t.Errorf("%q is missing in\n%s", want, head)
		}
	}
	if strings.Contains(head, "of the daemon") {
		t.Errorf("the daemon's environment reaches the program:\n%s", head)
	}
	_, signature, _ := strings.Cut(head, "COFFER_SIGNATURE=")
	signature, _, _ = strings.Cut(signature, "\n")
	if e, err := hook.Verify([]byte(body), signature, key.ID()); err != nil || e.Text != "`x` $(y)" {
		t.Errorf("%+v, %v", e, err)
	}
}

// A program that hangs, and its children, end; one that fails is heard, cut short.
func TestExecFails(t *testing.T) {
	t.Run("output", func(t *testing.T) {
		var log hook.Safe
		h, _ := hooks(t, &log, hook.Setting{Exec: []string{script(t, "head -c 100000 /dev/zero | tr '\\0' x; exit 3")}})
		run(t, h)
		h.Fire(hook.Event{Name: hook.Alarm}, "")
		until(t, "given up", func() bool { _, n, _ := h.Counts(); return n == 1 })
		if s := log.String(); !strings.Contains(s, "exit status 3") || len(s) > 4000 {
			t.Errorf("%d bytes: %.300s", len(s), s)
		}
	})
	t.Run("hangs", func(t *testing.T) {
		pid := filepath.Join(t.TempDir(), "pid")
		h, _ := hooks(t, io.Discard, hook.Setting{Exec: []string{script(t, "sleep 1000 & echo $! > "+pid+".tmp; mv "+pid+".tmp "+pid+"; wait")}})
		hook.TryWithin(t, h, 300*time.Millisecond)
		run(t, h)
		h.Fire(hook.Event{Name: hook.Alarm}, "")
		until(t, "given up", func() bool { _, n, _ := h.Counts(); return n == 1 })
		raw, err := os.ReadFile(pid)
		if err != nil {
			t.Fatal(err)
		}
		until(t, "its child is gone", func() bool {
			stat, err := os.ReadFile("/proc/" + strings.TrimSpace(string(raw)) + "/stat")
			return err != nil || strings.Contains(string(stat), ") Z ")
		})
	})
}

// Nothing waits for a receiver that does not answer.
func TestQueueIsBounded(t *testing.T) {
	h, _ := hooks(t, io.Discard, hook.Setting{URL: "http://127.0.0.1:1/"}) // nobody runs it
	long := strings.Repeat("ü", 1<<16)                                     // cut, or the queue would hold it
	for range 1000 {
		h.Fire(hook.Event{Name: hook.Alarm, Text: long}, "")
	}
	if _, _, dropped := h.Counts(); dropped != 1000-256 {
		t.Errorf("%d dropped", dropped)
	}
}

// A flood of events about intents leaves room for the others.
func TestIntentsLeaveRoom(t *testing.T) {
	h, _ := hooks(t, io.Discard, hook.Setting{URL: "http://127.0.0.1:1/"}) // nobody runs it
	for range 500 {
		h.Fire(hook.Event{Name: hook.IntentNeedsYou}, "")
		h.Fire(hook.Event{Name: hook.IntentRefused}, "")
	}
	if _, _, dropped := h.Counts(); dropped != 1000-128 {
		t.Fatalf("%d dropped", dropped)
	}
	for _, name := range []string{hook.Alarm, hook.SignerAway, hook.SignerSealed} {
		h.Fire(hook.Event{Name: name}, "")
	}
	if _, _, dropped := h.Counts(); dropped != 1000-128 {
		t.Errorf("%d dropped with the others", dropped)
	}
}

// Alarms are delivered although the daemon ends, and nothing else is; a receiver that
// does not answer keeps it only for a moment.
func TestAlarmBeforeTheEnd(t *testing.T) {
	got := make(chan string, 8)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		e := new(hook.Event)
		if err := json.NewDecoder(r.Body).Decode(e); err != nil {
			t.Error(err)
		}
		got <- e.Name
	}))
	defer server.Close()
	never := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-never }))
	defer silent.Close()
	defer close(never)
	h, _ := hooks(t, io.Discard, hook.Setting{URL: server.URL}, hook.Setting{URL: silent.URL})
	h.Fire(hook.Event{Name: hook.IntentNeedsYou}, "")
	h.Fire(hook.Event{Name: hook.Alarm}, "")
	h.Fire(hook.Event{Name: hook.Alarm}, "")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	begin := time.Now()
	if err := h.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took > 8*time.Second {
		t.Errorf("it ended after %s", took)
	}
	close(got)
	alarms := 0
	for name := range got {
		if name == hook.Alarm {
			alarms++
		}
	}
	if alarms != 2 {
		t.Errorf("%d alarms arrived", alarms)
	}
}

func TestCheck(t *testing.T) {
	program := script(t, "")
	open := script(t, "")
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		setting hook.Setting
		want    string // empty: taken
	}{
		{hook.Setting{URL: "https://example.org/hook?x=1"}, ""},
		{hook.Setting{URL: "http://[::1]:8080"}, ""},
		{hook.Setting{Exec: []string{program, "x"}, On: []string{hook.Alarm}}, ""},
		{hook.Setting{}, "either"},
		{hook.Setting{URL: "https://x", Exec: []string{program}}, "either"},
		{hook.Setting{URL: "http://example.org/"}, "https"},
		{hook.Setting{URL: "ftp://example.org/"}, "https"},
		{hook.Setting{URL: "https://u:p@example.org/"}, "password"},
		{hook.Setting{URL: "https://x", On: []string{"intent_ended"}}, "no event"},
		{hook.Setting{Exec: []string{"hook.sh"}}, "absolute"},
		{hook.Setting{Exec: []string{"/usr/../bin/true"}}, "absolute"},
		{hook.Setting{Exec: []string{plain}}, "chmod +x"},
		{hook.Setting{Exec: []string{open}}, "others"},
		{hook.Setting{Exec: []string{filepath.Dir(program)}}, "not a program"},
		{hook.Setting{Exec: []string{"/nowhere"}}, "no such file"},
	} {
		list := []hook.Setting{c.setting}
		err := hook.Check(list, hook.OfSigner)
		if err == nil {
			err = hook.CheckPrograms(list)
		}
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.setting, err, c.want)
		}
	}
	if err := hook.Check(make([]hook.Setting, 17), hook.OfSigner); err == nil {
		t.Error("17 hooks are taken")
	}
}

// The signed bytes never change: receivers outside verify them.
func TestGolden(t *testing.T) {
	raw, err := os.ReadFile("testdata/event.json")
	if err != nil {
		t.Fatal(err)
	}
	var golden struct {
		Peer      identity.ID `json:"peer"`
		Body      string      `json:"body"`
		Signature string      `json:"signature"`
	}
	if err := json.Unmarshal(raw, &golden); err != nil {
		t.Fatal(err)
	}
	if e, err := hook.Verify([]byte(golden.Body), golden.Signature, golden.Peer); err != nil || e.Name != hook.SignerAway {
		t.Errorf("%+v, %v", e, err)
	}
}
