package passkey

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"coffer/credential"
)

const (
	maxBody = 64 << 10
	// poll is for how long a question of the page for what is next stays open.
	poll = 20 * time.Second
	// farewell is for how long an ended page is still told how it ended.
	farewell = 2 * time.Second
	cookie   = "coffer-page"
	// A request of the page names a fresh value, and the reply proves by it that it
	// comes from the program that served the page.
	askedHeader = "Coffer-Asked"
	proofHeader = "Coffer-Proof"
	maxAsked    = 64
)

// step is what the page does next.
type step struct {
	Do         string   `json:"do"` // choose, create, get, wait, done
	Text       string   `json:"text,omitempty"`
	OK         bool     `json:"ok,omitempty"`
	Challenge  string   `json:"challenge,omitempty"`
	RP         string   `json:"rp,omitempty"`
	IDs        []string `json:"ids,omitempty"`
	User       string   `json:"user,omitempty"`
	Name       string   `json:"name,omitempty"`
	Algorithms []int    `json:"algorithms,omitempty"`
	Timeout    int64    `json:"timeout,omitempty"` // milliseconds
}

// answer is what the authenticator said, in base64url.
type answer struct {
	ID                string `json:"id"`
	Attestation       string `json:"attestation,omitempty"`
	AuthenticatorData string `json:"authenticatorData,omitempty"`
	ClientData        string `json:"clientData"`
	Signature         string `json:"signature,omitempty"`
}

// server is one page. Its state is the step that the page is at; whoever changes it
// wakes the page's open question.
type server struct {
	page   Page
	host   string // localhost:PORT
	token  string
	key    []byte // in the page, and never sent back: see reply
	http   *http.Server
	errs   chan error
	listen []net.Listener

	mu      sync.Mutex
	now     step
	changed chan struct{} // closed at the next change
	owner   string        // cookie of the browser that opened the page first
	choice  chan string
	answers chan answer
	told    bool // the page knows that it is done
}

func random() string {
	b := make([]byte, 32)
	if _, err := rand.Read(b); err != nil {
		panic(err) // crypto/rand never fails
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// loopback listens on the same free port of both of this machine's own addresses: a
// browser tries either, and no other program may stand behind the other.
func loopback(ctx context.Context) ([]net.Listener, string, error) {
	var config net.ListenConfig
	var last error
	for range 20 {
		four, err := config.Listen(ctx, "tcp4", "127.0.0.1:0")
		if err != nil {
			return nil, "", fmt.Errorf("serve the page on 127.0.0.1: %w", err)
		}
		_, port, err := net.SplitHostPort(four.Addr().String())
		if err != nil {
			return nil, "", errors.Join(err, four.Close())
		}
		six, err := config.Listen(ctx, "tcp6", "[::1]:"+port)
		switch {
		case err == nil:
			return []net.Listener{four, six}, port, nil
		case !errors.Is(err, syscall.EADDRINUSE):
			// This machine has no IPv6, nor has its browser.
			return []net.Listener{four}, port, nil
		}
		last = errors.Join(err, four.Close())
	}
	return nil, "", fmt.Errorf("serve the page: no port is free on both 127.0.0.1 and ::1: %w", last)
}

func serve(ctx context.Context, page Page) (*server, error) {
	listeners, port, err := loopback(ctx)
	if err != nil {
		return nil, err
	}
	s := &server{
		page: page, host: credential.Localhost + ":" + port, token: random(), key: []byte(random()), listen: listeners, errs: make(chan error, len(listeners)),
		now: step{Do: "choose"}, changed: make(chan struct{}), choice: make(chan string, 1), answers: make(chan answer, 1),
	}
	mux := http.NewServeMux()
	at := "/" + s.token + "/"
	mux.HandleFunc("GET "+at+"{$}", s.show)
	mux.HandleFunc("POST "+at+"next", s.next)
	mux.HandleFunc("POST "+at+"choose", s.choose)
	mux.HandleFunc("POST "+at+"answer", s.answer)
	s.http = &http.Server{
		Handler: s.guard(mux), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: time.Minute,
		MaxHeaderBytes: 16 << 10,
		// What strangers send is no news for a person's terminal.
		ErrorLog: nil,
	}
	s.http.ErrorLog = quiet
	for _, l := range listeners {
		go func() { s.errs <- s.http.Serve(l) }()
	}
	return s, nil
}

func (s *server) origin() string { return "http://" + s.host }
func (s *server) url() string    { return s.origin() + "/" + s.token + "/" }

// guard refuses what does not come from the page, before anything is read.
func (s *server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		nonce := random()
		headers(w.Header(), nonce)
		refuse := func(code int, text string) { http.Error(w, text, code) }
		// A name that somebody else made point here has another Host.
		if r.Host != s.host {
			refuse(http.StatusMisdirectedRequest, "this page is at http://localhost only")
			return
		}
		token, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		if subtle.ConstantTimeCompare([]byte(token), []byte(s.token)) != 1 {
			refuse(http.StatusNotFound, "there is no such page")
			return
		}
		site := r.Header.Get("Sec-Fetch-Site")
		if r.Method == http.MethodPost {
			kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
			switch {
			case r.Header.Get("Origin") != s.origin(), site != "" && site != "same-origin":
				refuse(http.StatusForbidden, "this comes from another page")
				return
			case kind != "application/json":
				refuse(http.StatusUnsupportedMediaType, "send JSON")
				return
			case len(r.Header.Get(askedHeader)) > maxAsked:
				refuse(http.StatusBadRequest, "the request names too much")
				return
			case !s.owns(r):
				refuse(http.StatusForbidden, "the page is open in another browser")
				return
			}
		} else if site != "" && site != "none" && site != "same-origin" {
			// Opened by a link or frame of another site, which would know the address then.
			refuse(http.StatusForbidden, "open the address that coffer printed yourself")
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), nonceKey{}, nonce)))
	})
}

type nonceKey struct{}

func (s *server) owns(r *http.Request) bool {
	c, err := r.Cookie(cookie)
	s.mu.Lock()
	defer s.mu.Unlock()
	return err == nil && s.owner != "" && subtle.ConstantTimeCompare([]byte(c.Value), []byte(s.owner)) == 1
}

// show serves the page to the first browser that asks, and to it again.
func (s *server) show(w http.ResponseWriter, r *http.Request) {
	if !s.owns(r) {
		s.mu.Lock()
		taken := s.owner != ""
		if !taken {
			s.owner = random()
		}
		value := s.owner
		s.mu.Unlock()
		if taken {
			http.Error(w, "the page is open in another browser: if that was not you, end coffer and call your operators", http.StatusForbidden)
			return
		}
		// Cookies know no ports: the path keeps those of two pages apart.
		http.SetCookie(w, &http.Cookie{Name: cookie, Value: value, Path: "/" + s.token + "/", HttpOnly: true, SameSite: http.SameSiteStrictMode})
	}
	nonce, _ := r.Context().Value(nonceKey{}).(string)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_ = pageTemplate.Execute(w, render(s.page, nonce, string(s.key)))
}

func (s *server) set(next step) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = next
	close(s.changed)
	s.changed = make(chan struct{})
}

// reply answers a request of the page. This program may end while its page is open, and
// another user's then take the port: the page carries the cookie to it and would have the
// passkey sign whatever that one names, under the text of this one. So each reply is
// proved by a key that is in the page alone, over what the request named.
func (s *server) reply(w http.ResponseWriter, r *http.Request, next step) {
	body, err := json.Marshal(next)
	if err != nil {
		http.Error(w, "the answer cannot be written", http.StatusInternalServerError)
		return
	}
	proof := hmac.New(sha256.New, s.key)
	proof.Write([]byte(r.Header.Get(askedHeader)))
	proof.Write([]byte{'\n'})
	proof.Write(body)
	w.Header().Set(proofHeader, base64.RawURLEncoding.EncodeToString(proof.Sum(nil)))
	w.Header().Set("Content-Type", "application/json")
	if _, err := w.Write(body); err == nil && next.Do == "done" {
		s.mu.Lock()
		s.told = true
		s.mu.Unlock()
	}
}

// next answers what the page does now, once that is another thing than it does already.
func (s *server) next(w http.ResponseWriter, r *http.Request) {
	var body struct {
		At string `json:"at"`
	}
	if err := read(r, &body); err != nil {
		http.Error(w, "the question cannot be read", http.StatusBadRequest)
		return
	}
	s.await(w, r, body.At)
}

func (s *server) await(w http.ResponseWriter, r *http.Request, at string) {
	limit := time.NewTimer(poll)
	defer limit.Stop()
	for {
		s.mu.Lock()
		now, changed := s.now, s.changed
		s.mu.Unlock()
		if now.Do != "wait" && now.Do != at {
			s.reply(w, r, now)
			return
		}
		select {
		case <-changed:
		case <-limit.C:
			s.reply(w, r, now)
			return
		case <-r.Context().Done():
			return
		}
	}
}

func read(r *http.Request, into any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one value")
	}
	return nil
}

func (s *server) choose(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Choice string `json:"choice"`
	}
	if err := read(r, &body); err != nil || !slices.Contains(s.page.Choices, body.Choice) {
		http.Error(w, "there is no such choice", http.StatusBadRequest)
		return
	}
	if !s.leave("choose") {
		http.Error(w, "something was chosen already", http.StatusConflict)
		return
	}
	s.choice <- body.Choice
	s.await(w, r, "")
}

func (s *server) answer(w http.ResponseWriter, r *http.Request) {
	var body answer
	if err := read(r, &body); err != nil {
		http.Error(w, "the answer cannot be read", http.StatusBadRequest)
		return
	}
	if !s.leave("get", "create") {
		http.Error(w, "nothing was asked", http.StatusConflict)
		return
	}
	s.answers <- body
	s.await(w, r, "")
}

// leave goes from one of some steps to waiting, once.
func (s *server) leave(from ...string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(from, s.now.Do) {
		return false
	}
	s.now = step{Do: "wait"}
	return true
}

// end tells the page how it ended and stops serving.
func (s *server) end(text string, ok bool) {
	s.mu.Lock()
	opened := s.owner != ""
	s.mu.Unlock()
	s.set(step{Do: "done", Text: text, OK: ok})
	if opened {
		// The page asks again at once; it has a moment to hear.
		ctx, cancel := context.WithTimeout(context.Background(), farewell)
		defer cancel()
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for waiting := true; waiting; {
			s.mu.Lock()
			waiting = !s.told
			s.mu.Unlock()
			select {
			case <-tick.C:
			case <-ctx.Done():
				waiting = false
			}
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), farewell)
	defer cancel()
	if s.http.Shutdown(ctx) != nil {
		_ = s.http.Close()
	}
}
