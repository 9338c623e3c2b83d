package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"coffer/canon"
	"coffer/engine"
	"coffer/envelope"
	"coffer/keyshare"
	"coffer/party"
	"coffer/transport"
)

const (
	// sessionWithin and ceremonyWithin are how long a run may take before it is ended.
	// Config may set others.
	sessionWithin  = 45 * time.Second
	ceremonyWithin = 8 * time.Minute
	// awayWithin is how long a peer of a run may be disconnected.
	awayWithin = 2 * time.Second
	// maxRuns bounds what runs at once; every run holds memory and a worker's CPU.
	maxRuns = 16
	// idleWithin is how long a worker is kept that has nothing to do: a share is in
	// memory only while its wallet is in use.
	idleWithin = time.Minute
	// restAfter is how long the search for primes rests when it failed: a worker that
	// dies of it must not be started four times a second.
	restAfter = 30 * time.Second
	tick      = 250 * time.Millisecond
)

// loopState is owned by the loop; nobody else touches it.
type loopState struct {
	runs  map[canon.Digest]*run // by run ID, under which peers name it, and by session ID, under which the engine does
	early *envelope.Early
	hosts map[string]engine.Host // by wallet; "" searches primes
	used  map[string]time.Time   // when a host last began something
	ended *ended
	wrap  *keyshare.WrapKey // nil while sealed
	news  chan hostEvent
	rest  time.Time // no search for primes before
	met   map[party.ID]*acquaintance

	told, toldHead time.Time // when all peers were told all addresses, and this signer's head
	advanced       time.Time // until when the charter's delays ran

	reopen  bool              // this signer is to be opened anew
	carried *keyshare.WrapKey // what it takes along then
}

func newLoopState() loopState {
	return loopState{
		runs: map[canon.Digest]*run{}, early: envelope.NewEarly(earlyLimits), hosts: map[string]engine.Host{}, used: map[string]time.Time{},
		ended: newEnded(), news: make(chan hostEvent, 64), met: map[party.ID]*acquaintance{}, advanced: time.Now(),
	}
}

func (l *loopState) distinct() []*run {
	seen := map[*run]bool{}
	var out []*run
	for _, r := range l.runs {
		if !seen[r] {
			seen[r] = true
			out = append(out, r)
		}
	}
	return out
}

// run is the loop: one goroutine, all state. Whatever is put on disk in a turn is
// there before anything that depends on it leaves in that turn.
func (n *Node) run(ctx context.Context) error {
	defer close(n.closed)
	defer n.tellUnwritten()
	defer n.stop()
	clock := time.NewTicker(tick)
	defer clock.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case f := <-n.mail:
			f()
		case frame, ok := <-n.link.Frames():
			if !ok && ctx.Err() != nil {
				return nil
			} else if !ok {
				return errors.New("the link to the peers is closed")
			}
			n.receive(frame)
		case e := <-n.loop.news:
			n.engineEvent(e)
		case now := <-clock.C:
			// After a failed write nothing may be signed, and nothing can be: whoever runs
			// this signer hears it from its end, and a supervisor starts it again.
			if err := n.audit.Failed(); err != nil {
				return fmt.Errorf("this signer stops: %w", err)
			}
			n.tick(now)
		}
		if n.loop.reopen {
			return errReopen
		}
	}
}

// stop ends all runs and workers; nothing of them survives a restart. A signer that is
// only opened anew takes its wrap key along: its operator gave it to this process.
func (n *Node) stop() {
	if n.loop.reopen {
		n.loop.carried, n.loop.wrap = n.loop.wrap, nil
	}
	n.forget(&engine.Fault{Code: "STOPPING", Text: "this signer is stopping"})
}

// forget ends whatever needs the wrap key, and the key.
func (n *Node) forget(why *engine.Fault) {
	if n.loop.wrap != nil {
		n.loop.wrap.Wipe() // the workers have their own copies, and lose them below
		n.loop.wrap = nil
	}
	for _, r := range n.loop.distinct() {
		n.fail(r, why)
	}
	n.closeHosts()
}

// receive takes one frame of a peer. The sender is who the link says it is.
func (n *Node) receive(f transport.Frame) {
	e, err := envelope.Parse(f.Data)
	if err != nil {
		n.overhear(f.From, f.Data)
		return
	}
	r, ok := n.loop.runs[e.Run]
	if !ok && n.loop.ended.has(e.Run) {
		return // late, of a run that is over
	} else if !ok {
		// The other signer may have heard of a run a moment earlier than this one.
		if err := n.loop.early.Add(time.Now().Unix(), f.From, e.Run, f.Data); err != nil {
			n.log.Debug("early message dropped", "peer", string(f.From), "error", err)
		}
		return
	}
	n.step(r, f.From, f.Data)
	n.pump(r)
}

// engineEvent takes news from a worker.
func (n *Node) engineEvent(he hostEvent) {
	e := he.event
	if he.name == primesHost {
		n.primesEvent(he)
		return
	}
	r, ok := n.loop.runs[e.Session]
	if !ok || r.ended || r.host != he.host {
		return
	}
	if e.Progress != "" {
		n.tell(r, runEvent{stage: r.stage, text: e.Progress})
		return
	}
	var err error
	if r.session != nil {
		err = r.session.Engine(e)
	} else {
		err = r.ceremony.Engine(e)
	}
	if err != nil {
		n.log.Warn("engine event refused", "error", err)
	}
	n.pump(r)
}

// tick ends what takes too long or lost a peer.
func (n *Node) tick(now time.Time) {
	n.junk.flush(n, now)
	n.loop.ended.prune(now)
	for _, r := range n.loop.distinct() {
		if now.After(r.deadline) {
			n.fail(r, &engine.Fault{Code: engine.CodeTimeout, Text: r.late()})
			continue
		}
		for _, p := range r.peers {
			if s := n.link.State(p); s.Connected {
				delete(r.awayFrom, p)
				if known, ok := r.process[p]; !ok {
					r.process[p] = s.Process
				} else if known != s.Process {
					// The new process knows nothing of this run, and nobody else ends it.
					n.fail(r, &engine.Fault{Code: "PEER_AWAY", Text: fmt.Sprintf("signer %s was started anew", p)})
					break
				}
				continue
			}
			if since, ok := r.awayFrom[p]; !ok {
				r.awayFrom[p] = now
			} else if now.Sub(since) > awayWithin {
				n.fail(r, &engine.Fault{Code: "PEER_AWAY", Text: fmt.Sprintf("signer %s is not connected", p)})
				break
			}
		}
	}
	n.advance(now)
	n.greet(now)
	n.lookOut(now)
	n.closeIdle(now)
	n.searchPrimes()
}
