package main

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spf13/cobra"

	"coffer/verdict"
)

// A stage that is tried over and over says the same few sentences in turn; they are
// shown again only after a while, so that a wait of hours still shows life.
func TestProgressIsNotRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var talk bytes.Buffer
		cmd := &cobra.Command{}
		cmd.SetErr(&talk)
		w := &watch{cmd: cmd, said: map[string]time.Time{}}
		for range 10 {
			w.say("asking")
			w.say("waiting for b")
			time.Sleep(2 * time.Second) //nolint:forbidigo // the time of a synctest bubble
		}
		if got, want := talk.String(), "asking\nwaiting for b\nasking\nwaiting for b\n"; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	})
}

// A signer that only waits for its operator gives no reason of the rules.
func TestWordsOfASealedSigner(t *testing.T) {
	says := signerSays{Signer: "a", Outcome: verdict.Wait, Missing: []string{"this signer is sealed"}}
	if got := says.words(time.Now()); got != "waits: this signer is sealed" {
		t.Error(got)
	}
	says = signerSays{Signer: "a", Outcome: verdict.Refuse, Reasons: []string{"no", "never"}, Time: time.Now().Add(-2 * time.Hour).Unix()}
	if got := says.words(time.Now()); got != "refuses (said 2 h 0 min ago): no; never" {
		t.Error(got)
	}
}
