package coordinator

import (
	"errors"
	"slices"
	"testing"
	"time"

	"coffer/party"
	pb "coffer/proto/coffer/v1"
)

// Whoever is hostile, and whatever is said of whom: before a quorum is tried again,
// each other one was. So as long as one honest quorum is willing, it is asked.
func TestEveryQuorumIsTriedOnce(t *testing.T) {
	for name, blame := range map[string]func(quorum []*signer) []*signer{
		"nobody":       func([]*signer) []*signer { return nil },
		"the reporter": func(q []*signer) []*signer { return q[len(q)-1:] },
		"the first":    func(q []*signer) []*signer { return q[:1] },
		"the honest": func(q []*signer) []*signer {
			return slices.DeleteFunc(slices.Clone(q), func(s *signer) bool { return s.id == "a" })
		},
		"all": func(q []*signer) []*signer { return q },
	} {
		for _, size := range []struct{ need, of, quorums int }{{2, 3, 3}, {3, 5, 10}, {2, 2, 1}, {4, 7, 35}} {
			var willing []*signer
			for i := range size.of {
				willing = append(willing, &signer{id: party.ID(rune('a' + i))})
			}
			tried := map[string]int{}
			for n := range 2 * size.quorums {
				quorum := choose(willing, size.need, tried, time.Now())
				if len(quorum) != size.need {
					t.Fatalf("%d signers chosen, want %d", len(quorum), size.need)
				}
				key := quorumKey(quorum)
				if want := n / size.quorums; tried[key] != want {
					t.Fatalf("blaming %s, %d of %d: try %d is of %s again, %d were tried", name, size.need, size.of, n, key, len(tried))
				}
				tried[key]++
				for _, s := range blame(quorum) {
					s.count(false, time.Now())
				}
			}
		}
	}
}

// Among quorums tried as often, the signers that failed least come first.
func TestFewestFailuresFirst(t *testing.T) {
	now := time.Now()
	a, b, c := &signer{id: "a"}, &signer{id: "b"}, &signer{id: "c"}
	a.count(false, now)
	a.count(false, now)
	c.count(false, now)
	if got := quorumKey(choose([]*signer{a, b, c}, 2, nil, now)); got != "b,c" {
		t.Errorf("chose %s", got)
	}
	if got := quorumKey(choose([]*signer{a, b, c}, 2, map[string]int{"b,c": 1}, now)); got != "a,b" {
		t.Errorf("after b and c failed together: %s", got)
	}
	// Failures of long ago count less than one of now.
	later := now.Add(3 * forgiveAfter)
	c.count(false, later)
	if got := quorumKey(choose([]*signer{a, b, c}, 2, nil, later)); got != "a,b" {
		t.Errorf("three half-lives later: %s", got)
	}
	c.count(true, later)
	if got := quorumKey(choose([]*signer{a, b, c}, 2, nil, later)); got != "b,c" {
		t.Errorf("after a success of c: %s", got)
	}
}

// knows makes a signer say which peers it is connected to.
func (s *signer) knows(connected map[string]bool) *signer {
	s.health.status = &pb.StatusResponse{}
	for peer, ok := range connected {
		s.health.status.Peers = append(s.health.status.Peers, &pb.PeerStatus{Signer: peer, Connected: ok})
	}
	return s
}

// A quorum whose members do not reach each other is not asked, however rarely it was
// tried; a signer that lies about its connections is left out, and nobody else.
func TestOnlyConnectedQuorums(t *testing.T) {
	now := time.Now()
	a, b, c := &signer{id: "a"}, &signer{id: "b"}, &signer{id: "c"}
	all := []*signer{a, b, c}
	a.knows(map[string]bool{"b": false, "c": true})
	b.knows(map[string]bool{"a": true, "c": true})
	c.knows(map[string]bool{"a": true, "b": true})
	tried := map[string]int{"a,c": 3, "b,c": 2}
	if got := quorumKey(choose(all, 2, tried, now)); got != "b,c" {
		t.Errorf("chose %s although a does not reach b", got)
	}
	a.knows(map[string]bool{"b": false, "c": false})
	for range 5 {
		got := quorumKey(choose(all, 2, tried, now))
		if tried[got]++; got != "b,c" {
			t.Errorf("chose %s although a reaches nobody", got)
		}
	}
	b.knows(map[string]bool{"c": false})
	if got := choose(all, 2, tried, now); got != nil {
		t.Errorf("chose %s although nobody reaches anybody", quorumKey(got))
	}
	if got := quorumKey(choose([]*signer{{id: "d"}, {id: "e"}}, 2, nil, now)); got != "d,e" {
		t.Errorf("of signers that were not asked yet: %q", got)
	}
}

// A signer is lost once, when it did not answer since it was asked; a sign of life of
// any kind brings it back.
func TestLost(t *testing.T) {
	s := &signer{id: "a"}
	begin := time.Now()
	s.alive()
	if s.lose(begin, errors.New("late")) {
		t.Error("lost although it was heard meanwhile")
	}
	away := s.away()
	select {
	case <-away:
		t.Error("away before it is lost")
	default:
	}
	if begin = time.Now(); !s.lose(begin, errors.New("silent")) || s.lose(begin, errors.New("still")) {
		t.Error("the loss is not news exactly once")
	}
	<-away
	<-s.away() // who asks later learns it too
	if !s.alive() || s.alive() {
		t.Error("it does not come back exactly once")
	}
	select {
	case <-s.away():
		t.Error("away after a sign of life")
	default:
	}
	if _, err := s.seen(); err != nil {
		t.Error(err)
	}
}

func TestClockAhead(t *testing.T) {
	at := func(ms int64) time.Time { return time.UnixMilli(1_000_000_000_000 + ms) }
	const unix = 1_000_000_000
	for _, c := range []struct {
		begin, end int64
		want       time.Duration
	}{
		{0, 10, 0}, {990, 999, 0}, {-100, 20, 0}, // its second and the question overlap
		{-2000, -1500, 1500 * time.Millisecond},
		{4000, 4100, -3 * time.Second},
	} {
		if got := clockAhead(unix, at(c.begin), at(c.end)); got != c.want {
			t.Errorf("asked from %d to %d ms after its second began: %s, want %s", c.begin, c.end, got, c.want)
		}
	}
}
