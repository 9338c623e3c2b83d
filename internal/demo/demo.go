package demo

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"coffer/policy"
)

// Config says where and how the demo plays.
type Config struct {
	Bin  string    // folder with the programs
	Dir  string    // empty: a temporary folder, removed at the end
	Keep bool      // leave the cluster up until the context ends
	Geth string    // a geth program to use as the dev chain, instead of our own
	Talk io.Writer // progress, for people
	// Done is called with the result as soon as the story has ended.
	Done func(*Result) error
}

// Result is what --json prints.
type Result struct {
	Wallet  Wallet             `json:"wallet"`
	Acts    []Act              `json:"acts"`
	Seconds map[string]float64 `json:"seconds"`
	Dir     string             `json:"dir,omitempty"` // with --keep or --dir
}

// Wallet is the wallet that the signers made.
type Wallet struct {
	Name      string   `json:"name"`
	Address   string   `json:"address"`
	PublicKey string   `json:"public_key"`
	Quorum    Quorum   `json:"quorum"`
	Signers   []string `json:"signers"`
	Record    string   `json:"record"`
}

// Quorum is how many of how many signers sign.
type Quorum struct {
	Need int `json:"need"`
	Of   int `json:"of"`
}

// Act is one scene and its end.
type Act struct {
	Name     string              `json:"name"`
	Outcome  string              `json:"outcome"` // mined, refused or frozen
	Reasons  map[string][]string `json:"reasons"` // by signer
	TxHash   string              `json:"tx_hash,omitempty"`
	RawTx    string              `json:"raw_tx,omitempty"`
	Signers  []string            `json:"signers"` // that took part in the signature
	Received string              `json:"received,omitempty"`
	Seconds  map[string]float64  `json:"seconds"`
}

// The story's numbers.
const (
	walletName  = "treasury"
	payAmount   = "1.5"
	limitAmount = "2"
	overAmount  = "5"
	fundAmount  = 20                                           // ETH
	supplier    = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed" // an example address of EIP-55
	chainID     = 1337

	etherDecimals = 18
)

// Run plays the demo. Whatever happens, it ends every process that it started.
func Run(ctx context.Context, cfg Config) (err error) {
	s := newStory(cfg.Talk)
	here := &machine{story: s, cfg: cfg}
	if err := here.prepareDir(); err != nil {
		return err
	}
	here.procs = &processes{bin: cfg.Bin, dir: here.dir}
	s.venue = here
	defer func() { err = here.end(err) }()
	result, err := s.play(ctx)
	if err != nil && ctx.Err() == nil {
		// A daemon that died explains more than the command that missed it.
		if dead := here.procs.dead(); dead != nil {
			err = fmt.Errorf("%w; %w", err, dead)
		}
	}
	if err != nil {
		return err
	}
	if !here.temporary {
		result.Dir = here.dir
	}
	if err := cfg.Done(result); err != nil {
		return err
	}
	if cfg.Keep {
		here.explain()
		<-ctx.Done()
	}
	return nil
}

// venue is where the story plays: processes of this machine, or containers.
type venue interface {
	// setup makes the cluster and waits until it answers.
	setup(ctx context.Context) error
	// as runs coffer as one person; progress gets what it says on stderr, by lines.
	as(ctx context.Context, person string, progress func(string), args ...string) (stdout string, code int, err error)
	// signerSays runs coffer-signer as the operator of one signer.
	signerSays(ctx context.Context, name string, args ...string) (stdout string, code int, err error)
	// hold stops one signer where it is, as if its machine hung; letGo has it go on.
	hold(ctx context.Context, name string) error
	letGo(ctx context.Context, name string) error
	// cutOff parts the coordinator from one signer, and reconnect brings them together.
	cutOff(ctx context.Context, name string) error
	reconnect(ctx context.Context, name string) error
	// fund pays from the dev chain's faucet.
	fund(ctx context.Context, to string, ether int64) error
	// balance asks the chain what an address owns, in wei.
	balance(ctx context.Context, address string) (*big.Int, error)
}

// story tells what happens, wherever that is.
type story struct {
	venue   venue
	talk    io.Writer
	begin   time.Time
	seconds map[string]float64
	mu      sync.Mutex // who follows an intent speaks too
	said    string
	// overheard, if set, gets what is said of the way of an intent.
	overheard func(line string)
	// again counts the payments that were made once more, each with a reference of its own.
	again int
	// frozen is the payment that actFreeze left behind, and its session; order is the
	// freeze's ID.
	frozen *session
	order  string
}

func newStory(talk io.Writer) *story {
	return &story{talk: talk, begin: time.Now(), seconds: map[string]float64{}}
}

func (s *story) say(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	s.mu.Lock()
	defer s.mu.Unlock()
	if text == s.said || s.talk == nil {
		return
	}
	s.said = text
	fmt.Fprintf(s.talk, "%6.1fs  %s\n", time.Since(s.begin).Seconds(), text)
}

// phase measures one part of the story.
func (s *story) phase(name string, f func() error) error {
	start := time.Now()
	err := f()
	s.seconds[name] = round(time.Since(start))
	return err
}

func round(d time.Duration) float64 { return float64(d.Milliseconds()) / 1000 }

func (s *story) play(ctx context.Context) (*Result, error) {
	result := &Result{Seconds: s.seconds}
	if err := s.phase("setup", func() error { return s.venue.setup(ctx) }); err != nil {
		return nil, err
	}
	if err := s.phase("wallet", func() error { return s.wallet(ctx, result) }); err != nil {
		return nil, err
	}
	if err := s.phase("fund", func() error {
		s.say("funding %s with %d ETH from the dev chain's faucet", result.Wallet.Address, fundAmount)
		return s.venue.fund(ctx, result.Wallet.Address, fundAmount)
	}); err != nil {
		return nil, err
	}
	if err := s.acts(ctx, result, s.actPayment, s.actRefusal, s.actFreeze, s.actUnfreeze); err != nil {
		return nil, err
	}
	return result, nil
}

func (s *story) acts(ctx context.Context, result *Result, acts ...func(context.Context, *Result) (*Act, error)) error {
	for _, act := range acts {
		a, err := act(ctx, result)
		if err != nil {
			return err
		}
		result.Acts = append(result.Acts, *a)
	}
	s.seconds["total"] = round(time.Since(s.begin))
	return nil
}

// intentReport is the part of coffer's JSON that the story needs.
type intentReport struct {
	ID       string   `json:"id"`
	Stage    string   `json:"stage"`
	Detail   string   `json:"detail"`
	TxHash   string   `json:"tx_hash"`
	RawTx    string   `json:"raw_tx"`
	SignedBy []string `json:"signed_by"`
	Verdicts []struct {
		Signer  string   `json:"signer"`
		Outcome string   `json:"outcome"`
		Checks  []string `json:"checks"`
		Reasons []string `json:"reasons"`
	} `json:"verdicts"`
	Phases map[string]int64 `json:"phase_ms"`
}

// as runs coffer as one person and passes on what it says of the way of an intent.
func (s *story) as(ctx context.Context, person string, args ...string) (stdout string, code int, err error) {
	return s.venue.as(ctx, person, s.hear, args...)
}

func (s *story) hear(line string) {
	if strings.HasPrefix(line, "signing: ") || strings.HasPrefix(line, "broadcast: ") || strings.Contains(line, ": frozen: ") {
		s.say("  %s", line)
		s.mu.Lock()
		overheard := s.overheard
		s.mu.Unlock()
		if overheard != nil {
			overheard(line)
		}
	}
}

func (s *story) overhear(f func(line string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.overheard = f
}

// approved has people approve an intent and follows it to its end. Who follows is
// there before the last approval: a session is over in the time that a program takes
// to start in a container.
func (s *story) approved(ctx context.Context, id string, people ...string) (*intentReport, error) {
	w, err := s.approve(ctx, id, people...)
	if err != nil {
		return nil, err
	}
	return w.end()
}

// underway is an intent that has its approvals and is followed.
type underway struct {
	id     string
	start  time.Time
	before *big.Int // what the supplier had, of a payment
	stop   context.CancelFunc
	done   chan struct{}
	out    string
	err    error
}

// end waits for the intent's.
func (w *underway) end() (*intentReport, error) {
	<-w.done
	w.stop()
	if w.err != nil {
		return nil, w.err
	}
	return parseReport(w.out)
}

func (s *story) approve(ctx context.Context, id string, people ...string) (*underway, error) {
	ctx, cancel := context.WithCancel(ctx)
	w := &underway{id: id, start: time.Now(), stop: cancel, done: make(chan struct{})}
	following := make(chan struct{})
	follow := func() {
		defer close(w.done)
		var once sync.Once
		w.out, _, w.err = s.venue.as(ctx, people[0], func(line string) {
			if strings.HasPrefix(line, "approval: ") {
				once.Do(func() { close(following) })
			}
			s.hear(line)
		}, "show", id, "--wait", "--timeout", "5m", "--json")
	}
	for i, p := range people {
		if i == len(people)-1 {
			go follow()
			select {
			case <-following:
			case <-w.done:
				cancel()
				return nil, cmp.Or(w.err, fmt.Errorf("the intent ended before %s approved: %s", p, w.out))
			}
		}
		s.say("%s reads the intent and approves it", p)
		if _, _, err := s.as(ctx, p, "approve", id, "--yes"); err != nil {
			cancel()
			return nil, err
		}
	}
	return w, nil
}

func parseReport(out string) (*intentReport, error) {
	r := new(intentReport)
	if err := json.Unmarshal([]byte(out), r); err != nil {
		return nil, fmt.Errorf("read coffer's answer: %w", err)
	}
	return r, nil
}

func (s *story) wallet(ctx context.Context, result *Result) error {
	s.say("alice asks for the wallet %q; every signer searches its own primes meanwhile", walletName)
	out, _, err := s.as(ctx, "alice", "wallet", "create", walletName, "--ref", "WALLET-1")
	if err != nil {
		return err
	}
	r, err := s.approved(ctx, strings.TrimSpace(out), "bob", "carol")
	if err != nil {
		return err
	}
	if r.Stage != "done" {
		return fmt.Errorf("the wallet was not made: %s", r.Detail)
	}
	for name, ms := range r.Phases {
		s.seconds[name] = float64(ms) / 1000
	}
	out, _, err = s.as(ctx, "alice", "wallet", "show", walletName, "--json")
	if err != nil {
		return err
	}
	var shown struct {
		Name, Address, Quorum, Record string
		PublicKey                     string `json:"public_key"`
		Signers                       []string
	}
	if err := json.Unmarshal([]byte(out), &shown); err != nil {
		return fmt.Errorf("read coffer's answer: %w", err)
	}
	var q Quorum
	if _, err := fmt.Sscanf(shown.Quorum, "%d-of-%d", &q.Need, &q.Of); err != nil {
		return fmt.Errorf("read coffer's answer: quorum %q: %w", shown.Quorum, err)
	}
	result.Wallet = Wallet{Name: shown.Name, Address: shown.Address, PublicKey: shown.PublicKey, Quorum: q, Signers: shown.Signers, Record: shown.Record}
	s.say("the wallet is %s; no process holds its key", shown.Address)
	return nil
}

// actPayment is a payment as it should be.
func (s *story) actPayment(ctx context.Context, result *Result) (*Act, error) {
	return s.pay(ctx, result, "a payment that two people approved", payAmount)
}

// pay has alice ask, two people approve, and the chain say what arrived.
func (s *story) pay(ctx context.Context, result *Result, name, amount string) (*Act, error) {
	start, act := time.Now(), len(result.Acts)+1
	want, err := policy.ParseAmount(amount, etherDecimals)
	if err != nil {
		return nil, err
	}
	w, err := s.asked(ctx, act, amount)
	if err != nil {
		return nil, err
	}
	return s.paid(ctx, w, result, act, name, want, start)
}

// asked has alice ask for a payment and two people approve it.
func (s *story) asked(ctx context.Context, act int, amount string) (*underway, error) {
	s.say("act %d: alice asks to pay %s ETH to %s", act, amount, supplier)
	before, err := s.venue.balance(ctx, supplier)
	if err != nil {
		return nil, err
	}
	out, _, err := s.as(ctx, "alice", "pay", amount, "ETH", supplier, "--from", walletName, "--ref", fmt.Sprintf("INV-%d", 6+act+s.again))
	if err != nil {
		return nil, err
	}
	w, err := s.approve(ctx, strings.TrimSpace(out), "bob", "carol")
	if err == nil {
		w.before = before
	}
	return w, err
}

// paid has the chain say that a payment arrived.
func (s *story) paid(ctx context.Context, w *underway, result *Result, act int, name string, want *big.Int, start time.Time) (*Act, error) {
	r, err := w.end()
	if err != nil {
		return nil, err
	}
	if r.Stage != "done" {
		return nil, fmt.Errorf("act %d: the payment is %s: %s", act, r.Stage, r.Detail)
	}
	after, err := s.venue.balance(ctx, supplier)
	if err != nil {
		return nil, err
	}
	received := new(big.Int).Sub(after, w.before)
	if received.Cmp(want) != 0 {
		return nil, fmt.Errorf("act %d: the chain says that %s received %s wei, want %s", act, supplier, received, want)
	}
	if len(r.SignedBy) != result.Wallet.Quorum.Need {
		return nil, fmt.Errorf("act %d: signed by %v, want exactly %d signers", act, r.SignedBy, result.Wallet.Quorum.Need)
	}
	s.say("act %d: %s, signed by %s", act, r.Detail, strings.Join(r.SignedBy, " and "))
	return &Act{
		Name: name, Outcome: "mined", Reasons: map[string][]string{}, TxHash: r.TxHash, RawTx: r.RawTx,
		Signers: r.SignedBy, Received: received.String(), Seconds: phases(r, start),
	}, nil
}

// actRefusal is a payment that breaks a rule, pressed on the signers.
func (s *story) actRefusal(ctx context.Context, result *Result) (*Act, error) {
	start := time.Now()
	s.say("act 2: alice asks to pay %s ETH, over the limit of %s ETH, and sends it anyway", overAmount, limitAmount)
	out, code, err := s.as(ctx, "alice", "pay", overAmount, "ETH", supplier, "--from", walletName, "--ref", "INV-8", "--anyway", "--wait", "--timeout", "2m", "--json")
	if err == nil {
		return nil, errors.New("act 2: the payment over the limit was not refused")
	}
	if code != 3 {
		return nil, fmt.Errorf("act 2: exit code %d, want 3 (refused): %w", code, err)
	}
	r, err := parseReport(out)
	if err != nil {
		return nil, err
	}
	reasons := map[string][]string{}
	for _, v := range r.Verdicts {
		if v.Outcome != "refuse" || len(v.Reasons) == 0 {
			return nil, fmt.Errorf("act 2: signer %s said %q without a reason to refuse", v.Signer, v.Outcome)
		}
		reasons[v.Signer] = v.Reasons
	}
	if len(reasons) != result.Wallet.Quorum.Of {
		return nil, fmt.Errorf("act 2: %d signers refused, want all %d", len(reasons), result.Wallet.Quorum.Of)
	}
	s.say("act 2: every signer refused")
	return &Act{Name: "a payment that breaks a rule, sent anyway", Outcome: "refused", Reasons: reasons, Signers: []string{}, Seconds: phases(r, start)}, nil
}

func phases(r *intentReport, start time.Time) map[string]float64 {
	out := map[string]float64{"total": round(time.Since(start))}
	for name, ms := range r.Phases {
		out[name] = float64(ms) / 1000
	}
	return out
}

// Table prints the end of the story for people.
func (r *Result) Table(w io.Writer) error {
	fmt.Fprintf(w, "\nwallet %s  %s  (%d of %d signers sign; nobody holds the key)\n\n", r.Wallet.Name, r.Wallet.Address, r.Wallet.Quorum.Need, r.Wallet.Quorum.Of)
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(tw, "ACT\tOUTCOME\tSIGNERS\tSECONDS\tDETAIL")
	for i, a := range r.Acts {
		detail := a.TxHash
		switch a.Outcome {
		case "frozen":
			detail = fmt.Sprintf("%d signers refuse, nothing is on the chain:", len(a.Reasons))
		case "refused":
			detail = fmt.Sprintf("%d signers, each with its own reason:", len(a.Reasons))
		}
		fmt.Fprintf(tw, "%d  %s\t%s\t%s\t%.1f\t%s\n", i+1, a.Name, a.Outcome, strings.Join(a.Signers, ", "), a.Seconds["total"], detail)
		for _, name := range sorted(a.Reasons) {
			fmt.Fprintf(tw, "\t\t\t\t%s: %s\n", name, strings.Join(a.Reasons[name], "; "))
		}
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "\n%.1f s in all: setup %.1f, primes %.1f, key generation %.1f\n", r.Seconds["total"], r.Seconds["setup"], r.Seconds["primes"], r.Seconds["keygen"])
	return nil
}
