package envelope

import (
	"bytes"
	"fmt"

	"coffer/canon"
	"coffer/party"
)

// Limits bounds what waits for runs that have not begun here.
type Limits struct {
	Messages int   // of one peer
	Bytes    int   // of one peer
	Age      int64 // seconds until a message that nobody took is dropped
}

// Early keeps envelopes of runs that this node has not been asked to join yet: the
// coordinator's requests and the peers' first messages race. Each peer fills only
// its own share, so a flood by one never displaces the messages of another.
type Early struct {
	limits Limits
	peers  map[party.ID]*shelf
}

type shelf struct {
	parcels []Parcel
	bytes   int
}

// Parcel is one waiting envelope.
type Parcel struct {
	From party.ID
	Run  canon.Digest
	Raw  []byte
	at   int64
}

// NewEarly makes an empty buffer.
func NewEarly(limits Limits) *Early {
	return &Early{limits: limits, peers: map[party.ID]*shelf{}}
}

// Add keeps an envelope of the peer from, or refuses it with ErrFull. What is too
// old at the time now (Unix seconds) is dropped first.
func (b *Early) Add(now int64, from party.ID, run canon.Digest, raw []byte) error {
	s := b.peers[from]
	if s == nil {
		s = &shelf{}
		b.peers[from] = s
	}
	s.keep(func(p Parcel) bool { return now-p.at < b.limits.Age })
	for _, p := range s.parcels {
		if p.Run == run && bytes.Equal(p.Raw, raw) {
			return nil // the transport may deliver twice
		}
	}
	if len(s.parcels)+1 > b.limits.Messages || s.bytes+len(raw) > b.limits.Bytes {
		return fmt.Errorf("%w: %d messages with %d bytes from %s", ErrFull, len(s.parcels), s.bytes, from)
	}
	s.parcels = append(s.parcels, Parcel{from, run, raw, now})
	s.bytes += len(raw)
	return nil
}

// Take removes and returns what waits for a run, in order of arrival per peer.
func (b *Early) Take(run canon.Digest, parties party.Set) []Parcel {
	var taken []Parcel
	for _, p := range parties {
		if s := b.peers[p]; s != nil {
			s.keep(func(p Parcel) bool {
				if p.Run == run {
					taken = append(taken, p)
				}
				return p.Run != run
			})
		}
	}
	return taken
}

func (s *shelf) keep(want func(Parcel) bool) {
	kept := s.parcels[:0]
	s.bytes = 0
	for _, p := range s.parcels {
		if want(p) {
			kept = append(kept, p)
			s.bytes += len(p.Raw)
		}
	}
	clear(s.parcels[len(kept):])
	s.parcels = kept
}
