package coordinator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"coffer/canon"
	"coffer/hook"
	"coffer/internal/datadir"
	"coffer/observe"
	"coffer/policy"
	pb "coffer/proto/coffer/v1"
)

// Metrics are what a coordinator counts.
var Metrics = []observe.Def{
	{Name: "coffer_coordinator_info", Kind: observe.Gauge, Labels: []string{"coordinator", "version"}, Help: "1; which coordinator and build this is"},
	{Name: "coffer_coordinator_intents_pending", Kind: observe.Gauge, Labels: []string{"stage"}, Help: "intents that have not ended"},
	{Name: "coffer_coordinator_oldest_pending_seconds", Kind: observe.Gauge, Help: "age of the oldest of them"},
	{Name: "coffer_coordinator_signer_up", Kind: observe.Gauge, Labels: []string{"signer"}, Help: "1 while the signer answers"},
	{Name: "coffer_coordinator_signer_sealed", Kind: observe.Gauge, Labels: []string{"signer"}, Help: "1 while its operator has to unseal it; only of signers that answer"},
	{Name: "coffer_coordinator_chain_up", Kind: observe.Gauge, Labels: []string{"chain"}, Help: "1 while one of the chain's endpoints answers"},
	{Name: "coffer_coordinator_chain_block", Kind: observe.Gauge, Labels: []string{"chain"}, Help: "number of the newest block"},
	{Name: "coffer_coordinator_chain_head_age_seconds", Kind: observe.Gauge, Labels: []string{"chain"}, Help: "age of the newest block; a chain that seals on demand has old ones"},
	{Name: "coffer_coordinator_charter_version", Kind: observe.Gauge, Help: "version of the charter in force here"},
	{Name: "coffer_coordinator_freezes", Kind: observe.Gauge, Labels: []string{"scope"}, Help: "freezes that nobody lifted, of the cluster, wallets and people"},
	{Name: "coffer_coordinator_records_pending", Kind: observe.Gauge, Labels: []string{"kind"}, Help: "versions of the charter, lists and unfreezes that wait for people, a delay or signers"},
	{Name: "coffer_coordinator_audit_entries", Kind: observe.Gauge, Help: "entries of the audit log"},
	{Name: "coffer_coordinator_write_failed", Kind: observe.Gauge, Labels: []string{"what"}, Help: "1 when audit log or store refuse all since a write failed; the daemon ends at once then, so only the last moment shows it"},
	{Name: "coffer_coordinator_disk_free_bytes", Kind: observe.Gauge, Help: "room left where the data directory is"},
	{Name: "coffer_coordinator_hook_events", Kind: observe.Gauge, Labels: []string{"outcome"}, Help: "events for hooks since the start: delivered, failed, dropped"},
	{Name: "coffer_coordinator_events_total", Kind: observe.Counter, Labels: []string{"code"}, Help: "entries written to the audit log, by code"},
	{Name: "coffer_coordinator_intents_ended_total", Kind: observe.Counter, Labels: []string{"stage", "code"}, Help: "intents that ended, and why where not well"},
	{Name: "coffer_coordinator_session_seconds", Kind: observe.Histogram, Labels: []string{"outcome"}, Help: "how long signing sessions took: signed, failed"},
	{Name: "coffer_coordinator_phase_seconds", Kind: observe.Histogram, Labels: []string{"phase"}, Help: "how long each phase of ended intents took, people's time included"},
}

const (
	// lookEvery is how often pending intents and signers are looked at, chainEvery chains.
	lookEvery  = time.Second
	chainEvery = 5 * time.Second
	// awayTold is how long a signer or a chain is away before anybody is told: a restart is no news.
	awayTold = 15 * time.Second
	// turnWithin is how old the last look may be before a supervisor should restart this.
	turnWithin = 30 * time.Second
)

// observer is what the operator sees and hears of this coordinator. Nothing waits for
// it, and nothing depends on it.
type observer struct {
	metrics *observe.Metrics
	hooks   *hook.Hooks
	tracer  *observe.Tracer

	away map[string]*absence // "signer b", "chain dev"; owned by lookOut

	mu     sync.Mutex // guards what follows
	turned time.Time
	begun  map[canon.Digest]time.Time // sessions under way
	chains map[string]head
	needs  map[canon.Digest]bool // intents whose people were told
}

// head is what a chain's endpoint said last.
type head struct {
	number   uint64
	at       time.Time
	endpoint string
	err      error
}

// absence is how long something has been away, and whether that was told.
type absence struct {
	since time.Time
	told  bool
}

func (c *Coordinator) newObserver() (*observer, error) {
	tracer, err := observe.NewTracer(context.Background(), c.settings.TracesEndpoint, observe.Source{Service: "coffer-coordinator", Name: c.settings.Name, Version: c.cfg.Version}, c.log)
	if err != nil {
		return nil, err
	}
	return &observer{
		metrics: observe.NewMetrics(Metrics, c.gauges),
		hooks:   hook.New(hook.Config{Settings: c.settings.Hooks, Key: c.key, Role: "coordinator", Name: c.settings.Name, Cluster: c.cluster, Logger: c.log}),
		tracer:  tracer,
		begun:   map[canon.Digest]time.Time{}, chains: map[string]head{}, needs: map[canon.Digest]bool{}, away: map[string]*absence{},
	}, nil
}

func stageName(s pb.Stage) string {
	return strings.ToLower(strings.TrimPrefix(s.String(), "STAGE_"))
}

// pending are the intents that have not ended.
func (c *Coordinator) pending() []*item {
	c.mu.Lock()
	ids := slices.Collect(maps.Keys(c.running))
	c.mu.Unlock()
	var out []*item
	for _, id := range ids {
		if it, err := c.items.get(id); err == nil && !it.ended() {
			out = append(out, it)
		}
	}
	return out
}

func (c *Coordinator) gauges(set observe.Set) {
	set("coffer_coordinator_info", 1, c.settings.Name, c.cfg.Version)
	stages := map[pb.Stage]int{pb.Stage_STAGE_APPROVAL: 0, pb.Stage_STAGE_SIGNING: 0, pb.Stage_STAGE_BROADCAST: 0, pb.Stage_STAGE_CONFIRMATION: 0}
	now, oldest := time.Now(), time.Duration(0)
	for _, it := range c.pending() {
		stages[it.Stage]++
		oldest = max(oldest, now.Sub(time.UnixMilli(it.Created)))
	}
	for stage, n := range stages {
		set("coffer_coordinator_intents_pending", float64(n), stageName(stage))
	}
	set("coffer_coordinator_oldest_pending_seconds", oldest.Seconds())
	for _, s := range c.signers() {
		st, err := s.seen()
		set("coffer_coordinator_signer_up", observe.Bool(err == nil && st != nil), string(s.id))
		if err == nil && st != nil {
			set("coffer_coordinator_signer_sealed", observe.Bool(st.Sealed), string(s.id))
		}
	}
	for name, h := range c.heads() {
		set("coffer_coordinator_chain_up", observe.Bool(h.err == nil), name)
		if h.err == nil {
			set("coffer_coordinator_chain_block", float64(h.number), name)
			set("coffer_coordinator_chain_head_age_seconds", max(0, now.Sub(h.at).Seconds()), name)
		}
	}
	c.recordGauges(set)
	set("coffer_coordinator_audit_entries", float64(c.audit.Size()))
	for what, err := range c.writeErrors() {
		set("coffer_coordinator_write_failed", observe.Bool(err != nil), what)
	}
	if free, _, err := datadir.Space(string(c.cfg.Dir)); err == nil {
		set("coffer_coordinator_disk_free_bytes", float64(free))
	}
	delivered, failed, dropped := c.seen.hooks.Counts()
	set("coffer_coordinator_hook_events", float64(delivered), "delivered")
	set("coffer_coordinator_hook_events", float64(failed), "failed")
	set("coffer_coordinator_hook_events", float64(dropped), "dropped")
}

func (c *Coordinator) heads() map[string]head {
	c.seen.mu.Lock()
	defer c.seen.mu.Unlock()
	return maps.Clone(c.seen.chains)
}

// writeErrors are the writes after which nothing more is taken until a restart.
func (c *Coordinator) writeErrors() map[string]error {
	return map[string]error{"audit": c.audit.Failed(), "store": c.items.writer.Failed()}
}

func (c *Coordinator) serveMetrics(ctx context.Context) error {
	if c.settings.MetricsListen == "" {
		return nil
	}
	s := &observe.Server{
		Address: c.settings.MetricsListen, Metrics: c.seen.metrics.Gatherer(), Alive: c.alive, Ready: c.ready,
		Logger: c.log, Listening: c.cfg.Watching,
	}
	return s.Run(ctx)
}

func (c *Coordinator) alive(context.Context) error {
	c.seen.mu.Lock()
	defer c.seen.mu.Unlock()
	if time.Since(c.seen.turned) > turnWithin {
		return errors.New("the loop does not turn")
	}
	return nil
}

// ready says whether an approved payment could be made now.
func (c *Coordinator) ready(ctx context.Context) error {
	if err := c.alive(ctx); err != nil {
		return err
	}
	for what, err := range c.writeErrors() {
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	var lacking []string
	now := c.roster.Load()
	for _, s := range now.signers {
		switch st, err := s.seen(); {
		case err != nil || st == nil:
			lacking = append(lacking, string(s.id)+" away")
		case st.Sealed:
			lacking = append(lacking, string(s.id)+" sealed")
		}
	}
	if len(now.signers)-len(lacking) < now.charter.Quorum.Need {
		return fmt.Errorf("too few signers: %s", strings.Join(lacking, ", "))
	}
	heads := c.heads()
	for name := range c.settings.Chains {
		if h, ok := heads[name]; !ok || h.err != nil {
			return fmt.Errorf("chain %s does not answer", name)
		}
	}
	return nil
}

// recorded tells what was written to the audit log.
func (c *Coordinator) recorded(code string, id canon.Digest, detail map[string]string) {
	c.seen.metrics.Inc("coffer_coordinator_events_total", code)
	var fields []any
	for _, key := range slices.Sorted(maps.Keys(detail)) {
		fields = append(fields, key, detail[key])
	}
	about := []any{"code", code}
	if !id.IsZero() { // what a rebuild finds is about no single one
		about = append(about, "intent", id.String())
	}
	c.log.Info("recorded", append(about, slog.Group("detail", fields...))...)
	switch code {
	case "SESSION":
		c.seen.mu.Lock()
		c.seen.begun[id] = time.Now()
		c.seen.mu.Unlock()
	case "SIGNED":
		c.sessionEnded(id, "signed")
	case "SESSION_FAILED":
		c.sessionEnded(id, "failed")
	case "REORG":
		c.seen.hooks.Fire(hook.Event{Name: hook.ChainReorg, Intent: id.String(), Text: "a block that held its transaction is no longer part of the chain; it is on its way again"}, "")
	}
}

func (c *Coordinator) sessionEnded(id canon.Digest, outcome string) {
	c.seen.mu.Lock()
	begun, ok := c.seen.begun[id]
	delete(c.seen.begun, id)
	c.seen.mu.Unlock()
	if !ok {
		return // a ceremony
	}
	c.seen.metrics.Took("coffer_coordinator_session_seconds", time.Since(begun), outcome)
	code := ""
	if outcome == "failed" {
		code = "SESSION_FAILED"
	}
	c.seen.tracer.Span(id, "session", begun, code)
}

// over tells that an intent has ended.
func (c *Coordinator) over(it *item) {
	c.seen.metrics.Inc("coffer_coordinator_intents_ended_total", stageName(it.Stage), it.Code)
	begin := time.UnixMilli(it.Created)
	c.seen.tracer.Root(it.ID, "intent", begin, it.Code, "coffer.stage", stageName(it.Stage))
	for _, p := range it.Phases {
		c.seen.metrics.Took("coffer_coordinator_phase_seconds", time.Duration(p.Milliseconds)*time.Millisecond, p.Name)
	}
	e := hook.Event{Name: hook.IntentEnded, Intent: it.ID.String(), Text: stageName(it.Stage) + ": " + it.Detail}
	if it.Stage == pb.Stage_STAGE_REFUSED || it.Code == "REJECTED" {
		e.Name = hook.IntentRefused
	}
	c.seen.hooks.Fire(e, it.Stage.String()+it.Code)
	c.seen.mu.Lock()
	delete(c.seen.needs, it.ID)
	c.seen.mu.Unlock()
}

// lookOut looks around until ctx ends.
func (c *Coordinator) lookOut(ctx context.Context) {
	var chains sync.WaitGroup
	for name := range c.settings.Chains {
		chains.Go(func() { c.watchChain(ctx, name) })
	}
	defer chains.Wait()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		c.look(time.Now())
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// tellUnwritten tells of writes that failed.
func (c *Coordinator) tellUnwritten() {
	for what, err := range c.writeErrors() {
		if err != nil {
			c.log.Error("cannot write; nothing goes on until there is room and this coordinator was started again", "what", what, "error", err)
			c.seen.hooks.Fire(hook.Event{Name: hook.Alarm, Subject: what, Text: "cannot write, and goes no further until it is started again: " + err.Error()}, "")
		}
	}
}

func (c *Coordinator) look(now time.Time) {
	c.seen.mu.Lock()
	c.seen.turned = now
	c.seen.mu.Unlock()
	for _, s := range c.signers() {
		st, err := s.seen()
		if err == nil && st == nil {
			continue // not asked yet
		}
		c.presence(now, "signer "+string(s.id), err, hook.SignerAway, hook.SignerBack, string(s.id))
	}
	for name, h := range c.heads() {
		c.presence(now, "chain "+name, h.err, hook.ChainAway, hook.ChainBack, name)
	}
	for _, it := range c.pending() {
		c.needsPeople(it, now)
	}
}

// presence tells of what is away for long, and of its return.
func (c *Coordinator) presence(now time.Time, what string, err error, away, back, subject string) {
	a := c.seen.away[what]
	switch {
	case err == nil && a != nil:
		delete(c.seen.away, what)
		if a.told {
			c.seen.hooks.Fire(hook.Event{Name: back, Subject: subject, Text: what + " answers again"}, "")
		}
	case err != nil && a == nil:
		c.seen.away[what] = &absence{since: now}
	case err != nil && !a.told && now.Sub(a.since) > awayTold:
		a.told = true
		c.seen.hooks.Fire(hook.Event{Name: away, Subject: subject, Text: what + " does not answer: " + err.Error()}, "")
	}
}

// needsPeople tells once that an intent waits for approvals.
func (c *Coordinator) needsPeople(it *item, now time.Time) {
	c.seen.mu.Lock()
	told := c.seen.needs[it.ID]
	c.seen.mu.Unlock()
	if told || it.Stage != pb.Stage_STAGE_APPROVAL {
		return
	}
	i, err := c.open(it.Intent)
	if err != nil {
		return // the flow ends it
	}
	decision := c.preview(it, i, now.Unix()).Decision
	if decision.Outcome == policy.Allow || decision.Outcome == policy.Deny {
		return
	}
	var lacks []string
	for _, m := range decision.Missing {
		lacks = append(lacks, missing(m))
	}
	c.seen.mu.Lock()
	c.seen.needs[it.ID] = true
	c.seen.mu.Unlock()
	text := fmt.Sprintf("%s %s by %s waits for %s", i.Kind, i.Reference, i.Initiator, strings.Join(lacks, "; "))
	c.log.Info("waits for people", "intent", it.ID.String(), "missing", lacks)
	c.seen.hooks.Fire(hook.Event{Name: hook.IntentNeedsYou, Intent: it.ID.String(), Subject: i.Wallet, Text: text}, "waits")
}

// watchChain keeps what a chain's endpoint says of its head.
func (c *Coordinator) watchChain(ctx context.Context, name string) {
	tick := time.NewTicker(chainEvery)
	defer tick.Stop()
	for {
		h := c.askHead(ctx, name)
		if ctx.Err() != nil {
			return
		}
		c.seen.mu.Lock()
		c.seen.chains[name] = h
		c.seen.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (c *Coordinator) askHead(ctx context.Context, name string) (h head) {
	ctx, cancel := context.WithTimeout(ctx, chainEvery)
	defer cancel()
	client, err := c.chain(ctx, name)
	if err != nil {
		h.err = err
		return h
	}
	h.number, h.at, h.err = client.Head(ctx)
	h.endpoint = client.Endpoint()
	return h
}
