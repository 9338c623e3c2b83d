// Package credentialtest is security keys and passkeys in software, for tests.
//
// Their secrets follow from their names, so no binary links it. They do as they are
// told: a test that sets a flag or an origin gets a true signature over the wrong thing.
package credentialtest
