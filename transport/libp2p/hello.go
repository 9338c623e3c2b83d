package libp2p

import (
	"errors"
	"fmt"
	"strings"

	"coffer/canon"
)

// Version is of the frames on a stream. Another one is refused, not guessed at.
const Version = 1

const (
	helloDomain = "coffer/mesh-hello/v1"
	maxHello    = 512
	maxRefusal  = 200
	maxBuild    = 64
	instanceLen = 16
)

var (
	// ErrCluster: the peer's process belongs to another cluster.
	ErrCluster = errors.New("peer is of another cluster: compare the charters")
	// ErrVersion: the peer speaks another version of the mesh protocol.
	ErrVersion = errors.New("peer speaks another version of the mesh protocol: upgrade the older of the two")
	// ErrRefused: the peer refused this side's hello; the text is the peer's.
	ErrRefused = errors.New("peer refused the connection")
	// ErrMalformed: the peer broke the protocol of the stream.
	ErrMalformed = errors.New("peer broke the mesh protocol")
)

// hello is the first thing that each side says on a stream, the opener first. The
// connection has proved who speaks; the hello binds what about.
type hello struct {
	Version  uint64
	Cluster  canon.Digest
	Instance [instanceLen]byte // random for each run of a process, so that a restart is seen at once
	Build    string            // of the program, for people
	Refused  string            // in an answer: why, for people; else empty
}

func (h *hello) encode() []byte {
	return canon.New(helloDomain).Uint64(h.Version).Digest(h.Cluster).Bytes(h.Instance[:]).String(h.Build).String(h.Refused).Encoded()
}

func parseHello(raw []byte) (*hello, error) {
	if len(raw) > maxHello {
		return nil, fmt.Errorf("%w: hello of %d bytes", ErrMalformed, len(raw))
	}
	d := canon.NewDecoder(helloDomain, raw)
	h := &hello{Version: d.Uint64(), Cluster: d.Digest()}
	instance := d.Bytes(instanceLen)
	h.Build, h.Refused = d.String(maxBuild), d.String(maxRefusal)
	if err := d.Finish(); err != nil {
		return nil, fmt.Errorf("%w: hello: %w", ErrMalformed, err)
	}
	if len(instance) != instanceLen {
		return nil, fmt.Errorf("%w: hello: instance has %d bytes, want %d", ErrMalformed, len(instance), instanceLen)
	}
	copy(h.Instance[:], instance)
	return h, nil
}

// accept says why a hello of the other side will not do.
func (h *hello) accept(cluster canon.Digest) error {
	switch {
	case h.Refused != "":
		return fmt.Errorf("%w: %s", ErrRefused, printable(h.Refused))
	case h.Version != Version:
		return fmt.Errorf("%w: it has %d, this side %d", ErrVersion, h.Version, Version)
	case h.Cluster != cluster:
		return fmt.Errorf("%w: it is of %s, this side of %s", ErrCluster, h.Cluster.Short(), cluster.Short())
	}
	return nil
}

// printable keeps a peer's text from writing on an operator's terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}
