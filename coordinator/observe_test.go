package coordinator_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"coffer/approval"
	"coffer/coordinator"
	"coffer/hook"
	"coffer/internal/cluster"
	"coffer/node"
	pb "coffer/proto/coffer/v1"
)

// logs keeps what each process writes.
type logs struct {
	mu  sync.Mutex
	all map[string]*bytes.Buffer
}

type logOf struct {
	l    *logs
	name string
}

func (l *logs) of(name string) io.Writer { return logOf{l, name} }

func (w logOf) Write(b []byte) (int, error) {
	w.l.mu.Lock()
	defer w.l.mu.Unlock()
	if w.l.all == nil {
		w.l.all = map[string]*bytes.Buffer{}
	}
	if w.l.all[w.name] == nil {
		w.l.all[w.name] = new(bytes.Buffer)
	}
	return w.l.all[w.name].Write(b)
}

// lines are the lines of a process, decoded.
func (l *logs) lines(t testing.TB, name string) (out []map[string]any) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all[name] == nil {
		return nil
	}
	for line := range strings.Lines(l.all[name].String()) {
		m := map[string]any{}
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%s logs %q: %v", name, line, err)
		}
		out = append(out, m)
	}
	return out
}

// The story of one intent, found by its ID in the logs of all processes; and no line
// that names it otherwise.
func TestLogsTellAnIntent(t *testing.T) {
	var l logs
	w := &world{cluster.NewTreasury(t, func(c *cluster.Config) { c.Log = l.of }).Fund(), t}
	id := w.mustSubmit(w.payment("INV-1", 5))
	w.approve(id)
	other := w.mustSubmit(w.payment("INV-2", 5))
	view := w.wantDone(id)
	w.must(w.state("bob", approval.Reject, other))
	w.end(other)

	want := map[string][]string{"desk": {"SUBMITTED", "STATEMENT", "APPROVED", "SESSION", "SIGNED", "ENDED"}}
	for _, name := range view.SignedBy {
		want[name] = []string{"JUDGED", "SIGN_REQUEST", "RELEASE", "PARTIAL"}
	}
	for name, codes := range want {
		var story []string
		for _, line := range l.lines(t, name) {
			if line["intent"] == id.String() && line["msg"] == "recorded" {
				story = append(story, fmt.Sprint(line["code"]))
			}
		}
		at := 0
		for _, code := range story {
			if at < len(codes) && code == codes[at] {
				at++
			}
		}
		if at < len(codes) {
			t.Errorf("%s tells %q, want %q in this order", name, story, codes)
		}
	}
	for _, name := range []string{"a", "b", "c", "desk"} {
		for _, line := range l.lines(t, name) {
			got, ok := line["intent"].(string)
			if ok && len(got) != 64 {
				t.Errorf("%s names an intent %q in %v", name, got, line)
			}
			delete(line, "intent")
			if raw := fmt.Sprint(line); strings.Contains(raw, id.Short()) {
				t.Errorf("%s names the intent in another field than intent: %s", name, raw)
			}
		}
	}
}

func scrape(t testing.TB, address, path string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(raw)
}

// A scrape after a payment, and what the hooks were told of it and of a signer that
// went away.
func TestMetricsAndHooks(t *testing.T) {
	events := make(chan hook.Event, 64)
	w := new(world)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
			return
		}
		e, err := hook.Verify(body, r.Header.Get(hook.HeaderSignature), w.DeskKey.ID())
		if err != nil {
			t.Errorf("%s: %v", body, err)
			return
		}
		events <- *e
	}))
	t.Cleanup(server.Close)
	*w = world{cluster.NewTreasury(t, func(c *cluster.Config) {
		c.Coordinator = func(s *coordinator.Settings) {
			s.MetricsListen, s.Hooks = "127.0.0.1:0", []hook.Setting{{URL: server.URL, On: []string{hook.IntentNeedsYou, hook.IntentEnded, hook.IntentRefused}}}
		}
	}), t}
	w.Fund()
	next := func(name, id string) hook.Event {
		t.Helper()
		select {
		case e := <-events:
			if e.Name != name || e.Intent != id || e.From != "desk" {
				t.Fatalf("event %+v, want %s of %s", e, name, id)
			}
			return e
		case <-time.After(30 * time.Second):
			t.Fatalf("no event %s", name)
			return hook.Event{}
		}
	}
	id := w.mustSubmit(w.payment("INV-1", 5))
	if e := next(hook.IntentNeedsYou, id.String()); !strings.Contains(e.Text, "2 approvals") && !strings.Contains(e.Text, "approvers") {
		t.Errorf("%+v", e)
	}
	w.approve(id)
	w.wantDone(id)
	next(hook.IntentEnded, id.String())
	id = w.mustSubmit(w.payment("INV-2", 5))
	next(hook.IntentNeedsYou, id.String())
	w.must(w.state("bob", approval.Reject, id))
	w.wantEnd(id, pb.Stage_STAGE_FAILED, "REJECTED")
	next(hook.IntentRefused, id.String())

	w.Eventually("ready", func() bool { code, _ := scrape(t, w.Watching, "/readyz"); return code == 200 })
	_, body := scrape(t, w.Watching, "/metrics")
	for _, want := range []string{
		`coffer_coordinator_intents_ended_total{code="",stage="done"} 1`,
		`coffer_coordinator_intents_ended_total{code="REJECTED",stage="failed"} 1`,
		`coffer_coordinator_events_total{code="SIGNED"} 1`,
		`coffer_coordinator_session_seconds_count{outcome="signed"} 1`,
		`coffer_coordinator_signer_up{signer="c"} 1`,
		`coffer_coordinator_chain_up{chain="dev"} 1`,
		`coffer_coordinator_intents_pending{stage="approval"} 0`,
	} {
		if !strings.Contains(body, want+"\n") {
			t.Errorf("%s is missing in\n%s", want, body)
		}
	}
	for _, d := range coordinator.Metrics {
		if !strings.Contains(body, "# TYPE "+d.Name+" "+string(d.Kind)) {
			t.Errorf("%s is not shown", d.Name)
		}
	}
	label := regexp.MustCompile(`="([^"]*)"`)
	for line := range strings.Lines(body) {
		for _, m := range label.FindAllStringSubmatch(line, -1) {
			if len(m[1]) > 40 || strings.ContainsAny(m[1], ": /") {
				t.Errorf("label %q in %s", m[1], line)
			}
		}
	}
	for _, no := range []string{"alice", "bob", "INV-", w.Account.String(), cluster.Supplier, id.String()} {
		if strings.Contains(body, no) {
			t.Errorf("%q is shown", no)
		}
	}
	// Without the chain, and with too few signers, it lives and is not ready.
	w.Gate.Fail("eth_getBlockByNumber", true)
	w.Eventually("not ready without its chain", func() bool {
		code, body := scrape(t, w.Watching, "/readyz")
		return code == 503 && strings.Contains(body, "chain dev")
	})
	w.Gate.Fail("eth_getBlockByNumber", false)
	w.Members["a"].Stop()
	w.Members["b"].Stop()
	w.Eventually("not ready with one signer", func() bool {
		code, body := scrape(t, w.Watching, "/readyz")
		return code == 503 && strings.Contains(body, "too few signers")
	})
	if code, body := scrape(t, w.Watching, "/healthz"); code != 200 {
		t.Errorf("alive: %d %s", code, body)
	}
}

// The spans of one intent from three processes, that hand each other nothing for it,
// are one trace under one root.
func TestTraceOfAnIntent(t *testing.T) {
	type span struct{ process, name, trace, parent, id string }
	var mu sync.Mutex
	var seen []span
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(r.Body)
		req := new(collector.ExportTraceServiceRequest)
		if err == nil {
			err = proto.Unmarshal(raw, req)
		}
		if err != nil {
			t.Error(err)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		for _, rs := range req.ResourceSpans {
			process := ""
			for _, a := range rs.Resource.Attributes {
				if a.Key == "service.instance.id" {
					process = a.Value.GetStringValue()
				}
			}
			for _, ss := range rs.ScopeSpans {
				for _, s := range ss.Spans {
					seen = append(seen, span{process, s.Name, hex.EncodeToString(s.TraceId), hex.EncodeToString(s.ParentSpanId), hex.EncodeToString(s.SpanId)})
				}
			}
		}
	}))
	t.Cleanup(server.Close)
	w := &world{cluster.NewTreasury(t, func(c *cluster.Config) {
		c.Coordinator = func(s *coordinator.Settings) { s.TracesEndpoint = server.URL }
		c.Signer = func(s *node.Settings) { s.TracesEndpoint = server.URL }
	}).Fund(), t}
	id := w.mustSubmit(w.payment("INV-1", 5))
	w.approve(id)
	view := w.wantDone(id)
	want := map[string]string{"desk": "intent"}
	for _, name := range view.SignedBy {
		want[name] = "session"
	}
	w.Eventually("all processes told of it", func() bool {
		mu.Lock()
		defer mu.Unlock()
		told := 0
		for _, s := range seen {
			if s.trace == id.String()[:32] && want[s.process] == s.name {
				told++
			}
		}
		return told == len(want)
	})
	mu.Lock()
	defer mu.Unlock()
	for _, s := range seen {
		root := id.String()[32:48]
		if s.trace != id.String()[:32] {
			continue
		}
		if isRoot := s.name == "intent"; isRoot && (s.id != root || s.parent != "") || !isRoot && s.parent != root {
			t.Errorf("%+v, want the root %s", s, root)
		}
	}
}
