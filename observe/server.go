package observe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"
)

const (
	// answerWithin bounds each answer, the slowest check of readiness included.
	answerWithin = 5 * time.Second
	maxClients   = 16
	maxScrapes   = 4
	maxHeader    = 8 << 10
)

// CheckListen refuses an address that others than this machine could reach: whoever
// wants the numbers elsewhere runs a collector here.
func CheckListen(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%q is not host:port, such as 127.0.0.1:9464", address)
	}
	if ip, err := netip.ParseAddr(host); err != nil || !ip.IsLoopback() {
		return fmt.Errorf("%q is no loopback address: use 127.0.0.1 or [::1], and a collector on this machine", host)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%q is no port", port)
	}
	return nil
}

// Server answers /metrics, /healthz and /readyz.
type Server struct {
	// Address is loopback; see CheckListen.
	Address string
	// Metrics is what /metrics shows.
	Metrics prometheus.Gatherer
	// Alive says nil while the daemon's own loop turns; a supervisor restarts it otherwise.
	Alive func(context.Context) error
	// Ready says nil while the daemon can do its work, and else what it waits for.
	Ready  func(context.Context) error
	Logger *slog.Logger
	// Listening, if set, is called with the address once it is served.
	Listening func(address string)
}

// Run serves until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	if err := CheckListen(s.Address); err != nil {
		return fmt.Errorf("metrics_listen: %w", err)
	}
	lis, err := net.Listen("tcp", s.Address)
	if err != nil {
		return fmt.Errorf("metrics_listen: %w", err)
	}
	server := &http.Server{
		Handler: s.handler(), ReadTimeout: answerWithin, WriteTimeout: 2 * answerWithin, IdleTimeout: time.Minute, MaxHeaderBytes: maxHeader,
		ErrorLog:    slog.NewLogLogger(s.Logger.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() }) // a scrape that is cut off comes again
	defer stop()
	s.Logger.Info("metrics served", "address", lis.Addr().String())
	if s.Listening != nil {
		s.Listening(lis.Addr().String())
	}
	if err := server.Serve(netutil.LimitListener(lis, maxClients)); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.Metrics, promhttp.HandlerOpts{
		MaxRequestsInFlight: maxScrapes, Timeout: answerWithin, ErrorHandling: promhttp.HTTPErrorOnError,
	}))
	mux.Handle("GET /healthz", question(s.Alive))
	mux.Handle("GET /readyz", question(s.Ready))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// A page of the web that points its own name at 127.0.0.1 is told nothing.
		if !local(r.Host) {
			http.Error(w, "ask by the address 127.0.0.1, [::1] or by localhost", http.StatusMisdirectedRequest)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func local(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

func question(ask func(context.Context) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), answerWithin)
		defer cancel()
		w.Header().Set("Cache-Control", "no-store")
		if err := ask(ctx); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("ok\n")) // who asked may have left
	}
}

// Once is f for its first call only; nil stays nil. A daemon that opens its directory anew
// says where it listens once, whichever time it came that far.
func Once(f func(address string)) func(address string) {
	if f == nil {
		return nil
	}
	var once sync.Once
	return func(address string) { once.Do(func() { f(address) }) }
}
