package node

import (
	"context"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"coffer/approval"
	"coffer/authority"
	"coffer/canon"
	"coffer/charter"
	"coffer/gate"
	"coffer/intent"
	"coffer/journal"
	pb "coffer/proto/coffer/v1"
	"coffer/verdict"
)

const (
	maxRecalled = 100
	// maxRecalledBytes is when an answer is long enough; the next question goes on.
	maxRecalledBytes = 1 << 20
)

// Recall answers the intents that this signer was shown.
func (s *service) Recall(_ context.Context, req *pb.RecallRequest) (*pb.RecallResponse, error) {
	return s.n.recall(req, false)
}

// Recall answers the operator the same, with what this signer would do about each.
func (o *operatorService) Recall(_ context.Context, req *pb.RecallRequest) (*pb.RecallResponse, error) {
	return o.n.recall(req, true)
}

func (n *Node) recall(req *pb.RecallRequest, verdicts bool) (*pb.RecallResponse, error) {
	var after canon.Digest
	if len(req.After) > 0 {
		var err error
		if after, err = canon.DigestFrom(req.After); err != nil {
			return nil, status.Error(codes.InvalidArgument, "after: "+err.Error())
		}
	}
	limit := maxRecalled
	if req.Limit > 0 && req.Limit < maxRecalled {
		limit = int(req.Limit)
	}
	out, size := &pb.RecallResponse{}, 0
	for _, id := range n.memory.after(after) {
		if len(out.Intents) == limit || size > maxRecalledBytes {
			out.More = true
			break
		}
		known, err := n.known(id, verdicts)
		if err != nil {
			return nil, n.grpcError(err)
		}
		if known == nil {
			continue // forgotten meanwhile
		}
		size += len(known.UnsignedTx) + len(known.Intent.Raw) + len(known.Intent.Signature)
		for _, st := range known.Statements {
			size += len(st.Raw) + len(st.Signature)
		}
		out.Intents = append(out.Intents, known)
	}
	return out, nil
}

func (n *Node) known(id canon.Digest, withVerdict bool) (*pb.KnownIntent, error) {
	e, err := n.memory.get(id)
	if err != nil || e == nil {
		return nil, err
	}
	out := &pb.KnownIntent{Intent: e.intent.ToProto(), UnsignedTx: e.unsigned, Seen: e.seen}
	for _, s := range e.statements {
		out.Statements = append(out.Statements, s.ToProto())
	}
	if out.State, err = n.how(id, e); err != nil || !withVerdict {
		return out, err
	}
	in, err := n.input(request{intent: e.intent, statements: e.statements}, canon.Digest{})
	if err != nil {
		return nil, err
	}
	v := n.judge(in)
	out.ApprovedBy, out.RejectedBy = weigh(in)
	out.Verdict, err = n.answer(&v)
	return out, err
}

// weigh says whose yes and whose no count, as the gate counts them: under both versions of
// the charter, without people who are frozen, and with what came by another way.
func weigh(in gate.Input) (yes, no []string) {
	i, err := intent.Parse(in.Intent.Raw)
	if err != nil {
		return nil, nil
	}
	under := approval.Under{Force: in.Charter, Made: in.Made, Frozen: in.Frozen.People, Lists: in.Lists, Now: in.Now}
	w := approval.Weigh(under, i, i.Digest(), in.Statements)
	for _, vote := range w.Votes {
		yes = append(yes, vote.Person+" of "+vote.Org)
	}
	return slices.Compact(yes), w.Ended // a person may have approved by several kinds of key
}

// How far a signer went with an intent.
const (
	stateNoted    = "noted"
	stateReleased = "released"
	stateSigned   = "signed"
)

func (n *Node) how(id canon.Digest, e *noted) (string, error) {
	i, err := intent.Parse(e.intent.Raw)
	if err != nil {
		return "", err
	}
	if i.Kind == intent.CreateWallet {
		if e.asked {
			return stateReleased, nil
		}
		return stateNoted, nil
	}
	chain, _ := n.inForce().Chain(i.Chain) // one that is unknown has chain ID 0, and no slot
	v, err := n.journal.View(chain.ChainID, i.Account, i.Nonce, id, "", "")
	switch {
	case err != nil:
		return "", err
	case v.IntentSlot == nil:
		return stateNoted, nil
	case v.IntentSlot.State == journal.Signed:
		return stateSigned, nil
	case v.IntentSlot.State == journal.Released:
		return stateReleased, nil
	}
	return stateNoted, nil
}

// judge is the gate's word, and this signer's own: a sealed one signs nothing.
func (n *Node) judge(in gate.Input) verdict.Verdict {
	v := gate.Judge(in)
	if v.Outcome == verdict.Sign && n.isSealed() {
		v.Outcome, v.Missing = verdict.Wait, []string{"this signer is sealed: its operator must unseal it"}
	}
	return v
}

// note remembers a request before it is answered, and passes on what is said against it.
func (n *Node) note(r request, asked bool) error {
	if err := n.passOn(r); err != nil {
		return err
	}
	news, err := n.memory.note(n.inForce(), n.charterOf, r, asked, time.Now().Unix())
	if news {
		id := canon.Sum(r.intent.Raw)
		n.log.Info("intent noted", "intent", id.String())
	}
	return err
}

// Charter is the newest charter that is in force by the file of a directory, for the
// operator's own commands.
func Charter(d Dir) (*charter.Charter, error) {
	_, _, file, err := joined(d)
	if err != nil {
		return nil, err
	}
	return Newest(file)
}

// Charters looks up the versions of the charter that the file of a directory has, those
// included that are not in force: to show what somebody means, not to decide by.
func Charters(d Dir) (charter.Lookup, error) {
	_, _, file, err := joined(d)
	if err != nil {
		return nil, err
	}
	known := map[canon.Digest]*charter.Charter{file.Charter.Digest(): file.Charter}
	for _, raw := range file.Records {
		r, err := authority.Parse(raw)
		if err != nil {
			return nil, err
		}
		if r.Kind != authority.KindCharter {
			continue
		}
		if known[r.ID()], err = charter.Parse(r.Raw); err != nil {
			return nil, err
		}
	}
	return func(d canon.Digest) (*charter.Charter, bool) { c, ok := known[d]; return c, ok }, nil
}
