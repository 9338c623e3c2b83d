package gate_test

import (
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"

	"coffer/approval"
	"coffer/authority"
	"coffer/canon"
	"coffer/chain/evm"
	"coffer/charter"
	"coffer/credential"
	"coffer/gate"
	"coffer/intent"
	"coffer/internal/testcharter"
	"coffer/party"
	"coffer/policy"
	"coffer/verdict"
)

// attack is one alteration of an honest request.
type attack struct {
	name  string
	of    func(testing.TB, ...func(*charter.Charter)) *scene // payment when nil
	alter func(*scene)
	waits bool // it may be permitted later
}

func without(make func(testing.TB) *scene) func(testing.TB, ...func(*charter.Charter)) *scene {
	return func(t testing.TB, _ ...func(*charter.Charter)) *scene { return make(t) }
}

var (
	token  = without(tokenPayment)
	cancel = without(cancelling)
	create = without(ceremony)
	other  = canon.Sum([]byte("another intent"))
)

// input alters the finished input: what nobody signs, or what was signed before.
func input(edit func(*gate.Input)) func(*scene) {
	return func(s *scene) { s.in = edit }
}

// asked alters what is asked, signed and approved honestly afterwards.
func asked(edit func(*scene, *intent.Intent)) func(*scene) {
	return func(s *scene) { edit(s, s.intent) }
}

// transaction alters the transaction only.
func transaction(edit func(*evm.Unsigned)) func(*scene) {
	return func(s *scene) { s.unsigned = edit }
}

// attacks has at least one for every check of the table.
var attacks = map[string][]attack{
	"G-SELF": {
		{name: "no charter", alter: input(func(in *gate.Input) { in.Charter = nil })},
		{name: "a signer that the charter does not list", alter: input(func(in *gate.Input) { in.Self = "east" })},
	},
	"G-CLOCK": {
		{name: "turned back an hour", alter: input(func(in *gate.Input) { in.Journal.LastTime = now + 3600 })},
		{name: "no time", alter: input(func(in *gate.Input) { in.Now, in.Journal.LastTime = -1, 0 })},
	},
	"G-INTENT-FORM": {
		{name: "empty", alter: input(func(in *gate.Input) { in.Intent.Raw = nil })},
		{name: "a byte too many", alter: input(func(in *gate.Input) { in.Intent.Raw = append(slices.Clone(in.Intent.Raw), 0) })},
		{name: "cut short", alter: input(func(in *gate.Input) { in.Intent.Raw = in.Intent.Raw[:len(in.Intent.Raw)-1] })},
	},
	"G-CLUSTER": {
		{name: "of another cluster", alter: asked(func(_ *scene, i *intent.Intent) { i.Cluster = other })},
	},
	"G-CHARTER": {
		{name: "under a charter that was never in force", alter: asked(func(s *scene, i *intent.Intent) {
			i.Charter = other
			s.in = func(in *gate.Input) { in.Made = nil }
		})},
		{name: "under another than it is judged by", alter: asked(func(_ *scene, i *intent.Intent) { i.Charter = other })},
		{name: "judged by no charter", alter: input(func(in *gate.Input) { in.Made = nil })},
		{name: "under one that is not in force yet", waits: true, alter: asked(func(s *scene, i *intent.Intent) {
			i.Charter = other
			s.in = func(in *gate.Input) { in.Made, in.Pending = nil, []canon.Digest{other} }
		})},
		{name: "under a version that is newer than the one in force", waits: true, alter: func(s *scene) {
			newer := testcharter.New(s.t).Charter
			newer.Version++
			s.intent.Charter = newer.Digest()
			s.in = func(in *gate.Input) { in.Made = newer }
		}},
	},
	"G-ENROLLED": {
		{name: "the initiator was removed since", alter: since(func(c *charter.Charter) { c.People[3].Name = "erin" })},
		{name: "the initiator's key was replaced since", alter: since(func(c *charter.Charter) {
			c.People[3].Keys = []credential.Key{c.People[2].Keys[1]}
			c.People[2].Keys = c.People[2].Keys[:1]
		})},
		{name: "a service was removed since", alter: func(s *scene) {
			s.intent.Initiator = "payroll"
			since(func(c *charter.Charter) { c.Services = nil })(s)
		}},
		{name: "a wallet's, removed since", of: create, alter: since(func(c *charter.Charter) { c.People[3].Name = "erin" })},
	},
	"G-FROZEN-CLUSTER": {
		{name: "a payment", waits: true, alter: input(func(in *gate.Input) { in.Frozen.Cluster = []canon.Digest{other} })},
		{name: "a wallet to be made", of: create, waits: true, alter: input(func(in *gate.Input) { in.Frozen.Cluster = []canon.Digest{other} })},
	},
	"G-FROZEN-WALLET": {
		{name: "a payment from it", waits: true, alter: input(func(in *gate.Input) {
			in.Frozen.Wallets = map[string][]canon.Digest{testcharter.Wallet: {other}}
		})},
		{name: "one to be made", of: create, waits: true, alter: input(func(in *gate.Input) {
			in.Frozen.Wallets = map[string][]canon.Digest{"reserve": {other}}
		})},
	},
	"G-FROZEN-PERSON": {
		{name: "who asks for a payment", waits: true, alter: frozenPerson("dave")},
		{name: "who asks for a cancel", of: cancel, waits: true, alter: frozenPerson("dave")},
		{name: "who asks for a wallet", of: create, waits: true, alter: frozenPerson("dave")},
	},
	"G-FRESH": {
		{name: "nobody was heard", waits: true, alter: input(func(in *gate.Input) { in.Heads = nil })},
		{name: "heard too long ago", waits: true, alter: heard(func(h *authority.Seen) { h.Age = 60*time.Second + 1 })},
		{name: "heard in the time to come", waits: true, alter: heard(func(h *authority.Seen) { h.Age = -1 })},
		{name: "who is heard goes by another charter", waits: true, alter: heard(func(h *authority.Seen) { h.Head.Charter = other })},
		{name: "by other freezes", waits: true, alter: heard(func(h *authority.Seen) { h.Head.Freezes = other })},
		{name: "by other lists", waits: true, alter: heard(func(h *authority.Seen) { h.Head.Lists = other })},
		{name: "is of another cluster", waits: true, alter: heard(func(h *authority.Seen) { h.Head.Cluster = other })},
		{name: "is this signer itself", waits: true, alter: heard(func(h *authority.Seen) { h.Head.Signer = "north" })},
		{name: "is nobody of the charter", waits: true, alter: heard(func(h *authority.Seen) { h.Head.Signer = "east" })},
		{name: "two are asked for and one is heard twice", waits: true, alter: func(s *scene) {
			since(func(c *charter.Charter) { c.Freshness = &charter.Freshness{Heads: 2, Within: "30s"} })(s)
			s.in = func(in *gate.Input) { in.Heads = append(in.Heads, in.Heads[0]) }
		}},
		{name: "within a shorter time than the default", waits: true, alter: func(s *scene) {
			since(func(c *charter.Charter) { c.Freshness = &charter.Freshness{Heads: 1, Within: "30s"} })(s)
			s.in = func(in *gate.Input) { in.Heads[0].Age = 31 * time.Second }
		}},
		{name: "this signer stands at another charter than it judges by", waits: true, alter: input(func(in *gate.Input) {
			in.Here.Charter, in.Heads[0].Head.Charter = other, other
		})},
		{name: "a cancel", of: cancel, waits: true, alter: input(func(in *gate.Input) { in.Heads = nil })},
		{name: "a wallet to be made", of: create, waits: true, alter: input(func(in *gate.Input) { in.Heads = nil })},
	},
	"G-ASSET-SAME": {
		{name: "the token's contract is another", of: token, alter: since(func(c *charter.Charter) { c.Assets[1].Contract = testcharter.Stranger })},
		{name: "the token's unit is another", of: token, alter: since(func(c *charter.Charter) { c.Assets[1].Decimals = 18 })},
		{name: "the token is gone", of: token, alter: since(func(c *charter.Charter) {
			c.Assets = c.Assets[:1]
			c.Rules[0].MaxAmount = c.Rules[0].MaxAmount[:1]
		})},
		{name: "the coin's unit is another", alter: since(func(c *charter.Charter) { c.Assets[0].Decimals = 8 })},
		{name: "the chain is another", alter: since(func(c *charter.Charter) { c.Chains[0].ChainID = 31337 })},
		{name: "a cancel on another chain", of: cancel, alter: since(func(c *charter.Charter) { c.Chains[0].ChainID = 31337 })},
	},
	"G-INITIATOR": {
		{name: "one bit of a signed amount", alter: input(func(in *gate.Input) {
			in.Intent.Raw = slices.Clone(in.Intent.Raw)
			in.Intent.Raw[len(in.Intent.Raw)-1] ^= 1 // the salt: every reading of it is well formed
		})},
		{name: "signed by another enrolled person", alter: func(s *scene) {
			forged, err := intent.Sign(s.intent, s.f.People["alice"])
			if err != nil {
				s.t.Fatal(err)
			}
			s.in = func(in *gate.Input) { in.Intent = forged }
		}},
		{name: "signed by nobody's key", alter: func(s *scene) {
			forged, err := intent.Sign(s.intent, testcharter.SSH(s.t, "mallory"))
			if err != nil {
				s.t.Fatal(err)
			}
			s.in = func(in *gate.Input) { in.Intent = forged }
		}},
		{name: "not signed", alter: input(func(in *gate.Input) { in.Intent.Signature = nil })},
		{name: "a signature for another purpose", alter: func(s *scene) {
			digest := s.intent.Digest()
			sig, err := s.f.People["dave"].Sign(approval.Namespace, digest[:])
			if err != nil {
				s.t.Fatal(err)
			}
			s.in = func(in *gate.Input) { in.Intent.Signature = sig }
		}},
	},
	"G-KIND": {
		{name: "a ceremony's intent for a transaction", alter: func(s *scene) {
			made := ceremony(s.t).input()
			s.in = func(in *gate.Input) { in.Intent, in.Statements = made.Intent, made.Statements }
		}},
	},
	"G-CEREMONY-KIND": {
		{name: "a payment's intent for a ceremony", of: create, alter: func(s *scene) {
			paid := payment(s.t).input()
			s.in = func(in *gate.Input) { in.Intent, in.Statements = paid.Intent, paid.Statements }
		}},
	},
	"G-TIME-NOT-BEFORE": {
		{name: "a second too early", waits: true, alter: asked(func(_ *scene, i *intent.Intent) { i.NotBefore = now + 1 })},
	},
	"G-TIME-EXPIRED": {
		{name: "at its expiry", alter: asked(func(_ *scene, i *intent.Intent) { i.Expires = now })},
		{name: "by the journal's time, the clock being turned back", alter: func(s *scene) {
			s.intent.Expires = now + 60
			s.in = func(in *gate.Input) { in.Journal.LastTime = now + 61 }
		}},
	},
	"G-LIFETIME": {
		{name: "one that begins late to last long", alter: asked(func(_ *scene, i *intent.Intent) {
			i.NotBefore, i.Expires = now+intent.MaxLifetime, now+2*intent.MaxLifetime
		})},
	},
	"G-WALLET": {
		{name: "no share", alter: input(func(in *gate.Input) { in.Wallet = nil })},
		{name: "another wallet's record", alter: input(func(in *gate.Input) { in.Wallet.Name = "savings" })},
		{name: "a record of another cluster", alter: input(func(in *gate.Input) { in.Wallet.Cluster = other })},
	},
	"G-QUORUM": {
		{name: "a quorum that two halves could meet", alter: input(func(in *gate.Input) { in.Wallet.Quorum = party.Quorum{Need: 1, Of: 3} })},
		{name: "fewer signers than the quorum says", alter: input(func(in *gate.Input) { in.Wallet.Signers = in.Wallet.Signers[:2] })},
		{name: "a record of others", alter: input(func(in *gate.Input) { in.Wallet.Signers = party.Set{"east", "south", "west"} })},
		{name: "this one of its signers is left", alter: input(func(in *gate.Input) { in.Wallet.Signers = party.Set{"east", "north", "zenith"} })},
	},
	"G-PATH": {
		{name: "a rule that this version does not know", alter: input(func(in *gate.Input) { in.Wallet.Paths = "m/0" })},
	},
	"G-CHAIN": {
		{name: "not in the charter", alter: func(s *scene) {
			honest := s.input()
			s.intent.Chain = "moon"
			signed, said := s.f.Sign(s.t, s.intent), s.f.Approve(s.t, s.intent, now, s.approvers...)
			s.intent.Chain = testcharter.Chain
			s.in = func(in *gate.Input) { in.Intent, in.Statements, in.Unsigned = signed, said, honest.Unsigned }
		}},
	},
	"G-NETWORK": {
		{name: "a public main network", alter: func(s *scene) {
			*s = *payment(s.t, func(c *charter.Charter) { c.Chains[0].ChainID = 1 })
		}},
		{name: "a network that nobody knows", alter: func(s *scene) {
			*s = *payment(s.t, func(c *charter.Charter) { c.Chains[0].ChainID = 987_654_321 })
		}},
	},
	"G-ACCOUNT": {
		{name: "another wallet's account", alter: asked(func(_ *scene, i *intent.Intent) { i.Account = testcharter.Account("savings") })},
		{name: "a record with another key", alter: func(s *scene) {
			theirs, _ := s.f.Wallet("savings")
			s.in = func(in *gate.Input) { in.Wallet.PublicKey = theirs.PublicKey }
		}},
		{name: "a record whose key is no point", alter: input(func(in *gate.Input) { in.Wallet.PublicKey = [33]byte{} })},
	},
	"G-WALLET-NEW": {
		{name: "a name that is taken", of: create, alter: func(s *scene) {
			there, _ := s.f.Wallet("reserve")
			s.in = func(in *gate.Input) { in.Wallet = there }
		}},
	},
	"G-CEREMONY-QUORUM": {
		{name: "fewer signers than the charter has", of: create, alter: asked(func(_ *scene, i *intent.Intent) {
			i.CreateWallet = &intent.CreateWalletBody{Quorum: party.Quorum{Need: 2, Of: 2}, Signers: party.Set{"north", "south"}}
		})},
		{name: "a signer that the charter does not list", of: create, alter: asked(func(_ *scene, i *intent.Intent) {
			i.CreateWallet.Signers = party.Set{"east", "north", "south"}
		})},
		{name: "without this signer", of: create, alter: asked(func(_ *scene, i *intent.Intent) {
			i.CreateWallet = &intent.CreateWalletBody{Quorum: party.Quorum{Need: 2, Of: 2}, Signers: party.Set{"south", "west"}}
		})},
		{name: "all needed where the charter says two", of: create, alter: asked(func(_ *scene, i *intent.Intent) { i.CreateWallet.Quorum.Need = 3 })},
	},
	"G-REFERENCE": {
		{name: "paid before", alter: input(func(in *gate.Input) { in.Journal.Reference = &other })},
	},
	"G-SLOT": {
		{name: "reserved for another intent", alter: held(gate.HolderReserved, now+3600)},
		{name: "reserved for one that expires this second by the journal only", alter: held(gate.HolderReserved, now+1)},
		{name: "signed for another intent, expired", alter: held("signed", now-3600)},
		{name: "released for another intent, expired", alter: held("released", now-3600)},
		{name: "in a state that this version does not know", alter: held("", now-3600)},
		{name: "the cancel of a third intent", of: cancel, alter: held("signed", now+3600)},
	},
	"G-STATEMENTS": {
		{name: "more than are read", alter: input(func(in *gate.Input) {
			in.Statements = append(in.Statements, make([]approval.Signed, approval.MaxStatements)...)
		})},
	},
	"G-REJECTED": {
		{name: "by an approver", alter: said("carol", approval.Reject)},
		{name: "by the initiator", alter: said("dave", approval.Reject)},
		{name: "by a veto", of: guarded, alter: said("erin", approval.Veto)},
		{name: "by somebody who may veto", of: guarded, alter: said("erin", approval.Reject)},
		{name: "a wallet", of: create, alter: said("carol", approval.Reject)},
		{name: "by one who is frozen", alter: func(s *scene) {
			said("carol", approval.Reject)(s)
			no := s.in
			s.in = func(in *gate.Input) { no(in); in.Frozen.People = map[string][]canon.Digest{"carol": {other}} }
		}},
	},
	"G-POLICY": {
		{name: "above the limit", alter: asked(func(_ *scene, i *intent.Intent) { i.Transfer.Amount.Mul(i.Transfer.Amount, big.NewInt(2)) })},
		{name: "a destination on no list", alter: asked(func(_ *scene, i *intent.Intent) { i.Transfer.To = testcharter.Stranger })},
		{name: "a fee cap above the rule's", alter: asked(func(_ *scene, i *intent.Intent) { i.FeeCap.Mul(i.FeeCap, big.NewInt(3)) })},
		{name: "a denying rule beside one that permits", of: create, alter: asked(func(_ *scene, i *intent.Intent) { i.Initiator = "payroll" })},
		{name: "no rule at all", alter: func(s *scene) {
			*s = *payment(s.t, func(c *charter.Charter) {
				c.Rules = slices.DeleteFunc(c.Rules, func(r policy.Rule) bool { return r.Name == "payments" })
			})
		}},
	},
	"G-APPROVALS": {
		{name: "none", waits: true, alter: func(s *scene) { s.approvers = nil }},
		{name: "one of two", waits: true, alter: func(s *scene) { s.approvers = []string{"alice"} }},
		{name: "the same person twice", waits: true, alter: func(s *scene) { s.approvers = []string{"alice", "alice"} }},
		{name: "the initiator's own", waits: true, alter: func(s *scene) { s.intent.Initiator, s.approvers = "alice", []string{"alice", "bob"} }},
		{name: "somebody outside the group", waits: true, alter: func(s *scene) {
			s.intent.Initiator, s.approvers = "payroll", []string{"alice", "dave"}
		}},
		{name: "of another intent", waits: true, alter: func(s *scene) {
			another := *s.intent
			another.Reference = "INV-8"
			theirs := s.f.Approve(s.t, &another, now, s.approvers...)
			s.in = func(in *gate.Input) { in.Statements = theirs }
		}},
		{name: "expired", waits: true, alter: first(func(st *approval.Statement) { st.Issued, st.Expires = now-20, now })},
		{name: "issued in an hour", waits: true, alter: first(func(st *approval.Statement) { st.Issued, st.Expires = now+3600, now+7200 })},
		{name: "of another cluster", waits: true, alter: first(func(st *approval.Statement) { st.Cluster = other })},
		{name: "a forged signature", waits: true, alter: input(func(in *gate.Input) { in.Statements[0].Signature = in.Statements[1].Signature })},
		{name: "withdrawn", waits: true, alter: said("alice", approval.Withdraw)},
		{name: "a wallet with one", of: create, waits: true, alter: func(s *scene) { s.approvers = []string{"bob"} }},
		{name: "a cancel with none", of: cancel, waits: true, alter: func(s *scene) { s.approvers = nil }},
	},
	"G-TX-DECODE": {
		{name: "empty", alter: input(func(in *gate.Input) { in.Unsigned = nil })},
		{name: "a byte too many", alter: input(func(in *gate.Input) { in.Unsigned = append(in.Unsigned, 0) })},
		{name: "of another type", alter: input(func(in *gate.Input) { in.Unsigned[0] = 1 })},
		{name: "a tip above the fee cap", alter: transaction(func(u *evm.Unsigned) { u.TipCap = gwei(31) })},
		{name: "a digest instead of a transaction", alter: input(func(in *gate.Input) { in.Unsigned = sessionID[:] })},
	},
	"G-TX-MATCH": {
		{name: "another destination", alter: transaction(func(u *evm.Unsigned) { u.To[19] ^= 1 })},
		{name: "one wei more", alter: transaction(func(u *evm.Unsigned) { u.Value.Add(u.Value, big.NewInt(1)) })},
		{name: "another chain", alter: transaction(func(u *evm.Unsigned) { u.ChainID = 31337 })},
		{name: "the next nonce", alter: transaction(func(u *evm.Unsigned) { u.Nonce++ })},
		{name: "calldata in a plain payment", alter: transaction(func(u *evm.Unsigned) { u.Data = []byte{1} })},
		{name: "token: another recipient", of: token, alter: transaction(func(u *evm.Unsigned) { u.Data[35] ^= 1 })},
		{name: "token: dirty bytes before the recipient", of: token, alter: transaction(func(u *evm.Unsigned) { u.Data[4] = 1 })},
		{name: "token: another amount", of: token, alter: transaction(func(u *evm.Unsigned) { u.Data[67]++ })},
		{name: "token: approve instead of transfer", of: token, alter: transaction(func(u *evm.Unsigned) { copy(u.Data, []byte{0x09, 0x5e, 0xa7, 0xb3}) })},
		{name: "token: a hidden tail", of: token, alter: transaction(func(u *evm.Unsigned) { u.Data = append(u.Data, 0) })},
		{name: "token: coins along with it", of: token, alter: transaction(func(u *evm.Unsigned) { u.Value = big.NewInt(1) })},
		{name: "token: another contract", of: token, alter: transaction(func(u *evm.Unsigned) { u.To[0] ^= 1 })},
		{name: "cancel: that pays", of: cancel, alter: transaction(func(u *evm.Unsigned) { u.Value = big.NewInt(1) })},
		{name: "cancel: to somebody", of: cancel, alter: transaction(func(u *evm.Unsigned) { u.To[0] ^= 1 })},
	},
	"G-FEE": {
		{name: "a fee cap above the intent's", alter: transaction(func(u *evm.Unsigned) { u.FeeCap = gwei(1_000_000) })},
		{name: "gas that makes the fee exceed the cap", alter: transaction(func(u *evm.Unsigned) { u.Gas = 10_000_000 })},
		{name: "more gas than any payment uses, at a low price", alter: transaction(func(u *evm.Unsigned) { u.Gas, u.FeeCap, u.TipCap = 200_000, gwei(1), gwei(1) })},
	},
	"G-SESSION": {
		{name: "none", alter: input(func(in *gate.Input) { in.Session = canon.Digest{} })},
	},
}

func frozenPerson(name string) func(*scene) {
	return input(func(in *gate.Input) { in.Frozen.People = map[string][]canon.Digest{name: {other}} })
}

func heard(edit func(*authority.Seen)) func(*scene) {
	return input(func(in *gate.Input) { edit(&in.Heads[0]) })
}

func held(state string, expires int64) func(*scene) {
	return input(func(in *gate.Input) {
		in.Journal.Slot = &gate.Holder{Intent: other, State: state, Expires: expires}
		in.Journal.LastTime = now + 2
	})
}

func said(person string, kind approval.Kind) func(*scene) {
	return func(s *scene) {
		word := s.f.State(s.t, person, kind, s.intent, now)
		s.in = func(in *gate.Input) { in.Statements = append(in.Statements, word) }
	}
}

func first(edit func(*approval.Statement)) func(*scene) {
	return func(s *scene) {
		word := s.statement(edit)
		s.in = func(in *gate.Input) { in.Statements[0] = word }
	}
}

// TestCheck: an honest request passes; with one alteration it is refused, by
// exactly the check that the case is filed under and by no other.
func TestCheck(t *testing.T) {
	for _, row := range gate.Rows() {
		t.Run(row.ID, func(t *testing.T) {
			if row.ID == "G-DIGEST" {
				testDigest(t)
				return
			}
			if len(attacks[row.ID]) == 0 {
				t.Fatal("no attack tests this check")
			}
			for _, a := range attacks[row.ID] {
				t.Run(a.name, func(t *testing.T) { try(t, row, a) })
			}
		})
	}
	for id := range attacks {
		if !slices.ContainsFunc(gate.Rows(), func(r gate.Row) bool { return r.ID == id }) {
			t.Errorf("attacks are filed under %s, which is no check", id)
		}
	}
}

func try(t *testing.T, row gate.Row, a attack) {
	of := a.of
	if of == nil {
		of = payment
	}
	s := of(t)
	asCeremony := s.intent.Kind == intent.CreateWallet
	if ok, v := ask(s.input(), asCeremony); !ok {
		t.Fatalf("the honest request is refused: %+v", v)
	}
	a.alter(s)
	in := s.input()
	ok, v := ask(in, asCeremony)
	if ok {
		t.Fatal("it is permitted")
	}
	want := verdict.Refuse
	if a.waits {
		want = verdict.Wait
	}
	if v.Outcome != want || len(v.Reasons) == 0 {
		t.Fatalf("outcome %q with reasons %v, want %q", v.Outcome, v.Reasons, want)
	}
	last := v.Reasons[len(v.Reasons)-1]
	if last.Check != row.ID {
		t.Fatalf("stopped by %v, want %s", v.Reasons, row.ID)
	}
	for _, r := range v.Reasons {
		if r.Check != row.ID && !(row.ID == "G-LIFETIME" && r.Check == "G-TIME-NOT-BEFORE") {
			t.Errorf("%s stands in the way as well: %+v", r.Check, r)
		}
		if r.Text == "" || r.Code == "" || strings.Contains(r.Text, "%!") {
			t.Errorf("reason %+v does not say why", r)
		}
	}
	if err := v.Validate(); err != nil {
		t.Errorf("the verdict cannot be signed: %v", err)
	}
	if row.When != "release" && row.ID != "G-KIND" && row.ID != "G-CEREMONY-KIND" && row.ID != "G-TX-DECODE" {
		if j := gate.Judge(in); j.Outcome != v.Outcome || len(j.Reasons) != len(v.Reasons) {
			t.Errorf("Judge says %q %v, the decision is %q %v", j.Outcome, j.Reasons, v.Outcome, v.Reasons)
		}
	}
}

// No transaction with such a digest is known, so the digest is put in its place.
func testDigest(t *testing.T) {
	in := payment(t).input()
	honest, _ := gate.Check(in)
	if v := gate.CheckWithDigest(in, honest.SigningDigest()); v.Outcome != verdict.Sign {
		t.Fatalf("the honest request is refused: %+v", v)
	}
	order := secp256k1.Params().N
	for name, d := range map[string]*big.Int{"zero": new(big.Int), "the order": order, "above it": new(big.Int).Add(order, big.NewInt(1))} {
		var raw [32]byte
		d.FillBytes(raw[:])
		if v := gate.CheckWithDigest(in, raw); v.Outcome != verdict.Refuse || v.Reasons[0].Check != "G-DIGEST" {
			t.Errorf("%s: %+v", name, v)
		}
	}
	var below [32]byte
	new(big.Int).Sub(order, big.NewInt(1)).FillBytes(below[:])
	if v := gate.CheckWithDigest(in, below); v.Outcome != verdict.Sign {
		t.Errorf("one below the order is refused: %+v", v)
	}
}
