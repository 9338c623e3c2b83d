package engine

import (
	"errors"
	"fmt"
	"math/big"
	"sync"

	"github.com/bnb-chain/tss-lib/v2/crypto/dlnproof"
	"github.com/bnb-chain/tss-lib/v2/crypto/facproof"
	"github.com/bnb-chain/tss-lib/v2/crypto/modproof"
	"github.com/bnb-chain/tss-lib/v2/crypto/paillier"
	"github.com/bnb-chain/tss-lib/v2/ecdsa/keygen"

	"coffer/party"
)

// trialLimit is the bound of trial division of moduli. Above it the modulus proof
// decides, whose forgery KG2B-MODPROOF-W and -UNITS refuse.
const trialLimit = 1 << 17

// keygenChecks is the guard's table for key generation, in the order it is run.
var keygenChecks = []check{
	{ID: "G-KG1-COMMITMENT", Kind: KindKG1, Doc: "the commitment to the polynomial is a hash",
		// A longer one is never equal to a hash; it only costs.
		Run: func(_ *guard, m *inbound) error { return hash("commitment", kg1(m).GetCommitment()) }},

	{ID: "G-KG1-PAILLIER-SIZE", Kind: KindKG1, Doc: "the Paillier modulus has 2048 bits",
		// Smaller ones leak the other side's secret through the MtA (GG18 §3 wants N > q^8).
		Run: func(_ *guard, m *inbound) error { return modulusSize("Paillier modulus", kg1(m).GetPaillierN()) }},
	{ID: "G-KG1-PAILLIER-ODD", Kind: KindKG1, Doc: "the Paillier modulus is odd",
		// Crash C: big.Jacobi panics on an even modulus, in a goroutine (tss-lib v2.0.2, modproof/proof.go:36).
		Run: func(_ *guard, m *inbound) error { return modulusOdd("Paillier modulus", kg1(m).GetPaillierN()) }},
	{ID: "G-KG1-PAILLIER-FACTOR", Kind: KindKG1, Doc: "the Paillier modulus has no factor below 2^17",
		// BitForge (CVE-2023-33241): small factors let the peer read the share, a few bits per signature.
		Run: func(_ *guard, m *inbound) error { return modulusFactors("Paillier modulus", kg1(m).GetPaillierN()) }},
	{ID: "G-KG1-PAILLIER-COMPOSITE", Kind: KindKG1, Doc: "the Paillier modulus is not prime",
		// Under a prime modulus encryption hides nothing; CGGMP figure 16 excludes it too.
		Run: func(_ *guard, m *inbound) error { return modulusComposite("Paillier modulus", kg1(m).GetPaillierN()) }},

	{ID: "G-KG1-NTILDE-SIZE", Kind: KindKG1, Doc: "NTilde has 2048 bits",
		// It hides our secrets in the range proofs that we make for this peer.
		Run: func(_ *guard, m *inbound) error { return modulusSize("NTilde", kg1(m).GetNTilde()) }},
	{ID: "G-KG1-NTILDE-ODD", Kind: KindKG1, Doc: "NTilde is odd",
		// An even modulus has a factor whose discrete logarithms are trivial.
		Run: func(_ *guard, m *inbound) error { return modulusOdd("NTilde", kg1(m).GetNTilde()) }},
	{ID: "G-KG1-NTILDE-FACTOR", Kind: KindKG1, Doc: "NTilde has no factor below 2^17",
		// In a small subgroup h1^x h2^r stops hiding x: the commitment leaks the share.
		Run: func(_ *guard, m *inbound) error { return modulusFactors("NTilde", kg1(m).GetNTilde()) }},
	{ID: "G-KG1-NTILDE-COMPOSITE", Kind: KindKG1, Doc: "NTilde is not prime",
		// Whoever knows the order of the group opens commitments to anything; of a prime everybody does.
		Run: func(_ *guard, m *inbound) error { return modulusComposite("NTilde", kg1(m).GetNTilde()) }},

	{ID: "G-KG1-BASES", Kind: KindKG1, Doc: "h1 and h2 are different units of NTilde above one",
		// h = 0 or 1, or one that shares a factor with NTilde, commits to nothing (tss-lib reduces before it
		// looks, so h1 = NTilde + x passes it; CVE-2023-33241's sibling in the TSSHOCK report).
		Run: func(_ *guard, m *inbound) error { return checkBases(kg1(m)) }},
	{ID: "G-KG1-DISTINCT", Kind: KindKG1, Doc: "no two parties have a modulus factor or a base in common",
		// A copied modulus or base carries a copied proof with it (tss-lib's proofs of NTilde name no prover,
		// CVE-2022-47930); a shared factor gives both away.
		Run: func(g *guard, m *inbound) error { return g.checkDistinct(m.from) }},
	{ID: "G-KG1-DLN", Kind: KindKG1, Doc: "the two proofs of h1 and h2 have 2 × 128 parts and say so",
		// Crash D: a length prefix that is negative as int64 slices out of bounds, in a goroutine (tss-lib v2.0.2,
		// commitment_builder.go:72); an unbounded exponent costs CPU: 64 KiB are 0.8 s.
		Run: func(_ *guard, m *inbound) error { return checkDLN(kg1(m)) }},

	{ID: "G-KG2A-SHARE", Kind: KindKG2a, Doc: "the share is between zero and the group order",
		// Crash B: a share of 0 mod q makes ScalarBaseMult panic, in a goroutine (tss-lib v2.0.2, feldman_vss.go:112).
		Run: func(_ *guard, m *inbound) error {
			return scalar("share", m.content.(*keygen.KGRound2Message1).GetShare())
		}},
	{ID: "G-KG2A-FACPROOF", Kind: KindKG2a, Doc: "the proof of the factors' size is there and bounded",
		// Its W and V have no upper bound in the library; group elements that are
		// no units of our NTilde make its equations hold for nothing.
		Run: func(g *guard, m *inbound) error { return g.checkFacProof(m.content.(*keygen.KGRound2Message1)) }},

	{ID: "G-KG2B-DECOMMIT", Kind: KindKG2b, Doc: "the opened polynomial has exactly Need coefficients, points of the curve",
		// Crash G: too few index out of range, in a goroutine (PR 291; feldman_vss.go:106). Too many would raise
		// the quorum where a library uses them (Trail of Bits, 2024).
		Run: func(g *guard, m *inbound) error { return opening(kg2b(m).GetDeCommitment(), 2*g.need) }},
	{ID: "G-KG2B-MODPROOF-PARTS", Kind: KindKG2b, Doc: "the modulus proof has 163 parts of at most the modulus' size",
		// tss-lib leaves the count to a branch for old parties; A and B are 81 bits.
		Run: func(_ *guard, m *inbound) error { return checkModProofParts(kg2b(m).GetModProof()) }},
	{ID: "G-KG2B-MODPROOF-W", Kind: KindKG2b, Doc: "W of the modulus proof is a unit with Jacobi symbol -1",
		// The forgery that v2.0.2 accepts: W = 0 modulo all factors but one makes the symbol 0 and every equation
		// solvable for any composite N (PR 323; CGGMP figure 16; the THORChain drain of 2026).
		Run: func(g *guard, m *inbound) error { return g.checkModProofW(m) }},
	{ID: "G-KG2B-MODPROOF-UNITS", Kind: KindKG2b, Doc: "all X and Z of the modulus proof are units",
		// The same forgery from its other side: X is 0 modulo those factors too.
		Run: func(g *guard, m *inbound) error { return g.checkModProofUnits(m) }},

	{ID: "G-KG3-PROOF", Kind: KindKG3, Doc: "the Paillier proof has 13 parts, units of the sender's modulus",
		// Zero or a factor as a root proves nothing about the rest.
		Run: func(g *guard, m *inbound) error { return g.checkPaillierProof(m) }},
}

func kg1(m *inbound) *keygen.KGRound1Message   { return m.content.(*keygen.KGRound1Message) }
func kg2b(m *inbound) *keygen.KGRound2Message2 { return m.content.(*keygen.KGRound2Message2) }

// learnKeygen stores the moduli of the first round's messages, own included.
func (g *guard) learnKeygen(round []*inbound) {
	for _, m := range round {
		if m.kind == KindKG1 {
			c := kg1(m)
			g.moduli[m.from] = &moduli{n: number(c.GetPaillierN()), tilde: number(c.GetNTilde()), h1: number(c.GetH1()), h2: number(c.GetH2())}
		}
	}
}

func modulusSize(name string, b []byte) error {
	if n := number(b).BitLen(); n != modulusBits {
		return fmt.Errorf("%s has %d bits, want %d", name, n, modulusBits)
	}
	return nil
}

func modulusOdd(name string, b []byte) error {
	if number(b).Bit(0) == 0 {
		return fmt.Errorf("%s is even", name)
	}
	return nil
}

func modulusComposite(name string, b []byte) error {
	if number(b).ProbablyPrime(20) {
		return fmt.Errorf("%s is prime", name)
	}
	return nil
}

// smallPrimes is the product of all primes below trialLimit: one gcd in place of
// twelve thousand divisions.
var smallPrimes = sync.OnceValue(func() *big.Int {
	composite := make([]bool, trialLimit)
	factors := []*big.Int{}
	for n := 2; n < trialLimit; n++ {
		if composite[n] {
			continue
		}
		factors = append(factors, big.NewInt(int64(n)))
		for m := n * n; m < trialLimit; m += n {
			composite[m] = true
		}
	}
	// Multiplied as a tree: a running product would be quadratic.
	for len(factors) > 1 {
		var next []*big.Int
		for i := 0; i < len(factors); i += 2 {
			if i+1 < len(factors) {
				next = append(next, new(big.Int).Mul(factors[i], factors[i+1]))
			} else {
				next = append(next, factors[i])
			}
		}
		factors = next
	}
	return factors[0]
})

func modulusFactors(name string, b []byte) error {
	n := number(b)
	if n.Sign() == 0 {
		return fmt.Errorf("%s is zero", name)
	}
	rest := new(big.Int).Mod(smallPrimes(), n)
	if new(big.Int).GCD(nil, nil, rest, n).Cmp(big.NewInt(1)) != 0 {
		return fmt.Errorf("%s has a factor below %d", name, trialLimit)
	}
	return nil
}

func checkBases(c *keygen.KGRound1Message) error {
	tilde, one := number(c.GetNTilde()), big.NewInt(1)
	h1, h2 := number(c.GetH1()), number(c.GetH2())
	for _, h := range []*big.Int{h1, h2} {
		if h.Cmp(one) <= 0 || !isUnit(h, tilde) {
			return errors.New("h1 or h2 is not a unit of NTilde above one")
		}
	}
	if h1.Cmp(h2) == 0 {
		return errors.New("h1 equals h2")
	}
	return nil
}

// checkDistinct compares one party with those before it in the set and with self.
// Who copied whom cannot be told, except that this party did not.
func (g *guard) checkDistinct(from party.ID) error {
	one := big.NewInt(1)
	a := g.moduli[from]
	if new(big.Int).GCD(nil, nil, a.n, a.tilde).Cmp(one) != 0 {
		return errors.New("the Paillier modulus and NTilde share a factor")
	}
	for _, id := range g.parties {
		b := g.moduli[id]
		if id == from || (id != g.self && id > from) {
			continue
		}
		same := a.h1.Cmp(b.h1) == 0 || a.h1.Cmp(b.h2) == 0 || a.h2.Cmp(b.h1) == 0 || a.h2.Cmp(b.h2) == 0
		for _, x := range []*big.Int{a.n, a.tilde} {
			for _, y := range []*big.Int{b.n, b.tilde} {
				same = same || new(big.Int).GCD(nil, nil, x, y).Cmp(one) != 0
			}
		}
		if same {
			culprits := []party.ID{from}
			if id != g.self {
				culprits = []party.ID{id, from}
			}
			return &blame{fmt.Sprintf("%s and %s have a factor or a base in common", id, from), culprits}
		}
	}
	return nil
}

func checkDLN(c *keygen.KGRound1Message) error {
	const parts = 2 + 2*dlnproof.Iterations
	for _, proof := range [][][]byte{c.GetDlnproof_1(), c.GetDlnproof_2()} {
		if len(proof) != parts {
			return fmt.Errorf("discrete logarithm proof has %d parts, want %d", len(proof), parts)
		}
		for _, i := range []int{0, 1 + dlnproof.Iterations} {
			if len(proof[i]) != 1 || proof[i][0] != dlnproof.Iterations {
				return fmt.Errorf("discrete logarithm proof has another length prefix than %d", dlnproof.Iterations)
			}
		}
		for _, p := range proof {
			if len(p) > modulusBits/8 {
				return errors.New("discrete logarithm proof has a part longer than the modulus")
			}
		}
	}
	return nil
}

func (g *guard) checkFacProof(c *keygen.KGRound2Message1) error {
	proof := c.GetFacProof()
	if len(proof) != facproof.ProofFacBytesParts {
		return fmt.Errorf("factor proof has %d parts, want %d", len(proof), facproof.ProofFacBytesParts)
	}
	for _, p := range proof {
		if len(p) > 640 {
			return errors.New("factor proof has a part of more than 640 bytes")
		}
	}
	for i, name := range []string{"P", "Q", "A", "B", "T"} {
		if err := unit("factor proof: "+name, proof[i], g.moduli[g.self].tilde); err != nil {
			return err
		}
	}
	return nil
}

func checkModProofParts(proof [][]byte) error {
	if len(proof) != modproof.ProofModBytesParts {
		return fmt.Errorf("modulus proof has %d parts, want %d", len(proof), modproof.ProofModBytesParts)
	}
	for i, p := range proof {
		max := modulusBits / 8
		if i == modproof.Iterations+1 || i == modproof.Iterations+2 {
			max = modproof.Iterations/8 + 1
		}
		if len(p) > max {
			return fmt.Errorf("modulus proof has a part of more than %d bytes", max)
		}
	}
	return nil
}

func (g *guard) checkModProofW(m *inbound) error {
	n, w := g.moduli[m.from].n, kg2b(m).GetModProof()[0]
	if err := unit("modulus proof: W", w, n); err != nil {
		return err
	}
	if big.Jacobi(number(w), n) != -1 {
		return errors.New("modulus proof: W has another Jacobi symbol than -1")
	}
	return nil
}

func (g *guard) checkModProofUnits(m *inbound) error {
	n, proof := g.moduli[m.from].n, kg2b(m).GetModProof()
	for i := range modproof.Iterations {
		if err := unit("modulus proof: X", proof[1+i], n); err != nil {
			return err
		}
		if err := unit("modulus proof: Z", proof[modproof.Iterations+3+i], n); err != nil {
			return err
		}
	}
	return nil
}

func (g *guard) checkPaillierProof(m *inbound) error {
	proof := m.content.(*keygen.KGRound3Message).GetPaillierProof()
	if len(proof) != paillier.ProofIters {
		return fmt.Errorf("paillier proof has %d parts, want %d", len(proof), paillier.ProofIters)
	}
	for _, p := range proof {
		if err := unit("paillier proof: a root", p, g.moduli[m.from].n); err != nil {
			return err
		}
	}
	return nil
}
