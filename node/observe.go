package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"coffer/audit"
	"coffer/authority"
	"coffer/canon"
	"coffer/hook"
	"coffer/internal/datadir"
	"coffer/observe"
	"coffer/party"
	"coffer/verdict"
)

// Metrics are what a signer counts.
var Metrics = []observe.Def{
	{Name: "coffer_signer_info", Kind: observe.Gauge, Labels: []string{"signer", "version"}, Help: "1; which signer and build this is"},
	{Name: "coffer_signer_sealed", Kind: observe.Gauge, Help: "1 until the operator gives the passphrase: it can sign nothing"},
	{Name: "coffer_signer_peer_connected", Kind: observe.Gauge, Labels: []string{"peer"}, Help: "1 while the other signer is connected"},
	{Name: "coffer_signer_peer_round_trip_seconds", Kind: observe.Gauge, Labels: []string{"peer"}, Help: "round trip of the last ping"},
	{Name: "coffer_signer_peer_clock_ahead_seconds", Kind: observe.Gauge, Labels: []string{"peer"}, Help: "how far the other signer's clock is ahead of this one's"},
	{Name: "coffer_signer_pre_parameters", Kind: observe.Gauge, Help: "sets of pre-parameters ready for key generations"},
	{Name: "coffer_signer_pre_parameters_wanted", Kind: observe.Gauge, Help: "sets to keep ready"},
	{Name: "coffer_signer_wallets", Kind: observe.Gauge, Help: "wallets that this signer has a share of"},
	{Name: "coffer_signer_sessions_active", Kind: observe.Gauge, Help: "sessions and ceremonies under way"},
	{Name: "coffer_signer_audit_entries", Kind: observe.Gauge, Help: "entries of the audit log"},
	{Name: "coffer_signer_write_failed", Kind: observe.Gauge, Labels: []string{"what"}, Help: "1 when audit log, journal or key store refuse all since a write failed; the daemon ends at once then, so only the last moment shows it"},
	{Name: "coffer_signer_freezes", Kind: observe.Gauge, Labels: []string{"scope"}, Help: "freezes that nobody lifted: of the cluster, of wallets, of people"},
	{Name: "coffer_signer_charter_version", Kind: observe.Gauge, Help: "version of the charter in force here"},
	{Name: "coffer_signer_charter_pending", Kind: observe.Gauge, Help: "number of the version that the admins signed and that waits for its delay here; 0 while none does"},
	{Name: "coffer_signer_listed", Kind: observe.Gauge, Help: "0 when the charter in force does not list this signer: it signs nothing"},
	{Name: "coffer_signer_fresh", Kind: observe.Gauge, Help: "1 while enough of the others say that they stand where it stands; else it signs nothing"},
	{Name: "coffer_signer_peer_head_age_seconds", Kind: observe.Gauge, Labels: []string{"peer"}, Help: "age of what the other signer said last of where it stands"},
	{Name: "coffer_signer_peer_agrees", Kind: observe.Gauge, Labels: []string{"peer"}, Help: "1 while the other signer has the same charter, freezes and lists"},
	{Name: "coffer_signer_disk_free_bytes", Kind: observe.Gauge, Help: "room left where the data directory is"},
	{Name: "coffer_signer_hook_events", Kind: observe.Gauge, Labels: []string{"outcome"}, Help: "events for hooks since the start: delivered, failed, dropped"},
	{Name: "coffer_signer_events_total", Kind: observe.Counter, Labels: []string{"code"}, Help: "entries written to the audit log, by code"},
	{Name: "coffer_signer_verdicts_total", Kind: observe.Counter, Labels: []string{"request", "outcome", "check"}, Help: "decisions of the gate; check is the first that refused or waits"},
	{Name: "coffer_signer_runs_total", Kind: observe.Counter, Labels: []string{"kind", "outcome", "code"}, Help: "sessions and ceremonies that ended; code says why one failed"},
	{Name: "coffer_signer_stage_seconds", Kind: observe.Histogram, Labels: []string{"kind", "stage"}, Help: "how long each stage of sessions and ceremonies took"},
}

// observer is what the operator sees and hears of this signer. Nothing waits for it,
// and nothing depends on it.
type observer struct {
	metrics *observe.Metrics
	hooks   *hook.Hooks
	tracer  *observe.Tracer
	asked   atomic.Int64          // Unix seconds: when a coordinator asked last
	away    map[party.ID]*absence // owned by the loop
}

// absence is how long a peer has been away, and whether its operator's colleagues know.
type absence struct {
	since time.Time
	told  bool
}

// awayTold is how long a peer is away before anybody is told: a restart is no news.
const awayTold = 15 * time.Second

func (n *Node) newObserver() (*observer, error) {
	tracer, err := observe.NewTracer(context.Background(), n.settings.TracesEndpoint, observe.Source{Service: "coffer-signer", Name: string(n.self), Version: n.cfg.Version}, n.log)
	if err != nil {
		return nil, err
	}
	return &observer{
		metrics: observe.NewMetrics(Metrics, n.gauges),
		hooks:   hook.New(hook.Config{Settings: n.settings.Hooks, Key: n.key, Role: "signer", Name: string(n.self), Cluster: n.inForce().Cluster, Logger: n.log}),
		tracer:  tracer,
		away:    map[party.ID]*absence{},
	}, nil
}

// gauges looks everything up that has a value at any time.
func (n *Node) gauges(set observe.Set) {
	st, err := n.status()
	if err != nil {
		return // it is in the log
	}
	set("coffer_signer_info", 1, string(n.self), n.cfg.Version)
	set("coffer_signer_sealed", observe.Bool(st.Sealed))
	for _, p := range st.Peers {
		set("coffer_signer_peer_connected", observe.Bool(p.Connected), p.Signer)
		if p.Connected && p.RoundTripUs > 0 {
			set("coffer_signer_peer_round_trip_seconds", float64(p.RoundTripUs)/1e6, p.Signer)
			set("coffer_signer_peer_clock_ahead_seconds", float64(p.ClockAheadMs)/1e3, p.Signer)
		}
	}
	set("coffer_signer_pre_parameters", float64(st.PreParameters))
	set("coffer_signer_pre_parameters_wanted", float64(n.settings.preParameters()))
	set("coffer_signer_wallets", float64(len(st.Wallets)))
	set("coffer_signer_sessions_active", float64(st.ActiveSessions))
	set("coffer_signer_audit_entries", float64(st.AuditSize))
	frozen := map[string]int{authority.ScopeCluster: 0, authority.ScopeWallet: 0, authority.ScopePerson: 0}
	for _, f := range st.Freezes {
		frozen[f.Scope]++
	}
	for scope, count := range frozen {
		set("coffer_signer_freezes", float64(count), scope)
	}
	set("coffer_signer_charter_version", float64(st.CharterVersion))
	set("coffer_signer_charter_pending", float64(st.NextVersion))
	set("coffer_signer_listed", observe.Bool(!n.unlisted()))
	set("coffer_signer_fresh", observe.Bool(st.Fresh))
	for _, h := range st.Heads {
		set("coffer_signer_peer_head_age_seconds", float64(h.AgeMs)/1e3, h.Signer)
		set("coffer_signer_peer_agrees", observe.Bool(h.Agrees), h.Signer)
	}
	for what, err := range n.writeErrors() {
		set("coffer_signer_write_failed", observe.Bool(err != nil), what)
	}
	if free, _, err := datadir.Space(string(n.cfg.Dir)); err == nil {
		set("coffer_signer_disk_free_bytes", float64(free))
	}
	delivered, failed, dropped := n.seen.hooks.Counts()
	set("coffer_signer_hook_events", float64(delivered), "delivered")
	set("coffer_signer_hook_events", float64(failed), "failed")
	set("coffer_signer_hook_events", float64(dropped), "dropped")
}

// writeErrors are the writes after which nothing more is taken until a restart.
func (n *Node) writeErrors() map[string]error {
	return map[string]error{"audit": n.audit.Failed(), "journal": n.journal.Failed(), "keystore": n.keys.Failed()}
}

// serveMetrics answers on the loopback address of the settings.
func (n *Node) serveMetrics(ctx context.Context) error {
	if n.settings.MetricsListen == "" {
		return nil
	}
	s := &observe.Server{
		Address: n.settings.MetricsListen, Metrics: n.seen.metrics.Gatherer(), Alive: n.alive, Ready: n.ready,
		Logger: n.log, Listening: n.cfg.Watching,
	}
	return s.Run(ctx)
}

// alive says whether the loop turns.
func (n *Node) alive(ctx context.Context) error {
	turned := make(chan struct{})
	select {
	case n.mail <- func() { close(turned) }:
	case <-n.closed:
		return errStopping
	case <-ctx.Done():
		return errStuck
	}
	select {
	case <-turned:
		return nil
	case <-n.closed:
		return errStopping
	case <-ctx.Done():
		return errStuck
	}
}

var errStuck = errors.New("the loop does not turn")

// ready says whether this signer could take part in a session now.
func (n *Node) ready(ctx context.Context) error {
	if err := n.alive(ctx); err != nil {
		return err
	}
	if n.unlisted() {
		return errUnlisted
	}
	if n.isSealed() {
		return ErrSealed
	}
	if f := n.fresh(time.Now()); !f.Fresh {
		return fmt.Errorf("%d more signers must say that they stand where this one stands", f.Missing)
	}
	if n.book.Frozen().Cluster != nil {
		return errors.New("the cluster is frozen")
	}
	for what, err := range n.writeErrors() {
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	var away []string
	for _, id := range n.others {
		if !n.link.Connected(id) {
			away = append(away, string(id))
		}
	}
	if len(n.others)-len(away) < n.inForce().Quorum.Need-1 {
		return fmt.Errorf("too few signers are connected: %s away", strings.Join(away, ", "))
	}
	return nil
}

// recorded tells what was written to the audit log.
func (n *Node) recorded(e audit.Event) {
	n.seen.metrics.Inc("coffer_signer_events_total", e.Code)
	fields := []any{"code", e.Code}
	for _, f := range []struct{ key, value string }{{"intent", e.Intent}, {"session", e.Session}, {"subject", e.Subject}} {
		if f.value != "" {
			fields = append(fields, f.key, f.value)
		}
	}
	n.log.Info("recorded", fields...)
}

// judged tells a decision; first says that this answer about this intent is new.
func (n *Node) judged(request string, v *verdict.Verdict, first bool) {
	check := ""
	if len(v.Reasons) > 0 {
		check = v.Reasons[0].Check
	}
	n.seen.metrics.Inc("coffer_signer_verdicts_total", request, v.Outcome, check)
	if !first {
		return
	}
	id := v.Intent.String()
	switch v.Outcome {
	case verdict.Wait:
		text := strings.Join(v.Missing, "; ")
		n.log.Info("waits", "intent", id, "request", request, "missing", v.Missing)
		n.seen.hooks.Fire(hook.Event{Name: hook.IntentNeedsYou, Intent: id, Text: "this signer waits: " + text}, "waits")
	case verdict.Refuse:
		texts := reasonTexts(v)
		n.log.Info("refused", "intent", id, "request", request, "reasons", texts)
		n.seen.hooks.Fire(hook.Event{Name: hook.IntentRefused, Intent: id, Text: "this signer refuses: " + strings.Join(texts, "; ")}, "refused")
	}
}

// staged tells that a run left a stage.
func (n *Node) staged(r *run, now time.Time) {
	if r.stage != "" {
		n.seen.metrics.Took("coffer_signer_stage_seconds", now.Sub(r.stageBegan), r.kind(), r.stage)
		n.seen.tracer.Span(r.intent(), r.kind()+" "+r.stage, r.stageBegan, "")
	}
	r.stageBegan = now
}

// ran tells how a run ended.
func (n *Node) ran(r *run) {
	outcome, code, fault := "done", "", r.fault
	switch {
	case r.refused:
		outcome, code = "refused", "REFUSED"
	case fault != nil:
		outcome, code = "failed", fault.Code
	}
	n.staged(r, time.Now())
	n.seen.metrics.Inc("coffer_signer_runs_total", r.kind(), outcome, code)
	n.seen.tracer.Span(r.intent(), r.kind(), r.began, code)
	if fault != nil && len(fault.Culprits) > 0 {
		var names []string
		for _, c := range fault.Culprits {
			names = append(names, string(c))
		}
		text := fmt.Sprintf("a %s failed, and %s is to blame: %s: %s", r.kind(), strings.Join(names, ", "), code, fault.Text)
		n.seen.hooks.Fire(hook.Event{Name: hook.Alarm, Intent: r.intent().String(), Subject: names[0], Text: text}, "")
	}
}

func (r *run) kind() string {
	if r.permit != nil {
		return "ceremony"
	}
	return "session"
}

// intent is the digest of what the run is for.
func (r *run) intent() canon.Digest {
	if r.permit != nil {
		return r.permit.Intent()
	}
	return canon.Sum(r.request.intent.Raw)
}

// tellUnwritten tells of writes that failed, at the end of the loop.
func (n *Node) tellUnwritten() {
	for what, err := range n.writeErrors() {
		if err == nil {
			continue
		}
		n.log.Error("cannot write; nothing is signed until there is room and this signer was started again", "what", what, "error", err)
		n.seen.hooks.Fire(hook.Event{Name: hook.Alarm, Subject: what, Text: "cannot write, and signs nothing until it is started again: " + err.Error()}, "")
	}
}

// lookOut tells of peers that are away for long, and of their return.
func (n *Node) lookOut(now time.Time) {
	for _, id := range n.others {
		a := n.seen.away[id]
		switch connected := n.link.Connected(id); {
		case connected && a != nil:
			delete(n.seen.away, id)
			if a.told {
				n.log.Info("signer is back", "peer", string(id), "away", now.Sub(a.since).Round(time.Second))
				n.seen.hooks.Fire(hook.Event{Name: hook.SignerBack, Subject: string(id), Text: fmt.Sprintf("signer %s is connected again", id)}, "")
			}
		case !connected && a == nil:
			n.seen.away[id] = &absence{since: now}
		case !connected && !a.told && now.Sub(a.since) > awayTold:
			a.told = true
			n.log.Warn("signer is away", "peer", string(id))
			n.seen.hooks.Fire(hook.Event{Name: hook.SignerAway, Subject: string(id), Text: fmt.Sprintf("signer %s is not connected", id)}, "")
		}
	}
}

// tellSealed tells that the operator is needed.
func (n *Node) tellSealed() {
	n.seen.hooks.Fire(hook.Event{Name: hook.SignerSealed, Subject: string(n.self), Text: ErrSealed.Error()}, "")
}
