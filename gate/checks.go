package gate

import (
	"fmt"
	"slices"
	"strings"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"

	"coffer/approval"
	"coffer/authority"
	"coffer/canon"
	"coffer/chain/evm"
	"coffer/intent"
	"coffer/policy"
	"coffer/verdict"
	"coffer/wallet"
)

// scope says which decisions a check belongs to.
type scope uint8

const (
	onPayment     scope = 1 << iota // an intent that a transaction carries out
	onTransaction                   // its transaction, once there is one
	onRelease                       // the session that would be released for it
	onCeremony                      // an intent that asks for a wallet
	always        scope = 0
)

// check is one row of the decision. Run answers nil when it passes.
type check struct {
	ID, Code string
	On       scope
	Doc      string
	Run      func(*state) *Refusal
}

// maxClockBack is how far the clock may stand behind the journal, in seconds: more
// is not drift but somebody turning it back.
const maxClockBack = 5 * 60

// checks is the whole decision, in this order. `make mutants` disables each row and
// demands that TestCheck/<ID> fails.
var checks = []check{
	// Who am I, and is my clock sane?
	{ID: "G-SELF", Code: "GATE_SELF", On: always, Doc: "this signer has a charter and is one of its signers", Run: self},
	{ID: "G-CLOCK", Code: "CLOCK_BACK", On: always, Doc: "the clock is not behind what the journal has seen", Run: clock},

	// Stage 1: what is asked, under which constitution, and by whom?
	{ID: "G-INTENT-FORM", Code: "INTENT_MALFORMED", On: always, Doc: "the intent is canonical and complete: one meaning, no second reading", Run: intentForm},
	{ID: "G-CLUSTER", Code: "INTENT_CLUSTER", On: always, Doc: "the intent is of this cluster", Run: cluster},
	{ID: "G-CHARTER", Code: "INTENT_CHARTER", On: always, Doc: "the intent was made under a version of the charter that is in force here or was", Run: underCharter},
	{ID: "G-INITIATOR", Code: "INTENT_INITIATOR", On: always, Doc: "an initiator enrolled in that version signed exactly these bytes", Run: initiator},
	{ID: "G-ENROLLED", Code: "INTENT_INITIATOR", On: always, Doc: "the initiator is enrolled with that key in the charter in force too", Run: enrolled},
	{ID: "G-KIND", Code: "INTENT_KIND", On: onPayment, Doc: "only a payment or its cancel is answered with a transaction", Run: kindPayment},
	{ID: "G-CEREMONY-KIND", Code: "INTENT_KIND", On: onCeremony, Doc: "only a create wallet is answered with a ceremony", Run: kindCeremony},

	// May anything be signed now?
	{ID: "G-FROZEN-CLUSTER", Code: "FROZEN", On: always, Doc: "the cluster is not frozen; cancels go on", Run: frozenCluster},
	{ID: "G-FROZEN-WALLET", Code: "FROZEN", On: always, Doc: "the wallet is not frozen; cancels go on", Run: frozenWallet},
	{ID: "G-FROZEN-PERSON", Code: "FROZEN", On: always, Doc: "its initiator is not frozen", Run: frozenPerson},
	{ID: "G-FRESH", Code: "NOT_FRESH", On: always, Doc: "enough other signers said a short time ago that they go by the same charter, freezes and lists", Run: fresh},
	// When? Time only narrows: expiries use the later of clock and journal.
	{ID: "G-TIME-NOT-BEFORE", Code: "INTENT_NOT_YET", On: always, Doc: "its time has come", Run: notBefore},
	{ID: "G-TIME-EXPIRED", Code: "INTENT_EXPIRED", On: always, Doc: "its time has not passed", Run: expired},
	{ID: "G-LIFETIME", Code: "INTENT_LIFETIME", On: always, Doc: "it does not outlive the longest lifetime, counted from now", Run: lifetime},

	// From which wallet, path, chain and account?
	{ID: "G-WALLET", Code: "WALLET_UNKNOWN", On: onPayment, Doc: "this signer holds a share of the wallet that the intent names", Run: walletKnown},
	{ID: "G-QUORUM", Code: "WALLET_QUORUM", On: onPayment, Doc: "the wallet's quorum is sound, and enough of its signers, this one among them, are the charter's to sign", Run: quorum},
	{ID: "G-PATH", Code: "WALLET_PATH", On: onPayment, Doc: "the wallet's path rule permits the derivation path", Run: path},
	{ID: "G-CHAIN", Code: "CHAIN_UNKNOWN", On: onPayment, Doc: "the charter lists the chain, of a kind that this signer decodes", Run: chainKnown},
	{ID: "G-NETWORK", Code: "CHAIN_MAIN_NETWORK", On: onPayment, Doc: "the chain is a test network; public main networks wait for the rest of the armour", Run: network},
	{ID: "G-ASSET-SAME", Code: "ASSET_CHANGED", On: onPayment, Doc: "chain and asset mean the same in the charter of the intent and in the one in force", Run: assetSame},
	{ID: "G-ACCOUNT", Code: "INTENT_ACCOUNT", On: onPayment, Doc: "the account is the address of the wallet's own key", Run: account},
	{ID: "G-WALLET-NEW", Code: "WALLET_EXISTS", On: onCeremony, Doc: "no wallet of this name exists: a ceremony never replaces a key", Run: walletNew},
	{ID: "G-CEREMONY-QUORUM", Code: "CEREMONY_QUORUM", On: onCeremony, Doc: "quorum and signers are those of the charter in force, this signer among them", Run: ceremonyQuorum},

	// At most once: the journal remembers what was promised and signed.
	{ID: "G-REFERENCE", Code: "REFERENCE_USED", On: always, Doc: "no other intent of this initiator has this reference", Run: reference},
	{ID: "G-SLOT", Code: "SLOT_TAKEN", On: onPayment, Doc: "no other intent holds the account's nonce, unless it expired unreleased or this is its cancel", Run: slot},

	// Stages 2 and 3: who said yes, and do the rules permit it?
	{ID: "G-STATEMENTS", Code: "APPROVAL_COUNT", On: always, Doc: "no more statements came than people could have made", Run: statementCount},
	{ID: "G-REJECTED", Code: "APPROVAL_REJECTED", On: always, Doc: "nobody who may end it rejected it", Run: rejected},
	{ID: "G-POLICY", Code: "POLICY_DENIED", On: always, Doc: "no rule denies it and at least one permits it, in both versions of the charter", Run: permitted},
	{ID: "G-APPROVALS", Code: "POLICY_APPROVALS", On: always, Doc: "everybody whom the rules of both versions demand has approved, and is enrolled in both", Run: approved},

	// Stage 4: does the transaction do exactly what the intent says?
	{ID: "G-TX-DECODE", Code: "TX_MALFORMED", On: onTransaction, Doc: "the transaction decodes, in its one canonical form; what cannot be decoded is not signed", Run: decode},
	{ID: "G-TX-MATCH", Code: "TX_MISMATCH", On: onTransaction, Doc: "chain, nonce, destination, value and every byte of calldata are the intent's", Run: match},
	{ID: "G-FEE", Code: "TX_FEE", On: onTransaction, Doc: "the most that it can cost in fees is within the intent's cap", Run: fee},
	{ID: "G-DIGEST", Code: "TX_DIGEST", On: onTransaction, Doc: "this signer's own digest of it is one that ECDSA can sign", Run: digest},

	// Stage 5: which session?
	{ID: "G-SESSION", Code: "SESSION_MISSING", On: onRelease, Doc: "the permission is for one session, by its ID", Run: session},
}

// refuse is a final no; not yet is one that time or people can lift.
func refuse(format string, args ...any) *Refusal {
	return &Refusal{Reasons: []verdict.Reason{{Text: fmt.Sprintf(format, args...)}}}
}

func notYet(format string, args ...any) *Refusal {
	r := refuse(format, args...)
	r.Wait = true
	return r
}

func self(s *state) *Refusal {
	if _, ok := s.charter.Signer(s.in.Self); !ok {
		return refuse("this signer, %q, has no charter or is not in it; join one that lists it", string(s.in.Self))
	}
	return nil
}

func clock(s *state) *Refusal {
	if s.in.Now <= 0 || s.in.Now < s.in.Journal.LastTime-maxClockBack {
		return refuse("the clock says %d and the journal has seen %d; set the clock", s.in.Now, s.in.Journal.LastTime)
	}
	return nil
}

func intentForm(s *state) *Refusal {
	i, err := intent.Parse(s.in.Intent.Raw)
	if err != nil {
		return refuse("%v", err)
	}
	s.intent = i
	return nil
}

func cluster(s *state) *Refusal {
	if want := s.charter.Cluster; s.intent.Cluster != want {
		return refuse("the intent is of cluster %s, this is %s", s.intent.Cluster.Short(), want.Short())
	}
	return nil
}

func underCharter(s *state) *Refusal {
	named, made := s.intent.Charter, s.in.Made
	known := made != nil && made.Digest() == named && made.Cluster == s.charter.Cluster
	switch {
	case known && made.Version <= s.charter.Version:
		return nil
	case known, slices.Contains(s.in.Pending, named):
		r := notYet("the intent was made under charter %s, which is not in force here yet; in force is %s", named.Short(), s.charterDigest.Short())
		r.Last = true
		return r
	}
	return refuse("the intent was made under charter %s, which was never in force here; in force is %s; make it again", named.Short(), s.charterDigest.Short())
}

func initiator(s *state) *Refusal {
	_, who, err := s.in.Intent.Open(s.made)
	if err != nil {
		return refuse("%v", err)
	}
	s.initiator = who
	return nil
}

func enrolled(s *state) *Refusal {
	if _, err := intent.Enrolled(s.charter, s.intent.Initiator, s.initiator.Key); err != nil {
		return refuse("in the charter in force: %v", err)
	}
	return nil
}

func kindPayment(s *state) *Refusal {
	if s.intent.Kind != intent.Transfer && s.intent.Kind != intent.Cancel {
		return refuse("an intent of kind %q is not a payment", string(s.intent.Kind))
	}
	return nil
}

func kindCeremony(s *state) *Refusal {
	if s.intent.Kind != intent.CreateWallet || s.intent.CreateWallet == nil {
		return refuse("an intent of kind %q asks for no ceremony", string(s.intent.Kind))
	}
	return nil
}

// frozen waits for the unfreeze that would lift all the freezes.
func frozen(what string, ids []canon.Digest) *Refusal {
	if len(ids) == 0 {
		return nil
	}
	r := notYet("%s is frozen (%s)", what, ids[0].Short())
	r.Missing = []string{fmt.Sprintf("an unfreeze of %s by the admin rule", what)}
	return r
}

// A cancel moves nothing and stops a payment: what a freeze is for.
func frozenCluster(s *state) *Refusal {
	if s.intent.Kind == intent.Cancel {
		return nil
	}
	return frozen("the cluster", s.in.Frozen.Cluster)
}

func frozenWallet(s *state) *Refusal {
	if s.intent.Kind == intent.Cancel {
		return nil
	}
	return frozen(fmt.Sprintf("wallet %q", s.intent.Wallet), s.in.Frozen.Wallets[s.intent.Wallet])
}

func frozenPerson(s *state) *Refusal {
	return frozen(fmt.Sprintf("%q, who asks,", s.intent.Initiator), s.in.Frozen.People[s.intent.Initiator])
}

func fresh(s *state) *Refusal {
	need, within := s.charter.Fresh()
	var heads []authority.Seen // of those who are signers still
	for _, h := range s.in.Heads {
		if _, listed := s.charter.Signer(h.Head.Signer); listed && h.Head.Signer != s.in.Self {
			heads = append(heads, h)
		}
	}
	f := authority.Fresh(s.in.Here, heads, need, within)
	if f.Fresh && s.in.Here.Charter == s.charterDigest {
		return nil
	}
	r := notYet("%d other signers said within %s that they go by the same charter, freezes and lists; %d must", len(f.Agree), within, need)
	r.Missing = []string{"fresh word of other signers that they go by the same charter, freezes and lists"}
	return r
}

func notBefore(s *state) *Refusal {
	if s.in.Now < s.intent.NotBefore {
		return notYet("the intent is valid in %d seconds", s.intent.NotBefore-s.in.Now)
	}
	return nil
}

func expired(s *state) *Refusal {
	if s.later >= s.intent.Expires {
		return refuse("the intent expired %d seconds ago; make it again", s.later-s.intent.Expires)
	}
	return nil
}

func lifetime(s *state) *Refusal {
	if s.intent.Expires > s.in.Now+intent.MaxLifetime+approval.MaxSkew {
		return refuse("the intent expires more than %d days from now", intent.MaxLifetime/(24*3600))
	}
	return nil
}

func walletKnown(s *state) *Refusal {
	w := s.wallet
	if s.in.Wallet == nil || w.Name != s.intent.Wallet || w.Cluster != s.charter.Cluster {
		return refuse("this signer holds no share of wallet %q", s.intent.Wallet)
	}
	return nil
}

func quorum(s *state) *Refusal {
	w := s.wallet
	switch {
	case w.Quorum.Validate() != nil || len(w.Signers) != w.Quorum.Of:
		return refuse("the record of wallet %q says %s over %d signers", w.Name, w.Quorum, len(w.Signers))
	case !w.Signers.Has(s.in.Self):
		return refuse("the signers of wallet %q are %s; this one is not among them", w.Name, strings.Join(w.Signers.Strings(), ", "))
	}
	// Who left the charter since takes no part; the rest must be enough.
	left := slices.DeleteFunc(slices.Clone(w.Signers), s.charter.Parties().Has)
	if have := len(w.Signers) - len(left); have < w.Quorum.Need {
		return refuse("of the signers of wallet %q the charter lists %d, and %d must sign; %s left", w.Name, have, w.Quorum.Need, strings.Join(left.Strings(), ", "))
	}
	return nil
}

func path(s *state) *Refusal {
	if s.intent.Path != "" || s.wallet.Paths != wallet.RootOnly {
		return refuse("path %q under the rule %q of wallet %q: this version signs with the wallet's own key only", s.intent.Path, s.wallet.Paths, s.wallet.Name)
	}
	return nil
}

func chainKnown(s *state) *Refusal {
	if c, ok := s.charter.Chain(s.intent.Chain); !ok || c.Kind != "evm" {
		return refuse("chain %q is not in the charter, or of a kind that this signer cannot decode", s.intent.Chain)
	}
	return nil
}

func network(s *state) *Refusal {
	if c, _ := s.charter.Chain(s.intent.Chain); !evm.IsTestNetwork(c.ChainID) {
		return refuse("chain %q has ID %d, which is no test network; this version signs for test networks only", s.intent.Chain, c.ChainID)
	}
	return nil
}

// assetSame: what people approved under the words of one charter is not carried out
// under other words of another.
func assetSame(s *state) *Refusal {
	i := s.intent
	was, _ := s.made.Chain(i.Chain)
	is, _ := s.charter.Chain(i.Chain)
	coinWas, _ := s.made.NativeAsset(i.Chain)
	coinIs, _ := s.charter.NativeAsset(i.Chain)
	if was != is || coinWas != coinIs {
		return refuse("chain %q or its coin is not what it was in charter %s; make the intent again", i.Chain, i.Charter.Short())
	}
	if i.Transfer == nil {
		return nil
	}
	assetWas, _ := s.made.Asset(i.Chain, i.Transfer.Asset)
	assetIs, _ := s.charter.Asset(i.Chain, i.Transfer.Asset)
	if assetWas != assetIs {
		return refuse("asset %q on %q is not what it was in charter %s; make the intent again", i.Transfer.Asset, i.Chain, i.Charter.Short())
	}
	return nil
}

func account(s *state) *Refusal {
	own, err := evm.AddressOf(s.wallet.PublicKey)
	if err != nil {
		return refuse("wallet %q: %v", s.wallet.Name, err)
	}
	if s.intent.Account != own.String() {
		return refuse("account %s is not that of wallet %q, which is %s", s.intent.Account, s.wallet.Name, own)
	}
	s.account = own
	return nil
}

func walletNew(s *state) *Refusal {
	if s.in.Wallet != nil {
		return refuse("wallet %q exists; choose another name", s.in.Wallet.Name)
	}
	return nil
}

func ceremonyQuorum(s *state) *Refusal {
	b, c := s.intent.CreateWallet, s.charter
	if b == nil {
		return refuse("the intent does not say who will hold the shares")
	}
	if b.Quorum != c.Quorum || b.Quorum.Validate() != nil || !b.Signers.Equal(c.Parties()) || !b.Signers.Has(s.in.Self) {
		return refuse("the intent asks for %s of %s; the charter says %s of %s",
			b.Quorum, strings.Join(b.Signers.Strings(), ", "), c.Quorum, strings.Join(c.Parties().Strings(), ", "))
	}
	return nil
}

func reference(s *state) *Refusal {
	if r := s.in.Journal.Reference; r != nil && *r != s.subject {
		return refuse("reference %q of %q was used by intent %s; a reference pays once", s.intent.Reference, s.intent.Initiator, r.Short())
	}
	return nil
}

func slot(s *state) *Refusal {
	h := s.in.Journal.Slot
	switch {
	case h == nil, h.Intent == s.subject:
		return nil // the same intent again: a retry, or a higher fee; at most one of them can be mined
	case s.intent.Kind == intent.Cancel && s.intent.Cancel != nil && s.intent.Cancel.Subject == h.Intent:
		return nil // takes the nonce so that its subject cannot be mined
	case h.State == HolderReserved && h.Expires <= s.in.Now:
		return nil // never released here, and can never be again. Its expiry is by the earlier time: giving up a slot widens
	}
	return refuse("nonce %d of %s is held by intent %s (%s)", s.intent.Nonce, s.intent.Account, h.Intent.Short(), h.State)
}

func statementCount(s *state) *Refusal {
	if n := len(s.in.Statements); n > approval.MaxStatements {
		return refuse("%d statements, at most %d are read", n, approval.MaxStatements)
	}
	return nil
}

func rejected(s *state) *Refusal {
	s.weighed = approval.Weigh(approval.Under{
		Force: s.charter, Made: s.made, Frozen: s.in.Frozen.People, Lists: s.in.Lists, Now: s.later,
	}, s.intent, s.subject, s.in.Statements)
	if len(s.weighed.Ended) > 0 {
		return refuse("rejected by %s", strings.Join(s.weighed.Ended, ", "))
	}
	return nil
}

func permitted(s *state) *Refusal {
	d := s.weighed.Decision
	if d.Outcome == policy.Allow || d.Outcome == policy.Wait {
		return nil
	}
	r := refuse("no rule permits it")
	if len(d.Reasons) > 0 {
		r.Reasons = nil
	}
	for _, reason := range d.Reasons {
		r.Reasons = append(r.Reasons, verdict.Reason{Code: reason.Code, Text: reason.Text})
	}
	return r
}

func approved(s *state) *Refusal {
	if s.weighed.Decision.Outcome == policy.Allow {
		return nil
	}
	r := &Refusal{Wait: true}
	for _, reason := range s.weighed.Decision.Reasons {
		r.Reasons = append(r.Reasons, verdict.Reason{Code: reason.Code, Text: reason.Text})
		r.Missing = append(r.Missing, reason.Text)
	}
	// Statements that did not count are named, or nobody finds out why they do not.
	for _, refusal := range s.weighed.Refused {
		r.Reasons = append(r.Reasons, verdict.Reason{Code: refusal.Code, Text: fmt.Sprintf("statement of %q: %s", refusal.Person, refusal.Text)})
	}
	return r
}

func decode(s *state) *Refusal {
	u, err := evm.Decode(s.in.Unsigned)
	if err != nil {
		return refuse("%v", err)
	}
	s.unsigned, s.digest = u, u.Digest()
	return nil
}

// feeFields are the mismatches that G-FEE names; G-TX-MATCH names all others, so a
// field that is new in the codec is never left to nobody.
var feeFields = []string{"fee", "tip_cap", "gas"}

func match(s *state) *Refusal { return mismatches(s, false) }
func fee(s *state) *Refusal   { return mismatches(s, true) }

func mismatches(s *state, fees bool) *Refusal {
	var r *Refusal
	for _, m := range evm.Compare(s.intent, s.charter, s.account, s.unsigned) {
		if slices.Contains(feeFields, m.Field) != fees {
			continue
		}
		if r == nil {
			r = &Refusal{}
		}
		r.Reasons = append(r.Reasons, verdict.Reason{Text: fmt.Sprintf("%s is %s, the intent says %s", m.Field, m.Got, m.Want)})
	}
	return r
}

func digest(s *state) *Refusal {
	var n secp256k1.ModNScalar
	if tooLarge := n.SetBytes(&s.digest); tooLarge != 0 || n.IsZero() {
		return refuse("the digest is zero or not below the group order; change the fee by one unit")
	}
	return nil
}

func session(s *state) *Refusal {
	if s.in.Session.IsZero() {
		return refuse("there is no session to release")
	}
	return nil
}
