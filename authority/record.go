package authority

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	"coffer/approval"
	"coffer/canon"
	"coffer/credential"
	"coffer/identity"
	"coffer/party"
	"coffer/policy"
)

const (
	// Domain begins every encoded record.
	Domain = "coffer/authority/v1"

	freezeDomain   = "coffer/freeze/v1"
	unfreezeDomain = "coffer/unfreeze/v1"
	listDomain     = "coffer/list/v1"
	orderDomain    = "coffer/order/v1"
	receiptDomain  = "coffer/receipt/v1"
	contentDomain  = "coffer/authority-content/v1"

	// MaxRecord bounds an encoded record, and MaxRaw what is decided about in it.
	MaxRecord = 512 << 10
	MaxRaw    = 384 << 10
	// MaxBody bounds Raw and cards together, so that there is always room for statements.
	MaxBody = 448 << 10
	// MaxStatements, MaxReceipts and MaxCards bound the parts.
	MaxStatements = approval.MaxStatements
	MaxReceipts   = 20
	MaxCards      = 128
	// MaxReason bounds the reason of a freeze or unfreeze.
	MaxReason = 200
	// MaxLifted is how many freezes one unfreeze names.
	MaxLifted = 64
	// MaxEntries is how many destinations a list has; MaxRaw may bound it further.
	MaxEntries = 4096

	maxCard    = 16 << 10
	maxWord    = 32
	maxLabel   = 80
	maxAddress = 256
	maxTime    = 253402300799 // the end of the year 9999
	linePrefix = "coffer-record-v1:"
)

// Kind is what a record is about.
type Kind string

const (
	KindCharter  Kind = "charter"  // a version of the charter after the first
	KindList     Kind = "list"     // a version of a list
	KindFreeze   Kind = "freeze"   // stops signing
	KindUnfreeze Kind = "unfreeze" // lifts freezes
	KindOrder    Kind = "order"    // what people say against an intent
)

func (k Kind) known() bool {
	switch k {
	case KindCharter, KindList, KindFreeze, KindUnfreeze, KindOrder:
		return true
	}
	return false
}

// Record is the one container of authority: what travels, is stored and merged.
// Whoever passes records on need not understand them.
type Record struct {
	Kind       Kind
	Raw        []byte            // canonical charter, ListVersion, Freeze, Unfreeze; of an order the 32 bytes of the intent's digest
	Cards      []string          // charter: proof of every key that the version before does not have
	Statements []approval.Signed // by people, about ID
	Signers    []SignerSignature // a freeze that a signer itself makes
	Receipts   []Receipt         // of signers: it is on my disk and in force here
}

// SignerSignature is of a signer's identity over a record's Raw.
type SignerSignature struct {
	Signer    party.ID
	Signature []byte
}

// Receipt is a signer's word that a record is on its disk and in force there.
type Receipt struct {
	Signer    party.ID
	Time      int64 // Unix seconds
	Signature []byte
}

// receiptMessage is what a signer signs.
func receiptMessage(cluster canon.Digest, signer party.ID, record canon.Digest, time int64) []byte {
	return canon.New(receiptDomain).Digest(cluster).String(string(signer)).Digest(record).Time(time).Encoded()
}

// NewReceipt signs one. Only a Ledger does, once a record is in force in it; tests do.
func NewReceipt(key *identity.Key, cluster canon.Digest, signer party.ID, record canon.Digest, time int64) Receipt {
	return Receipt{Signer: signer, Time: time, Signature: key.Sign(receiptMessage(cluster, signer, record, time))}
}

// ID names a record: what people's statements in it are about, but for an order, whose
// statements are about the intent. Records with one ID are one record.
func (r Record) ID() canon.Digest {
	if r.Kind == KindOrder {
		return canon.New(orderDomain).Bytes(r.Raw).Sum()
	}
	return canon.Sum(r.Raw)
}

// Subject is what the statements are about.
func (r Record) Subject() canon.Digest {
	if r.Kind != KindOrder {
		return r.ID()
	}
	d, _ := canon.DigestFrom(r.Raw) // Parse has checked its length
	return d
}

// OrderID is the ID of the record of orders about an intent.
func OrderID(intent canon.Digest) canon.Digest { return canon.New(orderDomain).Bytes(intent[:]).Sum() }

// Sum is equal for two holders who have the same of a record: the words of the same people.
// It leaves out the bytes of statements and signatures, and the times of receipts: the
// same word, said twice, is nothing new, and holders that each heard another of the two
// have nothing to tell each other.
func (r Record) Sum() canon.Digest {
	r = r.sorted()
	var words []string
	for _, s := range r.Statements {
		if p, err := approval.Parse(s.Raw); err == nil {
			words = append(words, p.Person+" "+string(p.Kind))
		}
	}
	slices.Sort(words)
	e := canon.New(contentDomain).Digest(r.ID()).Strings(words)
	e.List(len(r.Signers))
	for _, s := range r.Signers {
		e.String(string(s.Signer))
	}
	e.List(len(r.Receipts))
	for _, s := range r.Receipts {
		e.String(string(s.Signer))
	}
	return e.Sum()
}

// sorted is the canonical order of the parts, on copies.
func (r Record) sorted() Record {
	r.Cards = slices.Clone(r.Cards)
	slices.Sort(r.Cards)
	r.Statements = slices.Clone(r.Statements)
	slices.SortFunc(r.Statements, func(a, b approval.Signed) int {
		return cmp.Or(bytes.Compare(a.Raw, b.Raw), bytes.Compare(a.Signature, b.Signature))
	})
	r.Signers = slices.Clone(r.Signers)
	slices.SortFunc(r.Signers, func(a, b SignerSignature) int { return cmp.Compare(a.Signer, b.Signer) })
	r.Receipts = slices.Clone(r.Receipts)
	slices.SortFunc(r.Receipts, func(a, b Receipt) int { return cmp.Compare(a.Signer, b.Signer) })
	return r
}

// Encode is the canonical form. Parse refuses that of a record that breaks the bounds.
func (r Record) Encode() []byte {
	r = r.sorted()
	e := canon.New(Domain).String(string(r.Kind)).Bytes(r.Raw).Strings(r.Cards).List(len(r.Statements))
	for _, s := range r.Statements {
		e.Bytes(s.Raw).Bytes(s.Signature)
	}
	e.List(len(r.Signers))
	for _, s := range r.Signers {
		e.String(string(s.Signer)).Bytes(s.Signature)
	}
	e.List(len(r.Receipts))
	for _, s := range r.Receipts {
		e.String(string(s.Signer)).Time(s.Time).Bytes(s.Signature)
	}
	return e.Encoded()
}

// Parse decodes canonical bytes. It says nothing of who made them.
func Parse(raw []byte) (Record, error) {
	bad := func(err error) (Record, error) { return Record{}, refuse(CodeMalformed, "record: %w", err) }
	if len(raw) > MaxRecord {
		return bad(fmt.Errorf("%d bytes, at most %d", len(raw), MaxRecord))
	}
	d := canon.NewDecoder(Domain, raw)
	r := Record{Kind: Kind(d.String(maxWord)), Raw: d.Bytes(MaxRaw), Cards: d.Strings(MaxCards, maxCard)}
	for range d.List(MaxStatements) {
		r.Statements = append(r.Statements, approval.Signed{Raw: d.Bytes(approval.MaxRaw), Signature: d.Bytes(credential.MaxSignature)})
	}
	for range d.List(MaxReceipts) {
		r.Signers = append(r.Signers, SignerSignature{Signer: party.ID(d.String(maxWord)), Signature: d.Bytes(64)})
	}
	for range d.List(MaxReceipts) {
		r.Receipts = append(r.Receipts, Receipt{Signer: party.ID(d.String(maxWord)), Time: d.Time(), Signature: d.Bytes(64)})
	}
	if err := d.Finish(); err != nil {
		return bad(err)
	}
	if err := r.validate(); err != nil {
		return bad(err)
	}
	if !bytes.Equal(r.Encode(), raw) {
		return bad(fmt.Errorf("not in its canonical encoding"))
	}
	return r, nil
}

// validate checks what can be checked of the container alone.
func (r Record) validate() error {
	s := r.sorted()
	switch {
	case !r.Kind.known():
		return fmt.Errorf("kind %.40q is not known", string(r.Kind))
	case len(r.Raw) == 0 || len(r.Raw) > MaxRaw:
		return fmt.Errorf("what is decided has %d bytes; 1 to %d", len(r.Raw), MaxRaw)
	case r.Kind == KindOrder && len(r.Raw) != len(canon.Digest{}):
		return fmt.Errorf("an order is about the 32 bytes of an intent's digest, not %d", len(r.Raw))
	case len(r.Cards) > MaxCards || len(r.Statements) > MaxStatements || len(r.Signers) > MaxReceipts || len(r.Receipts) > MaxReceipts:
		return fmt.Errorf("%d cards, %d statements, %d signatures, %d receipts; at most %d, %d, %d, %d",
			len(r.Cards), len(r.Statements), len(r.Signers), len(r.Receipts), MaxCards, MaxStatements, MaxReceipts, MaxReceipts)
	case len(r.Raw)+len(strings.Join(r.Cards, "        ")) > MaxBody:
		return fmt.Errorf("what is decided and its cards have more than %d bytes together; make the change in two steps", MaxBody)
	case len(r.Cards) > 0 && r.Kind != KindCharter:
		return fmt.Errorf("a %s has no cards", r.Kind)
	case len(r.Signers) > 0 && r.Kind != KindFreeze:
		return fmt.Errorf("a %s is not signed by signers", r.Kind)
	case len(r.Receipts) > 0 && r.Kind == KindOrder:
		return fmt.Errorf("orders have no receipts")
	case len(slices.Compact(slices.Clone(s.Cards))) != len(s.Cards):
		return fmt.Errorf("a card stands there twice")
	}
	for i := 1; i < len(s.Statements); i++ {
		if bytes.Equal(s.Statements[i].Raw, s.Statements[i-1].Raw) && bytes.Equal(s.Statements[i].Signature, s.Statements[i-1].Signature) {
			return fmt.Errorf("a statement stands there twice")
		}
	}
	for i := 1; i < len(s.Signers); i++ {
		if s.Signers[i].Signer == s.Signers[i-1].Signer {
			return fmt.Errorf("signer %.40q stands there twice", s.Signers[i].Signer)
		}
	}
	for i := 1; i < len(s.Receipts); i++ {
		if s.Receipts[i].Signer == s.Receipts[i-1].Signer {
			return fmt.Errorf("the receipt of signer %.40q stands there twice", s.Receipts[i].Signer)
		}
	}
	return nil
}

// Line is a record as one line of text, for mail and paper.
func (r Record) Line() string {
	return linePrefix + base64.RawStdEncoding.EncodeToString(r.Encode())
}

// ParseLine reads such a line, without space around it.
func ParseLine(line string) (Record, error) {
	text, ok := strings.CutPrefix(line, linePrefix)
	if !ok {
		return Record{}, refuse(CodeMalformed, "a record is one line that begins with %s", linePrefix)
	}
	if base64.RawStdEncoding.DecodedLen(len(text)) > MaxRecord {
		return Record{}, refuse(CodeMalformed, "the line is longer than any record")
	}
	raw, err := base64.RawStdEncoding.Strict().DecodeString(text)
	// Go's decoder skips line breaks inside.
	if err != nil || base64.RawStdEncoding.EncodeToString(raw) != text {
		return Record{}, refuse(CodeMalformed, "the line was cut or changed on the way; ask for it again")
	}
	return Parse(raw)
}

// Scopes of a freeze.
const (
	ScopeCluster = "cluster"
	ScopeWallet  = "wallet"
	ScopePerson  = "person"
)

// Freeze stops signing: of all, of a wallet, or of what a person asked for or approves.
type Freeze struct {
	Cluster canon.Digest
	Scope   string
	Name    string // of the wallet or person; empty for the cluster
	Reason  string
	By      string // the person's or signer's name in the charter
	Time    int64  // Unix seconds, as whoever made it saw it; decides nothing
	Nonce   [16]byte
}

// Validate checks the shape, without a charter.
func (f *Freeze) Validate() error {
	if f.Cluster.IsZero() {
		return refuse(CodeMalformed, "freeze: cluster is missing")
	}
	if err := CheckScope(f.Scope, f.Name); err != nil {
		return err
	}
	if err := policy.CheckText(f.Reason, MaxReason); err != nil {
		return refuse(CodeMalformed, "freeze: reason: %w", err)
	}
	if err := policy.CheckName(f.By); err != nil {
		return refuse(CodeMalformed, "freeze: by: %w", err)
	}
	return checkTime("freeze: time", f.Time)
}

// CheckScope checks what a freeze would stop.
func CheckScope(scope, name string) error {
	switch scope {
	case ScopeCluster:
		if name != "" {
			return refuse(CodeMalformed, "freeze: the scope cluster has no name; %.40q was given", name)
		}
	case ScopeWallet, ScopePerson:
		if err := policy.CheckName(name); err != nil {
			return refuse(CodeMalformed, "freeze: %s: %w", scope, err)
		}
	default:
		return refuse(CodeMalformed, "freeze: scope %.40q: want cluster, wallet or person", scope)
	}
	return nil
}

func checkTime(what string, t int64) error {
	if t < 0 || t > maxTime {
		return refuse(CodeMalformed, "%s: %d is no time between 1970 and 9999", what, t)
	}
	return nil
}

// Encode is the canonical form, whose digest is the freeze's ID.
func (f *Freeze) Encode() []byte {
	return canon.New(freezeDomain).Digest(f.Cluster).String(f.Scope).String(f.Name).String(f.Reason).
		String(f.By).Time(f.Time).Bytes(f.Nonce[:]).Encoded()
}

// ID names the freeze; an unfreeze lifts it by this.
func (f *Freeze) ID() canon.Digest { return canon.Sum(f.Encode()) }

// What says what it stops, in words.
func (f *Freeze) What() string {
	if f.Scope == ScopeCluster {
		return "the whole cluster"
	}
	return fmt.Sprintf("%s %q", f.Scope, f.Name)
}

// ParseFreeze decodes a freeze.
func ParseFreeze(raw []byte) (*Freeze, error) {
	d := canon.NewDecoder(freezeDomain, raw)
	f := &Freeze{
		Cluster: d.Digest(), Scope: d.String(maxWord), Name: d.String(maxWord), Reason: d.String(MaxReason),
		By: d.String(maxWord), Time: d.Time(), Nonce: nonce(d),
	}
	if err := d.Finish(); err != nil {
		return nil, refuse(CodeMalformed, "freeze: %w", err)
	}
	return f, f.Validate()
}

func nonce(d *canon.Decoder) (n [16]byte) {
	raw := d.Bytes(len(n))
	if d.Err() == nil && len(raw) != len(n) {
		d.Fail(fmt.Errorf("nonce has %d bytes, want %d", len(raw), len(n)))
	}
	copy(n[:], raw)
	return n
}

// SignedBy is the record of a freeze that a signer makes by itself.
func (f *Freeze) SignedBy(key *identity.Key) Record {
	raw := f.Encode()
	return Record{Kind: KindFreeze, Raw: raw, Signers: []SignerSignature{{Signer: party.ID(f.By), Signature: key.Sign(raw)}}}
}

// Unfreeze lifts the freezes that it names, and no other, once the admin rule is met.
type Unfreeze struct {
	Cluster canon.Digest
	Charter canon.Digest   // in force when it was made
	Freezes []canon.Digest // 1 to MaxLifted, ascending, distinct
	Reason  string
	Time    int64
	Expires int64 // when nobody may sign it any more
	Nonce   [16]byte
}

// Validate checks the shape, without a charter.
func (u *Unfreeze) Validate() error {
	switch {
	case u.Cluster.IsZero() || u.Charter.IsZero():
		return refuse(CodeMalformed, "unfreeze: cluster or charter is missing")
	case len(u.Freezes) == 0 || len(u.Freezes) > MaxLifted:
		return refuse(CodeMalformed, "unfreeze: it names %d freezes; 1 to %d", len(u.Freezes), MaxLifted)
	case u.Expires <= u.Time || u.Expires-u.Time > approval.MaxLifetime:
		return refuse(CodeMalformed, "unfreeze: it expires %d s after its time; 1 s to 30 days", u.Expires-u.Time)
	}
	for i := 1; i < len(u.Freezes); i++ {
		if bytes.Compare(u.Freezes[i-1][:], u.Freezes[i][:]) >= 0 {
			return refuse(CodeMalformed, "unfreeze: its freezes are not sorted and distinct")
		}
	}
	if err := policy.CheckText(u.Reason, MaxReason); err != nil {
		return refuse(CodeMalformed, "unfreeze: reason: %w", err)
	}
	if err := checkTime("unfreeze: time", u.Time); err != nil {
		return err
	}
	return checkTime("unfreeze: expires", u.Expires)
}

// Encode is the canonical form. The caller sorts Freezes (SortDigests).
func (u *Unfreeze) Encode() []byte {
	e := canon.New(unfreezeDomain).Digest(u.Cluster).Digest(u.Charter).List(len(u.Freezes))
	for _, id := range u.Freezes {
		e.Digest(id)
	}
	return e.String(u.Reason).Time(u.Time).Time(u.Expires).Bytes(u.Nonce[:]).Encoded()
}

// ParseUnfreeze decodes an unfreeze.
func ParseUnfreeze(raw []byte) (*Unfreeze, error) {
	d := canon.NewDecoder(unfreezeDomain, raw)
	u := &Unfreeze{Cluster: d.Digest(), Charter: d.Digest()}
	for range d.List(MaxLifted) {
		u.Freezes = append(u.Freezes, d.Digest())
	}
	u.Reason, u.Time, u.Expires, u.Nonce = d.String(MaxReason), d.Time(), d.Time(), nonce(d)
	if err := d.Finish(); err != nil {
		return nil, refuse(CodeMalformed, "unfreeze: %w", err)
	}
	return u, u.Validate()
}

// SortDigests sorts and removes duplicates, on a copy.
func SortDigests(ids []canon.Digest) []canon.Digest {
	ids = slices.Clone(ids)
	slices.SortFunc(ids, func(a, b canon.Digest) int { return bytes.Compare(a[:], b[:]) })
	return slices.Compact(ids)
}

// ListVersion is one version of a list that the charter leaves to keepers.
type ListVersion struct {
	Cluster  canon.Digest
	Name     string
	Version  uint64               // from 1; the highest counts
	Previous canon.Digest         // of the version that it was made from; zero for none
	Issued   int64                // Unix seconds; the list's age counts from here
	Entries  []policy.Destination // by chain and address, ascending, distinct (SortEntries)
}

// maxVersion leaves room to count on.
const maxVersion = 1 << 62

// Validate checks the shape, without a charter.
func (l *ListVersion) Validate() error {
	if err := policy.CheckName(l.Name); err != nil {
		return refuse(CodeMalformed, "list: %w", err)
	}
	switch {
	case l.Cluster.IsZero():
		return refuse(CodeMalformed, "list %q: cluster is missing", l.Name)
	case l.Version == 0 || l.Version > maxVersion:
		return refuse(CodeMalformed, "list %q: version %d; the first is 1", l.Name, l.Version)
	case l.Version == 1 != l.Previous.IsZero():
		return refuse(CodeMalformed, "list %q: version 1, and only that, has none before it", l.Name)
	case len(l.Entries) > MaxEntries:
		return refuse(CodeMalformed, "list %q: %d entries, at most %d", l.Name, len(l.Entries), MaxEntries)
	}
	for i, e := range l.Entries {
		if i > 0 && compareEntries(l.Entries[i-1], e) >= 0 {
			return refuse(CodeMalformed, "list %q: entry %d is not sorted, or there twice", l.Name, i)
		}
		if err := checkEntry(e); err != nil {
			return refuse(CodeMalformed, "list %q: entry %d: %w", l.Name, i, err)
		}
	}
	return checkTime("list: issued", l.Issued)
}

func compareEntries(a, b policy.Destination) int {
	return cmp.Or(cmp.Compare(a.Chain, b.Chain), cmp.Compare(a.Address, b.Address))
}

// SortEntries is the canonical order, on a copy. Duplicates stay, for Validate to name.
func SortEntries(entries []policy.Destination) []policy.Destination {
	entries = slices.Clone(entries)
	slices.SortStableFunc(entries, compareEntries)
	return entries
}

// Encode is the canonical form.
func (l *ListVersion) Encode() []byte {
	e := canon.New(listDomain).Digest(l.Cluster).String(l.Name).Uint64(l.Version).Digest(l.Previous).Time(l.Issued).List(len(l.Entries))
	for _, x := range l.Entries {
		e.String(x.Chain).String(x.Address).String(x.Label)
	}
	return e.Encoded()
}

// Digest names the version.
func (l *ListVersion) Digest() canon.Digest { return canon.Sum(l.Encode()) }

// ParseList decodes a version of a list.
func ParseList(raw []byte) (*ListVersion, error) {
	d := canon.NewDecoder(listDomain, raw)
	l := &ListVersion{Cluster: d.Digest(), Name: d.String(maxWord), Version: d.Uint64(), Previous: d.Digest(), Issued: d.Time()}
	for range d.List(MaxEntries) {
		l.Entries = append(l.Entries, policy.Destination{Chain: d.String(maxWord), Address: d.String(maxAddress), Label: d.String(maxLabel)})
		if d.Err() != nil {
			break
		}
	}
	if err := d.Finish(); err != nil {
		return nil, refuse(CodeMalformed, "list: %w", err)
	}
	return l, l.Validate()
}
