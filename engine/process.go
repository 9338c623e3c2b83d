package engine

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"time"

	"coffer/canon"
	"coffer/engine/internal/queue"
	"coffer/keyshare"
	"coffer/party"
)

// WorkerConfig says how a worker process is started.
type WorkerConfig struct {
	Path   string        // the binary; empty: this one
	Args   []string      // what makes it call WorkerMain; empty: "worker"
	Env    []string      // its whole environment; empty is right for a signer
	Idle   time.Duration // how long it may be without work before it is ended; 0: two minutes
	Logger *slog.Logger  // nil: silent
}

const (
	defaultIdle = 2 * time.Minute
	// closeGrace is how long a worker may take to end after its input has; a round
	// of the library is a second or two and cannot be interrupted.
	closeGrace = 5 * time.Second
)

// Worker is a Host whose sessions run in a process of their own: the guard, the
// library and the share. The process is started when it is needed and ended when
// it is idle. If it dies, its sessions fail with CodeWorkerDied, this process
// lives on, and the next session starts another.
type Worker struct {
	cfg    WorkerConfig
	events *queue.Queue[Event]
	tasks  sync.WaitGroup

	mu       sync.Mutex
	key      *keyshare.WrapKey
	sessions map[canon.Digest]*remote
	used     usedIDs
	search   bool
	proc     *process // nil: none running
	idle     *time.Timer
	closed   bool
}

var _ Host = (*Worker)(nil)

// remote is what this side remembers of a session, enough to disbelieve the worker.
type remote struct {
	keygen   bool
	kinds    map[string]Class
	self     party.ID
	parties  party.Set
	digest   bool // released
	prepared bool
}

// process is one life of the worker.
type process struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	send  *queue.Queue[[]byte] // frames: a slow worker must not block a Host method
	diary diary
}

// NewWorker returns a locked host. The process starts with the first session.
func NewWorker(cfg WorkerConfig) (Host, error) {
	if cfg.Path == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("engine: find the worker's binary: %w", err)
		}
		cfg.Path = self
	}
	if len(cfg.Args) == 0 {
		cfg.Args = []string{"worker"}
	}
	if cfg.Idle == 0 {
		cfg.Idle = defaultIdle
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Worker{cfg: cfg, events: queue.New[Event](), sessions: make(map[canon.Digest]*remote)}, nil
}

// Unlock implements Host.
func (w *Worker) Unlock(k *keyshare.WrapKey) error {
	own, err := copyKey(k)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		own.Wipe()
		return ErrClosed
	}
	if w.key != nil {
		w.key.Wipe()
	}
	w.key = own
	if w.proc != nil {
		return w.sendKey()
	}
	return nil
}

// sendKey passes the wrap key through the pipe. The worker seals and opens with
// it: a share in clear never crosses the pipe, in neither direction.
func (w *Worker) sendKey() error {
	raw, err := w.key.Export()
	if err != nil {
		return err
	}
	defer clear(raw)
	w.proc.send.Push(command{op: opUnlock, key: raw}.encode())
	return nil
}

// Keygen implements Host.
func (w *Worker) Keygen(c KeygenConfig) error {
	if err := checkKeygen(c); err != nil {
		return err
	}
	r := &remote{keygen: true, kinds: KeygenKinds(), self: c.Meta.Party, parties: c.Meta.Signers}
	return w.begin(c.Session, r, command{op: opKeygen, keygen: c})
}

// Sign implements Host.
func (w *Worker) Sign(c SignConfig) error {
	if err := checkSign(c); err != nil {
		return err
	}
	r := &remote{kinds: SignKinds(), self: c.Meta.Party, parties: c.Signers}
	return w.begin(c.Session, r, command{op: opSign, sign: c})
}

func (w *Worker) begin(id canon.Digest, r *remote, c command) error {
	if n := len(c.keygen.PreParams) + len(c.sign.Share); n > maxSealed {
		return fmt.Errorf("engine: sealed record of %d bytes, at most %d", n, maxSealed)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.closed:
		return ErrClosed
	case w.key == nil:
		return ErrSealed
	case len(w.sessions) >= maxSessions:
		return ErrFull
	}
	if err := w.ensure(); err != nil {
		return err
	}
	if !w.used.add(id) {
		return ErrReused
	}
	w.sessions[id] = r
	w.proc.send.Push(c.encode())
	return nil
}

// Deliver implements Host.
func (w *Worker) Deliver(id canon.Digest, m Message) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.sessions[id]
	if r == nil {
		return ErrSession
	}
	if err := route(r.kinds, r.self, r.parties, m); err != nil {
		return err
	}
	// Not worth a frame, which it might not fit into.
	if fault := checkCap(m); fault != nil {
		w.end(id)
		w.proc.send.Push(command{op: opDrop, session: id}.encode())
		w.events.Push(Event{Session: id, Failed: fault})
		return nil
	}
	w.proc.send.Push(command{op: opDeliver, session: id, message: m}.encode())
	return nil
}

// Release implements Host.
func (w *Worker) Release(id canon.Digest, digest [32]byte) error {
	if err := checkDigest(digest); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.sessions[id]
	switch {
	case r == nil || r.keygen:
		return ErrSession
	case r.digest:
		return ErrDigest
	}
	r.digest = true
	w.proc.send.Push(command{op: opRelease, session: id, digest: digest}.encode())
	return nil
}

// Drop implements Host.
func (w *Worker) Drop(id canon.Digest) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, have := w.sessions[id]; have {
		w.end(id)
		w.proc.send.Push(command{op: opDrop, session: id}.encode())
	}
}

// GeneratePreParams implements Host.
func (w *Worker) GeneratePreParams() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.closed:
		return ErrClosed
	case w.key == nil:
		return ErrSealed
	case w.search:
		return ErrBusy
	}
	if err := w.ensure(); err != nil {
		return err
	}
	w.search = true
	w.proc.send.Push(command{op: opPreParams}.encode())
	return nil
}

// Events implements Host.
func (w *Worker) Events() <-chan Event { return w.events.Out() }

// Close ends the process and waits for it.
func (w *Worker) Close() error {
	w.mu.Lock()
	w.closed = true
	w.sessions = make(map[canon.Digest]*remote)
	w.search = false
	if w.key != nil {
		w.key.Wipe()
		w.key = nil
	}
	w.retire()
	w.mu.Unlock()
	w.tasks.Wait()
	w.events.Close()
	return nil
}

// end forgets a session; the worker is ended when it stays without any. Locked.
func (w *Worker) end(id canon.Digest) {
	delete(w.sessions, id)
	w.rest()
}

// rest starts the idle clock if there is no work. Locked.
func (w *Worker) rest() {
	if len(w.sessions) > 0 || w.search || w.proc == nil {
		return
	}
	proc := w.proc
	w.idle = time.AfterFunc(w.cfg.Idle, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.proc == proc && len(w.sessions) == 0 && !w.search {
			w.retire()
		}
	})
}

// retire lets the process end: its input closes, and if it does not see that, it
// is killed. Locked.
func (w *Worker) retire() {
	if w.idle != nil {
		w.idle.Stop()
	}
	proc := w.proc
	if proc == nil {
		return
	}
	w.proc = nil
	proc.stdin.Close()
	kill := time.AfterFunc(closeGrace, func() { _ = proc.cmd.Process.Kill() })
	w.tasks.Go(func() {
		proc.send.Close()
		<-proc.diary.done
		kill.Stop()
	})
}

// ensure starts the process if there is none. Locked.
func (w *Worker) ensure() error {
	if w.idle != nil {
		w.idle.Stop()
	}
	if w.proc != nil {
		return nil
	}
	cmd := exec.Command(w.cfg.Path, w.cfg.Args...)
	// A nil Env would pass this process's on, and with it whatever secrets it holds.
	cmd.Env = append([]string{"GOTRACEBACK=single"}, w.cfg.Env...)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("engine: start the worker: %w", err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("engine: start the worker: %w", err)
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return fmt.Errorf("engine: start the worker: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("engine: start the worker %s: %w", w.cfg.Path, err)
	}
	proc := &process{cmd: cmd, stdin: stdin, send: queue.New[[]byte](), diary: diary{done: make(chan struct{})}}
	w.proc = proc
	w.cfg.Logger.Info("worker started", "pid", cmd.Process.Pid)
	w.tasks.Go(func() { write(proc) })
	w.tasks.Go(func() { w.live(proc, stdout, stderr) })
	return w.sendKey()
}

// write passes frames to the worker; an error shows as the end of its output.
func write(proc *process) {
	failed := false
	for body := range proc.send.Out() {
		if !failed {
			failed = writeFrame(proc.stdin, body) != nil
		}
		clear(body) // it may be the wrap key
	}
}

// live reads the worker's frames until it ends, then settles what it left.
func (w *Worker) live(proc *process, stdout, stderr io.Reader) {
	var talk sync.WaitGroup
	talk.Go(func() { proc.diary.read(stderr) })
	reason := w.readEvents(proc, stdout)
	if reason != nil {
		_ = proc.cmd.Process.Kill() // it does not keep to the protocol
	}
	_, _ = io.Copy(io.Discard, stdout)
	talk.Wait()
	exit := proc.cmd.Wait()
	_ = proc.stdin.Close()

	w.mu.Lock()
	expected := w.proc != proc // it was retired
	if !expected {
		w.proc = nil
		if w.idle != nil {
			w.idle.Stop()
		}
		w.bury(proc, errors.Join(reason, exit))
	}
	w.mu.Unlock()
	if expected {
		w.cfg.Logger.Info("worker ended", "pid", proc.cmd.Process.Pid)
	} else {
		proc.send.Close()
	}
	close(proc.diary.done)
}

// bury fails what the process was doing. Locked.
func (w *Worker) bury(proc *process, reason error) {
	text := "the worker process ended"
	if reason != nil {
		text += ": " + reason.Error()
	}
	w.cfg.Logger.Error("worker died", "pid", proc.cmd.Process.Pid, "reason", text, "sessions", len(w.sessions), "panic", proc.diary.panic, "in", proc.diary.frames)
	for id := range w.sessions {
		w.events.Push(Event{Session: id, Failed: &Fault{Code: CodeWorkerDied, Text: text}})
	}
	w.sessions = make(map[canon.Digest]*remote)
	if w.search {
		w.search = false
		w.events.Push(Event{Failed: &Fault{Code: CodeWorkerDied, Text: text}})
	}
}

// readEvents returns nil when the output has ended and an error when the worker
// broke the protocol.
func (w *Worker) readEvents(proc *process, stdout io.Reader) error {
	for {
		body, err := readFrame(stdout)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, os.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		e, refused, err := decodeEvent(body)
		if err != nil {
			return err
		}
		if err := w.take(proc, e, refused); err != nil {
			return err
		}
	}
}

// take passes on an event if it can be one of its session.
func (w *Worker) take(proc *process, e Event, refused bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.proc != proc {
		return nil // retired: its last words concern nobody
	}
	if e.Session.IsZero() {
		return w.takeSearch(e, refused)
	}
	r := w.sessions[e.Session]
	if r == nil {
		return nil // dropped in the meantime
	}
	switch {
	case e.Out != nil:
		class, ok := r.kinds[e.Out.Kind]
		direct := e.Out.To != r.self && r.parties.Has(e.Out.To)
		if !ok || e.Out.From != r.self || len(e.Out.Payload) > class.Cap || class.Broadcast != (e.Out.To == "") || !class.Broadcast && !direct {
			return errors.New("a message that is not of its session")
		}
		if class.Round > 3 && !r.keygen && !r.digest {
			return errors.New("a message of round 4 before the release")
		}
	case e.Prepared:
		if r.keygen || r.prepared {
			return errors.New("prepared out of turn")
		}
		r.prepared = true
	case e.Keygen != nil:
		if !r.keygen {
			return errors.New("a share out of a signing session")
		}
		w.end(e.Session)
	case e.Partial != nil:
		if r.keygen || !r.digest || e.Partial.Session != e.Session {
			return errors.New("a partial that nobody released")
		}
		w.end(e.Session)
	case e.Failed != nil:
		for _, c := range e.Failed.Culprits {
			if c == r.self || !r.parties.Has(c) {
				return errors.New("a culprit who is not of the session")
			}
		}
		w.end(e.Session)
	default:
		return errors.New("an event that no session has")
	}
	w.events.Push(e)
	return nil
}

func (w *Worker) takeSearch(e Event, refused bool) error {
	if !w.search || e.PreParams == nil && e.Progress == "" && e.Failed == nil {
		if refused {
			return fmt.Errorf("refused: %s", e.Failed.Text)
		}
		return errors.New("news of a search that nobody began")
	}
	if e.Progress == "" {
		w.search = false
		w.rest()
	}
	w.events.Push(e)
	return nil
}
