// Package testcharter is one small cluster for tests: a charter that validates, with
// every private key that it names. The keys are fixed, known to everybody, and worth
// nothing; no binary links this package.
//
// Three organisations run a signer each. Alice, bob and carol, of one organisation
// each, approve; dave asks, and so does the service payroll. The chain "dev" (1337) has
// ETH and USDC, and the list "suppliers" two addresses.
package testcharter
