package node

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"coffer/engine"
)

// primesHost is the name of the worker that searches for primes; the others have
// their wallet's.
const primesHost = ""

type hostEvent struct {
	name  string
	host  engine.Host
	event engine.Event
}

// host returns the worker of a wallet, started on demand and unlocked.
func (n *Node) host(name string) (engine.Host, error) {
	n.loop.used[name] = time.Now()
	if h, ok := n.loop.hosts[name]; ok {
		return h, nil
	}
	h, err := n.cfg.Host()
	if err != nil {
		return nil, fmt.Errorf("start worker: %w", err)
	}
	if err := h.Unlock(n.loop.wrap); err != nil {
		return nil, errors.Join(fmt.Errorf("unlock worker: %w", err), h.Close())
	}
	n.loop.hosts[name] = h
	go func() {
		for e := range h.Events() {
			select {
			case n.loop.news <- hostEvent{name: name, host: h, event: e}:
			case <-n.closed:
			}
		}
	}()
	return h, nil
}

func (n *Node) closeHosts() {
	for _, h := range n.loop.hosts {
		if err := h.Close(); err != nil {
			n.log.Warn("closing a worker", "error", err)
		}
	}
	clear(n.loop.hosts)
	clear(n.loop.used)
	n.setBusy(false)
}

// closeIdle ends workers, and the shares in their memory, that nobody needs.
func (n *Node) closeIdle(now time.Time) {
	busy := map[engine.Host]bool{}
	for _, r := range n.loop.distinct() {
		busy[r.host] = true
	}
	for name, h := range n.loop.hosts {
		if name == primesHost || busy[h] || now.Sub(n.loop.used[name]) < idleWithin {
			continue
		}
		n.closeHost(name, h)
	}
}

func (n *Node) closeHost(name string, h engine.Host) {
	delete(n.loop.hosts, name)
	delete(n.loop.used, name)
	if err := h.Close(); err != nil {
		n.log.Warn("closing a worker", "error", err)
	}
}

// computing says whether a run needs the processor. A ceremony whose share is proved
// waits for signatures only, of a signer that may have been killed; and the try that
// finishes it begins when every signer has primes.
func (l *loopState) computing() bool {
	return slices.ContainsFunc(l.distinct(), func(r *run) bool { return r.ceremony == nil || !r.ceremony.Proved() })
}

// searchPrimes keeps the pool of pre-parameters at its size, when nothing that
// people wait for needs the processor.
func (n *Node) searchPrimes() {
	if n.loop.wrap == nil || n.isBusy() || n.loop.computing() || time.Now().Before(n.loop.rest) {
		return
	}
	count, err := n.keys.PreParamsCount()
	if err != nil {
		n.log.Error("cannot read the pool of pre-parameters", "error", err)
		return
	}
	if count >= n.settings.preParameters() {
		return
	}
	h, err := n.host(primesHost)
	if err == nil {
		err = h.GeneratePreParams()
	}
	if err != nil {
		n.log.Error("cannot search for primes", "error", err, "again_in", restAfter)
		n.loop.rest = time.Now().Add(restAfter)
		return
	}
	n.setBusy(true)
	n.log.Info("searching for primes", "have", count, "want", n.settings.preParameters())
}

func (n *Node) primesEvent(he hostEvent) {
	if n.loop.hosts[primesHost] != he.host {
		return // of a worker that was closed since
	}
	switch {
	case he.event.PreParams != nil:
		if err := n.keys.AddPreParams(he.event.PreParams); err != nil {
			n.log.Error("cannot store pre-parameters", "error", err)
			n.loop.rest = time.Now().Add(restAfter)
		} else {
			n.log.Info("pre-parameters are ready")
		}
	case he.event.Failed != nil:
		n.log.Error("the search for primes failed", "code", he.event.Failed.Code, "text", he.event.Failed.Text)
		n.loop.rest = time.Now().Add(restAfter)
	default:
		n.log.Debug("primes", "progress", he.event.Progress)
		return
	}
	// The worker has done its work: its memory goes with it.
	n.closeHost(primesHost, he.host)
	n.setBusy(false)
}

func (n *Node) isBusy() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.busy
}

func (n *Node) setBusy(v bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.busy = v
}
