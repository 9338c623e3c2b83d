package libp2p

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"coffer/internal/crashpoint"
)

const (
	firstPause = 100 * time.Millisecond
	maxPause   = 5 * time.Second
)

// call keeps one stream to a peer open: the way of this side's frames.
func (l *Link) call(ctx context.Context, r *remote) {
	pause := firstPause
	for ctx.Err() == nil {
		drain(r.kick)
		up, err := l.session(ctx, r)
		if ctx.Err() != nil {
			return
		}
		r.mu.Lock()
		news := up || r.status.problem == nil
		r.status = status{problem: err}
		r.mu.Unlock()
		// The same failure again and again is one line, not one per try.
		if news {
			r.log.Info("peer is not connected", "error", err)
		}
		if up {
			pause = firstPause
		}
		if errors.Is(err, ErrCluster) || errors.Is(err, ErrVersion) || errors.Is(err, ErrRefused) {
			pause = maxPause // only people can change that
		}
		// Half of the pause is jitter: signers that lost each other in one outage do not
		// call in step.
		timer := time.NewTimer(pause/2 + rand.N(pause/2))
		pause = min(2*pause, maxPause)
		select {
		case <-timer.C:
		case <-r.kick:
			pause = firstPause
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// session opens a stream, greets, and sends until something fails. up reports
// whether the peer accepted it.
func (l *Link) session(ctx context.Context, r *remote) (up bool, err error) {
	// Ours is the only back-off; the swarm's would outlast it.
	l.mesh.Backoff().Clear(r.pid)
	s, err := l.open(ctx, r)
	if err != nil {
		return false, fmt.Errorf("call %s: %w", r.id, err)
	}
	defer l.guard(s)()
	defer func() {
		_ = s.Reset() // it is over either way
		// A connection on which time ran out is not trusted with another stream: it may be
		// dead and not know it. Other failures leave the peer's own stream on it alone.
		if timedOut(err) {
			_ = s.Conn().Close()
		}
	}()
	if err := negotiate(s); err != nil {
		return false, err
	}
	if err := writeHello(s, &l.hello); err != nil {
		return false, fmt.Errorf("greet: %w", err)
	}
	answer, err := readHello(s)
	if err != nil {
		return false, fmt.Errorf("wait for the answer: %w", err)
	}
	if err := answer.accept(l.cluster); err != nil {
		return false, err
	}
	drain(r.restarted)
	r.meet(answer.Instance)
	r.mu.Lock()
	r.status = status{up: true}
	r.mu.Unlock()
	r.log.Info("peer is connected", "address", s.Conn().RemoteMultiaddr().String())
	return true, l.send(ctx, r, s)
}

// open opens a stream on a connection to the peer, and makes one if there is none. A
// peer that calls meanwhile is taken at once, on its connection: the place that is being
// called may be one where it is no more.
func (l *Link) open(ctx context.Context, r *remote) (network.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*openTime)
	defer cancel()
	opened := make(chan struct{})
	watched := make(chan struct{})
	l.tasks.Go(func() {
		defer close(watched)
		select {
		case <-r.kick:
			cancel()
			poke(r.kick)
		case <-opened:
		}
	})
	s, err := l.mesh.NewStream(ctx, r.pid)
	close(opened)
	<-watched
	return s, err
}

// send writes the queue, and beats when there is nothing to write.
func (l *Link) send(ctx context.Context, r *remote, s network.Stream) error {
	heard := make(chan error, 1)
	l.tasks.Go(func() {
		for {
			data, err := readFrame(s, 0, silence)
			if err == nil && len(data) == 0 {
				continue
			}
			heard <- err
			return
		}
	})
	defer func() {
		_ = s.Reset() // ends the reader
	}()
	beat := time.NewTicker(beatEvery)
	defer beat.Stop()
	for {
		if data, ok := r.queue.first(time.Now()); ok {
			crashpoint.Hit("link.send")
			if err := writeFrame(s, data, frameTime); err != nil {
				return fmt.Errorf("send: %w", err)
			}
			crashpoint.Hit("link.sent")
			r.queue.done(data)
			select {
			case err := <-heard:
				return fmt.Errorf("peer is gone: %w", err)
			case <-ctx.Done():
				return ctx.Err()
			default:
				continue
			}
		}
		select {
		case <-r.queue.ready:
		case <-beat.C:
			if err := writeFrame(s, nil, silence); err != nil {
				return fmt.Errorf("send: %w", err)
			}
		case err := <-heard:
			return fmt.Errorf("peer is gone: %w", err)
		case <-r.restarted:
			return errors.New("peer was restarted")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func timedOut(err error) bool {
	nerr, ok := errors.AsType[net.Error](err)
	return ok && nerr.Timeout() || errors.Is(err, os.ErrDeadlineExceeded)
}

func drain(c chan struct{}) {
	select {
	case <-c:
	default:
	}
}
