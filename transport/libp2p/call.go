package libp2p

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"coffer/internal/crashpoint"
	"coffer/transport"
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
		news := up || r.state.Problem == nil
		since := r.state.Since
		if up {
			since = time.Now()
		}
		r.state = transport.PeerState{Since: since, Version: r.state.Version, Process: r.state.Process, Problem: err}
		r.mu.Unlock()
		// The same failure again and again is one line, not one per try.
		if news {
			r.log.Info("peer is not connected", "error", err)
		}
		if timedOut(err) {
			l.leave(ctx, r)
		}
		if up {
			pause = firstPause
		}
		if errors.Is(err, ErrCluster) || errors.Is(err, ErrVersion) || errors.Is(err, ErrRefused) {
			pause = maxPause // only people can change that
		}
		timer := time.NewTimer(jitter(pause))
		pause = longer(pause)
		select {
		case <-timer.C:
		case <-r.kick:
			pause = firstPause
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// leave gives up all connections to a peer. Those on which time ran out are not trusted
// with another stream: they may be dead and not know it; other failures leave the peer's
// own stream alone. A dead one can hold its farewell up for long, and nobody waits for that.
func (l *Link) leave(ctx context.Context, r *remote) {
	left := make(chan struct{})
	l.tasks.Go(func() {
		defer close(left)
		_ = l.mesh.ClosePeer(r.pid) // it is over either way
	})
	timer := time.NewTimer(firstPause)
	defer timer.Stop()
	select {
	case <-left:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// jitter is between half of a pause and all of it: signers that lost each other in one
// outage do not call in step.
func jitter(pause time.Duration) time.Duration { return pause/2 + rand.N(pause/2) }

func longer(pause time.Duration) time.Duration { return min(2*pause, maxPause) }

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
	r.meet(answer)
	r.mu.Lock()
	r.queue.rewind(r.renewed)
	r.renewed = false
	r.state.Connected, r.state.Since, r.state.Problem = true, time.Now(), nil
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
	var asked beats
	l.tasks.Go(func() {
		err := r.listen(s, &asked)
		heard <- err
		_ = s.Reset() // frees a writer whom a dead peer holds up
	})
	failed := func(err error) error {
		select {
		case cause := <-heard:
			return fmt.Errorf("peer is gone: %w", cause)
		default:
			return fmt.Errorf("send: %w", err)
		}
	}
	defer func() {
		_ = s.Reset() // ends the reader
	}()
	beat := time.NewTicker(beatEvery)
	defer beat.Stop()
	ask := func() error {
		asked.sent(time.Now())
		return writeFrame(s, nil, silence)
	}
	if err := ask(); err != nil {
		return failed(err)
	}
	for {
		if data, ok := r.queue.next(time.Now()); ok {
			crashpoint.Hit("link.send")
			if err := writeFrame(s, data, frameTime); err != nil {
				return failed(err)
			}
			crashpoint.Hit("link.sent")
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
			if err := ask(); err != nil {
				return failed(err)
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

// listen reads what the peer answers until it says nothing any more.
func (r *remote) listen(s network.Stream, asked *beats) error {
	for {
		data, err := readFrame(s, answerLen, silence)
		if err != nil {
			return err
		}
		if len(data) == 0 {
			continue
		}
		a, err := parseAnswer(data)
		if err != nil {
			return err
		}
		r.queue.confirm(a.taken)
		if trip, ok := asked.answered(a.beats, time.Now()); ok {
			r.mu.Lock()
			r.state.RoundTrip, r.state.ClockAhead = trip, time.Until(a.clock)+trip/2
			r.mu.Unlock()
		}
	}
}

// beats are the last beats that were sent on a stream, to tell how long an answer took.
type beats struct {
	mu    sync.Mutex // the writer and the listener meet here
	at    [16]time.Time
	count uint64
}

func (b *beats) sent(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.at[b.count%uint64(len(b.at))] = now
	b.count++
}

// answered is how long ago the nth beat was sent, if it is not forgotten. Each counts
// once; what a peer makes up is no answer.
func (b *beats) answered(n uint64, now time.Time) (time.Duration, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n == 0 || n > b.count || n+uint64(len(b.at)) <= b.count {
		return 0, false
	}
	at := &b.at[(n-1)%uint64(len(b.at))]
	if at.IsZero() {
		return 0, false
	}
	trip := now.Sub(*at)
	*at = time.Time{}
	return trip, true
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
