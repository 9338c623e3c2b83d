// Package archtest holds the tree to its design: who may import whom, which
// package may touch the world, and what every package owes its reader.
//
// rules.go is the data, each rule with its reason; archtest_test.go asks the go
// command and the parser. What a binary must never hold it must never link, so the
// rules on binaries are about everything that they link, and the rules on layers
// about direct imports.
package archtest
