// Package addressbook keeps where the signers of a charter are reached: of each the
// newest record that its identity signed, on disk, in a table of its own. In go records
// from peers, coordinators and operators; out comes, for each signer, the record with
// the highest sequence, or the one of its card.
//
// What a malicious caller can try: move another signer (a record counts only with the
// signature of the identity that the charter lists), bring back an old place (a lower
// sequence is refused, and another record of the same sequence too), fill the disk or
// keep others busy with ever new records (a signer's records are taken twenty at once and
// then one a minute). Whoever stole a signer's identity can misdirect calls to it; who
// answers there has to prove the same identity, so that gains nothing but silence.
package addressbook
