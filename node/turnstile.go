package node

import (
	"sync"
	"time"
)

// rate is a token bucket: burst at once, then perSecond.
type rate struct{ burst, perSecond float64 }

type bucket struct {
	spent float64
	at    time.Time
}

func (r rate) take(b *bucket, now time.Time) bool {
	if passed := now.Sub(b.at).Seconds(); passed > 0 {
		b.spent, b.at = max(0, b.spent-passed*r.perSecond), now
	}
	if b.spent+1 > r.burst {
		return false
	}
	b.spent++
	return true
}

// turnstile lets everybody pass at a bounded rate: each by itself and all together. One
// who pushes is refused before the others notice.
type turnstile struct {
	each, all rate

	mu    sync.Mutex
	by    map[string]*bucket
	total bucket
}

// maxTurnstile bounds whom a turnstile remembers.
const maxTurnstile = 4096

func newTurnstile(each, all rate) *turnstile {
	return &turnstile{each: each, all: all, by: map[string]*bucket{}}
}

func (t *turnstile) pass(who string, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	b, ok := t.by[who]
	if !ok {
		if len(t.by) >= maxTurnstile {
			t.forget(now)
		}
		b = &bucket{}
		t.by[who] = b
	}
	// First each alone: what one is refused is not taken from all.
	return t.each.take(b, now) && t.all.take(&t.total, now)
}

// forget drops those that have their whole burst again; when all are busy, all of them:
// what they may do together is bounded still.
func (t *turnstile) forget(now time.Time) {
	for who, b := range t.by {
		if now.Sub(b.at).Seconds()*t.each.perSecond >= b.spent {
			delete(t.by, who)
		}
	}
	if len(t.by) >= maxTurnstile {
		clear(t.by)
	}
}
