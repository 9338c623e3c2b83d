package transport

import (
	"time"

	"coffer/party"
)

// MaxFrame is the most bytes that one frame carries.
const MaxFrame = 512 << 10

// Frame is what arrived. From is the party whose key the connection proved.
type Frame struct {
	From party.ID
	Data []byte
}

// Link is one party's end of the network.
type Link interface {
	// Send queues a copy of data. It never waits for the network: what cannot be queued
	// is refused with one of this package's errors.
	Send(to party.ID, data []byte) error
	// Frames delivers what peers sent. A reader that lags holds its peers back. The
	// channel is closed by Close.
	Frames() <-chan Frame
	// Connected reports whether a frame sent now would leave now.
	Connected(to party.ID) bool
	// State is what the link knows of a peer; nothing of a stranger.
	State(of party.ID) PeerState
	// SetAddrs replaces the places where a peer is called: its newest address record.
	SetAddrs(of party.ID, addrs []string) error
	// Close ends the link and all that it started. It is idempotent.
	Close() error
}

// PeerState is what a link knows of a peer. Version and clock are the peer's own word.
type PeerState struct {
	Connected bool
	Since     time.Time     // connected, or away, since then
	RoundTrip time.Duration // of the last question; 0 while nothing was answered
	// ClockAhead is how far the peer's wall clock is ahead of this one's, half a round
	// trip more or less.
	ClockAhead time.Duration
	Version    string // of the peer's build; empty when unknown
	// Process is another text after each start of the peer's process, which has forgotten
	// whatever the one before it was told; empty when unknown.
	Process string
	Problem error // why it is not connected; nil before the first try
}

// Check is the part of Send's contract that every implementation shares.
func Check(data []byte) error {
	switch {
	case len(data) == 0:
		return ErrEmpty
	case len(data) > MaxFrame:
		return ErrTooLarge
	}
	return nil
}
