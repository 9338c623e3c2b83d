package engine

import (
	"maps"

	"coffer/canon"
	"coffer/keyshare"
	"coffer/partial"
	"coffer/party"
)

// Message is one protocol message between two parties, or of one party to all
// others of its session. The payload is the library's message content without
// its type: the Kind alone says what it is, so the two cannot disagree.
type Message struct {
	Kind    string   // a key of Kinds
	From    party.ID // from the authenticated link, never from the payload
	To      party.ID // empty: broadcast
	Payload []byte
}

// The kinds of message, by protocol and round. Round 9 of signing has none: its
// value is the Partial, which goes to the coordinator and not to peers.
const (
	KindKG1  = "KG1"  // commitment, Paillier modulus, NTilde, h1, h2 and their proofs
	KindKG2a = "KG2a" // the recipient's share, secret, and the proof about the factors' size
	KindKG2b = "KG2b" // the opened commitment and the modulus proof
	KindKG3  = "KG3"  // the Paillier proof
	KindS1a  = "S1a"  // the encrypted nonce share and its range proof, one per recipient
	KindS1b  = "S1b"  // the commitment to gamma
	KindS2   = "S2"   // the answers to S1a, one per recipient
	KindS3   = "S3"   // theta; held until Release
	KindS4   = "S4"   // the opened gamma: from here on R is known
	KindS5   = "S5"
	KindS6   = "S6"
	KindS7   = "S7"
	KindS8   = "S8"
)

// Class says how messages of a kind travel and how large they may be.
type Class struct {
	Round     int
	Broadcast bool // to all others, and equal for all: the caller's echo sees to that
	Cap       int  // the largest payload accepted, in bytes
}

// kinds holds the caps: 1.25 times the honest size, so that no peer can make the
// library exponentiate by numbers of its choice of length (one 64 KiB exponent
// costs 0.8 s of CPU, and a proof has 256 of them).
var kinds = map[string]Class{
	KindKG1:  {1, true, 167_105},
	KindKG2a: {2, false, 4_564},
	KindKG2b: {2, true, 53_600}, // two more coordinates for each further party that must sign; 20 at most
	KindKG3:  {3, true, 4_209},
	KindS1a:  {1, false, 2_825},
	KindS1b:  {1, true, 43},
	KindS2:   {2, false, 8_485},
	KindS3:   {3, true, 43},
	KindS4:   {4, true, 255},
	KindS5:   {5, true, 43},
	KindS6:   {6, true, 510},
	KindS7:   {7, true, 43},
	KindS8:   {8, true, 213},
}

// Kinds returns the classes of all kinds.
func Kinds() map[string]Class { return maps.Clone(kinds) }

// KeygenKinds returns the classes of key generation only.
func KeygenKinds() map[string]Class { return kindsWith('K') }

// SignKinds returns the classes of signing only.
func SignKinds() map[string]Class { return kindsWith('S') }

func kindsWith(first byte) map[string]Class {
	out := make(map[string]Class)
	for k, c := range kinds {
		if k[0] == first {
			out[k] = c
		}
	}
	return out
}

// KeygenConfig starts a key generation.
type KeygenConfig struct {
	Session   canon.Digest
	Meta      keyshare.Meta // of the share to be made; Meta.Party is this signer
	PreParams []byte        // sealed, from an Event; never used before
}

// SignConfig starts a signing session, which stops by itself before round 4.
type SignConfig struct {
	Session canon.Digest
	Meta    keyshare.Meta // of the share; Meta.Party is this signer
	Share   []byte        // sealed, from a KeygenResult
	Signers party.Set     // exactly Need of Meta.Signers, this signer among them
	Path    string        // "m", or empty: the root key
}

// Host runs sessions. Its methods return at once: an error says that the call
// was not accepted, everything later is an Event. A session ends with its
// Keygen, Partial or Failed event; then, or after Drop, nothing more comes of it.
type Host interface {
	// Unlock gives the key under which shares and pre-parameters are sealed. It
	// copies the key; a second call replaces it for sessions started later.
	Unlock(*keyshare.WrapKey) error
	Keygen(KeygenConfig) error
	Sign(SignConfig) error
	// Deliver takes a message of another party; broadcasts only after the caller's echo.
	Deliver(session canon.Digest, m Message) error
	// Release sets the digest of a signing session, once, and lets round 3 go on.
	// Before Prepared it is remembered.
	Release(session canon.Digest, digest [32]byte) error
	// Drop ends a session without an event. An unknown session is no error.
	Drop(session canon.Digest)
	// GeneratePreParams searches primes in the background, one search at a time;
	// the Event has the zero session. ErrBusy while one runs.
	GeneratePreParams() error
	// Events must be read: a host buffers without bound only what the bounded
	// number of messages of its sessions can cause. Closed by Close.
	Events() <-chan Event
	Close() error
}

// Event is news of a session; exactly one of the fields after Session is set.
type Event struct {
	Session   canon.Digest
	Out       *Message         // to be sent
	Prepared  bool             // rounds 1 to 3 are done: R is still secret, the digest still open
	Keygen    *KeygenResult    // ends a key generation
	Partial   *partial.Partial // ends a signing session
	PreParams []byte           // sealed pre-parameters, zero session
	Failed    *Fault           // ends a session; zero session: the prime search failed
	Progress  string           // for people, such as "primes: 2 of 4 found"
}

// KeygenResult is a new share.
type KeygenResult struct {
	PublicKey [33]byte
	// Public is the canonical encoding of all public data of the wallet: quorum,
	// signers, and of each its public share, Paillier modulus, NTilde, h1 and h2.
	// All parties must have the same; the caller compares digests.
	Public []byte
	Sealed []byte // the share, sealed under the wrap key with Meta as associated data
}

// Fault is why a session ended. Culprits are who sent what broke a check; they
// are a hint for quarantine and for people, never a reason to remove a signer.
type Fault struct {
	Code     string
	Culprits []party.ID
	Text     string
}

// Error makes a Fault usable as one.
func (f *Fault) Error() string {
	s := f.Code
	for i, c := range f.Culprits {
		if i == 0 {
			s += " by "
		} else {
			s += ", "
		}
		s += string(c)
	}
	return s + ": " + f.Text
}

// The codes of faults. A check of the guard has the code "GUARD_" and its ID without "G-".
const (
	CodeWorkerDied = "WORKER_DIED" // the worker process ended under the session
	CodeProtocol   = "PROTOCOL"    // the library refused a message or a proof
	CodeResult     = "RESULT"      // the library finished with a result that does not add up
	CodeConflict   = "CONFLICT"    // a second, different message of the same party and kind
	CodeShare      = "SHARE"       // the sealed share or pre-parameters do not open or do not fit
	CodeTimeout    = "TIMEOUT"     // set by callers that watch the clock; the engine has none
	CodeCancelled  = "CANCELLED"   // the host was closed
	GuardPrefix    = "GUARD_"
)
