// Package gethdev runs a real geth in development mode for tests: a chain client that
// none of our code wrote, where devchain shares its libraries with us.
//
// The binary is not part of this repository. scripts/build-geth.sh builds it, and tests
// that need it carry the build tag "geth" and find it by the environment variable
// COFFER_GETH, which make test sets. Without the tag they do not exist, so none is ever
// skipped.
package gethdev
