// Package identity is a process's one Ed25519 key: its libp2p peer ID, its TLS
// certificate and its signature under records, envelopes and verdicts.
//
// There is no certificate authority: the charter names the public keys, and TLS
// peers are accepted by key alone. Every signature is over a canonical message
// (package canon) whose first field is its domain, so a signature made for one
// purpose means nothing for another.
package identity
