package coordinator_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"coffer/engine"
	"coffer/engine/enginetest"
	"coffer/internal/cluster"
	"coffer/party"
	pb "coffer/proto/coffer/v1"
	"coffer/transport/memnet"
)

// spy is told of every event of every signer's engine.
type spy struct {
	mu   sync.Mutex
	hook func(party.ID, *engine.Event)
}

func (s *spy) on(hook func(party.ID, *engine.Event)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hook = hook
}

func (s *spy) config(cfg *cluster.Config) {
	cfg.Doors = true
	cfg.Host = func(id party.ID) (engine.Host, error) {
		host := enginetest.New()
		host.OnEvent = func(e *engine.Event) bool {
			s.mu.Lock()
			hook := s.hook
			s.mu.Unlock()
			if hook != nil {
				hook(id, e)
			}
			return true
		}
		return host, nil
	}
}

// A signer that dies or falls silent in the middle of a session costs one short wait:
// its loss is known within three seconds, and the next quorum's session begins at once.
func TestSignerLostInSession(t *testing.T) {
	t.Parallel()
	s := &spy{}
	w := &world{cluster.NewTreasury(t, s.config).Fund(), t}

	for name, c := range map[string]struct{ lose, back func(m *cluster.Member) }{
		"killed": {
			func(m *cluster.Member) { m.Door.Shut(true); w.Net.Partition(party.Set{m.ID}) },
			func(m *cluster.Member) { m.Door.Shut(false); w.Net.Heal() },
		},
		"stopped": {
			func(m *cluster.Member) { m.Door.Freeze(); w.Net.Partition(party.Set{m.ID}) },
			func(m *cluster.Member) { m.Door.Thaw(); w.Net.Heal() },
		},
		"silent to the coordinator alone": {
			func(m *cluster.Member) { m.Door.Freeze() },
			func(m *cluster.Member) { m.Door.Thaw() },
		},
	} {
		t.Run(name, func(t *testing.T) {
			w.paid(2, func() {
				var once sync.Once
				var victim *cluster.Member
				var at time.Time
				s.on(func(id party.ID, e *engine.Event) {
					if e.Out == nil {
						return
					}
					once.Do(func() { // the first protocol message of the session
						victim, at = w.Members[id], time.Now()
						c.lose(victim)
					})
				})
				id := w.mustSubmit(w.payment("LOST-"+strings.ToUpper(strings.ReplaceAll(name, " ", "-")), 1))
				w.approve(id)
				v := w.wantDone(id)
				s.on(nil)
				// Three seconds to know it, two for the next session to begin; the rest is the
				// session, which on a machine that is busy with other tests takes its time.
				if took := time.Since(at); took > 12*time.Second {
					t.Errorf("it took %s after the loss", took)
				}
				if signed := strings.Join(v.SignedBy, ","); strings.Contains(signed, string(victim.ID)) {
					t.Errorf("signed by %s, %s was lost", signed, victim.ID)
				}
				cl, err := w.API.Cluster(t.Context(), &pb.ClusterRequest{})
				w.must(err)
				for _, st := range cl.Signers {
					if lost := st.Name == string(victim.ID); st.Reachable == lost || lost && st.Error == "" {
						t.Errorf("signer %s: reachable %v, %q, %d failures", st.Name, st.Reachable, st.Error, st.Failures)
					}
				}

				// It comes back by itself, and takes part when it is needed.
				c.back(victim)
				other := w.Members[map[party.ID]party.ID{"a": "b", "b": "c", "c": "a"}[victim.ID]]
				other.Stop()
				id = w.mustSubmit(w.payment("BACK-"+strings.ToUpper(strings.ReplaceAll(name, " ", "-")), 1))
				w.approve(id)
				if signed := strings.Join(w.wantDone(id).SignedBy, ","); !strings.Contains(signed, string(victim.ID)) {
					t.Errorf("signed by %s, without %s", signed, victim.ID)
				}
				other.Start()
			})
		})
	}
}

// A signer that is known to be away costs nothing: nobody waits for it.
func TestAwaySignerCostsNoTime(t *testing.T) {
	t.Parallel()
	s := &spy{}
	w := &world{cluster.NewTreasury(t, s.config).Fund(), t}
	w.Members["b"].Door.Freeze()
	w.Eventually("b is known to be away", func() bool {
		cl, err := w.API.Cluster(t.Context(), &pb.ClusterRequest{})
		return err == nil && !cl.Signers[1].Reachable && strings.Contains(cl.Signers[1].Error, "no answer within")
	})
	id := w.mustSubmit(w.payment("WITHOUT-B", 1))
	begin := time.Now()
	v := w.get(id)
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("verdicts took %s", took)
	}
	if len(v.Verdicts) != 3 || v.Verdicts[1].Error == "" || v.Verdicts[0].Error != "" || v.Verdicts[2].Error != "" {
		t.Errorf("verdicts %v", v.Verdicts)
	}
	w.approve(id)
	if got := strings.Join(w.wantDone(id).SignedBy, ","); got != "a,c" {
		t.Errorf("signed by %s", got)
	}
}

// Slow signers are not dead ones: the payment is signed, late, in one session.
func TestSlowSigners(t *testing.T) {
	t.Parallel()
	w := newFunded(t)
	w.Net.SetFaults(memnet.Faults{MinDelay: 150 * time.Millisecond, MaxDelay: 300 * time.Millisecond})
	id := w.mustSubmit(w.payment("SLOW", 1))
	w.approve(id)
	w.wantDone(id)
	cl, err := w.API.Cluster(t.Context(), &pb.ClusterRequest{})
	w.must(err)
	for _, st := range cl.Signers {
		if !st.Reachable || st.Failures != 0 || st.RoundTripUs == 0 || st.Seen == 0 || st.ClockAheadMs != 0 {
			t.Errorf("signer %s: %v", st.Name, st)
		}
	}
}

// While signers do not reach each other no session is begun, and none is counted; when
// they do again, the payment goes on.
func TestSignersApart(t *testing.T) {
	t.Parallel()
	w := newFunded(t)
	w.Net.Partition(party.Set{"a"})
	w.Net.Cut("b", "c")
	w.Eventually("the coordinator knows it", func() bool {
		cl, err := w.API.Cluster(t.Context(), &pb.ClusterRequest{})
		w.must(err)
		for _, st := range cl.Signers {
			for _, p := range st.Status.GetPeers() {
				if p.Connected {
					return false
				}
			}
		}
		return true
	})
	id := w.mustSubmit(w.payment("APART", 1))
	w.approve(id)
	w.until(id, "waiting", func(v *pb.IntentView) bool { return strings.Contains(v.Progress, "connected to each other") })
	w.Net.Heal()
	w.wantDone(id)
}
