package gate

import (
	"coffer/approval"
	"coffer/authority"
	"coffer/canon"
	"coffer/chain/evm"
	"coffer/charter"
	"coffer/intent"
	"coffer/party"
	"coffer/verdict"
	"coffer/wallet"
)

// Input is all that a decision depends on. Intent, Statements, Unsigned and Session
// come from whoever asks and are trusted in nothing; the rest is this signer's own.
type Input struct {
	Now     int64                        // this signer's clock, Unix seconds
	Self    party.ID                     // this signer
	Charter *charter.Charter             // in force here: verified and pinned
	Made    *charter.Charter             // the version that the intent names, if it is in force here or was; else nil
	Pending []canon.Digest               // versions of the charter that this signer holds and that are not in force yet
	Frozen  authority.Frozen             // what is frozen here
	Lists   map[string]charter.ListState // what the keepers of lists signed last
	Here    authority.Head               // where this signer stands
	Heads   []authority.Seen             // where the others do, by their own signed words
	Wallet  *wallet.Record               // of the wallet that the intent names, verified; nil when there is none
	Journal View                         // of the slot and reference that the intent names

	Intent     intent.Signed
	Statements []approval.Signed
	Unsigned   []byte       // the transaction in the chain's own encoding
	Session    canon.Digest // the session that would be released
}

// Check decides whether a session may be released: the permission, or nil and the
// reasons in the verdict.
func Check(in Input) (*Authorized, verdict.Verdict) {
	s, v := decide(in, onPayment|onTransaction|onRelease)
	if v.Outcome != verdict.Sign {
		return nil, v
	}
	a := &Authorized{
		intent: s.subject, charter: s.charterDigest, session: in.Session,
		transaction: canon.Digest(s.digest), digest: s.digest,
	}
	return a, v
}

// CheckCeremony decides whether to take part in the ceremony that an intent asks for.
func CheckCeremony(in Input) (*Ceremony, verdict.Verdict) {
	s, v := decide(in, onCeremony)
	if v.Outcome != verdict.Sign {
		return nil, v
	}
	return &Ceremony{
		cluster: s.charter.Cluster, intent: s.subject, charter: s.charterDigest, wallet: s.intent.Wallet,
		quorum: s.intent.CreateWallet.Quorum, signers: s.intent.CreateWallet.Signers,
	}, v
}

// Judge says what Check or CheckCeremony would answer now, and permits nothing.
// Without a transaction it judges the intent alone.
func Judge(in Input) verdict.Verdict {
	about := onPayment
	if i, err := intent.Parse(in.Intent.Raw); err == nil && i.Kind == intent.CreateWallet {
		about = onCeremony
	} else if len(in.Unsigned) > 0 {
		about |= onTransaction
	}
	_, v := decide(in, about)
	return v
}

// state is what the checks have established so far. Every field has a harmless
// value before its check ran, so that no check depends on another one's refusal
// for its own safety.
type state struct {
	in            Input
	later         int64 // the later of the clock and the journal: what expires, expires by this
	charter       *charter.Charter
	charterDigest canon.Digest     // of the one in force
	made          *charter.Charter // the one that the intent was made under
	wallet        *wallet.Record
	subject       canon.Digest // of the intent's bytes
	intent        *intent.Intent
	initiator     intent.Initiator
	account       evm.Address
	weighed       approval.Weighed
	unsigned      *evm.Unsigned
	digest        [32]byte
}

// Refusal is why a check does not pass. Wait says that time or people may change
// it; every other refusal is final for these bytes.
type Refusal struct {
	Wait    bool
	Last    bool             // it waits for something without which nothing behind it can be judged
	Reasons []verdict.Reason // Check is filled in by decide, Code when it is empty
	Missing []string         // in words
}

// decide runs the table. The first refusal ends it. A check that waits does not,
// because a refusal behind it says more; but nothing that waits is ever permitted.
func decide(in Input, about scope) (*state, verdict.Verdict) {
	return run(checks, in, about)
}

func run(table []check, in Input, about scope) (*state, verdict.Verdict) {
	s := &state{
		in: in, later: max(in.Now, in.Journal.LastTime), subject: canon.Sum(in.Intent.Raw),
		charter: in.Charter, made: in.Made, wallet: in.Wallet, intent: &intent.Intent{}, unsigned: &evm.Unsigned{},
	}
	if s.charter == nil {
		s.charter = &charter.Charter{}
	} else {
		s.charterDigest = s.charter.Digest()
	}
	if s.made == nil {
		s.made = &charter.Charter{}
	}
	if s.wallet == nil {
		s.wallet = &wallet.Record{}
	}
	v := verdict.Verdict{
		Cluster: s.charter.Cluster, Signer: in.Self, Intent: s.subject, Charter: s.charterDigest,
		Outcome: verdict.Sign, Time: max(in.Now, 0),
	}
	for _, c := range table {
		if c.On != always && c.On&about == 0 {
			continue
		}
		r := c.Run(s)
		if r == nil {
			continue
		}
		for _, reason := range r.Reasons {
			reason.Check = c.ID
			if reason.Code == "" {
				reason.Code = c.Code
			}
			v.Reasons = append(v.Reasons, reason)
		}
		v.Missing = append(v.Missing, r.Missing...)
		if !r.Wait {
			v.Outcome = verdict.Refuse
			break
		}
		v.Outcome = verdict.Wait
		if r.Last {
			break
		}
	}
	v.Matched = s.weighed.Decision.Matched
	if about&onTransaction != 0 {
		v.Transaction = canon.Digest(s.digest)
	}
	return s, v.Clean()
}
