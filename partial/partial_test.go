package partial_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math/big"
	"testing"

	"coffer/canon"
	"coffer/partial"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/ethereum/go-ethereum/crypto"
	"pgregory.net/rapid"
)

var order = secp256k1.Params().N

func scalar(v *big.Int) (s secp256k1.ModNScalar) {
	var b [32]byte
	new(big.Int).Mod(v, order).FillBytes(b[:])
	s.SetBytes(&b)
	return s
}

// split signs digest with the key and the nonce k as textbook ECDSA does, without
// normalising s, and cuts s into additive parts: what honest signers would send.
func split(digest [32]byte, key, k *big.Int, parts []*big.Int) (public [33]byte, partials []partial.Partial) {
	d, nonce := scalar(key), scalar(k)
	public = [33]byte(secp256k1.NewPrivateKey(&d).PubKey().SerializeCompressed())
	point := [33]byte(secp256k1.NewPrivateKey(&nonce).PubKey().SerializeCompressed())
	r := new(big.Int).SetBytes(point[1:])
	s := new(big.Int).Mul(r, key)
	s.Add(s, new(big.Int).SetBytes(digest[:]))
	s.Mul(s, new(big.Int).ModInverse(k, order)).Mod(s, order)

	for _, p := range parts {
		s.Sub(s, p).Mod(s, order)
		partials = append(partials, partial.Partial{R: point})
		new(big.Int).Mod(p, order).FillBytes(partials[len(partials)-1].S[:])
	}
	partials = append(partials, partial.Partial{R: point})
	s.FillBytes(partials[len(partials)-1].S[:])
	for i := range partials {
		partials[i].Session = canon.Sum([]byte("session"))
	}
	return public, partials
}

func sample() (digest [32]byte, public [33]byte, partials []partial.Partial) {
	digest = canon.Sum([]byte("what is signed"))
	public, partials = split(digest, big.NewInt(0xc0ffe4), big.NewInt(0x5eed), []*big.Int{big.NewInt(0xa11ce)})
	return digest, public, partials
}

// The EIP-155 example is a public signature with known key, digest and result; its
// nonce is the RFC 6979 one, so cutting its s in two must give back exactly r, s, v.
// Source: https://eips.ethereum.org/EIPS/eip-155 ("Example").
func TestCombineGolden(t *testing.T) {
	digest := [32]byte(unhex(t, "daf5a779ae972f972197303d7b574746c7ef83eadac0f2791ad23db92e4c8e53"))
	d := scalar(new(big.Int).SetBytes(bytes.Repeat([]byte{0x46}, 32)))
	public := [33]byte(secp256k1.NewPrivateKey(&d).PubKey().SerializeCompressed())
	// (v, r, s) as they stand in the EIP's signed transaction, in hex.
	want := partial.Signature{
		R: [32]byte(unhex(t, "28ef61340bd939bc2195fe537567866003e1a15d3c71ff63e1590620aa636276")),
		S: [32]byte(unhex(t, "67cbe9d8997f761aecb703304b3800ccf555c9f3dc64214b297fb1966a3b6d83")),
	}
	s := new(big.Int).SetBytes(want.S[:])
	want.V = 37 - 35 - 2*1 // EIP-155: v = {0,1} + 2·chain id + 35
	if err := partial.Verify(digest, public, want); err != nil {
		t.Fatalf("the EIP's own signature: %v", err)
	}

	point := [33]byte{0: 0x02 + want.V}
	copy(point[1:], want.R[:])
	one, other := partial.Partial{R: point}, partial.Partial{R: point}
	half := new(big.Int).Sub(order, big.NewInt(12345)) // wraps around n
	half.FillBytes(one.S[:])
	new(big.Int).Mod(new(big.Int).Sub(s, half), order).FillBytes(other.S[:])
	got, err := partial.Combine(digest, public, 2, []partial.Partial{one, other})
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Fatalf("got %x, want %x", got, want)
	}
}

// Any split of any signature combines to the same low-s signature, and go-ethereum
// recovers the same key from it.
func TestCombineAgreesWithGoEthereum(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		digest := [32]byte(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "digest"))
		number := rapid.Custom(func(t *rapid.T) *big.Int {
			v := new(big.Int).SetBytes(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "b"))
			v.Mod(v, new(big.Int).Sub(order, big.NewInt(1)))
			return v.Add(v, big.NewInt(1))
		})
		key, k := number.Draw(t, "key"), number.Draw(t, "nonce")
		parts := rapid.SliceOfNDistinct(number, 1, 6, (*big.Int).String).Draw(t, "parts")
		public, partials := split(digest, key, k, parts)
		sig, err := partial.Combine(digest, public, len(partials), partials)
		if errors.Is(err, partial.ErrScalar) || errors.Is(err, partial.ErrPoint) {
			return // the last part came out as 0 or as another part: not reachable by chance
		}
		if err != nil {
			t.Fatal(err)
		}
		compact := append(append(sig.R[:], sig.S[:]...), sig.V)
		if !crypto.ValidateSignatureValues(sig.V, new(big.Int).SetBytes(sig.R[:]), new(big.Int).SetBytes(sig.S[:]), true) {
			t.Fatalf("go-ethereum refuses the values of %x", compact)
		}
		recovered, err := crypto.SigToPub(digest[:], compact)
		if err != nil {
			t.Fatal(err)
		}
		if got := crypto.CompressPubkey(recovered); !bytes.Equal(got, public[:]) {
			t.Fatalf("go-ethereum recovers %x, want %x", got, public)
		}
	})
}

func TestCombineRefuses(t *testing.T) {
	n := [32]byte(order.Bytes())
	for _, c := range []struct {
		name   string
		want   error
		change func(digest *[32]byte, public *[33]byte, need *int, p *[]partial.Partial)
	}{
		{"none", partial.ErrCount, func(_ *[32]byte, _ *[33]byte, need *int, p *[]partial.Partial) { *need = 0; *p = nil }},
		{"one missing", partial.ErrCount, func(_ *[32]byte, _ *[33]byte, _ *int, p *[]partial.Partial) { *p = (*p)[:1] }},
		{"one too many", partial.ErrCount, func(_ *[32]byte, _ *[33]byte, _ *int, p *[]partial.Partial) { *p = append(*p, (*p)[0]) }},
		{"another session", partial.ErrSession, func(_ *[32]byte, _ *[33]byte, _ *int, p *[]partial.Partial) { (*p)[1].Session[0] ^= 1 }},
		{"another R", partial.ErrPoint, func(_ *[32]byte, _ *[33]byte, _ *int, p *[]partial.Partial) { (*p)[1].R[0] ^= 1 }},
		{"R not on the curve", partial.ErrPoint, func(_ *[32]byte, _ *[33]byte, _ *int, p *[]partial.Partial) {
			for i := range *p {
				(*p)[i].R = [33]byte{0: 2, 32: 5} // x = 5 has no y
			}
		}},
		{"R in another form", partial.ErrPoint, func(_ *[32]byte, _ *[33]byte, _ *int, p *[]partial.Partial) {
			for i := range *p {
				(*p)[i].R[0] = 4
			}
		}},
		{"s is zero", partial.ErrScalar, func(_ *[32]byte, _ *[33]byte, _ *int, p *[]partial.Partial) { (*p)[0].S = [32]byte{} }},
		{"s is n", partial.ErrScalar, func(_ *[32]byte, _ *[33]byte, _ *int, p *[]partial.Partial) { (*p)[0].S = n }},
		{"s above n", partial.ErrScalar, func(_ *[32]byte, _ *[33]byte, _ *int, p *[]partial.Partial) {
			(*p)[0].S = [32]byte(bytes.Repeat([]byte{0xff}, 32))
		}},
		{"one partial twice", partial.ErrScalar, func(_ *[32]byte, _ *[33]byte, _ *int, p *[]partial.Partial) { (*p)[1] = (*p)[0] }},
		{"sum is zero", partial.ErrSum, func(_ *[32]byte, _ *[33]byte, _ *int, p *[]partial.Partial) {
			(*p)[0].S = [32]byte{31: 1}
			new(big.Int).Sub(order, big.NewInt(1)).FillBytes((*p)[1].S[:])
		}},
		{"a wrong s", partial.ErrSum, func(_ *[32]byte, _ *[33]byte, _ *int, p *[]partial.Partial) { (*p)[0].S[31] ^= 1 }},
		{"mirrored R", partial.ErrSum, func(_ *[32]byte, _ *[33]byte, _ *int, p *[]partial.Partial) {
			for i := range *p {
				(*p)[i].R[0] ^= 1
			}
		}},
		{"another digest", partial.ErrSum, func(d *[32]byte, _ *[33]byte, _ *int, _ *[]partial.Partial) { d[0] ^= 1 }},
		{"another key", partial.ErrSum, func(_ *[32]byte, k *[33]byte, _ *int, _ *[]partial.Partial) { k[0] ^= 1 }},
		{"no key", partial.ErrKey, func(_ *[32]byte, k *[33]byte, _ *int, _ *[]partial.Partial) { *k = [33]byte{} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			digest, public, partials := sample()
			need := len(partials)
			if _, err := partial.Combine(digest, public, need, partials); err != nil {
				t.Fatalf("unchanged: %v", err)
			}
			c.change(&digest, &public, &need, &partials)
			sig, err := partial.Combine(digest, public, need, partials)
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if sig != (partial.Signature{}) {
				t.Fatal("a refused combination still returned a signature")
			}
		})
	}
}

// x in [n, p) is on the curve for some x; such an R must not be reduced silently.
func TestCombineRefusesOverflowingR(t *testing.T) {
	digest, public, partials := sample()
	x := new(big.Int).Set(order)
	var point [33]byte
	for {
		point[0] = 2
		x.FillBytes(point[1:])
		if _, err := secp256k1.ParsePubKey(point[:]); err == nil {
			break
		}
		x.Add(x, big.NewInt(1))
	}
	for i := range partials {
		partials[i].R = point
	}
	if _, err := partial.Combine(digest, public, len(partials), partials); !errors.Is(err, partial.ErrPoint) {
		t.Fatalf("got %v, want %v", err, partial.ErrPoint)
	}
}

func TestVerifyRefuses(t *testing.T) {
	digest, public, partials := sample()
	good, err := partial.Combine(digest, public, len(partials), partials)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*partial.Signature){
		"flipped s":          func(s *partial.Signature) { s.S[31] ^= 1 },
		"flipped r":          func(s *partial.Signature) { s.R[31] ^= 1 },
		"other recovery bit": func(s *partial.Signature) { s.V ^= 1 },
		"recovery id 2":      func(s *partial.Signature) { s.V += 2 },
		"v as 27":            func(s *partial.Signature) { s.V += 27 },
		"high s": func(s *partial.Signature) {
			new(big.Int).Sub(order, new(big.Int).SetBytes(s.S[:])).FillBytes(s.S[:])
			s.V ^= 1
		},
		"zero r": func(s *partial.Signature) { s.R = [32]byte{} },
		"zero s": func(s *partial.Signature) { s.S = [32]byte{} },
		"r is n": func(s *partial.Signature) { s.R = [32]byte(order.Bytes()) },
		"s is n": func(s *partial.Signature) { s.S = [32]byte(order.Bytes()) },
	} {
		t.Run(name, func(t *testing.T) {
			bad := good
			change(&bad)
			if err := partial.Verify(digest, public, bad); !errors.Is(err, partial.ErrSignature) {
				t.Fatalf("got %v, want %v", err, partial.ErrSignature)
			}
		})
	}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
