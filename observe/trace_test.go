package observe_test

import (
	"bytes"
	"encoding/hex"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	spans "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"coffer/canon"
	"coffer/observe"
)

// Two processes that never spoke tell of one intent: one trace, one root.
func TestTracesMeet(t *testing.T) {
	var mu sync.Mutex
	got := map[string]*spans.Span{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(r.Body)
		req := new(collector.ExportTraceServiceRequest)
		if err == nil {
			err = proto.Unmarshal(raw, req)
		}
		if err != nil || r.URL.Path != "/v1/traces" {
			t.Errorf("%s: %v", r.URL.Path, err)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, rs := range req.ResourceSpans {
			for _, ss := range rs.ScopeSpans {
				for _, s := range ss.Spans {
					got[s.Name] = s
				}
			}
		}
	}))
	defer server.Close()
	intent := canon.Sum([]byte("an intent"))
	begin := time.Now().Add(-time.Minute)
	for _, name := range []string{"coordinator", "signer"} {
		tracer, err := observe.NewTracer(t.Context(), server.URL, observe.Source{Service: "coffer-" + name, Name: "x", Version: "v"}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if name == "coordinator" {
			tracer.Root(intent, "intent", begin, "")
		} else {
			tracer.Span(intent, "session", begin, "PEER_AWAY", "stage", "bind")
		}
		tracer.Close()
	}
	mu.Lock()
	defer mu.Unlock()
	root, child := got["intent"], got["session"]
	if root == nil || child == nil {
		t.Fatalf("spans: %v", got)
	}
	if want := intent.String()[:32]; hex.EncodeToString(root.TraceId) != want || hex.EncodeToString(child.TraceId) != want {
		t.Errorf("traces %x and %x, want %s", root.TraceId, child.TraceId, want)
	}
	if !bytes.Equal(child.ParentSpanId, root.SpanId) || len(root.ParentSpanId) != 0 || bytes.Equal(child.SpanId, root.SpanId) {
		t.Errorf("root %x, child %x of %x", root.SpanId, child.SpanId, child.ParentSpanId)
	}
	if child.Status.GetMessage() != "PEER_AWAY" || root.StartTimeUnixNano != uint64(begin.UnixNano()) {
		t.Errorf("status %v, begin %d", child.Status, root.StartTimeUnixNano)
	}
}

// A collector that is away costs one line of the log and no time.
func TestTracesDropped(t *testing.T) {
	var log bytes.Buffer
	tracer, err := observe.NewTracer(t.Context(), "http://127.0.0.1:1", observe.Source{}, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		tracer.Span(canon.Digest{1}, "x", time.Now(), "")
	}
	tracer.Close()
	if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), "collector does not answer") {
		t.Errorf("log: %s", &log)
	}
}

func TestNoTracer(t *testing.T) {
	tracer, err := observe.NewTracer(t.Context(), "", observe.Source{}, nil)
	if err != nil || tracer != nil {
		t.Fatal(tracer, err)
	}
	tracer.Span(canon.Digest{1}, "x", time.Now(), "")
	tracer.Root(canon.Digest{1}, "x", time.Now(), "")
	tracer.Close()
	for _, bad := range []string{"127.0.0.1:4318", "ftp://x", "https://user:secret@x", "ftp://user:secret@x", "http://"} {
		if _, err := observe.NewTracer(t.Context(), bad, observe.Source{}, nil); err == nil {
			t.Errorf("%q is taken", bad)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("the error shows a password: %v", err)
		}
	}
}
