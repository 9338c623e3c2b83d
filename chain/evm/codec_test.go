package evm_test

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/big"
	"os"
	"strings"
	"testing"

	"coffer/chain/evm"
	"coffer/partial"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/rlp"
	"pgregory.net/rapid"
)

// rows reads a testdata file: fields separated by blanks, # begins a comment.
func rows(t testing.TB, name string) (out [][]string) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if text := lines.Text(); !strings.HasPrefix(text, "#") {
			out = append(out, strings.Fields(text))
		}
	}
	if lines.Err() != nil || len(out) == 0 {
		t.Fatalf("%s: %d rows, %v", name, len(out), lines.Err())
	}
	return out
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// sign is an honest wallet of one key: decred's RFC 6979 signature in our form.
func sign(key *secp256k1.PrivateKey, digest [32]byte) (sig partial.Signature) {
	compact := ecdsa.SignCompact(key, digest[:], true)
	sig.V = compact[0] - 27 - 4
	copy(sig.R[:], compact[1:33])
	copy(sig.S[:], compact[33:])
	return sig
}

func TestGoldenEthereumJS(t *testing.T) {
	key := secp256k1.PrivKeyFromBytes(unhex(t, "8f2a55949038a9610f50fb23b5883af3b4ecb3c3bb792cbcefbd1542c692be63"))
	from, err := evm.AddressOf([33]byte(key.PubKey().SerializeCompressed()))
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows(t, "testdata/ethereumjs.txt") {
		u := &evm.Unsigned{ChainID: 7822, To: evm.Address{18: 0xaa, 19: 0xaa}, Value: new(big.Int), TipCap: new(big.Int), FeeCap: new(big.Int)}
		if _, err := fmt.Sscan(strings.Join(row, " "), &u.Nonce, u.Value, &u.Gas, u.TipCap, u.FeeCap); err != nil {
			t.Fatal(err)
		}
		want := unhex(t, row[5])
		// The source signs with RFC 6979 as decred does, so even the signature is equal.
		raw, hash, err := u.Assemble(sign(key, u.Digest()))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(raw, want) {
			t.Errorf("nonce %d:\ngot  %x\nwant %x", u.Nonce, raw, want)
		}
		if hash != [32]byte(crypto.Keccak256(want)) {
			t.Errorf("nonce %d: hash %x", u.Nonce, hash)
		}
		signer, decoded, err := evm.Recover(want)
		if err != nil {
			t.Fatal(err)
		}
		if signer != from || !decoded.Equal(u) {
			t.Errorf("nonce %d: recovered %s, %+v", u.Nonce, signer, decoded)
		}
	}
}

func TestGoldenEthereumTests(t *testing.T) {
	for _, row := range rows(t, "testdata/ethereum-tests.txt") {
		t.Run(row[0], func(t *testing.T) {
			raw := unhex(t, row[3])
			from, u, err := evm.Recover(raw)
			if row[1] == "refused" {
				if !errors.Is(err, evm.ErrEncoding) || !strings.Contains(err.Error(), row[2]) {
					t.Fatalf("got %v, want a refusal that says %q", err, row[2])
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if hex.EncodeToString(from[:]) != row[1] {
				t.Errorf("sender %s, want %s", from, row[1])
			}
			if u.MaxFee().BitLen() != 256 {
				t.Errorf("highest fee has %d bits", u.MaxFee().BitLen())
			}
			if hash := evm.Hash(raw); hex.EncodeToString(hash[:]) != row[2] {
				t.Errorf("hash %x, want %s", hash, row[2])
			}
		})
	}
}

// The payload and digest of one transaction, spelt out field by field after the
// specification: 0x02 || rlp([chain_id, nonce, max_priority_fee_per_gas,
// max_fee_per_gas, gas_limit, destination, amount, data, access_list]).
// Source: https://eips.ethereum.org/EIPS/eip-1559
func TestGoldenPayload(t *testing.T) {
	u := sample()
	want := "02" + "f859" + // list of 3+1+5+5+3+21+1+49+1 = 89 bytes
		"820539" + // chain 1337
		"07" + // nonce
		"843b9aca00" + // tip cap
		"8477359400" + // fee cap
		"82ea60" + // gas 60000
		"94" + "5aaeb6053f3e94c9b9a09f33669435e7ef1beaed" +
		"80" + // value 0
		"b0" + strings.Repeat("ab", 48) +
		"c0" // access list
	if got := hex.EncodeToString(u.Encode()); got != want {
		t.Fatalf("got  %s\nwant %s", got, want)
	}
	if got, want := hex.EncodeToString(func() []byte { d := u.Digest(); return d[:] }()), hex.EncodeToString(crypto.Keccak256(unhex(t, want))); got != want {
		t.Fatalf("digest %s, want %s", got, want)
	}
}

func sample() *evm.Unsigned {
	to, _ := evm.ParseAddress("0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed")
	return &evm.Unsigned{ChainID: 1337, Nonce: 7, TipCap: big.NewInt(1e9), FeeCap: big.NewInt(2e9), Gas: 60000, To: to,
		Value: new(big.Int), Data: bytes.Repeat([]byte{0xab}, 48)}
}

func TestDecodeRefuses(t *testing.T) {
	list := func(items ...string) string {
		var body []byte
		for _, s := range items {
			body = append(body, unhex(t, s)...)
		}
		if len(body) > 55 {
			return fmt.Sprintf("02f8%02x%x", len(body), body)
		}
		return fmt.Sprintf("02%02x%x", 0xc0+len(body), body)
	}
	to := "94" + "5aaeb6053f3e94c9b9a09f33669435e7ef1beaed"
	fields := func(change func(f []string)) string {
		f := []string{"820539", "07", "01", "02", "825208", to, "80", "80", "c0"}
		change(f)
		return list(f...)
	}
	if _, err := evm.Decode(unhex(t, fields(func([]string) {}))); err != nil {
		t.Fatalf("unchanged: %v", err)
	}
	for _, c := range []struct{ name, raw, says string }{
		{"empty", "", "empty"},
		{"only a type", "02", "missing"},
		{"legacy", "c9808080808080808080", "first byte"},
		{"type 1", "01c0", "first byte"},
		{"type 3", "03c0", "first byte"},
		{"type 4", "04c0", "first byte"},
		{"a string instead of the list", "0280", "a string stands"},
		{"no fields", "02c0", "chain id: "},
		{"trailing byte", fields(func([]string) {}) + "00", "1 bytes too many"},
		{"trailing byte in the list", fields(func(f []string) { f[8] = "c000" }), "1 bytes too many"},
		{"list cut short", fields(func([]string) {})[:60], "announced"},
		{"list length in long form", "02f803820539", "long form"},
		{"list length with leading zero", "02f90003820539", "leading zero"},
		{"length cut short", "02f9", "within its length"},
		{"length of 2^64-1", "02ffffffffffffffffff", "announced"},
		{"chain id zero", fields(func(f []string) { f[0] = "80" }), "chain id: "},
		{"chain id with leading zero", fields(func(f []string) { f[0] = "83000539" }), "leading zero"},
		{"chain id of 9 bytes", fields(func(f []string) { f[0] = "89010000000000000000" }), "9 bytes"},
		{"chain id a list", fields(func(f []string) { f[0] = "c0" }), "chain id: "},
		{"nonce zero as a byte", fields(func(f []string) { f[1] = "00" }), "leading zero"},
		{"nonce with a length", fields(func(f []string) { f[1] = "8107" }), "written with a length"},
		{"nonce in long form", fields(func(f []string) { f[1] = "b80107" }), "long form"},
		{"nonce of 2^64-1", fields(func(f []string) { f[1] = "88ffffffffffffffff" }), "EIP-2681"},
		{"tip of 257 bits", fields(func(f []string) { f[2] = "a1" + "01" + strings.Repeat("00", 32) }), "33 bytes"},
		{"tip above fee cap", fields(func(f []string) { f[2] = "03" }), "above the fee cap"},
		{"fee overflows", fields(func(f []string) { f[3] = "a0" + strings.Repeat("ff", 32) }), "overflows"},
		{"value overflows with fee", fields(func(f []string) { f[6] = "a0" + strings.Repeat("ff", 32) }), "overflows"},
		{"gas of 9 bytes", fields(func(f []string) { f[4] = "89010000000000000000" }), "9 bytes"},
		{"contract creation", fields(func(f []string) { f[5] = "80" }), "create a contract"},
		{"to of 19 bytes", fields(func(f []string) { f[5] = "93" + to[4:] }), "19 bytes"},
		{"to of 21 bytes", fields(func(f []string) { f[5] = "95" + to[2:] + "00" }), "21 bytes"},
		{"to of one byte", fields(func(f []string) { f[5] = "07" }), "1 bytes"},
		{"to a list", fields(func(f []string) { f[5] = "c0" }), "a list stands"},
		{"value with leading zero", fields(func(f []string) { f[6] = "820001" }), "leading zero"},
		{"data a list", fields(func(f []string) { f[7] = "c0" }), "a list stands"},
		{"data of a byte with a length", fields(func(f []string) { f[7] = "8101" }), "written with a length"},
		{"access list a string", fields(func(f []string) { f[8] = "80" }), "a string stands"},
		{"access list missing", fields(func(f []string) { f[8] = "" }), "missing"},
		{"access list not empty", fields(func(f []string) { f[8] = "d7d6" + to + "c0" }), "not empty"},
		{"signed", fields(func(f []string) { f[8] = "c0800101" }), "3 bytes too many"},
		{"too long", strings.Repeat("02", evm.MaxEncoded+1), "at most 131072"},
	} {
		t.Run(c.name, func(t *testing.T) {
			u, err := evm.Decode(unhex(t, c.raw))
			if !errors.Is(err, evm.ErrEncoding) || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("got %+v, %v, want a refusal that says %q", u, err, c.says)
			}
		})
	}
}

func TestRecoverRefuses(t *testing.T) {
	key := secp256k1.PrivKeyFromBytes([]byte{31: 9})
	u := sample()
	good := sign(key, u.Digest())
	raw, _, err := u.Assemble(good)
	if err != nil {
		t.Fatal(err)
	}
	tail := len(raw) - 67 // parity, a0 r, a0 s
	if raw[tail+1] != 0xa0 || raw[tail+34] != 0xa0 {
		t.Fatalf("the sample's r or s is short: %x", raw[tail:])
	}
	for name, change := range map[string]func([]byte) []byte{
		"parity 2":       func(b []byte) []byte { b[tail] = 2; return b },
		"parity 27":      func(b []byte) []byte { b[tail] = 27; return b },
		"r is zero":      func(b []byte) []byte { clear(b[tail+2 : tail+34]); return b },
		"s is too large": func(b []byte) []byte { copy(b[tail+35:], bytes.Repeat([]byte{0xff}, 32)); return b },
		"unsigned":       func([]byte) []byte { return u.Encode() },
		"empty":          func([]byte) []byte { return nil },
		"trailing":       func(b []byte) []byte { return append(b, 0) },
		"high s": func(b []byte) []byte {
			s := new(big.Int).SetBytes(b[tail+35:])
			s.Sub(secp256k1.Params().N, s).FillBytes(b[tail+35:])
			b[tail] ^= 0x81 // 0x80 is zero, 0x01 is one
			return b
		},
	} {
		t.Run(name, func(t *testing.T) {
			if from, _, err := evm.Recover(change(bytes.Clone(raw))); err == nil {
				t.Fatalf("accepted, from %s", from)
			}
		})
	}
	for name, sig := range map[string]partial.Signature{
		"zero":     {},
		"parity 2": {R: good.R, S: good.S, V: 2},
	} {
		if _, _, err := u.Assemble(sig); !errors.Is(err, partial.ErrSignature) {
			t.Errorf("assemble with %s: %v", name, err)
		}
	}
	// A flipped bit gives another signer or none, never the same.
	from, _, _ := evm.Recover(raw)
	for i := range raw {
		bad := bytes.Clone(raw)
		bad[i] ^= 1
		if other, _, err := evm.Recover(bad); err == nil && other == from {
			t.Fatalf("byte %d changed and still from %s", i, from)
		}
	}
}

func TestAddressOf(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "key")
		key, err := crypto.ToECDSA(b)
		if err != nil {
			return
		}
		got, err := evm.AddressOf([33]byte(crypto.CompressPubkey(&key.PublicKey)))
		if err != nil || common.Address(got) != crypto.PubkeyToAddress(key.PublicKey) {
			t.Fatalf("got %s, %v", got, err)
		}
	})
	if _, err := evm.AddressOf([33]byte{}); !errors.Is(err, evm.ErrKey) {
		t.Fatalf("zero key: %v", err)
	}
}

// generator draws transactions from all of the range that chains allow.
func generator() *rapid.Generator[*evm.Unsigned] {
	number := func(max int) *rapid.Generator[*big.Int] {
		return rapid.Custom(func(t *rapid.T) *big.Int {
			return new(big.Int).SetBytes(rapid.SliceOfN(rapid.Byte(), 0, max).Draw(t, "bytes"))
		})
	}
	return rapid.Custom(func(t *rapid.T) *evm.Unsigned {
		u := &evm.Unsigned{
			ChainID: rapid.Uint64Min(1).Draw(t, "chain"),
			Nonce:   rapid.Uint64Max(math.MaxUint64-1).Draw(t, "nonce"),
			TipCap:  number(22).Draw(t, "tip"),
			FeeCap:  number(22).Draw(t, "fee"),
			Gas:     rapid.Uint64().Draw(t, "gas"),
			To:      evm.Address(rapid.SliceOfN(rapid.Byte(), 20, 20).Draw(t, "to")),
			Value:   number(31).Draw(t, "value"),
			Data:    rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "data"),
		}
		if u.TipCap.Cmp(u.FeeCap) > 0 {
			u.TipCap, u.FeeCap = u.FeeCap, u.TipCap
		}
		return u
	})
}

func toGeth(u *evm.Unsigned) *types.DynamicFeeTx {
	to := common.Address(u.To)
	return &types.DynamicFeeTx{ChainID: new(big.Int).SetUint64(u.ChainID), Nonce: u.Nonce, GasTipCap: u.TipCap, GasFeeCap: u.FeeCap,
		Gas: u.Gas, To: &to, Value: u.Value, Data: u.Data}
}

// go-ethereum computes the same digest, signs to the same bytes, finds the same hash
// and sender, and we read what it writes.
func TestAgreesWithGoEthereum(t *testing.T) {
	key, _ := crypto.ToECDSA(bytes.Repeat([]byte{7}, 32))
	ours := secp256k1.PrivKeyFromBytes(bytes.Repeat([]byte{7}, 32))
	rapid.Check(t, func(t *rapid.T) {
		u := generator().Draw(t, "transaction")
		decoded, err := evm.Decode(u.Encode())
		if err != nil {
			t.Fatal(err)
		}
		if !decoded.Equal(u) {
			t.Fatalf("got %+v, want %+v", decoded, u)
		}
		signer := types.LatestSignerForChainID(new(big.Int).SetUint64(u.ChainID))
		theirs := types.NewTx(toGeth(u))
		if got, want := u.Digest(), signer.Hash(theirs); got != want {
			t.Fatalf("digest %x, want %x", got, want)
		}
		signed, err := types.SignTx(theirs, signer, key)
		if err != nil {
			t.Fatal(err)
		}
		want, err := signed.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		raw, hash, err := u.Assemble(sign(ours, u.Digest()))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(raw, want) || common.Hash(hash) != signed.Hash() {
			t.Fatalf("assembled %x, want %x", raw, want)
		}
		from, back, err := evm.Recover(want)
		if err != nil || common.Address(from) != crypto.PubkeyToAddress(key.PublicKey) || !back.Equal(u) {
			t.Fatalf("recovered %s, %+v, %v", from, back, err)
		}
		if u.MaxCost().Cmp(signed.Cost()) != 0 {
			t.Fatalf("highest cost %s, want %s", u.MaxCost(), signed.Cost())
		}
	})
}

// nine is the unsigned payload as go-ethereum's RLP package reads it.
type nine struct {
	ChainID    *big.Int
	Nonce      uint64
	TipCap     *big.Int
	FeeCap     *big.Int
	Gas        uint64
	To         *common.Address `rlp:"nil"`
	Value      *big.Int
	Data       []byte
	AccessList types.AccessList
}

// expected says, from go-ethereum's reading, whether we must accept.
func (n *nine) expected() bool {
	cost := new(big.Int).Mul(n.FeeCap, new(big.Int).SetUint64(n.Gas))
	cost.Add(cost, n.Value)
	return n.ChainID.IsUint64() && n.ChainID.Sign() > 0 && n.Nonce != math.MaxUint64 && n.To != nil && len(n.AccessList) == 0 &&
		n.TipCap.Cmp(n.FeeCap) <= 0 && n.FeeCap.BitLen() <= 256 && n.Value.BitLen() <= 256 && cost.BitLen() <= 256
}

// FuzzDecode: what is accepted is canonical, and acceptance is exactly go-ethereum's
// less what is refused on purpose.
func FuzzDecode(f *testing.F) {
	f.Add(sample().Encode())
	f.Add((&evm.Unsigned{ChainID: 1}).Encode())
	for _, row := range rows(f, "testdata/ethereumjs.txt") {
		if _, u, err := evm.Recover(unhex(f, row[5])); err == nil {
			f.Add(u.Encode())
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		u, err := evm.Decode(raw)
		if err == nil && !bytes.Equal(u.Encode(), raw) {
			t.Fatalf("accepted %x, encodes as %x", raw, u.Encode())
		}
		var theirs nine
		want := len(raw) > 0 && len(raw) <= evm.MaxEncoded && raw[0] == 2 && rlp.DecodeBytes(raw[1:], &theirs) == nil && theirs.expected()
		if want != (err == nil) {
			t.Fatalf("go-ethereum's reading accepts: %v, ours: %v", want, err)
		}
		if err != nil {
			return
		}
		back, err := rlp.EncodeToBytes(&nine{new(big.Int).SetUint64(u.ChainID), u.Nonce, u.TipCap, u.FeeCap, u.Gas, (*common.Address)(&u.To), u.Value, u.Data, nil})
		if err != nil || !bytes.Equal(back, raw[1:]) {
			t.Fatalf("go-ethereum writes what we read as %x, %v", back, err)
		}
	})
}

// FuzzRecover: the same for signed transactions, signer included.
func FuzzRecover(f *testing.F) {
	for _, name := range []string{"testdata/ethereumjs.txt", "testdata/ethereum-tests.txt"} {
		for _, row := range rows(f, name) {
			f.Add(unhex(f, row[len(row)-1]))
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		from, u, err := evm.Recover(raw)
		var theirs types.Transaction
		if bad := theirs.UnmarshalBinary(raw); bad != nil {
			if err == nil {
				t.Fatalf("go-ethereum refuses it: %v", bad)
			}
			return
		}
		if err != nil {
			return
		}
		sender, bad := types.Sender(types.LatestSignerForChainID(theirs.ChainId()), &theirs)
		if bad != nil || sender != common.Address(from) {
			t.Fatalf("sender %s, go-ethereum: %s, %v", from, sender, bad)
		}
		_, r, s := theirs.RawSignatureValues()
		sig := partial.Signature{V: byte(func() uint64 { v, _, _ := theirs.RawSignatureValues(); return v.Uint64() }())}
		r.FillBytes(sig.R[:])
		s.FillBytes(sig.S[:])
		back, hash, bad := u.Assemble(sig)
		if bad != nil || !bytes.Equal(back, raw) || common.Hash(hash) != theirs.Hash() {
			t.Fatalf("accepted %x, assembles as %x, %v", raw, back, bad)
		}
	})
}

func TestIsTestNetwork(t *testing.T) {
	for _, id := range []uint64{1337, 31337, 11155111, 17000, 560048} {
		if !evm.IsTestNetwork(id) {
			t.Errorf("%d is a test network", id)
		}
	}
	// Ethereum, OP, BNB, Gnosis, Polygon, Base, Arbitrum, Avalanche, unknown, none.
	for _, id := range []uint64{1, 10, 56, 100, 137, 8453, 42161, 43114, 1338, 0, math.MaxUint64} {
		if evm.IsTestNetwork(id) {
			t.Errorf("%d passes as a test network", id)
		}
	}
}
