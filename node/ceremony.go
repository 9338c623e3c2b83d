package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"coffer/audit"
	"coffer/canon"
	"coffer/dkg"
	"coffer/engine"
	"coffer/gate"
	"coffer/keyshare"
	"coffer/keystore"
	"coffer/wallet"
)

// startCeremony begins a key generation that the gate has permitted.
func (n *Node) startCeremony(ctx context.Context, j judged, permit *gate.Ceremony, attempt canon.Digest) (*run, error) {
	r := &run{request: j.request, judged: j.moved, attempt: attempt, permit: permit, peers: permit.Signers().Without(n.self), events: make(chan runEvent, 64)}
	var err error
	if doErr := n.do(ctx, func() { err = n.beginCeremony(r, attempt) }); doErr != nil {
		return nil, doErr
	}
	return r, err
}

func (n *Node) beginCeremony(r *run, attempt canon.Digest) error {
	if err := n.mayBegin(r); err != nil {
		return err
	}
	if err := n.stillMay(r); err != nil {
		return err
	}
	// One ceremony of a name at a time: out of two, each signer could make another one's
	// wallet active, and both records would carry all signatures.
	for _, other := range n.loop.distinct() {
		switch {
		case other.permit == nil || other.permit.Wallet() != r.permit.Wallet():
		case !other.ceremony.Proved():
			return fmt.Errorf("%w: %q", errCeremony, r.permit.Wallet())
		default:
			// It waits for somebody's word. All that it has is on disk, and this one goes on
			// from there.
			n.fail(other, &engine.Fault{Code: "SUPERSEDED", Text: "another try finishes this ceremony"})
		}
	}
	if n.wallet(r.permit.Wallet()) != nil {
		return fmt.Errorf("wallet %q exists: %w", r.permit.Wallet(), keystore.ErrExists)
	}
	proved, err := n.keys.Proved(r.permit.Wallet(), 1)
	if err != nil {
		return err
	}
	// A record that this signer has signed may be complete somewhere, and turn up: no
	// second key may ever be made for its name. The ceremony knows that, unless the proof
	// is gone that belongs to the signature.
	digest, signed, err := n.keys.Attested(r.permit.Wallet(), 1)
	if err != nil {
		return err
	}
	if signed && (proved == nil || proved.Digest() != digest) {
		return fmt.Errorf("%w (record %s of wallet %q)", errAttested, digest.Short(), r.permit.Wallet())
	}
	// Asked before anything is sent; the set itself is taken when the ceremony has its ID.
	if count, err := n.keys.PreParamsCount(); err != nil {
		return err
	} else if count == 0 && proved == nil {
		return errNoPrimes
	}
	nonce, err := fresh()
	if err != nil {
		return err
	}
	chainCode, err := fresh()
	if err != nil {
		return err
	}
	p := r.permit
	r.ceremony, err = dkg.New(dkg.Config{
		Authority: p, Cluster: p.Cluster(), Charter: p.Charter(), Wallet: p.Wallet(), Quorum: p.Quorum(), Signers: p.Signers(),
		Self: n.self, Attempt: attempt, Roster: n.roster, Key: n.key, Nonce: nonce, ChainCodeShare: chainCode, Proved: proved, Signed: signed,
	})
	if err != nil {
		return err
	}
	if r.host, err = n.host(p.Wallet()); err != nil {
		return err
	}
	if err := n.openRun(r.ceremony.Run()); err != nil {
		return err
	}
	r.deadline = time.Now().Add(n.cfg.CeremonyWithin)
	for _, id := range r.ceremony.Routes() {
		n.route(r, id)
	}
	n.pump(r)
	return nil
}

var errCeremony = errors.New("a ceremony of this wallet is under way: wait for its end")

var errAttested = errors.New("a ceremony of this name ended after this signer had signed its record, which may turn up complete: choose another name")

var errNoPrimes = errors.New("this signer has no pre-parameters ready: it searches for them, ask again later")

// pumpCeremony follows the order that dkg.Ready prescribes.
func (n *Node) pumpCeremony(r *run) (again bool) {
	ready := r.ceremony.Ready()
	n.stage(r, string(ready.Stage))
	fail := func(code string, err error) bool {
		n.fail(r, &engine.Fault{Code: code, Text: err.Error()})
		return false
	}
	if f := ready.Forget; f != nil {
		err := n.record(audit.Event{Code: "SHARE_FORGOTTEN", Subject: f.Name, Session: f.Ceremony.String(), Detail: map[string]string{"record": f.Digest().String()}})
		if err != nil {
			return fail("AUDIT", err)
		}
		if err := n.keys.DropPending(f.Name, f.Epoch, f.Ceremony); err != nil {
			return fail("KEYSTORE", err)
		}
	}
	if start := ready.Start; start != nil {
		if err := n.journal.OpenSession(start.Session, "keygen"); err != nil {
			return fail("JOURNAL", err)
		}
		// Taken and bound to this ceremony in one step: whatever happens from here on,
		// these primes are never used for another key.
		primes, err := n.keys.TakePreParams(start.Session)
		if err != nil {
			return fail("PRIMES", err)
		}
		start.PreParams = primes
		n.route(r, start.Session)
		if err := r.host.Keygen(*start); err != nil {
			return fail("ENGINE", err)
		}
	}
	for _, start := range ready.StartSign {
		if err := n.journal.OpenSession(start.Session, "challenge"); err != nil {
			return fail("JOURNAL", err)
		}
		n.route(r, start.Session)
		if err := r.host.Sign(start); err != nil {
			return fail("ENGINE", err)
		}
	}
	for _, d := range ready.Deliver {
		if !n.deliver(r, d.Session, []engine.Message{d.Message}) {
			return false
		}
	}
	for _, rel := range ready.Release {
		if err := r.host.Release(rel.Session, rel.Digest); err != nil {
			return fail("ENGINE", err)
		}
	}
	if s := ready.Store; s != nil {
		err := n.record(audit.Event{Code: "SHARE_PENDING", Subject: s.Meta.Wallet, Session: s.Meta.Ceremony.String(), Detail: map[string]string{"record": s.Record.Digest().String()}})
		if err != nil {
			return fail("AUDIT", err)
		}
		if err := n.keys.PutShare(s.Meta, s.Sealed); err != nil {
			return fail("KEYSTORE", err)
		}
		if err := r.ceremony.Stored(); err != nil {
			return fail("CEREMONY", err)
		}
	}
	if ready.Prove != nil {
		if err := n.keys.Prove(ready.Prove); err != nil {
			return fail("KEYSTORE", err)
		}
		if err := r.ceremony.Noted(); err != nil {
			return fail("CEREMONY", err)
		}
	}
	// This signer's signature under the record is in Send: its word goes to disk first.
	if r.ceremony.Attested() && !r.attested {
		if err := n.keys.Attest(r.ceremony.Record()); err != nil {
			return fail("KEYSTORE", err)
		}
		r.attested = true
	}
	if ready.Done != nil {
		if err := n.completeWallet(*ready.Done); err != nil {
			return fail("KEYSTORE", err)
		}
	}
	n.send(ready.Send)
	switch {
	case ready.Fault != nil:
		n.discard(r)
		n.runFailed(r, ready.Fault, ready.Evidence)
		return false
	case ready.Done != nil:
		n.tell(r, runEvent{wallet: ready.Done})
		n.finish(r)
		return false
	}
	return ready.Start != nil || len(ready.StartSign) > 0 || len(ready.Deliver) > 0 || len(ready.Release) > 0 || ready.Store != nil || ready.Prove != nil
}

// completeWallet makes a share active together with the record that all signed.
func (n *Node) completeWallet(signed wallet.Signed) error {
	record, err := signed.Open(n.charterOf)
	if err != nil {
		return err
	}
	err = n.record(audit.Event{Code: "WALLET_ACTIVE", Subject: record.Name, Session: record.Ceremony.String(), Detail: map[string]string{
		"record": record.Digest().String(), "public_key": fmt.Sprintf("%x", record.PublicKey),
	}})
	if err != nil {
		return err
	}
	return n.activate(signed, record)
}

// discard drops the pending share of a failed ceremony, unless it is proved: then the
// others may have signed the record, and the next try finishes the ceremony.
func (n *Node) discard(r *run) {
	if r.ceremony == nil || r.ceremony.Proved() || r.ceremony.ID().IsZero() {
		return
	}
	if err := n.keys.DropPending(r.permit.Wallet(), 1, r.ceremony.ID()); err != nil {
		n.log.Error("cannot drop a pending share", "wallet", r.permit.Wallet(), "error", err)
	}
}

// sweep drops the pending shares that were never proved: their ceremonies ended with the
// process, and nobody can have signed their records.
func (n *Node) sweep() error {
	pending, err := n.keys.Pending()
	if err != nil {
		return err
	}
	for _, m := range pending {
		proved, err := n.keys.Proved(m.Wallet, m.Epoch)
		if err != nil {
			return err
		}
		if proved != nil && proved.Ceremony == m.Ceremony {
			n.log.Warn("a ceremony broke off after its proof: ask for the wallet again to finish it", "wallet", m.Wallet)
			continue
		}
		if _, signed, err := n.keys.Attested(m.Wallet, m.Epoch); err != nil {
			return err
		} else if signed {
			continue
		}
		if err := n.keys.DropPending(m.Wallet, m.Epoch, m.Ceremony); err != nil {
			return err
		}
	}
	return nil
}

// adopt activates a wallet from its complete record, if its share is pending here.
func (n *Node) adopt(signed wallet.Signed) error {
	r, err := signed.Open(n.charterOf)
	if err != nil {
		return err
	}
	if old := n.wallet(r.Name); old != nil {
		if old.Digest() != r.Digest() {
			return fmt.Errorf("wallet %q exists here with another record", r.Name)
		}
		return nil
	}
	pending, err := n.keys.Pending()
	if err != nil {
		return err
	}
	// Looked up before it is written down: whoever has a record could have it refused,
	// and noted, every second.
	if !slices.ContainsFunc(pending, func(m keyshare.Meta) bool {
		return m.Wallet == r.Name && m.Epoch == r.Epoch && m.Ceremony == r.Ceremony
	}) {
		return fmt.Errorf("this signer has no share of wallet %q from ceremony %s", r.Name, r.Ceremony.Short())
	}
	if err := n.record(audit.Event{Code: "WALLET_ADOPT", Subject: r.Name, Detail: map[string]string{"record": r.Digest().String()}}); err != nil {
		return err
	}
	return n.activate(signed, r)
}

func (n *Node) activate(signed wallet.Signed, r *wallet.Record) error {
	if err := n.keys.Activate(signed, r); err != nil {
		return err
	}
	n.mu.Lock()
	n.wallets[r.Name], n.records[r.Name] = r, signed
	n.mu.Unlock()
	n.log.Info("wallet is active", "wallet", r.Name, "epoch", r.Epoch)
	return nil
}
