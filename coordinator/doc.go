// Package coordinator runs the flow of an intent: it collects, previews, builds,
// asks the signers, combines, broadcasts and watches (flow.go reads top to bottom).
//
// It holds no share and no secret that can authorise a payment, and nothing that it
// says has to be believed: signers and people verify the same signed bytes
// themselves. What a thief who owns it can do is delay and refuse.
//
// Every step is on disk before the next begins, so a coordinator that is killed
// resumes where it was. It can present an intent to the signers twice without
// harm: all transactions for one intent have the account and nonce that the intent
// itself names, so at most one can be mined.
package coordinator
