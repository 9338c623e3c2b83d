package queue

import "sync"

// Queue passes values in order. New starts its one goroutine, Close ends it.
type Queue[T any] struct {
	out  chan T
	wake chan struct{} // capacity 1: "something changed"
	stop chan struct{}
	done chan struct{} // closed when the goroutine has ended

	mu     sync.Mutex
	items  []T
	closed bool
}

// New returns an open queue.
func New[T any]() *Queue[T] {
	q := &Queue[T]{out: make(chan T), wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
	go q.pump()
	return q
}

// Push appends v; after Close it does nothing.
func (q *Queue[T]) Push(v T) {
	q.mu.Lock()
	if !q.closed {
		q.items = append(q.items, v)
	}
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// Out is closed by Close, after which values not yet read are lost.
func (q *Queue[T]) Out() <-chan T { return q.out }

// Close ends the queue; it may be called more than once.
func (q *Queue[T]) Close() {
	q.mu.Lock()
	if !q.closed {
		q.closed = true
		close(q.stop)
	}
	q.mu.Unlock()
	<-q.done
}

func (q *Queue[T]) pump() {
	defer close(q.done)
	defer close(q.out)
	for {
		q.mu.Lock()
		items := q.items
		q.items = nil
		q.mu.Unlock()
		for _, v := range items {
			select {
			case q.out <- v:
			case <-q.stop:
				return
			}
		}
		if len(items) > 0 {
			continue
		}
		select {
		case <-q.wake:
		case <-q.stop:
			return
		}
	}
}
