package hook

import (
	"bytes"
	"context"
	"sync"
	"testing"
	"time"
)

// Hurry makes further tries follow at once.
func Hurry(h *Hooks) { h.pauses = make([]time.Duration, len(h.pauses)) }

// TryWithin shortens each try.
func TryWithin(t testing.TB, h *Hooks, d time.Duration) {
	t.Helper()
	h.pauses = nil
	for _, r := range h.receivers {
		deliver := r.deliver
		r.deliver = func(ctx context.Context, l letter) error {
			ctx, cancel := context.WithTimeout(ctx, d)
			defer cancel()
			return deliver(ctx, l)
		}
	}
}

// Sign is sign, for the golden vector.
var Sign = sign

// Safe is a buffer that two goroutines may use.
type Safe struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *Safe) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *Safe) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
