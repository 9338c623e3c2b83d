// Package queue is an unbounded queue between a producer that must never block,
// because it holds a session's lock, and a consumer that reads a channel.
//
// It is bounded by its use: a session causes a limited number of events, and a
// host runs a limited number of sessions.
package queue
