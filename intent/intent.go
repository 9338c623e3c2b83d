package intent

import (
	"bytes"
	"fmt"
	"math"
	"math/big"
	"slices"

	"coffer/canon"
	"coffer/party"
	"coffer/policy"
)

const (
	// Domain begins every encoded intent.
	Domain = "coffer/intent/v1"
	// Namespace is the SSHSIG namespace of an initiator's signature.
	Namespace = "coffer-intent-v1"
	// MaxRaw bounds the canonical bytes.
	MaxRaw = 64 << 10
	// MaxLifetime is the longest time from NotBefore to Expires, in seconds.
	MaxLifetime = 30 * 24 * 3600
	// MaxReference bounds the business reference.
	MaxReference = 128

	maxName    = 32
	maxAddress = 128
	maxSigners = 20
	maxTime    = 253402300799 // the end of the year 9999
	amountBits = 256
)

// Kind is what sort of thing is asked.
type Kind string

const (
	// Transfer pays an amount of one asset to one address.
	Transfer Kind = "transfer"
	// Cancel spends the account and nonce of another intent on nothing, so that it can no longer be mined.
	Cancel Kind = "cancel"
	// CreateWallet asks the signers to generate a key together.
	CreateWallet Kind = "create_wallet"
)

// Intent is what somebody asks for. Exactly the body that Kind names is set.
//
// Path is the derivation path of the account; empty is the wallet's own key, the
// only one there is for now. Chain, Account, Nonce and FeeCap are those of the
// transaction, and zero for CreateWallet, which makes none.
type Intent struct {
	Cluster, Charter canon.Digest
	Kind             Kind
	Wallet           string
	Path             string
	Chain            string
	Account          string // the address that pays, in the chain's canonical form
	Nonce            uint64
	FeeCap           *big.Int // the most that the network may cost, in the chain's smallest unit

	Transfer     *TransferBody
	Cancel       *CancelBody
	CreateWallet *CreateWalletBody

	NotBefore, Expires int64 // Unix seconds: from, and until but not at
	Initiator          string
	Reference          string // unique for each initiator: the same reference pays once
	Salt               [16]byte
}

// TransferBody is a payment.
type TransferBody struct {
	Asset  string   // symbol in the charter
	To     string   // address in the chain's canonical form
	Amount *big.Int // smallest unit
}

// CancelBody names what is cancelled.
type CancelBody struct {
	Subject canon.Digest // of the intent that holds the same account and nonce
}

// CreateWalletBody says who will hold the shares.
type CreateWalletBody struct {
	Quorum  party.Quorum
	Signers party.Set
}

// Validate checks the shape, without a charter. Everything that it lets pass has exactly one encoding.
func (i *Intent) Validate() error {
	if i == nil {
		return fmt.Errorf("%w: there is none", ErrMalformed)
	}
	if err := i.validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return nil
}

func (i *Intent) validate() error {
	if i.Cluster.IsZero() || i.Charter.IsZero() {
		return fmt.Errorf("cluster or charter is missing")
	}
	if err := policy.CheckName(i.Wallet); err != nil {
		return fmt.Errorf("wallet: %w", err)
	}
	if err := policy.CheckName(i.Initiator); err != nil {
		return fmt.Errorf("initiator: %w", err)
	}
	if err := policy.CheckText(i.Reference, MaxReference); err != nil {
		return fmt.Errorf("reference: %w", err)
	}
	if i.Path != "" {
		return fmt.Errorf("path %.40q: only the wallet's own key can be used yet; leave it empty", i.Path)
	}
	switch {
	case i.NotBefore < 0 || i.NotBefore > maxTime || i.Expires < 0 || i.Expires > maxTime:
		return fmt.Errorf("not-before %d or expires %d is no time between 1970 and 9999", i.NotBefore, i.Expires)
	case i.Expires <= i.NotBefore:
		return fmt.Errorf("expires %d is not after not-before %d", i.Expires, i.NotBefore)
	case i.Expires-i.NotBefore > MaxLifetime:
		return fmt.Errorf("expires %d s after not-before; at most %d s (30 days)", i.Expires-i.NotBefore, MaxLifetime)
	}
	bodies := 0
	for _, set := range []bool{i.Transfer != nil, i.Cancel != nil, i.CreateWallet != nil} {
		if set {
			bodies++
		}
	}
	if bodies != 1 {
		return fmt.Errorf("it has %d bodies, want the one of its kind", bodies)
	}
	switch i.Kind {
	case Transfer:
		return i.validateTransfer()
	case Cancel:
		return i.validateCancel()
	case CreateWallet:
		return i.validateCreateWallet()
	}
	return fmt.Errorf("kind %.40q: want %s, %s or %s", string(i.Kind), Transfer, Cancel, CreateWallet)
}

func (i *Intent) validateSpend() error {
	if err := policy.CheckName(i.Chain); err != nil {
		return fmt.Errorf("chain: %w", err)
	}
	if err := checkAddress(i.Account); err != nil {
		return fmt.Errorf("account: %w", err)
	}
	// EIP-2681: the last nonce can never be used.
	if i.Nonce == math.MaxUint64 {
		return fmt.Errorf("nonce %d can never be mined", i.Nonce)
	}
	if err := checkAmount(i.FeeCap); err != nil {
		return fmt.Errorf("fee cap: %w", err)
	}
	return nil
}

func (i *Intent) validateTransfer() error {
	t := i.Transfer
	if t == nil {
		return fmt.Errorf("a transfer without its body")
	}
	if err := i.validateSpend(); err != nil {
		return err
	}
	if err := checkSymbol(t.Asset); err != nil {
		return fmt.Errorf("asset: %w", err)
	}
	if err := checkAddress(t.To); err != nil {
		return fmt.Errorf("destination: %w", err)
	}
	if err := checkAmount(t.Amount); err != nil {
		return fmt.Errorf("amount: %w", err)
	}
	return nil
}

func (i *Intent) validateCancel() error {
	if i.Cancel == nil {
		return fmt.Errorf("a cancel without its body")
	}
	if i.Cancel.Subject.IsZero() {
		return fmt.Errorf("subject: it does not say which intent is cancelled")
	}
	return i.validateSpend()
}

func (i *Intent) validateCreateWallet() error {
	b := i.CreateWallet
	if b == nil {
		return fmt.Errorf("a wallet's creation without its body")
	}
	if i.Chain != "" || i.Account != "" || i.Nonce != 0 || i.FeeCap != nil && i.FeeCap.Sign() != 0 {
		return fmt.Errorf("chain, account, nonce and fee cap must be empty: creating a wallet makes no transaction")
	}
	if err := b.Quorum.Validate(); err != nil {
		return err
	}
	if len(b.Signers) != b.Quorum.Of {
		return fmt.Errorf("signers: %d named for a quorum of %s", len(b.Signers), b.Quorum)
	}
	for n, id := range b.Signers {
		if err := policy.CheckName(string(id)); err != nil {
			return fmt.Errorf("signers: %w", err)
		}
		if n > 0 && b.Signers[n-1] >= id {
			return fmt.Errorf("signers: %q and %q are not in order, or twice the same", b.Signers[n-1], id)
		}
	}
	return nil
}

// checkAmount accepts 1 to 2^256-1: a chain's word. Zero is nothing to ask for.
func checkAmount(v *big.Int) error {
	switch {
	case v == nil || v.Sign() == 0:
		return fmt.Errorf("it is zero")
	case v.Sign() < 0:
		return fmt.Errorf("it is negative")
	case v.BitLen() > amountBits:
		return fmt.Errorf("it has more than %d bits", amountBits)
	}
	return nil
}

// checkAddress is what holds on every chain; which chain it is, and so what its
// addresses look like, only a charter knows.
func checkAddress(s string) error {
	if s == "" {
		return fmt.Errorf("address is missing")
	}
	if len(s) > maxAddress {
		return fmt.Errorf("address has %d characters, at most %d", len(s), maxAddress)
	}
	for n := range len(s) {
		if c := s[n]; !(c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z') {
			return fmt.Errorf("address %.40q holds something else than letters and digits", s)
		}
	}
	return nil
}

func checkSymbol(s string) error {
	if s == "" || len(s) > maxName {
		return fmt.Errorf("symbol has %d characters, want 1 to %d", len(s), maxName)
	}
	for _, r := range s {
		if r <= 0x20 || r > 0x7e {
			return fmt.Errorf("symbol %.40q: use printable ASCII without spaces", s)
		}
	}
	return nil
}

// Encode is the canonical form, or nil for an intent that does not validate.
func (i *Intent) Encode() []byte {
	if i.Validate() != nil {
		return nil
	}
	e := canon.New(Domain).
		Digest(i.Cluster).Digest(i.Charter).String(string(i.Kind)).
		String(i.Wallet).String(i.Path).String(i.Chain).String(i.Account).
		Uint64(i.Nonce).Big(i.FeeCap)
	switch i.Kind {
	case Transfer:
		e.String(i.Transfer.Asset).String(i.Transfer.To).Big(i.Transfer.Amount)
	case Cancel:
		e.Digest(i.Cancel.Subject)
	case CreateWallet:
		q := i.CreateWallet.Quorum
		e.Uint64(uint64(q.Need)).Uint64(uint64(q.Of)).Strings(i.CreateWallet.Signers.Strings())
	}
	return e.Time(i.NotBefore).Time(i.Expires).String(i.Initiator).String(i.Reference).Bytes(i.Salt[:]).Encoded()
}

// Digest is the intent's name everywhere: in approvals, verdicts, journals and
// sessions. It is zero for an intent that does not validate.
func (i *Intent) Digest() canon.Digest {
	raw := i.Encode()
	if raw == nil {
		return canon.Digest{}
	}
	return canon.Sum(raw)
}

// Parse decodes canonical bytes and validates their shape. It says nothing of who made them; use Signed.Open.
func Parse(raw []byte) (*Intent, error) {
	i, err := parse(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if err := i.Validate(); err != nil {
		return nil, err
	}
	if !bytes.Equal(i.Encode(), raw) {
		return nil, fmt.Errorf("%w: not in its canonical encoding", ErrMalformed)
	}
	return i, nil
}

func parse(raw []byte) (*Intent, error) {
	if len(raw) > MaxRaw {
		return nil, fmt.Errorf("%d bytes, at most %d", len(raw), MaxRaw)
	}
	d := canon.NewDecoder(Domain, raw)
	i := &Intent{
		Cluster: d.Digest(), Charter: d.Digest(), Kind: Kind(d.String(maxName)),
		Wallet: d.String(maxName), Path: d.String(maxAddress), Chain: d.String(maxName), Account: d.String(maxAddress),
		Nonce: d.Uint64(), FeeCap: d.Big(amountBits / 8),
	}
	switch i.Kind {
	case Transfer:
		i.Transfer = &TransferBody{Asset: d.String(maxName), To: d.String(maxAddress), Amount: d.Big(amountBits / 8)}
	case Cancel:
		i.Cancel = &CancelBody{Subject: d.Digest()}
	case CreateWallet:
		i.CreateWallet = &CreateWalletBody{Quorum: party.Quorum{Need: count(d), Of: count(d)}}
		for _, name := range d.Strings(maxSigners, maxName) {
			i.CreateWallet.Signers = append(i.CreateWallet.Signers, party.ID(name))
		}
	default:
		d.Fail(fmt.Errorf("kind %.40q: want %s, %s or %s", string(i.Kind), Transfer, Cancel, CreateWallet))
	}
	i.NotBefore, i.Expires = d.Time(), d.Time()
	i.Initiator, i.Reference = d.String(maxName), d.String(MaxReference)
	salt := d.Bytes(len(i.Salt))
	if d.Err() == nil && len(salt) != len(i.Salt) {
		d.Fail(fmt.Errorf("salt has %d bytes, want %d", len(salt), len(i.Salt)))
	}
	copy(i.Salt[:], salt)
	return i, d.Finish()
}

func count(d *canon.Decoder) int {
	v := d.Uint64()
	if v > maxSigners {
		d.Fail(fmt.Errorf("quorum counts %d, at most %d", v, maxSigners))
		return 0
	}
	return int(v)
}

// Clone is a deep copy, for callers that change one field and sign anew.
func (i *Intent) Clone() *Intent {
	if i == nil {
		return nil
	}
	c := *i
	c.FeeCap = cloneBig(i.FeeCap)
	if i.Transfer != nil {
		t := *i.Transfer
		t.Amount = cloneBig(t.Amount)
		c.Transfer = &t
	}
	if i.Cancel != nil {
		b := *i.Cancel
		c.Cancel = &b
	}
	if i.CreateWallet != nil {
		b := *i.CreateWallet
		b.Signers = slices.Clone(b.Signers)
		c.CreateWallet = &b
	}
	return &c
}

func cloneBig(v *big.Int) *big.Int {
	if v == nil {
		return nil
	}
	return new(big.Int).Set(v)
}
