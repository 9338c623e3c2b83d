// Package evm is stage 4 of 6 for EVM chains: it turns an intent into the one
// transaction that carries it out, and checks that a transaction does exactly that.
//
// In: an Intent and Fees. Out: Unsigned, an EIP-1559 transaction, and the digest that
// is signed; later, with stage 6's Signature, the signed transaction. The package is
// pure: no I/O, no clock, its own codec of the subset of RLP that it needs. chain/rpc
// talks to chains.
//
// The coordinator calls Build. A signer calls Decode and Compare on the bytes it was
// sent and signs Digest, which it computed itself from the decoded fields: no
// interface takes a digest to sign.
//
// What a malicious coordinator can try: bytes that decode in two ways (the decoder
// takes the canonical encoding and nothing else: Encode of what it returns is the
// input); a field that differs from the intent, such as another recipient, more value
// or trailing calldata (Compare wants every field, not the absence of known bad ones);
// another transaction type, a contract creation or an access list (not decoded at
// all); a fee that drains the account (gas and price are bounded, their product by the
// intent's own fee cap); a nonce other than the intent's, to pay twice.
package evm
