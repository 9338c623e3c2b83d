// Package datadir makes and reads what the data directories of signers and
// coordinators have in common: an identity, a store, an audit folder, and settings
// as strict JSON.
package datadir
