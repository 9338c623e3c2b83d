package engine

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"coffer/canon"
	"coffer/keyshare"
	"coffer/party"
)

// NewUnguarded runs the library without the guard, to show what the guard is for.
func NewUnguarded() *InProcess {
	h := NewInProcess()
	h.unguard = true
	return h
}

func UnguardedWorkerMain(in, out *os.File) int { return workerMain(NewUnguarded(), in, out) }

// CheckHardened does what WorkerMain does first and asks the kernel for the result.
func CheckHardened() error {
	if err := Harden(); err != nil {
		return err
	}
	dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil || dumpable != 0 {
		return errors.Join(err, errors.New("the process is dumpable"))
	}
	var core unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &core); err != nil || core.Cur != 0 || core.Max != 0 {
		return errors.Join(err, errors.New("core dumps are allowed"))
	}
	return nil
}

// Secrets are the numbers of a share that nobody else may see.
func Secrets(k *keyshare.WrapKey, meta keyshare.Meta, sealed []byte) (map[string][]byte, error) {
	r, err := openRecord(k, meta, sealed)
	if err != nil {
		return nil, err
	}
	return map[string][]byte{
		"x": r.xi.Bytes(), "p": r.pre.p.Bytes(), "q": r.pre.q.Bytes(),
		"p of NTilde": r.pre.tildeP.Bytes(), "q of NTilde": r.pre.tildeQ.Bytes(), "alpha": r.pre.alpha.Bytes(),
	}, nil
}

// WorkerTakes asks the parent's side whether it believes an event of its worker.
func WorkerTakes(session canon.Digest, self party.ID, parties party.Set, keygen, released bool, e Event) error {
	h, err := NewWorker(WorkerConfig{})
	if err != nil {
		return err
	}
	w := h.(*Worker)
	defer w.Close()
	r := &remote{keygen: keygen, kinds: SignKinds(), self: self, parties: parties, digest: released}
	if keygen {
		r.kinds = KeygenKinds()
	}
	w.mu.Lock()
	w.sessions[session] = r
	proc := w.proc
	w.mu.Unlock()
	return w.take(proc, e, false)
}

func EncodeCommand(c []byte) ([]byte, error) {
	v, err := decodeCommand(c)
	if err != nil {
		return nil, err
	}
	return v.encode(), nil
}

func EncodeEvent(b []byte) ([]byte, error) {
	e, refused, err := decodeEvent(b)
	if err != nil {
		return nil, err
	}
	return encodeEvent(e, refused), nil
}
