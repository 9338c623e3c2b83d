package node

import (
	"strconv"
	"sync"
	"time"

	"coffer/audit"
	"coffer/canon"
	"coffer/envelope"
)

// earlyLimits bounds, per peer, what waits for runs that have not begun here. Before
// this signer has sent its nonce, an honest peer can have sent only its own, and an
// abort: small messages.
var earlyLimits = envelope.Limits{Messages: 128, Bytes: 128 << 10, Age: 30}

// junk counts requests that no enrolled initiator signed. Anybody who can reach
// the coordinator could send millions of them, so the audit log gets one line a
// minute and reason instead of one each.
type junk struct {
	mu    sync.Mutex
	since time.Time
	by    map[string]int
}

func newJunk() *junk { return &junk{by: map[string]int{}} }

func (j *junk) count(check string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.by) == 0 {
		j.since = time.Now()
	}
	j.by[check]++
}

func (j *junk) flush(n *Node, now time.Time) {
	j.mu.Lock()
	if len(j.by) == 0 || now.Sub(j.since) < time.Minute {
		j.mu.Unlock()
		return
	}
	detail := map[string]string{}
	for check, count := range j.by {
		detail[check] = strconv.Itoa(count)
	}
	j.by = map[string]int{}
	j.mu.Unlock()
	if err := n.record(audit.Event{Code: "JUNK", Detail: detail}); err != nil {
		n.log.Error("junk is not in the audit log", "error", err)
	}
}

// decisions remembers which answers were given about which intents, to write each
// down once; bounded, because whoever asks chooses the intents.
type decisions struct {
	mu   sync.Mutex
	seen map[decision]bool
}

type decision struct {
	intent canon.Digest
	answer string
}

const maxDecisions = 4096

func newDecisions() *decisions { return &decisions{seen: map[decision]bool{}} }

// first reports whether this answer about this intent is new.
func (d *decisions) first(intent canon.Digest, answer string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	at := decision{intent, answer}
	if d.seen[at] {
		return false
	}
	if len(d.seen) >= maxDecisions {
		clear(d.seen) // costs some repeated lines, no memory
	}
	d.seen[at] = true
	return true
}

// ended remembers for a while which runs are over, so that what peers sent before
// they knew is dropped, and does not take the room of messages for runs to come.
type ended struct{ at map[canon.Digest]time.Time }

const (
	maxEnded    = 4096
	endedWithin = 30 * time.Second
)

func newEnded() *ended { return &ended{at: map[canon.Digest]time.Time{}} }

func (e *ended) has(id canon.Digest) bool { return !e.at[id].IsZero() }

func (e *ended) add(id canon.Digest, now time.Time) {
	if len(e.at) >= maxEnded {
		clear(e.at)
	}
	e.at[id] = now
}

func (e *ended) prune(now time.Time) {
	for id, at := range e.at {
		if now.Sub(at) > endedWithin {
			delete(e.at, id)
		}
	}
}
