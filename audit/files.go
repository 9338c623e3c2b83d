package audit

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"coffer/store"
)

const (
	recordsName    = "records"
	hashesName     = "hashes"
	checkpointName = "checkpoint"
)

// file is what the log does with a file. Tests replace it to lose power.
type file interface {
	io.ReaderAt
	io.WriterAt
	Truncate(size int64) error
	Sync() error
	Size() (int64, error)
	Close() error
}

// folder is where the log lies.
type folder interface {
	// open opens a file for reading and writing, and makes it if it is not there.
	open(name string) (file, error)
	// lock makes sure that no other process writes here, until release.
	lock() (release func() error, err error)
	read(name string) ([]byte, error)
	replace(name string, data []byte) error
	sync() error
}

type diskFolder string

func (d diskFolder) path(name string) string { return filepath.Join(string(d), name) }

func (d diskFolder) open(name string) (file, error) {
	f, err := os.OpenFile(d.path(name), os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("audit folder %s does not exist: has init been run for this directory?", string(d))
	} else if err != nil {
		return nil, fmt.Errorf("open audit log: %w", err)
	}
	return diskFile{f}, nil
}

func (d diskFolder) lock() (func() error, error) {
	f, err := os.OpenFile(d.path(".lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("audit folder %s does not exist: has init been run for this directory?", string(d))
	} else if err != nil {
		return nil, fmt.Errorf("lock audit log: %w", err)
	}
	if err := store.LockFile(f); err != nil {
		return nil, errors.Join(fmt.Errorf("audit log %s: %w", string(d), err), f.Close())
	}
	return f.Close, nil
}

func (d diskFolder) read(name string) ([]byte, error) { return os.ReadFile(d.path(name)) }

func (d diskFolder) replace(name string, data []byte) error {
	return store.WriteFile(d.path(name), data, 0o600)
}

func (d diskFolder) sync() error { return store.SyncDir(string(d)) }

type diskFile struct{ *os.File }

func (f diskFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
