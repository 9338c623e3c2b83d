package queue_test

import (
	"sync"
	"testing"

	"coffer/engine/internal/queue"
)

func TestOrderWithoutReader(t *testing.T) {
	q := queue.New[int]()
	defer q.Close()
	for i := range 10_000 { // nobody reads yet: Push never blocks
		q.Push(i)
	}
	for i := range 10_000 {
		if got := <-q.Out(); got != i {
			t.Fatalf("got %d, want %d", got, i)
		}
	}
}

func TestManyProducers(t *testing.T) {
	q := queue.New[int]()
	defer q.Close()
	var producers sync.WaitGroup
	for range 8 {
		producers.Go(func() {
			for range 500 {
				q.Push(1)
			}
		})
	}
	sum := 0
	for sum < 4000 {
		sum += <-q.Out()
	}
	producers.Wait()
}

func TestClose(t *testing.T) {
	q := queue.New[int]()
	q.Push(1)
	q.Close()
	q.Close()
	q.Push(2)
	for range q.Out() {
	}
}
