// Package demo plays the product on one machine: it starts every process of a
// cluster with its own directory and sockets, has people do by the ordinary
// commands what they would do, and tells what happened. Nothing in it takes a short
// cut: it sees no key, no share and no signer's store.
package demo
