package coordinator

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "coffer/proto/coffer/v1"
)

const (
	// pollEvery is how often each signer is asked for its status, and pollWithin how long
	// it may take: together, how long a signer that fell silent can hold up a session.
	pollEvery  = time.Second
	pollWithin = 2 * time.Second
	// forgiveAfter is when a failure of a signer counts half.
	forgiveAfter = time.Minute
)

// health is what the coordinator saw of a signer. It chooses by it whom to ask, never
// what to believe.
type health struct {
	status    *pb.StatusResponse // its last
	err       error              // why it is away; nil while it answers, and before it was asked
	lost      chan struct{}      // closed while it is away
	heard     time.Time          // its last sign of life
	roundTrip time.Duration
	ahead     time.Duration
	failures  float64 // sessions that failed with it, each counting less and less
	failed    time.Time
}

func (s *signer) seen() (*pb.StatusResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.health.status, s.health.err
}

// away is closed once the signer is known to be away, and may be so already.
func (s *signer) away() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lostChannel()
}

func (s *signer) lostChannel() chan struct{} {
	if s.health.lost == nil {
		s.health.lost = make(chan struct{})
	}
	return s.health.lost
}

// alive notes a sign of life, and says whether the signer was away before.
func (s *signer) alive() (back bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.revive()
}

func (s *signer) revive() (back bool) {
	s.health.heard = time.Now()
	if s.health.err == nil {
		return false
	}
	s.health.err, s.health.lost = nil, nil
	return true
}

// lose notes that the signer is away: it has not answered what was asked at begin. A
// sign of life since then says more. It reports whether this is news.
func (s *signer) lose(begin time.Time, err error) (news bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.health.heard.After(begin) {
		return false
	}
	news = s.health.err == nil
	if s.health.err = err; news {
		close(s.lostChannel())
	}
	return news
}

// count notes how a session with the signer ended.
func (s *signer) count(ok bool, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.health.failures = s.decayed(now)
	s.health.failed = now
	if ok {
		s.health.failures = 0
	} else {
		s.health.failures++
	}
}

func (s *signer) decayed(now time.Time) float64 {
	return s.health.failures * math.Exp2(-float64(now.Sub(s.health.failed))/float64(forgiveAfter))
}

func (s *signer) recentFailures(now time.Time) float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.decayed(now)
}

// reaches says whether the signer says that it is connected to another one; true while
// it has said nothing.
func (s *signer) reaches(other *signer) bool {
	st, _ := s.seen()
	for _, p := range st.GetPeers() {
		if p.Signer == string(other.id) {
			return p.Connected
		}
	}
	return true
}

// watchSigner keeps the status of one signer fresh, hands it wallets that it missed the
// end of, and has it told what it does not know yet.
func (c *Coordinator) watchSigner(ctx context.Context, s *signer) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		c.poll(ctx, s)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-s.handing:
			c.exchange(ctx, s)
		}
	}
}

func (c *Coordinator) poll(ctx context.Context, s *signer) {
	ask, cancel := context.WithTimeout(ctx, pollWithin)
	defer cancel()
	begin := time.Now()
	st, err := s.api.Status(ask, &pb.StatusRequest{})
	if ctx.Err() != nil {
		return
	}
	if err == nil {
		err = c.sameCharter(st)
	}
	if err != nil {
		c.lost(s, begin, err)
		c.askOtherwise(ctx, s)
		return
	}
	now := time.Now()
	s.mu.Lock()
	first := s.health.status == nil
	back := s.revive()
	s.health.status, s.health.roundTrip = st, now.Sub(begin)
	s.health.ahead = clockAhead(st.UnixTime, begin, now)
	s.mu.Unlock()
	if first || back {
		c.log.Info("signer answers", "signer", s.id)
	}
	c.collect(ctx, s, st) // first: no record counts before the charter is signed
	if c.differs(s, st) {
		c.exchange(ctx, s)
	}
	c.exchangeAddresses(ctx, s, st)
	c.exchangeWallets(ctx, s, st)
	if c.rebuild.wants(s) && !c.outdated(st) {
		c.recall(ctx, s)
	}
	s.kick()
}

// lost notes that a signer did not answer, and says so once.
func (c *Coordinator) lost(s *signer, begin time.Time, err error) {
	text := status.Convert(err).Message()
	if status.Code(err) == codes.DeadlineExceeded {
		text = fmt.Sprintf("no answer within %s", pollWithin)
	}
	if s.lose(begin, errors.New(text)) {
		c.log.Warn("signer does not answer", "signer", s.id, "error", text)
	}
}

// gone says whether an error of a call means that nobody was there to answer it, and
// not that the signer did not want to.
func gone(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
		return true
	default:
		return false
	}
}

// clockAhead is how far a clock that showed the second unix, some time between begin
// and end, is at least ahead; negative behind.
func clockAhead(unix int64, begin, end time.Time) time.Duration {
	if early := time.Unix(unix, 0).Sub(end); early > 0 {
		return early
	}
	if late := time.Unix(unix+1, 0).Sub(begin); late < 0 {
		return late
	}
	return 0
}

func (s *signer) state(now time.Time) *pb.SignerState {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := &s.health
	out := &pb.SignerState{
		Name: string(s.id), Reachable: h.err == nil && h.status != nil, Status: h.status,
		RoundTripUs: h.roundTrip.Microseconds(), ClockAheadMs: h.ahead.Milliseconds(), Failures: uint32(math.Round(s.decayed(now))),
	}
	if !h.heard.IsZero() {
		out.Seen = h.heard.Unix()
	}
	switch {
	case h.err != nil:
		out.Error = h.err.Error()
	case s.wrong != "":
		out.Error = "hands out a signature under the charter that does not count: " + s.wrong
	}
	return out
}
