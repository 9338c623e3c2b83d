package node

import (
	"strconv"
	"sync"
	"time"

	"coffer/audit"
	"coffer/canon"
	"coffer/envelope"
)

// earlyLimits bounds, per peer, what waits for runs that have not begun here.
var earlyLimits = envelope.Limits{Messages: 128, Bytes: 2 << 20, Age: 30}

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

// decisions remembers the last answer about each intent, to write down only
// changes; bounded, because whoever asks chooses the intents.
type decisions struct {
	mu   sync.Mutex
	last map[canon.Digest]string
}

const maxDecisions = 4096

func newDecisions() *decisions { return &decisions{last: map[canon.Digest]string{}} }

func (d *decisions) changed(id canon.Digest, summary string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.last[id] == summary {
		return false
	}
	if len(d.last) >= maxDecisions {
		clear(d.last) // costs some repeated lines, no memory
	}
	d.last[id] = summary
	return true
}
