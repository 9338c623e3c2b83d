package audit

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
)

// These live in the package because folder's methods are its own.

// ErrPower is what the memory disk says when it fails.
var ErrPower = errors.New("disk failed")

// MemoryDisk is a folder in memory that knows what is on the platter and what only
// in the cache, counts its operations, and fails at one of them.
type MemoryDisk struct {
	files map[string]*memoryFile

	Ops    int  // operations so far that change something
	FailAt int  // the operation that fails; 0 is none
	Stored bool // the failing operation takes effect all the same
	Dead   bool // every operation after the failing one fails too
	failed bool
}

type memoryFile struct {
	disk    *MemoryDisk
	cache   []byte
	platter []byte
}

// NewMemoryDisk is an empty disk.
func NewMemoryDisk() *MemoryDisk { return &MemoryDisk{files: map[string]*memoryFile{}} }

// op counts an operation and says whether it takes effect and what it returns.
func (d *MemoryDisk) op() (effect bool, err error) {
	d.Ops++
	if d.failed && d.Dead {
		return false, ErrPower
	}
	if d.Ops == d.FailAt {
		d.failed = true
		return d.Stored, ErrPower
	}
	return true, nil
}

// Clean reports whether everything is on the platter.
func (d *MemoryDisk) Clean() bool {
	for _, f := range d.files {
		if !bytes.Equal(f.cache, f.platter) {
			return false
		}
	}
	return true
}

// AfterPowerLoss is the disk as the next start finds it: what was synced, and of the
// rest some sectors, in no order, with the size of before or after.
func (d *MemoryDisk) AfterPowerLoss(random *rand.Rand) *MemoryDisk {
	const sector = 512
	out := NewMemoryDisk()
	for name, f := range d.files {
		got := bytes.Clone(f.platter)
		if len(f.cache) > len(got) && random.IntN(3) > 0 {
			size := len(got) + random.IntN(len(f.cache)-len(got)+1)
			got = append(got, make([]byte, size-len(got))...)
		}
		if len(f.cache) < len(got) && random.IntN(2) > 0 {
			got = got[:len(f.cache)]
		}
		for at := 0; at < len(got); at += sector {
			if end := min(at+sector, len(got), len(f.cache)); at < end && random.IntN(2) > 0 {
				copy(got[at:end], f.cache[at:end])
			}
		}
		out.files[name] = &memoryFile{disk: out, cache: bytes.Clone(got), platter: got}
	}
	return out
}

func (d *MemoryDisk) open(name string) (file, error) {
	f, ok := d.files[name]
	if !ok {
		f = &memoryFile{disk: d}
		d.files[name] = f
	}
	return f, nil
}

func (d *MemoryDisk) lock() (func() error, error) { return func() error { return nil }, nil }

func (d *MemoryDisk) read(name string) ([]byte, error) {
	f, ok := d.files[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return bytes.Clone(f.cache), nil
}

func (d *MemoryDisk) replace(name string, data []byte) error {
	effect, err := d.op()
	if effect { // atomic and durable, as store.WriteFile promises
		d.files[name] = &memoryFile{disk: d, cache: bytes.Clone(data), platter: bytes.Clone(data)}
	}
	return err
}

func (d *MemoryDisk) sync() error { _, err := d.op(); return err }

func (f *memoryFile) ReadAt(b []byte, at int64) (int, error) {
	if at >= int64(len(f.cache)) {
		return 0, io.EOF
	}
	n := copy(b, f.cache[at:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memoryFile) WriteAt(b []byte, at int64) (int, error) {
	effect, err := f.disk.op()
	if effect {
		if end := at + int64(len(b)); end > int64(len(f.cache)) {
			f.cache = append(f.cache, make([]byte, end-int64(len(f.cache)))...)
		}
		copy(f.cache[at:], b)
	}
	if err != nil {
		return 0, err
	}
	return len(b), nil
}

func (f *memoryFile) Truncate(size int64) error {
	effect, err := f.disk.op()
	if effect {
		f.cache = bytes.Clone(f.cache[:size])
	}
	return err
}

func (f *memoryFile) Sync() error {
	effect, err := f.disk.op()
	if effect {
		f.platter = bytes.Clone(f.cache)
	}
	return err
}

func (f *memoryFile) Size() (int64, error) { return int64(len(f.cache)), nil }
func (f *memoryFile) Close() error         { return nil }
