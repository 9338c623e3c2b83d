package datadir

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Space says how much room the file system of a path has for this process.
func Space(path string) (free, total uint64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return 0, 0, fmt.Errorf("look at the file system of %s: %w", path, err)
	}
	return s.Bavail * uint64(s.Bsize), s.Blocks * uint64(s.Bsize), nil
}
