package authority_test

import (
	"fmt"
	"testing"
	"time"

	"coffer/authority"
	"coffer/canon"
	"coffer/internal/testcharter"
)

// crowded is a signer's ledger with as many orders as it remembers of one person.
func crowded(b *testing.B, x *testcharter.Fixture) *authority.Ledger {
	b.Helper()
	l, err := authority.NewLedger(x.Charter, x.Signers["north"])
	if err != nil {
		b.Fatal(err)
	}
	for n := range authority.MaxOrders {
		if _, err := l.Add(x.OrderRecord(b, "reject", canon.Sum(fmt.Appendf(nil, "intent %d", n)), now, "bob"), now); err != nil {
			b.Fatal(err)
		}
	}
	return l
}

// BenchmarkAdd is what a freeze costs a signer that holds many records.
func BenchmarkAdd(b *testing.B) {
	x := testcharter.New(b)
	l := crowded(b, x)
	n := 0
	for b.Loop() {
		b.StopTimer()
		n++
		r := x.FreezeRecord(b, "alice", authority.ScopeWallet, "treasury", now+int64(n), byte(n))
		lift := x.UnfreezeRecord(b, x.Charter, now+int64(n), []canon.Digest{r.ID()}, "alice", "bob")
		b.StartTimer()
		if _, err := l.Add(r, now+int64(n)); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if _, err := l.Add(lift, now+int64(n)); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// BenchmarkAddKnown is what a record costs that comes again, as most do.
func BenchmarkAddKnown(b *testing.B) {
	x := testcharter.New(b)
	l := crowded(b, x)
	r := x.FreezeRecord(b, "alice", authority.ScopeCluster, "", now, 1)
	if _, err := l.Add(r, now); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := l.Add(r, now); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAdvance is the second by second work of a signer with many records.
func BenchmarkAdvance(b *testing.B) {
	l := crowded(b, testcharter.New(b))
	for b.Loop() {
		l.Advance(time.Second, now)
	}
}

// BenchmarkHead is what is worked out anew whenever a record came.
func BenchmarkHead(b *testing.B) {
	l := crowded(b, testcharter.New(b))
	for b.Loop() {
		l.Head("north", 0, canon.Digest{}, now)
	}
}
