package engine

import (
	"context"
	"math/big"
)

const SieveLimit = sieveLimit

func SafePrimes(ctx context.Context, size, n, cores int, found func(int)) ([]*big.Int, error) {
	return safePrimes(ctx, size, n, cores, found)
}

func SieveWindow(size int) (start *big.Int, struck []bool, err error) {
	struck = make([]bool, sieveWindow)
	if start, err = sieveStart(size); err == nil {
		strike(start, struck)
	}
	return start, struck, err
}

func GenerateForBenchmark(ctx context.Context, cores int) error {
	pp, err := generatePreParams(ctx, cores, nil)
	if err != nil {
		return err
	}
	return pp.checkPrimes()
}
