package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// relay is the way from the coordinator to one signer, which a demo in processes can
// cut: on one machine there is no cable to pull.
type relay struct {
	address, to string

	mu    sync.Mutex
	l     net.Listener // nil while it is cut
	conns map[net.Conn]bool
	done  sync.WaitGroup
}

// open has the relay pass on what comes to its address.
func (r *relay) open() error {
	l, err := net.Listen("tcp", r.address)
	if err != nil {
		return fmt.Errorf("the way to a signer: %w", err)
	}
	r.mu.Lock()
	r.l, r.conns = l, map[net.Conn]bool{}
	r.mu.Unlock()
	r.done.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return // it is cut
			}
			r.done.Go(func() { r.pass(l, in) })
		}
	})
	return nil
}

// cut closes it, and every connection that goes through it.
func (r *relay) cut() error {
	r.mu.Lock()
	var errs []error
	if r.l != nil {
		errs = append(errs, r.l.Close())
		r.l = nil
	}
	for c := range r.conns {
		errs = append(errs, c.Close())
	}
	clear(r.conns)
	r.mu.Unlock()
	r.done.Wait()
	return errors.Join(errs...)
}

// keep notes a connection, unless its relay was cut meanwhile: then it is closed.
func (r *relay) keep(l net.Listener, c net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.l != l {
		_ = c.Close() // nothing was sent over it
		return false
	}
	r.conns[c] = true
	return true
}

func (r *relay) drop(c net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conns[c] {
		delete(r.conns, c)
		_ = c.Close() // both ends have said what they had to say, or are gone
	}
}

func (r *relay) pass(l net.Listener, in net.Conn) {
	if !r.keep(l, in) {
		return
	}
	defer r.drop(in)
	out, err := new(net.Dialer).DialContext(context.Background(), "tcp", r.to)
	if err != nil || !r.keep(l, out) {
		return // whoever dialled finds it closed, as at a signer that is not there
	}
	defer r.drop(out)
	var half sync.WaitGroup
	for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
		half.Go(func() {
			_, _ = io.Copy(way[1], way[0]) // it ends when either end or the relay closes
			r.drop(way[0])
			r.drop(way[1])
		})
	}
	half.Wait()
}
