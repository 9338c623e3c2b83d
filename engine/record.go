package engine

import (
	"errors"
	"fmt"
	"math/big"

	"github.com/bnb-chain/tss-lib/v2/crypto"
	"github.com/bnb-chain/tss-lib/v2/crypto/paillier"
	"github.com/bnb-chain/tss-lib/v2/ecdsa/keygen"
	"github.com/bnb-chain/tss-lib/v2/tss"

	"coffer/canon"
	"coffer/keyshare"
	"coffer/party"
)

const (
	partyKeyDomain = "coffer/party-key/v1"
	publicDomain   = "coffer/wallet-public/v1"
	recordDomain   = "coffer/share-record/v1"

	// shareFormat is keyshare's number for recordDomain.
	shareFormat = 1

	maxSigners = 20 // of party.Quorum
)

// partyKeys are the protocol's number for each signer, in the order of signers.
// They follow from public data that differs in every ceremony and are never taken
// from a peer: a number that is 0 or collides modulo the group order gives the
// key away (Trail of Bits 2021), and equal ones in two ceremonies would give
// tss-lib the same session hash for both, since its nonce is the constant 0.
func partyKeys(m keyshare.Meta, signers party.Set) ([]*big.Int, error) {
	keys := make([]*big.Int, len(signers))
	seen := make(map[string]party.ID)
	for i, id := range signers {
		d := canon.New(partyKeyDomain).Digest(m.Cluster).String(m.Wallet).Uint64(m.Epoch).Digest(m.Ceremony).String(string(id)).Sum()
		keys[i] = new(big.Int).Mod(new(big.Int).SetBytes(d[:]), groupOrder())
		if other, dup := seen[string(keys[i].Bytes())]; dup || keys[i].Sign() == 0 {
			return nil, fmt.Errorf("party key of %q is zero or that of %q: begin another ceremony", id, other)
		}
		seen[string(keys[i].Bytes())] = id
	}
	return keys, nil
}

func groupOrder() *big.Int { return tss.S256().Params().N }

// peerPublic is what everybody knows of one signer of a wallet.
type peerPublic struct {
	bigX             *crypto.ECPoint // the public point of its share
	n, tilde, h1, h2 *big.Int
}

// record is a wallet's share in the engine's own form: the library's save data
// without what follows from the rest, and without its indices by position.
type record struct {
	meta  keyshare.Meta
	xi    *big.Int
	pre   *preParams
	pub   *crypto.ECPoint
	peers []peerPublic // in the order of meta.Signers
}

// recordFromSave takes over what a key generation has returned and checks that it
// fits together; nothing of the library is believed that can be computed.
func recordFromSave(meta keyshare.Meta, pre *preParams, save *keygen.LocalPartySaveData) (*record, error) {
	n := len(meta.Signers)
	if save == nil || save.Xi == nil || save.ECDSAPub == nil || len(save.Ks) != n || len(save.BigXj) != n ||
		len(save.PaillierPKs) != n || len(save.NTildej) != n || len(save.H1j) != n || len(save.H2j) != n {
		return nil, errors.New("key generation returned an incomplete record")
	}
	keys, err := partyKeys(meta, meta.Signers)
	if err != nil {
		return nil, err
	}
	r := &record{meta: meta, xi: new(big.Int).Set(save.Xi), pre: pre, pub: save.ECDSAPub, peers: make([]peerPublic, n)}
	for i, key := range keys {
		at := -1
		for j, k := range save.Ks {
			if k != nil && k.Cmp(key) == 0 {
				at = j
			}
		}
		if at < 0 || save.BigXj[at] == nil || save.PaillierPKs[at] == nil || save.PaillierPKs[at].N == nil ||
			save.NTildej[at] == nil || save.H1j[at] == nil || save.H2j[at] == nil {
			return nil, fmt.Errorf("key generation returned no data of %q", meta.Signers[i])
		}
		r.peers[i] = peerPublic{bigX: save.BigXj[at], n: save.PaillierPKs[at].N, tilde: save.NTildej[at], h1: save.H1j[at], h2: save.H2j[at]}
	}
	return r, r.check()
}

// check is done whenever a record is opened: sizes, own secrets against own public data.
func (r *record) check() error {
	self := r.meta.Signers.Index(r.meta.Party)
	if self < 0 || len(r.peers) != len(r.meta.Signers) {
		return errors.New("share does not belong to one of its signers")
	}
	if r.xi.Sign() <= 0 || r.xi.Cmp(groupOrder()) >= 0 {
		return errors.New("share is not a number between zero and the group order")
	}
	if err := r.pre.check(); err != nil {
		return err
	}
	for i, p := range r.peers {
		if p.n.BitLen() != modulusBits || p.tilde.BitLen() != modulusBits || !p.bigX.ValidateBasic() {
			return fmt.Errorf("public data of %q has the wrong size", r.meta.Signers[i])
		}
	}
	own, lib := r.peers[self], r.pre.library()
	if own.n.Cmp(lib.PaillierSK.N) != 0 || own.tilde.Cmp(lib.NTildei) != 0 || own.h1.Cmp(lib.H1i) != 0 || own.h2.Cmp(lib.H2i) != 0 {
		return errors.New("own moduli are not those of the pre-parameters")
	}
	if !crypto.ScalarBaseMult(tss.S256(), r.xi).Equals(own.bigX) {
		return errors.New("own share does not fit its public point")
	}
	return r.checkPolynomial()
}

// checkPolynomial checks that the wallet's key at zero and the public points of
// all signers lie on one polynomial of degree Need-1. That is the same as every
// set of Need signers giving the wallet's key, without trying every set: the key
// and the first Need-1 points determine the polynomial, and each other point must
// be its value.
func (r *record) checkPolynomial() error {
	keys, err := partyKeys(r.meta, r.meta.Signers)
	if err != nil {
		return err
	}
	base := r.meta.Quorum.Need - 1
	xs, points := []*big.Int{new(big.Int)}, []*crypto.ECPoint{r.pub}
	for i := range base {
		xs, points = append(xs, keys[i]), append(points, r.peers[i].bigX)
	}
	for i := base; i < len(keys); i++ {
		got, err := interpolate(xs, points, keys[i])
		if err != nil || !got.Equals(r.peers[i].bigX) {
			return fmt.Errorf("public points do not fit together: quorums with %q would not sign for the wallet's key", r.meta.Signers[i])
		}
	}
	return nil
}

// interpolate is the value at x of the polynomial through the points at xs.
func interpolate(xs []*big.Int, points []*crypto.ECPoint, x *big.Int) (*crypto.ECPoint, error) {
	q := groupOrder()
	var sum *crypto.ECPoint
	for i := range xs {
		lambda := big.NewInt(1)
		for j := range xs {
			if j != i {
				d := new(big.Int).Sub(xs[i], xs[j])
				lambda.Mul(lambda, new(big.Int).Sub(x, xs[j])).Mul(lambda, d.ModInverse(d.Mod(d, q), q)).Mod(lambda, q)
			}
		}
		term := points[i].ScalarMult(lambda) // never by zero: x is none of xs
		if sum == nil {
			sum = term
			continue
		}
		var err error
		if sum, err = sum.Add(term); err != nil {
			return nil, err // the point at infinity, which honest points do not meet
		}
	}
	return sum, nil
}

// public is the canonical encoding of all public data, equal at all signers.
func (r *record) public() []byte {
	e := canon.New(publicDomain).Digest(r.meta.Cluster).String(r.meta.Wallet).Uint64(r.meta.Epoch).Digest(r.meta.Ceremony).
		Uint64(uint64(r.meta.Quorum.Need)).Uint64(uint64(r.meta.Quorum.Of)).Bytes(compress(r.pub)).List(len(r.peers))
	for i, p := range r.peers {
		e.String(string(r.meta.Signers[i]))
		p.encode(e)
	}
	return e.Encoded()
}

func (p peerPublic) encode(e *canon.Encoder) {
	e.Bytes(compress(p.bigX)).Big(p.n).Big(p.tilde).Big(p.h1).Big(p.h2)
}

func decodePeer(d *canon.Decoder) peerPublic {
	const modulus = modulusBits / 8
	return peerPublic{bigX: decodePoint(d), n: d.Big(modulus), tilde: d.Big(modulus), h1: d.Big(modulus), h2: d.Big(modulus)}
}

func (r *record) encode() []byte {
	e := canon.New(recordDomain).Big(r.xi)
	r.pre.encode(e)
	e.Bytes(compress(r.pub)).List(len(r.peers))
	for _, p := range r.peers {
		p.encode(e)
	}
	return e.Encoded()
}

func parseRecord(meta keyshare.Meta, plain []byte) (*record, error) {
	d := canon.NewDecoder(recordDomain, plain)
	r := &record{meta: meta, xi: d.Big(32), pre: decodePreParams(d), pub: decodePoint(d)}
	for range d.List(maxSigners) {
		r.peers = append(r.peers, decodePeer(d))
	}
	if err := d.Finish(); err != nil {
		return nil, fmt.Errorf("share record: %w", err)
	}
	return r, nil
}

func (r *record) seal(k *keyshare.WrapKey) ([]byte, error) {
	plain := r.encode()
	defer clear(plain)
	share, err := keyshare.NewShare(r.meta, shareFormat, plain)
	if err != nil {
		return nil, err
	}
	defer share.Wipe()
	return share.Seal(k)
}

func openRecord(k *keyshare.WrapKey, meta keyshare.Meta, sealed []byte) (*record, error) {
	share, err := keyshare.OpenShare(k, meta, sealed)
	if err != nil {
		return nil, err
	}
	defer share.Wipe()
	var r *record
	err = share.Use(func(format uint64, plain []byte) error {
		if format != shareFormat {
			return fmt.Errorf("share is of format %d, this release reads %d", format, shareFormat)
		}
		var err error
		if r, err = parseRecord(meta, plain); err != nil {
			return err
		}
		return r.check()
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// library is the save data for the library, built anew for each session: it
// writes to what it is given, and sessions run concurrently.
func (r *record) library() (keygen.LocalPartySaveData, error) {
	keys, err := partyKeys(r.meta, r.meta.Signers)
	if err != nil {
		return keygen.LocalPartySaveData{}, err
	}
	clone := func(v *big.Int) *big.Int { return new(big.Int).Set(v) }
	point := func(p *crypto.ECPoint) *crypto.ECPoint {
		return crypto.NewECPointNoCurveCheck(tss.S256(), p.X(), p.Y())
	}
	save := keygen.NewLocalPartySaveData(len(keys))
	save.LocalPreParams = r.pre.library()
	save.LocalSecrets = keygen.LocalSecrets{Xi: clone(r.xi), ShareID: clone(keys[r.meta.Signers.Index(r.meta.Party)])}
	save.ECDSAPub = point(r.pub)
	for i, p := range r.peers {
		save.Ks[i] = keys[i]
		save.BigXj[i] = point(p.bigX)
		save.PaillierPKs[i] = &paillier.PublicKey{N: clone(p.n)}
		save.NTildej[i], save.H1j[i], save.H2j[i] = clone(p.tilde), clone(p.h1), clone(p.h2)
	}
	return save, nil
}
