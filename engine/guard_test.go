package engine_test

import (
	"crypto/rand"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/bnb-chain/tss-lib/v2/common"
	"github.com/bnb-chain/tss-lib/v2/crypto"
	"github.com/bnb-chain/tss-lib/v2/crypto/commitments"
	"github.com/bnb-chain/tss-lib/v2/crypto/facproof"
	"github.com/bnb-chain/tss-lib/v2/crypto/modproof"
	"github.com/bnb-chain/tss-lib/v2/ecdsa/keygen"
	"github.com/bnb-chain/tss-lib/v2/ecdsa/signing"
	"github.com/bnb-chain/tss-lib/v2/tss"
	"google.golang.org/protobuf/proto"

	"coffer/canon"
	"coffer/engine"
	"coffer/internal/testkeys"
	"coffer/keyshare"
	"coffer/party"
)

// Honest messages as alice sees them, made once per test binary and only if
// needed: those of a key generation of three, and of a signature of two.
var (
	keygenTranscript struct {
		sync.Once
		messages []engine.Message
	}
	signTranscript struct {
		sync.Once
		messages []engine.Message
		share    []byte
		key      *keyshare.WrapKey
	}
)

func recorded(c *cluster, run func()) []engine.Message {
	var seen []engine.Message
	c.tamper = func(to party.ID, m engine.Message) []engine.Message {
		if to == "alice" || m.From == "alice" && m.To == "" {
			seen = append(seen, m)
		}
		return []engine.Message{m}
	}
	run()
	return seen
}

// keygenMessages are as a key generation's, made without one: what the guard does
// not look at, the discrete logarithm proofs' equations, is not computed.
// TestGuardPassesHonest has real ones.
func keygenMessages(t *testing.T) []engine.Message {
	t.Helper()
	r := &keygenTranscript
	r.Do(func() {
		var messages []engine.Message
		add := func(from, to party.ID, content proto.Message) {
			payload, err := proto.MarshalOptions{Deterministic: true}.Marshal(content)
			if err != nil {
				t.Fatal(err)
			}
			messages = append(messages, engine.Message{Kind: engine.KindOf(content), From: from, To: to, Payload: payload})
		}
		dln := func() [][]byte {
			part := append([][]byte{{128}}, slices.Repeat([][]byte{{2}}, 128)...)
			return append(part, part...)
		}
		alice, err := engine.LibraryPreParams(0)
		if err != nil {
			t.Fatal(err)
		}
		ec := tss.S256()
		random := func() *big.Int { return common.GetRandomPositiveInt(rand.Reader, engine.GroupOrder()) }
		for i, id := range signers {
			pre, err := engine.LibraryPreParams(i)
			if err != nil {
				t.Fatal(err)
			}
			sk := pre.PaillierSK
			a, b := crypto.ScalarBaseMult(ec, random()), crypto.ScalarBaseMult(ec, random())
			commitment := commitments.NewHashCommitment(rand.Reader, a.X(), a.Y(), b.X(), b.Y())
			add(id, "", &keygen.KGRound1Message{
				Commitment: commitment.C.Bytes(), PaillierN: sk.N.Bytes(), NTilde: pre.NTildei.Bytes(), H1: pre.H1i.Bytes(), H2: pre.H2i.Bytes(),
				Dlnproof_1: dln(), Dlnproof_2: dln(),
			})
			mod, err := modproof.NewProof([]byte("session"), sk.N, sk.P, sk.Q, rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			fac, err := facproof.NewProof([]byte("session"), ec, sk.N, alice.NTildei, alice.H1i, alice.H2i, sk.P, sk.Q, rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			modParts, facParts := mod.Bytes(), fac.Bytes()
			if id != "alice" {
				add(id, "alice", &keygen.KGRound2Message1{Share: random().Bytes(), FacProof: facParts[:]})
			}
			add(id, "", &keygen.KGRound2Message2{DeCommitment: common.BigIntsToBytes(commitment.D), ModProof: modParts[:]})
			roots := sk.Proof(big.NewInt(1), a)
			add(id, "", &keygen.KGRound3Message{PaillierProof: common.BigIntsToBytes(roots[:])})
		}
		r.messages = messages
	})
	if r.messages == nil {
		t.Fatal("no messages of a key generation")
	}
	return slices.Clone(r.messages)
}

// realKeygen records a key generation of three.
func realKeygen(t *testing.T) []engine.Message {
	t.Helper()
	c := newCluster(t)
	return recorded(c, func() {
		if o := c.run(c.startKeygen(testkeys.Meta, signers), signers, nil); len(o.keygen) != 3 {
			t.Fatalf("key generation: %v", o.faults)
		}
	})
}

func signMessages(t *testing.T) []engine.Message {
	t.Helper()
	r := &signTranscript
	r.Do(func() {
		c := newCluster(t)
		wallet, err := testkeys.Shares(c.keys["alice"])
		if err != nil {
			t.Fatal(err)
		}
		r.share, r.key = wallet.Sealed["alice"], c.keys["alice"]
		r.messages = recorded(c, func() {
			session := c.startSign(pair)
			c.release(session, pair, digestOf("transcript"))
			if o := c.run(session, pair, nil); len(o.partials) != 2 {
				t.Fatalf("signing: %v", o.faults)
			}
		})
	})
	if r.messages == nil {
		t.Fatal("no honest signature")
	}
	return slices.Clone(r.messages)
}

// messagesOf is the transcript of a kind's protocol.
func messagesOf(t *testing.T, kind string) []engine.Message {
	t.Helper()
	if strings.HasPrefix(kind, "KG") {
		return keygenMessages(t)
	}
	return signMessages(t)
}

// replay runs alice's guard over the honest transcript with carol's message of
// the given kind changed.
func replay(t *testing.T, kind string, change func(proto.Message)) *engine.Fault {
	t.Helper()
	messages := messagesOf(t, kind)
	changed := false
	for i, m := range messages {
		if m.Kind == kind && m.From == "carol" && change != nil {
			content := engine.Content(kind)
			if err := proto.Unmarshal(m.Payload, content); err != nil {
				t.Fatal(err)
			}
			change(content)
			payload, err := proto.Marshal(content)
			if err != nil {
				t.Fatal(err)
			}
			messages[i].Payload, changed = payload, true
		}
	}
	if change != nil && !changed {
		t.Fatalf("no %s of carol in the transcript", kind)
	}
	if strings.HasPrefix(kind, "KG") {
		return engine.GuardKeygen(testkeys.Meta("alice"), messages)
	}
	return engine.GuardSign(signTranscript.key, testkeys.Meta("alice"), signTranscript.share, pair, messages)
}

// TestGuardPassesHonest runs the guard over real sessions, and compares the caps
// with what honest parties send: not too tight, and at most half as much again, so
// that a later edit cannot open them wide.
func TestGuardPassesHonest(t *testing.T) {
	real := realKeygen(t)
	if f := engine.GuardKeygen(testkeys.Meta("alice"), real); f != nil {
		t.Errorf("key generation: %v", f)
	}
	for _, kind := range []string{"KG", "S"} { // the stand-in of the attacks must pass too
		if f := replay(t, kind, nil); f != nil {
			t.Errorf("%s: %v", kind, f)
		}
	}
	largest := map[string]int{}
	for _, m := range append(real, signMessages(t)...) {
		largest[m.Kind] = max(largest[m.Kind], len(m.Payload))
	}
	for kind, class := range engine.Kinds() {
		t.Logf("%-5s largest %6d, cap %6d", kind, largest[kind], class.Cap)
		if largest[kind] == 0 || largest[kind] > class.Cap*9/10 {
			t.Errorf("%s: honest size %d, cap %d", kind, largest[kind], class.Cap)
		}
		if class.Cap > largest[kind]*3/2 {
			t.Errorf("%s: cap %d for honest %d is wide open", kind, class.Cap, largest[kind])
		}
	}
}

// secretPrime is a Paillier prime of one of the first parties of a key
// generation, or a prime of its NTilde.
func secretPrime(t *testing.T, set int, tilde bool) *big.Int {
	t.Helper()
	plain, err := testkeys.PreParams(set)
	if err != nil {
		t.Fatal(err)
	}
	d := canon.NewDecoder("coffer/preparams-clear/v1", plain)
	p, _, tp := d.Big(128), d.Big(128), d.Big(128)
	if d.Err() != nil {
		t.Fatal(d.Err())
	}
	if tilde {
		return tp
	}
	return p
}

func plus(b []byte, n int64) []byte {
	return new(big.Int).Add(new(big.Int).SetBytes(b), big.NewInt(n)).Bytes()
}

func long(n int) []byte {
	b := make([]byte, n)
	b[0] = 1
	return b
}

// oddMultiple is an odd number of 2048 bits with the factor f.
func oddMultiple(f int64) []byte {
	n := new(big.Int).Lsh(big.NewInt(3), 2046)
	n.Div(n, big.NewInt(f)).SetBit(n, 0, 1)
	return n.Mul(n, big.NewInt(f)).Bytes()
}

var prime2048 = sync.OnceValue(func() []byte {
	for {
		if p, err := rand.Prime(rand.Reader, 2048); err == nil && !slices.Contains(p.Bytes()[:1], 0) {
			return p.Bytes()
		}
	}
})

// honest is a message of another party in the transcript, to copy from.
func honest(t *testing.T, kind string, from party.ID) proto.Message {
	t.Helper()
	for _, m := range messagesOf(t, kind) {
		if m.Kind == kind && m.From == from {
			content := engine.Content(kind)
			if err := proto.Unmarshal(m.Payload, content); err != nil {
				t.Fatal(err)
			}
			return content
		}
	}
	t.Fatalf("no %s of %s", kind, from)
	return nil
}

// attacks has at least one message for each check of the guard. The check's own
// code must come back: another check that happens to refuse it does not count.
func attacks(t *testing.T) map[string][]attack {
	q := engine.GroupOrder().Bytes()
	kg1 := func(name string, f func(*keygen.KGRound1Message)) attack {
		return attack{name, func(m proto.Message) { f(m.(*keygen.KGRound1Message)) }, nil}
	}
	kg2a := func(name string, f func(*keygen.KGRound2Message1)) attack {
		return attack{name, func(m proto.Message) { f(m.(*keygen.KGRound2Message1)) }, nil}
	}
	kg2b := func(name string, f func(*keygen.KGRound2Message2)) attack {
		return attack{name, func(m proto.Message) { f(m.(*keygen.KGRound2Message2)) }, nil}
	}
	s1a := func(name string, f func(*signing.SignRound1Message1)) attack {
		return attack{name, func(m proto.Message) { f(m.(*signing.SignRound1Message1)) }, nil}
	}
	s2 := func(name string, f func(*signing.SignRound2Message)) attack {
		return attack{name, func(m proto.Message) { f(m.(*signing.SignRound2Message)) }, nil}
	}
	s3 := func(name string, f func(*signing.SignRound3Message)) attack {
		return attack{name, func(m proto.Message) { f(m.(*signing.SignRound3Message)) }, nil}
	}
	s4 := func(name string, f func(*signing.SignRound4Message)) attack {
		return attack{name, func(m proto.Message) { f(m.(*signing.SignRound4Message)) }, nil}
	}
	s6 := func(name string, f func(*signing.SignRound6Message)) attack {
		return attack{name, func(m proto.Message) { f(m.(*signing.SignRound6Message)) }, nil}
	}
	s8 := func(name string, f func(*signing.SignRound8Message)) attack {
		return attack{name, func(m proto.Message) { f(m.(*signing.SignRound8Message)) }, nil}
	}
	// The first messages of the key generation; asked for only by its attacks.
	first := func(id party.ID) *keygen.KGRound1Message { return honest(t, "KG1", id).(*keygen.KGRound1Message) }
	ownP, ownTilde, carolP := secretPrime(t, 0, false).Bytes(), secretPrime(t, 0, true).Bytes(), secretPrime(t, 2, false).Bytes()
	// The range of round-1 and round-2 proofs in signing: q^3, q^7 and the masks.
	q3, q7 := new(big.Int).Exp(engine.GroupOrder(), big.NewInt(3), nil), new(big.Int).Exp(engine.GroupOrder(), big.NewInt(7), nil)
	mask := new(big.Int).Lsh(big.NewInt(1), 768+2048+1)
	frozenKey, err := keyshare.NewWrapKey()
	if err != nil {
		t.Fatal(err)
	}
	frozen, err := testkeys.Shares(frozenKey)
	if err != nil {
		t.Fatal(err)
	}
	wallet := func(id party.ID) (n, tilde *big.Int) {
		return engine.WalletModuli(frozenKey, testkeys.Meta("alice"), frozen.Sealed["alice"], id)
	}
	aliceN, aliceTilde := wallet("alice")
	carolWalletN, _ := wallet("carol")
	square := func(n *big.Int) []byte { return new(big.Int).Mul(n, n).Bytes() }
	bobProofs := func(get func(*signing.SignRound2Message) [][]byte) []attack {
		var out []attack
		for _, c := range []struct {
			name  string
			part  int
			value []byte
		}{
			{"Z no unit", 0, aliceTilde.Bytes()}, {"Z' no unit", 1, ownTilde}, {"T no unit", 2, aliceTilde.Bytes()},
			{"V no unit", 3, ownP}, {"W no unit", 4, aliceTilde.Bytes()}, {"S no unit", 5, ownP},
			{"S1 zero mod q", 6, q}, {"S1 large", 6, plus(q3.Bytes(), 1)}, {"S2 large", 7, plus(mask.Bytes(), 1)},
			{"T1 large", 8, plus(q7.Bytes(), 1)}, {"T2 large", 9, plus(mask.Bytes(), 1)},
		} {
			out = append(out, s2(c.name, func(m *signing.SignRound2Message) { get(m)[c.part] = c.value }))
		}
		return out
	}
	coordinates := func(name string, get func(m proto.Message) [][]byte) []attack {
		return []attack{
			{name + " off the curve", func(m proto.Message) { get(m)[1] = plus(get(m)[1], 1) }, nil},
			{name + " above the field", func(m proto.Message) { get(m)[2] = slices.Repeat([]byte{0xff}, 32) }, nil},
			{name + " long", func(m proto.Message) { get(m)[0] = long(33) }, nil},
		}
	}

	return map[string][]attack{
		"G-KG1-COMMITMENT": {kg1("33 bytes", func(m *keygen.KGRound1Message) { m.Commitment = long(33) })},
		"G-KG1-PAILLIER-SIZE": {kg1("2047 bits", func(m *keygen.KGRound1Message) {
			m.PaillierN = new(big.Int).Rsh(new(big.Int).SetBytes(m.PaillierN), 1).Bytes()
		})},
		"G-KG1-PAILLIER-ODD":       {kg1("crash C", func(m *keygen.KGRound1Message) { m.PaillierN = plus(m.PaillierN, 1) })},
		"G-KG1-PAILLIER-FACTOR":    {kg1("3", func(m *keygen.KGRound1Message) { m.PaillierN = oddMultiple(3) }), kg1("131071", func(m *keygen.KGRound1Message) { m.PaillierN = oddMultiple(131071) })},
		"G-KG1-PAILLIER-COMPOSITE": {kg1("prime", func(m *keygen.KGRound1Message) { m.PaillierN = prime2048() })},
		"G-KG1-NTILDE-SIZE": {kg1("2047 bits", func(m *keygen.KGRound1Message) {
			m.NTilde = new(big.Int).Rsh(new(big.Int).SetBytes(m.NTilde), 1).Bytes()
		})},
		"G-KG1-NTILDE-ODD":       {kg1("even", func(m *keygen.KGRound1Message) { m.NTilde = plus(m.NTilde, 1) })},
		"G-KG1-NTILDE-FACTOR":    {kg1("65537", func(m *keygen.KGRound1Message) { m.NTilde = oddMultiple(65537) })},
		"G-KG1-NTILDE-COMPOSITE": {kg1("prime", func(m *keygen.KGRound1Message) { m.NTilde = prime2048() })},
		"G-KG1-BASES": {
			kg1("h1 one", func(m *keygen.KGRound1Message) { m.H1 = []byte{1} }),
			kg1("h2 not reduced", func(m *keygen.KGRound1Message) {
				m.H2 = new(big.Int).Add(new(big.Int).SetBytes(m.H2), new(big.Int).SetBytes(m.NTilde)).Bytes()
			}),
			kg1("equal", func(m *keygen.KGRound1Message) { m.H2 = m.H1 }),
			kg1("a factor", func(m *keygen.KGRound1Message) { m.H1 = secretPrime(t, 2, true).Bytes() }),
		},
		"G-KG1-DISTINCT": {
			kg1("my modulus", func(m *keygen.KGRound1Message) { m.PaillierN = first("alice").PaillierN }),
			kg1("a factor of mine", func(m *keygen.KGRound1Message) {
				m.PaillierN = new(big.Int).Mul(secretPrime(t, 0, false), secretPrime(t, 5, false)).Bytes()
			}),
			kg1("my bases", func(m *keygen.KGRound1Message) { a := first("alice"); m.NTilde, m.H1, m.H2 = a.NTilde, a.H1, a.H2 }),
			kg1("one modulus for both", func(m *keygen.KGRound1Message) { m.PaillierN = m.NTilde }),
			{"bob's modulus", func(m proto.Message) { m.(*keygen.KGRound1Message).PaillierN = first("bob").PaillierN }, []party.ID{"bob", "carol"}},
		},
		"G-KG1-DLN": {
			kg1("crash D", func(m *keygen.KGRound1Message) { m.Dlnproof_1[0] = slices.Repeat([]byte{0xff}, 8) }),
			kg1("second prefix", func(m *keygen.KGRound1Message) { m.Dlnproof_2[129] = []byte{127} }),
			kg1("a part short", func(m *keygen.KGRound1Message) { m.Dlnproof_1 = m.Dlnproof_1[:257] }),
			kg1("a long exponent", func(m *keygen.KGRound1Message) { m.Dlnproof_2[200] = long(257) }),
		},
		"G-KG2A-SHARE": {
			kg2a("crash B", func(m *keygen.KGRound2Message1) { m.Share = q }),
			kg2a("33 bytes", func(m *keygen.KGRound2Message1) { m.Share = long(33) }),
		},
		"G-KG2A-FACPROOF": {
			kg2a("missing", func(m *keygen.KGRound2Message1) { m.FacProof = nil }),
			kg2a("a long exponent", func(m *keygen.KGRound2Message1) { m.FacProof[8] = long(641) }),
			kg2a("P no unit", func(m *keygen.KGRound2Message1) { m.FacProof[0] = first("alice").NTilde }),
		},
		"G-KG2B-DECOMMIT": append(coordinates("coefficient", func(m proto.Message) [][]byte { return m.(*keygen.KGRound2Message2).DeCommitment }),
			kg2b("crash G", func(m *keygen.KGRound2Message2) { m.DeCommitment = m.DeCommitment[:3] }),
			kg2b("one too many", func(m *keygen.KGRound2Message2) {
				m.DeCommitment = append(m.DeCommitment, m.DeCommitment[1], m.DeCommitment[2])
			})),
		"G-KG2B-MODPROOF-PARTS": {
			kg2b("missing", func(m *keygen.KGRound2Message2) { m.ModProof = nil }),
			kg2b("A of 12 bytes", func(m *keygen.KGRound2Message2) { m.ModProof[81] = long(12) }),
			kg2b("X of 257 bytes", func(m *keygen.KGRound2Message2) { m.ModProof[1] = long(257) }),
		},
		"G-KG2B-MODPROOF-W": {
			kg2b("a factor", func(m *keygen.KGRound2Message2) { m.ModProof[0] = carolP }),
			kg2b("the modulus", func(m *keygen.KGRound2Message2) { m.ModProof[0] = first("carol").PaillierN }),
			kg2b("a square", func(m *keygen.KGRound2Message2) {
				w := new(big.Int).SetBytes(m.ModProof[0])
				m.ModProof[0] = w.Mul(w, w).Mod(w, new(big.Int).SetBytes(first("carol").PaillierN)).Bytes()
			}),
		},
		"G-KG2B-MODPROOF-UNITS": {
			kg2b("X", func(m *keygen.KGRound2Message2) { m.ModProof[80] = carolP }),
			kg2b("Z", func(m *keygen.KGRound2Message2) { m.ModProof[162] = first("carol").PaillierN }),
		},
		"G-KG3-PROOF": {
			{"a part short", func(m proto.Message) { k := m.(*keygen.KGRound3Message); k.PaillierProof = k.PaillierProof[:12] }, nil},
			{"a factor", func(m proto.Message) { m.(*keygen.KGRound3Message).PaillierProof[12] = carolP }, nil},
		},

		"G-S1A-CIPHERTEXT": {
			s1a("a factor", func(m *signing.SignRound1Message1) { m.C = carolWalletN.Bytes() }),
			s1a("not reduced", func(m *signing.SignRound1Message1) { m.C = plus(square(carolWalletN), 1) }),
		},
		"G-S1A-RANGEPROOF": {
			s1a("a part short", func(m *signing.SignRound1Message1) { m.RangeProofAlice = m.RangeProofAlice[:5] }),
			s1a("Z no unit", func(m *signing.SignRound1Message1) { m.RangeProofAlice[0] = aliceTilde.Bytes() }),
			s1a("Z one", func(m *signing.SignRound1Message1) { m.RangeProofAlice[0] = []byte{1} }),
			s1a("U no unit", func(m *signing.SignRound1Message1) { m.RangeProofAlice[1] = carolWalletN.Bytes() }),
			s1a("W no unit", func(m *signing.SignRound1Message1) { m.RangeProofAlice[2] = ownTilde }),
			s1a("S one", func(m *signing.SignRound1Message1) { m.RangeProofAlice[3] = []byte{1} }),
			s1a("S no unit", func(m *signing.SignRound1Message1) { m.RangeProofAlice[3] = carolWalletN.Bytes() }),
			s1a("S1 large", func(m *signing.SignRound1Message1) { m.RangeProofAlice[4] = plus(q3.Bytes(), 1) }),
			s1a("S2 large", func(m *signing.SignRound1Message1) { m.RangeProofAlice[5] = plus(mask.Bytes(), 1) }),
			s1a("S1 is S2", func(m *signing.SignRound1Message1) { m.RangeProofAlice[5] = m.RangeProofAlice[4] }),
		},
		"G-S1B-COMMITMENT": {{"33 bytes", func(m proto.Message) { m.(*signing.SignRound1Message2).Commitment = long(33) }, nil}},
		"G-S2-CIPHERTEXTS": {
			s2("C1 a factor", func(m *signing.SignRound2Message) { m.C1 = ownP }),
			s2("C2 not reduced", func(m *signing.SignRound2Message) { m.C2 = plus(square(aliceN), 1) }),
		},
		"G-S2-PROOF": append(bobProofs(func(m *signing.SignRound2Message) [][]byte { return m.ProofBob }),
			s2("a part short", func(m *signing.SignRound2Message) { m.ProofBob = m.ProofBob[:9] })),
		"G-S2-PROOF-WC": append(bobProofs(func(m *signing.SignRound2Message) [][]byte { return m.ProofBobWc }),
			s2("without U", func(m *signing.SignRound2Message) { m.ProofBobWc = m.ProofBobWc[:10] }),
			s2("U off the curve", func(m *signing.SignRound2Message) { m.ProofBobWc[10] = plus(m.ProofBobWc[10], 1) })),
		"G-S3-THETA": {
			s3("the order", func(m *signing.SignRound3Message) { m.Theta = q }),
			s3("33 bytes", func(m *signing.SignRound3Message) { m.Theta = long(33) }),
		},
		"G-S3-SUM": {s3("crash E", func(m *signing.SignRound3Message) {
			own := new(big.Int).SetBytes(honest(t, "S3", "alice").(*signing.SignRound3Message).Theta)
			m.Theta = own.Sub(engine.GroupOrder(), own).Bytes()
		})},
		"G-S4-DECOMMIT": append(coordinates("gamma", func(m proto.Message) [][]byte { return m.(*signing.SignRound4Message).DeCommitment }),
			s4("half a point", func(m *signing.SignRound4Message) { m.DeCommitment = m.DeCommitment[:2] })),
		"G-S4-PROOF": {
			s4("crash F", func(m *signing.SignRound4Message) { m.ProofT = q }),
			s4("alpha off the curve", func(m *signing.SignRound4Message) { m.ProofAlphaX = plus(m.ProofAlphaX, 1) }),
		},
		"G-S5-COMMITMENT": {{"33 bytes", func(m proto.Message) { m.(*signing.SignRound5Message).Commitment = long(33) }, nil}},
		"G-S6-DECOMMIT":   coordinates("V", func(m proto.Message) [][]byte { return m.(*signing.SignRound6Message).DeCommitment }),
		"G-S6-PROOFS": {
			s6("T of A", func(m *signing.SignRound6Message) { m.ProofT = q }),
			s6("T of V", func(m *signing.SignRound6Message) { m.VProofT = q }),
			s6("U of V", func(m *signing.SignRound6Message) { m.VProofU = q }),
			s6("alpha of A", func(m *signing.SignRound6Message) { m.ProofAlphaY = plus(m.ProofAlphaY, 1) }),
			s6("alpha of V", func(m *signing.SignRound6Message) { m.VProofAlphaY = plus(m.VProofAlphaY, 1) }),
		},
		"G-S7-COMMITMENT": {{"33 bytes", func(m proto.Message) { m.(*signing.SignRound7Message).Commitment = long(33) }, nil}},
		"G-S8-DECOMMIT": append(coordinates("U", func(m proto.Message) [][]byte { return m.(*signing.SignRound8Message).DeCommitment }),
			s8("T off the curve", func(m *signing.SignRound8Message) { m.DeCommitment[4] = plus(m.DeCommitment[4], 1) })),
	}
}

type attack struct {
	name     string
	change   func(proto.Message)
	culprits []party.ID // carol alone if nil
}

// TestGuard attacks each check of the tables; a check without an attack fails.
func TestGuard(t *testing.T) {
	all := attacks(t)
	for _, c := range engine.GuardTable() {
		t.Run(c.ID, func(t *testing.T) {
			if c.Doc == "" || len(all[c.ID]) == 0 {
				t.Fatalf("check %s has no doc or no attack", c.ID)
			}
			for _, a := range all[c.ID] {
				f := replay(t, c.Kind, a.change)
				want := a.culprits
				if want == nil {
					want = []party.ID{"carol"}
				}
				if f == nil || f.Code != c.Code() || !slices.Equal(f.Culprits, want) {
					t.Errorf("%s: %v, want %s by %v", a.name, f, c.Code(), want)
				}
			}
		})
		delete(all, c.ID)
	}
	for id := range all {
		t.Errorf("attacks on %s, which is no check", id)
	}
}

// TestGuardForm: what is refused before any table.
func TestGuardForm(t *testing.T) {
	var s3 engine.Message
	for _, m := range signMessages(t) {
		if m.Kind == "S3" && m.From == "carol" {
			s3 = m
		}
	}
	for name, payload := range map[string][]byte{
		"empty":            {},
		"no protobuf":      {0xff},
		"unknown field":    append(slices.Clone(s3.Payload), 0x7a, 1, 1),
		"field twice":      {0x0a, 1, 5, 0x0a, 1, 5},
		"leading zero":     {0x0a, 2, 0, 1},
		"zero":             {0x0a, 0},
		"a byte too large": slices.Repeat([]byte{1}, engine.Kinds()["S3"].Cap+1),
	} {
		m := s3
		m.Payload = payload
		f := engine.Parse(m)
		want := engine.GuardPrefix + "FORM"
		if name == "a byte too large" {
			want = engine.GuardPrefix + "SIZE"
		}
		if f == nil || f.Code != want || !slices.Equal(f.Culprits, []party.ID{"carol"}) {
			t.Errorf("%s: %v, want %s by carol", name, f, want)
		}
	}
}

// TestThetaSumBlamesNobodyAmongThree: whoever spoke last could have made the sum zero.
func TestThetaSumBlamesNobodyAmongThree(t *testing.T) {
	two := engine.ThetaSum("alice", map[party.ID]int64{"alice": 5, "carol": -5})
	three := engine.ThetaSum("alice", map[party.ID]int64{"alice": 5, "bob": 1, "carol": -6})
	if two == nil || !slices.Equal(two.Culprits, []party.ID{"carol"}) {
		t.Errorf("two parties: %v", two)
	}
	if three == nil || len(three.Culprits) != 0 {
		t.Errorf("three parties: %v", three)
	}
}
