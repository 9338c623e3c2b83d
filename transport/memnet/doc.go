// Package memnet is a network in memory with seeded faults: delay, duplication,
// reordering, loss, corruption, partition, and a rule that may tamper with any frame.
//
// It keeps the promises of package transport when no fault is set, and breaks exactly
// those that the faults name. Which fault meets the n-th frame of an ordered pair
// depends on the seed, the pair and n alone, not on scheduling, so that a failing seed
// fails again. It uses channels and timers only and runs inside testing/synctest
// bubbles; close the Net before the bubble ends.
//
// No binary links it.
package memnet
