package hook

import (
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"coffer/canon"
	"coffer/identity"
)

const (
	// queued bounds what waits for one hook. A flood of events is one that people
	// have heard of already.
	queued = 256
	// queuedIntents is how many may wait so that one about an intent still joins them.
	// Those alone can be made in any number, by whoever may ask for a payment: the other
	// half of the queue is kept for alarms, signers and chains.
	queuedIntents = queued / 2
	// tryWithin bounds one delivery.
	tryWithin = 10 * time.Second
	// alarmWithin is how long alarms may still be delivered when Run is to end: what a
	// daemon ends for is told by nobody after it.
	alarmWithin = 3 * time.Second
)

// pauses are those before each further try.
var pauses = []time.Duration{time.Second, 5 * time.Second, 30 * time.Second, 2 * time.Minute}

// Config is what hooks need.
type Config struct {
	Settings []Setting
	Key      *identity.Key
	// Role, Name and Cluster say who tells.
	Role, Name string
	Cluster    canon.Digest
	Logger     *slog.Logger
}

// Hooks are the receivers of one daemon.
type Hooks struct {
	cfg       Config
	receivers []*receiver
	pauses    []time.Duration
	last      time.Duration // alarmWithin
	delivered atomic.Int64
	failed    atomic.Int64
	dropped   atomic.Int64
}

type receiver struct {
	setting Setting
	name    string // for the log: the program, or the URL without what may be secret in it
	queue   chan letter
	deliver func(context.Context, letter) error
}

// letter is a signed event.
type letter struct {
	event     Event
	body      []byte
	signature string
	peer      identity.ID
}

// New makes hooks; Run delivers.
func New(cfg Config) *Hooks {
	h := &Hooks{cfg: cfg, pauses: pauses, last: alarmWithin}
	for _, s := range cfg.Settings {
		r := &receiver{setting: s, queue: make(chan letter, queued)}
		if s.URL != "" {
			r.name, r.deliver = poster(s.URL)
		} else {
			r.name, r.deliver = s.Exec[0], starter(s.Exec)
		}
		h.receivers = append(h.receivers, r)
	}
	return h
}

// Fire queues an event for whoever wants it. It never waits. again, if not empty,
// makes the event's ID: the same words give the same ID, so that a receiver can tell
// what it was told before; else each call is an event of its own.
func (h *Hooks) Fire(e Event, again string) {
	wanted := false
	for _, r := range h.receivers {
		wanted = wanted || r.setting.wants(e.Name)
	}
	if !wanted {
		return
	}
	now := time.Now()
	e.Time, e.Cluster, e.Role, e.From = now.Unix(), h.cfg.Cluster.String(), h.cfg.Role, h.cfg.Name
	if again == "" {
		again = fmt.Sprint(now.UnixNano(), h.delivered.Load(), h.dropped.Load())
	}
	id := canon.New("coffer/hook-id/v1").Strings([]string{e.Role, e.From, e.Name, e.Intent, e.Subject, again}).Sum()
	e.ID = hex.EncodeToString(id[:16])
	body, signature, err := sign(h.cfg.Key, e)
	if err != nil {
		h.cfg.Logger.Error("an event is lost", "event", e.Name, "error", err)
		return
	}
	for _, r := range h.receivers {
		if !r.setting.wants(e.Name) {
			continue
		}
		if !r.take(letter{e, body, signature, h.cfg.Key.ID()}) && h.dropped.Add(1) == 1 {
			h.cfg.Logger.Warn("a hook does not keep up; events for it are dropped", "hook", r.name)
		}
	}
}

// take queues a letter, unless too many wait.
func (r *receiver) take(l letter) bool {
	if ofIntent(l.event.Name) && len(r.queue) >= queuedIntents {
		return false
	}
	select {
	case r.queue <- l:
		return true
	default:
		return false
	}
}

// Run delivers until ctx ends, and alarms that were fired by then for a moment longer.
// What else waits then is lost; what still matters is told again after the next start.
func (h *Hooks) Run(ctx context.Context) error {
	late, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(h.last, cancel) })()
	var g errgroup.Group
	for _, r := range h.receivers {
		g.Go(func() error {
			for {
				select {
				case <-ctx.Done():
					h.lastWords(late, r)
					return nil
				case l := <-r.queue:
					within := ctx
					if l.event.Name == Alarm {
						within = late
					}
					h.try(within, r, l)
				}
			}
		})
	}
	return g.Wait()
}

// lastWords delivers the alarms that wait, and nothing else.
func (h *Hooks) lastWords(ctx context.Context, r *receiver) {
	for ctx.Err() == nil {
		select {
		case l := <-r.queue:
			if l.event.Name == Alarm {
				h.try(ctx, r, l)
			}
		default:
			return
		}
	}
}

// try delivers one event, and again while that may help.
func (h *Hooks) try(ctx context.Context, r *receiver, l letter) {
	for n := 0; ; n++ {
		attempt, cancel := context.WithTimeout(ctx, tryWithin)
		err := r.deliver(attempt, l)
		cancel()
		switch {
		case err == nil:
			h.delivered.Add(1)
			return
		case ctx.Err() != nil:
			return
		case n >= len(h.pauses) || final(err):
			h.failed.Add(1)
			h.cfg.Logger.Warn("hook failed", "hook", r.name, "event", l.event.Name, "intent", l.event.Intent, "error", err)
			return
		}
		h.cfg.Logger.Debug("hook failed; it is tried again", "hook", r.name, "event", l.event.Name, "error", err)
		timer := time.NewTimer(h.pauses[n])
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// Counts are how many events were delivered, given up, and dropped, since the start.
func (h *Hooks) Counts() (delivered, failed, dropped int64) {
	return h.delivered.Load(), h.failed.Load(), h.dropped.Load()
}
