package libp2p

import (
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"coffer/transport"
)

// The times of a stream. They are variables for the package's own tests.
var (
	// openTime bounds each of: dialling, and negotiating and greeting on a stream.
	openTime = 5 * time.Second
	// beatEvery is how often a side that has nothing to say shows that it is there.
	beatEvery = 400 * time.Millisecond
	// silence is how long a side waits for the beginning of a frame or beat. With it a
	// peer that is gone without a word is known within two seconds.
	silence = 1800 * time.Millisecond
	// frameTime bounds the passage of one frame: a peer that takes or gives it byte by
	// byte is cut. 512 KiB in 15 s is a line of 280 kbit/s.
	frameTime = 15 * time.Second
)

const header = 4

// wire is what frames need of a stream.
type wire interface {
	io.ReadWriter
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
}

// writeFrame writes data behind its length; empty data is a beat.
func writeFrame(w wire, data []byte, within time.Duration) error {
	if err := w.SetWriteDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	buf := make([]byte, header+len(data))
	binary.BigEndian.PutUint32(buf, uint32(len(data)))
	copy(buf[header:], data)
	_, err := w.Write(buf)
	return err
}

// readFrame reads one frame of at most limit bytes; the result is empty for a beat.
// The size is checked before anything is allocated for it.
func readFrame(r wire, limit int, wait time.Duration) ([]byte, error) {
	if err := r.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return nil, err
	}
	var head [header]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size == 0 {
		return nil, nil
	}
	if uint64(size) > uint64(limit) {
		return nil, fmt.Errorf("%w: %w: %d bytes announced, at most %d", ErrMalformed, transport.ErrTooLarge, size, limit)
	}
	if err := r.SetReadDeadline(time.Now().Add(frameTime)); err != nil {
		return nil, err
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, err
	}
	return data, nil
}

// answer is what a receiver says now and then, and to every beat.
type answer struct {
	beats uint64    // how many it has read on the stream: which one it answers; 0 for none
	taken uint64    // how many frames it has taken off the stream
	clock time.Time // its wall clock
}

const (
	answerLen = 3 * 8
	// answerAfter is how many frames a receiver takes before it says so without a beat:
	// few, compared with what a sender's queue holds.
	answerAfter = 32
)

func (a answer) encode() []byte {
	out := binary.BigEndian.AppendUint64(nil, a.beats)
	out = binary.BigEndian.AppendUint64(out, a.taken)
	return binary.BigEndian.AppendUint64(out, uint64(a.clock.UnixNano()))
}

func parseAnswer(raw []byte) (answer, error) {
	if len(raw) != answerLen {
		return answer{}, fmt.Errorf("%w: answer of %d bytes, want %d", ErrMalformed, len(raw), answerLen)
	}
	return answer{
		beats: binary.BigEndian.Uint64(raw), taken: binary.BigEndian.Uint64(raw[8:]),
		clock: time.Unix(0, int64(binary.BigEndian.Uint64(raw[16:]))),
	}, nil
}

func writeHello(w wire, h *hello) error { return writeFrame(w, h.encode(), openTime) }

func readHello(r wire) (*hello, error) {
	raw, err := readFrame(r, maxHello, openTime)
	if err != nil {
		return nil, err
	}
	return parseHello(raw)
}
