package engine

import (
	"errors"
	"fmt"
	"math/big"

	"github.com/bnb-chain/tss-lib/v2/crypto/mta"
	"github.com/bnb-chain/tss-lib/v2/ecdsa/signing"

	"coffer/party"
)

// signChecks is the guard's table for signing, in the order it is run.
var signChecks = []check{
	{ID: "G-S1A-CIPHERTEXT", Kind: KindS1a, Doc: "the encrypted nonce is a unit modulo the square of the sender's modulus",
		// Something else decrypts to nothing and makes the range proof hold for nothing (PR 151).
		Run: func(g *guard, m *inbound) error {
			return unit("ciphertext", m.content.(*signing.SignRound1Message1).GetC(), square(g.moduli[m.from].n))
		}},
	{ID: "G-S1A-RANGEPROOF", Kind: KindS1a, Doc: "the range proof has six parts within the bounds of GG18",
		// The degenerate values of PR 289; S2 has no upper bound in the library.
		Run: func(g *guard, m *inbound) error { return g.checkRangeProof(m) }},
	{ID: "G-S1B-COMMITMENT", Kind: KindS1b, Doc: "the commitment to gamma is a hash",
		// As KG1-COMMITMENT.
		Run: func(_ *guard, m *inbound) error {
			return hash("commitment", m.content.(*signing.SignRound1Message2).GetCommitment())
		}},

	{ID: "G-S2-CIPHERTEXTS", Kind: KindS2, Doc: "both answers are units modulo the square of our modulus",
		// One that shares a factor with our modulus makes decryption fail in a way that tells about the factors.
		Run: func(g *guard, m *inbound) error {
			c, n2 := m.content.(*signing.SignRound2Message), square(g.moduli[g.self].n)
			return first(unit("C1", c.GetC1(), n2), unit("C2", c.GetC2(), n2))
		}},
	{ID: "G-S2-PROOF", Kind: KindS2, Doc: "the proof without check is within the bounds of GG18 and its S1 is not zero mod q",
		// Alpha-Rays (eprint 2021/1621): the answer's size is what leaks; S2 and T2 have no bound in the library.
		Run: func(g *guard, m *inbound) error {
			return g.checkBobProof(m.content.(*signing.SignRound2Message).GetProofBob(), mta.ProofBobBytesParts)
		}},
	{ID: "G-S2-PROOF-WC", Kind: KindS2, Doc: "the proof with check is within the same bounds, its S1 is not zero mod q, its U is on the curve",
		// Crash A: S1 = 0 mod q makes ScalarBaseMult panic, in a goroutine (tss-lib v2.0.2, mta/proofs.go:293).
		Run: func(g *guard, m *inbound) error {
			proof := m.content.(*signing.SignRound2Message).GetProofBobWc()
			if err := g.checkBobProof(proof, mta.ProofBobWCBytesParts); err != nil {
				return err
			}
			return point("U", proof[10], proof[11])
		}},

	{ID: "G-S3-THETA", Kind: KindS3, Doc: "theta is between zero and the group order",
		// Other encodings of one value would let two signers hold different bytes for one R.
		Run: func(_ *guard, m *inbound) error {
			return scalar("theta", m.content.(*signing.SignRound3Message).GetTheta())
		}},
	{ID: "G-S3-SUM", Kind: KindS3, Doc: "the thetas do not add up to zero",
		// Crash E: zero has no inverse, and round 5 multiplies by nil with the mutex held (tss-lib v2.0.2,
		// round_4.go:43). Among three or more the culprit is unknown: whoever spoke last could, and order proves nothing.
		Run: func(g *guard, _ *inbound) error { return g.checkThetaSum() }},

	{ID: "G-S4-DECOMMIT", Kind: KindS4, Doc: "the opened gamma is one point of the curve",
		// Its coordinates enter R; the library checks the curve, and we compute R from the same bytes.
		Run: func(_ *guard, m *inbound) error {
			return opening(m.content.(*signing.SignRound4Message).GetDeCommitment(), 2)
		}},
	{ID: "G-S4-PROOF", Kind: KindS4, Doc: "the proof of gamma is a point and a scalar that is not zero",
		// Crash F: T = 0 mod q makes ScalarBaseMult panic in round 5 with the mutex held (tss-lib v2.0.2, schnorr:69).
		Run: func(_ *guard, m *inbound) error {
			c := m.content.(*signing.SignRound4Message)
			return first(point("alpha", c.GetProofAlphaX(), c.GetProofAlphaY()), scalar("T", c.GetProofT()))
		}},

	{ID: "G-S5-COMMITMENT", Kind: KindS5, Doc: "the commitment to V and A is a hash",
		// As KG1-COMMITMENT.
		Run: func(_ *guard, m *inbound) error {
			return hash("commitment", m.content.(*signing.SignRound5Message).GetCommitment())
		}},
	{ID: "G-S6-DECOMMIT", Kind: KindS6, Doc: "the opened V and A are points of the curve",
		// The library adds them without a check of the sums.
		Run: func(_ *guard, m *inbound) error {
			return opening(m.content.(*signing.SignRound6Message).GetDeCommitment(), 4)
		}},
	{ID: "G-S6-PROOFS", Kind: KindS6, Doc: "the proofs of V and A are points and scalars that are not zero",
		// Crash F in another round: T or U = 0 mod q panics (schnorr:69, :121).
		Run: func(_ *guard, m *inbound) error {
			c := m.content.(*signing.SignRound6Message)
			return first(
				point("alpha of A", c.GetProofAlphaX(), c.GetProofAlphaY()), scalar("T of A", c.GetProofT()),
				point("alpha of V", c.GetVProofAlphaX(), c.GetVProofAlphaY()), scalar("T of V", c.GetVProofT()), scalar("U of V", c.GetVProofU()))
		}},
	{ID: "G-S7-COMMITMENT", Kind: KindS7, Doc: "the commitment to U and T is a hash",
		// As KG1-COMMITMENT.
		Run: func(_ *guard, m *inbound) error {
			return hash("commitment", m.content.(*signing.SignRound7Message).GetCommitment())
		}},
	{ID: "G-S8-DECOMMIT", Kind: KindS8, Doc: "the opened U and T are points of the curve",
		// The library adds the coordinates without any check (round_9.go:36), and compares only the sums.
		Run: func(_ *guard, m *inbound) error {
			return opening(m.content.(*signing.SignRound8Message).GetDeCommitment(), 4)
		}},
}

// teach gives a signing session's guard the moduli of the wallet's signers.
func (r *record) teach(g *guard) {
	for i, id := range r.meta.Signers {
		p := r.peers[i]
		g.moduli[id] = &moduli{n: p.n, tilde: p.tilde, h1: p.h1, h2: p.h2}
	}
}

func square(n *big.Int) *big.Int { return new(big.Int).Mul(n, n) }

// maskBound bounds e·r + r' where r < q·NTilde and r' < q^3·NTilde.
func maskBound() *big.Int {
	return new(big.Int).Lsh(big.NewInt(1), uint(3*groupOrder().BitLen()+modulusBits+1))
}

func (g *guard) checkRangeProof(m *inbound) error {
	proof := m.content.(*signing.SignRound1Message1).GetRangeProofAlice()
	if len(proof) != mta.RangeProofAliceBytesParts {
		return fmt.Errorf("range proof has %d parts, want %d", len(proof), mta.RangeProofAliceBytesParts)
	}
	z, u, w, s, s1, s2 := proof[0], proof[1], proof[2], proof[3], proof[4], proof[5]
	n, tilde, one := g.moduli[m.from].n, g.moduli[g.self].tilde, big.NewInt(1)
	if err := first(
		unit("range proof: Z", z, tilde), unit("range proof: U", u, square(n)), unit("range proof: W", w, tilde), unit("range proof: S", s, n),
		atMost("range proof: S1", s1, power(groupOrder(), 3)), atMost("range proof: S2", s2, maskBound()),
	); err != nil {
		return err
	}
	if number(s).Cmp(one) == 0 || number(z).Cmp(one) == 0 || number(s1).Cmp(number(s2)) == 0 {
		return errors.New("range proof: a degenerate value")
	}
	return nil
}

func (g *guard) checkBobProof(proof [][]byte, parts int) error {
	if len(proof) != parts {
		return fmt.Errorf("proof has %d parts, want %d", len(proof), parts)
	}
	n, tilde, q := g.moduli[g.self].n, g.moduli[g.self].tilde, groupOrder()
	z, zPrm, t, v, w, s, s1, s2, t1, t2 := proof[0], proof[1], proof[2], proof[3], proof[4], proof[5], proof[6], proof[7], proof[8], proof[9]
	if err := first(
		unit("proof: Z", z, tilde), unit("proof: Z'", zPrm, tilde), unit("proof: T", t, tilde), unit("proof: W", w, tilde),
		unit("proof: V", v, square(n)), unit("proof: S", s, n),
		atMost("proof: S1", s1, power(q, 3)), atMost("proof: T1", t1, power(q, 7)),
		atMost("proof: S2", s2, maskBound()), atMost("proof: T2", t2, maskBound()),
	); err != nil {
		return err
	}
	if new(big.Int).Mod(number(s1), q).Sign() == 0 {
		return errors.New("proof: S1 is zero modulo the group order")
	}
	return nil
}

// learnThetas stores the third round's values, own included.
func (g *guard) learnThetas(round []*inbound) {
	for _, m := range round {
		if m.kind == KindS3 {
			g.thetas[m.from] = number(m.content.(*signing.SignRound3Message).GetTheta())
		}
	}
}

func (g *guard) checkThetaSum() error {
	sum := new(big.Int)
	for _, theta := range g.thetas {
		sum.Add(sum, theta)
	}
	if sum.Mod(sum, groupOrder()).Sign() != 0 {
		return nil
	}
	b := &blame{text: "the thetas add up to zero"}
	if others := g.parties.Without(g.self); len(others) == 1 {
		b.culprits = []party.ID{others[0]} // self is honest to itself
	}
	return b
}
