// Package credential is the keys of people and services, and what they sign with them.
//
// A signature is over the 32-byte digest of a canonical message (package canon). An SSH
// key makes an armored SSHSIG, the format of `ssh-keygen -Y sign`, so a person needs
// nothing of ours to sign or to check: a key file, an ssh-agent, a security key and
// OpenSSH will do. A passkey makes a WebAuthn assertion in a browser.
//
// Promised: a signature that verifies was made by the named key, for the named
// namespace, over the named bytes; one of a security key or passkey after somebody
// touched it whom it recognised, and one of a passkey for the page that may ask. Whose
// key it is, and what it may do, the charter says. Nothing is remembered between calls.
//
// A malicious caller can try: a signature of another namespace or key; another
// hash; a key type whose strength or whose rules differ (short RSA, SHA-1, DSA,
// certificates, a security key without presence or verification); an Ed25519 point of
// small order, under which anyone can sign anything; a security key's answer to a web
// site as one to SSH; an assertion for another page, a framed page, or the making of
// a key; armor, JSON or wire bytes that one parser accepts and another does not. One
// signature has one form here, but for the width of its armor's lines; ECDSA signatures
// stay malleable by nature (s and n-s), so never use the bytes of a signature as an identity.
//
// Not promised: that a token was never copied. Counters are not looked at, and a
// passkey may live on several devices of a provider's account.
package credential
