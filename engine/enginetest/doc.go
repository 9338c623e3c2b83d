// Package enginetest is an engine.Host for the tests of the packages above the
// engine: the same sessions, kinds, order of messages, hold and events, with
// arithmetic that takes microseconds and protects nothing. Every party of a fake
// key generation learns the whole key; Partials combine into valid signatures.
//
// It asserts what a real host relies on, so that a caller's mistake fails its
// test: unknown or reused sessions, wrong recipients, messages of the wrong
// protocol, releases without need. No binary links it.
package enginetest
