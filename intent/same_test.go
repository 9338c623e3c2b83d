package intent_test

import (
	"math/big"
	"testing"

	"coffer/canon"
	"coffer/intent"
)

func TestSameRequest(t *testing.T) {
	transfer := func(edit func(*intent.Intent)) *intent.Intent {
		i := &intent.Intent{Kind: intent.Transfer, Wallet: "treasury", Chain: "dev", Nonce: 1, Transfer: &intent.TransferBody{Asset: "ETH", To: "0x1", Amount: big.NewInt(5)}}
		edit(i)
		return i
	}
	first := transfer(func(*intent.Intent) {})
	same := transfer(func(i *intent.Intent) { i.Nonce, i.Expires, i.Salt[0], i.FeeCap = 9, 9, 9, big.NewInt(9) })
	if !intent.SameRequest(first, same) {
		t.Error("nonce, time, salt and fee make another request")
	}
	for name, other := range map[string]*intent.Intent{
		"wallet": transfer(func(i *intent.Intent) { i.Wallet = "other" }),
		"path":   transfer(func(i *intent.Intent) { i.Path = "m/1" }),
		"chain":  transfer(func(i *intent.Intent) { i.Chain = "other" }),
		"asset":  transfer(func(i *intent.Intent) { i.Transfer.Asset = "USDC" }),
		"to":     transfer(func(i *intent.Intent) { i.Transfer.To = "0x2" }),
		"amount": transfer(func(i *intent.Intent) { i.Transfer.Amount = big.NewInt(6) }),
		"kind":   {Kind: intent.CreateWallet, Wallet: "treasury", Chain: "dev"},
	} {
		if intent.SameRequest(first, other) {
			t.Errorf("another %s is the same request", name)
		}
	}
	cancel := func(of string) *intent.Intent {
		return &intent.Intent{Kind: intent.Cancel, Cancel: &intent.CancelBody{Subject: canon.Sum([]byte(of))}}
	}
	if !intent.SameRequest(cancel("a"), cancel("a")) || intent.SameRequest(cancel("a"), cancel("b")) {
		t.Error("cancels are not told apart by their subjects")
	}
}
