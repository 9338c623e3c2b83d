package node_test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"coffer/approval"
	"coffer/canon"
	"coffer/chain/evm"
	"coffer/credential"
	"coffer/intent"
	"coffer/internal/cluster"
	"coffer/internal/testcharter"
	"coffer/party"
	pb "coffer/proto/coffer/v1"
)

// attack is what a hostile coordinator has to work with: what honest people signed,
// the charter's coordinator key, and the protocol.
type attack struct {
	*world
	t *testing.T
}

// request is an honest one to a and c, that a case alters.
func (a attack) request() *pb.SignRequest { return a.payment().request(cluster.Attempt(), "a", "c") }

// with is an honest request but for the intent, which people asked for and approved.
func (a attack) with(edit func(*intent.Intent)) *pb.SignRequest {
	a.t.Helper()
	a.nonce++
	i := a.Payment(a.record, fmt.Sprintf("INV-%d", a.nonce), a.nonce, 15)
	unsigned := a.Unsigned(a.Cluster.Sign("alice", i)) // before the edit: there may be no transaction after it
	edit(i)
	return a.resign(i, unsigned, a.People["alice"])
}

// resign signs an intent as it stands, with whatever key.
func (a attack) resign(i *intent.Intent, unsigned *evm.Unsigned, key credential.Signer) *pb.SignRequest {
	a.t.Helper()
	signed, err := intent.Sign(i, key)
	if err != nil {
		a.t.Fatal(err)
	}
	return order{signed, a.Approvals(signed), unsigned}.request(cluster.Attempt(), "a", "c")
}

// transaction is an honest request but for the transaction.
func (a attack) transaction(edit func(*evm.Unsigned)) *pb.SignRequest {
	o := a.payment()
	edit(o.unsigned)
	return o.request(cluster.Attempt(), "a", "c")
}

// statement is an honest request but for carol's statement.
func (a attack) statement(edit func(*approval.Statement), key string) *pb.SignRequest {
	a.t.Helper()
	r := a.request()
	s := &approval.Statement{
		Cluster: a.Charter.Cluster, Kind: approval.Approve, Subject: canon.Sum(r.Intent.Raw), Person: "carol",
		Issued: time.Now().Unix(), Expires: time.Now().Unix() + 3600,
	}
	if _, err := rand.Read(s.Nonce[:]); err != nil {
		a.t.Fatal(err)
	}
	edit(s)
	signed, err := approval.Sign(s, a.People[key])
	if err != nil {
		a.t.Fatal(err)
	}
	r.Statements[1] = signed.ToProto()
	return r
}

// A coordinator that has been taken over, written against proto alone, gets no
// partial for anything but what people asked for and approved.
func TestHostile(t *testing.T) {
	w := newWorld(t, cluster.Config{})
	w.People["mallory"] = testcharter.SSH(t, "mallory")
	// What honest people asked for and two signers signed before.
	done := w.payment()
	doneAttempt := cluster.Attempt()
	w.combine(done, w.Session(t.Context(), []party.ID{"a", "c"}, func(party.ID) *pb.SignRequest { return done.request(doneAttempt, "a", "c") }))
	parsed := func(o order) *intent.Intent {
		i, err := intent.Parse(o.intent.Raw)
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	ether := func(n int64) *big.Int { return new(big.Int).Mul(big.NewInt(n), big.NewInt(1e18)) }
	other := evm.Address{0xba, 0xd0}

	type both = func(attack) *pb.SignRequest // the same request to a and to c
	type split = func(attack) map[party.ID]*pb.SignRequest
	cases := []struct {
		name, want string // want lists what may refuse, at least one signer by the first
		ask        any
	}{
		// Approvals.
		{"no approvals", "G-APPROVALS", func(a attack) *pb.SignRequest { r := a.request(); r.Statements = nil; return r }},
		{"one approval", "G-APPROVALS", func(a attack) *pb.SignRequest { r := a.request(); r.Statements = r.Statements[:1]; return r }},
		{"one person's approval twice", "G-APPROVALS", func(a attack) *pb.SignRequest {
			r := a.request()
			r.Statements[1] = a.State("bob", approval.Approve, canon.Sum(r.Intent.Raw)).ToProto()
			return r
		}},
		{"approvals of another intent", "G-APPROVALS", func(a attack) *pb.SignRequest { r := a.request(); r.Statements = a.payment().statements; return r }},
		{"approvals of a wallet for a payment", "G-APPROVALS", func(a attack) *pb.SignRequest {
			r := a.request()
			r.Statements = a.Approvals(a.CreateWallet("OTHER"))
			return r
		}},
		{"approval by the initiator", "G-APPROVALS", func(a attack) *pb.SignRequest {
			a.nonce++
			signed := a.Cluster.Sign("bob", a.Payment(a.record, fmt.Sprintf("INV-%d", a.nonce), a.nonce, 15))
			return order{signed, a.Approvals(signed), a.Unsigned(signed)}.request(cluster.Attempt(), "a", "c")
		}},
		{"approval outside the group", "G-APPROVALS", func(a attack) *pb.SignRequest {
			a.nonce++
			signed := a.Cluster.Sign("carol", a.Payment(a.record, fmt.Sprintf("INV-%d", a.nonce), a.nonce, 15))
			o := order{signed, a.Approvals(signed), a.Unsigned(signed)}
			o.statements[1] = a.State("alice", approval.Approve, canon.Sum(signed.Raw)).ToProto()
			return o.request(cluster.Attempt(), "a", "c")
		}},
		{"approval with a forged signature", "G-APPROVALS", func(a attack) *pb.SignRequest {
			r := a.request()
			r.Statements[1].Signature = bytes.Clone(r.Statements[0].Signature)
			return r
		}},
		{"approval in another's name", "G-APPROVALS", func(a attack) *pb.SignRequest { return a.statement(func(*approval.Statement) {}, "bob") }},
		{"approval by a key that nobody enrolled", "G-APPROVALS", func(a attack) *pb.SignRequest { return a.statement(func(*approval.Statement) {}, "mallory") }},
		{"approval by nobody", "G-APPROVALS", func(a attack) *pb.SignRequest {
			return a.statement(func(s *approval.Statement) { s.Person = "mallory" }, "mallory")
		}},
		{"approval that expired", "G-APPROVALS", func(a attack) *pb.SignRequest {
			return a.statement(func(s *approval.Statement) { s.Issued -= 7200; s.Expires = s.Issued + 3600 }, "carol")
		}},
		{"approval from the future", "G-APPROVALS", func(a attack) *pb.SignRequest {
			return a.statement(func(s *approval.Statement) { s.Issued += 3600; s.Expires = s.Issued + 3600 }, "carol")
		}},
		{"approval of another cluster", "G-APPROVALS", func(a attack) *pb.SignRequest {
			return a.statement(func(s *approval.Statement) { s.Cluster[0] ^= 1 }, "carol")
		}},
		{"withdrawal in place of an approval", "G-APPROVALS", func(a attack) *pb.SignRequest {
			return a.statement(func(s *approval.Statement) { s.Kind = approval.Withdraw }, "carol")
		}},
		{"rejected", "G-REJECTED", func(a attack) *pb.SignRequest {
			r := a.request()
			r.Statements = append(r.Statements, a.State("alice", approval.Reject, canon.Sum(r.Intent.Raw)).ToProto())
			return r
		}},

		// The intent.
		{"intent that expired", "G-TIME-EXPIRED", func(a attack) *pb.SignRequest {
			return a.with(func(i *intent.Intent) { i.NotBefore, i.Expires = i.NotBefore-7200, i.NotBefore-3600 })
		}},
		{"intent before its time", "G-TIME-NOT-BEFORE", func(a attack) *pb.SignRequest {
			return a.with(func(i *intent.Intent) { i.NotBefore = i.NotBefore + 1800 })
		}},
		{"tampered byte of the intent", "G-INITIATOR", func(a attack) *pb.SignRequest {
			r := a.request()
			r.Intent.Raw = bytes.Clone(r.Intent.Raw)
			r.Intent.Raw[len(r.Intent.Raw)-1] ^= 1
			r.Statements = a.Approvals(intent.Signed{Raw: r.Intent.Raw})
			return r
		}},
		{"intent cut short", "G-INTENT-FORM", func(a attack) *pb.SignRequest {
			r := a.request()
			r.Intent.Raw = r.Intent.Raw[:len(r.Intent.Raw)-1]
			return r
		}},
		{"intent of another initiator's key", "G-INITIATOR", func(a attack) *pb.SignRequest {
			o := a.payment()
			return a.resign(parsed(o), o.unsigned, a.People["bob"])
		}},
		{"intent of a key that nobody enrolled", "G-INITIATOR", func(a attack) *pb.SignRequest {
			o := a.payment()
			return a.resign(parsed(o), o.unsigned, a.People["mallory"])
		}},
		{"an approval's signature under the intent", "G-INITIATOR", func(a attack) *pb.SignRequest {
			r := a.request()
			r.Intent.Signature = r.Statements[0].Signature
			return r
		}},
		{"another charter", "G-CHARTER", func(a attack) *pb.SignRequest { return a.with(func(i *intent.Intent) { i.Charter[0] ^= 1 }) }},
		{"another cluster", "G-CLUSTER", func(a attack) *pb.SignRequest { return a.with(func(i *intent.Intent) { i.Cluster[0] ^= 1 }) }},
		{"another wallet", "G-WALLET", func(a attack) *pb.SignRequest { return a.with(func(i *intent.Intent) { i.Wallet = "reserve" }) }},
		{"another account", "G-ACCOUNT", func(a attack) *pb.SignRequest {
			return a.with(func(i *intent.Intent) { i.Account = cluster.Supplier })
		}},
		{"unlisted destination", "G-POLICY", func(a attack) *pb.SignRequest {
			return a.with(func(i *intent.Intent) { i.Transfer.To = other.String() })
		}},
		{"amount above the rule's", "G-POLICY", func(a attack) *pb.SignRequest {
			return a.with(func(i *intent.Intent) { i.Transfer.Amount = ether(3) })
		}},
		{"fee cap above the rule's", "G-POLICY", func(a attack) *pb.SignRequest { return a.with(func(i *intent.Intent) { i.FeeCap = ether(1) }) }},
		{"a wallet's intent for a signature", "G-KIND", func(a attack) *pb.SignRequest {
			o := a.payment()
			o.intent = a.CreateWallet("OTHER")
			o.statements = a.Approvals(o.intent)
			return o.request(cluster.Attempt(), "a", "c")
		}},
		{"a cancel that pays", "G-TX-MATCH", func(a attack) *pb.SignRequest {
			o := a.payment()
			i := parsed(o)
			return a.resign(cancelOf(a.world, i), o.unsigned, a.People["alice"])
		}},
		{"a cancel without approvals", "G-APPROVALS", func(a attack) *pb.SignRequest {
			o := a.order(cancelOf(a.world, parsed(done)))
			o.statements = nil
			return o.request(cluster.Attempt(), "a", "c")
		}},
		{"a cancel of something else on a taken nonce", "G-SLOT", func(a attack) *pb.SignRequest {
			i := cancelOf(a.world, parsed(done))
			i.Cancel.Subject[0] ^= 1
			return a.order(i).request(cluster.Attempt(), "a", "c")
		}},

		// The transaction.
		{"another destination", "G-TX-MATCH", func(a attack) *pb.SignRequest { return a.transaction(func(u *evm.Unsigned) { u.To = other }) }},
		{"another amount", "G-TX-MATCH", func(a attack) *pb.SignRequest {
			return a.transaction(func(u *evm.Unsigned) { u.Value = new(big.Int).Add(u.Value, big.NewInt(1)) })
		}},
		{"another nonce", "G-TX-MATCH", func(a attack) *pb.SignRequest { return a.transaction(func(u *evm.Unsigned) { u.Nonce++ }) }},
		{"another chain", "G-TX-MATCH", func(a attack) *pb.SignRequest { return a.transaction(func(u *evm.Unsigned) { u.ChainID = 1 }) }},
		{"calldata", "G-TX-MATCH", func(a attack) *pb.SignRequest {
			return a.transaction(func(u *evm.Unsigned) { u.Data = []byte{0xa9, 0x05} })
		}},
		{"fee above the cap", "G-FEE", func(a attack) *pb.SignRequest {
			return a.transaction(func(u *evm.Unsigned) { u.FeeCap = big.NewInt(1e12) })
		}},
		{"gas above the need", "G-FEE", func(a attack) *pb.SignRequest { return a.transaction(func(u *evm.Unsigned) { u.Gas = 10_000_000 }) }},
		{"no transaction", "G-TX-DECODE", func(a attack) *pb.SignRequest { r := a.request(); r.UnsignedTx = nil; return r }},
		{"a digest in place of a transaction", "G-TX-DECODE", func(a attack) *pb.SignRequest {
			r := a.request()
			r.UnsignedTx = bytes.Repeat([]byte{7}, 32)
			return r
		}},
		{"a byte behind the transaction", "G-TX-DECODE", func(a attack) *pb.SignRequest { r := a.request(); r.UnsignedTx = append(r.UnsignedTx, 0); return r }},

		// Who signs, and which try.
		{"one signer", "InvalidArgument", func(a attack) *pb.SignRequest { r := a.request(); r.Signers = []string{"a"}; return r }},
		{"three signers", "InvalidArgument", func(a attack) *pb.SignRequest { r := a.request(); r.Signers = []string{"a", "b", "c"}; return r }},
		{"a stranger among the signers", "InvalidArgument", func(a attack) *pb.SignRequest {
			r := a.request()
			r.Signers = []string{"a", "mallory"}
			return r
		}},
		{"one signer twice", "InvalidArgument", func(a attack) *pb.SignRequest { r := a.request(); r.Signers = []string{"a", "a"}; return r }},
		{"signers without oneself", "InvalidArgument", func(a attack) map[party.ID]*pb.SignRequest {
			r := a.request()
			return map[party.ID]*pb.SignRequest{"b": r}
		}},
		{"no attempt", "InvalidArgument", func(a attack) *pb.SignRequest { r := a.request(); r.Attempt = nil; return r }},
		{"attempt of zeros", "G-SESSION", func(a attack) *pb.SignRequest { r := a.request(); r.Attempt = make([]byte, 32); return r }},
		{"a finished request again", "FailedPrecondition", func(attack) *pb.SignRequest { return done.request(doneAttempt, "a", "c") }},
		{"a finished attempt for another payment", "FailedPrecondition", func(a attack) *pb.SignRequest {
			return a.payment().request(doneAttempt, "a", "c")
		}},
		{"two transactions in one attempt", "BINDING_MISMATCH PEER_ABORTED", func(a attack) map[party.ID]*pb.SignRequest {
			o := a.payment()
			r, attempt := o.request(cluster.Attempt(), "a", "c"), cluster.Attempt()
			o.unsigned.FeeCap = new(big.Int).Add(o.unsigned.FeeCap, big.NewInt(1))
			r.Attempt = attempt
			return map[party.ID]*pb.SignRequest{"a": r, "c": o.request(attempt, "a", "c")}
		}},
		{"two intents in one attempt", "BINDING_MISMATCH PEER_ABORTED", func(a attack) map[party.ID]*pb.SignRequest {
			attempt := cluster.Attempt()
			return map[party.ID]*pb.SignRequest{"a": a.payment().request(attempt, "a", "c"), "c": a.payment().request(attempt, "a", "c")}
		}},
		{"no approvals for one signer", "G-APPROVALS", func(a attack) map[party.ID]*pb.SignRequest {
			r := a.request()
			r.Statements = nil
			return map[party.ID]*pb.SignRequest{"c": r}
		}},

		// At most once.
		{"a second intent on one nonce", "G-SLOT", func(a attack) *pb.SignRequest {
			return a.with(func(i *intent.Intent) { i.Nonce = parsed(done).Nonce })
		}},
		{"a second intent of one reference", "G-REFERENCE", func(a attack) *pb.SignRequest {
			return a.with(func(i *intent.Intent) { i.Reference = parsed(done).Reference })
		}},

		// Size and junk.
		{"junk", "G-INTENT-FORM", func(a attack) *pb.SignRequest { r := a.request(); r.Intent.Raw = []byte("pay me"); return r }},
		{"no intent", "InvalidArgument", func(a attack) *pb.SignRequest { r := a.request(); r.Intent = nil; return r }},
		{"an intent above its size", "InvalidArgument", func(a attack) *pb.SignRequest { r := a.request(); r.Intent.Raw = make([]byte, 65<<10); return r }},
		{"a signature above its size", "InvalidArgument", func(a attack) *pb.SignRequest { r := a.request(); r.Intent.Signature = make([]byte, 9<<10); return r }},
		{"a transaction above its size", "InvalidArgument", func(a attack) *pb.SignRequest { r := a.request(); r.UnsignedTx = make([]byte, 129<<10); return r }},
		{"65 statements", "InvalidArgument", func(a attack) *pb.SignRequest {
			r := a.request()
			r.Statements = slices.Repeat(r.Statements[:1], 65)
			return r
		}},
		{"an empty statement", "G-APPROVALS", func(a attack) *pb.SignRequest { r := a.request(); r.Statements[1] = &pb.SignedMessage{}; return r }},
	}
	var table strings.Builder
	for _, tc := range cases {
		var requests map[party.ID]*pb.SignRequest
		switch ask := tc.ask.(type) {
		case both:
			r := ask(attack{w, t})
			requests = map[party.ID]*pb.SignRequest{"a": r, "c": r}
		case split:
			requests = ask(attack{w, t})
		}
		var ids []party.ID
		for id := range requests {
			ids = append(ids, id)
		}
		answers := w.Session(t.Context(), ids, func(id party.ID) *pb.SignRequest { return requests[id] })
		want, met := strings.Fields(tc.want), false
		for _, id := range slices.Sorted(maps.Keys(answers)) {
			answer := answers[id]
			got := w.how(id, answer)
			met = met || got == want[0]
			if !slices.Contains(want, got) {
				t.Errorf("%s: signer %s answers %s, want %s (%v)", tc.name, id, got, tc.want, answer)
			}
			fmt.Fprintf(&table, "%-45s %s %s\n", tc.name, id, got)
		}
		if !met {
			t.Errorf("%s: nobody refused by %s", tc.name, want[0])
		}
		w.VerifyAudits()
	}
	t.Logf("%d cases:\n%s", len(cases), table.String())

	// The server's own limit, not this client's.
	large := attack{w, t}.request()
	large.UnsignedTx = make([]byte, 2<<20)
	stream, err := w.Members["a"].API().Sign(t.Context(), large, grpc.MaxCallSendMsgSize(8<<20))
	if err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a request above a megabyte: %v", err)
	}

	// All this has broken nothing, and the same intent may be signed again: for its own
	// slot, at most one of the transactions can be mined.
	w.mustSign(done, "b", "c")
	w.mustSign(w.payment(), "a", "c")
}

// cancelOf is an intent to cancel another, on its account and nonce.
func cancelOf(w *world, subject *intent.Intent) *intent.Intent {
	w.nonce++
	return &intent.Intent{
		Cluster: subject.Cluster, Charter: subject.Charter, Initiator: "alice", NotBefore: subject.NotBefore, Expires: subject.Expires,
		Kind: intent.Cancel, Wallet: subject.Wallet, Chain: subject.Chain, Account: subject.Account, Nonce: subject.Nonce,
		Reference: fmt.Sprintf("CANCEL-%d", w.nonce), FeeCap: big.NewInt(2e15), Cancel: &intent.CancelBody{Subject: subject.Digest()},
	}
}
