// Package freeport finds loopback ports for servers that start later, in tests and in
// the demo.
package freeport
