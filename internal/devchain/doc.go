// Package devchain is an EVM chain on this machine, for the demo and for tests: go-ethereum's
// simulated chain, served as JSON-RPC over HTTP, which mines a block whenever
// transactions wait. It needs nothing but this binary and keeps nothing on disk.
//
// Run is the chain. Faucet is an account with money, for who has to pay from
// somewhere before the cluster's own wallet has anything.
package devchain
