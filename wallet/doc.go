// Package wallet is the record of a wallet: its public key, chain code, quorum and
// epoch, signed by all the signers that hold a share of it.
//
// A record is believed only with the signatures of every one of its signers, under
// the identities that the reader's own charter lists. So neither a coordinator nor
// fewer than all signers can invent a wallet, and whoever verifies a record derives
// its addresses from the public key instead of being told them.
package wallet
