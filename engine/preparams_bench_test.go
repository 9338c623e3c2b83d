package engine_test

import (
	"context"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/bnb-chain/tss-lib/v2/ecdsa/keygen"

	"coffer/engine"
)

func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkPreParams makes one set of pre-parameters with the sieve and one with
// tss-lib's generator per iteration, interleaved on the same cores, and reports
// the CPU seconds of each and their ratio. A search is a matter of luck: use
// -benchtime=6x or more.
func BenchmarkPreParams(b *testing.B) {
	var ours, theirs time.Duration
	for b.Loop() {
		start := cpu(b)
		if err := engine.GenerateForBenchmark(context.Background(), runtime.NumCPU()); err != nil {
			b.Fatal(err)
		}
		middle := cpu(b)
		if _, err := keygen.GeneratePreParams(20 * time.Minute); err != nil {
			b.Fatal(err)
		}
		ours, theirs = ours+middle-start, theirs+cpu(b)-middle
	}
	b.ReportMetric(ours.Seconds()/float64(b.N), "cpu-s/ours")
	b.ReportMetric(theirs.Seconds()/float64(b.N), "cpu-s/tss-lib")
	b.ReportMetric(theirs.Seconds()/ours.Seconds(), "times-less-cpu")
}
