package node

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"coffer/approval"
	"coffer/audit"
	"coffer/authority"
	"coffer/canon"
	"coffer/gate"
	"coffer/intent"
	"coffer/party"
	pb "coffer/proto/coffer/v1"
	"coffer/verdict"
	"coffer/wallet"
)

// The largest parts of a request; gRPC's own limit bounds the whole.
const (
	maxMessage    = 64 << 10
	maxSignature  = 8 << 10
	maxStatements = 64
	maxUnsigned   = 128 << 10
)

// service answers the charter's coordinators. Whatever it is told, it decides by
// package gate from the signed bytes alone.
type service struct {
	pb.UnimplementedSignerServer
	n *Node
}

// request is one decoded, size-checked request to judge or sign.
type request struct {
	intent     intent.Signed
	statements []approval.Signed
	unsigned   []byte
}

func decode(i *pb.SignedMessage, statements []*pb.SignedMessage, unsigned []byte) (request, error) {
	var r request
	if i == nil || len(i.Raw) == 0 || len(i.Raw) > maxMessage || len(i.Signature) > maxSignature {
		return r, status.Errorf(codes.InvalidArgument, "intent: missing, or over %d bytes, or its signature over %d", maxMessage, maxSignature)
	}
	if len(statements) > maxStatements {
		return r, status.Errorf(codes.InvalidArgument, "statements: %d, at most %d are taken", len(statements), maxStatements)
	}
	if len(unsigned) > maxUnsigned {
		return r, status.Errorf(codes.InvalidArgument, "unsigned_tx: %d bytes, at most %d are taken", len(unsigned), maxUnsigned)
	}
	r.intent = intent.Signed{Raw: i.Raw, Signature: i.Signature}
	for n, s := range statements {
		if s == nil || len(s.Raw) > maxMessage || len(s.Signature) > maxSignature {
			return r, status.Errorf(codes.InvalidArgument, "statements[%d]: missing, or over %d bytes, or its signature over %d", n, maxMessage, maxSignature)
		}
		r.statements = append(r.statements, approval.Signed{Raw: s.Raw, Signature: s.Signature})
	}
	r.unsigned = unsigned
	return r, nil
}

// Status answers what this signer has and is.
func (s *service) Status(context.Context, *pb.StatusRequest) (*pb.StatusResponse, error) {
	s.n.seen.asked.Store(time.Now().Unix())
	return s.n.status()
}

// Judge answers this signer's signed verdict. It reserves nothing and signs no transaction.
func (s *service) Judge(_ context.Context, req *pb.JudgeRequest) (*pb.JudgeResponse, error) {
	r, err := decode(req.Intent, req.Statements, req.UnsignedTx)
	if err != nil {
		return nil, err
	}
	in, err := s.n.input(r, canon.Digest{})
	if err != nil {
		return nil, s.n.grpcError(err)
	}
	if err := s.n.note(r, false); err != nil {
		return nil, s.n.grpcError(err)
	}
	v := s.n.judge(in)
	if err := s.n.auditVerdict("JUDGED", &v, false); err != nil {
		return nil, s.n.grpcError(err)
	}
	return s.n.answer(&v)
}

// AdoptWallet activates a wallet whose ceremony ended without this signer hearing of it.
func (s *service) AdoptWallet(_ context.Context, req *pb.AdoptWalletRequest) (*pb.AdoptWalletResponse, error) {
	if req.Wallet == nil {
		return nil, status.Error(codes.InvalidArgument, "wallet: missing")
	}
	signed, err := wallet.FromProto(req.Wallet)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, "wallet: "+err.Error())
	}
	if err := s.n.adopt(signed); err != nil {
		return nil, status.Error(codes.FailedPrecondition, err.Error())
	}
	return &pb.AdoptWalletResponse{}, nil
}

// Sign judges, prepares, judges again, and gives this signer's partial.
func (s *service) Sign(req *pb.SignRequest, stream pb.Signer_SignServer) error {
	r, err := decode(req.Intent, req.Statements, req.UnsignedTx)
	if err != nil {
		return err
	}
	attempt, err := canon.DigestFrom(req.Attempt)
	if err != nil {
		return status.Error(codes.InvalidArgument, "attempt: "+err.Error())
	}
	signers, err := party.SetFrom(req.Signers)
	if err != nil {
		return status.Error(codes.InvalidArgument, "signers: "+err.Error())
	}
	moved := s.n.moved.Load()
	// A provisional session: the session's own ID exists only once every signer has
	// sent its nonce, and the second judgement, before release, binds to that one.
	in, err := s.n.input(r, attempt)
	if err != nil {
		return s.n.grpcError(err)
	}
	authorized, v := gate.Check(in)
	if authorized != nil {
		// Before anything is written: a request that no session can come of costs no disk.
		if err := mayTakePart(s.n.self, in.Wallet, signers); err != nil {
			return status.Error(codes.InvalidArgument, "signers: "+err.Error())
		}
	}
	if err := s.n.note(r, authorized != nil); err != nil {
		return s.n.grpcError(err)
	}
	if err := s.n.auditVerdict("SIGN_REQUEST", &v, true); err != nil {
		return s.n.grpcError(err)
	}
	if authorized == nil {
		reply, err := s.n.answer(&v)
		if err != nil {
			return err
		}
		return stream.Send(&pb.SignEvent{Event: &pb.SignEvent_Refused{Refused: reply}})
	}
	run, err := s.n.startSigning(stream.Context(), judged{r, moved}, in.Wallet, signers, attempt)
	if err != nil {
		return s.n.grpcError(err)
	}
	return follow(stream.Context(), s.n, run, func(e runEvent) (bool, error) {
		switch {
		case e.partial != nil:
			return true, stream.Send(&pb.SignEvent{Event: &pb.SignEvent_Partial{Partial: &pb.Partial{
				Session: e.partial.Session[:], R: e.partial.R[:], S: e.partial.S[:],
			}}})
		case e.refused != nil:
			reply, err := s.n.answer(e.refused)
			if err != nil {
				return true, err
			}
			return true, stream.Send(&pb.SignEvent{Event: &pb.SignEvent_Refused{Refused: reply}})
		case e.failed != nil:
			return true, stream.Send(&pb.SignEvent{Event: &pb.SignEvent_Failed{Failed: failure(e)}})
		default:
			return false, stream.Send(&pb.SignEvent{Event: &pb.SignEvent_Progress{Progress: &pb.Progress{Stage: e.stage, Text: e.text}}})
		}
	})
}

// CreateWallet judges the intent and takes part in the ceremony.
func (s *service) CreateWallet(req *pb.CreateWalletRequest, stream pb.Signer_CreateWalletServer) error {
	r, err := decode(req.Intent, req.Statements, nil)
	if err != nil {
		return err
	}
	attempt, err := canon.DigestFrom(req.Attempt)
	if err != nil {
		return status.Error(codes.InvalidArgument, "attempt: "+err.Error())
	}
	moved := s.n.moved.Load()
	in, err := s.n.input(r, attempt)
	if err != nil {
		return s.n.grpcError(err)
	}
	permit, v := gate.CheckCeremony(in)
	if err := s.n.note(r, permit != nil); err != nil {
		return s.n.grpcError(err)
	}
	if err := s.n.auditVerdict("CEREMONY_REQUEST", &v, true); err != nil {
		return s.n.grpcError(err)
	}
	if permit == nil {
		reply, err := s.n.answer(&v)
		if err != nil {
			return err
		}
		return stream.Send(&pb.CeremonyEvent{Event: &pb.CeremonyEvent_Refused{Refused: reply}})
	}
	run, err := s.n.startCeremony(stream.Context(), judged{r, moved}, permit, attempt)
	if err != nil {
		return s.n.grpcError(err)
	}
	return follow(stream.Context(), s.n, run, func(e runEvent) (bool, error) {
		switch {
		case e.wallet != nil:
			return true, stream.Send(&pb.CeremonyEvent{Event: &pb.CeremonyEvent_Wallet{Wallet: e.wallet.ToProto()}})
		case e.refused != nil:
			reply, err := s.n.answer(e.refused)
			if err != nil {
				return true, err
			}
			return true, stream.Send(&pb.CeremonyEvent{Event: &pb.CeremonyEvent_Refused{Refused: reply}})
		case e.failed != nil:
			return true, stream.Send(&pb.CeremonyEvent{Event: &pb.CeremonyEvent_Failed{Failed: failure(e)}})
		default:
			return false, stream.Send(&pb.CeremonyEvent{Event: &pb.CeremonyEvent_Progress{Progress: &pb.Progress{Stage: e.stage, Text: e.text}}})
		}
	})
}

// mayTakePart refuses a list of signers that no session can have.
func mayTakePart(self party.ID, r *wallet.Record, signers party.Set) error {
	switch {
	case len(signers) != r.Quorum.Need:
		return fmt.Errorf("%d are named, exactly %d take part", len(signers), r.Quorum.Need)
	case !signers.SubsetOf(r.Signers):
		return fmt.Errorf("%s are not all among the wallet's, %s", strings.Join(signers.Strings(), ", "), strings.Join(r.Signers.Strings(), ", "))
	case !signers.Has(self):
		return fmt.Errorf("this signer, %s, is not among them", self)
	}
	return nil
}

func failure(e runEvent) *pb.Failure {
	f := &pb.Failure{Code: e.failed.Code, Text: e.failed.Text}
	for _, c := range e.failed.Culprits {
		f.Culprits = append(f.Culprits, string(c))
	}
	return f
}

// follow passes the events of a run to a stream until one ends it. When the
// coordinator goes away the run ends too: nobody would collect its result.
func follow(ctx context.Context, n *Node, run *run, send func(runEvent) (last bool, err error)) error {
	for {
		select {
		case e := <-run.events:
			last, err := send(e)
			if last || err != nil {
				if err != nil {
					n.abort(run, "COORDINATOR_GONE", "the coordinator's stream broke")
				}
				return err
			}
		case <-ctx.Done():
			n.abort(run, "COORDINATOR_GONE", "the coordinator ended the request")
			return status.FromContextError(ctx.Err()).Err()
		}
	}
}

// answer signs a verdict.
func (n *Node) answer(v *verdict.Verdict) (*pb.JudgeResponse, error) {
	raw, signature, err := v.Sign(n.key)
	if err != nil {
		return nil, n.grpcError(err)
	}
	return &pb.JudgeResponse{Verdict: raw, Signature: signature}, nil
}

// input gathers what the gate judges: the request's bytes and this signer's own
// charter, wallet record, journal and clock.
func (n *Node) input(r request, session canon.Digest) (gate.Input, error) {
	now := time.Now()
	in := gate.Input{
		Now: now.Unix(), Self: n.self, Charter: n.inForce(), Frozen: n.book.Frozen(), Lists: n.book.Lists(), Here: n.here(), Heads: n.standing(now),
		Intent: r.intent, Statements: r.statements, Unsigned: r.unsigned, Session: session,
	}
	// The intent is read here only to find the records that the gate needs; the gate
	// reads and verifies it itself. What cannot be read is left to the gate to refuse.
	i, err := intent.Parse(r.intent.Raw)
	if err != nil {
		return in, nil //nolint:nilerr // the gate refuses it with its own reason
	}
	if in.Statements, err = n.memory.withNarrowing(r); err != nil {
		return in, err
	}
	in.Statements = withOrders(in.Statements, n.book.Orders(i.Digest()))
	in.Made, _ = n.charterOf(i.Charter)
	for _, p := range n.book.Pending() {
		if p.Kind == authority.KindCharter {
			in.Pending = append(in.Pending, p.Record)
		}
	}
	in.Wallet = n.wallet(i.Wallet)
	in.Journal, err = n.view(i)
	return in, err
}

// withOrders adds what people said against an intent by other ways than this request.
func withOrders(statements, orders []approval.Signed) []approval.Signed {
	for _, o := range orders {
		if !slices.ContainsFunc(statements, func(s approval.Signed) bool { return bytes.Equal(s.Raw, o.Raw) }) {
			statements = append(slices.Clip(statements), o)
		}
	}
	return statements
}

// passOn makes orders of what a request brings against its intent, so that the other
// signers hear of it from this one, whatever the coordinator tells them.
func (n *Node) passOn(r request) error {
	id := canon.Sum(r.intent.Raw)
	known := n.book.Orders(id)
	order := authority.Record{Kind: authority.KindOrder, Raw: id[:]}
	for _, s := range r.statements {
		if narrows(s) && !slices.ContainsFunc(known, func(k approval.Signed) bool { return bytes.Equal(k.Raw, s.Raw) }) {
			order.Statements = append(order.Statements, s)
		}
	}
	if len(order.Statements) == 0 {
		return nil
	}
	_, err := holder{n}.Add(order, time.Now().Unix())
	if authority.CodeOf(err) != "" {
		return nil // the gate says what is wrong with a statement
	}
	return err
}

// auditVerdict writes a decision down before it is answered. Repeated questions
// about one intent with the same answer are written once; requests that no enrolled
// initiator signed are counted per minute and reason, so that junk cannot fill the disk.
func (n *Node) auditVerdict(code string, v *verdict.Verdict, always bool) error {
	if v.Outcome != verdict.Sign && len(v.Reasons) > 0 && unsignedReason(v.Reasons[0].Check) {
		n.junk.count(v.Reasons[0].Check)
		return nil
	}
	// Each code once and in one order, and none of statements that did not count: those
	// come from whoever asks, who could else have any number of answers written down.
	var codes []string
	for _, r := range v.Reasons {
		if r.Check != "G-APPROVALS" || !strings.HasPrefix(r.Code, "APPROVAL_") {
			codes = append(codes, r.Check+"/"+r.Code)
		}
	}
	slices.Sort(codes)
	summary := strings.Join(append([]string{v.Outcome}, slices.Compact(codes)...), " ")
	// What permits is written each time, the rest once per answer: a request costs its
	// sender nothing, and an entry stays for ever.
	first := n.decisions.first(v.Intent, code+" "+summary)
	n.judged(code, v, first)
	if (!always || v.Outcome != verdict.Sign) && !first {
		return nil
	}
	return n.record(audit.Event{Code: code, Intent: v.Intent.String(), Detail: map[string]string{
		"outcome": v.Outcome, "checks": summary, "charter": v.Charter.String(), "transaction": v.Transaction.String(),
	}})
}

func reasonTexts(v *verdict.Verdict) []string {
	var out []string
	for _, r := range v.Reasons {
		out = append(out, fmt.Sprintf("%s %s: %s", r.Check, r.Code, r.Text))
	}
	return out
}

// unsignedReason says whether a check stops a request before the signature of an initiator
// who is enrolled now was seen to verify: anybody could have made it, or who was removed.
func unsignedReason(check string) bool {
	switch check {
	case "G-SELF", "G-CLOCK", "G-INTENT-FORM", "G-INITIATOR", "G-CLUSTER", "G-CHARTER", "G-ENROLLED":
		return true
	}
	return false
}
