package engine_test

import (
	"context"
	"errors"
	"math/big"
	"testing"

	"coffer/engine"
)

func TestSafePrimes(t *testing.T) {
	for _, size := range []int{64, 127, 256, 512} {
		heard := 0
		primes, err := engine.SafePrimes(context.Background(), size, 3, 2, func(n int) {
			if heard++; n != heard {
				t.Errorf("heard %d, want %d", n, heard)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if heard != 3 {
			t.Errorf("%d bits: heard of %d primes, want 3", size, heard)
		}
		for i, p := range primes {
			q := new(big.Int).Rsh(p, 1)
			if !p.ProbablyPrime(30) || !q.ProbablyPrime(30) || p.Bit(0) != 1 {
				t.Errorf("%d bits: %v is no safe prime", size, p)
			}
			if p.BitLen() != size || p.Bit(size-2) != 1 {
				t.Errorf("%d bits: %v has not its two top bits set", size, p)
			}
			if new(big.Int).Mul(p, primes[(i+1)%3]).BitLen() != 2*size {
				t.Errorf("%d bits: product is a bit short", size)
			}
		}
	}
}

// TestSieveStrikesExactly compares the sieve with trial division: a candidate that
// it strikes has a small factor in q or 2q+1, and one that it leaves has none.
func TestSieveStrikesExactly(t *testing.T) {
	start, struck, err := engine.SieveWindow(256)
	if err != nil {
		t.Fatal(err)
	}
	if new(big.Int).Mod(start, big.NewInt(6)).Int64() != 5 {
		t.Fatal("start is not 5 mod 6")
	}
	product := big.NewInt(1)
	for n := int64(5); n < engine.SieveLimit; n += 2 {
		if big.NewInt(n).ProbablyPrime(0) {
			product.Mul(product, big.NewInt(n))
		}
		if n > 1<<14 {
			break // the full product is too slow to divide by; the rest is checked one way below
		}
	}
	left := 0
	for i := range 2000 {
		q := new(big.Int).Add(start, big.NewInt(6*int64(i)))
		both := new(big.Int).Mul(q, new(big.Int).Add(new(big.Int).Lsh(q, 1), big.NewInt(1)))
		hasSmall := new(big.Int).GCD(nil, nil, both, product).Cmp(big.NewInt(1)) != 0
		if hasSmall && !struck[i] {
			t.Fatalf("candidate %d has a small factor and was left", i)
		}
		if !struck[i] {
			left++
		} else if !hasSmall {
			// Struck by a prime between 2^14 and the limit: it must exist.
			found := false
			for n := int64(1<<14 | 1); n < engine.SieveLimit && !found; n += 2 {
				found = new(big.Int).Mod(both, big.NewInt(n)).Sign() == 0
			}
			if !found {
				t.Fatalf("candidate %d has no small factor and was struck", i)
			}
		}
	}
	if left == 0 {
		t.Error("nothing was left: the sieve strikes everything")
	}
}

func TestSafePrimesCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := engine.SafePrimes(ctx, 1024, 1, 2, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled search: %v", err)
	}
	if _, err := engine.SafePrimes(context.Background(), 16, 1, 1, nil); err == nil {
		t.Error("16 bits accepted")
	}
}
