package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"coffer/policy"
)

const (
	frozenAmount = "0.25"
	// refusedWithin is for how long all signers may take to refuse, the one that was held
	// too: it has to hear of the freeze first.
	refusedWithin = 30 * time.Second
	// earlyTries is how often an act tries to be quicker than a session, which takes a
	// second or two.
	earlyTries = 3
)

// errEarly says that a session was over before one of its signers was held.
var errEarly = errors.New("the session was over before a signer could be held")

// inSession has a payment asked for and approved, and holds a signer in the middle of
// the session for it: that one is prepared no further, and nobody can release alone.
func (s *story) inSession(ctx context.Context, act int, amount string) (w *underway, held string, err error) {
	for try := 1; ; try++ {
		w, held, err = s.tryInSession(ctx, act, amount)
		if try == earlyTries || !errors.Is(err, errEarly) {
			return w, held, err
		}
		s.say("%v; once more", err)
		s.again++
	}
}

func (s *story) tryInSession(ctx context.Context, act int, amount string) (*underway, string, error) {
	type hold struct {
		signer string
		err    error
	}
	holding := make(chan hold, 1)
	taken := false
	s.overhear(func(line string) {
		// Such as "signing: a: preparing the session".
		parts := strings.SplitN(line, ": ", 3)
		if taken || len(parts) < 3 || !strings.Contains(parts[2], "preparing") {
			return
		}
		taken = true
		s.say("signer %s is held in the middle of the session", parts[1])
		holding <- hold{parts[1], s.venue.hold(ctx, parts[1])}
	})
	defer s.overhear(nil)
	w, err := s.asked(ctx, act, amount)
	if err != nil {
		return nil, "", err
	}
	select {
	case h := <-holding:
		return w, h.signer, h.err
	case <-w.done: // a session was there, and nobody overheard it
	case <-ctx.Done():
	}
	if _, err := w.end(); err != nil {
		return nil, "", err
	}
	return nil, "", errEarly
}

// actFreeze stops a signature under way. One signer of the session is held, so that it
// does not end by itself before dave's order is there.
func (s *story) actFreeze(ctx context.Context, result *Result) (*Act, error) {
	start, act := time.Now(), len(result.Acts)+1
	w, held, err := s.inSession(ctx, act, frozenAmount)
	if err != nil {
		return nil, err
	}
	s.frozen = w
	s.say("act %d: dave freezes the cluster", act)
	out, _, err := s.as(ctx, "dave", "freeze", "--reason", "the supplier says that this invoice is not theirs", "--json")
	if err != nil {
		return nil, err
	}
	var order struct {
		ID        string   `json:"id"`
		Effective bool     `json:"effective"`
		OnDisk    []string `json:"on_disk"`
	}
	if err := json.Unmarshal([]byte(out), &order); err != nil {
		return nil, fmt.Errorf("read coffer's answer: %w", err)
	}
	q := result.Wallet.Quorum
	if !order.Effective || len(order.OnDisk) < q.Of-q.Need+1 {
		return nil, fmt.Errorf("act %d: the freeze is not effective: %s", act, out)
	}
	s.say("act %d: the freeze is on disk at %s; signer %s goes on and hears of it", act, strings.Join(order.OnDisk, " and "), held)
	if err := s.venue.letGo(ctx, held); err != nil {
		return nil, err
	}
	reasons := map[string][]string{}
	for _, name := range result.Wallet.Signers {
		if err := poll(ctx, refusedWithin, func(ctx context.Context) (err error) {
			reasons[name], err = s.frozenAt(ctx, name, w.id)
			return err
		}); err != nil {
			return nil, fmt.Errorf("act %d: signer %s: %w", act, name, err)
		}
	}
	after, err := s.venue.balance(ctx, supplier)
	if err != nil {
		return nil, err
	}
	if after.Cmp(w.before) != 0 {
		return nil, fmt.Errorf("act %d: the chain says that %s has %s wei, and had %s before the freeze", act, supplier, after, w.before)
	}
	select {
	case <-w.done:
		_, err := w.end()
		return nil, errors.Join(fmt.Errorf("act %d: the payment ended while all was frozen", act), err)
	default:
	}
	s.say("act %d: every signer refuses, and nothing is on the chain", act)
	return &Act{
		Name: "a freeze stops a signature under way", Outcome: "frozen", Reasons: reasons, Signers: []string{},
		Seconds: map[string]float64{"total": round(time.Since(start))},
	}, nil
}

// frozenAt asks a signer itself, at its operator's socket, what it would do about an intent.
func (s *story) frozenAt(ctx context.Context, signer, id string) ([]string, error) {
	out, _, err := s.venue.signerSays(ctx, signer, "pending", "--all", "--json")
	if err != nil {
		return nil, err
	}
	var known struct {
		Intents []struct {
			ID      string   `json:"id"`
			State   string   `json:"state"`
			Outcome string   `json:"outcome"`
			Checks  []string `json:"checks"`
			Reasons []string `json:"reasons"`
		} `json:"intents"`
	}
	if err := json.Unmarshal([]byte(out), &known); err != nil {
		return nil, fmt.Errorf("read coffer-signer's answer: %w", err)
	}
	for _, i := range known.Intents {
		if i.ID != id {
			continue
		}
		if i.State == "signed" {
			return nil, errors.New("it has signed")
		}
		if i.Outcome == "sign" || !slices.ContainsFunc(i.Checks, func(c string) bool { return strings.HasSuffix(c, "/FROZEN") }) {
			return nil, fmt.Errorf("it does not refuse because of the freeze: %s, %v", i.Outcome, i.Reasons)
		}
		return i.Reasons, nil
	}
	return nil, errors.New("it does not know the payment")
}

// lift has two admins lift every freeze, and does something between them.
func (s *story) lift(ctx context.Context, reason string, between ...func() error) error {
	out, _, err := s.as(ctx, "bob", "unfreeze", "--all", "--reason", reason)
	if err != nil {
		return err
	}
	for _, f := range between {
		if err := f(); err != nil {
			return err
		}
	}
	_, _, err = s.as(ctx, "carol", "approve", strings.TrimSpace(out), "--yes")
	return err
}

// actUnfreeze lifts it, as the admin rule demands, and the same payment goes on.
func (s *story) actUnfreeze(ctx context.Context, result *Result) (*Act, error) {
	start, act := time.Now(), len(result.Acts)+1
	s.say("act %d: bob and carol, two admins, sign that the freeze may be lifted", act)
	if err := s.lift(ctx, "the supplier called back: it is theirs", func() error {
		for _, name := range result.Wallet.Signers {
			if _, err := s.frozenAt(ctx, name, s.frozen.id); err != nil {
				return fmt.Errorf("act %d: signer %s, with one admin's signature: %w", act, name, err)
			}
		}
		return nil
	}); err != nil {
		return nil, err
	}
	want, err := policy.ParseAmount(frozenAmount, etherDecimals)
	if err != nil {
		return nil, err
	}
	return s.paid(ctx, s.frozen, result, act, "two admins lift the freeze; the same payment goes through", want, start)
}
