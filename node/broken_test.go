package node_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"coffer/engine"
	"coffer/engine/enginetest"
	"coffer/hook"
	"coffer/internal/cluster"
	"coffer/node"
	"coffer/store"
	"coffer/transport"
)

// A signer whose store takes no write ends, and its hooks have heard why.
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
	w := newWorld(t, cluster.Config{Signer: func(s *node.Settings) {
		if s.Name == "a" {
			s.Hooks = []hook.Setting{{URL: server.URL, On: []string{hook.Alarm}}}
		}
	}})
	w.Members["a"].Stop()
	ready := make(chan struct{})
	n, err := node.New(node.Config{
		Dir: w.Members["a"].Dir, Logger: slog.New(slog.DiscardHandler), Ready: func(string) { close(ready) },
		Host: func() (engine.Host, error) { return enginetest.New(), nil },
		Link: func(node.Peers) (transport.Link, error) { return w.Net.Link("a") },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	<-ready
	if err := node.Break(n); err == nil {
		t.Fatal("the store is not broken")
	}
	if err := <-ended; !errors.Is(err, store.ErrFailed) {
		t.Errorf("it ended with %v", err)
	}
	_ = n.Close() // it says again that the store is gone
	if len(alarms) == 0 {
		t.Fatal("nobody was alarmed before it ended")
	}
	if e := <-alarms; e.Name != hook.Alarm || !strings.Contains(e.Text, "cannot write") {
		t.Errorf("%+v", e)
	}
}
