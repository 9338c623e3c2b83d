package hook

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"coffer/canon"
	"coffer/identity"
)

// What happens that somebody may want to hear of at once.
const (
	IntentNeedsYou = "intent_needs_you" // it waits for people
	IntentRefused  = "intent_refused"   // by the rules, the signers or a person
	IntentEnded    = "intent_ended"     // done, or failed in another way
	SignerAway     = "signer_away"
	SignerBack     = "signer_back"
	SignerSealed   = "signer_sealed" // it can do nothing until its operator unseals it
	ChainAway      = "chain_away"
	ChainBack      = "chain_back"
	ChainReorg     = "chain_reorg"      // a block that held a payment is no longer part of the chain
	Frozen         = "frozen"           // somebody stopped the cluster, a wallet or a person
	Lifted         = "lifted"           // the admins lifted a freeze
	CharterPending = "charter_pending"  // a version has the admins' signatures and waits
	CharterInForce = "charter_in_force" // another version counts now
	CharterFork    = "charter_fork"     // two versions of one number have the admins' signatures
	Alarm          = "alarm"            // somebody broke the protocol, or the disk does not take what must be written
)

// OfSigner and OfCoordinator are the events that each of them has.
var (
	OfSigner      = []string{IntentNeedsYou, IntentRefused, SignerAway, SignerBack, SignerSealed, Frozen, Lifted, CharterPending, CharterInForce, CharterFork, Alarm}
	OfCoordinator = []string{IntentNeedsYou, IntentRefused, IntentEnded, SignerAway, SignerBack, ChainAway, ChainBack, ChainReorg, Frozen, Lifted, CharterPending, CharterInForce, CharterFork, Alarm}
)

// ofIntent says whether an event is about an intent's way: there are as many as intents.
func ofIntent(name string) bool {
	return name == IntentNeedsYou || name == IntentRefused || name == IntentEnded
}

// Event is what a hook is told.
type Event struct {
	ID      string `json:"id"`                // 32 hex digits; the same event again, after a restart, has the same
	Name    string `json:"event"`             // one of the constants above
	Time    int64  `json:"time"`              // Unix seconds
	Cluster string `json:"cluster"`           // the charter's cluster
	Role    string `json:"role"`              // signer or coordinator
	From    string `json:"from"`              // its name in the charter
	Intent  string `json:"intent,omitempty"`  // the intent's whole ID
	Subject string `json:"subject,omitempty"` // signer, chain or wallet that it is about
	Text    string `json:"text"`              // one sentence
}

// maxText keeps an event smaller than a pipe's buffer and any receiver's limit.
const maxText = 1000

// domain separates events from everything else that an identity signs.
const domain = "coffer/hook/v1"

func message(body []byte) []byte { return canon.New(domain).Bytes(body).Encoded() }

// Headers of a request; the environment of a program has COFFER_ and the same words.
const (
	HeaderSignature = "Coffer-Signature" // base64, over domain coffer/hook/v1 and the body
	HeaderPeer      = "Coffer-Peer"      // identity of the sender
)

// Verify checks a body against its signature, and says what it says. peer is the
// sender's identity by the charter, not by the header.
func Verify(body []byte, signature string, peer identity.ID) (*Event, error) {
	raw, err := base64.StdEncoding.DecodeString(signature)
	if err != nil {
		return nil, fmt.Errorf("signature: %w", err)
	}
	if err := peer.Verify(message(body), raw); err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}
	e := new(Event)
	if err := json.Unmarshal(body, e); err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}
	return e, nil
}

func sign(key *identity.Key, e Event) (body []byte, signature string, err error) {
	if len(e.Text) > maxText {
		e.Text = strings.ToValidUTF8(e.Text[:maxText], "") + "…"
	}
	body, err = json.Marshal(e)
	if err != nil {
		return nil, "", err
	}
	return body, base64.StdEncoding.EncodeToString(key.Sign(message(body))), nil
}

// Setting is one entry of "hooks" in config.json.
type Setting struct {
	// On names the events; all of this daemon's if empty.
	On []string `json:"on,omitempty"`
	// Exec is a program and its arguments; the program is an absolute path.
	Exec []string `json:"exec,omitempty"`
	// URL is called by POST: https, or http on this machine.
	URL string `json:"url,omitempty"`
}

// Check refuses settings that could not work. of is what this daemon tells.
func Check(settings []Setting, of []string) error {
	if len(settings) > maxHooks {
		return fmt.Errorf("hooks: %d, at most %d", len(settings), maxHooks)
	}
	for i, s := range settings {
		if err := s.check(of); err != nil {
			return fmt.Errorf("hooks[%d]: %w", i, err)
		}
	}
	return nil
}

const maxHooks = 16

func (s Setting) check(of []string) error {
	for _, name := range s.On {
		if !slices.Contains(of, name) {
			return fmt.Errorf("on: there is no event %q here, only %s", name, strings.Join(of, ", "))
		}
	}
	switch {
	case (len(s.Exec) > 0) == (s.URL != ""):
		return errors.New("name either exec or url")
	case s.URL != "":
		return checkURL(s.URL)
	}
	return checkPath(s.Exec[0])
}

// CheckPrograms looks whether the programs are there and nobody else's to change. It
// stands beside Check because a program that is missing today ends no daemon.
func CheckPrograms(settings []Setting) error {
	var err error
	for i, s := range settings {
		if len(s.Exec) > 0 {
			if e := checkProgram(s.Exec[0]); e != nil {
				err = errors.Join(err, fmt.Errorf("hooks[%d]: %w", i, e))
			}
		}
	}
	return err
}

func (s Setting) wants(name string) bool { return len(s.On) == 0 || slices.Contains(s.On, name) }
