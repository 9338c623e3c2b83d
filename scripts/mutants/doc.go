// Command mutants shows that every check is held by a test.
//
// A check is an element of a package-level table that has a field ID ("G-…") and a
// func field Run. For each check the program disables that one check, by making its
// Run accept everything, and runs the test that bears the check's name:
// TestCheck/<ID> in gate, TestGuard/<ID> in engine. The test has to fail. A mutant
// that survives is a check which could be deleted without anybody noticing.
//
// Each package is compiled once, through go test -overlay, with a switch around
// every Run; an environment variable throws one switch per run. Nothing in the
// working tree changes.
package main
