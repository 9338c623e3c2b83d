package credential

import "errors"

var (
	// ErrUnsupportedKey: a key that is well formed but of a type or size that is not accepted.
	ErrUnsupportedKey = errors.New("key is not accepted")
	// ErrMalformedKey: text that is not one canonical public key line.
	ErrMalformedKey = errors.New("not a public key line")
	// ErrMalformedSignature: bytes that are neither one canonical armored SSHSIG nor a passkey's signature.
	ErrMalformedSignature = errors.New("not a signature of an SSH key or passkey")
	// ErrNamespace: the signature was made for another purpose.
	ErrNamespace = errors.New("signature is of another namespace")
	// ErrOtherKey: the signature names another key than the one asked about.
	ErrOtherKey = errors.New("signature is by another key")
	// ErrSignature: the signature does not verify: other bytes were signed.
	ErrSignature = errors.New("signature does not verify")
	// ErrPresence: a security key or passkey signed without being touched, or without asking who did.
	ErrPresence = errors.New("signature lacks a person's presence")
	// ErrOrigin: a passkey signed for a page that is not the one that may ask.
	ErrOrigin = errors.New("signature was asked for by another page")
	// ErrPassphrase: the private key file did not open with the passphrase given.
	ErrPassphrase = errors.New("wrong passphrase")
	// ErrAgent: the ssh-agent cannot be reached, or lacks the key, or refused.
	ErrAgent = errors.New("ssh-agent")
)
