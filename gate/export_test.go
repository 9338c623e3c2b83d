package gate

import (
	"slices"

	"coffer/verdict"
)

// Row is what a test may know of a check.
type Row struct{ ID, Code, Doc, When string }

// Rows lists the table.
func Rows() (rows []Row) {
	when := map[scope]string{always: "always", onPayment: "payment", onTransaction: "transaction", onRelease: "release", onCeremony: "ceremony"}
	for _, c := range checks {
		rows = append(rows, Row{c.ID, c.Code, c.Doc, when[c.On]})
	}
	return rows
}

// CheckWithDigest is Check of a transaction that has the given digest: no known
// transaction has one that ECDSA cannot sign.
func CheckWithDigest(in Input, d [32]byte) verdict.Verdict {
	at := slices.IndexFunc(checks, func(c check) bool { return c.ID == "G-TX-DECODE" })
	table := slices.Insert(slices.Clone(checks), at+1, check{ID: "G-TEST", On: always, Run: func(s *state) *Refusal {
		s.digest = d
		return nil
	}})
	_, v := run(table, in, onPayment|onTransaction|onRelease)
	return v
}
