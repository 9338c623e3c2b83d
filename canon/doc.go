// Package canon is the one canonical encoding of everything that somebody signs or hashes.
//
// A message is a domain string followed by its fields in a fixed order; every
// variable part carries its length and every list its count, so two different
// messages never share an encoding (the ambiguity behind TSSHOCK's alpha-shuffle,
// CVE-2022-47931). There is exactly one encoding of a value: integers have fixed
// width or no leading zero, booleans are 0 or 1, text is valid UTF-8, and the
// decoder refuses everything else, trailing bytes included. Protobuf promises
// none of this, so it carries messages but never defines what is signed.
//
// The layout, with golden vectors, is docs/encoding.md.
package canon
