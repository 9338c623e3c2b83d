package store

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"weak"

	"go.etcd.io/bbolt"

	"coffer/internal/crashpoint"
)

// Writer writes tables of a database. Changes that arrive while a commit is under way
// are committed together by the next one, with one sync. Once a write of one writer
// has failed, all writers of that database refuse.
type Writer struct {
	db     *bbolt.DB
	health *health

	// commit is held by the caller that commits for all that wait. It is taken
	// before mu and never while holding mu.
	commit sync.Mutex

	mu      sync.Mutex // guards the rest
	waiting []*change
}

// health is what all writers of one database know of its disk.
type health struct {
	mu     sync.Mutex
	failed error // sticky
	// generation is that of the newest commit that is on disk. A reader of the file may
	// see the next one before its sync has returned.
	generation uint64
	beside     func(*bbolt.Tx) error
}

// healths has the health of each open database. It keeps no database in memory.
var healths sync.Map // weak.Pointer[bbolt.DB] -> *health

func healthOf(db *bbolt.DB) *health {
	key := weak.Make(db)
	known, loaded := healths.LoadOrStore(key, new(health))
	if !loaded {
		runtime.AddCleanup(db, func(key weak.Pointer[bbolt.DB]) { healths.Delete(key) }, key)
	}
	return known.(*health)
}

// Failed reports the failed write that made all writers of a database refuse, if any.
func Failed(db *bbolt.DB) error { return healthOf(db).err() }

func (h *health) err() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failed == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrFailed, h.failed)
}

// Beside has f run at the end of every change by a writer of the database, in the same
// transaction: what f writes is on disk together with what was changed.
func Beside(db *bbolt.DB, f func(*bbolt.Tx) error) {
	h := healthOf(db)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.beside = f
}

func (h *health) alongside(tx *bbolt.Tx) error {
	h.mu.Lock()
	f := h.beside
	h.mu.Unlock()
	if f == nil {
		return nil
	}
	return f(tx)
}

// Generation is more after every commit of a writer, and only once that is on disk. It
// never goes back but by another file.
func Generation(db *bbolt.DB) (generation uint64, err error) {
	h := healthOf(db)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.generation == 0 { // before the first commit since the file was opened
		err = View(db, func(tx *bbolt.Tx) error {
			h.generation = uint64(tx.ID())
			return nil
		})
	}
	return h.generation, err
}

// committed says that a generation is on disk.
func (h *health) committed(generation uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.generation = max(h.generation, generation)
}

func (h *health) fail(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failed == nil {
		h.failed = err
	}
}

type change struct {
	apply func(*bbolt.Tx) error
	err   error
	done  bool
}

// maxGroup bounds the work that is redone when one change of a group is refused.
const maxGroup = 128

// NewWriter starts nothing; it needs no closing.
func NewWriter(db *bbolt.DB) *Writer { return &Writer{db: db, health: healthOf(db)} }

// Do runs f in a write transaction and returns when it is on disk. When f returns
// an error, nothing of it is written and the error is returned as it is. f may run
// more than once, on the same or a later state, so it must not carry anything over
// from a run before; only its last run counts.
func (w *Writer) Do(f func(*bbolt.Tx) error) error {
	c := &change{apply: f}
	if err := w.health.err(); err != nil {
		return err
	}
	w.mu.Lock()
	w.waiting = append(w.waiting, c)
	w.mu.Unlock()

	w.commit.Lock()
	defer w.commit.Unlock()
	// Whoever held the lock before may have committed this change too; every change
	// was queued before its caller asked for the lock, so it is either done or waiting.
	for !c.done {
		w.mu.Lock()
		group := w.waiting[:min(len(w.waiting), maxGroup)]
		w.waiting = w.waiting[len(group):]
		w.mu.Unlock()
		if err := w.health.err(); err != nil {
			for _, c := range group {
				c.err, c.done = err, true
			}
			continue
		}
		w.run(group)
	}
	return c.err
}

// run commits a group; a change that refuses is taken out and the others start over,
// so that what it wrote before it refused is gone with the transaction.
func (w *Writer) run(group []*change) {
	for len(group) > 0 {
		refused, generation := -1, uint64(0)
		err := crashpoint.Write("store.commit")
		if err == nil {
			err = update(w.db, func(tx *bbolt.Tx) error {
				for i, c := range group {
					if err := c.apply(tx); err != nil {
						refused = i
						return err
					}
				}
				generation = uint64(tx.ID())
				return w.health.alongside(tx)
			})
		}
		crashpoint.Hit("store.committed")
		switch {
		case err == nil:
			w.health.committed(generation)
			for _, c := range group {
				c.done = true
			}
			return
		case refused >= 0 && !errors.Is(err, ErrCorrupt):
			group[refused].err, group[refused].done = err, true
			group = append(append([]*change(nil), group[:refused]...), group[refused+1:]...)
		default:
			// The commit failed, or a record is damaged. Part of it may be on disk: the
			// truth is known again only when a restart has read the whole file.
			w.health.fail(fmt.Errorf("write %s: %w", w.db.Path(), Explain(err)))
			for _, c := range group {
				c.err, c.done = w.health.err(), true
			}
			return
		}
	}
}

// Failed reports the failure that made this writer refuse, if any.
func (w *Writer) Failed() error { return w.health.err() }
