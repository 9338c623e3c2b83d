// Package verdict is one signer's word about one intent, under its own signature.
//
// People who approve see the verdicts of all signers next to the intent, and the
// coordinator only carries them: it can withhold a verdict, and that shows, but it
// can neither invent nor change one, nor show that of another intent, charter or
// transaction, because all three are inside. A verdict moves nothing and no signer
// believes another's; a lying signer lies about itself only.
//
// A malicious signer can try to put control characters and text directions into
// what people read: texts are printable, bounded, and of one line, or the verdict
// does not parse.
package verdict
