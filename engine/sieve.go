package engine

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"math/bits"
	"sync"
)

// A safe prime is p = 2q+1 with q prime. Almost all candidates fail, and what a
// failure costs decides what the search costs: a Miller-Rabin round at 1024 bits
// is half a millisecond, striking a number from a sieve is a nanosecond. So q and
// 2q+1 are sieved together, by all primes below sieveLimit, before anything is
// exponentiated. (tss-lib divides by the 15 primes up to 53 and then tests ten
// times as many candidates.)
const (
	// Twice the limit saves 9 per cent of the tests and doubles the divisions that
	// set a window up; here both are about even for 1024 bits.
	sieveLimit = 1 << 22
	// Candidates q, q+6, q+12, … per random start: about two safe primes of 1024
	// bits lie in one window. A new start for each prime found keeps them independent.
	sieveWindow = 1 << 17
	// Rounds of Miller-Rabin with random bases for what is returned, besides the
	// Baillie-PSW test that ProbablyPrime always does.
	finalRounds = 20
)

// sieveBatch is one word-sized product of small primes, so that a large number is
// divided once per batch and the word by each prime.
type sieveBatch struct {
	product uint64
	primes  []uint32
}

// sieveBatches lists the primes from 5 to sieveLimit; 2 and 3 are dealt with by
// the step of 6.
var sieveBatches = sync.OnceValue(func() []sieveBatch {
	composite := make([]bool, sieveLimit)
	var batches []sieveBatch
	var primes []uint32
	for n := 2; n < sieveLimit; n++ {
		if composite[n] {
			continue
		}
		for m := n * n; m < sieveLimit; m += n {
			composite[m] = true
		}
		if n >= 5 {
			primes = append(primes, uint32(n))
		}
	}
	for len(primes) > 0 {
		b, n := sieveBatch{product: 1}, 0
		for n < len(primes) {
			hi, lo := bits.Mul64(b.product, uint64(primes[n]))
			if hi != 0 {
				break
			}
			b.product = lo
			n++
		}
		b.primes, primes = primes[:n:n], primes[n:]
		batches = append(batches, b)
	}
	return batches
})

// safePrimes finds n safe primes of exactly size bits with their two top bits
// set, so that the product of two has exactly 2·size bits. It searches on cores
// goroutines until ctx ends; found, if not nil, hears the count so far.
func safePrimes(ctx context.Context, size, n, cores int, found func(int)) ([]*big.Int, error) {
	if size < 64 || n < 1 || cores < 1 {
		return nil, fmt.Errorf("search of %d safe primes of %d bits on %d cores: need 64 bits, one prime and one core at least", n, size, cores)
	}
	ctx, cancel := context.WithCancel(ctx)
	results := make(chan *big.Int)
	failed := make(chan error, cores)
	var searchers sync.WaitGroup
	for range cores {
		searchers.Go(func() {
			if err := searchSafePrimes(ctx, size, results); err != nil {
				failed <- err
			}
		})
	}
	defer searchers.Wait()
	defer cancel()
	var primes []*big.Int
	for len(primes) < n {
		select {
		case p := <-results:
			// Two equal ones would make a square modulus; a broken random source would.
			for _, other := range primes {
				if other.Cmp(p) == 0 {
					return nil, errors.New("search of safe primes: the same prime twice; the random source is broken")
				}
			}
			primes = append(primes, p)
			if found != nil {
				found(len(primes))
			}
		case err := <-failed:
			return nil, err
		case <-ctx.Done():
			return nil, fmt.Errorf("search of safe primes: %w", ctx.Err())
		}
	}
	return primes, nil
}

func searchSafePrimes(ctx context.Context, size int, results chan<- *big.Int) error {
	struck := make([]bool, sieveWindow)
	for ctx.Err() == nil {
		start, err := sieveStart(size - 1)
		if err != nil {
			return err
		}
		strike(start, struck)
		p := firstSafePrime(ctx, start, struck, size)
		if p == nil {
			continue
		}
		select {
		case results <- p:
		case <-ctx.Done():
		}
	}
	return nil
}

// sieveStart is a random number of exactly size bits with the two top bits set
// that is 5 mod 6: an odd q, and not 1 mod 3, where 3 would divide 2q+1.
func sieveStart(size int) (*big.Int, error) {
	q, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), uint(size)))
	if err != nil {
		return nil, fmt.Errorf("search of safe primes: %w", err)
	}
	q.SetBit(q, size-1, 1)
	q.SetBit(q, size-2, 1)
	six := big.NewInt(6)
	q.Sub(q, new(big.Int).Mod(q, six))
	return q.Add(q, big.NewInt(5)), nil
}

// strike marks every i whose q = start+6i, or 2q+1, has a small factor.
func strike(start *big.Int, struck []bool) {
	clear(struck)
	words := start.Bits()
	for _, batch := range sieveBatches() {
		rem := uint64(0)
		for i := len(words) - 1; i >= 0; i-- {
			rem = remWord(rem, words[i], batch.product)
		}
		for _, prime := range batch.primes {
			r := uint64(prime)
			residue := rem % r
			inverse := inverseOfSix(r)
			// q = 0: i = -start/6.            2q+1 = 0, q = (r-1)/2: i = ((r-1)/2 - start)/6.
			first := (r - residue) % r * inverse % r
			second := (r - residue + (r-1)/2) % r * inverse % r
			for i := first; i < uint64(len(struck)); i += r {
				struck[i] = true
			}
			for i := second; i < uint64(len(struck)); i += r {
				struck[i] = true
			}
		}
	}
}

// remWord is (hi·2^W + w) mod m for a word of big.Int, which has 32 or 64 bits.
func remWord(hi uint64, w big.Word, m uint64) uint64 {
	if bits.UintSize == 64 {
		return bits.Rem64(hi, uint64(w), m)
	}
	return bits.Rem64(hi>>32, hi<<32|uint64(w), m)
}

// inverseOfSix is 1/6 mod r for a prime r above 3: r is 1 or 5 mod 6, so one of
// r·5+1 and r+1 is a multiple of six.
func inverseOfSix(r uint64) uint64 {
	if r%6 == 1 {
		return (r*5 + 1) / 6
	}
	return (r + 1) / 6
}

// firstSafePrime tests what is left of a window in order; nil if there is none.
func firstSafePrime(ctx context.Context, start *big.Int, struck []bool, size int) *big.Int {
	q, p, offset := new(big.Int), new(big.Int), new(big.Int)
	for i, out := range struck {
		if out {
			continue
		}
		if ctx.Err() != nil {
			return nil
		}
		q.Add(start, offset.SetUint64(6*uint64(i)))
		// One round each first: nearly all q fail theirs, and p is tested for the few that pass.
		if !q.ProbablyPrime(0) {
			continue
		}
		p.Add(p.Lsh(q, 1), big.NewInt(1))
		if p.BitLen() == size && p.ProbablyPrime(0) && q.ProbablyPrime(finalRounds) && p.ProbablyPrime(finalRounds) {
			return p
		}
	}
	return nil
}
