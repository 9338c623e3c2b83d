package node

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"coffer/audit"
	"coffer/canon"
	"coffer/dkg"
	"coffer/engine"
	"coffer/envelope"
	"coffer/gate"
	"coffer/journal"
	"coffer/partial"
	"coffer/party"
	"coffer/signing"
	"coffer/verdict"
	"coffer/wallet"
)

// run is one session or ceremony under way.
type run struct {
	ids      []canon.Digest
	peers    party.Set
	host     engine.Host
	deadline time.Time
	awayFrom map[party.ID]time.Time
	process  map[party.ID]string // of peers, as the run first saw them
	events   chan runEvent
	ended    bool
	stage    string
	fault    *engine.Fault // why it failed
	refused  bool          // by the gate, at release
	attempt  canon.Digest
	request  request
	judged   uint64 // how much had moved when the gate was last asked

	began, stageBegan time.Time

	// of a signing session
	session    *signing.Session
	record     *wallet.Record
	authorized *gate.Authorized // of the second judgement

	// of a ceremony
	ceremony *dkg.Ceremony
	permit   *gate.Ceremony
	attested bool // this signer's word for it is on disk
}

// runEvent is what the coordinator is told; at most one of the pointers is set.
type runEvent struct {
	stage, text string
	partial     *partial.Partial
	wallet      *wallet.Signed
	refused     *verdict.Verdict
	failed      *engine.Fault
}

var errBusy = fmt.Errorf("%d sessions run already: try again when one has ended", maxRuns)

func (n *Node) mayBegin(r *run) error {
	if n.unlisted() {
		return errUnlisted
	}
	if n.loop.wrap == nil {
		return ErrSealed
	}
	if len(n.loop.distinct()) >= maxRuns {
		return errBusy
	}
	r.awayFrom, r.process = map[party.ID]time.Time{}, map[party.ID]string{}
	r.began = time.Now()
	return nil
}

func fresh() (b [32]byte, err error) {
	_, err = rand.Read(b[:])
	return b, err
}

// openRun writes a run ID down before its nonce is sent. A coordinator that repeats
// an attempt would otherwise make an honest signer send two nonces under one run,
// which its peers rightly call equivocation.
func (n *Node) openRun(id canon.Digest) error {
	err := n.journal.OpenSession(id, "run")
	if errors.Is(err, journal.ErrSeen) {
		return errRepeated
	}
	return err
}

var errRepeated = errors.New("this attempt was made before: every try needs a fresh attempt")

// route makes a run known under an ID, and hands it what peers sent too early.
func (n *Node) route(r *run, id canon.Digest) {
	for _, known := range r.ids {
		if known == id {
			return
		}
	}
	r.ids = append(r.ids, id)
	n.loop.runs[id] = r
	n.mu.Lock()
	n.active = len(n.loop.distinct())
	n.mu.Unlock()
	for _, f := range n.loop.early.Take(id, r.peers) {
		n.step(r, f.From, f.Raw)
	}
}

func (n *Node) step(r *run, from party.ID, raw []byte) {
	if r.ended || !r.peers.Has(from) {
		return
	}
	var err error
	if r.session != nil {
		err = r.session.Step(from, raw)
	} else {
		err = r.ceremony.Step(from, raw)
	}
	if err != nil {
		n.log.Debug("message refused", "peer", string(from), "error", err)
	}
}

// pump carries out what a run's machine asks for until it asks for nothing more.
func (n *Node) pump(r *run) {
	for !r.ended {
		var again bool
		if r.session != nil {
			again = n.pumpSession(r)
		} else {
			again = n.pumpCeremony(r)
		}
		if !again {
			return
		}
	}
}

// send hands envelopes to the link. One that cannot be queued is lost; the run then
// ends by its deadline or because the peer is away, which tick notices.
func (n *Node) send(list []envelope.Outbound) {
	for _, out := range list {
		if err := n.link.Send(out.To, out.Raw); err != nil {
			n.log.Debug("cannot send", "peer", string(out.To), "error", err)
		}
	}
}

func (n *Node) deliver(r *run, session canon.Digest, list []engine.Message) bool {
	for _, m := range list {
		// A session that the worker does not know has failed there, or its worker has
		// died; the event that says why is on its way.
		if err := r.host.Deliver(session, m); err != nil && !errors.Is(err, engine.ErrSession) {
			n.fail(r, &engine.Fault{Code: "ENGINE", Text: err.Error()})
			return false
		}
	}
	return true
}

// stage tells the coordinator where a run stands.
func (n *Node) stage(r *run, stage string) {
	if stage == "" || stage == r.stage {
		return
	}
	n.staged(r, time.Now())
	r.stage = stage
	if stageText[stage] == "" {
		return // how it ended is told by an event of its own
	}
	n.tell(r, runEvent{stage: stage, text: stageText[stage]})
}

// stageText says the stages in words.
var stageText = map[string]string{
	"nonces":    "agreeing on a session with the other signers",
	"commit":    "committing to the chain code",
	"reveal":    "revealing the chain code",
	"keygen":    "generating the key together",
	"confirm":   "comparing the public data with every signer",
	"store":     "storing the share",
	"challenge": "proving the shares by test signatures",
	"proved":    "noting the proof",
	"record":    "signing the wallet record",
	"prepare":   "preparing the session",
	"prepared":  "prepared; deciding",
	"bind":      "binding the session to the transaction",
	"release":   "signing",
}

// tell queues an event. Progress is dropped when nobody reads; how a run ended never is.
func (n *Node) tell(r *run, e runEvent) {
	if e.partial == nil && e.wallet == nil && e.refused == nil && e.failed == nil && len(r.events) >= cap(r.events)-1 {
		return
	}
	select {
	case r.events <- e:
	default:
	}
}

// fail ends a run for a reason of this signer's and tells its peers.
func (n *Node) fail(r *run, f *engine.Fault) {
	if r.ended {
		return
	}
	if r.session != nil {
		r.session.Abort(f.Code, f.Text)
		n.send(r.session.Ready().Send)
	} else if r.ceremony != nil {
		r.ceremony.Abort(f.Code, f.Text)
		n.send(r.ceremony.Ready().Send)
		n.discard(r)
	}
	n.runFailed(r, f, nil)
}

// runFailed writes down how a run failed, with the proof where a peer signed two
// things for one place, and tells the coordinator.
func (n *Node) runFailed(r *run, f *engine.Fault, proof *envelope.Evidence) {
	r.fault = f
	e := audit.Event{Code: "RUN_FAILED", Intent: r.intent().String(), Detail: map[string]string{"code": f.Code, "text": f.Text, "culprits": fmt.Sprint(f.Culprits)}}
	if proof != nil {
		for name, b := range map[string][]byte{
			"first": proof.First, "first_signature": proof.FirstSignature, "second": proof.Second, "second_signature": proof.SecondSignature,
		} {
			e.Detail[name] = hex.EncodeToString(b)
		}
	}
	if len(r.ids) > 0 {
		e.Session = r.ids[len(r.ids)-1].String()
	}
	if err := n.record(e); err != nil {
		n.log.Error("a failed session is not in the audit log", "error", err)
	}
	n.log.Warn("run ended", "kind", r.kind(), "intent", e.Intent, "session", e.Session, "code", f.Code, "culprits", f.Culprits, "text", f.Text)
	n.tell(r, runEvent{failed: f})
	n.finish(r)
}

// finish forgets a run. A session never comes back: its ID needs a fresh nonce of
// this signer, and the journal keeps its attempt.
func (n *Node) finish(r *run) {
	if r.ended {
		return
	}
	r.ended = true
	n.ran(r)
	for _, id := range r.ids {
		if r.host != nil {
			r.host.Drop(id)
		}
		delete(n.loop.runs, id)
		n.loop.ended.add(id, time.Now())
	}
	n.mu.Lock()
	n.active = len(n.loop.distinct())
	n.mu.Unlock()
	n.searchPrimes()
}

// abort ends a run from outside the loop.
func (n *Node) abort(r *run, code, text string) {
	// Nobody waits: the caller's context is over, and a stopping loop ends all runs itself.
	go func() {
		_ = n.do(context.Background(), func() {
			// Once the share is proved only signatures are missing, which nobody has to order.
			if r.ceremony == nil || !r.ceremony.Proved() {
				n.fail(r, &engine.Fault{Code: code, Text: text})
			}
		})
	}()
}

// late is the text of a time-out. It names who is waited for, and accuses nobody:
// silence may be the network's.
func (r *run) late() string {
	awaited := party.Set(nil)
	if r.session != nil {
		awaited = r.session.Awaited()
	} else {
		awaited = r.ceremony.Awaited()
	}
	if len(awaited) == 0 {
		return fmt.Sprintf("took too long in stage %s, at this signer", r.stage)
	}
	return fmt.Sprintf("took too long in stage %s, waiting for %s", r.stage, strings.Join(awaited.Strings(), ", "))
}
