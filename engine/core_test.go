package engine_test

import (
	"bytes"
	"errors"
	"math/big"
	"testing"

	"coffer/canon"
	"coffer/engine"
	"coffer/internal/testkeys"
	"coffer/keyshare"
	"coffer/partial"
	"coffer/party"
)

func digestOf(s string) [32]byte { return canon.Sum([]byte(s)) }

// TestKeygenAndEveryQuorum makes a wallet and signs with every pair, cold.
func TestKeygenAndEveryQuorum(t *testing.T) {
	c := newCluster(t)
	meta := func(id party.ID) keyshare.Meta {
		m := testkeys.Meta(id)
		m.Wallet = "fresh"
		return m
	}
	o := c.run(c.startKeygen(meta, signers), signers, nil)
	if len(o.keygen) != 3 {
		t.Fatalf("key generation: %v", o.faults)
	}
	first := o.keygen["alice"]
	for id, r := range o.keygen {
		if r.PublicKey != first.PublicKey || !bytes.Equal(r.Public, first.Public) {
			t.Errorf("%s has other public data than alice", id)
		}
		// The share opens under its own meta and key only.
		if _, err := keyshare.OpenShare(c.keys[id], meta(id), r.Sealed); err != nil {
			t.Errorf("%s: %v", id, err)
		}
		if _, err := keyshare.OpenShare(c.keys[id], testkeys.Meta(id), r.Sealed); err == nil {
			t.Errorf("%s: share opens as another wallet's", id)
		}
	}
	for _, quorum := range []party.Set{{"alice", "bob"}, {"alice", "carol"}, {"bob", "carol"}} {
		session, digest := fresh(), digestOf("pay "+string(quorum[0])+string(quorum[1]))
		for _, id := range quorum {
			if err := c.hosts[id].Sign(engine.SignConfig{Session: session, Meta: meta(id), Share: o.keygen[id].Sealed, Signers: quorum}); err != nil {
				t.Fatal(err)
			}
		}
		c.release(session, quorum, digest) // before Prepared: a cold session
		signed := c.run(session, quorum, nil)
		if len(signed.partials) != 2 || len(signed.prepared) != 2 {
			t.Fatalf("quorum %v: %v", quorum, signed.faults)
		}
		var partials []partial.Partial
		for _, p := range signed.partials {
			partials = append(partials, *p)
		}
		if _, err := partial.Combine(digest, first.PublicKey, 2, partials); err != nil {
			t.Errorf("quorum %v: %v", quorum, err)
		}
	}
}

// TestThreeOfThree has thetas and gammas of more than one other party.
func TestThreeOfThree(t *testing.T) {
	c := newCluster(t)
	meta := func(id party.ID) keyshare.Meta {
		m := testkeys.Meta(id)
		m.Quorum.Need = 3
		return m
	}
	o := c.run(c.startKeygen(meta, signers), signers, nil)
	if len(o.keygen) != 3 {
		t.Fatalf("key generation: %v", o.faults)
	}
	session, digest := fresh(), digestOf("three")
	for _, id := range signers {
		if err := c.hosts[id].Sign(engine.SignConfig{Session: session, Meta: meta(id), Share: o.keygen[id].Sealed, Signers: signers}); err != nil {
			t.Fatal(err)
		}
	}
	c.release(session, signers, digest)
	signed := c.run(session, signers, nil)
	var partials []partial.Partial
	for _, p := range signed.partials {
		partials = append(partials, *p)
	}
	if _, err := partial.Combine(digest, o.keygen["alice"].PublicKey, 3, partials); err != nil {
		t.Errorf("%v, %v", err, signed.faults)
	}
}

// TestHold: nothing of round 4 leaves before Release; then the digest decides.
func TestHold(t *testing.T) {
	c := newCluster(t)
	sent := map[string]int{}
	c.tamper = func(_ party.ID, m engine.Message) []engine.Message {
		sent[m.Kind]++
		return []engine.Message{m}
	}
	session := c.prepare(pair)
	for kind := range sent {
		if engine.Kinds()[kind].Round > 3 {
			t.Errorf("%s was sent before the release", kind)
		}
	}
	digest := digestOf("released")
	// One party's release alone brings out its gamma and no more.
	if err := c.hosts["alice"].Release(session, digest); err != nil {
		t.Fatal(err)
	}
	c.run(session, pair, func(*outcome) bool { return sent["S4"] > 0 })
	if sent["S5"] > 0 {
		t.Error("S5 was sent although carol has not released")
	}
	if err := c.hosts["alice"].Release(session, digestOf("another")); !errors.Is(err, engine.ErrDigest) {
		t.Errorf("second release: %v, want ErrDigest", err)
	}
	if err := c.hosts["carol"].Release(session, digest); err != nil {
		t.Fatal(err)
	}
	o := c.run(session, pair, nil)
	sig, err := c.combine(digest, o)
	if err != nil {
		t.Fatal(err)
	}
	if half := new(big.Int).Rsh(engine.GroupOrder(), 1); new(big.Int).SetBytes(sig.S[:]).Cmp(half) > 0 {
		t.Error("s is high")
	}
}

// TestHoldNeedsTheAlias pins what the hold rests on: the library reads the message
// only after round 4 and through the integer that it was given. If it took a copy
// the placeholder would be signed and this combination would fail.
func TestHoldNeedsTheAlias(t *testing.T) {
	c := newCluster(t)
	for i := range 2 {
		session, digest := c.prepare(pair), digestOf("alias "+string(rune('0'+i)))
		c.release(session, pair, digest)
		o := c.run(session, pair, nil)
		if _, err := c.combine(digest, o); err != nil {
			t.Fatal(err)
		}
		placeholder := [32]byte{31: 1}
		if _, err := c.combine(placeholder, o); err == nil {
			t.Fatal("the placeholder was signed")
		}
	}
}

// TestDigestsThatDiffer: two signers that release different digests get nothing.
func TestDigestsThatDiffer(t *testing.T) {
	c := newCluster(t)
	session := c.prepare(pair)
	c.release(session, party.Set{"alice"}, digestOf("one"))
	c.release(session, party.Set{"carol"}, digestOf("two"))
	o := c.run(session, pair, nil)
	if len(o.partials) != 0 || len(o.faults) != 2 {
		t.Fatalf("partials %v, faults %v", o.partials, o.faults)
	}
	for id, f := range o.faults {
		if len(f.Culprits) != 0 {
			t.Errorf("%s blames %v although the sums cannot tell", id, f.Culprits)
		}
	}
}

func TestConcurrentSessions(t *testing.T) {
	c := newCluster(t)
	wallet, err := testkeys.SharesUnder(func(id party.ID) *keyshare.WrapKey { return c.keys[id] })
	if err != nil {
		t.Fatal(err)
	}
	quorums := []party.Set{{"alice", "bob"}, {"alice", "carol"}, {"bob", "carol"}}
	type key struct {
		session canon.Digest
		id      party.ID
	}
	of := map[canon.Digest]party.Set{}
	for i := range 6 {
		session, quorum := fresh(), quorums[i%3]
		of[session] = quorum
		for _, id := range quorum {
			if err := c.hosts[id].Sign(engine.SignConfig{Session: session, Meta: testkeys.Meta(id), Share: wallet.Sealed[id], Signers: quorum}); err != nil {
				t.Fatal(err)
			}
		}
		c.release(session, quorum, [32]byte(session))
	}
	partials := map[key]partial.Partial{}
	for len(partials) < 12 {
		e := <-c.inbox
		switch {
		case e.Failed != nil:
			t.Fatal(e.Failed)
		case e.Out != nil:
			c.carry(e.Session, of[e.Session], *e.Out)
		case e.Partial != nil:
			partials[key{e.Session, e.id}] = *e.Partial
		}
	}
	for session, quorum := range of {
		list := []partial.Partial{partials[key{session, quorum[0]}], partials[key{session, quorum[1]}]}
		if _, err := partial.Combine([32]byte(session), wallet.PublicKey, 2, list); err != nil {
			t.Errorf("quorum %v: %v", quorum, err)
		}
	}
}

func TestRefusals(t *testing.T) {
	locked := engine.NewInProcess()
	defer locked.Close()
	good := engine.SignConfig{Session: fresh(), Meta: testkeys.Meta("alice"), Signers: pair}
	if err := locked.Sign(good); !errors.Is(err, engine.ErrSealed) {
		t.Errorf("locked: %v", err)
	}
	if err := locked.GeneratePreParams(); !errors.Is(err, engine.ErrSealed) {
		t.Errorf("locked: %v", err)
	}
	c := newCluster(t)
	for name, change := range map[string]func(*engine.SignConfig){
		"zero session":   func(s *engine.SignConfig) { s.Session = canon.Digest{} },
		"too few":        func(s *engine.SignConfig) { s.Signers = party.Set{"alice"} },
		"too many":       func(s *engine.SignConfig) { s.Signers = signers },
		"without self":   func(s *engine.SignConfig) { s.Signers = party.Set{"bob", "carol"} },
		"strangers":      func(s *engine.SignConfig) { s.Signers = party.Set{"alice", "mallory"} },
		"unsorted":       func(s *engine.SignConfig) { s.Signers = party.Set{"carol", "alice"} },
		"twice":          func(s *engine.SignConfig) { s.Signers = party.Set{"alice", "alice"} },
		"derived path":   func(s *engine.SignConfig) { s.Path = "m/0" },
		"weak quorum":    func(s *engine.SignConfig) { s.Meta.Quorum.Need = 1; s.Signers = party.Set{"alice"} },
		"foreign member": func(s *engine.SignConfig) { s.Meta.Party = "mallory" },
	} {
		s := good
		change(&s)
		if err := c.hosts["alice"].Sign(s); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}

	session := c.prepare(pair)
	alice := c.hosts["alice"]
	for name, m := range map[string]engine.Message{
		"unknown kind":     {Kind: "S9", From: "carol"},
		"other protocol":   {Kind: "KG1", From: "carol"},
		"from self":        {Kind: "S3", From: "alice"},
		"from a stranger":  {Kind: "S3", From: "mallory"},
		"from outside":     {Kind: "S3", From: "bob"},
		"direct broadcast": {Kind: "S3", From: "carol", To: "alice"},
		"broadcast direct": {Kind: "S2", From: "carol"},
		"to another":       {Kind: "S2", From: "carol", To: "bob"},
	} {
		if err := alice.Deliver(session, m); err == nil {
			t.Errorf("%s: delivered", name)
		}
	}
	order := [32]byte(engine.GroupOrder().FillBytes(make([]byte, 32)))
	for name, d := range map[string][32]byte{"zero": {}, "group order": order} {
		if err := alice.Release(session, d); !errors.Is(err, engine.ErrDigest) {
			t.Errorf("digest %s: %v", name, err)
		}
	}
	if err := alice.Release(fresh(), digestOf("x")); !errors.Is(err, engine.ErrSession) {
		t.Errorf("unknown session: %v", err)
	}
	good.Session = session
	if err := alice.Sign(good); !errors.Is(err, engine.ErrReused) {
		t.Errorf("session id used before: %v", err)
	}
	alice.Drop(session)
	alice.Drop(session)
	if err := alice.Release(session, digestOf("x")); !errors.Is(err, engine.ErrSession) {
		t.Errorf("dropped session: %v", err)
	}
	if err := alice.Sign(good); !errors.Is(err, engine.ErrReused) {
		t.Errorf("dropped session id: %v", err)
	}
}

// TestForeignShares: shares and pre-parameters that do not belong fail at once, without a culprit.
func TestForeignShares(t *testing.T) {
	c := newCluster(t)
	wallet, err := testkeys.SharesUnder(func(id party.ID) *keyshare.WrapKey { return c.keys[id] })
	if err != nil {
		t.Fatal(err)
	}
	pre, err := testkeys.SealedPreParams(c.keys["alice"], 0)
	if err != nil {
		t.Fatal(err)
	}
	fails := func(name string, session canon.Digest, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		o := c.run(session, party.Set{"alice"}, nil)
		if f := o.faults["alice"]; f == nil || f.Code != engine.CodeShare || len(f.Culprits) != 0 {
			t.Errorf("%s: %v, want SHARE without culprits", name, f)
		}
	}
	for name, sealed := range map[string][]byte{"none": nil, "bob's": wallet.Sealed["bob"], "pre-parameters": pre} {
		session := fresh()
		fails(name, session, c.hosts["alice"].Sign(engine.SignConfig{Session: session, Meta: testkeys.Meta("alice"), Share: sealed, Signers: pair}))
	}
	session := fresh()
	fails("share as pre-parameters", session, c.hosts["alice"].Keygen(engine.KeygenConfig{Session: session, Meta: testkeys.Meta("alice"), PreParams: wallet.Sealed["alice"]}))
}

func TestPreParamsEvent(t *testing.T) {
	if testing.Short() {
		t.Log("searches primes: a few seconds")
	}
	k, err := keyshare.NewWrapKey()
	if err != nil {
		t.Fatal(err)
	}
	h := engine.NewInProcess()
	defer h.Close()
	if err := h.Unlock(k); err != nil {
		t.Fatal(err)
	}
	if err := h.GeneratePreParams(); err != nil {
		t.Fatal(err)
	}
	if err := h.GeneratePreParams(); !errors.Is(err, engine.ErrBusy) {
		t.Errorf("second search: %v, want ErrBusy", err)
	}
	progress := 0
	for e := range h.Events() {
		if e.Progress != "" {
			progress++
			continue
		}
		if e.Failed != nil {
			t.Fatal(e.Failed)
		}
		plain, err := keyshare.Open(k, keyshare.PreParamsAD(), e.PreParams)
		if err != nil {
			t.Fatal(err)
		}
		if err := engine.CheckPreParams(plain); err != nil {
			t.Error(err)
		}
		break
	}
	if progress != 4 {
		t.Errorf("%d reports of progress, want 4", progress)
	}
}

func TestCloseEndsTheSearch(t *testing.T) {
	k, err := keyshare.NewWrapKey()
	if err != nil {
		t.Fatal(err)
	}
	h := engine.NewInProcess()
	if err := h.Unlock(k); err != nil {
		t.Fatal(err)
	}
	if err := h.GeneratePreParams(); err != nil {
		t.Fatal(err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	for range h.Events() {
	}
	if err := h.Unlock(k); !errors.Is(err, engine.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}
