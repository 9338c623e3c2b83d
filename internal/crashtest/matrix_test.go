//go:build e2e && crashpoint

package crashtest

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// place is where a process is ended: the nth time that it comes there.
type place struct {
	name string
	n    int
}

// reads answer questions and change nothing: one death at each is enough.
var reads = []string{"/Get", "/Status", "/Watch", "/List", "/Wallets"}

func isRead(name string) bool {
	return slices.ContainsFunc(reads, func(read string) bool { return strings.Contains(name, read) })
}

// most bounds the deaths at one place. A payment passes none as often.
const most = 12

// places makes a list of what a process recorded.
func places(seen map[string]int) []place {
	var out []place
	for _, name := range slices.Sorted(maps.Keys(seen)) {
		times := min(seen[name], most)
		if isRead(name) {
			times = 1
		}
		for n := range times {
			out = append(out, place{name, n + 1})
		}
	}
	return out
}

// survive ends a process at a place while work is done, starts it again at once, and
// reports whether the place was reached. The work itself must succeed.
func survive(t *testing.T, p *process, at place, work func() error) (reached bool) {
	t.Helper()
	p.order("kill", at.name, at.n)
	worked := make(chan error, 1)
	go func() { worked <- work() }()
	for {
		select {
		case <-p.ended():
			p.revive()
		case err := <-worked:
			if err != nil {
				t.Errorf("%s ended at %s %d: %v", p.name, at.name, at.n, err)
			}
			// It may have died of the last thing that it did.
			if reached = p.fired(); reached {
				select {
				case <-p.ended():
					p.revive()
				default:
				}
			}
			return reached
		}
	}
}

// matrix ends p at every place that it came to while work was recorded.
func matrix(t *testing.T, p *process, seen map[string]int, work func() error) {
	t.Helper()
	list := places(seen)
	reached := map[string]bool{}
	for _, at := range list {
		start := time.Now()
		if survive(t, p, at, work) {
			reached[at.name] = true
		} else {
			// How often a process comes to a place differs from time to time.
			t.Logf("%s did not come to %s %d times", p.name, at.name, at.n)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Logf("%s ended at %s %d: took %s", p.name, at.name, at.n, took.Round(time.Millisecond))
		}
		if t.Failed() {
			t.FailNow() // the next payments would wait for this one's nonce
		}
	}
	for name := range seen {
		if !reached[name] && !isRead(name) {
			t.Errorf("%s was never ended at %s, where it came %d times", p.name, name, seen[name])
		}
	}
	t.Logf("%s: ended at %d places, %d times", p.name, len(reached), len(list))
}

// TestPaymentMatrix ends the coordinator and a signer at every write and every send of
// a payment: it is made once, always. The third signer is away, so that no other
// quorum can help.
func TestPaymentMatrix(t *testing.T) {
	t.Parallel()
	c := newCluster(t, nil).fund()
	c.signers["c"].kill()
	c.must(c.pay())
	a, b := c.signers["a"], c.signers["b"]
	for _, p := range []*process{a, b, c.desk} {
		p.record()
	}
	c.must(c.pay())
	seen := map[*process]map[string]int{}
	for _, p := range []*process{a, b, c.desk} {
		seen[p] = p.recorded()
	}
	for _, p := range []*process{c.desk, a} {
		matrix(t, p, seen[p], c.pay)
	}
	// The other signer waits where the first calls: only what the first did not pass.
	for name := range seen[a] {
		delete(seen[b], name)
	}
	matrix(t, b, seen[b], c.pay)
	c.checkChain()
	c.checkLogs()
}

// TestStartMatrix ends each process at every write of its start, of which it must
// recover by another start, with nothing done by hand.
func TestStartMatrix(t *testing.T) {
	c := newCluster(t, nil).fund()
	for _, p := range []*process{c.desk, c.signers["a"]} {
		p.kill()
		p.record()
		p.mustStart()
		seen := p.recorded()
		for _, at := range places(seen) {
			if strings.HasPrefix(at.name, "rpc.") || strings.HasPrefix(at.name, "link.") {
				continue // of others, who come when they like
			}
			p.kill()
			p.order("kill", at.name, at.n)
			if err := p.start(); err == nil {
				if p.fired() { // after it was ready
					<-p.ended()
					p.mustStart()
				}
				continue
			}
			if !p.fired() {
				t.Fatalf("%s does not start: %s", p.name, p.lastError())
			}
			p.mustStart()
		}
		c.must(c.pay())
	}
	c.checkChain()
	c.checkLogs()
}
