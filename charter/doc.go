// Package charter is the cluster's signed constitution: who belongs, who may what.
//
// A charter lists organisations, signers, coordinators, people, services, chains,
// assets, destinations, the quorum, the rules and the admin rule. It is the only
// trusted source of a unit (an asset's decimals), of a name and of a key. Version 1
// is signed by every operator, every key in it proves by a card that its owner holds
// it, and every signer and user pins it by a digest heard by another channel.
//
// The file is JSON for people; what is signed is the canonical encoding (package
// canon) of the same fields, so spaces and order of keys do not matter and nothing
// that matters can hide in them. Whoever reads a file gets either a charter that is
// valid as a whole, or an error that names the field and the remedy.
//
// What somebody can try: list one key for two people, so that one person has two
// votes; look-alike names; a rule that can never be satisfied or that costs minutes to
// judge; a quorum of which two halves could sign; an edit after signing.
package charter
