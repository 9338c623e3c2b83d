package node

import (
	"context"
	"time"

	"coffer/audit"
	"coffer/canon"
	"coffer/engine"
	"coffer/gate"
	"coffer/intent"
	"coffer/journal"
	"coffer/party"
	"coffer/signing"
	"coffer/wallet"
)

// startSigning begins a session that the gate has judged once.
func (n *Node) startSigning(ctx context.Context, j judged, record *wallet.Record, signers party.Set, attempt canon.Digest) (*run, error) {
	r := &run{request: j.request, judged: j.moved, attempt: attempt, record: record, peers: signers.Without(n.self), events: make(chan runEvent, 64)}
	var err error
	if doErr := n.do(ctx, func() { err = n.beginSigning(r, signers, attempt) }); doErr != nil {
		return nil, doErr
	}
	return r, err
}

func (n *Node) beginSigning(r *run, signers party.Set, attempt canon.Digest) error {
	if err := n.mayBegin(r); err != nil {
		return err
	}
	if err := n.stillMay(r); err != nil {
		return err
	}
	meta, sealed, err := n.keys.Share(r.record.Name, r.record.Epoch)
	if err != nil {
		return err
	}
	nonce, err := fresh()
	if err != nil {
		return err
	}
	r.session, err = signing.New(signing.Config{
		Cluster: n.inForce().Cluster, Record: r.record, Path: r.record.Paths, Self: n.self, Signers: signers, Attempt: attempt,
		Roster: n.roster, Key: n.key, Nonce: nonce, Share: sealed, Meta: meta,
	})
	if err != nil {
		return err
	}
	if r.host, err = n.host(r.record.Name); err != nil {
		return err
	}
	if err := n.openRun(r.session.Run()); err != nil {
		return err
	}
	r.deadline = time.Now().Add(n.cfg.SessionWithin)
	n.route(r, r.session.Run())
	n.pump(r)
	return nil
}

// pumpSession follows the order that signing.Ready prescribes.
func (n *Node) pumpSession(r *run) (again bool) {
	ready := r.session.Ready()
	n.stage(r, string(ready.Stage))
	if ready.Start != nil {
		// A session ID is written down before its first message: after a restart no
		// message of it is ever sent again.
		if err := n.journal.OpenSession(ready.Start.Session, "sign"); err != nil {
			n.fail(r, &engine.Fault{Code: "JOURNAL", Text: err.Error()})
			return false
		}
		n.route(r, ready.Start.Session)
		if err := r.host.Sign(*ready.Start); err != nil {
			n.fail(r, &engine.Fault{Code: "ENGINE", Text: err.Error()})
			return false
		}
	}
	if !n.deliver(r, r.session.ID(), ready.Deliver) {
		return false
	}
	if ready.ReleaseDigest != nil {
		if err := r.host.Release(r.session.ID(), *ready.ReleaseDigest); err != nil {
			n.fail(r, &engine.Fault{Code: "ENGINE", Text: err.Error()})
			return false
		}
	}
	if ready.Partial != nil {
		// The last look: what was taken and acknowledged until now counts, and how old the
		// word of the others is by now, although this session was released before.
		if v := n.again(r); v != nil {
			n.refuse(r, v, "OVERRULED")
		}
		if r.ended || !n.markSigned(r) {
			return false
		}
	}
	n.send(ready.Send)
	switch {
	case ready.Fault != nil:
		n.runFailed(r, ready.Fault, ready.Evidence)
		return false
	case ready.Partial != nil:
		n.tell(r, runEvent{partial: ready.Partial})
		n.finish(r)
		return false
	case ready.Prepared:
		n.release(r)
		return true
	}
	return ready.Start != nil || len(ready.Deliver) > 0 || ready.ReleaseDigest != nil
}

// release is the second judgement: everything again, now bound to the session's
// own ID, then audit and journal on disk, and only then the Binding.
func (n *Node) release(r *run) {
	n.follow()
	moved := n.moved.Load()
	in, err := n.input(r.request, r.session.ID())
	if err != nil {
		n.fail(r, &engine.Fault{Code: "JOURNAL", Text: err.Error()})
		return
	}
	authorized, v := gate.Check(in)
	if authorized == nil {
		n.refuse(r, &v, "RELEASE_REFUSED")
		return
	}
	i, err := intent.Parse(r.request.intent.Raw) // the gate has verified these bytes
	if err != nil {
		n.fail(r, &engine.Fault{Code: "GATE", Text: err.Error()})
		return
	}
	chain, _ := n.inForce().Chain(i.Chain) // the gate has just checked that it exists
	var replaces *canon.Digest
	if i.Kind == intent.Cancel {
		replaces = &i.Cancel.Subject
	}
	err = n.record(audit.Event{Code: "RELEASE", Intent: authorized.Intent().String(), Session: authorized.Session().String(), Detail: map[string]string{
		"transaction": authorized.Transaction().String(), "charter": authorized.Charter().String(), "wallet": r.record.Name,
	}})
	if err != nil {
		n.fail(r, &engine.Fault{Code: "AUDIT", Text: err.Error()})
		return
	}
	// The Binding leaves right after: reserved and released are one entry, one sync.
	err = n.journal.Reserve(journal.Reservation{
		Release: true, Replaces: replaces, Chain: chain.ChainID, Account: i.Account, Nonce: i.Nonce, Intent: authorized.Intent(), Initiator: i.Initiator,
		Reference: i.Reference, Expires: i.Expires, Transaction: authorized.Transaction(), Session: authorized.Session(), Time: in.Now,
	})
	if err != nil {
		n.fail(r, &engine.Fault{Code: "JOURNAL", Text: err.Error()})
		return
	}
	r.authorized, r.judged = authorized, moved
	if err := r.session.Release(authorized); err != nil {
		n.fail(r, &engine.Fault{Code: "RELEASE", Text: err.Error()})
	}
}

// markSigned writes down that a signature may exist, before the partial leaves.
func (n *Node) markSigned(r *run) bool {
	a := r.authorized
	if err := n.journal.MarkSigned(a.Intent(), a.Session(), a.Transaction()); err != nil {
		n.fail(r, &engine.Fault{Code: "JOURNAL", Text: err.Error()})
		return false
	}
	err := n.record(audit.Event{Code: "PARTIAL", Intent: a.Intent().String(), Session: a.Session().String(), Detail: map[string]string{"transaction": a.Transaction().String()}})
	if err != nil {
		n.fail(r, &engine.Fault{Code: "AUDIT", Text: err.Error()})
		return false
	}
	return true
}
