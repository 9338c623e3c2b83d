package datadir

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"coffer/identity"
	"coffer/store"
)

// Files are the places in a directory that Make fills.
type Files struct{ Identity, Store, Audit, Settings string }

// Make fills an empty or absent directory, for its owner alone: a new identity, an
// empty store, the audit folder, whatever more adds, and the settings last, so that a
// directory with settings is complete. It refuses a directory with anything in it, so
// that no key is ever replaced.
func Make(f Files, settings any, more func() error) (key *identity.Key, err error) {
	dir := filepath.Dir(f.Settings)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read directory: %w", err)
	}
	if len(entries) > 0 {
		return nil, fmt.Errorf("directory %s is not empty: choose another, nothing is ever overwritten", dir)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return nil, fmt.Errorf("protect directory: %w", err)
	}
	if key, err = identity.Create(f.Identity); err != nil {
		return nil, store.Explain(err)
	}
	// From here on the directory is ours. What was begun and not finished would stand in
	// the way of the next try, and nobody has seen the key yet.
	defer func() {
		if err == nil {
			return
		}
		left, readErr := os.ReadDir(dir)
		err = errors.Join(store.Explain(err), readErr)
		for _, e := range left {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}()
	if more != nil {
		if err := more(); err != nil {
			return nil, err
		}
	}
	db, err := store.Create(f.Store)
	if err != nil {
		return nil, err
	}
	if err := db.Close(); err != nil {
		return nil, fmt.Errorf("close store: %w", err)
	}
	if err := os.Mkdir(f.Audit, 0o700); err != nil {
		return nil, fmt.Errorf("make audit folder: %w", err)
	}
	raw, err := json.MarshalIndent(settings, "", "  ")
	if err != nil {
		return nil, err
	}
	if err := store.WriteFile(f.Settings, append(raw, '\n'), 0o600); err != nil {
		return nil, fmt.Errorf("write settings: %w", err)
	}
	return key, nil
}
