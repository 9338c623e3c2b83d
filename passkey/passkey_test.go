package passkey_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"coffer/canon"
	"coffer/credential"
	"coffer/credential/credentialtest"
	"coffer/passkey"
)

const namespace = "coffer-statement-v1"

var message = func() []byte {
	d := canon.New("coffer/test/v1").String("what is signed").Sum()
	return d[:]
}()

var page = passkey.Page{
	Title: "Approve intent 1a2b3c",
	Lines: []passkey.Line{{"kind", "transfer"}, {"amount", "1.5 ETH"}, {"to", `<script>alert("x")</script>`}, {"signer a", "would sign"}, {"signer b", "refuses: over the limit"}, {"missing", "one of security"}},
	Note:  "The touch signs your approval.", Choices: []string{"approve", "reject"},
}

// terminal is where the address is printed.
type terminal struct {
	mu   sync.Mutex
	text bytes.Buffer
	once sync.Once
	url  chan string
}

func newTerminal() *terminal { return &terminal{url: make(chan string, 1)} }

var address = regexp.MustCompile(`http://localhost:\d+/[A-Za-z0-9_-]{43}/`)

func (w *terminal) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text.Write(b)
	if u := address.FindString(w.text.String()); u != "" {
		w.once.Do(func() { w.url <- u })
	}
	return len(b), nil
}

type step struct {
	Do         string
	Text       string
	OK         bool
	Challenge  string
	RP         string
	IDs        []string
	User, Name string
	Algorithms []int
	Timeout    int64
}

// browser does what the page's script does.
type browser struct {
	t    testing.TB
	http *http.Client
	url  string
}

func open(t testing.TB, url string) (*browser, string, http.Header) {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	b := &browser{t, &http.Client{Jar: jar, Timeout: 30 * time.Second}, url}
	reply, err := b.http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	if err != nil || reply.StatusCode != http.StatusOK {
		t.Fatalf("%s: %v\n%s", reply.Status, err, text)
	}
	return b, string(text), reply.Header
}

func (b *browser) origin() string {
	u, err := url.Parse(b.url)
	if err != nil {
		b.t.Fatal(err)
	}
	return "http://" + u.Host
}

func (b *browser) request(path string, body any) *http.Request {
	raw, err := json.Marshal(body)
	if err != nil {
		b.t.Fatal(err)
	}
	r, err := http.NewRequest(http.MethodPost, b.url+path, bytes.NewReader(raw))
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Origin", b.origin())
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	return r
}

func (b *browser) try(r *http.Request) (int, step, error) {
	reply, err := b.http.Do(r)
	if err != nil {
		return 0, step{}, err
	}
	defer reply.Body.Close()
	var s step
	if reply.StatusCode == http.StatusOK {
		err = json.NewDecoder(reply.Body).Decode(&s)
	}
	return reply.StatusCode, s, err
}

func (b *browser) post(path string, body any) step {
	b.t.Helper()
	code, s, err := b.try(b.request(path, body))
	if code != http.StatusOK || err != nil {
		b.t.Fatalf("%s: %d, %v", path, code, err)
	}
	return s
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// touch has an authenticator answer what the page was told to ask.
func (b *browser) touch(a *credentialtest.Authenticator, s step) map[string]string {
	b.t.Helper()
	if digest := credential.Challenge(namespace, message); s.Do != "get" || s.Challenge != b64(digest[:]) || s.RP != "localhost" || s.Timeout <= 0 {
		b.t.Fatalf("the page is told %+v", s)
	}
	a.Origin = b.origin()
	got, err := a.Assert(namespace, message)
	if err != nil {
		b.t.Fatal(err)
	}
	return map[string]string{"id": b64(a.Key().CredentialID()), "authenticatorData": b64(got.AuthenticatorData), "clientData": b64(got.ClientData), "signature": b64(got.Signature)}
}

type result struct {
	choice string
	sig    []byte
	err    error
}

// approve shows a page, and signs if its first choice is taken.
func approve(ctx context.Context, w io.Writer, s *passkey.Signer) <-chan result {
	out := make(chan result, 1)
	go func() {
		choice, err := s.Ask(ctx, w, page)
		if err != nil || choice != page.Choices[0] {
			s.Close("You chose "+choice+".", nil)
			out <- result{choice, nil, err}
			return
		}
		sig, err := s.Sign(namespace, message)
		s.Close("Your approval is with the coordinator.", err)
		out <- result{choice, sig, err}
	}()
	return out
}

func signer(t testing.TB, keys ...credential.Key) *passkey.Signer {
	t.Helper()
	s, err := passkey.New(keys, 20*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestApprove(t *testing.T) {
	a, other := credentialtest.NewAuthenticator(t, "alice"), credentialtest.NewAuthenticator(t, "alice's other")
	w := newTerminal()
	s := signer(t, other.Key(), a.Key())
	done := approve(t.Context(), w, s)
	b, text, head := open(t, <-w.url)

	for _, want := range []string{"Approve intent 1a2b3c", "1.5 ETH", "&lt;script&gt;alert", "would sign", `class="row good `, `class="row bad `, `class="row wait `, `data-choice="approve"`, `data-choice="reject"`, `lang="en"`, `role="status"`} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(text, `<script>alert`) || strings.Count(text, "<script") != 1 || regexp.MustCompile(`https?://`).MatchString(text) {
		t.Error("the page holds markup of a label, or an address outside")
	}
	policy := head.Get("Content-Security-Policy")
	nonce := regexp.MustCompile(`<script nonce="([^"]+)"`).FindStringSubmatch(text)
	if nonce == nil || !strings.Contains(policy, "default-src 'none'") || !strings.Contains(policy, "script-src 'nonce-"+nonce[1]+"'") || strings.Contains(policy, "unsafe") || !strings.Contains(policy, "frame-ancestors 'none'") {
		t.Errorf("policy %q for %v", policy, nonce)
	}
	for h, want := range map[string]string{"X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"} {
		if head.Get(h) != want {
			t.Errorf("%s: %q", h, head.Get(h))
		}
	}

	if at := b.post("next", struct{}{}); at.Do != "choose" {
		t.Fatalf("the page begins with %+v", at)
	}
	ask := b.post("choose", map[string]string{"choice": "approve"})
	if len(ask.IDs) != 2 || ask.IDs[1] != b64(a.Key().CredentialID()) {
		t.Fatalf("asked of %v", ask.IDs)
	}
	if end := b.post("answer", b.touch(a, ask)); end.Do != "done" || !end.OK || !strings.Contains(end.Text, "coordinator") {
		t.Fatalf("the page ends with %+v", end)
	}
	r := <-done
	if r.err != nil || r.choice != "approve" {
		t.Fatal(r.choice, r.err)
	}
	if err := a.Key().Verify(namespace, message, r.sig); err != nil || s.Key() != a.Key() {
		t.Fatal(err, s.Key())
	}
	// The page ended with its answer.
	if _, _, err := b.try(b.request("next", struct{}{})); err == nil {
		t.Fatal("the page is still there")
	}
	if _, err := s.Sign(namespace, message); !errors.Is(err, passkey.ErrNotAsked) {
		t.Fatalf("signed what was not shown: %v", err)
	}
}

func TestReject(t *testing.T) {
	w := newTerminal()
	done := approve(t.Context(), w, signer(t, credentialtest.NewAuthenticator(t, "alice").Key()))
	b, _, _ := open(t, <-w.url)
	if end := b.post("choose", map[string]string{"choice": "reject"}); end.Do != "done" {
		t.Fatalf("%+v", end)
	}
	if r := <-done; r.err != nil || r.choice != "reject" || r.sig != nil {
		t.Fatal(r)
	}
}

// Everything that does not come from the page in the browser that opened it first.
func TestGuard(t *testing.T) {
	a := credentialtest.NewAuthenticator(t, "alice")
	w := newTerminal()
	ctx, cancel := context.WithCancel(t.Context())
	done := approve(ctx, w, signer(t, a.Key()))
	at := <-w.url
	b, _, _ := open(t, at)
	u, err := url.Parse(at)
	if err != nil {
		t.Fatal(err)
	}

	for what, c := range map[string]struct {
		change func(*http.Request)
		code   int
	}{
		"other host":        {func(r *http.Request) { r.Host = "127.0.0.1:" + u.Port() }, http.StatusMisdirectedRequest},
		"rebound name":      {func(r *http.Request) { r.Host = "evil.example:" + u.Port() }, http.StatusMisdirectedRequest},
		"host without port": {func(r *http.Request) { r.Host = "localhost" }, http.StatusMisdirectedRequest},
		"other token":       {func(r *http.Request) { r.URL.Path = "/" + strings.Repeat("A", 43) + "/choose" }, http.StatusNotFound},
		"no token":          {func(r *http.Request) { r.URL.Path = "/choose" }, http.StatusNotFound},
		"other path":        {func(r *http.Request) { r.URL.Path += "/x" }, http.StatusNotFound},
		"no origin":         {func(r *http.Request) { r.Header.Del("Origin") }, http.StatusForbidden},
		"origin null":       {func(r *http.Request) { r.Header.Set("Origin", "null") }, http.StatusForbidden},
		"other origin":      {func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") }, http.StatusForbidden},
		"other port":        {func(r *http.Request) { r.Header.Set("Origin", "http://localhost:1") }, http.StatusForbidden},
		"by address":        {func(r *http.Request) { r.Header.Set("Origin", "http://127.0.0.1:"+u.Port()) }, http.StatusForbidden},
		"cross-site":        {func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }, http.StatusForbidden},
		"same site":         {func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") }, http.StatusForbidden},
		"form":              {func(r *http.Request) { r.Header.Set("Content-Type", "application/x-www-form-urlencoded") }, http.StatusUnsupportedMediaType},
		"text":              {func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }, http.StatusUnsupportedMediaType},
		"wrong cookie":      {func(r *http.Request) { r.Header.Set("Cookie", "coffer-page="+strings.Repeat("A", 43)) }, http.StatusForbidden},
		"unknown choice":    {func(r *http.Request) { body(r, `{"choice":"cancel"}`) }, http.StatusBadRequest},
		"unknown member":    {func(r *http.Request) { body(r, `{"choice":"approve","x":1}`) }, http.StatusBadRequest},
		"two values":        {func(r *http.Request) { body(r, `{"choice":"approve"}{}`) }, http.StatusBadRequest},
		"huge":              {func(r *http.Request) { body(r, `{"choice":"`+strings.Repeat("a", 1<<20)+`"}`) }, http.StatusBadRequest},
		"other method":      {func(r *http.Request) { r.Method = http.MethodPut; r.Header.Set("Content-Type", "application/json") }, http.StatusMethodNotAllowed},
	} {
		t.Run(what, func(t *testing.T) {
			client := b.http
			if what == "wrong cookie" {
				client = &http.Client{Timeout: 10 * time.Second}
			}
			r := b.request("choose", map[string]string{"choice": "approve"})
			c.change(r)
			reply, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			reply.Body.Close()
			if reply.StatusCode != c.code {
				t.Fatalf("%s, want %d", reply.Status, c.code)
			}
			if reply.Header.Get("Content-Security-Policy") == "" {
				t.Fatal("an answer without a policy")
			}
		})
	}
	// Another browser, and one that followed a link of a site's.
	for what, c := range map[string]struct{ jar, site string }{"second browser": {"", ""}, "by a link": {"own", "cross-site"}} {
		r, err := http.NewRequest(http.MethodGet, at, nil)
		if err != nil {
			t.Fatal(err)
		}
		client := &http.Client{Timeout: 10 * time.Second}
		if c.jar != "" {
			client = b.http
		}
		if c.site != "" {
			r.Header.Set("Sec-Fetch-Site", c.site)
		}
		reply, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		reply.Body.Close()
		if reply.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %s", what, reply.Status)
		}
	}
	// An answer that nobody asked for, and none of the above changed anything.
	if code, _, _ := b.try(b.request("answer", map[string]string{"id": "AA", "clientData": "AA"})); code != http.StatusConflict {
		t.Errorf("answered before it was asked: %d", code)
	}
	if at := b.post("next", struct{}{}); at.Do != "choose" {
		t.Fatalf("after all that the page is at %+v", at)
	}
	// The same browser may load it again.
	if reply, err := b.http.Get(b.url); err != nil || reply.StatusCode != http.StatusOK {
		t.Fatal(reply, err)
	} else {
		reply.Body.Close()
	}
	if at := b.post("choose", map[string]string{"choice": "approve"}); at.Do != "get" {
		t.Fatalf("%+v", at)
	}
	if code, _, _ := b.try(b.request("choose", map[string]string{"choice": "reject"})); code != http.StatusConflict {
		t.Errorf("chose twice: %d", code)
	}
	cancel()
	if r := <-done; !errors.Is(r.err, context.Canceled) {
		t.Fatal(r.err)
	}
}

func body(r *http.Request, text string) {
	r.Body = io.NopCloser(strings.NewReader(text))
	r.ContentLength = int64(len(text))
	r.GetBody = nil
}

// Only this machine reaches the page: nothing listens on its other addresses, and
// both of its own are taken.
func TestLoopbackOnly(t *testing.T) {
	w := newTerminal()
	ctx, cancel := context.WithCancel(t.Context())
	done := approve(ctx, w, signer(t, credentialtest.NewAuthenticator(t, "alice").Key()))
	u, err := url.Parse(<-w.url)
	if err != nil {
		t.Fatal(err)
	}
	if l, err := net.Listen("tcp4", "127.0.0.1:"+u.Port()); err == nil {
		l.Close()
		t.Error("127.0.0.1 is free for somebody else")
	}
	if l, err := net.Listen("tcp6", "[::1]:0"); err == nil {
		l.Close()
		if l, err := net.Listen("tcp6", "[::1]:"+u.Port()); err == nil {
			l.Close()
			t.Error("::1 is free for somebody else")
		}
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range addrs {
		ip, _, err := net.ParseCIDR(addr.String())
		if err != nil || ip.IsLoopback() || ip.IsLinkLocalUnicast() {
			continue
		}
		if conn, err := net.DialTimeout("tcp", net.JoinHostPort(ip.String(), u.Port()), time.Second); err == nil {
			conn.Close()
			t.Errorf("it answers at %s", ip)
		}
	}
	cancel()
	<-done
}

// What a browser answers is believed as little as what a coordinator does.
func TestWrongAnswers(t *testing.T) {
	a := credentialtest.NewAuthenticator(t, "alice")
	for what, c := range map[string]struct {
		change func(map[string]string)
		setup  func(*credentialtest.Authenticator)
		want   error
	}{
		"unverified":      {nil, func(a *credentialtest.Authenticator) { a.Flags = 1 }, credential.ErrPresence},
		"other passkey":   {func(m map[string]string) { m["id"] = "AAAA" }, nil, credential.ErrOtherKey},
		"other data":      {func(m map[string]string) { m["clientData"] = b64([]byte("{}")) }, nil, credential.ErrMalformedSignature},
		"no signature":    {func(m map[string]string) { delete(m, "signature") }, nil, credential.ErrMalformedSignature},
		"not base64url":   {func(m map[string]string) { m["signature"] = "++++" }, nil, base64.CorruptInputError(0)},
		"somebody else's": {func(m map[string]string) { m["signature"] = b64([]byte{0x30, 6, 2, 1, 1, 2, 1, 1}) }, nil, credential.ErrSignature},
	} {
		t.Run(what, func(t *testing.T) {
			w := newTerminal()
			done := approve(t.Context(), w, signer(t, a.Key()))
			b, _, _ := open(t, <-w.url)
			ask := b.post("choose", map[string]string{"choice": "approve"})
			one := credentialtest.NewAuthenticator(t, "alice")
			if c.setup != nil {
				c.setup(one)
			}
			m := b.touch(one, ask)
			if c.change != nil {
				c.change(m)
			}
			if end := b.post("answer", m); end.Do != "done" || end.OK || !strings.HasPrefix(end.Text, "It failed") {
				t.Fatalf("%+v", end)
			}
			if r := <-done; !errors.Is(r.err, c.want) || r.sig != nil {
				t.Fatalf("%v", r.err)
			}
		})
	}
}

func TestNobodyAnswers(t *testing.T) {
	key := credentialtest.NewAuthenticator(t, "alice").Key()
	w := newTerminal()
	s, err := passkey.New([]credential.Key{key}, 50*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Ask(t.Context(), w, page); !errors.Is(err, passkey.ErrNoAnswer) || !strings.Contains(err.Error(), "50ms") {
		t.Fatal(err)
	}
	if _, err := http.Get(<-w.url); err == nil {
		t.Fatal("the page is still there")
	}
	if _, err := s.Ask(t.Context(), w, passkey.Page{Title: "x"}); err == nil {
		t.Fatal("a page without a choice")
	}
}

func TestNewRefuses(t *testing.T) {
	for what, keys := range map[string][]credential.Key{
		"none": nil, "ssh": {credentialtest.SecurityKey(t, "alice").Key()},
		"other relying party": {credentialtest.NewAuthenticatorOf(t, "acme.example", "alice", nil).Key()},
	} {
		if _, err := passkey.New(keys, time.Minute); !errors.Is(err, credential.ErrUnsupportedKey) || !strings.Contains(err.Error(), "coffer enrol --passkey") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func enrol(t testing.TB, w io.Writer) <-chan result {
	out := make(chan result, 1)
	go func() {
		s, err := passkey.Create(t.Context(), w, "alice of acme", passkey.Page{Title: "Enrol", Choices: []string{"make a passkey", "not now"}}, 20*time.Second)
		if err != nil {
			out <- result{"", nil, err}
			return
		}
		sig, err := s.Sign(namespace, message)
		s.Close("Enrolled.", err)
		out <- result{fmt.Sprintf("%s %v", s.Key().Public, s.Copied()), sig, err}
	}()
	return out
}

func TestEnrol(t *testing.T) {
	for name, a := range map[string]*credentialtest.Authenticator{
		"es256": credentialtest.NewAuthenticator(t, "alice"),
		"eddsa": credentialtest.NewAuthenticatorOf(t, "localhost", "alice", credentialtest.Ed25519("alice")),
	} {
		t.Run(name, func(t *testing.T) {
			w := newTerminal()
			done := enrol(t, w)
			b, _, _ := open(t, <-w.url)
			ask := b.post("choose", map[string]string{"choice": "make a passkey"})
			if ask.Do != "create" || ask.Name != "alice of acme" || ask.User == "" || len(ask.Algorithms) != 3 || ask.RP != "localhost" {
				t.Fatalf("%+v", ask)
			}
			a.Origin, a.Type, a.Flags = b.origin(), "webauthn.create", 0x05|0x18
			c := a.Create(t, ask.Challenge)
			next := b.post("answer", map[string]string{"id": b64(c.ID), "attestation": b64(c.Attestation), "clientData": b64(c.ClientData)})
			a.Type = "webauthn.get"
			if end := b.post("answer", b.touch(a, next)); !end.OK {
				t.Fatalf("%+v", end)
			}
			r := <-done
			if r.err != nil || r.choice != a.Key().Public+" true" || a.Key().Verify(namespace, message, r.sig) != nil {
				t.Fatal(r)
			}
		})
	}
}

func TestEnrolDeclined(t *testing.T) {
	w := newTerminal()
	done := enrol(t, w)
	b, _, _ := open(t, <-w.url)
	if end := b.post("choose", map[string]string{"choice": "not now"}); end.Do != "done" {
		t.Fatalf("%+v", end)
	}
	if r := <-done; !errors.Is(r.err, passkey.ErrDeclined) {
		t.Fatal(r.err)
	}
}

func TestEnrolRefuses(t *testing.T) {
	for what, c := range map[string]struct {
		setup  func(*credentialtest.Authenticator)
		change func(m map[string]string)
	}{
		"not verified":    {func(a *credentialtest.Authenticator) { a.Flags = 1 }, nil},
		"not present":     {func(a *credentialtest.Authenticator) { a.Flags = 4 }, nil},
		"other rp":        {func(a *credentialtest.Authenticator) { a.RP = "evil.example" }, nil},
		"other port":      {func(a *credentialtest.Authenticator) { a.Origin = "http://localhost:1" }, nil},
		"an assertion":    {func(a *credentialtest.Authenticator) { a.Type = "webauthn.get" }, nil},
		"framed":          {func(a *credentialtest.Authenticator) { a.CrossOrigin = "true" }, nil},
		"other challenge": {nil, nil},
		"other id":        {nil, func(m map[string]string) { m["id"] = "AAAA" }},
		"garbage":         {nil, func(m map[string]string) { m["attestation"] = "AAAA" }},
		"nothing":         {nil, func(m map[string]string) { m["attestation"] = "" }},
		"an assertion's": {nil, func(m map[string]string) {
			delete(m, "attestation")
			m["signature"], m["authenticatorData"] = "AA", "AA"
		}},
	} {
		t.Run(what, func(t *testing.T) {
			w := newTerminal()
			done := enrol(t, w)
			b, _, _ := open(t, <-w.url)
			ask := b.post("choose", map[string]string{"choice": "make a passkey"})
			a := credentialtest.NewAuthenticator(t, "alice")
			a.Origin, a.Type = b.origin(), "webauthn.create"
			if c.setup != nil {
				c.setup(a)
			}
			challenge := ask.Challenge
			if what == "other challenge" {
				challenge = b64(make([]byte, 32))
				c.change = nil
			}
			made := a.Create(t, challenge)
			m := map[string]string{"id": b64(made.ID), "attestation": b64(made.Attestation), "clientData": b64(made.ClientData)}
			if c.change != nil {
				c.change(m)
			}
			if end := b.post("answer", m); end.OK || end.Do != "done" {
				t.Fatalf("%+v", end)
			}
			if r := <-done; r.err == nil || r.sig != nil {
				t.Fatal("made a passkey of it")
			}
		})
	}
}
