package coordinator_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"coffer/approval"
	"coffer/coordinator"
	"coffer/hook"
	"coffer/internal/anchor"
	"coffer/internal/cluster"
	pb "coffer/proto/coffer/v1"
	"coffer/store"
)

// goroutines says what runs in this process.
func goroutines() string {
	buf := make([]byte, 4<<20)
	return string(buf[:runtime.Stack(buf, true)])
}

// A coordinator whose store takes no write ends, and its hooks have heard why. One that
// finds it so at its start leaves nothing behind.
func TestBrokenStore(t *testing.T) {
	alarms := make(chan hook.Event, 16)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var e hook.Event
		if err := json.NewDecoder(r.Body).Decode(&e); err != nil {
			t.Error(err)
		}
		alarms <- e
	}))
	defer server.Close()
	w := &world{cluster.NewTreasury(t, func(c *cluster.Config) {
		c.Coordinator = func(s *coordinator.Settings) {
			s.Hooks = []hook.Setting{{URL: server.URL, On: []string{hook.Alarm}}}
		}
	}), t}
	w.StopDesk()
	ready := make(chan string, 1)
	start := func() *coordinator.Coordinator {
		c, err := coordinator.New(coordinator.Config{Dir: w.Desk, Logger: slog.New(slog.DiscardHandler), Ready: func(address string) { ready <- address }})
		w.must(err)
		return c
	}
	run := func(c *coordinator.Coordinator) error {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		return c.Run(ctx)
	}

	c := start()
	ended := make(chan error, 1)
	go func() { ended <- run(c) }()
	address := <-ready
	if err := coordinator.Break(c); err == nil {
		t.Fatal("the store is not broken")
	}
	if err := <-ended; !errors.Is(err, store.ErrFailed) {
		t.Errorf("it ended with %v", err)
	}
	_ = c.Close() // it says again that the store is gone
	if len(alarms) == 0 {
		t.Fatal("nobody was alarmed before it ended")
	}
	if e := <-alarms; e.Name != hook.Alarm || !strings.Contains(e.Text, "cannot write") {
		t.Errorf("%+v", e)
	}

	c = start()
	_ = coordinator.Break(c)
	if err := run(c); err == nil {
		t.Error("it ran without its store")
	}
	if all := goroutines(); strings.Contains(all, "coordinator.(*Coordinator).watchSigner") || strings.Contains(all, "coordinator.(*Coordinator).tellSigner") {
		t.Errorf("something still runs:\n%s", all)
	}
	if _, err := os.Stat(w.Desk.Socket()); err == nil {
		t.Error("the operator's socket is left")
	}
	if conn, err := net.Dial("tcp", address); err == nil {
		_ = conn.Close()
		t.Error("somebody still listens")
	}
	_ = c.Close()
}

// A store that is older than the log, or missing, can be rebuilt: start and doctor say so.
func TestRebuildIsNamed(t *testing.T) {
	w := newFunded(t)
	w.StopDesk()
	old, err := os.ReadFile(w.Desk.Store())
	w.must(err)
	w.StartDesk()
	id := w.mustSubmit(w.payment("NEWER", 1))
	w.must(w.state("bob", approval.Reject, id))
	w.wantEnd(id, pb.Stage_STAGE_FAILED, "REJECTED")
	w.StopDesk()
	w.must(os.WriteFile(w.Desk.Store(), old, 0o600))
	if _, err := coordinator.New(coordinator.Config{Dir: w.Desk, Logger: slog.New(slog.DiscardHandler)}); !errors.Is(err, anchor.ErrOlder) || !strings.Contains(err.Error(), "--rebuild") {
		t.Errorf("an older store: %v", err)
	}
	named := func() bool {
		for _, f := range coordinator.Doctor(w.Desk) {
			if f.Subject == "store" && strings.Contains(f.Remedy, "coffer-coordinator run --rebuild") {
				return true
			}
		}
		return false
	}
	if named() {
		t.Error("the doctor misses a store that is there")
	}
	w.must(os.Remove(w.Desk.Store()))
	if !named() {
		t.Error("the doctor does not miss the store")
	}
}
