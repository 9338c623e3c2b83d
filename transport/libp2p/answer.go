package libp2p

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/multiformats/go-multistream"

	"coffer/transport"
)

// receiver is the stream on which a peer sends now.
type receiver struct {
	stream network.Stream
	stop   context.CancelFunc
	done   chan struct{}
}

// incoming handles a stream that a peer opened. Each has its own goroutine; their
// number is bounded by the resource manager.
func (l *Link) incoming(s network.Stream) {
	defer func() { _ = s.Reset() }() // it is over either way
	if !l.begin() {
		return
	}
	defer l.tasks.Done()
	// The gater has refused strangers; this is the second lock on the same door.
	r, ok := l.byID[s.Conn().RemotePeer()]
	if !ok {
		return
	}
	defer l.guard(s)()
	err := l.receive(r, s)
	if l.ctx.Err() != nil {
		return
	}
	if errors.Is(err, ErrMalformed) {
		r.log.Warn("peer is cut", "error", err)
		_ = s.Conn().Close() // it is over either way
		return
	}
	r.log.Debug("peer's stream ended", "error", err)
}

func (l *Link) receive(r *remote, s network.Stream) error {
	if err := s.SetDeadline(time.Now().Add(openTime)); err != nil {
		return err
	}
	mux := multistream.NewMultistreamMuxer[protocol.ID]()
	mux.AddHandler(Protocol, nil)
	if _, _, err := mux.Negotiate(s); err != nil {
		return err
	}
	if err := s.SetProtocol(Protocol); err != nil {
		return err
	}
	greeting, err := readHello(s)
	if err != nil {
		return err
	}
	mine := l.hello
	refusal := greeting.accept(l.cluster)
	if refusal != nil {
		mine.Refused = clip(refusal.Error(), maxRefusal)
	}
	if err := writeHello(s, &mine); err != nil {
		return err
	}
	if refusal != nil {
		r.log.Warn("peer refused", "error", refusal)
		// A reset would overtake the reason: wait until the peer has read it and hung up.
		if err := errors.Join(s.CloseWrite(), s.SetReadDeadline(time.Now().Add(openTime))); err != nil {
			return err
		}
		_, err := io.CopyN(io.Discard, s, maxHello)
		return errors.Join(refusal, err)
	}
	if r.meet(greeting) {
		// The process that the other connections led to is gone, though they may not show it.
		poke(r.restarted)
		for _, c := range l.mesh.ConnsToPeer(r.pid) {
			if c != s.Conn() {
				_ = c.Close() // it is over either way
			}
		}
	}
	poke(r.kick)

	ctx, stop := context.WithCancel(l.ctx)
	defer stop()
	me := &receiver{stream: s, stop: stop, done: make(chan struct{})}
	defer close(me.done)
	r.replace(me)

	asked := make(chan uint64, 1)
	var taken atomic.Uint64
	l.tasks.Go(func() {
		beat := time.NewTicker(beatEvery)
		defer beat.Stop()
		for {
			// Beats go even while a large frame comes in and none can be answered.
			var say []byte
			select {
			case <-beat.C:
			case n := <-asked:
				say = answer{beats: n, taken: taken.Load(), clock: time.Now()}.encode()
			case <-ctx.Done():
				return
			}
			if err := writeFrame(s, say, silence); err != nil {
				_ = s.Reset() // it is over either way
				return
			}
		}
	})
	for beats := uint64(0); ; {
		data, err := readFrame(s, transport.MaxFrame, silence)
		if err != nil {
			return err
		}
		if len(data) == 0 {
			beats++
			select {
			case asked <- beats:
			default: // the answer before it is not written yet: a beat without one costs nothing
			}
			continue
		}
		// A full mailbox holds this peer back through its stream's window.
		select {
		case l.frames <- transport.Frame{From: r.id, Data: data}:
			if taken.Add(1)%answerAfter == 0 {
				select {
				case asked <- 0:
				default: // the one that waits says it
				}
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// replace makes me the peer's only stream and waits for the end of the one before, so
// that frames do not overtake each other.
func (r *remote) replace(me *receiver) {
	r.mu.Lock()
	old := r.inbound
	r.inbound = me
	r.mu.Unlock()
	if old != nil {
		old.stop()
		_ = old.stream.Reset() // it is over either way
		<-old.done
	}
}

func clip(s string, size int) string {
	if len(s) > size {
		return strings.ToValidUTF8(s[:size], "")
	}
	return s
}
