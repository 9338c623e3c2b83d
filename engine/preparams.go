package engine

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"

	"github.com/bnb-chain/tss-lib/v2/crypto/paillier"
	"github.com/bnb-chain/tss-lib/v2/ecdsa/keygen"

	"coffer/canon"
	"coffer/keyshare"
)

const (
	preParamsDomain = "coffer/preparams-clear/v1"

	modulusBits = 2048
	primeBits   = modulusBits / 2
	// The difference of the Paillier primes: tss-lib's bound, against square-root attacks.
	primeGapBits = primeBits - 3
)

// preParams are the secrets that a party brings to a key generation: the safe
// primes of its Paillier modulus and of NTilde, and the discrete logarithm
// between h1 and h2. Everything else follows from them.
type preParams struct {
	p, q           *big.Int // safe primes of the Paillier modulus
	tildeP, tildeQ *big.Int // safe primes of NTilde
	h1             *big.Int
	alpha          *big.Int // h2 = h1^alpha mod NTilde
}

// generatePreParams searches four safe primes and now and then a fifth.
func generatePreParams(ctx context.Context, cores int, found func(int)) (*preParams, error) {
	primes, err := safePrimes(ctx, primeBits, 4, cores, found)
	if err != nil {
		return nil, err
	}
	for {
		if pp, err := assignPrimes(primes); pp != nil || err != nil {
			return pp, err
		}
		more, err := safePrimes(ctx, primeBits, 1, cores, nil)
		if err != nil {
			return nil, err
		}
		for _, p := range primes {
			if p.Cmp(more[0]) == 0 {
				return nil, errors.New("pre-parameters: the same prime twice; the random source is broken")
			}
		}
		primes = append(primes, more[0])
	}
}

// assignPrimes takes the first two primes that are far enough apart for Paillier
// and the first two of the rest for NTilde; nil if no two are.
func assignPrimes(primes []*big.Int) (*preParams, error) {
	for i := range primes {
		for j := i + 1; j < len(primes); j++ {
			if new(big.Int).Sub(primes[i], primes[j]).BitLen() < primeGapBits {
				continue
			}
			var rest []*big.Int
			for k, p := range primes {
				if k != i && k != j {
					rest = append(rest, p)
				}
			}
			pp := &preParams{p: primes[i], q: primes[j], tildeP: rest[0], tildeQ: rest[1]}
			return pp, pp.drawGenerators()
		}
	}
	return nil, nil
}

// drawGenerators makes h1 a random square and h2 a power of it, so that both
// generate the same group and each is a power of the other.
func (pp *preParams) drawGenerators() error {
	n := new(big.Int).Mul(pp.tildeP, pp.tildeQ)
	for {
		f, err := randomUnit(n)
		if err != nil {
			return err
		}
		if pp.alpha, err = randomUnit(n); err != nil {
			return err
		}
		pp.h1 = f.Mul(f, f).Mod(f, n)
		// alpha must be invertible modulo the group's order; it is but for one in 2^1022.
		if pp.check() == nil {
			return nil
		}
	}
}

func randomUnit(n *big.Int) (*big.Int, error) {
	for {
		v, err := rand.Int(rand.Reader, n)
		if err != nil {
			return nil, fmt.Errorf("pre-parameters: %w", err)
		}
		if isUnit(v, n) {
			return v, nil
		}
	}
}

func half(p *big.Int) *big.Int { return new(big.Int).Rsh(p, 1) }

// check is what is cheap enough for each use; authenticity comes from the seal.
func (pp *preParams) check() error {
	n, tilde := new(big.Int).Mul(pp.p, pp.q), new(big.Int).Mul(pp.tildeP, pp.tildeQ)
	order := new(big.Int).Mul(half(pp.tildeP), half(pp.tildeQ))
	one := big.NewInt(1)
	switch {
	case n.BitLen() != modulusBits || tilde.BitLen() != modulusBits:
		return fmt.Errorf("pre-parameters: moduli of %d and %d bits, want %d", n.BitLen(), tilde.BitLen(), modulusBits)
	case new(big.Int).GCD(nil, nil, n, tilde).Cmp(one) != 0:
		return errors.New("pre-parameters: the two moduli share a factor")
	case new(big.Int).Sub(pp.p, pp.q).BitLen() < primeGapBits:
		return errors.New("pre-parameters: the Paillier primes are too close")
	case pp.h1.Cmp(one) <= 0 || !isUnit(pp.h1, tilde):
		return errors.New("pre-parameters: h1 is no unit above one")
	case new(big.Int).ModInverse(pp.alpha, order) == nil:
		return errors.New("pre-parameters: alpha has no inverse")
	}
	if h2 := new(big.Int).Exp(pp.h1, pp.alpha, tilde); h2.Cmp(one) == 0 || h2.Cmp(pp.h1) == 0 {
		return errors.New("pre-parameters: h2 is trivial")
	}
	return nil
}

// checkPrimes tests the four primes again; done once, when a pool entry is used.
func (pp *preParams) checkPrimes() error {
	for _, p := range []*big.Int{pp.p, pp.q, pp.tildeP, pp.tildeQ} {
		if p.BitLen() != primeBits || !p.ProbablyPrime(0) || !half(p).ProbablyPrime(0) {
			return errors.New("pre-parameters: a factor is no safe prime of 1024 bits")
		}
	}
	return pp.check()
}

// library is the form that tss-lib takes, all of it fresh: the library writes to
// what it is given.
func (pp *preParams) library() keygen.LocalPreParams {
	one := big.NewInt(1)
	clone := func(v *big.Int) *big.Int { return new(big.Int).Set(v) }
	n, tilde := new(big.Int).Mul(pp.p, pp.q), new(big.Int).Mul(pp.tildeP, pp.tildeQ)
	p1, q1 := new(big.Int).Sub(pp.p, one), new(big.Int).Sub(pp.q, one)
	phi := new(big.Int).Mul(p1, q1)
	lambda := new(big.Int).Div(phi, new(big.Int).GCD(nil, nil, p1, q1))
	sp, sq := half(pp.tildeP), half(pp.tildeQ)
	return keygen.LocalPreParams{
		PaillierSK: &paillier.PrivateKey{PublicKey: paillier.PublicKey{N: n}, LambdaN: lambda, PhiN: phi, P: clone(pp.p), Q: clone(pp.q)},
		NTildei:    tilde,
		H1i:        clone(pp.h1),
		H2i:        new(big.Int).Exp(pp.h1, pp.alpha, tilde),
		Alpha:      clone(pp.alpha),
		Beta:       new(big.Int).ModInverse(pp.alpha, new(big.Int).Mul(sp, sq)),
		P:          sp,
		Q:          sq,
	}
}

func (pp *preParams) encode(e *canon.Encoder) *canon.Encoder {
	return e.Big(pp.p).Big(pp.q).Big(pp.tildeP).Big(pp.tildeQ).Big(pp.h1).Big(pp.alpha)
}

func decodePreParams(d *canon.Decoder) *preParams {
	const prime, modulus = primeBits / 8, modulusBits / 8
	return &preParams{p: d.Big(prime), q: d.Big(prime), tildeP: d.Big(prime), tildeQ: d.Big(prime), h1: d.Big(modulus), alpha: d.Big(modulus)}
}

func (pp *preParams) seal(k *keyshare.WrapKey) ([]byte, error) {
	plain := pp.encode(canon.New(preParamsDomain)).Encoded()
	defer clear(plain)
	return keyshare.Seal(k, keyshare.PreParamsAD(), plain)
}

func openPreParams(k *keyshare.WrapKey, sealed []byte) (*preParams, error) {
	plain, err := keyshare.Open(k, keyshare.PreParamsAD(), sealed)
	if err != nil {
		return nil, fmt.Errorf("pre-parameters: %w", err)
	}
	defer clear(plain)
	return parsePreParams(plain)
}

func parsePreParams(plain []byte) (*preParams, error) {
	d := canon.NewDecoder(preParamsDomain, plain)
	pp := decodePreParams(d)
	if err := d.Finish(); err != nil {
		return nil, fmt.Errorf("pre-parameters: %w", err)
	}
	return pp, nil
}

// isUnit reports 0 < v < n and gcd(v, n) = 1.
func isUnit(v, n *big.Int) bool {
	return v.Sign() > 0 && v.Cmp(n) < 0 && new(big.Int).GCD(nil, nil, v, n).Cmp(big.NewInt(1)) == 0
}
