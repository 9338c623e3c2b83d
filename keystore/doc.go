// Package keystore keeps a signer's shares, wallet records and pre-parameters at
// rest, sealed (package keyshare), in the signer's store (package store).
//
// Nothing good is ever overwritten. A share is written once, under its wallet, epoch
// and ceremony, as pending; Activate joins it with the record that all signers signed
// and from then on no other share can be stored for that wallet and epoch. A later
// epoch has records of its own and leaves the earlier one as it is.
//
// A share whose ceremony has proved it is noted with the record that is to be signed, so
// that a restart can finish the ceremony. This signer's word under the record comes after
// that note, is given for one record of an epoch only, and is never forgotten.
//
// Pre-parameters are consumed once: TakePreParams deletes the set and binds it to its
// ceremony in one transaction, so a crash between taking and using loses a set and
// never gives one out twice. A set that was given out is remembered by its digest and
// refused if it is offered again.
//
// The wrap key that all of it is sealed under lies in the seal file, encrypted under
// the operator's passphrase (seal.go).
//
// Every change is on disk when the call returns; after a failed write all changes are
// refused (store.ErrFailed).
package keystore
