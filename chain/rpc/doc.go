// Package rpc asks EVM nodes and broadcasts through them: the only chain I/O.
//
// It belongs to the coordinator. Signers never link it, because what a node says is
// only somebody's word: a lying node can delay a payment, quote a fee (which the
// intent's fee cap bounds) or hide a receipt, and nothing that it answers widens what
// is signed. The client still treats answers as hostile: it refuses a node of another
// chain, bounds the size of every answer, checks hashes that it can compute itself, and
// keeps the URL, which often contains an access key, out of its errors.
//
// Errors are sentinels to be tested with errors.Is; nodes only differ in their wording,
// which classify knows.
package rpc
