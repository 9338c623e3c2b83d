// Package credential is the keys of people and services, and what they sign with them.
//
// Every signature here is an armored SSHSIG, the format of `ssh-keygen -Y sign`,
// over the 32-byte digest of a canonical message (package canon), so a person needs
// nothing of ours to sign or to check: a key file, an ssh-agent and OpenSSH will do.
//
// Promised: a signature that verifies was made by the named key, for the named
// namespace, over the named bytes. Whose key it is, and what it may do, the charter says.
//
// A malicious caller can try: a signature of another namespace or key; another
// hash; a key type whose strength or whose rules differ (short RSA, SHA-1, DSA,
// certificates, security keys, which are refused until their presence flags are
// checked); an Ed25519 point of small order, under which anyone can sign anything;
// armor or wire bytes that one parser accepts and another does not. One signature has
// one armored form here, but for the width of its lines; ECDSA signatures stay
// malleable by nature (s and n-s), so never use the bytes of a signature as an identity.
package credential
