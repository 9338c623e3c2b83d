// Command coffer-signer runs one signer of a cluster: it holds one share of each
// wallet's key, its own journal and audit log, and decides by itself.
package main
