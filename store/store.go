package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"

	"go.etcd.io/bbolt"
)

// Create makes a new database, in a directory that only its owner can read, and
// opens it. It refuses to replace a file. A crash leaves either no file at path or a
// complete one.
func Create(path string) (*bbolt.DB, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create store %s: %w", path, Explain(err))
	}
	tmp, err := os.CreateTemp(dir, "."+filepath.Base(path)+".new-*")
	if err != nil {
		return nil, fmt.Errorf("create store %s: %w", path, Explain(err))
	}
	defer os.Remove(tmp.Name())
	if err := tmp.Close(); err != nil {
		return nil, fmt.Errorf("create store %s: %w", path, Explain(err))
	}
	db, err := bbolt.Open(tmp.Name(), 0o600, &bbolt.Options{Timeout: lockTimeout})
	if err != nil {
		return nil, fmt.Errorf("create store %s: %w", path, Explain(err))
	}
	if err := errors.Join(db.Update(createManifest), db.Sync(), db.Close()); err != nil {
		return nil, fmt.Errorf("create store %s: %w", path, Explain(err))
	}
	// A link, unlike a rename, never replaces.
	if err := os.Link(tmp.Name(), path); errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("store %s %w", path, ErrExists)
	} else if err != nil {
		return nil, fmt.Errorf("create store %s: %w", path, Explain(err))
	}
	if err := os.Remove(tmp.Name()); err != nil {
		return nil, fmt.Errorf("create store %s: %w", path, Explain(err))
	}
	if err := SyncDir(dir); err != nil {
		return nil, fmt.Errorf("create store %s: %w", path, Explain(err))
	}
	return Open(path)
}

// Open locks, checks and opens an existing database. It never creates one.
func Open(path string) (*bbolt.DB, error) {
	var checked error
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout: lockTimeout,
		// bbolt locks and maps the very file that was locked and checked here, so
		// nothing can come between.
		OpenFile: func(path string, _ int, _ os.FileMode) (*os.File, error) {
			f, err := openChecked(path)
			checked = err
			return f, err
		},
	})
	switch {
	case checked != nil:
		return nil, checked
	case err != nil:
		return nil, fmt.Errorf("open store %s: %w", path, err)
	}
	// A second opinion, by bbolt itself, and the manifest.
	if err := View(db, secondOpinion); err != nil {
		return nil, errors.Join(fmt.Errorf("open store %s: %w", path, err), db.Close())
	}
	return db, nil
}

func openChecked(path string) (_ *os.File, err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("store %s %w", path, ErrNotFound)
	} else if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
		}
	}()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, fmt.Errorf("open store: %w", err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("store %s is not a file", path)
	case info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("store %s has mode %04o: others could read it; chmod 600 it", path, info.Mode().Perm())
	}
	if err := LockFile(f); err != nil {
		return nil, fmt.Errorf("store %w", err)
	}
	// Only now: before the lock, another process may have been writing.
	if info, err = f.Stat(); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if err := checkPages(f, info.Size()); err != nil {
		return nil, fmt.Errorf("store %s %w (%w)", path, ErrCorrupt, err)
	}
	return f, nil
}

func secondOpinion(tx *bbolt.Tx) error {
	var first error
	for err := range tx.Check() { // to the end: the checker blocks on its channel
		if first == nil {
			first = err
		}
	}
	if first != nil {
		return fmt.Errorf("store %w (%w)", ErrCorrupt, first)
	}
	return checkManifest(tx)
}

// View runs f in a read transaction. A page that went bad since the file was opened
// is ErrCorrupt, not a panic or a fault.
func View(db *bbolt.DB, f func(*bbolt.Tx) error) error {
	return guarded(func() error { return db.View(f) })
}

func update(db *bbolt.DB, f func(*bbolt.Tx) error) error {
	return guarded(func() error { return db.Update(f) })
}

func guarded(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("store %w (%v)", ErrCorrupt, r)
		}
	}()
	return f()
}
