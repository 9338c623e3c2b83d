// Command coffer-coordinator runs the flow of intents for a treasury. It holds no
// secret that can authorise a payment.
package main
