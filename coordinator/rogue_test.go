package coordinator_test

import (
	"fmt"
	"math/big"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"coffer/approval"
	"coffer/authority"
	"coffer/canon"
	"coffer/charter"
	"coffer/intent"
	"coffer/internal/cluster"
	"coffer/internal/testcharter"
	"coffer/party"
	"coffer/policy"
	pb "coffer/proto/coffer/v1"
	"coffer/verdict"
	"coffer/wallet"
)

// rogue is a coordinator that has the right identity and means harm: it hands each signer
// what it likes, in the order that it likes, keeps the rest to itself, and asks for
// signatures. The signers are real.
type rogue struct {
	*cluster.Cluster
	t      testing.TB
	record *wallet.Record
	n      uint64
	apis   map[party.ID]pb.SignerClient
	locals map[party.ID]pb.OperatorClient // their operators' sockets
}

var all = []party.ID{"a", "b", "c"}

func newRogue(t testing.TB, cfg cluster.Config) *rogue {
	t.Helper()
	w := &rogue{Cluster: cluster.New(t, cfg), t: t, apis: map[party.ID]pb.SignerClient{}, locals: map[party.ID]pb.OperatorClient{}}
	for _, id := range all {
		w.apis[id], w.locals[id] = w.Members[id].API(), w.Members[id].Operator()
	}
	w.record = w.Wallet()
	return w
}

// hand gives a signer records as its coordinator, and answers the codes of the refused.
func (w *rogue) hand(to party.ID, records ...authority.Record) (codes []string) {
	w.t.Helper()
	for _, text := range w.Members[to].Hand(w.apis[to].Exchange, records...) {
		code, _, _ := strings.Cut(text, ":")
		codes = append(codes, code)
	}
	return codes
}

// held is a record as a signer has it by now.
func (w *rogue) held(by party.ID, id canon.Digest) (authority.Record, bool) {
	w.t.Helper()
	reply, err := w.apis[by].Exchange(w.t.Context(), &pb.ExchangeRequest{Fetch: true})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, raw := range reply.Records {
		if r, err := authority.Parse(raw); err == nil && r.ID() == id {
			return r, true
		}
	}
	return authority.Record{}, false
}

// deed is a payment with all that a session needs.
type deed struct {
	intent     intent.Signed
	statements []*pb.SignedMessage
	unsigned   []byte
}

func (w *rogue) id(d deed) canon.Digest { return canon.Sum(d.intent.Raw) }

// payment is one that bob and carol approved, after edit.
func (w *rogue) payment(edit func(*intent.Intent)) deed {
	w.t.Helper()
	w.n++
	i := w.Payment(w.record, fmt.Sprintf("ROGUE-%d", w.n), w.n, 1)
	if edit != nil {
		edit(i)
	}
	signed := w.Sign("alice", i)
	return deed{signed, w.Approvals(signed), w.Unsigned(signed).Encode()}
}

// tries has each pair of signers asked to sign, and answers what each signer said. A
// partial fails the test: nothing that a rogue does here is to end in one.
func (w *rogue) tries(d deed) map[party.ID][]string {
	w.t.Helper()
	out := map[party.ID][]string{}
	for _, pair := range [][]party.ID{{"a", "b"}, {"a", "c"}, {"b", "c"}} {
		attempt := cluster.Attempt()
		answers := w.Session(w.t.Context(), pair, func(party.ID) *pb.SignRequest {
			return &pb.SignRequest{Intent: d.intent.ToProto(), Statements: d.statements, UnsignedTx: d.unsigned, Signers: party.Set(pair).Strings(), Attempt: attempt}
		})
		for id, a := range answers {
			if a.Partial != nil {
				w.t.Errorf("%s gave a partial to %v", id, pair)
			}
			out[id] = append(out[id], w.says(id, a.Refused))
		}
	}
	return out
}

// says are the checks that a verdict names.
func (w *rogue) says(id party.ID, reply *pb.JudgeResponse) string {
	w.t.Helper()
	if reply == nil {
		return ""
	}
	signer, _ := w.Charter.Signer(id)
	v, err := verdict.Verify(reply.Verdict, reply.Signature, signer.Peer)
	if err != nil {
		w.t.Fatal(err)
	}
	var checks []string
	for _, r := range v.Reasons {
		checks = append(checks, r.Check+" "+r.Code)
	}
	return v.Outcome + " " + strings.Join(checks, ", ")
}

// judge is what a signer says of a payment.
func (w *rogue) judge(id party.ID, d deed) string {
	w.t.Helper()
	reply, err := w.apis[id].Judge(w.t.Context(), &pb.JudgeRequest{Intent: d.intent.ToProto(), Statements: d.statements})
	if err != nil {
		w.t.Fatal(err)
	}
	return w.says(id, reply)
}

// refused demands that all signers refuse, by a check or code.
func (w *rogue) refused(d deed, by string) {
	w.t.Helper()
	for _, id := range all {
		w.Eventually(fmt.Sprintf("%s refuses by %s", id, by), func() bool { return strings.Contains(w.judge(id, d), by) })
	}
	for id, said := range w.tries(d) {
		if !slices.ContainsFunc(said, func(s string) bool { return strings.Contains(s, by) }) {
			w.t.Errorf("%s says %q, want %s", id, said, by)
		}
	}
}

// signs demands that two signers sign a payment.
func (w *rogue) signs(d deed, pair ...party.ID) {
	w.t.Helper()
	w.Fresh()
	attempt := cluster.Attempt()
	answers := w.Session(w.t.Context(), pair, func(party.ID) *pb.SignRequest {
		return &pb.SignRequest{Intent: d.intent.ToProto(), Statements: d.statements, UnsignedTx: d.unsigned, Signers: party.Set(pair).Strings(), Attempt: attempt}
	})
	for id, a := range answers {
		if a.Partial == nil {
			w.t.Errorf("%s gave no partial: %s %v %v", id, w.says(id, a.Refused), a.Failed, a.Err)
		}
	}
}

// stand is what counts at a signer.
type stand struct {
	version uint64
	records canon.Digest // of what it goes by: charter, freezes and lists
	freezes int
	audit   uint64
}

func (w *rogue) stand(id party.ID) stand {
	w.t.Helper()
	st, err := w.locals[id].Status(w.t.Context(), &pb.StatusRequest{})
	if err != nil {
		w.t.Fatal(err)
	}
	head, err := authority.ParseHead(st.Head)
	if err != nil {
		w.t.Fatal(err)
	}
	return stand{st.CharterVersion, canon.Sum(slices.Concat(head.Charter[:], head.Freezes[:], head.Lists[:])), len(st.Freezes), st.AuditSize}
}

// agree waits until all signers go by the same version of the charter, freezes and lists,
// and hold the same records.
func (w *rogue) agree(version uint64, freezes int) {
	w.t.Helper()
	w.Eventually(fmt.Sprintf("all go by version %d and %d freezes", version, freezes), func() bool {
		first := w.stand("a")
		for _, id := range all {
			if s := w.stand(id); s.version != version || s.freezes != freezes || s.records != first.records {
				return false
			}
		}
		return true
	})
}

// audits demands entries in the audit log of a signer, which it stops.
func (w *rogue) audits(id party.ID, codes ...string) {
	w.t.Helper()
	w.Members[id].Stop()
	raw, err := os.ReadFile(w.Members[id].Dir.Audit() + "/records")
	if err != nil {
		w.t.Fatal(err)
	}
	for _, code := range codes {
		if !strings.Contains(string(raw), code) {
			w.t.Errorf("%s is not in the audit log of %s", code, id)
		}
	}
}

// apart cuts the signers off from each other: the coordinator has the network on its side.
func (w *rogue) apart() {
	w.Net.Cut("a", "b")
	w.Net.Cut("a", "c")
	w.Net.Cut("b", "c")
}

// limit is a version that permits less per payment.
func (w *rogue) limit(old *charter.Charter, eth string, also ...func(*charter.Charter)) *charter.Charter {
	w.t.Helper()
	return w.Fixture().Next(w.t, old, func(c *charter.Charter) {
		c.Rules[0].MaxAmount = []string{eth}
		for _, edit := range also {
			edit(c)
		}
	})
}

func (w *rogue) version(c *charter.Charter) authority.Record {
	w.t.Helper()
	return w.Fixture().CharterRecord(w.t, c, time.Now().Unix(), nil, "bob", "carol")
}

// kept adds a list of destinations that its keepers sign, beside the charter's own.
func kept(d *charter.Draft) {
	d.Destinations = append(d.Destinations, charter.DestinationList{Name: "guests", Keepers: &policy.Requirement{Group: "approvers", K: 2}})
	d.Rules[0].Destinations = append(d.Rules[0].Destinations, "guests")
}

func (w *rogue) list(version uint64, previous canon.Digest, to ...string) authority.Record {
	w.t.Helper()
	var entries []policy.Destination
	for _, address := range to {
		entries = append(entries, policy.Destination{Chain: "dev", Address: address, Label: "guest"})
	}
	return w.Fixture().ListRecord(w.t, "guests", version, previous, time.Now().Unix(), entries, "bob", "carol")
}

func to(address string) func(*intent.Intent) {
	return func(i *intent.Intent) { i.Transfer.To = address }
}

// Admins who sign two versions of one number, and a coordinator that hands one to each
// signer while it keeps them apart: once they hear of each other nobody signs, all are
// frozen, and it is audited. Alone they sign nothing either.
func TestRogueForks(t *testing.T) {
	t.Parallel()
	for name, delay := range map[string]string{"at once": "", "before the delay is over": "1h"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newRogue(t, cluster.Config{Draft: func(d *charter.Draft) {
				d.Admin.Delay, d.Admin.NarrowDelay = delay, delay
				d.Freshness = &charter.Freshness{Heads: 1, Within: "10s"}
			}})
			d := w.payment(nil)
			one, other := w.version(w.limit(w.Charter, "1 ETH")), w.version(w.limit(w.Charter, "1.5 ETH"))
			w.apart()
			for id, r := range map[party.ID]authority.Record{"a": one, "b": other} {
				if codes := w.hand(id, r); len(codes) != 0 {
					t.Errorf("%s refuses: %v", id, codes)
				}
			}
			if got, want := w.stand("a").version, map[bool]uint64{true: 2, false: 1}[delay == ""]; got != want {
				t.Errorf("a goes by version %d, want %d", got, want)
			}
			for _, id := range all {
				w.Eventually(string(id)+" hears of nobody", func() bool { return strings.Contains(w.judge(id, d), "G-FRESH") })
			}
			w.tries(d)
			w.Net.Heal()
			for _, id := range all {
				w.Eventually(string(id)+" is frozen", func() bool { return strings.Contains(w.judge(id, d), "G-FROZEN-CLUSTER") })
			}
			// The coordinator goes on telling each what the other does not have.
			w.hand("a", other)
			w.hand("b", one)
			w.hand("c", other, one)
			w.tries(d)
			for _, id := range all {
				w.Members[id].Stop()
			}
			for _, id := range all {
				w.Members[id].Launch(false)
			}
			for _, id := range all {
				w.Eventually(string(id)+" is frozen after a restart", func() bool {
					st, err := w.locals[id].Status(t.Context(), &pb.StatusRequest{})
					return err == nil && !st.Sealed && len(st.Freezes) > 0
				})
			}
			w.tries(d)
			for _, id := range all {
				w.audits(id, "CHARTER_FORK", "FREEZE")
			}
		})
	}
}

// Two versions of one number of a list: all signers come to go by the same one, and that
// there was another is audited.
func TestRogueForksAList(t *testing.T) {
	t.Parallel()
	w := newRogue(t, cluster.Config{Draft: kept})
	one, other := w.list(1, canon.Digest{}, testcharter.Second), w.list(1, canon.Digest{})
	w.apart()
	w.hand("a", one)
	w.hand("b", other)
	w.Net.Heal()
	w.agree(1, 0)
	lower := one.ID()
	if o := other.ID(); slices.Compare(o[:], lower[:]) < 0 {
		lower = o
	}
	d := w.payment(to(testcharter.Second))
	if lower == one.ID() {
		w.signs(d, "a", "b")
	} else {
		w.refused(d, policy.CodeDestination)
	}
	for _, id := range all { // who had the one that stays may not have heard of the other
		w.hand(id, one, other)
	}
	w.agree(1, 0)
	for _, id := range all {
		w.audits(id, "LIST_FORK")
	}
}

// What was true once changes nothing when it is told again: versions of the charter and of
// lists, freezes and unfreezes, approvals; also after a restart, of which a signer
// remembers what it knew.
func TestRogueReplays(t *testing.T) {
	t.Parallel()
	w := newRogue(t, cluster.Config{Draft: kept})
	first := w.Charter
	old := w.payment(nil) // approved under version 1
	second := w.limit(first, "1 ETH")
	third := w.limit(second, "0.05 ETH")
	versions := []authority.Record{w.version(second), w.version(third)}
	listed := w.list(1, canon.Digest{}, testcharter.Second)
	lists := []authority.Record{listed, w.list(2, listed.ID())}
	freeze := w.Fixture().FreezeRecord(t, "bob", authority.ScopeCluster, "", time.Now().Unix(), 1)
	w.hand("a", versions...)
	w.Charter = third
	w.hand("b", lists...)
	w.hand("c", freeze)
	w.agree(3, 1)
	lift := w.Fixture().UnfreezeRecord(t, third, time.Now().Unix(), []canon.Digest{freeze.ID()}, "bob", "carol")
	w.hand("c", lift)
	w.agree(3, 0)
	again := w.Fixture().FreezeRecord(t, "carol", authority.ScopeWallet, cluster.WalletName, time.Now().Unix(), 2)
	w.hand("a", again)
	w.agree(3, 1)

	tell := func() {
		t.Helper()
		for _, id := range all {
			was := w.stand(id)
			for _, r := range slices.Concat(versions, lists, []authority.Record{freeze, lift}) {
				w.hand(id, r)
			}
			w.hand(id, slices.Concat([]authority.Record{lift, freeze}, lists, versions)...)
			if codes := w.hand(id, freeze); !slices.Equal(codes, []string{authority.CodeFreezeLifted}) {
				t.Errorf("%s says %v to a freeze that was lifted", id, codes)
			}
			if now := w.stand(id); now != was {
				t.Errorf("%s went from %+v to %+v", id, was, now)
			}
		}
	}
	tell()
	w.refused(old, "G-FROZEN-WALLET") // the unfreeze names the other freeze only
	for _, id := range all {
		w.Members[id].Stop()
	}
	for _, id := range all {
		w.Members[id].Start()
	}
	tell()
	w.hand("b", w.Fixture().UnfreezeRecord(t, third, time.Now().Unix(), []canon.Digest{again.ID()}, "bob", "carol"))
	w.agree(3, 0)
	w.Fresh()

	// Approved under version 1, and more than what version 3 permits.
	w.refused(old, policy.CodeAmount)
	// Made under version 1 again, by a coordinator that pretends that it is in force.
	w.Charter = first
	w.refused(w.payment(nil), policy.CodeAmount)
	// Version 2 of the list took the guest off.
	w.Charter = third
	little := func(i *intent.Intent) { i.Transfer.Amount = new(big.Int).SetInt64(1e15) }
	w.refused(w.payment(func(i *intent.Intent) { little(i); to(testcharter.Second)(i) }), policy.CodeDestination)
	// Approvals of another payment.
	d, other := w.payment(little), w.payment(little)
	d.statements = other.statements
	w.refused(d, approval.CodeSubject)
	w.signs(other, "a", "b")
	// An approval that expired stays so.
	late := w.payment(little)
	s := &approval.Statement{Cluster: third.Cluster, Kind: approval.Approve, Subject: w.id(late), Person: "bob", Issued: time.Now().Unix() - 3600, Expires: time.Now().Unix() - 1}
	expired, err := approval.Sign(s, w.People["bob"])
	if err != nil {
		t.Fatal(err)
	}
	late.statements[0] = expired.ToProto()
	w.refused(late, approval.CodeExpired)
}

// In whatever order it hands them on, all come to the same: version 3 before 2, an
// unfreeze before what it lifts, version 2 of a list before 1; one by one, in one message,
// or to one signer alone.
func TestRogueReorders(t *testing.T) {
	t.Parallel()
	w := newRogue(t, cluster.Config{Draft: kept})
	second := w.limit(w.Charter, "1 ETH")
	third := w.limit(second, "0.5 ETH")
	two, three := w.version(second), w.version(third)
	w.apart() // each hears it from the coordinator first
	if codes := w.hand("a", three); !slices.Equal(codes, []string{authority.CodeCharterGap}) {
		t.Errorf("a says %v to version 3 without 2", codes)
	}
	if s := w.stand("a"); s.version != 1 {
		t.Errorf("a goes by version %d", s.version)
	}
	w.hand("a", two)
	w.hand("a", three)
	if codes := w.hand("b", three, two); len(codes) != 0 {
		t.Errorf("b says %v to 3 and 2 in one message", codes)
	}
	for _, id := range []party.ID{"a", "b"} {
		if s := w.stand(id); s.version != 3 {
			t.Errorf("%s goes by version %d", id, s.version)
		}
	}
	if codes := w.hand("c", two); len(codes) != 0 { // 3 it hears from the others
		t.Errorf("c says %v", codes)
	}
	w.Net.Heal()
	w.Charter = third
	w.agree(3, 0)

	f := w.Fixture()
	freezes := []authority.Record{
		f.FreezeRecord(t, "bob", authority.ScopeCluster, "", time.Now().Unix(), 1),
		f.FreezeRecord(t, "carol", authority.ScopeWallet, cluster.WalletName, time.Now().Unix(), 2),
	}
	lift := f.UnfreezeRecord(t, third, time.Now().Unix(), []canon.Digest{freezes[0].ID(), freezes[1].ID()}, "bob", "carol")
	first := w.list(1, canon.Digest{}, testcharter.Second)
	next := w.list(2, first.ID(), testcharter.Second)
	w.apart()
	w.hand("a", lift)
	if codes := w.hand("a", freezes...); !slices.Equal(codes, []string{authority.CodeFreezeLifted, authority.CodeFreezeLifted}) {
		t.Errorf("a says %v to freezes that were lifted before it heard of them", codes)
	}
	w.hand("b", freezes[1], lift, freezes[0])
	w.hand("c", freezes...)
	if s := w.stand("c"); s.freezes != 2 {
		t.Errorf("c holds %d freezes", s.freezes)
	}
	w.hand("a", next)
	w.hand("a", first)
	w.hand("b", next, first)
	w.hand("c", first)
	w.Net.Heal()
	w.agree(3, 0)
	w.signs(w.payment(to(testcharter.Second)), "a", "c")
}

// What one signer heard the others hear, whatever the coordinator keeps to itself: it
// hands on approvals and keeps what narrows. A payment that is locked until later does
// not leave when somebody who may has said no meanwhile.
func TestRogueHides(t *testing.T) {
	t.Parallel()
	w := newRogue(t, cluster.Config{Signer: cluster.TakeOrders})
	soon := time.Now().Unix() + 3
	locked := w.payment(func(i *intent.Intent) { i.NotBefore, i.Expires = soon, soon+3600 })
	taken := w.payment(nil)
	f := w.Fixture()
	own := func(id party.ID, r authority.Record) {
		t.Helper()
		if no := w.Members[id].Hand(w.Members[id].Orders("127.0.0.1").Exchange, r); len(no) != 0 {
			t.Fatalf("%s refuses: %v", id, no)
		}
	}
	w.tries(locked) // too early
	own("c", f.OrderRecord(t, approval.Veto, w.id(locked), time.Now().Unix(), "carol"))
	own("b", f.OrderRecord(t, approval.Withdraw, w.id(taken), time.Now().Unix(), "bob"))
	w.refused(taken, approval.CodeWithdrawn)
	w.refused(locked, "G-REJECTED")
	w.Eventually("its time has come", func() bool { return time.Now().Unix() > soon })
	w.refused(locked, "G-REJECTED")

	// A version that bob's operator brought by hand.
	second := w.limit(w.Charter, "1 ETH")
	over := w.payment(func(i *intent.Intent) { i.Transfer.Amount = cluster.Tenths(15) })
	w.Members["b"].Bring(w.version(second))
	w.refused(over, policy.CodeAmount)
	w.agree(2, 0)
	// A freeze that one of them heard.
	freeze := f.FreezeRecord(t, "carol", authority.ScopePerson, "alice", time.Now().Unix(), 1)
	own("a", freeze)
	w.Charter = second
	w.refused(w.payment(nil), "G-FROZEN-PERSON")
	w.agree(2, 1)
	if r, ok := w.held("c", freeze.ID()); !ok || len(r.Receipts) == 0 {
		t.Error("c does not hold the freeze with receipts")
	}
}
