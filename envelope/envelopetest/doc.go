// Package envelopetest is what the tests of the protocol packages share: fixed
// identities, the air between the parties, in which a seeded schedule may reorder,
// duplicate, drop and tamper, and scripts with golden traces. No binary links it.
package envelopetest
