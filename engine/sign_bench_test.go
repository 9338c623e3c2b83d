package engine_test

import (
	"fmt"
	"math/big"
	"testing"
	"time"

	"github.com/bnb-chain/tss-lib/v2/common"
	"github.com/bnb-chain/tss-lib/v2/ecdsa/signing"
	"github.com/bnb-chain/tss-lib/v2/tss"

	"coffer/engine"
	"coffer/party"
)

// BenchmarkSign makes one signature of two signers per iteration in three ways,
// interleaved: held sessions in this process, in two workers, and plain tss-lib
// with two parties in this process. It reports milliseconds of wall clock for
// prepare (rounds 1 to 3) and release (rounds 4 to 9), and the ratio to plain.
func BenchmarkSign(b *testing.B) {
	in := newCluster(b)
	out := clusterOf(b, func(party.ID) engine.Host {
		h, err := engine.NewWorker(engine.WorkerConfig{})
		if err != nil {
			b.Fatal(err)
		}
		return h
	})
	var prepare, release [2]time.Duration
	var plain time.Duration
	n := 0
	once := func(c *cluster, i int, count bool) {
		start := time.Now()
		session := c.prepare(pair)
		middle := time.Now()
		digest := digestOf(fmt.Sprint("bench ", n))
		c.release(session, pair, digest)
		if _, err := c.combine(digest, c.run(session, pair, nil)); err != nil {
			b.Fatal(err)
		}
		if count {
			prepare[i] += middle.Sub(start)
			release[i] += time.Since(middle)
		}
	}
	once(out, 1, false) // starts the workers
	for b.Loop() {
		n++
		once(in, 0, true)
		once(out, 1, true)
		start := time.Now()
		plainSign(b)
		plain += time.Since(start)
	}
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 / float64(n) }
	for i, where := range []string{"in-process", "worker"} {
		b.ReportMetric(ms(prepare[i]), "ms-prepare/"+where)
		b.ReportMetric(ms(release[i]), "ms-release/"+where)
		b.ReportMetric(float64(prepare[i]+release[i])/float64(plain), "of-plain/"+where)
	}
	b.ReportMetric(ms(plain), "ms/plain")
}

// plainSign is the library alone, as its README drives it.
func plainSign(b *testing.B) {
	var unsorted tss.UnSortedPartyIDs
	saves, err := engine.LibrarySaves(pair)
	if err != nil {
		b.Fatal(err)
	}
	for i, id := range pair {
		unsorted = append(unsorted, tss.NewPartyID(string(id), string(id), saves[i].ShareID))
	}
	ids := tss.SortPartyIDs(unsorted)
	out, end := make(chan tss.Message, 64), make(chan *common.SignatureData, 2)
	parties := make([]tss.Party, 2)
	digest := digestOf("plain")
	failed := make(chan *tss.Error, 64)
	for _, save := range saves {
		for j, id := range ids {
			if id.KeyInt().Cmp(save.ShareID) == 0 {
				params := tss.NewParameters(tss.S256(), tss.NewPeerContext(ids), id, 2, 1)
				parties[j] = signing.NewLocalParty(new(big.Int).SetBytes(digest[:]), params, save, out, end, 32)
			}
		}
	}
	for _, p := range parties {
		go func() {
			if err := p.Start(); err != nil {
				failed <- err
			}
		}()
	}
	for done := 0; done < 2; {
		select {
		case err := <-failed:
			b.Fatal(err)
		case <-end:
			done++
		case m := <-out:
			wire, _, err := m.WireBytes()
			if err != nil {
				b.Fatal(err)
			}
			for j, p := range parties {
				if j == m.GetFrom().Index || m.GetTo() != nil && m.GetTo()[0].Index != j {
					continue
				}
				go func() {
					if _, err := p.UpdateFromBytes(wire, m.GetFrom(), m.IsBroadcast()); err != nil {
						failed <- err
					}
				}()
			}
		}
	}
}
