package libp2p

import (
	"sync"
	"time"

	"coffer/transport"
)

const (
	queueFrames = 256
	queueBytes  = 8 << 20
)

// queueAge is how long a frame waits for a peer that is away. The session that it
// belongs to has ended by then, and old frames must not crowd out new ones.
var queueAge = 30 * time.Second

type queued struct {
	data []byte
	at   time.Time
}

// queue holds what is to be sent to one peer: bounded in frames and in bytes.
type queue struct {
	ready chan struct{} // has a token when the queue may hold something

	mu    sync.Mutex // Send and the writer meet here
	items []queued
	bytes int
}

func newQueue() *queue { return &queue{ready: make(chan struct{}, 1)} }

// push takes ownership of data.
func (q *queue) push(data []byte, now time.Time) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.expire(now)
	if len(q.items) >= queueFrames || q.bytes+len(data) > queueBytes {
		return transport.ErrQueueFull
	}
	q.items = append(q.items, queued{data, now})
	q.bytes += len(data)
	select {
	case q.ready <- struct{}{}:
	default:
	}
	return nil
}

// first is the oldest frame; done takes it away once it is written, so that a frame
// whose writing failed is written again on the next connection.
func (q *queue) first(now time.Time) ([]byte, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.expire(now)
	if len(q.items) == 0 {
		return nil, false
	}
	return q.items[0].data, true
}

// done removes data if it still is the oldest: it may have expired meanwhile.
func (q *queue) done(data []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items) > 0 && &q.items[0].data[0] == &data[0] {
		q.drop()
	}
}

func (q *queue) expire(now time.Time) {
	for len(q.items) > 0 && now.Sub(q.items[0].at) > queueAge {
		q.drop()
	}
}

func (q *queue) drop() {
	q.bytes -= len(q.items[0].data)
	q.items[0] = queued{}
	q.items = q.items[1:]
}
