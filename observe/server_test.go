package observe_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"coffer/observe"
)

func TestCheckListen(t *testing.T) {
	for _, good := range []string{"127.0.0.1:9464", "[::1]:0", "127.9.9.9:1"} {
		if err := observe.CheckListen(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{"", "9464", ":9464", "0.0.0.0:9464", "[::]:9464", "10.0.0.1:9464", "example.org:9464", "localhost:9464", "127.0.0.1:99999", "127.0.0.1:http"} {
		if err := observe.CheckListen(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func serve(t *testing.T, s *observe.Server) string {
	t.Helper()
	address := make(chan string, 1)
	s.Address, s.Logger, s.Listening = "127.0.0.1:0", slog.New(slog.DiscardHandler), func(a string) { address <- a }
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	select {
	case a := <-address:
		return a
	case err := <-done:
		done <- err
		t.Fatal(err)
		return ""
	}
}

func get(t *testing.T, method, address, path, host string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+address+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if host != "" {
		req.Host = host
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestServer(t *testing.T) {
	registry := prometheus.NewRegistry()
	counter := prometheus.NewCounter(prometheus.CounterOpts{Name: "coffer_test_total", Help: "x"})
	registry.MustRegister(counter)
	counter.Add(3)
	var waits atomic.Bool
	address := serve(t, &observe.Server{
		Metrics: registry,
		Alive:   func(context.Context) error { return nil },
		Ready: func(context.Context) error {
			if waits.Load() {
				return errors.New("sealed")
			}
			return nil
		},
	})
	if code, body := get(t, "GET", address, "/metrics", ""); code != 200 || !strings.Contains(body, "coffer_test_total 3") {
		t.Errorf("metrics: %d %s", code, body)
	}
	if code, body := get(t, "GET", address, "/readyz", ""); code != 200 || body != "ok\n" {
		t.Errorf("ready: %d %q", code, body)
	}
	waits.Store(true)
	if code, body := get(t, "GET", address, "/readyz", ""); code != 503 || !strings.Contains(body, "sealed") {
		t.Errorf("not ready: %d %q", code, body)
	}
	if code, _ := get(t, "GET", address, "/healthz", "localhost:1"); code != 200 {
		t.Errorf("alive: %d", code)
	}
}

// What a browser on the machine could be made to ask is refused.
func TestServerRefuses(t *testing.T) {
	yes := func(context.Context) error { return nil }
	address := serve(t, &observe.Server{Metrics: prometheus.NewRegistry(), Alive: yes, Ready: yes})
	for _, c := range []struct {
		method, path, host string
		want               int
	}{
		{"GET", "/metrics", "evil.example", 421},
		{"GET", "/metrics", "evil.example:9464", 421},
		{"GET", "/healthz", "127.0.0.1.evil.example", 421},
		{"POST", "/metrics", "", 405},
		{"DELETE", "/healthz", "", 405},
		{"GET", "/", "", 404},
		{"GET", "/debug/pprof/", "", 404},
	} {
		if code, _ := get(t, c.method, address, c.path, c.host); code != c.want {
			t.Errorf("%+v: %d", c, code)
		}
	}
}

func TestOnce(t *testing.T) {
	var heard []string
	f := observe.Once(func(a string) { heard = append(heard, a) })
	f("first")
	f("second")
	if len(heard) != 1 || heard[0] != "first" || observe.Once(nil) != nil {
		t.Errorf("heard %v", heard)
	}
}
