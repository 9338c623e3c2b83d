package coordinator

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"coffer/approval"
	"coffer/authority"
	"coffer/chain/evm"
	"coffer/chain/rpc"
	"coffer/charter"
	"coffer/intent"
	"coffer/policy"
	pb "coffer/proto/coffer/v1"
	"coffer/store"
	"coffer/wallet"
)

// service is the API for people and treasury software.
type service struct {
	pb.UnimplementedCoordinatorServer
	c *Coordinator
}

// The gRPC codes of this API, and the exit codes that coffer makes of them:
// InvalidArgument and FailedPrecondition (1), NotFound (1), PermissionDenied (3:
// refused by the rules), AlreadyExists (1: the reference stands for another payment),
// Aborted (1: another request came first; a person asks again, with the next nonce),
// Unavailable (1: an endpoint or signer is away; nothing was done).

func (c *Coordinator) wallet(name string) (*wallet.Record, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r, ok := c.wallets[name]; ok {
		return r, nil
	}
	return nil, fmt.Errorf("there is no wallet %q", name)
}

func (c *Coordinator) walletRecord(name string) *pb.SignedRecord {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.records[name]
}

// Advise answers nonce, fee and balance. An initiator takes them as suggestions:
// the intent is what counts, and the signers check that.
func (s *service) Advise(ctx context.Context, req *pb.AdviseRequest) (*pb.AdviseResponse, error) {
	c := s.c
	if err := c.underWay(); err != nil {
		return nil, err // which nonces are spoken for is not known yet
	}
	record, err := c.wallet(req.Wallet)
	if err != nil {
		return nil, status.Error(codes.NotFound, err.Error())
	}
	asset, ok := c.inForce().Asset(req.Chain, req.Asset)
	if !ok {
		return nil, status.Errorf(codes.NotFound, "the charter has no asset %q on chain %q", req.Asset, req.Chain)
	}
	account, err := evm.AddressOf(record.PublicKey)
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	client, err := c.chain(ctx, req.Chain)
	if err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	nonce, err := client.Nonce(ctx, account)
	if err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	claims, err := c.claims()
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	for claims[claim{kind: intent.Transfer, chain: req.Chain, name: account.String(), nonce: nonce}] {
		nonce++
	}
	fees, err := client.Fees(ctx)
	if err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	gas := uint64(evm.PlainGas)
	if asset.Contract != "" {
		gas = usualTokenGas
	}
	native, err := client.Balance(ctx, account)
	if err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	balance := native
	if asset.Contract != "" {
		if balance, err = c.tokenBalance(ctx, client, asset, account); err != nil {
			return nil, status.Error(codes.Unavailable, err.Error())
		}
	}
	// Twice what it costs now: the cap is a limit, not the price.
	fee := new(big.Int).Mul(fees.FeeCap, new(big.Int).SetUint64(2*gas))
	return &pb.AdviseResponse{Nonce: nonce, Fee: fee.Bytes(), Balance: balance.Bytes(), NativeBalance: native.Bytes()}, nil
}

// usualTokenGas is what an ERC-20 transfer rarely exceeds; the cap that follows from
// it is advice, and the initiator may name another.
const usualTokenGas = 70_000

// claim is what only one unfinished intent may have: an account's nonce, the name of
// a new wallet, or the place of a payment that it cancels.
type claim struct {
	kind        intent.Kind
	chain, name string
	nonce       uint64
}

func claimOf(i *intent.Intent) claim {
	switch i.Kind {
	case intent.Transfer:
		return claim{kind: i.Kind, chain: i.Chain, name: i.Account, nonce: i.Nonce}
	case intent.Cancel:
		return claim{kind: i.Kind, name: i.Cancel.Subject.String()}
	default:
		return claim{kind: i.Kind, name: i.Wallet}
	}
}

// claims are those of the intents that have not ended.
func (c *Coordinator) claims() (map[claim]bool, error) {
	out := map[claim]bool{}
	for it, err := range c.underFlow() {
		if err != nil {
			return nil, err
		}
		if it.ended() {
			continue
		}
		i, err := intent.Parse(it.Intent.Raw)
		if err != nil {
			return nil, err
		}
		out[claimOf(i)] = true
	}
	return out, nil
}

// Submit checks a signed intent, previews it, stores it and starts its flow.
func (s *service) Submit(ctx context.Context, req *pb.SubmitRequest) (*pb.SubmitResponse, error) {
	c := s.c
	if err := c.awaitsOperators(); err != nil {
		return nil, err
	}
	if err := c.underWay(); err != nil {
		return nil, err // it may be known to a signer already, and paid
	}
	signed, err := intent.FromProto(req.Intent)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	i, err := c.open(signed)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	now := time.Now()
	it := &item{
		ID: i.Digest(), Intent: signed, Anyway: req.Anyway, Stage: pb.Stage_STAGE_APPROVAL, Detail: "waits for approvals",
		Created: now.UnixMilli(), Since: now.UnixMilli(), Updated: now.UnixMilli(),
	}
	if earlier, err := c.items.byReference(i.Initiator, i.Reference); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	} else if earlier != nil {
		return s.again(i, earlier)
	}
	if err := c.admit(ctx, it, i, now.Unix()); err != nil {
		return nil, err
	}
	c.submit.Lock()
	defer c.submit.Unlock()
	earlier, err := c.items.byReference(i.Initiator, i.Reference)
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	if earlier != nil {
		return s.again(i, earlier)
	}
	claims, err := c.claims()
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	if claims[claimOf(i)] {
		return nil, status.Error(codes.Aborted, taken(i))
	}
	if err := c.record("SUBMITTED", it.ID, map[string]string{"initiator": i.Initiator, "reference": i.Reference, "kind": string(i.Kind)}); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	if err := c.items.add(*it, i.Initiator, i.Reference); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	c.start(it.ID)
	c.tell(it.ID)
	view, err := s.view(it)
	return &pb.SubmitResponse{Intent: view}, err
}

// taken says what another unfinished intent has already, and what to do.
func taken(i *intent.Intent) string {
	switch i.Kind {
	case intent.Transfer:
		return fmt.Sprintf("nonce %d of %s belongs to an intent that has not ended: ask for the next nonce and sign again", i.Nonce, i.Account)
	case intent.Cancel:
		return fmt.Sprintf("a cancel of intent %s has not ended: wait for it, or reject it first", i.Cancel.Subject.Short())
	default:
		return fmt.Sprintf("a request for wallet %q has not ended: choose another name, or reject it first", i.Wallet)
	}
}

// again answers a reference that was used before.
func (s *service) again(i *intent.Intent, earlier *item) (*pb.SubmitResponse, error) {
	first, err := intent.Parse(earlier.Intent.Raw)
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	if !intent.SameRequest(i, first) {
		return nil, status.Errorf(codes.AlreadyExists, "reference %q was used by %s for another request, intent %s: choose a new reference", i.Reference, i.Initiator, earlier.ID.Short())
	}
	view, err := s.view(earlier)
	return &pb.SubmitResponse{Intent: view, Existed: true}, err
}

// admit refuses early what the signers would refuse later, with better words.
func (c *Coordinator) admit(ctx context.Context, it *item, i *intent.Intent, now int64) error {
	if now >= i.Expires {
		return status.Error(codes.FailedPrecondition, "the intent has expired: sign a new one")
	}
	// What no rule can judge is not sent to the signers, whoever wants that.
	if _, err := intent.Facts(i, c.madeUnder(i), nil, now); err != nil { // lists make no difference to that
		return status.Error(codes.InvalidArgument, err.Error())
	}
	decision := c.preview(it, i, now).Decision
	if decision.Outcome == policy.Deny && !it.Anyway {
		return status.Errorf(codes.PermissionDenied, "the rules deny it: %s (the signers would refuse; --anyway sends it to them nevertheless)", reasons(decision))
	}
	switch i.Kind {
	case intent.CreateWallet:
		if _, err := c.wallet(i.Wallet); err == nil {
			return status.Errorf(codes.AlreadyExists, "there is a wallet %q already: choose another name", i.Wallet)
		}
		return nil
	case intent.Cancel:
		if err := c.admitCancel(i); err != nil {
			return err
		}
	default:
	}
	return c.admitPayment(ctx, i)
}

// admitCancel demands that a cancel takes the very place of its subject.
func (c *Coordinator) admitCancel(i *intent.Intent) error {
	it, err := c.items.get(i.Cancel.Subject)
	if errors.Is(err, errNoItem) {
		return status.Errorf(codes.NotFound, "cancel: there is no intent %s", i.Cancel.Subject.Short())
	} else if err != nil {
		return status.Error(codes.Internal, err.Error())
	}
	subject, err := intent.Parse(it.Intent.Raw)
	switch {
	case err != nil:
		return status.Error(codes.Internal, err.Error())
	case subject.Kind != intent.Transfer:
		return status.Errorf(codes.InvalidArgument, "cancel: intent %s is no payment: reject it instead", it.ID.Short())
	case it.Mined != nil:
		return status.Errorf(codes.FailedPrecondition, "cancel: intent %s is mined in block %d: it is too late", it.ID.Short(), it.Mined.Block)
	case subject.Wallet != i.Wallet, subject.Chain != i.Chain, subject.Account != i.Account, subject.Nonce != i.Nonce:
		return status.Errorf(codes.InvalidArgument, "cancel: it must name wallet, chain, account and nonce of intent %s: %s, %s, %s, %d", it.ID.Short(), subject.Wallet, subject.Chain, subject.Account, subject.Nonce)
	}
	return nil
}

func (c *Coordinator) admitPayment(ctx context.Context, i *intent.Intent) error {
	record, err := c.wallet(i.Wallet)
	if err != nil {
		return status.Error(codes.NotFound, err.Error())
	}
	account, err := evm.AddressOf(record.PublicKey)
	if err != nil {
		return status.Error(codes.Internal, err.Error())
	}
	if i.Account != account.String() {
		return status.Errorf(codes.InvalidArgument, "account %s is not wallet %q, which is %s", i.Account, i.Wallet, account)
	}
	client, err := c.chain(ctx, i.Chain)
	if err != nil {
		return status.Error(codes.Unavailable, err.Error())
	}
	nonce, err := client.Nonce(ctx, account)
	if err != nil {
		return status.Error(codes.Unavailable, err.Error())
	}
	if i.Nonce < nonce {
		return status.Errorf(codes.FailedPrecondition, "nonce %d of %s is used on the chain, the next is %d: sign again with that", i.Nonce, account, nonce)
	}
	native, err := client.Balance(ctx, account)
	if err != nil {
		return status.Error(codes.Unavailable, err.Error())
	}
	need := new(big.Int).Set(i.FeeCap)
	if i.Kind == intent.Transfer {
		asset, ok := c.inForce().Asset(i.Chain, i.Transfer.Asset)
		if !ok {
			return status.Errorf(codes.InvalidArgument, "the charter has no asset %q on chain %q", i.Transfer.Asset, i.Chain)
		}
		if asset.Contract == "" {
			need.Add(need, i.Transfer.Amount)
		} else {
			balance, err := c.tokenBalance(ctx, client, asset, account)
			if err != nil {
				return status.Error(codes.Unavailable, err.Error())
			}
			if balance.Cmp(i.Transfer.Amount) < 0 {
				return status.Errorf(codes.FailedPrecondition, "amount %s %s is more than the balance of %s %s", policy.FormatAmount(i.Transfer.Amount, asset.Decimals), asset.Symbol, policy.FormatAmount(balance, asset.Decimals), asset.Symbol)
			}
		}
	}
	if native.Cmp(need) < 0 {
		coin, ok := c.inForce().NativeAsset(i.Chain)
		if !ok {
			return status.Errorf(codes.FailedPrecondition, "the charter has no native asset on chain %q", i.Chain)
		}
		return status.Errorf(codes.FailedPrecondition, "amount and fee cap together are %s %s, more than the balance of %s %s", policy.FormatAmount(need, coin.Decimals), coin.Symbol, policy.FormatAmount(native, coin.Decimals), coin.Symbol)
	}
	return nil
}

// State adds a statement to its intent and wakes the flow.
func (s *service) State(_ context.Context, req *pb.StateRequest) (*pb.StateResponse, error) {
	c := s.c
	if req.Statement == nil {
		return nil, status.Error(codes.InvalidArgument, "statement is missing")
	}
	signed := approval.Signed{Raw: req.Statement.Raw, Signature: req.Statement.Signature}
	st, err := approval.Parse(signed.Raw)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	it, err := c.items.get(st.Subject)
	if errors.Is(err, errNoItem) && c.underWay() != nil {
		return nil, c.underWay()
	} else if err != nil {
		return nil, tooLate(st, it, err)
	}
	if it.holds(signed) {
		// Its author did not hear the answer and asks again. It counts, whatever came of it since.
		view, err := s.view(it)
		return &pb.StateResponse{Intent: view}, err
	}
	if it.ended() {
		return nil, tooLate(st, it, errEnded)
	}
	i, err := c.open(it.Intent)
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	// One statement on its own: whatever is wrong with it is said to its author now.
	alone := *it
	alone.Statements = []approval.Signed{signed}
	if refused := c.preview(&alone, i, time.Now().Unix()).Refused; len(refused) > 0 {
		text := refused[0].Text
		if refused[0].Code == approval.CodeFrozen {
			// One that was given before counts again by itself; this one is not kept.
			text = fmt.Sprintf("%q is frozen, and what a frozen person permits is not taken: approve once that is lifted", st.Person)
		}
		return nil, status.Errorf(codes.PermissionDenied, "%s (%s)", text, refused[0].Code)
	}
	if err := c.record("STATEMENT", it.ID, map[string]string{"person": st.Person, "kind": string(st.Kind)}); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	if it, err = c.items.addStatement(it.ID, signed); err != nil {
		return nil, tooLate(st, it, err)
	}
	if st.Kind.Narrows() {
		if err := c.order(it.ID, signed); err != nil {
			return nil, status.Error(codes.Internal, err.Error())
		}
	}
	c.wake(it.ID)
	c.tell(it.ID)
	view, err := s.view(it)
	return &pb.StateResponse{Intent: view}, err
}

// tooLate says why a statement about an intent is not taken.
func tooLate(st *approval.Statement, it *item, err error) error {
	switch {
	case errors.Is(err, errNoItem):
		return status.Errorf(codes.NotFound, "intent %s: %v", st.Subject.Short(), err)
	case errors.Is(err, errEnded):
		return status.Errorf(codes.FailedPrecondition, "intent %s has ended: %s", st.Subject.Short(), it.Detail)
	case errors.Is(err, errSigned):
		return status.Errorf(codes.FailedPrecondition, "intent %s %v", st.Subject.Short(), err)
	case errors.Is(err, store.ErrFailed):
		return status.Error(codes.Internal, err.Error())
	default:
		return status.Error(codes.ResourceExhausted, err.Error())
	}
}

// Get answers one intent, with fresh verdicts of all signers while it waits for
// people: they decide on what the signers say, not on what the coordinator says.
func (s *service) Get(ctx context.Context, req *pb.GetRequest) (*pb.IntentView, error) {
	it, err := s.find(req.Id)
	if err != nil {
		return nil, err
	}
	if it.Stage == pb.Stage_STAGE_APPROVAL {
		it.Verdicts = s.c.judge(ctx, it, 0)
	}
	return s.view(it)
}

func (s *service) find(id string) (*item, error) {
	it, err := s.c.items.find(id)
	if errors.Is(err, errNoItem) && s.c.underWay() != nil {
		return nil, s.c.underWay()
	} else if errors.Is(err, errNoItem) {
		return nil, status.Error(codes.NotFound, err.Error())
	} else if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	return it, nil
}

// Watch sends the intent after each change until it has ended.
func (s *service) Watch(req *pb.GetRequest, stream pb.Coordinator_WatchServer) error {
	it, err := s.find(req.Id)
	if err != nil {
		return err
	}
	news, stop := s.c.watch(it.ID)
	defer stop()
	for {
		if it, err = s.c.items.get(it.ID); err != nil {
			return status.Error(codes.Internal, err.Error())
		}
		view, err := s.view(it)
		if err != nil {
			return err
		}
		if err := stream.Send(view); err != nil || it.ended() {
			return err
		}
		select {
		case <-stream.Context().Done():
			return stream.Context().Err()
		case <-news:
		}
	}
}

// Wallets answers the records that all signers signed.
func (s *service) Wallets(context.Context, *pb.WalletsRequest) (*pb.WalletsResponse, error) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	out := &pb.WalletsResponse{}
	for _, record := range s.c.records {
		out.Wallets = append(out.Wallets, record)
	}
	return out, nil
}

// Cluster answers what the last question to each signer brought.
func (s *service) Cluster(context.Context, *pb.ClusterRequest) (*pb.ClusterResponse, error) {
	return s.c.state(), nil
}

func (c *Coordinator) state() *pb.ClusterResponse {
	now := c.roster.Load()
	digest := now.charter.Digest()
	out := &pb.ClusterResponse{CharterVersion: now.charter.Version, CharterDigest: digest[:]}
	for _, sg := range now.signers {
		out.Signers = append(out.Signers, sg.state(time.Now()))
	}
	b := c.book.Load()
	if b == nil {
		return out
	}
	for _, h := range b.Freezes() {
		out.Freezes = append(out.Freezes, &pb.FreezeState{
			Id: h.ID[:], Scope: h.Freeze.Scope, Name: h.Freeze.Name, Reason: h.Freeze.Reason, By: h.Freeze.By,
			Time: h.Freeze.Time, HeldBy: h.Receipts.Strings(), Effective: h.Effective,
		})
	}
	for _, p := range b.Pending() {
		if p.Kind == authority.KindCharter && p.Complete {
			out.NextVersion = p.Version
		}
	}
	return out
}

func (s *service) view(it *item) (*pb.IntentView, error) {
	c := s.c
	v := &pb.IntentView{
		Id: it.ID.String(), Intent: signedMessage(it.Intent.Raw, it.Intent.Signature), Statements: statements(it.Statements),
		Stage: it.shownStage(), Detail: it.Detail, UnsignedTx: it.Unsigned, FailureCode: it.Code, Updated: it.Updated,
	}
	c.showTransactions(v, it)
	for _, p := range it.Phases {
		v.Phases = append(v.Phases, &pb.Phase{Name: p.Name, Milliseconds: p.Milliseconds})
	}
	for _, sg := range c.signers() {
		if rec, ok := it.Verdicts[string(sg.id)]; ok {
			v.Verdicts = append(v.Verdicts, &pb.SignerVerdict{Signer: string(sg.id), Verdict: rec.Raw, Signature: rec.Signature, Error: rec.Error})
		}
	}
	if it.Wallet != nil {
		v.Wallet = new(pb.SignedRecord)
		if err := proto.Unmarshal(it.Wallet, v.Wallet); err != nil {
			return nil, status.Errorf(codes.Internal, "stored wallet record is damaged: %v", err)
		}
	}
	c.mu.Lock()
	v.Progress = c.progress[it.ID]
	c.mu.Unlock()
	i, err := c.open(it.Intent)
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	if by := c.frozen(i); len(by) > 0 && !it.ended() && it.Mined == nil {
		v.Detail = c.frozenText(by)
		for _, h := range by {
			v.Missing = append(v.Missing, fmt.Sprintf("an unfreeze of %s by the admin rule", h.Freeze.What()))
		}
	}
	if it.Stage == pb.Stage_STAGE_APPROVAL {
		weighed := c.preview(it, i, time.Now().Unix())
		decision := weighed.Decision
		v.PreviewAllows = decision.Outcome != policy.Deny
		for _, r := range decision.Reasons {
			v.Preview = append(v.Preview, r.Text)
		}
		v.Preview = append(v.Preview, disregarded(weighed)...)
		for _, m := range decision.Missing {
			v.Missing = append(v.Missing, missing(m))
		}
	}
	return v, nil
}

func missing(m policy.Missing) string {
	text := fmt.Sprintf("%d of %d approvals by group %s", m.Have, m.K, m.Group)
	if m.Orgs > 1 {
		text += fmt.Sprintf(", %d of %d organisations", m.HaveOrgs, m.Orgs)
	}
	return text + " (rule " + m.Rule + ")"
}

func (c *Coordinator) tokenBalance(ctx context.Context, client *rpc.Client, asset charter.Asset, account evm.Address) (*big.Int, error) {
	contract, err := evm.ParseAddress(asset.Contract)
	if err != nil {
		return nil, err
	}
	return client.TokenBalance(ctx, contract, account)
}
