package engine

import (
	"errors"
	"math/big"

	"github.com/bnb-chain/tss-lib/v2/crypto"
	"github.com/bnb-chain/tss-lib/v2/tss"
	"github.com/decred/dcrd/dcrec/secp256k1/v4"

	"coffer/canon"
)

// compress is the 33-byte form of a point of the curve.
func compress(p *crypto.ECPoint) []byte {
	var x, y [32]byte
	p.X().FillBytes(x[:])
	y = [32]byte(p.Y().FillBytes(y[:]))
	return append([]byte{2 | y[31]&1}, x[:]...)
}

func decodePoint(d *canon.Decoder) *crypto.ECPoint {
	b := d.Bytes(33)
	if d.Err() != nil {
		return nil
	}
	key, err := secp256k1.ParsePubKey(b)
	if err != nil || len(b) != 33 {
		d.Fail(errors.New("not a compressed point of the curve"))
		return nil
	}
	return crypto.NewECPointNoCurveCheck(tss.S256(), key.X(), key.Y())
}

// onCurve reports y² = x³ + 7 for coordinates below the field prime. It is stricter
// than the library's check: a point has one form.
func onCurve(x, y *big.Int) bool {
	p := tss.S256().Params().P
	if x.Cmp(p) >= 0 || y.Cmp(p) >= 0 {
		return false
	}
	right := new(big.Int).Exp(x, big.NewInt(3), p)
	right.Add(right, big.NewInt(7)).Mod(right, p)
	return new(big.Int).Exp(y, big.NewInt(2), p).Cmp(right) == 0
}
