package engine

import (
	"fmt"
	"math/big"

	"coffer/canon"
	"coffer/internal/testkeys"
	"coffer/keyshare"
	"coffer/partial"
	"coffer/party"
)

func OpenPublic(k *keyshare.WrapKey, meta keyshare.Meta, sealed []byte) ([]byte, error) {
	r, err := openRecord(k, meta, sealed)
	if err != nil {
		return nil, err
	}
	return r.public(), nil
}

func RecordBytes(k *keyshare.WrapKey, meta keyshare.Meta, sealed []byte) ([]byte, error) {
	r, err := openRecord(k, meta, sealed)
	if err != nil {
		return nil, err
	}
	return r.encode(), nil
}

func EncodeRecord(meta keyshare.Meta, plain []byte) ([]byte, error) {
	r, err := parseRecord(meta, plain)
	if err != nil {
		return nil, err
	}
	return r.encode(), nil
}

func EncodePreParams(plain []byte) ([]byte, error) {
	pp, err := parsePreParams(plain)
	if err != nil {
		return nil, err
	}
	return pp.encode(canon.New(preParamsDomain)).Encoded(), nil
}

// TamperedRecords changes one thing at a time in the frozen wallet's record and
// returns an error for a change that nothing notices.
func TamperedRecords(meta keyshare.Meta) error {
	k, err := keyshare.NewWrapKey()
	if err != nil {
		return err
	}
	wallet, err := testkeys.Shares(k)
	if err != nil {
		return err
	}
	self := meta.Signers.Index(meta.Party)
	other := (self + 1) % len(meta.Signers)
	for name, change := range map[string]func(*record){
		"share":                 func(r *record) { r.xi.Add(r.xi, big.NewInt(1)) },
		"zero share":            func(r *record) { r.xi.SetInt64(0) },
		"share above the order": func(r *record) { r.xi.Add(r.xi, groupOrder()) },
		"wallet's key":          func(r *record) { r.pub = r.peers[self].bigX },
		"own point":             func(r *record) { r.peers[self].bigX = r.peers[other].bigX },
		"other's point":         func(r *record) { r.peers[other].bigX = r.peers[self].bigX },
		"last point":            func(r *record) { r.peers[len(r.peers)-1].bigX = r.pub },
		"own modulus":           func(r *record) { r.peers[self].n = r.peers[other].n },
		"own NTilde":            func(r *record) { r.peers[self].tilde = r.peers[other].tilde },
		"own h1":                func(r *record) { r.peers[self].h1 = r.peers[other].h1 },
		"own h2":                func(r *record) { r.peers[self].h2 = r.peers[other].h2 },
		"short modulus":         func(r *record) { r.peers[other].n = new(big.Int).Rsh(r.peers[other].n, 1) },
		"short NTilde":          func(r *record) { r.peers[other].tilde = new(big.Int).Rsh(r.peers[other].tilde, 1) },
		"close primes":          func(r *record) { r.pre.q = r.pre.p },
		"shared factor":         func(r *record) { r.pre.tildeP = r.pre.p },
		"alpha":                 func(r *record) { r.pre.alpha.SetInt64(0) },
		"h1 one":                func(r *record) { r.pre.h1.SetInt64(1) },
		"a peer less":           func(r *record) { r.peers = r.peers[:len(r.peers)-1] },
		"another ceremony":      func(r *record) { r.meta.Ceremony[0] ^= 1 },
	} {
		r, err := openRecord(k, meta, wallet.Sealed[meta.Party])
		if err != nil {
			return err
		}
		change(r)
		if r.check() == nil {
			return fmt.Errorf("a changed %s goes unnoticed", name)
		}
	}
	return nil
}

func SampleCommands(meta keyshare.Meta) [][]byte {
	var out [][]byte
	for _, c := range []command{
		{op: opUnlock, key: make([]byte, 32)},
		{op: opKeygen, keygen: KeygenConfig{Session: canon.Digest{1}, Meta: meta, PreParams: []byte{1}}},
		{op: opSign, sign: SignConfig{Session: canon.Digest{1}, Meta: meta, Share: []byte{2}, Signers: meta.Signers[:2], Path: "m"}},
		{op: opDeliver, session: canon.Digest{1}, message: Message{Kind: KindS2, From: "bob", To: "alice", Payload: []byte{3}}},
		{op: opRelease, session: canon.Digest{1}, digest: [32]byte{4}},
		{op: opDrop, session: canon.Digest{1}},
		{op: opPreParams},
	} {
		out = append(out, c.encode())
	}
	return out
}

func SampleEvents() [][]byte {
	var out [][]byte
	id := canon.Digest{1}
	for _, e := range []Event{
		{Session: id, Out: &Message{Kind: KindS3, From: "alice", Payload: []byte{1}}},
		{Session: id, Prepared: true},
		{Session: id, Keygen: &KeygenResult{PublicKey: [33]byte{2}, Public: []byte{1}, Sealed: []byte{2}}},
		{Session: id, Partial: &partial.Partial{Session: id, R: [33]byte{2}, S: [32]byte{3}}},
		{PreParams: []byte{5}},
		{Session: id, Failed: &Fault{Code: CodeProtocol, Culprits: []party.ID{"bob"}, Text: "text"}},
		{Progress: "primes: 1 of 4 found"},
	} {
		out = append(out, encodeEvent(e, false))
	}
	return append(out, encodeEvent(Event{Session: id, Failed: &Fault{Code: "X"}}, true))
}
