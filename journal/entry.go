package journal

import (
	"fmt"

	"coffer/canon"
)

// State of an intent in the journal.
type State string

const (
	Reserved  State = "reserved"  // holds its slot; no Binding has left
	Released  State = "released"  // a Binding may have left
	Signed    State = "signed"    // a partial may have left
	Abandoned State = "abandoned" // given up while reserved
	Passed    State = "passed"    // expired while reserved, and another intent took the slot
	// An intent whose slot an approved cancel took keeps its state: what was signed
	// for it can still be mined. Entry.By names the cancel.
)

func (s State) valid() bool {
	switch s {
	case Reserved, Released, Signed, Abandoned, Passed:
		return true
	}
	return false
}

// Slot is what a chain uses once: an account's nonce.
type Slot struct {
	Chain   uint64
	Account string
	Nonce   uint64
}

func (s Slot) String() string {
	return fmt.Sprintf("chain %d, account %s, nonce %d", s.Chain, s.Account, s.Nonce)
}

// Entry is what the journal knows of one intent.
type Entry struct {
	Intent       canon.Digest
	Slot         Slot
	State        State
	Initiator    string
	Reference    string
	Expires      int64          // Unix seconds
	Transactions []canon.Digest // all that were reserved for it, in order, distinct
	By           canon.Digest   // the intent that took the slot from this one; zero if none
	Updated      int64          // Unix seconds
}

const (
	entryDomain   = "coffer/journal-entry/v1"
	bindingDomain = "coffer/journal-session/v1"

	maxText = 256
	// MaxTransactions bounds the transactions of one intent: fee bumps and retries.
	MaxTransactions = 256
)

func (e *Entry) encode() []byte {
	c := canon.New(entryDomain).Digest(e.Intent).Uint64(e.Slot.Chain).String(e.Slot.Account).Uint64(e.Slot.Nonce).
		String(string(e.State)).String(e.Initiator).String(e.Reference).Time(e.Expires)
	c.List(len(e.Transactions))
	for _, t := range e.Transactions {
		c.Digest(t)
	}
	return c.Digest(e.By).Time(e.Updated).Encoded()
}

func parseEntry(raw []byte) (*Entry, error) {
	d := canon.NewDecoder(entryDomain, raw)
	e := &Entry{
		Intent: d.Digest(), Slot: Slot{Chain: d.Uint64(), Account: d.String(maxText), Nonce: d.Uint64()},
		State: State(d.String(16)), Initiator: d.String(maxText), Reference: d.String(maxText), Expires: d.Time(),
	}
	for range d.List(MaxTransactions) {
		e.Transactions = append(e.Transactions, d.Digest())
	}
	e.By, e.Updated = d.Digest(), d.Time()
	if d.Err() == nil && !e.State.valid() {
		d.Fail(fmt.Errorf("state %q is unknown", e.State))
	}
	if err := d.Finish(); err != nil {
		return nil, fmt.Errorf("journal entry: %w", err)
	}
	return e, nil
}

// binding is what the journal knows of one session: that it was opened, and what it
// is bound to. Zero digests mean that nothing was released in it yet.
type binding struct {
	kind                string
	intent, transaction canon.Digest
	signed              bool
}

func (b *binding) encode() []byte {
	return canon.New(bindingDomain).String(b.kind).Digest(b.intent).Digest(b.transaction).Bool(b.signed).Encoded()
}

func parseBinding(raw []byte) (*binding, error) {
	d := canon.NewDecoder(bindingDomain, raw)
	b := &binding{kind: d.String(maxText), intent: d.Digest(), transaction: d.Digest(), signed: d.Bool()}
	if err := d.Finish(); err != nil {
		return nil, fmt.Errorf("journal session: %w", err)
	}
	return b, nil
}
