package coordinator_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"coffer/approval"
	"coffer/canon"
	"coffer/charter"
	"coffer/coordinator"
	"coffer/credential"
	"coffer/intent"
	"coffer/internal/cluster"
	"coffer/internal/testcharter"
	pb "coffer/proto/coffer/v1"
	"coffer/store"
)

// raw signs what intent.Sign would refuse to.
func (w *world) raw(i *intent.Intent, namespace string, key credential.Signer) intent.Signed {
	w.t.Helper()
	i.Cluster, i.Charter = w.Charter.Cluster, w.Charter.Digest()
	if i.Initiator == "" {
		i.Initiator = "alice"
	}
	if i.Expires == 0 {
		i.NotBefore, i.Expires = time.Now().Unix()-60, time.Now().Unix()+3600
	}
	_, _ = rand.Read(i.Salt[:])
	raw := i.Encode()
	digest := canon.Sum(raw)
	signature, err := key.Sign(namespace, digest[:])
	w.must(err)
	return intent.Signed{Raw: raw, Signature: signature}
}

// Bad intents get an error that names the field, and change nothing.
func TestBadIntents(t *testing.T) {
	t.Parallel()
	w := newFunded(t)
	alice := w.People["alice"]
	payment := func(edit func(*intent.Intent)) intent.Signed {
		i := w.Payment(w.Record, "BAD", 0, 1)
		edit(i)
		return w.raw(i, intent.Namespace, alice)
	}
	good := w.payment("GOOD", 1)
	garbled := func(edit func(*intent.Signed)) intent.Signed {
		s := intent.Signed{Raw: bytes.Clone(good.Raw), Signature: bytes.Clone(good.Signature)}
		edit(&s)
		return s
	}
	for name, c := range map[string]struct {
		intent intent.Signed
		code   codes.Code
		words  []string
	}{
		"nothing":               {intent.Signed{}, codes.InvalidArgument, []string{"intent", "missing"}},
		"not signed":            {garbled(func(s *intent.Signed) { s.Signature = nil }), codes.InvalidArgument, []string{"signed"}},
		"truncated":             {garbled(func(s *intent.Signed) { s.Raw = s.Raw[:len(s.Raw)-3] }), codes.InvalidArgument, []string{"malformed"}},
		"with a tail":           {garbled(func(s *intent.Signed) { s.Raw = append(s.Raw, 0) }), codes.InvalidArgument, []string{"malformed"}},
		"tampered":              {garbled(func(s *intent.Signed) { s.Raw[len(s.Raw)-1] ^= 1 }), codes.InvalidArgument, []string{"signature"}},
		"another namespace":     {w.raw(w.Payment(w.Record, "BAD", 0, 1), approval.Namespace, alice), codes.InvalidArgument, []string{"namespace"}},
		"somebody else's key":   {w.raw(w.Payment(w.Record, "BAD", 0, 1), intent.Namespace, w.People["bob"]), codes.InvalidArgument, []string{"not enrolled", "alice"}},
		"nobody":                {payment(func(i *intent.Intent) { i.Initiator = "mallory" }), codes.InvalidArgument, []string{"mallory"}},
		"no checksum":           {payment(func(i *intent.Intent) { i.Transfer.To = strings.ToLower(cluster.Supplier) }), codes.InvalidArgument, []string{"destination", "checksum"}},
		"wrong checksum":        {payment(func(i *intent.Intent) { i.Transfer.To = strings.Replace(cluster.Supplier, "aA", "AA", 1) }), codes.InvalidArgument, []string{"destination", "checksum"}},
		"no address":            {payment(func(i *intent.Intent) { i.Transfer.To = "supplier" }), codes.InvalidArgument, []string{"destination"}},
		"an unknown chain":      {payment(func(i *intent.Intent) { i.Chain = "main" }), codes.InvalidArgument, []string{"chain", "main"}},
		"an unknown asset":      {payment(func(i *intent.Intent) { i.Transfer.Asset = "BTC" }), codes.InvalidArgument, []string{"asset", "BTC"}},
		"an unknown wallet":     {payment(func(i *intent.Intent) { i.Wallet = "other" }), codes.NotFound, []string{"wallet", "other"}},
		"another account":       {payment(func(i *intent.Intent) { i.Account = cluster.Supplier }), codes.InvalidArgument, []string{"account", "treasury"}},
		"expired":               {payment(func(i *intent.Intent) { i.NotBefore, i.Expires = 1_700_000_000, 1_700_003_600 }), codes.FailedPrecondition, []string{"expired", "sign a new one"}},
		"to a stranger":         {payment(func(i *intent.Intent) { i.Transfer.To = testcharter.Stranger }), codes.PermissionDenied, []string{testcharter.Stranger}},
		"more than a rule says": {payment(func(i *intent.Intent) { i.Transfer.Amount = cluster.Tenths(21) }), codes.PermissionDenied, []string{"2 ETH"}},
		"too high a fee":        {payment(func(i *intent.Intent) { i.FeeCap = cluster.Tenths(1) }), codes.PermissionDenied, []string{"fee"}},
		"a cancel of nothing": {w.raw(&intent.Intent{
			Kind: intent.Cancel, Wallet: "treasury", Chain: "dev", Account: w.Account.String(), Reference: "BAD",
			FeeCap: big.NewInt(1e15), Cancel: &intent.CancelBody{Subject: canon.Sum([]byte("nothing"))},
		}, intent.Namespace, alice), codes.NotFound, []string{"cancel"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := w.submit(c.intent)
			wantCode(t, err, c.code, c.words...)
		})
	}
	_, err := w.API.Submit(t.Context(), &pb.SubmitRequest{Intent: payment(func(i *intent.Intent) { i.Transfer.Amount = cluster.Tenths(1001) }).ToProto(), Anyway: true})
	wantCode(t, err, codes.FailedPrecondition, "more than the balance of 100 ETH")
	_, err = w.API.Submit(t.Context(), &pb.SubmitRequest{})
	wantCode(t, err, codes.InvalidArgument, "intent")
	for name, req := range map[string]*pb.AdviseRequest{
		"wallet": {Wallet: "other", Chain: "dev", Asset: "ETH"},
		"chain":  {Wallet: "treasury", Chain: "main", Asset: "ETH"},
		"asset":  {Wallet: "treasury", Chain: "dev", Asset: "BTC"},
	} {
		_, err := w.API.Advise(t.Context(), req)
		wantCode(t, err, codes.NotFound, name)
	}
	for _, id := range []string{"", "abc", "zzzzzz", strings.Repeat("0", 65)} {
		_, err := w.API.Get(t.Context(), &pb.GetRequest{Id: id})
		wantCode(t, err, codes.InvalidArgument, "6 to 64 hex digits")
	}
	if list, err := w.API.List(t.Context(), &pb.ListRequest{}); err != nil || len(list.Intents) != 0 {
		t.Errorf("bad input left %d intents (%v)", len(list.GetIntents()), err)
	}

	// Replayed, by whoever saw it: the first one stands. And a used nonce is used.
	id := w.mustSubmit(good)
	if reply, err := w.submit(good); err != nil || !reply.Existed {
		t.Errorf("replayed: %v, %v", reply, err)
	}
	w.approve(id)
	w.wantDone(id)
	if reply, err := w.submit(good); err != nil || !reply.Existed || reply.Intent.Stage != pb.Stage_STAGE_DONE {
		t.Errorf("replayed after it was paid: %v, %v", reply, err)
	}
	_, err = w.submit(payment(func(*intent.Intent) {}))
	wantCode(t, err, codes.FailedPrecondition, "nonce 0", "the next is 1")
}

// Bad statements are refused one by one, with the reason, and none is kept.
func TestBadStatements(t *testing.T) {
	t.Parallel()
	w := newFunded(t)
	id := w.mustSubmit(w.payment("TARGET", 1))
	statement := func(who string, edit func(*approval.Statement)) *approval.Statement {
		s := &approval.Statement{Cluster: w.Charter.Cluster, Kind: approval.Approve, Subject: id, Person: who, Issued: time.Now().Unix(), Expires: time.Now().Unix() + 60}
		_, _ = rand.Read(s.Nonce[:])
		edit(s)
		return s
	}
	none := func(*approval.Statement) {}
	sign := func(s *approval.Statement, namespace string, key credential.Signer) *pb.SignedMessage {
		raw := s.Encode()
		digest := canon.Sum(raw)
		signature, err := key.Sign(namespace, digest[:])
		w.must(err)
		return &pb.SignedMessage{Raw: raw, Signature: signature}
	}
	bob, ns := w.People["bob"], approval.Namespace
	for name, c := range map[string]struct {
		message *pb.SignedMessage
		code    codes.Code
		word    string
	}{
		"nothing":             {nil, codes.InvalidArgument, "missing"},
		"garbage":             {&pb.SignedMessage{Raw: []byte("yes"), Signature: []byte("bob")}, codes.InvalidArgument, "statement"},
		"the initiator":       {sign(statement("alice", none), ns, w.People["alice"]), codes.PermissionDenied, "APPROVAL_INITIATOR"},
		"nobody":              {sign(statement("mallory", none), ns, testcharter.SSH(t, "mallory")), codes.PermissionDenied, "APPROVAL_PERSON"},
		"somebody else's key": {sign(statement("bob", none), ns, w.People["carol"]), codes.PermissionDenied, "APPROVAL_SIGNATURE"},
		"another namespace":   {sign(statement("bob", none), intent.Namespace, bob), codes.PermissionDenied, "another purpose"},
		"expired":             {sign(statement("bob", func(s *approval.Statement) { s.Issued, s.Expires = 1_700_000_000, 1_700_000_060 }), ns, bob), codes.PermissionDenied, "APPROVAL_EXPIRED"},
		"from the future":     {sign(statement("bob", func(s *approval.Statement) { s.Issued += 3600; s.Expires += 7200 }), ns, bob), codes.PermissionDenied, "APPROVAL_FUTURE"},
		"of another cluster":  {sign(statement("bob", func(s *approval.Statement) { s.Cluster = canon.Sum([]byte("x")) }), ns, bob), codes.PermissionDenied, "APPROVAL_CLUSTER"},
		"about nothing":       {sign(statement("bob", func(s *approval.Statement) { s.Subject = canon.Sum([]byte("x")) }), ns, bob), codes.NotFound, "no such intent"},
		"a freeze":            {sign(statement("bob", func(s *approval.Statement) { s.Kind = approval.Freeze }), ns, bob), codes.PermissionDenied, "APPROVAL_KIND"},
		"signed, then changed": {func() *pb.SignedMessage {
			m := sign(statement("bob", none), ns, bob)
			m.Raw[len(m.Raw)-1] ^= 1
			return m
		}(), codes.PermissionDenied, "APPROVAL_SIGNATURE"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := w.API.State(t.Context(), &pb.StateRequest{Statement: c.message})
			wantCode(t, err, c.code, c.word)
		})
	}
	if v := w.get(id); len(v.Statements) != 0 {
		t.Errorf("bad statements left %d", len(v.Statements))
	}

	// Whoever says the same over and over takes nobody's place, and an old word replayed
	// does not displace a newer one.
	old := sign(statement("bob", none), ns, bob)
	long := sign(statement("bob", func(s *approval.Statement) { s.Expires += 600 }), ns, bob)
	for _, m := range []*pb.SignedMessage{old, long, old} {
		_, err := w.API.State(t.Context(), &pb.StateRequest{Statement: m})
		w.must(err)
	}
	for range approval.MaxStatements + 1 {
		_, err := w.API.State(t.Context(), &pb.StateRequest{Statement: sign(statement("bob", none), ns, bob)})
		w.must(err)
	}
	if v := w.get(id); len(v.Statements) != 1 || !bytes.Equal(v.Statements[0].Raw, long.Raw) {
		t.Errorf("%d statements of bob are kept, want the one that lasts longest", len(v.Statements))
	}
	w.must(w.state("carol", approval.Reject, id))
	w.wantEnd(id, pb.Stage_STAGE_FAILED, "REJECTED")
}

// What is wrong with the directory is said before anything starts.
func TestBadDirectory(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir := w.Desk
	open := func() error {
		c, err := coordinator.New(coordinator.Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
		if err == nil {
			err = errors.Join(errors.New("it opened"), c.Close())
		}
		return err
	}
	says := func(err error, words ...string) {
		t.Helper()
		for _, word := range words {
			if err == nil || !strings.Contains(err.Error(), word) {
				t.Errorf("error %v, want %q in it", err, word)
			}
		}
	}
	if err := open(); !errors.Is(err, store.ErrInUse) {
		t.Errorf("a directory in use: %v", err)
	}
	w.StopDesk()
	_, err := coordinator.Init(dir, coordinator.Settings{Name: "desk", Organisation: "exchange", Listen: "127.0.0.1:0"})
	says(err, "not empty")

	with := func(path string, edit func([]byte) []byte, words ...string) {
		t.Helper()
		good, err := os.ReadFile(path)
		w.must(err)
		w.must(os.WriteFile(path, edit(bytes.Clone(good)), 0o600))
		says(open(), words...)
		w.must(os.WriteFile(path, good, 0o600))
	}
	with(dir.Store(), func(b []byte) []byte { return b[:len(b)/2] }, "damaged", dir.Store())
	with(dir.Store(), func([]byte) []byte { return nil }, "damaged")
	with(dir.Config(), func(b []byte) []byte { return bytes.Replace(b, []byte(`"listen"`), []byte(`"lisden"`), 1) }, "lisden")
	with(dir.Config(), func(b []byte) []byte { return append(b, '{') }, "text after the settings")
	with(dir.Config(), func(b []byte) []byte { return bytes.Replace(b, []byte(`"dev"`), []byte(`"main"`), 1) }, "chains.main")
	with(dir.Charter(), func(b []byte) []byte { return bytes.Replace(b, []byte(`"2 ETH"`), []byte(`"9 ETH"`), 1) }, "edited after")
	with(dir.Charter(), func(b []byte) []byte { return b[:len(b)/2] }, "charter")
	with(dir.Identity(), func([]byte) []byte { return []byte("x") }, "identity")
	w.must(os.Chmod(dir.Identity(), 0o644))
	says(open(), "identity.key")
	w.must(os.Chmod(dir.Identity(), 0o600))

	empty := coordinator.Dir(filepath.Join(t.TempDir(), "none"))
	c, err := coordinator.New(coordinator.Config{Dir: empty, Logger: slog.New(slog.DiscardHandler)})
	if c != nil {
		t.Error("a directory that is none opened")
	}
	says(err, "coffer-coordinator init")
	if _, err := os.Stat(string(empty)); !os.IsNotExist(err) {
		t.Error("to open made a directory")
	}
	w.StartDesk() // nothing of all this has changed anything
}

// A coordinator serves only a charter that it is in.
func TestCharterOfAnother(t *testing.T) {
	t.Parallel()
	f := testcharter.New(t)
	dir := coordinator.Dir(filepath.Join(t.TempDir(), "desk"))
	card, err := coordinator.Init(dir, coordinator.Settings{Name: "desk", Organisation: "exchange", Listen: "127.0.0.1:7400", Announce: "desk.example:7400"})
	if err != nil {
		t.Fatal(err)
	}
	if again, err := coordinator.Card(dir); err != nil || again != card {
		t.Errorf("the card changes: %v", err)
	}
	open := func() error {
		t.Helper()
		c, err := coordinator.New(coordinator.Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
		if c != nil {
			t.Error("it opened")
		}
		return err
	}
	if err := open(); err == nil || !strings.Contains(err.Error(), "put the charter file at "+dir.Charter()) {
		t.Errorf("no charter: %v", err)
	}
	if err := charter.WriteFile(dir.Charter(), f.File); err != nil {
		t.Fatal(err)
	}
	if err := open(); err == nil || !strings.Contains(err.Error(), "does not list") {
		t.Errorf("a charter without this coordinator: %v", err)
	}
	for field, s := range map[string]coordinator.Settings{
		"name":         {Name: "Desk", Organisation: "exchange", Listen: ":1"},
		"organisation": {Name: "desk", Organisation: "", Listen: ":1"},
		"listen":       {Name: "desk", Organisation: "exchange", Listen: "here"},
		"announce":     {Name: "desk", Organisation: "exchange", Listen: ":1", Announce: "there"},
		"chains.dev.url:": {Name: "desk", Organisation: "exchange", Listen: ":1", Chains: map[string]coordinator.ChainSettings{
			"dev": {URL: "ipc:/x"},
		}},
		"chains.dev.fallbacks[1]:": {Name: "desk", Organisation: "exchange", Listen: ":1", Chains: map[string]coordinator.ChainSettings{
			"dev": {URL: "http://x", Fallbacks: []string{"https://y", "ws://z"}},
		}},
		"chains.dev.confirmations:": {Name: "desk", Organisation: "exchange", Listen: ":1", Chains: map[string]coordinator.ChainSettings{
			"dev": {URL: "http://x", Confirmations: 1001},
		}},
		"chains.dev.bump_after:": {Name: "desk", Organisation: "exchange", Listen: ":1", Chains: map[string]coordinator.ChainSettings{
			"dev": {URL: "http://x", BumpAfter: 1},
		}},
		"name the host": {Name: "desk", Organisation: "exchange", Listen: "0.0.0.0:7400"},
	} {
		if err := s.Validate(); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("settings with a bad %s: %v", field, err)
		}
	}
}
