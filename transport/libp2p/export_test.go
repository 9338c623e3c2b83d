package libp2p

import (
	"bytes"
	"time"

	"coffer/canon"
)

// Hurry shortens the times that tests would wait for.
func Hurry() {
	openTime, frameTime = 2*time.Second, 4*time.Second
}

// Patient makes links wait for long for a peer that says nothing, until restore.
func Patient() (restore func()) {
	old := silence
	silence = time.Hour
	return func() { silence = old }
}

// Hello makes the bytes that a peer would send first.
func Hello(version uint64, cluster canon.Digest, instance [16]byte, refused string) []byte {
	return (&hello{Version: version, Cluster: cluster, Instance: instance, Build: "1.2", Refused: refused}).encode()
}

// Reencode parses a hello and encodes it again.
func Reencode(raw []byte) ([]byte, error) {
	h, err := parseHello(raw)
	if err != nil {
		return nil, err
	}
	return h.encode(), nil
}

// Judge parses a hello and judges it as a member of cluster would.
func Judge(raw []byte, cluster canon.Digest) error {
	h, err := parseHello(raw)
	if err != nil {
		return err
	}
	return h.accept(cluster)
}

// Answer is what a receiver says to its nth beat.
func Answer(n, taken uint64, clock time.Time) []byte {
	return answer{n, taken, clock}.encode()
}

// The pauses between calls.
var (
	FirstPause = firstPause
	Longer     = longer
	Jitter     = jitter
)

type memory struct{ *bytes.Buffer }

func (memory) SetReadDeadline(time.Time) error  { return nil }
func (memory) SetWriteDeadline(time.Time) error { return nil }

// ReadFrame and WriteFrame are the codec of a stream.
func ReadFrame(raw []byte, limit int) (frame, rest []byte, err error) {
	m := memory{bytes.NewBuffer(raw)}
	frame, err = readFrame(m, limit, time.Second)
	return frame, m.Bytes(), err
}

func WriteFrame(data []byte) []byte {
	m := memory{new(bytes.Buffer)}
	_ = writeFrame(m, data, time.Second)
	return m.Bytes()
}

// Queue is a peer's queue.
type Queue struct{ q *queue }

func NewQueue() Queue                                       { return Queue{newQueue()} }
func (q Queue) Push(data []byte, now time.Time) error       { return q.q.push(data, now) }
func (q Queue) Next(now time.Time) (data []byte, some bool) { return q.q.next(now) }
func (q Queue) Confirm(n uint64)                            { q.q.confirm(n) }
func (q Queue) Rewind(renewed bool)                         { q.q.rewind(renewed) }

const (
	QueueFrames = queueFrames
	QueueBytes  = queueBytes
)

var QueueAge = queueAge
