// Package journal is a signer's durable memory of what it agreed to sign. It is what
// makes a payment happen at most once.
//
// It is keyed both ways. A slot, that is (chain, account, nonce), is held by one
// intent, and an intent holds one slot; the intent names the slot itself. A chain
// mines at most one transaction per slot, so however many transactions are signed
// for an intent (fee bumps, other quorums, retries) at most one of them counts.
//
// A slot goes through these states:
//
//	reserved    an intent holds it; no Binding of this signer has left
//	released    a Binding may have left: from here on a partial may come to exist
//	signed      a partial of this signer may have left
//
// and it passes from one intent to another in three cases only: the holder is
// reserved and expired; the holder was abandoned (rejected by people) while reserved;
// or the new intent is an approved cancel of exactly the holder, which uses the same
// slot. An intent that lost its slot never gets another.
//
// Every change is on disk before the call returns, and nothing may leave the machine
// before that. After a failed write everything is refused until a restart has checked
// the file (store.ErrFailed). Sessions are remembered for ever and open once: after
// a crash or a restored backup of memory no session continues, and one session never
// releases two transactions. The latest time seen is remembered too, so that a clock
// that was set back cannot bring an expired intent to life.
//
// A Journal may be used by several goroutines; changes that wait at the same time
// share one sync. The journal does not judge whether an intent is allowed: that is
// package gate, which reads a View. It repeats only what must hold whatever the gate
// was told.
package journal
