package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
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

// session is one that does not end: a signer of it is held.
type session struct {
	*underway
	signers []string
	held    string
}

// inSession has a payment asked for and approved, and holds a signer in the middle of
// the session for it: that one is prepared no further, and nobody can release alone.
func (s *story) inSession(ctx context.Context, act int, amount string) (w *session, err error) {
	for try := 1; ; try++ {
		w, err = s.tryInSession(ctx, act, amount)
		if try == earlyTries || !errors.Is(err, errEarly) {
			return w, err
		}
		s.say("%v; once more", err)
		s.again++
	}
}

// chosen is how coffer says who takes part, before they begin.
var chosen = regexp.MustCompile(`^signing: (\S+) and (\S+) sign$`)

func (s *story) tryInSession(ctx context.Context, act int, amount string) (*session, error) {
	now := &session{}
	holding := make(chan error, 1)
	s.overhear(func(line string) {
		if m := chosen.FindStringSubmatch(line); m != nil {
			now.signers = m[1:]
		}
		// Such as "signing: a: preparing the session".
		parts := strings.SplitN(line, ": ", 3)
		if now.held != "" || now.signers == nil || len(parts) < 3 || !strings.Contains(parts[2], "preparing") {
			return
		}
		now.held = parts[1]
		err := s.venue.hold(ctx, parts[1])
		s.say("act %d: the machine of signer %s hangs in the middle of the signature", act, parts[1])
		holding <- err
	})
	defer s.overhear(nil)
	w, err := s.asked(ctx, act, amount)
	if err != nil {
		return nil, err
	}
	now.underway = w
	select {
	case err := <-holding:
		return now, err
	case <-w.done: // a session was there, and nobody overheard it
	case <-ctx.Done():
	}
	if _, err := w.end(); err != nil {
		return nil, err
	}
	return nil, errEarly
}

// nobody is an address of this machine, or container, at which nobody listens.
const nobody = "127.0.0.1:1"

// actFreeze stops a signature under way, by an order that reaches one signer alone, which
// takes no part in it and which the coordinator cannot reach. One signer of the session is
// held, so that it does not end by itself before the order is there.
func (s *story) actFreeze(ctx context.Context, result *Result) (*Act, error) {
	start, act := time.Now(), len(result.Acts)+1
	w, err := s.inSession(ctx, act, frozenAmount)
	if err != nil {
		return nil, err
	}
	s.frozen = w
	idle, args := "", []string{"freeze", "--reason", "the supplier says that this invoice is not theirs", "--json", "--addr", nobody}
	for _, name := range result.Wallet.Signers {
		if slices.Contains(w.signers, name) {
			args = append(args, "--signer", name+"="+nobody)
		} else {
			idle = name
		}
	}
	s.say("act %d: the coordinator is cut off from signer %s", act, idle)
	if err := s.venue.cutOff(ctx, idle); err != nil {
		return nil, err
	}
	s.say("act %d: dave, of security, freezes the cluster, at signer %s's own endpoint and nowhere else", act, idle)
	out, _, err := s.as(ctx, "dave", args...)
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
	s.order = order.ID
	q := result.Wallet.Quorum
	if !order.Effective || len(order.OnDisk) < q.Of-q.Need+1 {
		return nil, fmt.Errorf("act %d: the freeze is not effective: %s", act, out)
	}
	s.say("act %d: signer %s told the others: the freeze is on disk at %s, and so effective; signer %s wakes up", act, idle, strings.Join(order.OnDisk, " and "), w.held)
	if err := s.venue.letGo(ctx, w.held); err != nil {
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
	s.say("act %d: every signer refuses now, and nothing is on the chain", act)
	if err := s.venue.reconnect(ctx, idle); err != nil {
		return nil, err
	}
	return &Act{
		Name: "a freeze stops a signature under way", Outcome: "frozen", Reasons: reasons, Signers: []string{},
		Seconds: map[string]float64{"total": round(time.Since(start))},
	}, nil
}

// signerStatus is the part of a signer's status that the story needs.
type signerStatus struct {
	Sealed  bool  `json:"sealed"`
	Freezes []any `json:"freezes"`
}

// status asks a signer at its operator's socket.
func (s *story) status(ctx context.Context, signer string) (*signerStatus, error) {
	out, _, err := s.venue.signerSays(ctx, signer, "status", "--json")
	if err != nil {
		return nil, err
	}
	st := new(signerStatus)
	if err := json.Unmarshal([]byte(out), st); err != nil {
		return nil, fmt.Errorf("read coffer-signer's answer: %w", err)
	}
	return st, nil
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

// actUnfreeze lifts it, as the admin rule demands, and the same payment goes on.
func (s *story) actUnfreeze(ctx context.Context, result *Result) (*Act, error) {
	start, act := time.Now(), len(result.Acts)+1
	s.say("act %d: bob, an admin, signs that the freeze may be lifted", act)
	var out string
	// The coordinator, which tells bob what is frozen, has to hear of it from a signer.
	if err := poll(ctx, refusedWithin, func(ctx context.Context) (err error) {
		out, _, err = s.as(ctx, "bob", "unfreeze", s.order, "--reason", "the supplier called back: it is theirs", "--json")
		return err
	}); err != nil {
		return nil, err
	}
	var order struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal([]byte(out), &order); err != nil {
		return nil, fmt.Errorf("read coffer's answer: %w", err)
	}
	for _, name := range result.Wallet.Signers {
		if _, err := s.frozenAt(ctx, name, s.frozen.id); err != nil {
			return nil, fmt.Errorf("act %d: signer %s, with one admin's signature: %w", act, name, err)
		}
	}
	s.say("act %d: one admin is not enough, and every signer still refuses; carol signs too", act)
	if _, _, err := s.as(ctx, "carol", "approve", order.ID, "--yes"); err != nil {
		return nil, err
	}
	want, err := policy.ParseAmount(frozenAmount, etherDecimals)
	if err != nil {
		return nil, err
	}
	a, err := s.paid(ctx, s.frozen.underway, result, act, "two admins lift the freeze; the same payment goes through", want, start)
	if err != nil {
		return nil, err
	}
	for _, name := range result.Wallet.Signers {
		if err := poll(ctx, refusedWithin, func(ctx context.Context) error {
			st, err := s.status(ctx, name)
			if err == nil && len(st.Freezes) > 0 {
				err = errors.New("it is still frozen")
			}
			return err
		}); err != nil {
			return nil, fmt.Errorf("act %d: signer %s: %w", act, name, err)
		}
	}
	return a, nil
}
