package coordinator

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"iter"
	"sort"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"coffer/approval"
	"coffer/canon"
	"coffer/identity"
	"coffer/intent"
	"coffer/partial"
	"coffer/party"
	"coffer/policy"
	pb "coffer/proto/coffer/v1"
	"coffer/verdict"
)

const (
	// askWithin bounds a question that needs no work from the signer, and lateWithin how
	// much longer the others may take once enough have answered.
	askWithin  = 3 * time.Second
	lateWithin = 250 * time.Millisecond
	// maxSessions is how many sessions run at once; signers take no more than twice as many.
	maxSessions = 8
	// sessionWithin bounds one signing session; the signers have their own deadlines.
	sessionWithin = 60 * time.Second
	// ceremonyWithin bounds one key generation, which on slow machines takes minutes.
	ceremonyWithin = 10 * time.Minute
)

// signer is the coordinator's connection to one signer and what it saw of it last.
type signer struct {
	id   party.ID
	peer identity.ID
	conn *grpc.ClientConn
	api  pb.SignerClient

	listed context.Context // ends once the charter in force does not list it
	delist context.CancelFunc

	spoken  spoken
	handing chan struct{} // there are records to hand over

	mu     sync.Mutex // guards what follows
	health health
	untold map[canon.Digest]bool // what it is to be shown
	news   chan struct{}         // there is something untold, or it may be told again
	wrong  string                // about a signature under the charter that it handed out
}

func newSigner(id party.ID, peer identity.ID, conn *grpc.ClientConn) *signer {
	listed, delist := context.WithCancel(context.Background())
	return &signer{id: id, peer: peer, conn: conn, api: pb.NewSignerClient(conn), listed: listed, delist: delist, untold: map[canon.Digest]bool{}, handing: make(chan struct{}, 1), news: make(chan struct{}, 1)}
}

// pollAll asks every signer for its status now.
func (c *Coordinator) pollAll(ctx context.Context) {
	var wg sync.WaitGroup
	for _, s := range c.signers() {
		wg.Go(func() { c.poll(ctx, s) })
	}
	wg.Wait()
}

// exchangeWallets learns the records that a signer has and offers it those that it
// lacks, because it was cut off in the last moment of their ceremony.
func (c *Coordinator) exchangeWallets(ctx context.Context, s *signer, st *pb.StatusResponse) {
	has := map[string]bool{}
	for _, record := range st.Wallets {
		r, err := c.learn(record)
		if err != nil {
			c.log.Warn("signer shows a wallet record that cannot be taken", "signer", s.id, "error", err)
			continue
		}
		has[r.Name] = true
	}
	if st.Sealed {
		return
	}
	c.mu.Lock()
	var missing []*pb.SignedRecord
	for name, record := range c.records {
		if !has[name] {
			missing = append(missing, record)
		}
	}
	c.mu.Unlock()
	for _, record := range missing {
		ask, cancel := context.WithTimeout(ctx, askWithin)
		_, err := s.api.AdoptWallet(ask, &pb.AdoptWalletRequest{Wallet: record})
		cancel()
		if err != nil {
			c.log.Debug("signer does not adopt a wallet", "signer", s.id, "error", err)
		}
	}
}

func signedMessage(raw, signature []byte) *pb.SignedMessage {
	return &pb.SignedMessage{Raw: raw, Signature: signature}
}

func statements(list []approval.Signed) []*pb.SignedMessage {
	out := make([]*pb.SignedMessage, len(list))
	for i, s := range list {
		out[i] = signedMessage(s.Raw, s.Signature)
	}
	return out
}

// judge asks every signer for its signed verdict at the same time. It waits for those
// that were not away a moment ago; and when enough is not zero, once so many would sign
// for the others only a little longer.
func (c *Coordinator) judge(ctx context.Context, it *item, enough int) map[string]verdRec {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	type answer struct {
		s     *signer
		rec   verdRec
		signs bool
	}
	asked := c.signers()
	answers := make(chan answer, len(asked))
	out, waiting := map[string]verdRec{}, map[*signer]bool{}
	for _, s := range asked {
		_, err := s.seen()
		if err == nil {
			err = errors.New("no answer yet")
			waiting[s] = true
		}
		out[string(s.id)] = verdRec{Error: err.Error()}
		go func() {
			rec, signs := c.verdictOf(ctx, s, it)
			answers <- answer{s, rec, signs}
		}()
	}
	patient := len(waiting) > 0
	var late <-chan time.Time
	willing := 0
	for range asked {
		select {
		case a := <-answers:
			delete(waiting, a.s)
			out[string(a.s.id)] = a.rec
			if a.signs {
				willing++
			}
		case <-late:
			return out
		case <-ctx.Done():
			return out
		}
		if patient && len(waiting) == 0 {
			return out
		}
		if enough > 0 && willing >= enough && late == nil {
			late = time.After(lateWithin)
		}
	}
	return out
}

func (c *Coordinator) verdictOf(ctx context.Context, s *signer, it *item) (rec verdRec, signs bool) {
	begin := time.Now()
	reply, err := s.api.Judge(ctx, &pb.JudgeRequest{
		Intent:     signedMessage(it.Intent.Raw, it.Intent.Signature),
		Statements: statements(it.Statements),
		UnsignedTx: it.Unsigned,
	})
	if err != nil {
		if status.Code(err) == codes.Unavailable {
			c.lost(s, begin, err)
		}
		return verdRec{Error: status.Convert(err).Message()}, false
	}
	s.alive()
	rec.Raw, rec.Signature = reply.Verdict, reply.Signature
	v, err := c.openVerdict(s, it.ID, rec)
	if err != nil {
		return verdRec{Error: err.Error()}, false
	}
	return rec, v.Outcome == verdict.Sign
}

func (c *Coordinator) openVerdict(s *signer, id canon.Digest, rec verdRec) (*verdict.Verdict, error) {
	v, err := verdict.Verify(rec.Raw, rec.Signature, s.peer)
	if err != nil {
		return nil, fmt.Errorf("verdict of %s: %w", s.id, err)
	}
	if v.Signer != s.id || v.Intent != id || v.Cluster != c.cluster {
		return nil, fmt.Errorf("verdict of %s is about something else", s.id)
	}
	return v, nil
}

// tally sorts the verdicts by what they say.
type tally struct {
	sign, refuse []*signer // the others wait or are away
	reasons      []string  // of all that would not sign
}

// passing are the codes of refusals that are about the signer and not about the
// intent: its clock, its charter or lists, which may be older than those here, or a wallet
// whose ceremony it has yet to hear the end of. They end nothing; it may answer otherwise
// when asked again.
var passing = map[string]bool{
	"GATE_SELF": true, "CLOCK_BACK": true, "WALLET_UNKNOWN": true, "WALLET_EXISTS": true,
	"INTENT_CHARTER": true, policy.CodeListStale: true,
}

// final says whether a refusal is about the intent. The check that refused comes last;
// what those before it wait for is no refusal.
func final(v *verdict.Verdict) bool {
	if len(v.Reasons) == 0 {
		return true
	}
	by := v.Reasons[len(v.Reasons)-1].Check
	for _, r := range v.Reasons {
		// Missing approvals are named beside what a rule denies, and deny nothing.
		if r.Check == by && !passing[r.Code] && r.Code != policy.CodeApprovals {
			return true
		}
	}
	return false
}

func (c *Coordinator) tally(it *item, among []*signer) tally {
	var t tally
	for _, s := range among {
		rec, asked := it.Verdicts[string(s.id)]
		if !asked {
			continue
		}
		if rec.Error != "" {
			t.reasons = append(t.reasons, fmt.Sprintf("%s: %s", s.id, rec.Error))
			continue
		}
		v, err := c.openVerdict(s, it.ID, rec)
		if err != nil {
			t.reasons = append(t.reasons, err.Error())
			continue
		}
		if v.Outcome == verdict.Sign {
			t.sign = append(t.sign, s)
			continue
		}
		if v.Outcome == verdict.Refuse && final(v) {
			t.refuse = append(t.refuse, s)
		}
		var texts []string
		for _, r := range v.Reasons {
			texts = append(texts, r.Text)
		}
		if len(texts) == 0 { // such as a signer that only waits to be unsealed
			texts = v.Missing
		}
		t.reasons = append(t.reasons, fmt.Sprintf("%s: %s", s.id, strings.Join(texts, "; ")))
	}
	return t
}

// choose picks exactly need signers: those that reach each other and failed least lately.
//
// Among quorums whose members say that they are connected, what tried counts goes first:
// one that was tried for this intent comes again only when every other one was. Blame
// would not do: one hostile signer that names the honest ones, or is silent and has them
// report it, would be in every quorum. Nor does a lie about a connection help: it only
// puts the liar's own quorums last. Nil means that no quorum is connected.
func choose(willing []*signer, need int, tried map[string]int, now time.Time) []*signer {
	list := append([]*signer(nil), willing...)
	failures := map[*signer]float64{}
	for _, s := range list {
		failures[s] = s.recentFailures(now)
	}
	sort.SliceStable(list, func(i, j int) bool { return failures[list[i]] < failures[list[j]] })
	var best []*signer
	least := 0
	for n, quorum := range subsets(list, need) {
		if n > maxSubsets || best != nil && least == 0 {
			break
		}
		if !connected(quorum) {
			continue
		}
		sort.Slice(quorum, func(i, j int) bool { return quorum[i].id < quorum[j].id })
		if count := tried[quorumKey(quorum)]; best == nil || count < least {
			best, least = quorum, count
		}
	}
	return best
}

func connected(quorum []*signer) bool {
	for _, s := range quorum {
		for _, other := range quorum {
			if s != other && !s.reaches(other) {
				return false
			}
		}
	}
	return true
}

// maxSubsets bounds the search for a quorum that was not tried; no intent lives to try as many.
const maxSubsets = 1000

// subsets yields the subsets of need members, those of the first members first.
func subsets(list []*signer, need int) iter.Seq2[int, []*signer] {
	return func(yield func(int, []*signer) bool) {
		at := make([]int, need)
		for i := range at {
			at[i] = i
		}
		for n := 0; ; n++ {
			quorum := make([]*signer, need)
			for i, j := range at {
				quorum[i] = list[j]
			}
			if !yield(n, quorum) {
				return
			}
			i := need - 1
			for i >= 0 && at[i] == len(list)-need+i {
				i--
			}
			if i < 0 {
				return
			}
			at[i]++
			for j := i + 1; j < need; j++ {
				at[j] = at[j-1] + 1
			}
		}
	}
}

func quorumKey(quorum []*signer) string {
	names := make([]string, len(quorum))
	for i, s := range quorum {
		names[i] = string(s.id)
	}
	return strings.Join(names, ",")
}

func freshAttempt() ([]byte, error) {
	attempt := make([]byte, 32)
	_, err := rand.Read(attempt)
	return attempt, err
}

// sessionError is how a session or ceremony ended at one signer.
type sessionError struct {
	signer   party.ID
	code     string
	text     string
	culprits []string
	refused  *verdRec
	passes   bool // nobody did wrong: a signer was away, and others may do without it
}

func (e *sessionError) Error() string {
	if len(e.culprits) > 0 {
		return fmt.Sprintf("%s: %s (%s names %s)", e.signer, e.text, e.code, strings.Join(e.culprits, ", "))
	}
	return fmt.Sprintf("%s: %s (%s)", e.signer, e.text, e.code)
}

// session has exactly the given signers sign and returns their partials.
func (c *Coordinator) session(ctx context.Context, it *item, signers []*signer) ([]partial.Partial, error) {
	ctx, cancel := context.WithTimeout(ctx, sessionWithin)
	defer cancel()
	attempt, err := freshAttempt()
	if err != nil {
		return nil, err
	}
	names := make([]string, len(signers))
	for i, s := range signers {
		names[i] = string(s.id)
	}
	partials := make([]partial.Partial, len(signers))
	// The first failure cancels the others' streams, which ends the session there too.
	g, ctx := errgroup.WithContext(ctx)
	for i, s := range signers {
		g.Go(func() error {
			p, err := c.partialOf(ctx, s, it, &pb.SignRequest{
				Intent: signedMessage(it.Intent.Raw, it.Intent.Signature), Statements: statements(it.Statements),
				UnsignedTx: it.Unsigned, Signers: names, Attempt: attempt,
			})
			partials[i] = p
			return err
		})
	}
	return partials, g.Wait()
}

// partialOf follows one signer's part of a session to its end. A signer that is lost on
// the way ends it: the next quorum need not wait for the deadline.
func (c *Coordinator) partialOf(ctx context.Context, s *signer, it *item, req *pb.SignRequest) (partial.Partial, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	away := s.away()
	go func() {
		select {
		case <-away:
			cancel(errAway)
		case <-ctx.Done():
		}
	}()
	begin := time.Now()
	stream, err := s.api.Sign(ctx, req)
	for {
		var event *pb.SignEvent
		if err == nil {
			event, err = stream.Recv()
		}
		if err != nil {
			return partial.Partial{}, c.unreachable(ctx, s, begin, err)
		}
		s.alive()
		begin = time.Now()
		switch e := event.Event.(type) {
		case *pb.SignEvent_Progress:
			c.say(it.ID, "%s: %s", s.id, e.Progress.Text)
		case *pb.SignEvent_Partial:
			p := e.Partial
			if len(p.Session) != 32 || len(p.R) != 33 || len(p.S) != 32 {
				return partial.Partial{}, &sessionError{signer: s.id, code: "PARTIAL_MALFORMED", text: "a partial with fields of a wrong length"}
			}
			return partial.Partial{Session: canon.Digest(p.Session), R: [33]byte(p.R), S: [32]byte(p.S)}, nil
		default:
			return partial.Partial{}, ended(s, event.GetRefused(), event.GetFailed())
		}
	}
}

var errAway = errors.New("the signer is away")

// unreachable is how a call to a signer ended that brought no answer of its own.
func (c *Coordinator) unreachable(ctx context.Context, s *signer, begin time.Time, err error) error {
	switch {
	case errors.Is(context.Cause(ctx), errAway):
		text := "it is away"
		if _, err := s.seen(); err != nil {
			text = err.Error()
		}
		return &sessionError{signer: s.id, code: "SIGNER_UNREACHABLE", text: text, passes: true}
	case errors.Is(err, io.EOF):
		return &sessionError{signer: s.id, code: "SIGNER_ENDED", text: "ended without an answer", passes: true}
	case ctx.Err() == nil && status.Code(err) == codes.Unavailable:
		c.lost(s, begin, err)
	}
	return &sessionError{
		signer: s.id, code: "SIGNER_UNREACHABLE", text: status.Convert(err).Message(),
		passes: gone(err) || status.Code(err) == codes.ResourceExhausted,
	}
}

// absences are the codes by which a signer says that one is missing, itself or a peer.
var absences = map[string]bool{"PEER_AWAY": true, "STOPPING": true, "SEALED": true}

func ended(s *signer, refused *pb.JudgeResponse, failed *pb.Failure) error {
	if refused != nil {
		return &sessionError{signer: s.id, code: "REFUSED", text: "refused", refused: &verdRec{Raw: refused.Verdict, Signature: refused.Signature}}
	}
	return &sessionError{signer: s.id, code: failed.GetCode(), text: failed.GetText(), culprits: failed.GetCulprits(), passes: absences[failed.GetCode()]}
}

// ceremony has all signers generate the key of a wallet and returns its record.
func (c *Coordinator) ceremony(ctx context.Context, it *item, i *intent.Intent, signers []*signer) (*pb.SignedRecord, error) {
	ctx, cancel := context.WithTimeout(ctx, ceremonyWithin)
	defer cancel()
	attempt, err := freshAttempt()
	if err != nil {
		return nil, err
	}
	records := make([]*pb.SignedRecord, len(signers))
	g, ctx := errgroup.WithContext(ctx)
	for n, s := range signers {
		g.Go(func() error {
			begin := time.Now()
			stream, err := s.api.CreateWallet(ctx, &pb.CreateWalletRequest{
				Intent: signedMessage(it.Intent.Raw, it.Intent.Signature), Statements: statements(it.Statements), Attempt: attempt,
			})
			if err != nil {
				return c.unreachable(ctx, s, begin, err)
			}
			for {
				event, err := stream.Recv()
				if err != nil {
					return c.unreachable(ctx, s, begin, err)
				}
				s.alive()
				begin = time.Now()
				switch e := event.Event.(type) {
				case *pb.CeremonyEvent_Progress:
					c.say(it.ID, "%s: %s", s.id, e.Progress.Text)
				case *pb.CeremonyEvent_Wallet:
					records[n] = e.Wallet
					return nil
				default:
					return ended(s, event.GetRefused(), event.GetFailed())
				}
			}
		})
	}
	err = g.Wait()
	// One whole record is enough: it carries all signatures, and signers that were
	// cut off adopt it later.
	for _, record := range records {
		if record == nil {
			continue
		}
		r, learnErr := c.learn(record)
		if learnErr != nil {
			return nil, learnErr
		}
		if r.Name != i.Wallet {
			return nil, fmt.Errorf("signers made wallet %q, want %q", r.Name, i.Wallet)
		}
		return record, nil
	}
	if err == nil {
		err = errors.New("the ceremony ended without a record")
	}
	return nil, err
}
