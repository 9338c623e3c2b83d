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

// queue holds what is to be sent to one peer, until the peer has confirmed that it took
// it: bounded in frames and in bytes.
type queue struct {
	ready chan struct{} // has a token when the queue may hold something

	mu        sync.Mutex // Send, the writer and the listener meet here
	items     []queued
	bytes     int
	written   int    // so many of the first items were written on the stream of now
	confirmed uint64 // so many of that stream's frames are not among the items any more
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

// next is the oldest frame that was not written on this stream. It stays until the peer
// confirms it: what a connection that broke had not delivered is written again.
func (q *queue) next(now time.Time) ([]byte, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.expire(now)
	if q.written == len(q.items) {
		return nil, false
	}
	data := q.items[q.written].data
	q.written++
	return data, true
}

// confirm says that the peer took the first n frames of this stream. More than were
// written are none.
func (q *queue) confirm(n uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.written > 0 && q.confirmed < n {
		q.drop()
	}
}

// rewind begins a new stream: all that the peer did not confirm is to be written on it.
// A new process of the peer has no use for what was meant for the one before.
func (q *queue) rewind(renewed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for renewed && q.written > 0 {
		q.drop()
	}
	q.written, q.confirmed = 0, 0
}

func (q *queue) expire(now time.Time) {
	for len(q.items) > 0 && now.Sub(q.items[0].at) > queueAge {
		q.drop()
	}
}

func (q *queue) drop() {
	if q.written > 0 {
		q.written--
		q.confirmed++
	}
	q.bytes -= len(q.items[0].data)
	q.items[0] = queued{}
	q.items = q.items[1:]
}
