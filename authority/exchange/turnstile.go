package exchange

import (
	"sync"
	"time"
)

// Rate is a token bucket: Burst at once, then PerSecond.
type Rate struct{ Burst, PerSecond float64 }

// Bucket is what one of those whom a rate bounds has taken.
type Bucket struct {
	spent float64
	at    time.Time
}

// left says whether anything may be taken now.
func (r Rate) left(b *Bucket, now time.Time) bool {
	if passed := now.Sub(b.at).Seconds(); passed > 0 {
		b.spent, b.at = max(0, b.spent-passed*r.PerSecond), now
	}
	return b.spent+1 <= r.Burst
}

// Take takes one, if there is one.
func (r Rate) Take(b *Bucket, now time.Time) bool {
	if !r.left(b, now) {
		return false
	}
	b.spent++
	return true
}

// turnstile lets everybody pass at a bounded rate: each by itself and all together. One
// who pushes is refused before the others notice. What something costs is known only
// once it is done: whoever took more than there was waits longer.
type turnstile struct {
	each, all Rate

	mu    sync.Mutex
	by    map[string]*Bucket
	total Bucket
}

// maxTurnstile bounds whom a turnstile remembers.
const maxTurnstile = 4096

func newTurnstile(each, all Rate) *turnstile {
	return &turnstile{each: each, all: all, by: map[string]*Bucket{}}
}

func (t *turnstile) pass(who string, cost float64, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	// First each alone: what one is refused is not taken from all.
	b := t.of(who, now)
	if !t.each.left(b, now) || !t.all.left(&t.total, now) {
		return false
	}
	b.spent += cost
	t.total.spent += cost
	return true
}

// charge takes what somebody who passed has cost.
func (t *turnstile) charge(who string, cost float64, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.of(who, now).spent += cost
	t.total.spent += cost
}

func (t *turnstile) of(who string, now time.Time) *Bucket {
	b, ok := t.by[who]
	if !ok {
		if len(t.by) >= maxTurnstile {
			t.forget(now)
		}
		b = &Bucket{at: now}
		t.by[who] = b
	}
	return b
}

// forget drops those that have their whole burst again; when all are busy, all of them:
// what they may do together is bounded still.
func (t *turnstile) forget(now time.Time) {
	for who, b := range t.by {
		if now.Sub(b.at).Seconds()*t.each.PerSecond >= b.spent {
			delete(t.by, who)
		}
	}
	if len(t.by) >= maxTurnstile {
		clear(t.by)
	}
}
