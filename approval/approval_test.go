package approval_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"coffer/approval"
	"coffer/canon"
	"coffer/charter"
	"coffer/credential"
	"coffer/intent"
	"coffer/internal/testcharter"
	"coffer/policy"
	pb "coffer/proto/coffer/v1"
)

const now = testcharter.Now

var update = flag.Bool("update", false, "write the golden files anew")

func digest(s string) canon.Digest { return canon.Sum([]byte(s)) }

func sample() *approval.Statement {
	return &approval.Statement{
		Cluster: digest("cluster"), Kind: approval.Approve, Subject: digest("intent"), Person: "alice",
		Issued: now, Expires: now + 3600, Nonce: [16]byte{0: 1, 15: 16},
	}
}

var kinds = []approval.Kind{approval.Approve, approval.Reject, approval.Withdraw, approval.Veto, approval.Cancel, approval.Freeze}

func TestRoundTrip(t *testing.T) {
	seen := map[canon.Digest]bool{}
	for _, k := range kinds {
		want := sample()
		want.Kind = k
		got, err := approval.Parse(want.Encode())
		if err != nil || !reflect.DeepEqual(got, want) || got.Digest() != canon.Sum(want.Encode()) {
			t.Fatalf("%s: %+v, %v", k, got, err)
		}
		seen[got.Digest()] = true
	}
	for _, change := range []func(*approval.Statement){
		func(s *approval.Statement) { s.Cluster[0]++ }, func(s *approval.Statement) { s.Subject[0]++ }, func(s *approval.Statement) { s.Person = "bob" },
		func(s *approval.Statement) { s.Issued-- }, func(s *approval.Statement) { s.Expires++ }, func(s *approval.Statement) { s.Nonce[0]++ },
	} {
		s := sample()
		change(s)
		seen[s.Digest()] = true
	}
	if len(seen) != len(kinds)+6 {
		t.Fatalf("%d digests for %d statements", len(seen), len(kinds)+6)
	}
}

func TestGolden(t *testing.T) {
	got := fmt.Sprintf("%x\n%s\n", sample().Encode(), sample().Digest())
	const path = "testdata/statement.txt"
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || got != string(want) {
		t.Fatalf("the encoding changed (%v):\n%s", err, got)
	}
}

func TestValidate(t *testing.T) {
	for name, change := range map[string]func(*approval.Statement){
		"cluster":        func(s *approval.Statement) { s.Cluster = canon.Digest{} },
		"subject":        func(s *approval.Statement) { s.Subject = canon.Digest{} },
		"kind":           func(s *approval.Statement) { s.Kind = "applaud" },
		"kind empty":     func(s *approval.Statement) { s.Kind = "" },
		"kind's case":    func(s *approval.Statement) { s.Kind = "Approve" },
		"person":         func(s *approval.Statement) { s.Person = "" },
		"person's case":  func(s *approval.Statement) { s.Person = "Alice" },
		"person's alias": func(s *approval.Statement) { s.Person = "аlice" },
		"issued":         func(s *approval.Statement) { s.Issued = -1 },
		"times overflow": func(s *approval.Statement) { s.Issued, s.Expires = math.MinInt64, math.MaxInt64 },
		"far":            func(s *approval.Statement) { s.Issued, s.Expires = math.MaxInt64-1, math.MaxInt64 },
		"at once":        func(s *approval.Statement) { s.Expires = s.Issued },
		"backwards":      func(s *approval.Statement) { s.Expires = s.Issued - 1 },
		"31 days":        func(s *approval.Statement) { s.Expires = s.Issued + approval.MaxLifetime + 1 },
	} {
		s := sample()
		change(s)
		if err := s.Validate(); !errors.Is(err, approval.ErrMalformed) || s.Encode() != nil || !s.Digest().IsZero() {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := approval.Sign(s, testcharter.SSH(t, "alice")); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
	var none *approval.Statement
	if none.Validate() == nil || none.Encode() != nil {
		t.Error("nil")
	}
}

func TestParseRefuses(t *testing.T) {
	good := sample().Encode()
	for n := range good {
		if _, err := approval.Parse(good[:n]); !errors.Is(err, approval.ErrMalformed) {
			t.Fatalf("first %d bytes: %v", n, err)
		}
	}
	for name, raw := range map[string][]byte{
		"trailing": append(bytes.Clone(good), 0),
		"domain":   bytes.Replace(good, []byte("statement/v1"), []byte("statement/v2"), 1),
		"kind":     bytes.Replace(good, []byte("approve"), []byte("approvf"), 1),
		"huge":     make([]byte, approval.MaxRaw+1),
		"nonce":    append(bytes.Clone(good[:len(good)-20]), 0, 0, 0, 1, 7),
	} {
		if _, err := approval.Parse(raw); !errors.Is(err, approval.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// cluster is a fixture with one payment of dave's that waits for approvals.
type cluster struct {
	*testcharter.Fixture
	t      testing.TB
	intent *intent.Intent
}

func newCluster(t testing.TB, edits ...func(*charter.Charter)) *cluster {
	f := testcharter.New(t, edits...)
	return &cluster{f, t, f.Payment(now)}
}

func under(c *charter.Charter) approval.Under { return approval.Under{Force: c, Made: c, Now: now} }

func (c *cluster) under() approval.Under { return under(c.Charter) }

func (c *cluster) tally(statements ...approval.Signed) approval.Weighed {
	return approval.Weigh(c.under(), c.intent, c.intent.Digest(), statements)
}

// say is a statement of a person about the payment, changed and signed by any key.
func (c *cluster) say(person string, kind approval.Kind, key credential.Signer, changes ...func(*approval.Statement)) approval.Signed {
	c.t.Helper()
	s := c.Statement(person, kind, c.intent, now)
	for _, change := range changes {
		change(s)
	}
	signed, err := approval.Sign(s, key)
	if err != nil {
		c.t.Fatal(err)
	}
	return signed
}

func names(votes []policy.Vote) (out []string) {
	for _, v := range votes {
		out = append(out, v.Person)
	}
	return out
}

func codes(refused []approval.Refusal) (out []string) {
	for _, r := range refused {
		out = append(out, r.Code)
	}
	return out
}

func TestTallyCounts(t *testing.T) {
	c := newCluster(t)
	g := c.tally(c.Approve(t, c.intent, now, "bob", "alice")...)
	want := []policy.Vote{
		{Person: "alice", Org: "exchange", Groups: []string{"approvers", "treasury"}, KeyKind: "ssh"},
		{Person: "bob", Org: "custodian", Groups: []string{"approvers", "treasury"}, KeyKind: "ssh"},
	}
	if !reflect.DeepEqual(g.Votes, want) || g.Refused != nil || g.Ended != nil {
		t.Fatalf("%+v", g)
	}
	g.Votes[0].Groups[0] = "admins"
	if p, _ := c.Charter.Person("alice"); p.Groups[0] != "approvers" {
		t.Fatal("a vote shares memory with the charter")
	}
	if g := c.tally(); g.Votes != nil || g.Ended != nil || g.Refused != nil {
		t.Fatalf("nothing gives %+v", g)
	}
}

// Each of these approvals is of alice and no good; bob's good one beside it counts
// alone, and the rule that wants two waits.
func TestBadApprovals(t *testing.T) {
	c := newCluster(t)
	alice := c.People["alice"]
	approve := func(key credential.Signer, changes ...func(*approval.Statement)) approval.Signed {
		return c.say("alice", approval.Approve, key, changes...)
	}
	good := approve(alice)
	set := func(f func(*approval.Statement)) approval.Signed { return approve(alice, f) }
	resign := func(ns string, message []byte) approval.Signed {
		sig, err := alice.Sign(ns, message)
		if err != nil {
			t.Fatal(err)
		}
		return approval.Signed{Raw: good.Raw, Signature: sig}
	}
	withSig := func(sig string) approval.Signed { return approval.Signed{Raw: good.Raw, Signature: []byte(sig)} }
	withRaw := func(raw []byte) approval.Signed {
		d := canon.Sum(raw)
		sig, err := alice.Sign(approval.Namespace, d[:])
		if err != nil {
			t.Fatal(err)
		}
		return approval.Signed{Raw: raw, Signature: sig}
	}
	goodDigest := canon.Sum(good.Raw)
	subject := c.intent.Digest()
	other := c.Payment(now)
	other.Reference = "INV-8"
	dearer := c.Payment(now)
	dearer.Transfer.Amount.SetInt64(1)
	anotherCluster := testcharter.New(t, func(ch *charter.Charter) { ch.Cluster[0]++ })
	nextCharter := testcharter.New(t, func(ch *charter.Charter) { ch.Rules[0].MaxAmount[0] = "3 ETH" })
	bobs, err := approval.Parse(c.Approve(t, c.intent, now, "bob")[0].Raw)
	if err != nil {
		t.Fatal(err)
	}
	sig := string(good.Signature)
	middle := len(sig) / 2

	cases := map[string]struct {
		bad  approval.Signed
		code string
	}{
		// Who signed.
		"bob's key":             {approve(c.People["bob"]), approval.CodeSignature},
		"bob's second key":      {approve(c.Spare["bob"]), approval.CodeSignature},
		"dave's key":            {approve(c.People["dave"]), approval.CodeSignature},
		"a service's key":       {approve(c.Services["payroll"]), approval.CodeSignature},
		"nobody's key":          {approve(testcharter.SSH(t, "mallory")), approval.CodeSignature},
		"nobody's ecdsa key":    {approve(testcharter.P256(t, "mallory")), approval.CodeSignature},
		"alice's unlisted key":  {approve(testcharter.SSH(t, "alice's laptop")), approval.CodeSignature},
		"in the name of bob":    {c.say("bob", approval.Approve, alice), approval.CodeSignature},
		"a stranger":            {c.say("mallory", approval.Approve, testcharter.SSH(t, "mallory")), approval.CodePerson},
		"a stranger, alice key": {c.say("mallory", approval.Approve, alice), approval.CodePerson},
		"a service":             {c.say("payroll", approval.Approve, c.Services["payroll"]), approval.CodePerson},
		"a signer":              {c.say("north", approval.Approve, alice), approval.CodePerson},
		"a coordinator":         {c.say("desk", approval.Approve, alice), approval.CodePerson},
		"a group":               {c.say("approvers", approval.Approve, alice), approval.CodePerson},
		"the initiator":         {c.say("dave", approval.Approve, c.People["dave"]), approval.CodeInitiator},
		"initiator, alice key":  {c.say("dave", approval.Approve, alice), approval.CodeSignature},
		// What it is about.
		"another intent":         {set(func(s *approval.Statement) { s.Subject = other.Digest() }), approval.CodeSubject},
		"the intent, other sum":  {set(func(s *approval.Statement) { s.Subject = dearer.Digest() }), approval.CodeSubject},
		"intent, other charter":  {set(func(s *approval.Statement) { s.Subject = nextCharter.Payment(now).Digest() }), approval.CodeSubject},
		"intent, other cluster":  {set(func(s *approval.Statement) { s.Subject = anotherCluster.Payment(now).Digest() }), approval.CodeSubject},
		"subject, a bit flipped": {set(func(s *approval.Statement) { s.Subject[31] ^= 1 }), approval.CodeSubject},
		"the charter":            {set(func(s *approval.Statement) { s.Subject = c.Charter.Digest() }), approval.CodeSubject},
		"another cluster":        {anotherCluster.State(t, "alice", approval.Approve, c.intent, now), approval.CodeCluster},
		"cluster is the charter": {set(func(s *approval.Statement) { s.Cluster = c.Charter.Digest() }), approval.CodeCluster},
		"a freeze":               {c.say("alice", approval.Freeze, alice), approval.CodeKind},
		// When.
		"expires now":           {set(func(s *approval.Statement) { s.Issued, s.Expires = now-3600, now }), approval.CodeExpired},
		"expired a second ago":  {set(func(s *approval.Statement) { s.Issued, s.Expires = now-3600, now-1 }), approval.CodeExpired},
		"expired long ago":      {set(func(s *approval.Statement) { s.Issued, s.Expires = 1, 2 }), approval.CodeExpired},
		"issued in 5 min 1 s":   {set(func(s *approval.Statement) { s.Issued += approval.MaxSkew + 1 }), approval.CodeFuture},
		"issued tomorrow":       {set(func(s *approval.Statement) { s.Issued, s.Expires = now+86400, now+90000 }), approval.CodeFuture},
		"issued in the year 9k": {set(func(s *approval.Statement) { s.Issued, s.Expires = 253402300000, 253402300001 }), approval.CodeFuture},
		// What was signed.
		"namespace of intents":  {resign(intent.Namespace, goodDigest[:]), approval.CodeSignature},
		"namespace of cards":    {resign(charter.Namespace, goodDigest[:]), approval.CodeSignature},
		"namespace of files":    {resign("file", goodDigest[:]), approval.CodeSignature},
		"namespace of git":      {resign("git", goodDigest[:]), approval.CodeSignature},
		"namespace's case":      {resign("Coffer-Statement-v1", goodDigest[:]), approval.CodeSignature},
		"the intent's digest":   {resign(approval.Namespace, subject[:]), approval.CodeSignature},
		"digest in hex":         {resign(approval.Namespace, []byte(goodDigest.String())), approval.CodeSignature},
		"the bytes themselves":  {resign(approval.Namespace, good.Raw), approval.CodeSignature},
		"digest of the digest":  {resign(approval.Namespace, func() []byte { d := canon.Sum(goodDigest[:]); return d[:] }()), approval.CodeSignature},
		"nothing":               {resign(approval.Namespace, nil), approval.CodeSignature},
		"signature of a reject": {approval.Signed{Raw: good.Raw, Signature: c.say("alice", approval.Reject, alice).Signature}, approval.CodeSignature},
		"signature of an older": {approval.Signed{Raw: good.Raw, Signature: set(func(s *approval.Statement) { s.Nonce[0]++ }).Signature}, approval.CodeSignature},
		"longer than signed":    {approval.Signed{Raw: set(func(s *approval.Statement) { s.Expires++ }).Raw, Signature: good.Signature}, approval.CodeSignature},
		"withdraw made approve": {approval.Signed{Raw: good.Raw, Signature: c.say("alice", approval.Withdraw, alice).Signature}, approval.CodeSignature},
		"name exchanged":        {approval.Signed{Raw: bytes.Replace(bobs.Encode(), []byte("\x03bob"), []byte("\x05alice"), 1), Signature: c.Approve(t, c.intent, now, "bob")[0].Signature}, approval.CodeSignature},
		// Armor.
		"no signature":       {withSig(""), approval.CodeSignature},
		"not armor":          {withSig("I approve"), approval.CodeSignature},
		"text before armor":  {withSig("\n" + sig), approval.CodeSignature},
		"text after armor":   {withSig(sig + "\n"), approval.CodeSignature},
		"two armors":         {withSig(sig + sig), approval.CodeSignature},
		"crlf":               {withSig(strings.ReplaceAll(sig, "\n", "\r\n")), approval.CodeSignature},
		"cut":                {withSig(sig[:len(sig)-5]), approval.CodeSignature},
		"a letter changed":   {withSig(sig[:middle] + string(sig[middle]^1) + sig[middle+1:]), approval.CodeSignature},
		"8 KiB of signature": {withSig(strings.Repeat("A", credential.MaxSignature+1)), approval.CodeSignature},
		"armor of a key":     {withSig(strings.ReplaceAll(sig, "SSH SIGNATURE", "OPENSSH PRIVATE KEY")), approval.CodeSignature},
		// Bytes, correctly signed by alice.
		"empty":           {approval.Signed{}, approval.CodeMalformed},
		"no bytes":        {approval.Signed{Signature: good.Signature}, approval.CodeMalformed},
		"trailing byte":   {withRaw(append(bytes.Clone(good.Raw), 0)), approval.CodeMalformed},
		"a byte short":    {withRaw(good.Raw[:len(good.Raw)-1]), approval.CodeMalformed},
		"the intent":      {withRaw(c.intent.Encode()), approval.CodeMalformed},
		"another version": {withRaw(bytes.Replace(good.Raw, []byte("statement/v1"), []byte("statement/v2"), 1)), approval.CodeMalformed},
		"another domain":  {withRaw(bytes.Replace(good.Raw, []byte("coffer/"), []byte("koffer/"), 1)), approval.CodeMalformed},
		"unknown kind":    {withRaw(bytes.Replace(good.Raw, []byte("approve"), []byte("consent"), 1)), approval.CodeMalformed},
		"kind's case":     {withRaw(bytes.Replace(good.Raw, []byte("approve"), []byte("APPROVE"), 1)), approval.CodeMalformed},
		"name's case":     {withRaw(bytes.Replace(good.Raw, []byte("alice"), []byte("Alice"), 1)), approval.CodeMalformed},
		"name with nul":   {withRaw(bytes.Replace(good.Raw, []byte("\x05alice"), []byte("\x06alice\x00"), 1)), approval.CodeMalformed},
		"31 days":         {withRaw(lifetime(t, good.Raw, approval.MaxLifetime+1)), approval.CodeMalformed},
		"no end":          {withRaw(lifetime(t, good.Raw, 1<<60)), approval.CodeMalformed},
		"64 KiB":          {withRaw(append(bytes.Clone(good.Raw), make([]byte, 64<<10)...)), approval.CodeMalformed},
		"JSON":            {withRaw([]byte(`{"kind":"approve","person":"alice"}`)), approval.CodeMalformed},
		"lengths moved":   {withRaw(bytes.Replace(good.Raw, []byte("\x00\x00\x00\x07approve"), []byte("\x00\x00\x00\x08approve"), 1)), approval.CodeMalformed},
	}
	if len(cases) < 60 {
		t.Fatalf("%d cases", len(cases))
	}
	bob := c.Approve(t, c.intent, now, "bob")[0]
	if d := c.tally(bob, good).Decision; d.Outcome != policy.Allow {
		t.Fatalf("the good ones do not pass: %+v", d)
	}
	for name, x := range cases {
		t.Run(name, func(t *testing.T) {
			for _, list := range [][]approval.Signed{{bob, x.bad}, {x.bad, bob}} {
				g := c.tally(list...)
				if got := codes(g.Refused); !slices.Equal(got, []string{x.code}) {
					t.Fatalf("refused %+v, want %s", g.Refused, x.code)
				}
				if !slices.Equal(names(g.Votes), []string{"bob"}) || g.Ended != nil {
					t.Fatalf("%+v", g)
				}
				if g.Decision.Outcome != policy.Wait {
					t.Fatalf("%+v", g.Decision)
				}
				for _, r := range g.Refused[0].Text {
					if r < 0x20 {
						t.Fatalf("control character in %q", g.Refused[0].Text)
					}
				}
			}
		})
	}
}

// lifetime rewrites the expiry inside encoded bytes, as only a foreign program would.
func lifetime(t testing.TB, raw []byte, seconds int64) []byte {
	t.Helper()
	old := canon.New("x").Time(now + 3600).Encoded()
	fresh := canon.New("x").Time(now + seconds).Encoded()
	out := bytes.Replace(raw, old[5:], fresh[5:], 1)
	if bytes.Equal(out, raw) {
		t.Fatal("no expiry found")
	}
	return out
}

func TestOnePersonOneVote(t *testing.T) {
	c := newCluster(t)
	once := c.Approve(t, c.intent, now, "carol")[0]
	again := c.say("carol", approval.Approve, c.People["carol"], func(s *approval.Statement) { s.Nonce[0]++ })
	second := c.say("carol", approval.Approve, c.Spare["carol"])
	for name, list := range map[string][]approval.Signed{
		"replayed": {once, once, once}, "twice": {once, again}, "two keys": {once, second}, "two keys, replayed": {second, once, second, again},
		"one key expired": {c.say("carol", approval.Approve, c.Spare["carol"], func(s *approval.Statement) { s.Issued, s.Expires = 1, 2 }), once},
	} {
		if g := c.tally(list...); !slices.Equal(names(g.Votes), []string{"carol"}) {
			t.Errorf("%s: %+v", name, g)
		}
	}
	if g := c.tally(second); !slices.Equal(names(g.Votes), []string{"carol"}) || g.Refused != nil {
		t.Fatalf("the second key alone: %+v", g)
	}
	if g := c.tally(c.say("bob", approval.Approve, c.Spare["bob"])); !slices.Equal(names(g.Votes), []string{"bob"}) {
		t.Fatalf("ecdsa key: %+v", g)
	}
}

func TestInitiatorNeverApproves(t *testing.T) {
	c := newCluster(t)
	c.intent.Initiator = "bob"
	for _, key := range []credential.Signer{c.People["bob"], c.Spare["bob"]} {
		g := c.tally(c.say("bob", approval.Approve, key), c.Approve(t, c.intent, now, "alice")[0])
		if !slices.Equal(names(g.Votes), []string{"alice"}) || !slices.Equal(codes(g.Refused), []string{approval.CodeInitiator}) {
			t.Fatalf("%+v", g)
		}
	}
	// But may call it off.
	if g := c.tally(c.say("bob", approval.Reject, c.Spare["bob"])); !slices.Equal(g.Ended, []string{"bob"}) {
		t.Fatalf("%+v", g)
	}
}

func TestTimes(t *testing.T) {
	c := newCluster(t)
	times := func(issued, expires int64) approval.Signed {
		return c.say("alice", approval.Approve, c.People["alice"], func(s *approval.Statement) { s.Issued, s.Expires = issued, expires })
	}
	count := func(s approval.Signed, at int64) int {
		u := c.under()
		u.Now = at
		return len(approval.Tally(u, c.intent, c.intent.Digest(), []approval.Signed{s}).Votes)
	}
	for name, x := range map[string]struct {
		issued, expires, at int64
		want                int
	}{
		"issued now":      {now, now + 10, now, 1},
		"last second":     {now, now + 10, now + 9, 1},
		"over":            {now, now + 10, now + 10, 0},
		"clock differs":   {now + approval.MaxSkew, now + 3600, now, 1},
		"too much":        {now + approval.MaxSkew + 1, now + 3600, now, 0},
		"30 days":         {now, now + approval.MaxLifetime, now + approval.MaxLifetime - 1, 1},
		"clock at zero":   {now, now + 10, 0, 0},
		"clock negative":  {now, now + 10, math.MinInt64, 0},
		"clock far":       {now, now + 10, math.MaxInt64, 0},
		"issued at zero":  {0, 10, 5, 1},
		"zero, clock low": {0, 10, math.MinInt64, 0},
	} {
		if got := count(times(x.issued, x.expires), x.at); got != x.want {
			t.Errorf("%s: %d votes, want %d", name, got, x.want)
		}
	}
}

// A statement that narrows counts in any place of the list and at any time; else a
// clock or a list's order would bring back what a person took back.
func TestNarrowing(t *testing.T) {
	c := newCluster(t)
	approve := c.Approve(t, c.intent, now, "alice", "bob")
	long := func(s *approval.Statement) { s.Issued, s.Expires = now-86400, now-80000 }
	future := func(s *approval.Statement) { s.Issued, s.Expires = now+86400, now+90000 }
	for name, change := range map[string]func(*approval.Statement){"now": func(*approval.Statement) {}, "expired": long, "future": future} {
		for _, key := range []credential.Signer{c.People["bob"], c.Spare["bob"]} {
			w := c.say("bob", approval.Withdraw, key, change)
			for _, list := range [][]approval.Signed{{approve[0], approve[1], w}, {w, approve[1], approve[0]}} {
				g := c.tally(list...)
				if !slices.Equal(names(g.Votes), []string{"alice"}) || g.Ended != nil || !slices.Equal(codes(g.Refused), []string{approval.CodeWithdrawn}) {
					t.Fatalf("withdraw %s: %+v", name, g)
				}
			}
			for _, kind := range []approval.Kind{approval.Reject, approval.Cancel} {
				r := c.say("bob", kind, key, change)
				if g := c.tally(approve[0], r); !slices.Equal(g.Ended, []string{"bob"}) || g.Refused != nil {
					t.Fatalf("%s %s: %+v", kind, name, g)
				}
			}
		}
	}
	// A withdrawal takes only one's own back, and alone it is nothing.
	w := c.say("carol", approval.Withdraw, c.People["carol"])
	if g := c.tally(approve[0], w, approve[1]); len(g.Votes) != 2 || g.Refused != nil {
		t.Fatalf("%+v", g)
	}
	// Several who end it are named in order, once.
	g := c.tally(c.say("dave", approval.Reject, c.People["dave"]), c.say("carol", approval.Cancel, c.People["carol"]), c.say("carol", approval.Reject, c.Spare["carol"]), approve[0])
	if !slices.Equal(g.Ended, []string{"carol", "dave"}) {
		t.Fatalf("%+v", g)
	}
	// Nobody else does.
	for name, s := range map[string]approval.Signed{
		"a service":     c.say("payroll", approval.Reject, c.Services["payroll"]),
		"a stranger":    c.say("mallory", approval.Reject, testcharter.SSH(t, "mallory")),
		"a forgery":     c.say("bob", approval.Reject, c.People["alice"]),
		"another":       c.say("bob", approval.Reject, c.People["bob"], func(s *approval.Statement) { s.Subject[0]++ }),
		"other cluster": c.say("bob", approval.Reject, c.People["bob"], func(s *approval.Statement) { s.Cluster[0]++ }),
	} {
		if g := c.tally(append(slices.Clone(approve), s)...); g.Ended != nil || len(g.Votes) != 2 || len(g.Refused) != 1 {
			t.Errorf("%s: %+v", name, g)
		}
	}
}

// A no ends what its author has a say in, and nothing else: else anybody who is enrolled
// could stop all payments.
func TestVoices(t *testing.T) {
	erin, frank := testcharter.SSH(t, "erin"), testcharter.SSH(t, "frank")
	c := newCluster(t, func(ch *charter.Charter) {
		ch.People = append(ch.People,
			charter.Person{Name: "erin", Org: "auditor", Groups: []string{"security"}, Keys: []credential.Key{erin.Key()}},
			charter.Person{Name: "frank", Org: "auditor", Groups: []string{"clerks"}, Keys: []credential.Key{frank.Key()}})
		ch.Veto = []string{"security"}
		for n := range ch.Rules {
			if ch.Rules[n].Name == "cancels" {
				ch.Rules[n].Approvals = []policy.Requirement{{Group: "clerks", K: 1}}
			}
		}
	})
	keys := map[string]credential.Signer{"erin": erin, "frank": frank, "alice": c.People["alice"], "dave": c.People["dave"]}
	cancel := c.Cancel(now, c.intent)
	for _, x := range []struct {
		who   string
		about *intent.Intent
		ends  []approval.Kind
	}{
		{"dave", c.intent, []approval.Kind{approval.Reject, approval.Cancel}},  // the initiator
		{"alice", c.intent, []approval.Kind{approval.Reject, approval.Cancel}}, // is asked
		{"erin", c.intent, []approval.Kind{approval.Reject, approval.Cancel, approval.Veto}},
		{"frank", c.intent, nil}, // is asked by another rule
		{"frank", cancel, []approval.Kind{approval.Reject, approval.Cancel}},
		{"alice", cancel, nil},
		{"erin", cancel, []approval.Kind{approval.Reject, approval.Cancel, approval.Veto}},
	} {
		for _, kind := range []approval.Kind{approval.Reject, approval.Cancel, approval.Veto} {
			signed, err := approval.Sign(c.Statement(x.who, kind, x.about, now), keys[x.who])
			if err != nil {
				t.Fatal(err)
			}
			// Whether its author is frozen does not matter.
			for _, frozen := range []map[string][]canon.Digest{nil, {x.who: {digest("a freeze")}}} {
				u := c.under()
				u.Frozen = frozen
				w := approval.Weigh(u, x.about, x.about.Digest(), []approval.Signed{signed})
				want, wantCodes := []string{x.who}, []string(nil)
				if !slices.Contains(x.ends, kind) {
					want, wantCodes = nil, []string{approval.CodeNoVoice}
				}
				if !slices.Equal(w.Ended, want) || !slices.Equal(codes(w.Refused), wantCodes) || len(w.Noes) != 1 {
					t.Errorf("%s of %s about a %s: ended by %v, refused %v", kind, x.who, x.about.Kind, w.Ended, w.Refused)
				}
			}
		}
	}
}

// The subject must be the intent's own digest, and of this cluster; or nothing counts.
func TestTallyRefusesAll(t *testing.T) {
	c := newCluster(t)
	list := c.Approve(t, c.intent, now, "alice", "bob")
	other := c.Payment(now)
	other.Nonce++
	foreign := testcharter.New(t, func(ch *charter.Charter) { ch.Cluster[0]++ })
	many := make([]approval.Signed, approval.MaxStatements+1)
	for i := range many {
		many[i] = list[i%2]
	}
	for name, x := range map[string]struct {
		g    approval.Weighed
		code string
	}{
		"other subject":    {approval.Weigh(under(c.Charter), c.intent, other.Digest(), list), approval.CodeSubject},
		"other intent":     {approval.Weigh(under(c.Charter), other, c.intent.Digest(), list), approval.CodeSubject},
		"zero subject":     {approval.Weigh(under(c.Charter), c.intent, canon.Digest{}, list), approval.CodeSubject},
		"malformed intent": {approval.Weigh(under(c.Charter), &intent.Intent{}, canon.Digest{}, list), approval.CodeSubject},
		"no intent":        {approval.Weigh(under(c.Charter), nil, c.intent.Digest(), list), approval.CodeSubject},
		"no charter":       {approval.Weigh(under(nil), c.intent, c.intent.Digest(), list), approval.CodeSubject},
		"other cluster":    {approval.Weigh(under(foreign.Charter), c.intent, c.intent.Digest(), list), approval.CodeCluster},
		"65 statements":    {c.tally(many...), approval.CodeMalformed},
	} {
		if x.g.Votes != nil || x.g.Ended != nil || !slices.Equal(codes(x.g.Refused), []string{x.code}) {
			t.Errorf("%s: %+v", name, x.g)
		}
	}
	if g := c.tally(many[:approval.MaxStatements]...); len(g.Votes) != 2 {
		t.Errorf("64 statements: %+v", g)
	}
}

// Under a charter without her, alice's approval does not count, though the key is good.
func TestRemovedPerson(t *testing.T) {
	f := testcharter.New(t, func(ch *charter.Charter) {
		ch.People[0].Name = "erin" // alice's place and key
	})
	i := f.Payment(now)
	g := approval.Weigh(under(f.Charter), i, i.Digest(), f.Approve(t, i, now, "alice"))
	if g.Votes != nil || !slices.Equal(codes(g.Refused), []string{approval.CodePerson}) {
		t.Fatalf("%+v", g)
	}
	moved := testcharter.New(t, func(ch *charter.Charter) {
		ch.People[1].Keys, ch.People[2].Keys = ch.People[2].Keys, ch.People[1].Keys // bob's and carol's
	})
	i = moved.Payment(now)
	g = approval.Weigh(under(moved.Charter), i, i.Digest(), moved.Approve(t, i, now, "bob"))
	if g.Votes != nil || !slices.Equal(codes(g.Refused), []string{approval.CodeSignature}) {
		t.Fatalf("%+v", g)
	}
}

// A person needs nothing of ours to approve: OpenSSH signs the digest.
func TestOpenSSHApproves(t *testing.T) {
	_, secret, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(secret, "")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path, file := filepath.Join(dir, "key"), filepath.Join(dir, "digest")
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	key, err := credential.Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	f := testcharter.New(t, func(ch *charter.Charter) { ch.People[0].Keys = []credential.Key{key.Key()} })
	i := f.Payment(now)
	s := f.Statement("alice", approval.Approve, i, now)
	d := s.Digest()
	if err := os.WriteFile(file, d[:], 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("ssh-keygen", "-q", "-Y", "sign", "-n", approval.Namespace, "-f", path, file).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	sig, err := os.ReadFile(file + ".sig")
	if err != nil {
		t.Fatal(err)
	}
	g := approval.Weigh(under(f.Charter), i, i.Digest(), []approval.Signed{{Raw: s.Encode(), Signature: sig}})
	if !slices.Equal(names(g.Votes), []string{"alice"}) || g.Refused != nil {
		t.Fatalf("%+v", g)
	}
}

func TestProtoAndJSON(t *testing.T) {
	c := newCluster(t)
	s := c.Approve(t, c.intent, now, "alice")[0]
	back, err := approval.FromProto(s.ToProto())
	if err != nil || !reflect.DeepEqual(back, s) {
		t.Fatal(err)
	}
	for name, m := range map[string]*pb.SignedMessage{
		"nil": nil, "empty": {}, "no signature": {Raw: s.Raw}, "no raw": {Signature: s.Signature},
		"huge raw": {Raw: make([]byte, approval.MaxRaw+1), Signature: s.Signature}, "huge signature": {Raw: s.Raw, Signature: make([]byte, credential.MaxSignature+1)},
	} {
		if _, err := approval.FromProto(m); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var again approval.Signed
	if err := json.Unmarshal(b, &again); err != nil || !reflect.DeepEqual(again, s) {
		t.Fatal(err)
	}
}

func FuzzParse(f *testing.F) {
	for _, k := range kinds {
		s := sample()
		s.Kind = k
		f.Add(s.Encode())
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := approval.Parse(raw)
		if err != nil {
			return
		}
		if !bytes.Equal(s.Encode(), raw) || s.Digest() != canon.Sum(raw) {
			t.Fatalf("%x encodes to %x", raw, s.Encode())
		}
	})
}

// FuzzTally: whatever two statements are sent, nobody votes who did not sign an approval of this intent.
func FuzzTally(f *testing.F) {
	c := newCluster(f)
	seen := map[string]bool{}
	for _, s := range append(c.Approve(f, c.intent, now, "alice", "bob"), c.say("bob", approval.Withdraw, c.Spare["bob"]), c.say("carol", approval.Approve, c.People["alice"])) {
		f.Add(s.Raw, s.Signature, int64(now))
		seen[string(s.Raw)] = true
	}
	f.Fuzz(func(t *testing.T, raw, sig []byte, at int64) {
		u := c.under()
		u.Now = at
		g := approval.Weigh(u, c.intent, c.intent.Digest(), []approval.Signed{{Raw: raw, Signature: sig}})
		if (len(g.Votes) > 0 || len(g.Ended) > 0) && !seen[string(raw)] {
			t.Fatalf("%x was never signed, and gives %+v", raw, g)
		}
		if len(g.Votes)+len(g.Ended)+len(g.Refused) > 1 {
			t.Fatalf("%+v", g)
		}
	})
}
