package main

import (
	"context"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"

	"coffer/approval"
	"coffer/canon"
	"coffer/chain/evm"
	"coffer/identity"
	"coffer/internal/cli"
	"coffer/internal/cluster"
	"coffer/internal/testcharter"
	"coffer/partial"
	pb "coffer/proto/coffer/v1"
	"coffer/rpc"
)

// liar is a coordinator with the right key that passes on what an honest one says,
// after a lie has been put in.
type liar struct {
	pb.UnimplementedCoordinatorServer
	honest pb.CoordinatorClient
	// charter is what it says that the charter file is.
	charter []byte

	mu     sync.Mutex
	intent func(*pb.IntentView)
	submit func(*pb.SubmitResponse)
	record func(*pb.SignedRecord)
	state  func(*pb.ClusterResponse)
	cut    func() error // after a request was taken
	stated int          // statements that somebody signed and handed in
	asked  int          // intents that somebody signed and handed in
}

func (l *liar) view(v *pb.IntentView, err error) (*pb.IntentView, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil && l.intent != nil {
		l.intent(v)
	}
	return v, err
}

func (l *liar) Advise(ctx context.Context, r *pb.AdviseRequest) (*pb.AdviseResponse, error) {
	return l.honest.Advise(ctx, r)
}

func (l *liar) Submit(ctx context.Context, r *pb.SubmitRequest) (*pb.SubmitResponse, error) {
	l.mu.Lock()
	l.asked++
	l.mu.Unlock()
	reply, err := l.honest.Submit(ctx, r)
	if err != nil {
		return nil, err
	}
	if l.cut != nil {
		if err := l.cut(); err != nil {
			return nil, err
		}
	}
	if l.submit != nil {
		l.submit(reply)
	}
	reply.Intent, err = l.view(reply.Intent, err)
	return reply, err
}

func (l *liar) State(context.Context, *pb.StateRequest) (*pb.StateResponse, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stated++
	return &pb.StateResponse{}, nil
}

func (l *liar) Get(ctx context.Context, r *pb.GetRequest) (*pb.IntentView, error) {
	return l.view(l.honest.Get(ctx, r))
}

func (l *liar) List(ctx context.Context, r *pb.ListRequest) (*pb.ListResponse, error) {
	reply, err := l.honest.List(ctx, r)
	for _, v := range reply.GetIntents() {
		_, _ = l.view(v, nil)
	}
	return reply, err
}

func (l *liar) Watch(r *pb.GetRequest, stream pb.Coordinator_WatchServer) error {
	v, err := l.Get(stream.Context(), r)
	if err != nil {
		return err
	}
	return stream.Send(v)
}

func (l *liar) Wallets(ctx context.Context, r *pb.WalletsRequest) (*pb.WalletsResponse, error) {
	reply, err := l.honest.Wallets(ctx, r)
	for _, record := range reply.GetWallets() {
		if l.record != nil {
			l.record(record)
		}
	}
	return reply, err
}

func (l *liar) Cluster(ctx context.Context, r *pb.ClusterRequest) (*pb.ClusterResponse, error) {
	reply, err := l.honest.Cluster(ctx, r)
	if err == nil && l.state != nil {
		l.state(reply)
	}
	return reply, err
}

func (l *liar) Charter(context.Context, *pb.CharterRequest) (*pb.CharterResponse, error) {
	return &pb.CharterResponse{File: l.charter}, nil
}

func (l *liar) serve(t *testing.T, w *cluster.Treasury) (addr string) {
	t.Helper()
	methods := rpc.Methods{}
	for _, m := range pb.Coordinator_ServiceDesc.Methods {
		methods["/"+pb.Coordinator_ServiceDesc.ServiceName+"/"+m.MethodName] = rpc.Anybody
	}
	for _, m := range pb.Coordinator_ServiceDesc.Streams {
		methods["/"+pb.Coordinator_ServiceDesc.ServiceName+"/"+m.StreamName] = rpc.Anybody
	}
	server, err := rpc.NewPublicServer(w.DeskKey, methods, nil, rpc.PublicBounds())
	if err != nil {
		t.Fatal(err)
	}
	pb.RegisterCoordinatorServer(server, l)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(lis) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return lis.Addr().String()
}

// A coordinator that lies about anything that somebody signed is found out by every
// command that shows it, and nobody signs anything on its word.
func TestLyingCoordinator(t *testing.T) {
	w := cluster.NewTreasury(t).Fund()
	honest := newDesk(t, w.File, "")
	supplier := cluster.Supplier
	target := honest.must("alice", "pay", "1", "ETH", supplier, "--from", "treasury", "--ref", "TARGET")
	other := honest.must("alice", "pay", "2", "ETH", supplier, "--from", "treasury", "--ref", "OTHER")
	paid := honest.must("alice", "pay", "0.1", "ETH", supplier, "--from", "treasury", "--ref", "PAID")
	// Nonces in order: the first two are to wait for people, so the paid one is signed, not mined.
	for _, who := range []string{"bob", "carol"} {
		honest.must(who, "approve", paid, "--yes")
	}
	w.Eventually("the payment is signed", func() bool { return viewOf(t, w, paid).Stage == pb.Stage_STAGE_BROADCAST })
	l := &liar{honest: w.API}
	d := newDesk(t, w.File, l.serve(t, w))

	garble := func(b []byte) []byte {
		out := slices.Clone(b)
		if len(out) > 0 {
			out[len(out)/2] ^= 1
		}
		return out
	}
	// onlyTarget lies about one intent, since that is enough.
	onlyTarget := func(lie func(*pb.IntentView)) func(*pb.IntentView) {
		return func(v *pb.IntentView) {
			if v.Id == target {
				lie(v)
			}
		}
	}
	otherView, paidView := viewOf(t, w, other), viewOf(t, w, paid)
	// another is an intent of alice's that she signed for nobody to see yet.
	another := w.Sign("alice", w.Payment(w.Record, "ANOTHER", 7, 20))
	if s := viewOf(t, w, target); len(s.Verdicts) != 3 {
		t.Fatalf("%d verdicts", len(s.Verdicts))
	}
	lies := map[string]func(*pb.IntentView){
		"another intent's bytes":           func(v *pb.IntentView) { v.Intent = otherView.Intent },
		"another intent under its own ID":  func(v *pb.IntentView) { proto.Reset(v); proto.Merge(v, otherView) },
		"an intent that nobody asked for":  func(v *pb.IntentView) { v.Intent = another.ToProto() },
		"changed bytes":                    func(v *pb.IntentView) { v.Intent.Raw = garble(v.Intent.Raw) },
		"changed bytes and their digest":   func(v *pb.IntentView) { v.Intent.Raw = garble(v.Intent.Raw); v.Id = canon.Sum(v.Intent.Raw).String() },
		"a changed signature":              func(v *pb.IntentView) { v.Intent.Signature = garble(v.Intent.Signature) },
		"another ID":                       func(v *pb.IntentView) { v.Id = other },
		"no intent":                        func(v *pb.IntentView) { v.Intent = nil },
		"a verdict of another intent":      func(v *pb.IntentView) { v.Verdicts = otherView.Verdicts },
		"a verdict of another signer":      func(v *pb.IntentView) { fresh(v, otherView); v.Verdicts[0].Signer = "b" },
		"a changed verdict":                func(v *pb.IntentView) { fresh(v, otherView); v.Verdicts[1].Verdict = garble(v.Verdicts[1].Verdict) },
		"a verdict without its signature":  func(v *pb.IntentView) { fresh(v, otherView); v.Verdicts[2].Signature = nil },
		"a verdict of nobody":              func(v *pb.IntentView) { v.Verdicts = []*pb.SignerVerdict{{Signer: "z", Verdict: []byte("yes")}} },
		"the same verdict twice":           func(v *pb.IntentView) { fresh(v, otherView); v.Verdicts = append(v.Verdicts, v.Verdicts[0]) },
		"done, without a transaction":      func(v *pb.IntentView) { v.Stage = pb.Stage_STAGE_DONE },
		"mined, without a transaction":     func(v *pb.IntentView) { v.Block = 7 },
		"a hash without a transaction":     func(v *pb.IntentView) { v.TxHash = paidView.TxHash },
		"another intent's transaction":     func(v *pb.IntentView) { v.RawTx, v.TxHash = paidView.RawTx, paidView.TxHash },
		"a transaction that is none":       func(v *pb.IntentView) { v.RawTx = []byte("paid") },
		"a version of another intent":      func(v *pb.IntentView) { v.Sent = paidView.Sent },
		"versions, none of them shown":     func(v *pb.IntentView) { v.Sent = []*pb.Sent{{TxHash: "0x00"}} },
		"confirmed, without a transaction": func(v *pb.IntentView) { v.Stage = pb.Stage_STAGE_CONFIRMATION },
		"a transaction of another account": func(v *pb.IntentView) { v.RawTx = resigned(t, paidView.RawTx) },
	}
	commands := map[string][]string{
		"show":     {"show", target},
		"wait":     {"show", target, "--wait"},
		"approve":  {"approve", target, "--yes"},
		"reject":   {"reject", target, "--yes"},
		"withdraw": {"withdraw", target, "--yes"},
		"cancel":   {"cancel", target, "--ref", "STOP"},
		"pending":  {"pending"},
		"history":  {"history"},
		"pay":      {"pay", "1", "ETH", supplier, "--from", "treasury", "--ref", "TARGET"},
	}
	for name, lie := range lies {
		t.Run(name, func(t *testing.T) {
			l.mu.Lock()
			l.intent = onlyTarget(lie)
			l.stated, l.asked = 0, 0
			l.mu.Unlock()
			for command, args := range commands {
				if command == "pending" || command == "history" {
					if name == "another intent under its own ID" {
						continue // a list may hold any intents, and twice the same one is still that one
					}
				}
				who := "bob"
				if command == "pay" || command == "cancel" {
					who = "alice"
				}
				r := d.run(who, args...)
				if r.code != cli.Failed || !strings.Contains(r.stderr, "coordinator") {
					t.Errorf("%s: exit %d: %s", command, r.code, r.stderr)
				}
				if strings.Contains(r.stdout, "ETH") {
					t.Errorf("%s shows what is a lie: %s", command, r.stdout)
				}
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			if l.stated != 0 || l.asked > 1 { // the one is pay's own
				t.Errorf("%d statements and %d intents were signed on a liar's word", l.stated, l.asked)
			}
		})
	}

	t.Run("the answer to a request", func(t *testing.T) {
		l.mu.Lock()
		l.intent = nil
		l.mu.Unlock()
		defer func() { l.submit = nil }()
		for name, lie := range map[string]func(*pb.SubmitResponse){
			"existed, and is another":     func(r *pb.SubmitResponse) { r.Existed, r.Intent = true, otherView },
			"is new, and is another":      func(r *pb.SubmitResponse) { r.Existed, r.Intent = false, otherView },
			"is new, and is the first":    func(r *pb.SubmitResponse) { r.Existed = false },
			"there is no intent at all":   func(r *pb.SubmitResponse) { r.Intent = nil },
			"approvals of nobody counted": func(r *pb.SubmitResponse) { r.Intent.Id = other },
		} {
			l.submit = lie
			if r := d.run("alice", commands["pay"]...); r.code != cli.Failed || !strings.Contains(r.stderr, "coordinator") {
				t.Errorf("%s: exit %d: %s", name, r.code, r.stderr)
			}
		}
	})

	t.Run("wallets", func(t *testing.T) {
		defer func() { l.record = nil }()
		for name, lie := range map[string]func(*pb.SignedRecord){
			"another key":              func(r *pb.SignedRecord) { r.Raw = garble(r.Raw) },
			"a changed signature":      func(r *pb.SignedRecord) { r.Signatures[0].Signature = garble(r.Signatures[0].Signature) },
			"a signature too few":      func(r *pb.SignedRecord) { r.Signatures = r.Signatures[:2] },
			"one signer's twice":       func(r *pb.SignedRecord) { r.Signatures[2] = r.Signatures[1] },
			"no signatures":            func(r *pb.SignedRecord) { r.Signatures = nil },
			"a record that is nothing": func(r *pb.SignedRecord) { r.Raw = nil },
		} {
			l.record = lie
			for _, args := range [][]string{
				{"wallet", "list"}, {"wallet", "show", "treasury"}, {"wallet", "list", "--json"},
				{"pay", "1", "ETH", supplier, "--from", "treasury", "--ref", "NEW"},
			} {
				if r := d.run("alice", args...); r.code != cli.Failed || !strings.Contains(r.stderr, "the coordinator shows a wallet record") || r.stdout != "" {
					t.Errorf("%s, %s: exit %d: %s%s", name, args[0], r.code, r.stdout, r.stderr)
				}
			}
		}
	})

	t.Run("the cluster", func(t *testing.T) {
		defer func() { l.state = nil }()
		for name, c := range map[string]struct {
			lie   func(*pb.ClusterResponse)
			shows string
		}{
			"a stranger":        {func(r *pb.ClusterResponse) { r.Signers[0].Name = "z\x1b" }, "whom the charter does not list"},
			"one twice":         {func(r *pb.ClusterResponse) { r.Signers[0].Name = "b" }, "speaks twice"},
			"a changed record":  {func(r *pb.ClusterResponse) { w := r.Signers[1].Status.Wallets[0]; w.Raw = garble(w.Raw) }, "wallet record"},
			"another identity":  {func(r *pb.ClusterResponse) { r.Signers[0].Status.PeerId = "x\x1b\ny"; r.Signers[1].Reachable = false }, "calls itself"},
			"another charter":   {func(r *pb.ClusterResponse) { r.Signers[0].Status.CharterDigest[0] ^= 1; r.Signers[1].Reachable = false }, "under another charter"},
			"silence about two": {func(r *pb.ClusterResponse) { r.Signers = r.Signers[:1] }, "says nothing of it"},
			"escapes": {func(r *pb.ClusterResponse) {
				r.Signers = r.Signers[:1]
				r.Signers[0].Reachable, r.Signers[0].Error = false, "a\x1b[2K\nsigner b ready"
			}, "AWAY"},
		} {
			l.state = c.lie
			r := d.run("carol", "status")
			if r.code != cli.Failed || !strings.Contains(r.stdout+r.stderr, c.shows) || strings.ContainsAny(r.stdout+r.stderr, "\x1b") {
				t.Errorf("%s: exit %d: %s%s", name, r.code, r.stdout, r.stderr)
			}
		}
	})

	t.Run("approvals", func(t *testing.T) {
		bob := w.State("bob", approval.Approve, canon.Sum(otherView.Intent.Raw)).ToProto()
		l.mu.Lock()
		l.intent = onlyTarget(func(v *pb.IntentView) {
			v.Statements = []*pb.SignedMessage{bob, {Raw: []byte("yes"), Signature: []byte("bob")}}
			v.Missing, v.PreviewAllows = nil, true
		})
		l.mu.Unlock()
		shown := decode[report](t, d.must("carol", "show", target, "--json"))
		if len(shown.ApprovedBy) != 0 || len(shown.Missing) != 1 {
			t.Errorf("approved by %q, missing %q", shown.ApprovedBy, shown.Missing)
		}
	})

	// What nobody signs, such as a sentence about the stage, cannot be verified; it must not
	// look like something that was.
	t.Run("terminal", func(t *testing.T) {
		l.mu.Lock()
		l.intent = onlyTarget(func(v *pb.IntentView) {
			evil := "fine\x1b[1A\x1b[2K\r\nto            0xEvil\u202e\u2066\x9b2J\xff\nsigner a      would sign"
			v.Detail, v.Progress, v.FailureCode, v.Missing, v.Preview = strings.ToValidUTF8(evil, "?"), strings.ToValidUTF8(evil, "?"), "A\x1b", []string{"\x1b"}, []string{"\r"}
			v.SignedBy = []string{"a\nsigned by     b"}
			v.Verdicts = []*pb.SignerVerdict{{Signer: "a", Error: "away\nsigner a      would sign"}}
		})
		l.mu.Unlock()
		for _, args := range [][]string{{"show", target}, {"show", target, "--json"}, {"pending", "--mine"}, {"history"}, {"approve", target, "--yes"}} {
			r := d.run("bob", args...)
			text := r.stdout + r.stderr
			if strings.ContainsAny(text, "\x1b\r\u202e\u2066\u009b") {
				t.Errorf("%s passes on what a terminal obeys: %q", args[0], text)
			}
			for _, line := range strings.Split(text, "\n") {
				if strings.HasPrefix(line, "to            0xEvil") || strings.HasPrefix(line, "signer a      would") {
					t.Errorf("%s shows a line that the coordinator made up: %q", args[0], line)
				}
			}
		}
	})

	t.Run("another coordinator's key", func(t *testing.T) {
		stranger := *w
		stranger.DeskKey = testKey(t)
		d := newDesk(t, w.File, (&liar{honest: w.API}).serve(t, &stranger))
		if r := d.run("carol", "pending"); r.code != cli.Failed || r.stdout != "" || !strings.Contains(r.stderr, "has not the key of coordinator \"desk\"") {
			t.Errorf("exit %d: %s%s", r.code, r.stdout, r.stderr)
		}
	})
}
func viewOf(t *testing.T, w *cluster.Treasury, id string) *pb.IntentView {
	t.Helper()
	v, err := w.API.Get(t.Context(), &pb.GetRequest{Id: id})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// fresh gives a view that was listed, and so has no verdicts, some to lie about.
func fresh(v, other *pb.IntentView) {
	if len(v.Verdicts) == 0 {
		v.Verdicts = proto.Clone(other).(*pb.IntentView).Verdicts
	}
}

// resigned is a transaction with a signature that is well formed and somebody else's.
func resigned(t *testing.T, raw []byte) []byte {
	t.Helper()
	_, u, err := evm.Recover(raw)
	if err != nil {
		t.Fatal(err)
	}
	for n := byte(1); n < 100; n++ {
		sig := partial.Signature{V: 0}
		sig.R[31], sig.S[31] = n, 1
		if out, _, err := u.Assemble(sig); err == nil {
			return out
		}
	}
	t.Fatal("no signature is well formed")
	return nil
}

func testKey(t *testing.T) *identity.Key { t.Helper(); return testcharter.Identity(t, "a stranger") }
