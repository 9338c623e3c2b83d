package engine_test

import (
	"crypto/rand"
	"errors"
	"math/big"
	"slices"
	"testing"

	"github.com/bnb-chain/tss-lib/v2/common"
	"github.com/bnb-chain/tss-lib/v2/crypto/commitments"
	"github.com/bnb-chain/tss-lib/v2/crypto/modproof"
	"github.com/bnb-chain/tss-lib/v2/crypto/paillier"
	"github.com/bnb-chain/tss-lib/v2/ecdsa/keygen"
	"github.com/bnb-chain/tss-lib/v2/ecdsa/signing"
	"github.com/bnb-chain/tss-lib/v2/tss"
	"google.golang.org/protobuf/proto"

	"coffer/engine"
	"coffer/internal/testkeys"
	"coffer/keyshare"
	"coffer/party"
)

// crash is one of the one-message attacks on tss-lib v2.0.2 that end a process
// with tss-lib v2.0.2 in it, or lock a party for ever.
type crash struct {
	name, kind, check string
	change            func(proto.Message)
	before            map[string]func(proto.Message) // changes to earlier kinds that the attack needs
}

func crashes() []crash {
	q, curve := engine.GroupOrder().Bytes(), tss.S256().Params()
	short := commitments.NewHashCommitment(rand.Reader, curve.Gx, curve.Gy)
	return []crash{
		{"A S1 of the proof with check is zero mod q", "S2", "S2-PROOF-WC", func(m proto.Message) { m.(*signing.SignRound2Message).ProofBobWc[6] = q }, nil},
		{"B share is zero mod q", "KG2a", "KG2A-SHARE", func(m proto.Message) { m.(*keygen.KGRound2Message1).Share = q }, nil},
		{"C Paillier modulus is even", "KG1", "KG1-PAILLIER-ODD", func(m proto.Message) {
			c := m.(*keygen.KGRound1Message)
			c.PaillierN = plus(c.PaillierN, 1)
		}, nil},
		{"D length prefix is negative", "KG1", "KG1-DLN", func(m proto.Message) {
			m.(*keygen.KGRound1Message).Dlnproof_1[0] = slices.Repeat([]byte{0xff}, 8)
		}, nil},
		{"E thetas add up to zero", "S3", "S3-SUM", nil, nil}, // a rushing sender: see crashInto
		{"F scalar of the proof of gamma is zero mod q", "S4", "S4-PROOF", func(m proto.Message) { m.(*signing.SignRound4Message).ProofT = q }, nil},
		{"G opened polynomial is short", "KG2b", "KG2B-DECOMMIT", func(m proto.Message) {
			m.(*keygen.KGRound2Message2).DeCommitment = common.BigIntsToBytes(short.D)
		}, map[string]func(proto.Message){
			// The library looks only if the commitment opens, so mallory commits to a short one.
			"KG1": func(m proto.Message) { m.(*keygen.KGRound1Message).Commitment = short.C.Bytes() },
		}},
	}
}

// crashInto makes carol attack alice in a session of the two, and returns how it
// ended at alice.
func (c *cluster) crashInto(a crash) *engine.Fault {
	t := c.t
	t.Helper()
	rewrite := func(kind string, payload []byte, change func(proto.Message)) []byte {
		content := engine.Content(kind)
		if err := proto.Unmarshal(payload, content); err != nil {
			t.Fatal(err)
		}
		change(content)
		out, err := proto.MarshalOptions{Deterministic: true}.Marshal(content)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	var theta *big.Int        // alice's, for attack E
	var held []engine.Message // carol's, until it is known
	c.tamper = func(to party.ID, m engine.Message) []engine.Message {
		if change := a.before[m.Kind]; change != nil && to == "alice" {
			m.Payload = rewrite(m.Kind, m.Payload, change)
		}
		if m.Kind != a.kind {
			return []engine.Message{m}
		}
		if a.kind != "S3" {
			if to == "alice" {
				m.Payload = rewrite(m.Kind, m.Payload, a.change)
			}
			return []engine.Message{m}
		}
		if m.From == "alice" {
			rewrite(m.Kind, m.Payload, func(p proto.Message) { theta = new(big.Int).SetBytes(p.(*signing.SignRound3Message).Theta) })
		} else {
			held = append(held, m)
		}
		if theta == nil || len(held) == 0 {
			if m.From == "alice" {
				return []engine.Message{m}
			}
			return nil
		}
		evil := held[0]
		evil.Payload = rewrite(evil.Kind, evil.Payload, func(p proto.Message) {
			p.(*signing.SignRound3Message).Theta = new(big.Int).Sub(engine.GroupOrder(), theta).Bytes()
		})
		if m.From == "carol" {
			return []engine.Message{evil}
		}
		if err := c.hosts["alice"].Deliver(c.current, evil); err != nil {
			t.Fatal(err)
		}
		return []engine.Message{m}
	}
	defer func() { c.tamper = nil }()
	if a.kind[0] == 'K' {
		c.current = c.startKeygen(pairMeta, pair)
	} else {
		c.current = c.startSign(pair)
		c.release(c.current, pair, digestOf(a.name))
	}
	o := c.run(c.current, pair, func(o *outcome) bool { return o.faults["alice"] != nil })
	for _, id := range pair {
		c.hosts[id].Drop(c.current)
	}
	return o.faults["alice"]
}

// pairMeta is a wallet of two, the quickest key generation.
func pairMeta(id party.ID) keyshare.Meta {
	m := testkeys.Meta(id)
	m.Wallet, m.Signers, m.Quorum = "pair", pair, party.Quorum{Need: 2, Of: 2}
	return m
}

// TestCrash: the guard refuses each attack before the library sees it, names its
// sender, and the next honest session of the same hosts succeeds.
func TestCrash(t *testing.T) {
	c := newCluster(t)
	c.quiet = true // what a dropped session had under way may still come in
	for _, a := range crashes() {
		t.Run(a.name, func(t *testing.T) {
			c.t = t
			f := c.crashInto(a)
			if f == nil || f.Code != engine.GuardPrefix+a.check || !slices.Equal(f.Culprits, []party.ID{"carol"}) {
				t.Errorf("%v, want %s by carol", f, a.check)
			}
		})
	}
	c.t = t
	session, digest := c.prepare(pair), digestOf("after the attacks")
	c.release(session, pair, digest)
	if _, err := c.combine(digest, c.run(session, pair, nil)); err != nil {
		t.Fatal(err)
	}
}

// forgedKey is a Paillier key whose modulus is a product of primes of so many
// bits, made so that all proofs but one can be computed honestly.
func forgedKey(t *testing.T, bits int) (*paillier.PrivateKey, []*big.Int) {
	t.Helper()
	one := big.NewInt(1)
	for range 100 {
		key := &paillier.PrivateKey{PublicKey: paillier.PublicKey{N: big.NewInt(1)}, PhiN: big.NewInt(1), P: big.NewInt(1), Q: big.NewInt(1)}
		var factors []*big.Int
		for key.N.BitLen() < 2048 {
			size := bits
			if rest := 2048 - key.N.BitLen(); rest < 2*bits {
				size = rest + 1 // the last one fills up, and is a little larger
			}
			p, err := rand.Prime(rand.Reader, size)
			if err != nil {
				t.Fatal(err)
			}
			if slices.ContainsFunc(factors, func(f *big.Int) bool { return f.Cmp(p) == 0 }) {
				continue
			}
			key.N.Mul(key.N, p)
			key.PhiN.Mul(key.PhiN, new(big.Int).Sub(p, one))
			half := key.P
			if key.P.BitLen() >= 1024 {
				half = key.Q
			}
			half.Mul(half, p)
			factors = append(factors, p)
		}
		key.LambdaN = key.PhiN
		claimed := new(big.Int).Mul(new(big.Int).Sub(key.P, one), new(big.Int).Sub(key.Q, one))
		coprime := func(phi *big.Int) bool { return new(big.Int).GCD(nil, nil, key.N, phi).Cmp(one) == 0 }
		threeMod4 := slices.ContainsFunc(factors, func(p *big.Int) bool { return p.Bit(1) == 1 })
		if key.N.BitLen() == 2048 && coprime(key.PhiN) && coprime(claimed) && threeMod4 {
			return key, factors
		}
	}
	t.Fatalf("no forged modulus of %d-bit factors", bits)
	return nil, nil
}

// forgeModProof makes the modulus proof that tss-lib v2.0.2 accepts for any
// composite N without square factors: W is 0 modulo all factors but f, so that its
// Jacobi symbol is 0 rather than 1 and ±W·Y a fourth power modulo all of them.
func forgeModProof(t *testing.T, session []byte, key *paillier.PrivateKey, factors []*big.Int) *modproof.ProofMod {
	t.Helper()
	f := factors[slices.IndexFunc(factors, func(p *big.Int) bool { return p.Bit(1) == 1 })]
	n, rest := key.N, new(big.Int).Div(key.N, f)
	w := new(big.Int).Set(rest) // not 0 modulo f
	proof := &modproof.ProofMod{W: w, A: new(big.Int).Lsh(big.NewInt(1), modproof.Iterations), B: new(big.Int).Lsh(big.NewInt(1), modproof.Iterations)}
	// lift is the number that is v modulo f and 0 modulo rest.
	lift := func(v *big.Int) *big.Int {
		out := new(big.Int).ModInverse(new(big.Int).Mod(rest, f), f)
		out.Mul(out, v).Mod(out, f)
		return out.Mul(out, rest)
	}
	inverse := new(big.Int).ModInverse(n, key.PhiN)
	var ys []*big.Int
	for i := range modproof.Iterations {
		e := common.SHA512_256i_TAGGED(session, append([]*big.Int{w, n}, ys...)...)
		y := common.RejectionSample(n, e)
		ys = append(ys, y)
		proof.Z[i] = new(big.Int).Exp(y, inverse, n)
		target := new(big.Int).Mul(w, y)
		target.Mod(target, f)
		if big.Jacobi(target, f) != 1 {
			proof.A.SetBit(proof.A, i, 1)
			target.Sub(f, target)
		}
		proof.B.SetBit(proof.B, i, 1)
		root := new(big.Int).ModSqrt(target, f)
		if big.Jacobi(root, f) != 1 {
			root.Sub(f, root)
		}
		proof.X[i] = lift(root.ModSqrt(root, f))
	}
	return proof
}

// mallory is carol as a bare tss-lib party that alice's engine talks to. Her
// modulus proof is replaced by forge, if there is one.
func (c *cluster) mallory(sk *paillier.PrivateKey, forge func(session []byte) *modproof.ProofMod) *outcome {
	t := c.t
	t.Helper()
	keys, err := engine.PartyKeys(pairMeta("alice"))
	if err != nil {
		t.Fatal(err)
	}
	ids := map[party.ID]*tss.PartyID{}
	var unsorted tss.UnSortedPartyIDs
	for i, id := range pair {
		ids[id] = tss.NewPartyID(string(id), string(id), keys[i])
		unsorted = append(unsorted, ids[id])
	}
	sorted := tss.SortPartyIDs(unsorted)
	pre, err := engine.LibraryPreParams(2)
	if err != nil {
		t.Fatal(err)
	}
	if sk != nil {
		pre.PaillierSK = sk
	}
	out, end := make(chan tss.Message, 64), make(chan *keygen.LocalPartySaveData, 1)
	lib := keygen.NewLocalParty(tss.NewParameters(tss.S256(), tss.NewPeerContext(sorted), ids["carol"], 2, 1), out, end, pre)
	// The library's session hash, with its constant nonce 0, and the prover's index.
	curve := tss.S256().Params()
	ssid := common.SHA512_256i(append([]*big.Int{curve.P, curve.N, curve.Gx, curve.Gy}, append(sorted.Keys(), big.NewInt(1), big.NewInt(0))...)...).Bytes()
	session := common.AppendBigIntToBytesSlice(ssid, big.NewInt(int64(ids["carol"].Index)))

	id := fresh()
	aliceSet, err := testkeys.SealedPreParams(c.keys["alice"], 0)
	if err != nil {
		t.Fatal(err)
	}
	alice := c.hosts["alice"]
	if err := alice.Keygen(engine.KeygenConfig{Session: id, Meta: pairMeta("alice"), PreParams: aliceSet}); err != nil {
		t.Fatal(err)
	}
	if err := lib.Start(); err != nil {
		t.Fatal(err)
	}
	o := &outcome{keygen: map[party.ID]*engine.KeygenResult{}, faults: map[party.ID]*engine.Fault{}}
	for {
		select {
		case m := <-out:
			content := m.(tss.ParsedMessage).Content()
			if kg2b, ok := content.(*keygen.KGRound2Message2); ok && forge != nil {
				proof := forge(session)
				if !proof.Verify(session, sk.N) {
					t.Fatal("the forgery does not even convince the library: the test tests nothing")
				}
				parts := proof.Bytes()
				kg2b.ModProof = parts[:]
			}
			payload, err := proto.Marshal(content)
			if err != nil {
				t.Fatal(err)
			}
			msg := engine.Message{Kind: engine.KindOf(content), From: "carol", Payload: payload}
			if !m.IsBroadcast() {
				msg.To = "alice"
			}
			if err := alice.Deliver(id, msg); !errors.Is(err, engine.ErrSession) && err != nil {
				t.Fatal(err)
			}
		case e := <-c.inbox:
			switch {
			case e.Failed != nil:
				o.faults["alice"] = e.Failed
				return o
			case e.Keygen != nil:
				o.keygen["alice"] = e.Keygen
				return o
			case e.Out != nil:
				content := engine.Content(e.Out.Kind)
				if err := proto.Unmarshal(e.Out.Payload, content); err != nil {
					t.Fatal(err)
				}
				routing := tss.MessageRouting{From: ids["alice"], IsBroadcast: e.Out.To == ""}
				if _, err := lib.Update(tss.NewMessage(routing, content.(tss.MessageContent), tss.NewMessageWrapper(routing, content.(tss.MessageContent)))); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

func TestForgedModulus(t *testing.T) {
	c := newCluster(t)
	t.Run("honest", func(t *testing.T) {
		c.t = t
		if o := c.mallory(nil, nil); o.keygen["alice"] == nil {
			t.Fatalf("a bare party of the library with honest primes: %v", o.faults["alice"])
		}
	})
	for name, bits := range map[string]int{"17-bit factors": 17, "30-bit factors": 30} {
		check := map[int]string{17: "KG1-PAILLIER-FACTOR", 30: "KG2B-MODPROOF-W"}[bits]
		t.Run(name, func(t *testing.T) {
			c.t = t
			sk, factors := forgedKey(t, bits)
			forge := func(session []byte) *modproof.ProofMod { return forgeModProof(t, session, sk, factors) }
			if !forge([]byte("any")).Verify([]byte("any"), sk.N) {
				t.Fatal("the forgery does not convince the library: the test tests nothing")
			}
			f := c.mallory(sk, forge).faults["alice"]
			if f == nil || f.Code != engine.GuardPrefix+check || !slices.Equal(f.Culprits, []party.ID{"carol"}) {
				t.Errorf("%v, want %s by carol", f, check)
			}
		})
	}
}

// TestConflict: a second, different message does not replace the first.
func TestConflict(t *testing.T) {
	c := newCluster(t)
	var first []byte
	c.tamper = func(to party.ID, m engine.Message) []engine.Message {
		if m.Kind != "S1b" || to != "alice" {
			return []engine.Message{m}
		}
		first = m.Payload
		other := m
		other.Payload = slices.Clone(first)
		other.Payload[5] ^= 1
		return []engine.Message{m, m, other}
	}
	session := c.startSign(pair)
	o := c.run(session, pair, func(o *outcome) bool { return o.faults["alice"] != nil })
	if f := o.faults["alice"]; f == nil || f.Code != engine.CodeConflict || !slices.Equal(f.Culprits, []party.ID{"carol"}) {
		t.Errorf("%v, want CONFLICT by carol", f)
	}
}
