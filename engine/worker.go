package engine

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"coffer/canon"
	"coffer/keyshare"
)

// hardenFailed begins the one line that a worker writes to stderr on purpose.
const hardenFailed = "worker cannot protect its memory:"

// WorkerMain is a worker process: it reads operations from in and writes events
// to out until in ends, which is what happens when the signer goes away however
// it goes. The process has no other business: it opens no file and no socket,
// leaves no core dump and cannot be traced by another process of its user.
//
// Only a worker that could make itself undumpable begins to read, so that the
// wrap key is never in memory that others can read.
//
// It returns the process's exit code.
func WorkerMain(in, out *os.File) int { return workerMain(NewInProcess(), in, out) }

func workerMain(core *InProcess, in, out *os.File) int {
	if err := Harden(); err != nil {
		fmt.Fprintln(os.Stderr, hardenFailed, err)
		return 1
	}
	// out is the real stdout: whatever else prints there would break a frame.
	os.Stdout = os.Stderr
	if err := serve(core, in, out); err != nil {
		return 1 // the parent knows: it closed the pipe or sent what broke it
	}
	return 0
}

func serve(core *InProcess, in io.Reader, out io.Writer) error {
	w := &workerOut{out: out}
	var events sync.WaitGroup
	events.Go(func() {
		for e := range core.Events() {
			w.send(encodeEvent(e, false))
		}
	})
	err := readCommands(core, in, w)
	closed := core.Close()
	events.Wait()
	return errors.Join(err, closed, w.err)
}

// workerOut is written to by the reader of operations and the sender of events.
type workerOut struct {
	mu  sync.Mutex
	out io.Writer
	err error // the first; the parent is gone then, and so will be in
}

func (w *workerOut) send(body []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = writeFrame(w.out, body)
	}
}

func readCommands(core *InProcess, in io.Reader, w *workerOut) error {
	for {
		body, err := readFrame(in)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		c, err := decodeCommand(body)
		clear(body) // it may have been the wrap key
		if err != nil {
			return err
		}
		session, err := perform(core, c)
		if err != nil {
			w.send(encodeEvent(Event{Session: session, Failed: &Fault{Code: CodeProtocol, Text: err.Error()}}, true))
		}
	}
}

func perform(core *InProcess, c command) (canon.Digest, error) {
	switch c.op {
	case opUnlock:
		key, err := keyshare.ImportWrapKey(c.key)
		clear(c.key)
		if err != nil {
			return canon.Digest{}, err
		}
		defer key.Wipe()
		return canon.Digest{}, core.Unlock(key)
	case opKeygen:
		return c.keygen.Session, core.Keygen(c.keygen)
	case opSign:
		return c.sign.Session, core.Sign(c.sign)
	case opDeliver:
		// The session may have ended while the message was on its way.
		if err := core.Deliver(c.session, c.message); !errors.Is(err, ErrSession) {
			return c.session, err
		}
	case opRelease:
		if err := core.Release(c.session, c.digest); !errors.Is(err, ErrSession) {
			return c.session, err
		}
	case opDrop:
		core.Drop(c.session)
	case opPreParams:
		return canon.Digest{}, core.GeneratePreParams()
	}
	return c.session, nil
}
