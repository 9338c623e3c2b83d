// Package docs keeps the documents true: its tests compare README.md and docs/ with
// the code and fail when one says what the other does not.
//
// A document that nothing checks is wrong after the third change, and a wrong threat
// model is worse than none: somebody relies on it. So each test that the threat model
// names must exist, each code that a program can answer with must be explained, each
// byte string that is signed or hashed must be described, and each link must lead
// somewhere.
package docs
