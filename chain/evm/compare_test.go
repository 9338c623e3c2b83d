package evm_test

import (
	"bytes"
	"errors"
	"math/big"
	"reflect"
	"strings"
	"testing"

	"coffer/canon"
	"coffer/chain/evm"
	"coffer/charter"
	"coffer/intent"
	"coffer/party"

	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core"
	"github.com/ethereum/go-ethereum/params"
	"pgregory.net/rapid"
)

const (
	account = "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"
	payee   = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
	token   = "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB"
	gwei    = 1_000_000_000
)

func rules() *charter.Charter {
	return &charter.Charter{
		Chains: []charter.Chain{{Name: "dev", Kind: "evm", ChainID: 1337}, {Name: "sepolia", Kind: "evm", ChainID: 11155111}, {Name: "other", Kind: "bitcoin"}},
		Assets: []charter.Asset{
			{Symbol: "ETH", Chain: "dev", Decimals: 18},
			{Symbol: "USDT", Chain: "dev", Contract: token, Decimals: 6},
			{Symbol: "BAD", Chain: "dev", Contract: strings.ToLower(token), Decimals: 6},
		},
	}
}

func base(kind intent.Kind) *intent.Intent {
	return &intent.Intent{
		Cluster: canon.Sum([]byte("cluster")), Charter: canon.Sum([]byte("charter")), Kind: kind,
		Wallet: "treasury", Chain: "dev", Account: account, Nonce: 7, FeeCap: big.NewInt(2_000_000 * gwei),
		NotBefore: 1_700_000_000, Expires: 1_700_003_600, Initiator: "alice", Reference: "INV-7",
	}
}

func payment() *intent.Intent {
	i := base(intent.Transfer)
	i.Transfer = &intent.TransferBody{Asset: "ETH", To: payee, Amount: big.NewInt(1_500_000_000_000_000_000)}
	return i
}

func tokenPayment() *intent.Intent {
	i := base(intent.Transfer)
	i.Transfer = &intent.TransferBody{Asset: "USDT", To: payee, Amount: big.NewInt(2_500_000)}
	return i
}

func cancellation() *intent.Intent {
	i := base(intent.Cancel)
	i.Cancel = &intent.CancelBody{Subject: canon.Sum([]byte("subject"))}
	return i
}

func fees(gas uint64) evm.Fees {
	return evm.Fees{TipCap: big.NewInt(gwei), FeeCap: big.NewInt(2 * gwei), Gas: gas}
}

func address(t testing.TB, s string) evm.Address {
	t.Helper()
	a, err := evm.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestBuild(t *testing.T) {
	from := address(t, account)
	for _, c := range []struct {
		name   string
		intent *intent.Intent
		gas    uint64
		want   evm.Unsigned
	}{
		{"native", payment(), 21000, evm.Unsigned{Gas: 21000, To: address(t, payee), Value: big.NewInt(1_500_000_000_000_000_000)}},
		{"token", tokenPayment(), 60000, evm.Unsigned{Gas: 60000, To: address(t, token), Value: new(big.Int),
			// transfer(address,uint256) as solc and every ABI tool write it.
			Data: unhex(t, "a9059cbb"+
				"0000000000000000000000005aaeb6053f3e94c9b9a09f33669435e7ef1beaed"+
				"00000000000000000000000000000000000000000000000000000000002625a0")}},
		{"cancel", cancellation(), 99999, evm.Unsigned{Gas: 21000, To: from, Value: new(big.Int)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.want.ChainID, c.want.Nonce, c.want.TipCap, c.want.FeeCap = 1337, 7, big.NewInt(gwei), big.NewInt(2*gwei)
			u, err := evm.Build(c.intent, rules(), fees(c.gas))
			if err != nil {
				t.Fatal(err)
			}
			if !u.Equal(&c.want) {
				t.Fatalf("got %+v, want %+v", u, c.want)
			}
			decoded, err := evm.Decode(u.Encode())
			if err != nil {
				t.Fatal(err)
			}
			if wrong := evm.Compare(c.intent, rules(), from, decoded); len(wrong) > 0 {
				t.Fatalf("mismatches %v", wrong)
			}
		})
	}
}

func TestBuildRefuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		want   error
		says   string
		change func(*intent.Intent, *evm.Fees)
	}{
		{"fee above the cap", evm.ErrFeeCap, "fee cap", func(i *intent.Intent, f *evm.Fees) { i.FeeCap = big.NewInt(21000*2*gwei - 1) }},
		{"no fees", evm.ErrFees, "needed", func(_ *intent.Intent, f *evm.Fees) { *f = evm.Fees{} }},
		{"negative tip", evm.ErrFees, "needed", func(_ *intent.Intent, f *evm.Fees) { f.TipCap = big.NewInt(-1) }},
		{"huge fee cap", evm.ErrFees, "needed", func(_ *intent.Intent, f *evm.Fees) { f.FeeCap = new(big.Int).Lsh(big.NewInt(1), 256) }},
		{"tip above fee cap", evm.ErrFees, "tip_cap", func(_ *intent.Intent, f *evm.Fees) { f.TipCap = big.NewInt(3 * gwei) }},
		{"too little gas", evm.ErrFees, "gas", func(_ *intent.Intent, f *evm.Fees) { f.Gas = 20999 }},
		{"too much gas", evm.ErrFees, "gas", func(_ *intent.Intent, f *evm.Fees) { f.Gas = evm.MaxTransferGas + 1 }},
		{"unknown chain", evm.ErrIntent, "chain", func(i *intent.Intent, _ *evm.Fees) { i.Chain = "mainnet" }},
		{"chain of another kind", evm.ErrIntent, "chain", func(i *intent.Intent, _ *evm.Fees) { i.Chain = "other" }},
		{"unknown asset", evm.ErrIntent, "asset", func(i *intent.Intent, _ *evm.Fees) { i.Transfer.Asset = "DAI" }},
		{"asset of another chain", evm.ErrIntent, "asset", func(i *intent.Intent, _ *evm.Fees) { i.Chain = "sepolia" }},
		{"contract without checksum", evm.ErrIntent, "contract", func(i *intent.Intent, _ *evm.Fees) { i.Transfer.Asset = "BAD" }},
		{"destination without checksum", evm.ErrAddress, "destination", func(i *intent.Intent, _ *evm.Fees) { i.Transfer.To = strings.ToLower(payee) }},
		{"account without checksum", evm.ErrAddress, "account", func(i *intent.Intent, _ *evm.Fees) { i.Account = strings.ToLower(account) }},
		{"amount zero", evm.ErrIntent, "amount", func(i *intent.Intent, _ *evm.Fees) { i.Transfer.Amount = new(big.Int) }},
		{"value and fee overflow", evm.ErrEncoding, "overflows", func(i *intent.Intent, _ *evm.Fees) {
			i.Transfer.Amount = new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 256), big.NewInt(1))
		}},
		{"creates a wallet", evm.ErrIntent, "makes none", func(i *intent.Intent, _ *evm.Fees) {
			*i = *base(intent.CreateWallet)
			i.Chain, i.Account, i.Nonce, i.FeeCap = "", "", 0, nil
			i.CreateWallet = &intent.CreateWalletBody{Quorum: party.Quorum{Need: 2, Of: 3}, Signers: party.Set{"a", "b", "c"}}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			i, f := payment(), fees(21000)
			if _, err := evm.Build(i, rules(), f); err != nil {
				t.Fatalf("unchanged: %v", err)
			}
			c.change(i, &f)
			u, err := evm.Build(i, rules(), f)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("got %+v, %v, want %v that says %q", u, err, c.want, c.says)
			}
		})
	}
}

// mutations change one field each, in the ways that matter for that field.
var mutations = map[string]map[string]func(*evm.Unsigned){
	"ChainID": {"chain_id": func(u *evm.Unsigned) { u.ChainID = 1 }},
	"Nonce":   {"nonce": func(u *evm.Unsigned) { u.Nonce++ }},
	"TipCap":  {"tip_cap": func(u *evm.Unsigned) { u.TipCap = new(big.Int).Add(u.FeeCap, big.NewInt(1)) }},
	"FeeCap":  {"fee": func(u *evm.Unsigned) { u.FeeCap = big.NewInt(1_000_000 * gwei) }},
	"Gas":     {"gas": func(u *evm.Unsigned) { u.Gas = 20_999 }},
	"To":      {"to": func(u *evm.Unsigned) { u.To[19] ^= 1 }},
	"Value":   {"value": func(u *evm.Unsigned) { u.Value = new(big.Int).Add(u.Value, big.NewInt(1)) }},
	"Data":    {"data": func(u *evm.Unsigned) { u.Data = append(bytes.Clone(u.Data), 0) }},
}

// Each field of a transaction is compared: changing any one of them is found and named.
// A field that is added to Unsigned fails this test until it is compared too.
func TestCompareNamesTheField(t *testing.T) {
	from := address(t, account)
	kind := reflect.TypeFor[evm.Unsigned]()
	for n := range kind.NumField() {
		changes, ok := mutations[kind.Field(n).Name]
		if !ok {
			t.Errorf("field %s has no mutation", kind.Field(n).Name)
		}
		for field, change := range changes {
			for _, i := range []*intent.Intent{payment(), tokenPayment(), cancellation()} {
				u, err := evm.Build(i, rules(), fees(60000))
				if err != nil {
					t.Fatal(err)
				}
				change(u)
				wrong := evm.Compare(i, rules(), from, u)
				if len(wrong) != 1 || wrong[0].Field != field || wrong[0].Want == "" || wrong[0].Got == "" || wrong[0].Want == wrong[0].Got {
					t.Errorf("%s, field %s changed: mismatches %v", i.Kind, field, wrong)
				}
			}
		}
	}
}

func TestCompareTokenCalldata(t *testing.T) {
	i, from := tokenPayment(), address(t, account)
	good, err := evm.Build(i, rules(), fees(60000))
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func([]byte) []byte{
		"another selector (transferFrom)":   func(d []byte) []byte { copy(d, unhex(t, "23b872dd")); return d },
		"another selector (approve)":        func(d []byte) []byte { copy(d, unhex(t, "095ea7b3")); return d },
		"another recipient":                 func(d []byte) []byte { d[35] ^= 1; return d },
		"dirt above the recipient":          func(d []byte) []byte { d[4] = 1; return d },
		"another amount":                    func(d []byte) []byte { d[67] ^= 1; return d },
		"a high bit of the amount":          func(d []byte) []byte { d[36] |= 0x80; return d },
		"a trailing byte":                   func(d []byte) []byte { return append(d, 0) },
		"a trailing word":                   func(d []byte) []byte { return append(d, make([]byte, 32)...) },
		"a byte less (contracts pad zeros)": func(d []byte) []byte { return d[:67] },
		"only the selector":                 func(d []byte) []byte { return d[:4] },
		"nothing":                           func([]byte) []byte { return nil },
		"the fields in the other order":     func(d []byte) []byte { return append(append(bytes.Clone(d[:4]), d[36:]...), d[4:36]...) },
		"a call within another (multicall)": func(d []byte) []byte { return append(unhex(t, "ac9650d8"), d...) },
		"a lot of it":                       func(d []byte) []byte { return append(d, make([]byte, 5000)...) },
	} {
		u := *good
		u.Data = change(bytes.Clone(good.Data))
		wrong := evm.Compare(i, rules(), from, &u)
		if len(wrong) == 0 || wrong[0].Field != "data" || len(wrong[0].Got) > 300 {
			t.Errorf("%s: mismatches %v", name, wrong)
		}
	}
	// Native money sent along with a token transfer is lost in most tokens.
	u := *good
	u.Value = big.NewInt(1)
	if wrong := evm.Compare(i, rules(), from, &u); len(wrong) != 1 || wrong[0].Field != "value" {
		t.Errorf("value with a token transfer: %v", wrong)
	}
	// The same calldata sent to the recipient instead of the token.
	u = *good
	u.To = address(t, payee)
	if wrong := evm.Compare(i, rules(), from, &u); len(wrong) != 1 || wrong[0].Field != "to" {
		t.Errorf("token transfer to the recipient: %v", wrong)
	}
}

func TestCompareBounds(t *testing.T) {
	from := address(t, account)
	for _, c := range []struct {
		name   string
		intent *intent.Intent
		field  string
		change func(*intent.Intent, *evm.Unsigned)
	}{
		{"fee at the cap", payment(), "", func(i *intent.Intent, u *evm.Unsigned) { i.FeeCap = u.MaxFee() }},
		{"fee one wei above", payment(), "fee", func(i *intent.Intent, u *evm.Unsigned) { i.FeeCap = new(big.Int).Sub(u.MaxFee(), big.NewInt(1)) }},
		{"fee ten times", payment(), "fee", func(i *intent.Intent, u *evm.Unsigned) {
			i.FeeCap = u.MaxFee()
			u.FeeCap = new(big.Int).Mul(u.FeeCap, big.NewInt(10))
		}},
		{"tip at the fee cap", payment(), "", func(_ *intent.Intent, u *evm.Unsigned) { u.TipCap = u.FeeCap }},
		{"negative tip", payment(), "tip_cap", func(_ *intent.Intent, u *evm.Unsigned) { u.TipCap = big.NewInt(-1) }},
		{"negative fee cap", payment(), "tip_cap fee", func(_ *intent.Intent, u *evm.Unsigned) { u.FeeCap = big.NewInt(-1) }},
		{"negative value", cancellation(), "value", func(_ *intent.Intent, u *evm.Unsigned) { u.Value = big.NewInt(-1) }},
		{"no numbers", cancellation(), "", func(_ *intent.Intent, u *evm.Unsigned) { u.Value, u.TipCap = nil, nil }},
		{"most gas, native", payment(), "", func(_ *intent.Intent, u *evm.Unsigned) { u.Gas = evm.MaxTransferGas }},
		{"more gas, native", payment(), "gas", func(_ *intent.Intent, u *evm.Unsigned) { u.Gas = evm.MaxTransferGas + 1 }},
		{"most gas, token", tokenPayment(), "", func(_ *intent.Intent, u *evm.Unsigned) { u.Gas = evm.MaxTokenGas }},
		{"more gas, token", tokenPayment(), "gas", func(_ *intent.Intent, u *evm.Unsigned) { u.Gas = evm.MaxTokenGas + 1 }},
		{"plain gas, token", tokenPayment(), "gas", func(_ *intent.Intent, u *evm.Unsigned) { u.Gas = evm.PlainGas }},
		{"more gas, cancel", cancellation(), "gas", func(_ *intent.Intent, u *evm.Unsigned) { u.Gas = evm.PlainGas + 1 }},
		{"cancel pays somebody", cancellation(), "to", func(_ *intent.Intent, u *evm.Unsigned) { u.To = address(t, payee) }},
		{"intent of another account", payment(), "account", func(i *intent.Intent, _ *evm.Unsigned) { i.Account = payee }},
		{"no transaction", payment(), "transaction", func(_ *intent.Intent, u *evm.Unsigned) { *u = evm.Unsigned{} }},
		{"unknown asset", payment(), "intent", func(i *intent.Intent, _ *evm.Unsigned) { i.Transfer.Asset = "DAI" }},
		{"malformed intent", payment(), "intent", func(i *intent.Intent, _ *evm.Unsigned) { i.Transfer = nil }},
	} {
		t.Run(c.name, func(t *testing.T) {
			u, err := evm.Build(c.intent, rules(), fees(60000))
			if err != nil {
				t.Fatal(err)
			}
			c.change(c.intent, u)
			var fields []string
			if c.field == "transaction" {
				u = nil
			}
			for _, m := range evm.Compare(c.intent, rules(), from, u) {
				fields = append(fields, m.Field)
			}
			if got := strings.Join(fields, " "); got != c.field {
				t.Fatalf("mismatches in %q, want in %q", got, c.field)
			}
		})
	}
	if wrong := evm.Compare(nil, rules(), from, &evm.Unsigned{}); len(wrong) != 1 || wrong[0].Field != "intent" {
		t.Errorf("no intent: %v", wrong)
	}
}

// For random intents and random transactions, Compare is empty exactly if go-ethereum's
// own ABI coder and arithmetic say that the transaction is the intent's.
func TestCompareIsExact(t *testing.T) {
	erc20, err := abi.JSON(strings.NewReader(`[{"type":"function","name":"transfer","inputs":[{"name":"to","type":"address"},{"name":"value","type":"uint256"}]}]`))
	if err != nil {
		t.Fatal(err)
	}
	from := address(t, account)
	rapid.Check(t, func(t *rapid.T) {
		i := rapid.SampledFrom([]func() *intent.Intent{payment, tokenPayment, cancellation}).Draw(t, "intent")()
		i.Nonce = rapid.Uint64Max(3).Draw(t, "intent nonce")
		amount := rapid.Custom(func(t *rapid.T) *big.Int {
			return new(big.Int).SetBytes(append([]byte{1}, rapid.SliceOfN(rapid.Byte(), 0, 31).Draw(t, "amount")...))
		})
		if i.Transfer != nil {
			i.Transfer.Amount = amount.Draw(t, "amount")
		}
		u := &evm.Unsigned{
			ChainID: rapid.SampledFrom([]uint64{1337, 1337, 1337, 1}).Draw(t, "chain"),
			Nonce:   rapid.Uint64Max(3).Draw(t, "nonce"),
			TipCap:  big.NewInt(rapid.Int64Range(0, 3*gwei).Draw(t, "tip")),
			FeeCap:  big.NewInt(rapid.Int64Range(0, 40*gwei).Draw(t, "fee")),
			Gas:     rapid.SampledFrom([]uint64{21000, 22000, 60000, 100000, 100001, 500001}).Draw(t, "gas"),
			To:      evm.Address(common.HexToAddress(rapid.SampledFrom([]string{account, payee, token}).Draw(t, "to"))),
			Value:   new(big.Int),
		}
		if i.Transfer != nil && rapid.Bool().Draw(t, "has value") {
			u.Value = rapid.SampledFrom([]*big.Int{i.Transfer.Amount, big.NewInt(1)}).Draw(t, "value")
		}
		to, value := common.HexToAddress(payee), new(big.Int)
		var call []byte
		lowest, highest := uint64(21000), uint64(100000)
		switch {
		case i.Kind == intent.Cancel:
			to, highest = common.HexToAddress(account), 21000
		case i.Transfer.Asset == "ETH":
			value = i.Transfer.Amount
		default:
			if call, err = erc20.Pack("transfer", to, i.Transfer.Amount); err != nil {
				t.Fatal(err)
			}
			to, highest = common.HexToAddress(token), 500000
			lowest = leastGas(t, call)
		}
		if rapid.IntRange(0, 3).Draw(t, "data") > 0 {
			u.Data = call
		}
		fee := new(big.Int).Mul(u.FeeCap, new(big.Int).SetUint64(u.Gas))
		want := u.ChainID == 1337 && u.Nonce == i.Nonce && common.Address(u.To) == to && u.Value.Cmp(value) == 0 && bytes.Equal(u.Data, call) &&
			u.Gas >= lowest && u.Gas <= highest && u.TipCap.Cmp(u.FeeCap) <= 0 && fee.Cmp(i.FeeCap) <= 0
		if wrong := evm.Compare(i, rules(), from, u); want != (len(wrong) == 0) {
			t.Fatalf("want equal: %v, mismatches %v", want, wrong)
		}
	})
}

// leastGas is go-ethereum's for a call: intrinsic cost or calldata floor.
func leastGas(t *rapid.T, data []byte) uint64 {
	to := common.HexToAddress(token)
	rules := params.AllDevChainProtocolChanges.Rules(new(big.Int), true, 1)
	intrinsic, err := core.IntrinsicGas(data, nil, nil, common.HexToAddress(account), &to, nil, rules)
	if err != nil {
		t.Fatal(err)
	}
	floor, err := core.FloorDataGas(rules, common.HexToAddress(account), &to, nil, data, nil)
	if err != nil {
		t.Fatal(err)
	}
	return max(intrinsic, floor)
}

func TestEffectGas(t *testing.T) {
	plain, err := evm.EffectOf(payment(), rules())
	if err != nil {
		t.Fatal(err)
	}
	call, err := evm.EffectOf(tokenPayment(), rules())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		effect         evm.Effect
		estimate, want uint64
	}{
		{plain, 0, 21000}, {plain, 21000, 21000}, {plain, 28000, 35000}, {plain, 99000, evm.MaxTransferGas}, {plain, 1 << 63, evm.MaxTransferGas}, {plain, 1<<64 - 1, evm.MaxTransferGas},
		{call, 0, call.MinGas}, {call, 52000, 65000}, {call, 1 << 40, evm.MaxTokenGas},
	} {
		if got := c.effect.Gas(c.estimate); got != c.want {
			t.Errorf("estimate %d: gas %d, want %d", c.estimate, got, c.want)
		}
	}
}
