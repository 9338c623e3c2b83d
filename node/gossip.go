package node

import (
	"bytes"
	"encoding/binary"
	"time"

	"coffer/authority"
	"coffer/authority/exchange"
	"coffer/canon"
	"coffer/party"
)

const (
	headFrameDomain = "coffer/head-frame/v1"
	refsFrameDomain = "coffer/record-refs/v1"

	// headEvery is how often all peers hear where this signer stands, though nothing is
	// new: their word on each other is good for the charter's freshness, 60 seconds.
	headEvery = 5 * time.Second
	// differFor is how long a peer's head may differ before records are compared: what is
	// new is on its way already.
	differFor = 300 * time.Millisecond
	// compareEvery bounds how often they are compared with one peer.
	compareEvery = time.Second
	// answerBytes bounds what a peer is sent at once, of what it lacks; it says where it
	// stands then, and is sent the rest.
	answerBytes = 2 << 20
)

// A peer that brings more new records than that in a second is not asked for all of them
// at once; what is left out is compared again.
var recordRate = exchange.Rate{Burst: 512, PerSecond: 64}

// acquaintance is what the loop remembers of a peer.
type acquaintance struct {
	told     time.Time // since when the connection is up on which it was told all
	differs  time.Time // since when it holds other records; zero while it holds the same
	compared time.Time
	answered time.Time
	records  exchange.Bucket
}

func (n *Node) acquainted(p party.ID) *acquaintance {
	a, ok := n.loop.met[p]
	if !ok {
		a = &acquaintance{}
		n.loop.met[p] = a
	}
	return a
}

func headFrame(raw, signature []byte) []byte {
	return canon.New(headFrameDomain).Bytes(raw).Bytes(signature).Encoded()
}

func parseHeadFrame(data []byte) (raw, signature []byte, err error) {
	d := canon.NewDecoder(headFrameDomain, data)
	raw, signature = d.Bytes(authority.MaxHead), d.Bytes(64)
	return raw, signature, d.Finish()
}

func refsFrame(refs []authority.Ref) []byte {
	e := canon.New(refsFrameDomain).List(len(refs))
	for _, r := range refs {
		e.Digest(r.ID).Digest(r.Sum)
	}
	return e.Encoded()
}

func parseRefsFrame(data []byte) ([]authority.Ref, error) {
	d := canon.NewDecoder(refsFrameDomain, data)
	var refs []authority.Ref
	for range d.List(authority.MaxRefs) {
		refs = append(refs, authority.Ref{ID: d.Digest(), Sum: d.Digest()})
	}
	return refs, d.Finish()
}

// isOf says whether data is a canonical message of a domain.
func isOf(domain string, data []byte) bool {
	return len(data) > 4 && binary.BigEndian.Uint32(data) == uint32(len(domain)) && bytes.HasPrefix(data[4:], []byte(domain))
}

// tell sends a frame to those who are connected; who comes later is told then.
func (n *Node) tellPeers(frame []byte, to ...party.ID) {
	for _, p := range to {
		if !n.link.Connected(p) {
			continue
		}
		if err := n.link.Send(p, frame); err != nil {
			n.log.Debug("cannot tell a peer", "peer", string(p), "error", err) // heads differ then, and it comes again
		}
	}
}

// spread tells records as they stand now.
func (n *Node) spread(ids []canon.Digest, to ...party.ID) {
	for _, id := range ids {
		if r, ok := n.book.Record(id); ok {
			n.tellPeers(r.Encode(), to...)
		}
	}
}

// signedHead is where this signer stands, signed.
func (n *Node) signedHead() (raw, signature []byte, err error) {
	h := n.here()
	tree, err := n.audit.Tree()
	if err != nil {
		return nil, nil, err
	}
	h.AuditSize, h.AuditRoot, h.Time = uint64(tree.N), canon.Digest(tree.Hash), time.Now().Unix()
	raw, signature = h.Sign(n.key)
	return raw, signature, nil
}

// tellHead tells peers where this signer stands.
func (n *Node) tellHead(to ...party.ID) {
	if len(to) == 0 || n.unlisted() {
		return
	}
	raw, signature, err := n.signedHead()
	if err != nil {
		n.log.Error("cannot say where this signer stands", "error", err)
		return
	}
	n.tellPeers(headFrame(raw, signature), to...)
}

// overhear takes what a peer tells that is no envelope of a run. It belongs to the loop.
func (n *Node) overhear(from party.ID, data []byte) {
	switch {
	case isOf(headFrameDomain, data):
		n.hearHead(from, data)
	case isOf(authority.Domain, data):
		n.hearRecord(from, data)
	case isOf(refsFrameDomain, data):
		n.hearRefs(from, data)
	default:
		n.hearAddresses(from, data)
	}
}

// hearHead takes a peer's head, from itself only: how old it is would else be its bearer's
// word.
func (n *Node) hearHead(from party.ID, data []byte) {
	raw, signature, err := parseHeadFrame(data)
	var h authority.Head
	if err == nil {
		h, err = authority.OpenHead(raw, signature, n.inForce())
	}
	if err != nil || h.Signer != from {
		n.junk.count("HEAD of " + string(from))
		return
	}
	now := time.Now()
	n.mu.Lock()
	n.heads[from] = heard{h, now}
	n.mu.Unlock()
	a := n.acquainted(from)
	switch {
	case h.Records == n.here().Records:
		a.differs = time.Time{}
	case a.differs.IsZero():
		a.differs = now
	}
}

// hearRecord takes a record that a peer hands on.
func (n *Node) hearRecord(from party.ID, data []byte) {
	r, err := authority.Parse(data)
	if err != nil {
		n.junk.count("RECORD of " + string(from))
		return
	}
	if known, ok := n.book.Record(r.ID()); ok && known.Sum() == r.Sum() {
		return // the common case, without a signature to verify
	}
	if !recordRate.Take(&n.acquainted(from).records, time.Now()) {
		n.junk.count("RECORDS of " + string(from) + ", too many")
		return
	}
	if _, err := n.addInLoop(r); err != nil {
		n.junk.count(authority.CodeOf(err) + " of " + string(from))
		n.log.Debug("record refused", "peer", string(from), "error", err)
	}
}

// hearRefs sends a peer what it lacks.
func (n *Node) hearRefs(from party.ID, data []byte) {
	refs, err := parseRefsFrame(data)
	if err != nil {
		n.junk.count("REFS of " + string(from))
		return
	}
	a := n.acquainted(from)
	if now := time.Now(); now.Sub(a.answered) < compareEvery/2 {
		return // it asks again
	} else {
		a.answered = now
	}
	missing, _ := n.book.Missing(refs, answerBytes)
	for _, r := range missing {
		n.tellPeers(r.Encode(), from)
	}
}

// greet tells peers that have just connected where this signer is and stands, and all of
// them from time to time, and compares records with those that hold others. It belongs to
// the loop.
func (n *Node) greet(now time.Time) {
	addresses, heads := now.Sub(n.loop.told) >= gossipEvery, now.Sub(n.loop.toldHead) >= headEvery
	if addresses {
		n.loop.told = now
	}
	if heads {
		n.loop.toldHead = now
		n.proveNext()
	}
	var hear []party.ID
	for _, p := range n.others {
		s := n.link.State(p)
		if !s.Connected {
			continue
		}
		a := n.acquainted(p)
		met := a.told.Equal(s.Since)
		a.told = s.Since
		if addresses || !met {
			n.gossip(p)
		}
		if heads || !met {
			hear = append(hear, p)
		}
		if !a.differs.IsZero() && now.Sub(a.differs) >= differFor && now.Sub(a.compared) >= compareEvery {
			a.compared = now
			n.tellPeers(refsFrame(n.book.Refs()), p)
		}
	}
	n.tellHead(hear...)
}
