package authority_test

import (
	"testing"

	"coffer/authority"
)

// settle has ledgers exchange what they lack until nothing new comes of it.
func settle(t testing.TB, at int64, ledgers ...*authority.Ledger) {
	t.Helper()
	for round := range 100 {
		news := false
		for _, from := range ledgers {
			for _, to := range ledgers {
				if from == to {
					continue
				}
				records, more := from.Missing(to.Refs(), 1<<20)
				if more {
					t.Fatal("more than fits")
				}
				for _, r := range records {
					events, _ := give(to, r, at)
					for _, e := range events {
						news = news || e.Kind != authority.EventDropped
					}
				}
			}
		}
		if !news {
			return
		}
		if round == 99 {
			t.Fatal("the exchange does not end")
		}
	}
}
