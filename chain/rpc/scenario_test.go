package rpc_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"math/big"
	"testing"

	"coffer/canon"
	"coffer/chain/evm"
	"coffer/chain/rpc"
	"coffer/charter"
	"coffer/intent"
	"coffer/internal/devchain"
	"coffer/internal/devchain/token"
	"coffer/partial"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
)

// combine signs as a quorum of two does: s in two parts, put together by partial.
func (w wallet) combine(t *testing.T, u *evm.Unsigned) partial.Signature {
	t.Helper()
	nonce, err := secp256k1.GeneratePrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	n := secp256k1.Params().N
	point := [33]byte(nonce.PubKey().SerializeCompressed())
	digest, d, k := u.Digest(), new(big.Int).SetBytes(w.key.Serialize()), new(big.Int).SetBytes(nonce.Serialize())
	s := new(big.Int).Mul(new(big.Int).SetBytes(point[1:]), d)
	s.Add(s, new(big.Int).SetBytes(digest[:])).Mul(s, new(big.Int).ModInverse(k, n)).Mod(s, n)
	one, err := rand.Int(rand.Reader, n)
	if err != nil {
		t.Fatal(err)
	}
	parts := []partial.Partial{{R: point}, {R: point}}
	one.FillBytes(parts[0].S[:])
	s.Sub(s, one).Mod(s, n).FillBytes(parts[1].S[:])
	sig, err := partial.Combine(digest, [33]byte(w.key.PubKey().SerializeCompressed()), 2, parts)
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

// scenario takes intents all the way through a chain, as coordinator and signers do
// together, and reads their effect back: a payment, a token payment and a cancel.
func scenario(t *testing.T, ctx context.Context, url string, client *rpc.Client, w wallet) {
	contract, err := token.Deploy(ctx, url, w.key.ToECDSA(), "Test Dollar", "TUSD", 6, big.NewInt(1_000_000_000))
	if err != nil {
		t.Fatal(err)
	}
	rules := &charter.Charter{
		Chains: []charter.Chain{{Name: "dev", Kind: "evm", ChainID: client.ChainID()}},
		Assets: []charter.Asset{{Symbol: "ETH", Chain: "dev", Decimals: 18}, {Symbol: "TUSD", Chain: "dev", Contract: contract.String(), Decimals: 6}},
	}
	payee := evm.Address{0: 0xbe, 19: 0xef}
	carryOut := func(i *intent.Intent) *rpc.Receipt {
		t.Helper()
		i.Cluster, i.Charter = canon.Sum([]byte("cluster")), canon.Sum([]byte("charter"))
		i.Wallet, i.Chain, i.Account, i.FeeCap = "treasury", "dev", w.address.String(), big.NewInt(1e16)
		i.NotBefore, i.Expires, i.Initiator, i.Reference = 1_700_000_000, 1_700_003_600, "alice", "INV-7"
		var err error
		if i.Nonce, err = client.Nonce(ctx, w.address); err != nil {
			t.Fatal(err)
		}
		effect, err := evm.EffectOf(i, rules)
		if err != nil {
			t.Fatal(err)
		}
		fees, err := client.Fees(ctx)
		if err != nil {
			t.Fatal(err)
		}
		estimate, err := client.EstimateGas(ctx, w.address, effect.To, effect.Value, effect.Data)
		if err != nil {
			t.Fatal(err)
		}
		fees.Gas = effect.Gas(estimate)
		built, err := evm.Build(i, rules, fees)
		if err != nil {
			t.Fatal(err)
		}
		// What a signer does with the bytes that it is sent.
		u, err := evm.Decode(built.Encode())
		if err != nil {
			t.Fatal(err)
		}
		if wrong := evm.Compare(i, rules, w.address, u); len(wrong) > 0 {
			t.Fatal(wrong)
		}
		raw, hash, err := u.Assemble(w.combine(t, u))
		if err != nil {
			t.Fatal(err)
		}
		if from, back, err := evm.Recover(raw); err != nil || from != w.address || !bytes.Equal(back.Encode(), u.Encode()) {
			t.Fatalf("recovered %s, %v", from, err)
		}
		if got, err := client.Broadcast(ctx, raw); err != nil || got != hash {
			t.Fatalf("broadcast %x, %v", got, err)
		}
		receipt, err := devchain.Mined(ctx, client, hash)
		if err != nil {
			t.Fatal(err)
		}
		if !receipt.Succeeded || receipt.GasUsed > u.Gas || receipt.Fee.Cmp(u.MaxFee()) > 0 {
			t.Fatalf("receipt %+v of %+v", receipt, u)
		}
		if next, err := client.Nonce(ctx, w.address); err != nil || next != i.Nonce+1 {
			t.Fatalf("nonce %d after %d, %v", next, i.Nonce, err)
		}
		return receipt
	}

	carryOut(&intent.Intent{Kind: intent.Transfer, Transfer: &intent.TransferBody{Asset: "ETH", To: payee.String(), Amount: ether}})
	if got, err := client.Balance(ctx, payee); err != nil || got.Cmp(ether) != 0 {
		t.Fatalf("payee has %s wei, %v", got, err)
	}
	carryOut(&intent.Intent{Kind: intent.Transfer, Transfer: &intent.TransferBody{Asset: "TUSD", To: payee.String(), Amount: big.NewInt(2_500_000)}})
	if got, err := client.TokenBalance(ctx, contract, payee); err != nil || got.Int64() != 2_500_000 {
		t.Fatalf("payee has %s tokens, %v", got, err)
	}
	before, err := client.Balance(ctx, w.address)
	if err != nil {
		t.Fatal(err)
	}
	receipt := carryOut(&intent.Intent{Kind: intent.Cancel, Cancel: &intent.CancelBody{Subject: canon.Sum([]byte("subject"))}})
	after, err := client.Balance(ctx, w.address)
	if err != nil || before.Sub(before, receipt.Fee).Cmp(after) != 0 {
		t.Fatalf("the cancel moved more than its fee: %s left, want %s, %v", after, before, err)
	}
}

func TestScenario(t *testing.T) {
	w := newWallet(t)
	ctx, url, client := chain(t, w)
	scenario(t, ctx, url, client, w)
}
