package main

import (
	"coffer/internal/cli"
	pb "coffer/proto/coffer/v1"
)

// clean makes every text of a view that no signature covers harmless to show. What is
// signed (intent, statements, verdicts) is decoded and checked elsewhere.
func clean(v *pb.IntentView) {
	for _, s := range []*string{&v.Id, &v.Detail, &v.Progress, &v.FailureCode, &v.TxHash} {
		*s = cli.Clean(*s)
	}
	for _, list := range [][]string{v.SignedBy, v.Preview, v.Missing} {
		for i := range list {
			list[i] = cli.Clean(list[i])
		}
	}
	for _, sent := range v.Sent {
		sent.TxHash = cli.Clean(sent.TxHash)
		for i := range sent.SignedBy {
			sent.SignedBy[i] = cli.Clean(sent.SignedBy[i])
		}
	}
	for _, rec := range v.Verdicts {
		rec.Signer, rec.Error = cli.Clean(rec.Signer), cli.Clean(rec.Error)
	}
	for _, p := range v.Phases {
		p.Name = cli.Clean(p.Name)
	}
}
