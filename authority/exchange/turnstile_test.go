package exchange

import (
	"fmt"
	"testing"
	"time"
)

// One who pushes does not stop another, and all together are bounded.
func TestTurnstile(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	s := newTurnstile(Rate{3, 1}, Rate{8, 4})
	passed := func(who string, tries int) (n int) {
		for range tries {
			if s.pass(who, 1, now) {
				n++
			}
		}
		return n
	}
	if got := passed("flood", 1000); got != 3 {
		t.Errorf("%d of a flood passed at once, want 3", got)
	}
	if got := passed("other", 1); got != 1 {
		t.Error("another one was refused because of the flood")
	}
	for n := range 100 {
		passed(fmt.Sprint(n), 1)
	}
	if passed("late", 1) != 0 {
		t.Error("all together are not bounded")
	}
	now = now.Add(time.Second)
	if got := passed("flood", 1000); got != 1 {
		t.Errorf("%d of the flood passed after a second, want 1", got)
	}
	if got := passed("late", 1); got != 1 {
		t.Error("the late one was refused a second after")
	}
}

// What a turnstile remembers is bounded, whoever comes.
func TestTurnstileMemory(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	s := newTurnstile(Rate{1, 0.001}, Rate{1e9, 1e9})
	for n := range 3 * maxTurnstile {
		s.pass(fmt.Sprint(n), 1, now)
		if len(s.by) > maxTurnstile {
			t.Fatalf("%d are remembered", len(s.by))
		}
	}
}
