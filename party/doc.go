// Package party names the participants of a ceremony or session and says how many
// of them must take part.
//
// A party is a signer of the charter, by its name there. The numbers that the
// protocol needs (a non-zero, pairwise distinct scalar per party) are derived from
// the names and the session by the engine and never accepted from a peer.
package party
