//go:build e2e

package passkey_test

import (
	"encoding/json"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"coffer/canon"
	"coffer/credential"
	chrome "coffer/internal/browser"
	"coffer/passkey"
)

// The program ends while its page is open, and another user's program takes the port:
// the page, which shows what the first one asked, signs nothing for the second.
func TestTakeover(t *testing.T) {
	tab := chrome.New(t)
	w := newTerminal()
	made := make(chan credential.Key, 1)
	go func() {
		defer close(made)
		s, err := passkey.Create(t.Context(), w, "alice", passkey.Page{Title: "make", Choices: []string{"make a passkey", "not now"}}, time.Minute)
		if err != nil {
			t.Error(err)
			return
		}
		s.Close("Done.", nil)
		made <- s.Key()
	}()
	tab.Open(<-w.url)
	tab.Press("make a passkey")
	tab.Says("Done.")
	key := <-made

	t.Run("not chosen", func(t *testing.T) {
		s, err := passkey.New([]credential.Key{key}, 8*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		w := newTerminal()
		done := approve(t.Context(), w, s)
		tab.Open(<-w.url)
		if r := <-done; r.err == nil {
			t.Fatal("somebody chose")
		}
		tab.Until("dead buttons", `!document.querySelector("button[data-choice]:enabled")`)
		tab.Says("You can close this page.")
	})

	t.Run("chosen, not touched", func(t *testing.T) {
		s, err := passkey.New([]credential.Key{key}, 15*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		w := newTerminal()
		done := approve(t.Context(), w, s)
		address := <-w.url
		tab.Verified(false)
		tab.Open(address)
		tab.Press("approve")
		tab.Says("did not answer")
		if r := <-done; r.err == nil {
			t.Fatal("somebody touched")
		}

		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp4", "127.0.0.1:"+u.Port())
		if err != nil {
			t.Fatal(err)
		}
		other := canon.New("coffer/test/v1").String("all that there is").Sum()
		challenge := credential.Challenge(namespace, other[:])
		answers := make(chan string, 8)
		thief := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/answer") {
				var body struct{ ClientData string }
				_ = json.NewDecoder(r.Body).Decode(&body)
				answers <- body.ClientData
			}
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(map[string]any{
				"do": "get", "text": "Touch your passkey.", "rp": "localhost", "challenge": b64(challenge[:]), "ids": []string{b64(key.CredentialID())}, "timeout": 60000,
			})
		})}
		defer thief.Close()
		go func() { _ = thief.Serve(l) }()
		tab.Verified(true)
		tab.Press("Try again")
		tab.Says("Another program answers at this address")
		if n := len(answers); n != 1 {
			t.Fatalf("%d answers of the passkey; the one to what was shown is all that may go out", n)
		}
	})
}
