package dkg

import "slices"

// State is where a ceremony stands at one signer.
type State string

// The states, in the order of a ceremony that goes well.
const (
	StateNonces    State = "nonces"
	StateCommit    State = "commit"
	StateReveal    State = "reveal"
	StateKeygen    State = "keygen"
	StateConfirm   State = "confirm"
	StateStore     State = "store"
	StateChallenge State = "challenge"
	StateProved    State = "proved"
	StateRecord    State = "record"
	StateDone      State = "done"
	StateFailed    State = "failed"
)

// Row describes a state: what it waits for, what this signer has on disk meanwhile,
// and where it may go.
type Row struct {
	State State
	Waits string
	Disk  string
	Next  []State
}

// table is the whole of the ceremony's order. move refuses what it does not list.
var table = []Row{
	{StateNonces, "of every signer, echoed, a fresh nonce, which make the session's ID, and its word which ceremony of this wallet it has proved", "nothing, or what an earlier ceremony proved", []State{StateCommit, StateRecord, StateFailed}},
	{StateCommit, "every signer's commitment to its part of the chain code, echoed", "nothing", []State{StateReveal, StateFailed}},
	{StateReveal, "every signer's part, which must open its commitment", "nothing", []State{StateKeygen, StateFailed}},
	{StateKeygen, "the engine's three rounds", "nothing", []State{StateConfirm, StateFailed}},
	{StateConfirm, "every signer's word that it ended with the same public data", "nothing", []State{StateStore, StateFailed}},
	{StateStore, "this signer's disk", "nothing, or a pending share", []State{StateChallenge, StateFailed}},
	{StateChallenge, "challenge signatures by quorums that cover every signer; each verifies", "a pending share", []State{StateProved, StateFailed}},
	{StateProved, "this signer's disk, and every signer's word that the proof is on its own", "a pending share, and soon its proof", []State{StateRecord, StateFailed}},
	{StateRecord, "every signer's signature under the wallet record", "a pending share and its proof", []State{StateDone, StateFailed}},
	{StateDone, "nothing", "an active share, with the record that all have signed", nil},
	{StateFailed, "nothing", "what it was; never an active share", nil},
}

// Table returns the states in order, for docs/dkg.md and the tests.
func Table() []Row { return slices.Clone(table) }

// Legal reports whether a ceremony may go from one state to another.
func Legal(from, to State) bool {
	for _, r := range table {
		if r.State == from {
			return slices.Contains(r.Next, to)
		}
	}
	return false
}
