package datadir

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"coffer/identity"
	"coffer/store"
)

// Files are the places in a directory that Make fills.
type Files struct{ Identity, Store, Audit, Settings string }

// Make fills an empty or absent directory, for its owner alone: a new identity, an
// empty store, the audit folder, whatever more adds, and the settings last, so that a
// directory with settings is complete. It refuses a directory with anything in it, so
// that no key is ever replaced.
func Make(f Files, settings any, more func() error) (*identity.Key, error) {
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
	key, err := identity.Create(f.Identity)
	if err != nil {
		return nil, err
	}
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

// ReadSettings reads and validates settings; unknown keys and text behind them are
// refused. program is whose directory it should be, such as "coffer-signer".
func ReadSettings(path, program string, into interface{ Validate() error }) error {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		dir := filepath.Dir(path)
		return fmt.Errorf("%s is not a directory of %s: run %s init --dir %s first", dir, program, program, dir)
	} else if err != nil {
		return fmt.Errorf("read settings: %w", err)
	}
	dec := json.NewDecoder(strings.NewReader(string(raw)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return fmt.Errorf("settings %s: %w", path, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("settings %s: text after the settings", path)
	}
	if err := into.Validate(); err != nil {
		return fmt.Errorf("settings %s: %w", path, err)
	}
	return nil
}
