package gate

import "coffer/canon"

// View is what this signer's own journal says about the slot and the reference
// that an intent names. The node reads it and the gate judges it: the gate itself
// does no I/O.
type View struct {
	Slot      *Holder       // who holds (chain, account, nonce) now; nil when nobody does
	Reference *canon.Digest // the intent that used (initiator, reference) before; nil when none did
	LastTime  int64         // the latest time that the journal has seen, Unix seconds
}

// Holder is the intent that holds a slot.
type Holder struct {
	Intent  canon.Digest
	State   string // HolderReserved, or anything else once a partial may exist
	Expires int64  // Unix seconds, of the holder's intent
}

// HolderReserved is the state of a slot whose session was never released by this
// signer. It is the only state in which an expired holder gives up its slot.
const HolderReserved = "reserved"
