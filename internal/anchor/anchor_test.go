package anchor_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"coffer/audit"
	"coffer/identity"
	"coffer/internal/anchor"
	"coffer/store"
)

// machine is a store and an audit log that are used together.
type machine struct {
	t    *testing.T
	dir  string
	key  *identity.Key
	last int
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	key, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, dir: t.TempDir(), key: key}
	db, err := store.Create(m.path("test.db"))
	m.must(err)
	m.must(db.Close())
	m.must(os.Mkdir(m.path("audit"), 0o700))
	return m
}

func (m *machine) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) path(name string) string { return filepath.Join(m.dir, name) }

// open opens both and, if that is possible, does work with them.
func (m *machine) open(renewed bool, work func(*anchor.Log, func(value string))) error {
	m.t.Helper()
	db, err := store.Open(m.path("test.db"))
	m.must(err)
	defer func() { m.must(db.Close()) }()
	log, err := anchor.Open(db, m.path("audit"), m.key, "test", renewed)
	if err != nil {
		return err
	}
	defer func() { m.must(log.Close()) }()
	table, err := store.OpenTable(db, "things")
	m.must(err)
	w := store.NewWriter(db)
	work(log, func(value string) {
		m.must(w.Do(func(tx *bbolt.Tx) error { return table.Put(tx, []byte("key"), []byte(value)) }))
	})
	return nil
}

// use writes an entry, a record and an entry, n times, as a signer does around the
// journal: the last of each is known to the other.
func (m *machine) use(n int) {
	m.t.Helper()
	m.must(m.open(false, func(log *anchor.Log, put func(string)) {
		for range n {
			m.last++
			_, err := log.Append(audit.Event{Code: "THING"})
			m.must(err)
			put(strings.Repeat("x", m.last))
			_, err = log.Append(audit.Event{Code: "THING", Subject: "done"})
			m.must(err)
		}
	}))
}

// save keeps a copy of a file or of the audit folder.
func (m *machine) save(names ...string) (restore func()) {
	m.t.Helper()
	kept := map[string][]byte{}
	for _, name := range names {
		raw, err := os.ReadFile(m.path(name))
		m.must(err)
		kept[name] = raw
	}
	return func() {
		for name, raw := range kept {
			m.must(os.WriteFile(m.path(name), raw, 0o600))
		}
	}
}

var logFiles = []string{"audit/records", "audit/hashes", "audit/checkpoint"}

// An older copy of the store, of the log, or of one of the log's files is named, also
// when only a single thing was done since.
func TestOlderCopies(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		files []string
		want  error
	}{
		"store":      {[]string{"test.db"}, anchor.ErrOlder},
		"log":        {logFiles, audit.ErrDamaged},
		"records":    {logFiles[:1], audit.ErrDamaged},
		"hashes":     {logFiles[1:2], audit.ErrDamaged},
		"checkpoint": {logFiles[2:], nil}, // the log goes on from it, and loses nothing
	} {
		for _, since := range []int{1, 2, 70} {
			m := newMachine(t)
			m.use(5)
			restore := m.save(c.files...)
			m.use(since)
			newest := m.save(append([]string{"test.db"}, logFiles...)...)
			restore()
			err := m.open(false, func(*anchor.Log, func(string)) {})
			if !errors.Is(err, c.want) {
				t.Errorf("older %s, %d since: %v, want %v", name, since, err, c.want)
			}
			if err != nil && !strings.Contains(err.Error(), m.dir) {
				t.Errorf("older %s: the error names no file: %v", name, err)
			}
			// Nothing was cut off or written: with the newest copy all is well.
			newest()
			m.use(1)
		}
	}
}

// Nor is an older log handed over: the entry of the handover would stand in the place of
// the one that is missing.
func TestHandoverOfAnOlderLog(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.use(5)
	restore := m.save(logFiles...)
	m.must(m.open(false, func(log *anchor.Log, put func(string)) {
		_, err := log.Append(audit.Event{Code: "THING"})
		m.must(err)
		put("last")
	}))
	newest := m.save(logFiles...)
	restore()
	next, err := identity.Generate()
	m.must(err)
	over := func() error {
		db, err := store.Open(m.path("test.db"))
		m.must(err)
		defer func() { m.must(db.Close()) }()
		return anchor.Handover(db, m.path("audit"), m.key, next, "test")
	}
	if err := over(); !errors.Is(err, audit.ErrDamaged) {
		t.Errorf("an older log was handed over: %v", err)
	}
	newest()
	m.must(over())
	m.key = next
	m.use(1)
}

// A store that was made anew on purpose is tied to the log as it is.
func TestRenewed(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.use(9)
	m.must(os.Remove(m.path("test.db")))
	db, err := store.Create(m.path("test.db"))
	m.must(err)
	m.must(db.Close())
	if err := m.open(false, nil); !errors.Is(err, anchor.ErrOlder) {
		t.Fatalf("a new store beside a log that knows another: %v", err)
	}
	m.must(m.open(true, func(log *anchor.Log, _ func(string)) {
		_, err := log.Append(audit.Event{Code: "RENEWED"})
		m.must(err)
	}))
	m.use(3)
}

// A process that ends between entry and record, or before any of it, starts again.
func TestEndedBetween(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	for range 3 {
		m.must(m.open(false, func(log *anchor.Log, _ func(string)) {
			_, err := log.Append(audit.Event{Code: "THING"})
			m.must(err)
		}))
		m.must(m.open(false, func(_ *anchor.Log, put func(string)) { put("y") }))
	}
}

// Both report a write that failed, of whichever.
func TestFailed(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.must(m.open(false, func(log *anchor.Log, _ func(string)) {
		m.must(log.Failed())
		m.must(log.Log.Close())
		if _, err := log.Append(audit.Event{Code: "THING"}); !errors.Is(err, audit.ErrClosed) {
			t.Errorf("append after close: %v", err)
		}
	}))
	raw, err := os.ReadFile(m.path("audit/records"))
	if err != nil || bytes.Contains(raw, []byte("THING")) {
		t.Errorf("it was written nevertheless: %v", err)
	}
}
