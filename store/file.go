package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"coffer/internal/crashpoint"
)

const (
	lockTimeout = 800 * time.Millisecond
	lockRetry   = 20 * time.Millisecond
)

// LockFile takes the exclusive lock of an open file, or reports ErrInUse within a
// second. The lock ends with the file descriptor, also when the process is killed.
func LockFile(f *os.File) error {
	tick := time.NewTicker(lockRetry)
	defer tick.Stop()
	deadline := time.After(lockTimeout)
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		select {
		case <-tick.C:
		case <-deadline:
			return fmt.Errorf("%s %w", f.Name(), ErrInUse)
		}
	}
}

// WriteFile replaces a file in one step: after a crash at any point, path has
// either its old content or the new, on disk, with the mode.
func WriteFile(path string, data []byte, mode fs.FileMode) (err error) {
	if err := crashpoint.Write("file.create"); err != nil {
		return fmt.Errorf("write %s: %w", path, Explain(err))
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".new-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, Explain(err))
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return fmt.Errorf("write %s: %w", path, Explain(err))
	}
	crashpoint.Hit("file.written")
	if err = os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	crashpoint.Hit("file.renamed")
	return SyncDir(filepath.Dir(path))
}

// Move gives a file another name, over what has that name: after a crash at any point it
// has one of the two, on disk when this returns.
func Move(from, to string) error {
	err := crashpoint.Write("file.move")
	if err == nil {
		err = os.Rename(from, to)
	}
	if err != nil {
		return fmt.Errorf("move %s: %w", from, Explain(err))
	}
	crashpoint.Hit("file.moved")
	return SyncDir(filepath.Dir(to))
}

// SyncDir makes renames and new files in a directory durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync directory %s: %w", dir, err)
	}
	return nil
}
