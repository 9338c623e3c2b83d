package engine

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"coffer/canon"
	"coffer/engine/internal/queue"
	"coffer/keyshare"
	"coffer/party"
)

const (
	// maxSessions bounds memory: a prepared session holds about half a megabyte.
	maxSessions = 64
	// maxUsed is how many session IDs a host remembers, so that its memory stays
	// flat. The signer's journal remembers all of them; this is the second line.
	maxUsed = 1 << 16
)

// InProcess runs sessions in this process: inside the worker, and in tests. A
// signer uses NewWorker, because a malicious peer that finds another crash of the
// library takes the process with it.
type InProcess struct {
	events *queue.Queue[Event]
	tasks  sync.WaitGroup

	mu       sync.Mutex
	key      *keyshare.WrapKey
	sessions map[canon.Digest]*session
	used     usedIDs
	search   context.CancelFunc
	closed   bool
	unguard  bool
}

var _ Host = (*InProcess)(nil)

// NewInProcess returns a locked host.
func NewInProcess() *InProcess {
	return &InProcess{events: queue.New[Event](), sessions: make(map[canon.Digest]*session)}
}

// usedIDs is a set that forgets its oldest members.
type usedIDs struct {
	set   map[canon.Digest]struct{}
	order []canon.Digest
}

func (u *usedIDs) add(id canon.Digest) bool {
	if _, have := u.set[id]; have {
		return false
	}
	if u.set == nil {
		u.set = make(map[canon.Digest]struct{})
	}
	if len(u.order) == maxUsed {
		delete(u.set, u.order[0])
		u.order = u.order[1:]
	}
	u.set[id], u.order = struct{}{}, append(u.order, id)
	return true
}

// Unlock implements Host.
func (h *InProcess) Unlock(k *keyshare.WrapKey) error {
	own, err := copyKey(k)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		own.Wipe()
		return ErrClosed
	}
	// The key before is not wiped: sessions under way still seal with it.
	h.key = own
	return nil
}

func copyKey(k *keyshare.WrapKey) (*keyshare.WrapKey, error) {
	b, err := k.Export()
	if err != nil {
		return nil, err
	}
	defer clear(b)
	return keyshare.ImportWrapKey(b)
}

func checkKeygen(c KeygenConfig) error {
	if c.Session.IsZero() {
		return errors.New("engine: session id is zero")
	}
	if err := c.Meta.Validate(); err != nil {
		return fmt.Errorf("engine: %w", err)
	}
	return nil
}

func checkSign(c SignConfig) error {
	if err := checkKeygen(KeygenConfig{Session: c.Session, Meta: c.Meta}); err != nil {
		return err
	}
	sorted, err := party.NewSet(c.Signers...)
	switch {
	case err != nil:
		return fmt.Errorf("engine: %w", err)
	// A wrong number of signers makes tss-lib run nine rounds and then blame itself.
	case len(c.Signers) != c.Meta.Quorum.Need || !sorted.Equal(c.Signers):
		return fmt.Errorf("engine: %d signers, want exactly %d, sorted", len(c.Signers), c.Meta.Quorum.Need)
	case !c.Signers.SubsetOf(c.Meta.Signers) || !c.Signers.Has(c.Meta.Party):
		return fmt.Errorf("engine: signers %v are not signers of the wallet, or %q is not among them", c.Signers, c.Meta.Party)
	case c.Path != "" && c.Path != "m":
		return fmt.Errorf("engine: path %q: this release signs with the root key only, m", clip(c.Path))
	}
	return nil
}

// Keygen implements Host.
func (h *InProcess) Keygen(c KeygenConfig) error {
	if err := checkKeygen(c); err != nil {
		return err
	}
	return h.begin(c.Session, func(key *keyshare.WrapKey) *session { return newKeygen(c, key, h.emit).session })
}

// Sign implements Host.
func (h *InProcess) Sign(c SignConfig) error {
	if err := checkSign(c); err != nil {
		return err
	}
	return h.begin(c.Session, func(key *keyshare.WrapKey) *session { return newSign(c, key, h.emit).session })
}

func (h *InProcess) begin(id canon.Digest, make func(*keyshare.WrapKey) *session) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.closed:
		return ErrClosed
	case h.key == nil:
		return ErrSealed
	case len(h.sessions) >= maxSessions:
		return ErrFull
	case !h.used.add(id):
		return ErrReused
	}
	s := make(h.key)
	s.unguard = h.unguard
	h.sessions[id] = s
	h.tasks.Go(func() {
		last, ok := s.run()
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.sessions[id] != s {
			return // dropped in the meantime: nobody waits for it any more
		}
		delete(h.sessions, id)
		if ok {
			h.events.Push(last)
		}
	})
	return nil
}

// emit passes on what a session says while it runs; a computation that was under
// way when its session was dropped is not heard.
func (h *InProcess) emit(e Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, live := h.sessions[e.Session]; live {
		h.events.Push(e)
	}
}

// Deliver implements Host.
func (h *InProcess) Deliver(id canon.Digest, m Message) error {
	h.mu.Lock()
	s := h.sessions[id]
	h.mu.Unlock()
	if s == nil {
		return ErrSession
	}
	if err := route(s.kinds, s.meta.Party, s.parties, m); err != nil {
		return err
	}
	s.deliver(m)
	return nil
}

// Release implements Host.
func (h *InProcess) Release(id canon.Digest, digest [32]byte) error {
	if err := checkDigest(digest); err != nil {
		return err
	}
	h.mu.Lock()
	s := h.sessions[id]
	h.mu.Unlock()
	if s == nil {
		return ErrSession
	}
	if _, signs := s.proto.(*signProtocol); !signs {
		return ErrSession
	}
	return s.release(digest)
}

// checkDigest refuses what is no digest: zero would sign nothing that anybody
// asked for, and tss-lib wants a number below the group order.
func checkDigest(digest [32]byte) error {
	if v := number(digest[:]); v.Sign() == 0 || v.Cmp(groupOrder()) >= 0 {
		return ErrDigest
	}
	return nil
}

// Drop implements Host.
func (h *InProcess) Drop(id canon.Digest) {
	h.mu.Lock()
	s := h.sessions[id]
	delete(h.sessions, id)
	h.mu.Unlock()
	if s != nil {
		s.drop()
	}
}

// GeneratePreParams implements Host. The zero session stands for the search: Drop
// of it does not end one, Close does.
func (h *InProcess) GeneratePreParams() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.closed:
		return ErrClosed
	case h.key == nil:
		return ErrSealed
	case h.search != nil:
		return ErrBusy
	}
	ctx, cancel := context.WithCancel(context.Background())
	h.search = cancel
	key := h.key
	h.tasks.Go(func() {
		e := searchPreParams(ctx, key, h.events.Push)
		cancel()
		h.mu.Lock()
		h.search = nil
		h.mu.Unlock()
		h.events.Push(e)
	})
	return nil
}

func searchPreParams(ctx context.Context, key *keyshare.WrapKey, emit func(Event)) Event {
	pre, err := generatePreParams(ctx, runtime.GOMAXPROCS(0), func(n int) {
		emit(Event{Progress: fmt.Sprintf("primes: %d of 4 found", n)})
	})
	var sealed []byte
	if err == nil {
		sealed, err = pre.seal(key)
	}
	switch {
	case ctx.Err() != nil:
		return Event{Failed: &Fault{Code: CodeCancelled, Text: "prime search cancelled"}}
	case err != nil:
		return Event{Failed: &Fault{Code: CodeResult, Text: err.Error()}}
	}
	return Event{PreParams: sealed}
}

// Events implements Host.
func (h *InProcess) Events() <-chan Event { return h.events.Out() }

// Close ends all sessions and waits for their goroutines; a computation of the
// library under way cannot be interrupted, it takes a second or two at most.
func (h *InProcess) Close() error {
	h.mu.Lock()
	h.closed = true
	sessions := h.sessions
	h.sessions = make(map[canon.Digest]*session)
	if h.search != nil {
		h.search()
	}
	h.mu.Unlock()
	for _, s := range sessions {
		s.drop()
	}
	h.tasks.Wait()
	h.mu.Lock()
	h.key.Wipe() // no session needs it any more
	h.mu.Unlock()
	h.events.Close()
	return nil
}
