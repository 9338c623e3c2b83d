// Package testkeys holds pre-parameters and a frozen 2-of-3 wallet for tests, so
// that they need not search primes.
//
// UNSAFE for anything but tests: the secret primes and all three shares are in
// this repository in clear. No binary links this package; internal/archtest sees
// to that. The files of testdata are written by
//
//	go run ./internal/testkeys/generate
package testkeys
