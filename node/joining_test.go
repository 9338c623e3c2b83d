package node_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"coffer/canon"
	"coffer/charter"
	"coffer/engine"
	"coffer/identity"
	"coffer/internal/cluster"
	"coffer/keystore"
	"coffer/node"
	"coffer/party"
	pb "coffer/proto/coffer/v1"
	"coffer/transport"
)

func strangers(c *cluster.Config) { c.Strangers = true }

// kept is what lies in a signer's directory.
func kept(t *testing.T, d node.Dir) *charter.File {
	t.Helper()
	f, err := charter.ReadFile(d.Charter())
	if err != nil {
		t.Fatal(err)
	}
	if err := f.VerifyPresent(); err != nil {
		t.Fatal(err)
	}
	return f
}

// Signers that have only their own signature become a cluster through the coordinator,
// whoever starts first and whoever is restarted meanwhile, and make a wallet.
func TestStrangersBecomeACluster(t *testing.T) {
	t.Parallel()
	w := cluster.NewTreasury(t, strangers)
	charterOf := func() *charter.File {
		reply, err := w.API.Charter(t.Context(), &pb.CharterRequest{})
		if err != nil {
			t.Fatal(err)
		}
		f, err := charter.ParseFile(reply.File)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	awaits := func(f *charter.File, ids ...party.ID) bool {
		return strings.Join(f.Missing().Strings(), " ") == strings.Join(party.Set(ids).Strings(), " ")
	}
	if !awaits(charterOf(), "a", "b", "c") {
		t.Fatal("a fresh coordinator has signatures")
	}
	if _, err := w.API.Submit(t.Context(), &pb.SubmitRequest{Intent: w.CreateWallet("EARLY").ToProto()}); status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "a, b, c") {
		t.Errorf("an intent before the charter is complete: %v", err)
	}
	c, a := w.Members["c"], w.Members["a"]
	c.Launch(false)
	w.Eventually("the coordinator has c's signature", func() bool { return awaits(charterOf(), "a", "b") })
	a.Launch(true)
	w.Eventually("c has a's signature", func() bool { return awaits(kept(t, c.Dir), "b") })

	// Nobody forgets over a restart.
	c.Stop()
	w.RestartDesk()
	if !awaits(charterOf(), "b") {
		t.Error("the coordinator lost a signature")
	}
	st, err := a.Operator().Status(t.Context(), &pb.StatusRequest{})
	if err != nil || st.CharterComplete || !st.Sealed || len(st.CharterSignatures) == 0 || len(st.Peers) != 2 {
		t.Errorf("a waiting signer's status: %v, %v", st, err)
	}
	c.Launch(false)
	w.Members["b"].Launch(false)
	for _, id := range []party.ID{"a", "b", "c"} {
		w.Members[id].Ready(id == "a")
		if !awaits(kept(t, w.Members[id].Dir)) {
			t.Errorf("signer %s serves with an incomplete charter", id)
		}
	}
	w.Eventually("the coordinator is complete", func() bool { return awaits(charterOf()) })
	if _, err := a.Operator().Unseal(t.Context(), &pb.UnsealRequest{Passphrase: []byte(cluster.Passphrase)}); err != nil {
		t.Fatal(err)
	}
	w.Eventually("a has primes", func() bool {
		st, err := a.API().Status(t.Context(), &pb.StatusRequest{})
		return err == nil && st.CharterComplete && st.PreParameters > 0
	})
	w.Fund()
}

// waiting is signer a of strangers, awaiting the others, and what ends it.
func waiting(t *testing.T) (*cluster.Treasury, *cluster.Member) {
	t.Helper()
	w := &cluster.Treasury{Cluster: cluster.New(t, cluster.Config{Strangers: true})}
	a := w.Members["a"]
	a.Launch(false)
	w.Eventually("signer a answers", func() bool {
		_, err := a.API().Status(t.Context(), &pb.StatusRequest{})
		return err == nil
	})
	return w, a
}

// Whoever hands a waiting signer a signature is believed nothing.
func TestForgedCharterSignatures(t *testing.T) {
	t.Parallel()
	w, a := waiting(t)
	before := kept(t, a.Dir)
	of := func(id party.ID) []byte {
		s, ok := kept(t, w.Members[id].Dir).Signature(id)
		if !ok {
			t.Fatalf("%s has not signed", id)
		}
		return s.Signature
	}
	clone := before.Charter
	clone.Name = "another"
	key, err := identity.Load(w.Members["b"].Dir.Identity())
	if err != nil {
		t.Fatal(err)
	}
	bent := append([]byte(nil), of("b")...)
	bent[10] ^= 1
	for name, s := range map[string]*pb.NamedSignature{
		"of c in b's name":           {Name: "b", Signature: of("c")},
		"of b under another charter": {Name: "b", Signature: key.Sign(clone.Encode())},
		"one bit of b":               {Name: "b", Signature: bent},
		"none of b":                  {Name: "b"},
		"of a coordinator":           {Name: "desk", Signature: w.DeskKey.Sign(w.Charter.Encode())},
		"of somebody unknown":        {Name: "mallory\x1b[2J", Signature: of("b")},
	} {
		_, err := a.API().Introduce(t.Context(), &pb.IntroduceRequest{CharterSignatures: []*pb.NamedSignature{s}})
		if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), `"`+strings.TrimRight(s.Name, "\x1b[2J")) || strings.Contains(err.Error(), "\x1b") {
			t.Errorf("a signature %s: %v; want a refusal that names it", name, err)
		}
	}
	many := make([]*pb.NamedSignature, 4)
	if _, err := a.API().Introduce(t.Context(), &pb.IntroduceRequest{CharterSignatures: many}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("more signatures than signers: %v", err)
	}
	if after := kept(t, a.Dir); len(after.Signatures) != len(before.Signatures) {
		t.Error("a forged signature was kept")
	}
	// A good one beside a bad one counts, and does not hide it.
	_, err = a.API().Introduce(t.Context(), &pb.IntroduceRequest{CharterSignatures: []*pb.NamedSignature{
		{Name: "c", Signature: of("b")}, {Name: "b", Signature: of("b")},
	}})
	if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), `"c"`) {
		t.Errorf("a bad signature beside a good one: %v", err)
	}
	if got := kept(t, a.Dir).Missing().Strings(); len(got) != 1 || got[0] != "c" {
		t.Errorf("missing are %v, want c", got)
	}
}

// A waiting signer serves its coordinators, only its own charter's, and does nothing
// else: no link to peers, no verdict, no session, no shares.
func TestWaitingDoesNothingElse(t *testing.T) {
	t.Parallel()
	w, a := waiting(t)
	ctx := t.Context()
	i := w.Cluster.CreateWallet("WALLET-1")
	if _, err := a.CreateWallet(ctx, i, w.Approvals(i), cluster.Attempt()); status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "b, c") {
		t.Errorf("a ceremony: %v", err)
	}
	if got := a.Sign(ctx, &pb.SignRequest{Intent: i.ToProto()}); status.Code(got.Err) != codes.FailedPrecondition {
		t.Errorf("a session: %+v", got)
	}
	op := a.Operator()
	for name, call := range map[string]func() error{
		"judge":  func() error { _, err := a.API().Judge(ctx, &pb.JudgeRequest{Intent: i.ToProto()}); return err },
		"adopt":  func() error { _, err := a.API().AdoptWallet(ctx, &pb.AdoptWalletRequest{}); return err },
		"recall": func() error { _, err := a.API().Recall(ctx, &pb.RecallRequest{}); return err },
		"unseal": func() error {
			_, err := op.Unseal(ctx, &pb.UnsealRequest{Passphrase: []byte(cluster.Passphrase)})
			return err
		},
		"seal":    func() error { _, err := op.Seal(ctx, &pb.SealRequest{}); return err },
		"pending": func() error { _, err := op.Recall(ctx, &pb.RecallRequest{}); return err },
	} {
		if err := call(); status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "b, c") {
			t.Errorf("%s: %v; want that it waits for b and c", name, err)
		}
	}
	well, err := op.Doctor(ctx, &pb.DoctorRequest{})
	if err != nil {
		t.Fatal(err)
	}
	finds(t, well.Findings, pb.Level_LEVEL_FAIL, "charter", "not signed yet by b, c")
	finds(t, well.Findings, pb.Level_LEVEL_OK, "coordinator", "came last at")
	stranger, err := identity.Create(filepath.Join(t.TempDir(), "key"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pb.NewSignerClient(a.Dial(stranger)).Status(ctx, &pb.StatusRequest{}); err == nil {
		t.Error("a waiting signer answers somebody whom its charter does not list")
	}
}

// A wrong passphrase is told before the days of waiting, a signer without a charter
// and a New without all signatures at once.
func TestAwaitRefuses(t *testing.T) {
	t.Parallel()
	w := cluster.New(t, cluster.Config{Strangers: true})
	a := w.Members["a"]
	cfg := node.Config{
		Dir: a.Dir, Logger: slog.New(slog.DiscardHandler), Passphrase: []byte("not the one"),
		Link: func(node.Peers) (transport.Link, error) { t.Error("a link was opened"); return nil, os.ErrClosed },
		Host: func() (engine.Host, error) { t.Error("an engine was started"); return nil, os.ErrClosed },
	}
	if err := node.Await(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "passphrase") {
		t.Errorf("a wrong passphrase: %v", err)
	}
	if _, err := node.New(cfg); err == nil || !strings.Contains(err.Error(), "b, c") {
		t.Errorf("a signer began with an incomplete charter: %v", err)
	}
	if err := os.Remove(a.Dir.Pin()); err != nil {
		t.Fatal(err)
	}
	if err := node.Await(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "coffer-signer join") {
		t.Errorf("no charter: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b := cfg
	b.Dir, b.Passphrase = w.Members["b"].Dir, nil
	if err := node.Await(ctx, b); err == nil {
		t.Error("a signer that was stopped while it waited says that its charter is complete")
	}
}

// Join signs once, what its operator was told of, and nothing that was tampered with.
func TestJoin(t *testing.T) {
	t.Parallel()
	w := cluster.New(t, cluster.Config{Strangers: true})
	dir, pin := w.Members["a"].Dir, w.Charter.Digest()
	join := func(f *charter.File, pin canon.Digest, says string) {
		t.Helper()
		if _, err := node.Join(dir, f, pin); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("joined: %v; want %q", err, says)
		}
	}
	before := kept(t, dir)

	// Again, with the bare file: nothing that came meanwhile is lost.
	b, _ := kept(t, w.Members["b"].Dir).Signature("b")
	if _, err := before.Add(b); err != nil {
		t.Fatal(err)
	}
	if err := charter.WriteFile(dir.Charter(), before); err != nil {
		t.Fatal(err)
	}
	again, err := node.Join(dir, w.File, pin)
	if err != nil || len(again.Missing()) != 1 || len(kept(t, dir).Signatures) != 2 {
		t.Errorf("joining again: %v, %v", again.Missing(), err)
	}
	if missing, err := node.Validate(dir); err != nil || strings.Join(missing.Strings(), "") != "c" {
		t.Errorf("validate: %v, %v", missing, err)
	}
	// Again, when the file is damaged: the pin says what it must be.
	if err := os.WriteFile(dir.Charter(), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := node.Validate(dir); err == nil {
		t.Error("a damaged charter is valid")
	}
	if _, err := node.Join(dir, w.File, pin); err != nil || len(kept(t, dir).Signatures) != 1 {
		t.Errorf("joining over a damaged file: %v", err)
	}

	join(w.File, canon.Sum([]byte("x")), "told of")
	clone := before.Charter
	clone.Name = "another"
	join(&charter.File{Charter: clone, Cards: w.File.Cards}, clone.Digest(), "never changes")

	fresh := node.Dir(filepath.Join(t.TempDir(), "fresh"))
	if _, err := node.Init(fresh, node.Settings{
		Name: "a", Organisation: "exchange", ListenPeers: []string{"/ip4/127.0.0.1/tcp/1"}, ListenCoordinator: "127.0.0.1:1",
	}, []byte(cluster.Passphrase), keystore.SealOptions{WorkFactor: keystore.MinWorkFactor}); err != nil {
		t.Fatal(err)
	}
	dir = fresh
	join(w.File, pin, "does not list")
	if _, err := os.Stat(fresh.Charter()); !os.IsNotExist(err) {
		t.Error("a refused charter was written")
	}
}

// A file on which somebody forged a signature is not signed.
func TestJoinRefusesForgedFile(t *testing.T) {
	t.Parallel()
	w := cluster.New(t, cluster.Config{Strangers: true})
	dir := w.Members["a"].Dir
	for _, path := range []string{dir.Pin(), dir.Charter()} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	forged := w.File.Clone()
	c, _ := kept(t, w.Members["c"].Dir).Signature("c")
	for _, s := range []charter.Signature{{Signer: "b", Signature: c.Signature}, {Signer: "a", Signature: c.Signature}} {
		forged.Signatures = []charter.Signature{s}
		if _, err := node.Join(dir, forged, w.Charter.Digest()); err == nil || !strings.Contains(err.Error(), `"`+string(s.Signer)+`"`) {
			t.Errorf("a forged signature of %s: %v", s.Signer, err)
		}
	}
	if _, err := os.Stat(dir.Charter()); !os.IsNotExist(err) {
		t.Error("a forged file was kept")
	}
}
