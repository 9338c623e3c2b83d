package node_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"coffer/hook"
	"coffer/internal/cluster"
	"coffer/node"
	"coffer/party"
	pb "coffer/proto/coffer/v1"
)

// get asks a signer's loopback address.
func get(t testing.TB, address, path string) (code int, body string) {
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

var labelValue = regexp.MustCompile(`([a-z_]+)="([^"]*)"`)

// A scrape after a payment, a refusal and a session that failed: the numbers are
// there, and nothing that others chose or that is nobody's business.
func TestMetricsAfterPayment(t *testing.T) {
	w := newWorld(t, cluster.Config{Signer: func(s *node.Settings) { s.MetricsListen = "127.0.0.1:0" }})
	o := w.payment()
	w.mustSign(o, "a", "b")
	much := w.Payment(w.record, "TOO-MUCH", 77, 990)
	w.expect(w.session(t.Context(), w.order(much), "a", "b"), map[party.ID]string{"a": "G-POLICY", "b": "G-POLICY"})

	a := w.Members["a"].Metrics
	code, body := get(t, a, "/metrics")
	if code != 200 {
		t.Fatalf("%d: %s", code, body)
	}
	for _, want := range []string{
		`coffer_signer_sealed 0`,
		`coffer_signer_peer_connected{peer="b"} 1`,
		`coffer_signer_wallets 1`,
		`coffer_signer_events_total{code="PARTIAL"} 1`,
		`coffer_signer_runs_total{code="",kind="session",outcome="done"} 1`,
		`coffer_signer_runs_total{code="",kind="ceremony",outcome="done"} 1`,
		`coffer_signer_verdicts_total{check="G-POLICY",outcome="refuse",request="SIGN_REQUEST"} 1`,
		`coffer_signer_write_failed{what="audit"} 0`,
		`coffer_signer_stage_seconds_count{kind="session",stage="bind"} 1`,
	} {
		if !strings.Contains(body, want+"\n") {
			t.Errorf("%s is missing", want)
		}
	}
	for _, d := range node.Metrics {
		if !strings.Contains(body, "# TYPE "+d.Name+" "+string(d.Kind)) {
			t.Errorf("%s is not shown", d.Name)
		}
	}
	account := w.Payment(w.record, "x", 0, 1).Account
	for _, no := range []string{cluster.Passphrase, account, cluster.Supplier, "alice", "bob", "INV-", "TOO-MUCH", w.record.Name} {
		if strings.Contains(body, no) {
			t.Errorf("%q is shown", no)
		}
	}
	form := regexp.MustCompile(`^[A-Za-z0-9_.+-]{0,40}$`)
	own := map[string]bool{"peer": true, "code": true, "kind": true, "outcome": true, "check": true, "request": true, "stage": true, "what": true, "signer": true, "version": true, "le": true, "scope": true}
	for line := range strings.Lines(body) {
		if !strings.HasPrefix(line, "coffer_") {
			continue
		}
		for _, m := range labelValue.FindAllStringSubmatch(line, -1) {
			if !own[m[1]] || !form.MatchString(m[2]) {
				t.Errorf("label %s=%q in %s", m[1], m[2], line)
			}
		}
	}
	if n := strings.Count(body, "\ncoffer_"); n > 400 {
		t.Errorf("%d lines", n)
	}
}

// Alive and ready are two questions.
func TestReadiness(t *testing.T) {
	w := &world{t: t, Cluster: cluster.New(t, cluster.Config{Signer: func(s *node.Settings) { s.MetricsListen = "127.0.0.1:0" }})}
	a := w.Members["a"]
	if code, body := get(t, a.Metrics, "/readyz"); code != 200 {
		t.Errorf("ready: %d %s", code, body)
	}
	w.Net.Cut("a", "b")
	if code, body := get(t, a.Metrics, "/readyz"); code != 200 {
		t.Errorf("one signer away, two are needed: %d %s", code, body)
	}
	w.Net.Cut("a", "c")
	if code, body := get(t, a.Metrics, "/readyz"); code != 503 || !strings.Contains(body, "b, c away") {
		t.Errorf("alone: %d %s", code, body)
	}
	a.Stop()
	a.StartSealed(true)
	if code, body := get(t, a.Metrics, "/readyz"); code != 503 || !strings.Contains(body, "sealed") {
		t.Errorf("sealed: %d %s", code, body)
	}
	if code, body := get(t, a.Metrics, "/healthz"); code != 200 {
		t.Errorf("sealed and alive: %d %s", code, body)
	}
}

// An operator hears, signed by the signer, of what waits for people, of what is
// refused, and that it is sealed; once each.
func TestHooks(t *testing.T) {
	events := make(chan hook.Event, 64)
	w := new(world)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
			return
		}
		a, _ := w.Charter.Signer("a")
		e, err := hook.Verify(body, r.Header.Get(hook.HeaderSignature), a.Peer)
		if err != nil {
			t.Errorf("%s: %v", body, err)
			return
		}
		events <- *e
	}))
	t.Cleanup(server.Close)
	*w = *newWorld(t, cluster.Config{Signer: func(s *node.Settings) {
		if s.Name == "a" {
			s.Hooks = []hook.Setting{{URL: server.URL}}
		}
	}})
	next := func(name string) hook.Event {
		t.Helper()
		select {
		case e := <-events:
			if e.Name != name {
				t.Fatalf("event %+v, want %s", e, name)
			}
			return e
		case <-time.After(20 * time.Second):
			t.Fatalf("no event %s", name)
			return hook.Event{}
		}
	}
	o := w.payment()
	id := mustParse(t, o).Digest().String()
	for range 2 { // asked twice, told once
		if _, err := w.Members["a"].API().Judge(t.Context(), &pb.JudgeRequest{Intent: o.intent.ToProto()}); err != nil {
			t.Fatal(err)
		}
	}
	if e := next(hook.IntentNeedsYou); e.Intent != id || e.From != "a" || !strings.Contains(e.Text, "approvers") {
		t.Errorf("%+v", e)
	}
	w.judge("a", w.order(w.Payment(w.record, "TOO-MUCH", 77, 990)))
	if e := next(hook.IntentRefused); !strings.Contains(e.Text, "G-POLICY") {
		t.Errorf("%+v", e)
	}
	if _, err := w.Members["a"].Operator().Seal(t.Context(), &pb.SealRequest{}); err != nil {
		t.Fatal(err)
	}
	next(hook.SignerSealed)
	if len(events) > 0 {
		t.Errorf("one more: %+v", <-events)
	}
}
