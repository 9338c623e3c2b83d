package browser

import (
	"context"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// Tab is a browser with one page and one authenticator.
type Tab struct {
	t             testing.TB
	ctx           context.Context
	authenticator webauthn.AuthenticatorID
}

// patience bounds each act; the first one starts the browser.
const patience = time.Minute

// New starts a browser that reaches localhost and nothing else.
func New(t testing.TB) *Tab {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		t.Fatal("there is no Chromium on this machine: scripts/needs.sh installs it")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.Flag("window-size", "1000,1100"),
		chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true), chromedp.Flag("disable-quic", true),
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND , EXCLUDE localhost , EXCLUDE 127.0.0.1"))
	root, stop := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(root)
	t.Cleanup(func() {
		// Cancel waits for the browser to end, so that its folder can be removed.
		if err := chromedp.Cancel(ctx); err != nil {
			t.Log(err)
		}
		cancel()
		stop()
	})
	b := &Tab{t: t, ctx: ctx}
	// Not under a deadline: the first run's context is the browser's life.
	if err := chromedp.Do(ctx, chromedp.Navigate("about:blank")); err != nil {
		t.Fatal(err)
	}
	call(b, webauthn.Enable, webauthn.EnableParams{})
	b.authenticator = call(b, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: &webauthn.VirtualAuthenticatorOptions{
		Protocol: webauthn.AuthenticatorProtocolCtap2, Transport: webauthn.AuthenticatorTransportUsb,
		HasResidentKey: true, HasUserVerification: true, IsUserVerified: true, AutomaticPresenceSimulation: true,
	}}).AuthenticatorID
	return b
}

func call[P, R any](b *Tab, command cdp.Command[P, R], params P) R {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	out, err := chromedp.Call(ctx, command, params)
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

func run[T any](b *Tab, action chromedp.Action[T]) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	out, err := chromedp.Run(ctx, action)
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

// Until waits for an expression of the page's to be true. It is asked through DevTools,
// which the page's policy does not bind.
func (b *Tab) Until(what, expression string) {
	b.t.Helper()
	late := time.Now().Add(patience)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !run(b, chromedp.Evaluate[bool](expression)) {
		if time.Now().After(late) {
			b.t.Fatalf("not seen: %s; the page says:\n%s", what, b.Text())
		}
		<-tick.C
	}
}

// Open loads a page and waits for its buttons.
func (b *Tab) Open(url string) {
	b.t.Helper()
	run(b, chromedp.Navigate(url))
	b.Until("a button", `!!document.querySelector("button[data-choice]:enabled")`)
}

// Text is what the page says to who reads it.
func (b *Tab) Text() string {
	b.t.Helper()
	return run(b, chromedp.Evaluate[string](`document.body.innerText`))
}

// Press moves the keyboard to the button with a name and presses Enter, as who has no mouse.
func (b *Tab) Press(name string) {
	b.t.Helper()
	for range 20 {
		run(b, chromedp.KeyEvent(kb.Tab))
		if at := run(b, chromedp.Evaluate[string](`document.activeElement.textContent`)); strings.EqualFold(at, name) {
			run(b, chromedp.KeyEvent(kb.Enter))
			return
		}
	}
	b.t.Fatalf("the keyboard does not reach %q; the page says:\n%s", name, b.Text())
}

// Says waits until the page's last line has a text in it.
func (b *Tab) Says(want string) {
	b.t.Helper()
	b.Until(want, `document.getElementById("status").textContent.includes(`+strconv.Quote(want)+`)`)
}

// Verified sets whether the authenticator recognises who touches it.
func (b *Tab) Verified(yes bool) {
	b.t.Helper()
	call(b, webauthn.SetUserVerified, webauthn.SetUserVerifiedParams{AuthenticatorID: b.authenticator, IsUserVerified: yes})
}

// Passkeys counts those that the authenticator holds.
func (b *Tab) Passkeys() int {
	b.t.Helper()
	return len(call(b, webauthn.GetCredentials, webauthn.GetCredentialsParams{AuthenticatorID: b.authenticator}).Credentials)
}

// Screenshot is a picture of the whole page.
func (b *Tab) Screenshot() []byte {
	b.t.Helper()
	return run(b, chromedp.FullScreenshot(100))
}
