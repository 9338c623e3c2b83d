//go:build e2e && crashpoint

package crashtest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"coffer/coordinator"
	"coffer/keystore"
	"coffer/node"
)

// isWrite says that a place is one where a full disk is met.
func isWrite(name string) bool {
	return slices.ContainsFunc([]string{"store.commit@", "store.table", "audit.entries", "audit.hashes", "file.create", "file.move"}, func(p string) bool { return strings.HasPrefix(name, p) })
}

// ends waits for the end of a process and returns what it said.
func (p *process) ends() (text string, code int, err error) {
	select {
	case <-p.ended():
		return p.lastError(), p.cmd.ProcessState.ExitCode(), nil
	case <-time.After(15 * time.Second):
		return "", 0, fmt.Errorf("%s goes on", p.name)
	}
}

// mustSayFull demands that a process ended because of its disk, and told a person what to
// do, and where unless the full disk is only played.
func (p *process) mustSayFull(t *testing.T, where, when string) {
	t.Helper()
	text, code, err := p.ends()
	switch {
	case err != nil:
		t.Fatalf("%s: %v", when, err)
	case code != 1 || !strings.Contains(text, "the disk is full: make space on it") || !strings.Contains(text, where):
		t.Fatalf("%s: %s ends with %d and says %q", when, p.name, code, text)
	}
}

// TestFullDiskAtEveryWrite has every write of a payment, by coordinator and signer, meet
// a full disk from there on. The process ends and says so; started again when there is
// space, it goes on, and the payment is made once.
func TestFullDiskAtEveryWrite(t *testing.T) {
	c := newCluster(t, nil).fund()
	c.signers["c"].kill()
	c.must(c.pay())
	for _, p := range []*process{c.desk, c.signers["a"]} {
		p.record()
		c.must(c.pay())
		writes := starve(t, p, p.recorded(), c.pay)
		if writes < 8 {
			t.Errorf("%s writes only %d times for a payment", p.name, writes)
		}
		t.Logf("%s: a full disk at %d writes", p.name, writes)
	}
	c.checkChain()
	c.checkLogs()
}

// starve has every write that a process was seen to make meet a full disk, while work is
// done, and starts it again when it has ended. The work itself must succeed.
func starve(t *testing.T, p *process, seen map[string]int, work func() error) (writes int) {
	t.Helper()
	for _, at := range places(seen) {
		if !isWrite(at.name) {
			continue
		}
		writes++
		when := fmt.Sprintf("%s full at %s %d", p.name, at.name, at.n)
		p.order("full", at.name, at.n)
		worked := make(chan error, 1)
		go func() { worked <- work() }()
		select {
		case <-p.ended():
			p.mustSayFull(t, "", when)
			p.revive()
			if err := <-worked; err != nil {
				t.Fatalf("%s: %v", when, err)
			}
		case err := <-worked:
			if err != nil {
				t.Fatalf("%s: %v", when, err)
			}
			if p.fired() { // it was full for the last thing that was written
				p.mustSayFull(t, "", when)
				p.revive()
			}
		}
	}
	return writes
}

// tmpfs mounts a small file system, of its own for each process.
func tmpfs(t *testing.T, megabytes int) (dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("only root can mount a small file system, and here this test must run")
		}
		t.Skip("only root can mount a small file system")
	}
	dir = t.TempDir()
	if err := unix.Mount("coffer-crashtest", dir, "tmpfs", 0, fmt.Sprintf("size=%dm,mode=700", megabytes)); err != nil {
		t.Fatalf("mount: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill leaves so many bytes on a file system, and returns how to give the others back.
func fill(t *testing.T, dir string, leave int64) (free func()) {
	t.Helper()
	path := filepath.Join(dir, "filler")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size := int64(0)
	for page := make([]byte, 4096); ; size += int64(len(page)) {
		if _, err := f.Write(page); errors.Is(err, unix.ENOSPC) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(max(0, size-leave)); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFullDisk fills real, small disks, so that the last bytes are written at ever other
// places: while payments are made, and at the start.
func TestFullDisk(t *testing.T) {
	disks := map[string]string{"desk": tmpfs(t, 8), "a": tmpfs(t, 8)}
	root := t.TempDir()
	c := newCluster(t, func(name string) string {
		if disk := disks[name]; disk != "" {
			return filepath.Join(disk, "data")
		}
		return filepath.Join(root, name)
	}).fund()
	c.signers["c"].kill()
	for _, p := range []*process{c.desk, c.signers["a"]} {
		disk := disks[p.name]
		for _, leave := range []int64{0, 4 << 10, 8 << 10, 12 << 10, 20 << 10, 36 << 10} {
			free := fill(t, disk, leave)
			var failed error
			done, enough := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(done)
				for failed == nil {
					select {
					case <-enough:
						return
					default:
						failed = c.pay() // the last of them waits for the process
					}
				}
			}()
			p.mustSayFull(t, p.dir, fmt.Sprintf("%d bytes left", leave))
			// A start finds the disk as full as before and says so too, or does with what there is.
			if err := p.start(); err == nil {
				p.kill()
			} else {
				p.mustSayFull(t, p.dir, "start on a full disk")
			}
			free()
			p.mustStart()
			close(enough)
			<-done
			if failed != nil {
				t.Fatalf("%s, %d bytes left: %v", p.name, leave, failed)
			}
		}
		c.must(c.pay())
	}
	c.checkChain()
	c.checkLogs()
}

// TestInitOnFullDisk leaves nothing behind that stands in the way of the next try.
func TestInitOnFullDisk(t *testing.T) {
	disk := tmpfs(t, 1)
	for name, init := range map[string]func(dir string) error{
		"signer": func(dir string) error {
			_, err := node.Init(node.Dir(dir), node.Settings{
				Name: "a", Organisation: "exchange", ListenPeers: []string{"/ip4/127.0.0.1/tcp/7001"}, ListenCoordinator: "127.0.0.1:7101",
			}, []byte(passphrase), keystore.SealOptions{WorkFactor: keystore.MinWorkFactor})
			return err
		},
		"coordinator": func(dir string) error {
			_, err := coordinator.Init(coordinator.Dir(dir), coordinator.Settings{Name: "desk", Organisation: "exchange", Listen: "127.0.0.1:7200"})
			return err
		},
	} {
		dir := filepath.Join(disk, name)
		refused := 0
		for leave := int64(4 << 10); ; leave += 4 << 10 {
			free := fill(t, disk, leave)
			err := init(dir)
			free()
			if err == nil {
				break
			}
			refused++
			if !strings.Contains(err.Error(), "the disk is full: make space on it") || !strings.Contains(err.Error(), dir) {
				t.Errorf("%s with %d bytes left: %v", name, leave, err)
			}
			if left, err := os.ReadDir(dir); err == nil && len(left) > 0 {
				t.Fatalf("%s with %d bytes left leaves %v", name, leave, left)
			}
		}
		if refused < 3 {
			t.Errorf("%s: init needed no space", name)
		}
	}
}

// TestDamagedFiles flips a bit in, cuts and exchanges for an older copy every file that a
// process finds at its start: it names the file and does not run, or what was changed
// means nothing and it pays as ever.
func TestDamagedFiles(t *testing.T) {
	c := newCluster(t, nil).fund()
	c.must(c.pay())
	for _, p := range []*process{c.desk, c.signers["a"]} {
		p.stop()
		files := dataFiles(t, p.dir)
		old := readAll(t, files)
		p.mustStart()
		c.signers["c"].kill() // a is needed
		for range 3 {
			c.must(c.pay())
		}
		c.signers["c"].mustStart()
		p.stop()
		now := readAll(t, files)
		tried, named := 0, 0
		try := func(what, path string, content []byte) {
			tried++
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			// The seal is opened after the start, and each byte of its file counts.
			if p.start() == nil && filepath.Base(path) != "seal.age" {
				p.signal(syscall.SIGTERM) // it works with it, or is still about to unseal
			}
			text, code, err := p.ends()
			switch {
			case err != nil:
				t.Fatalf("%s of %s %s: %v", filepath.Base(path), p.name, what, err)
			case code != 0:
				named++
				if !strings.Contains(text, path) && !strings.Contains(text, filepath.Dir(path)) && !strings.Contains(text, filepath.Base(path)) {
					t.Errorf("%s of %s %s: it says %q", filepath.Base(path), p.name, what, text)
				}
			case slices.Contains([]string{"records", "hashes"}, filepath.Base(path)):
				t.Errorf("%s of %s %s: not found", filepath.Base(path), p.name, what)
			default:
				t.Logf("%s of %s %s: harmless", filepath.Base(path), p.name, what)
			}
			for path, raw := range now { // what a start has written belongs to what was changed
				if err := os.WriteFile(path, raw, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, path := range files {
			raw := now[path]
			for _, at := range []int{0, len(raw) / 3, len(raw) / 2, len(raw) - 1} {
				changed := bytes.Clone(raw)
				changed[at] ^= 4
				try(fmt.Sprintf("with a flipped bit at %d of %d", at, len(raw)), path, changed)
			}
			try("without its end", path, raw[:len(raw)/2])
			try("empty", path, nil)
			if !bytes.Equal(raw, old[path]) {
				try("of yesterday", path, old[path])
			}
		}
		if named < 3*len(files) {
			t.Errorf("%s: of %d changes only %d were found", p.name, tried, named)
		}
		t.Logf("%s: %d changes of %d files, %d refused by name", p.name, tried, len(files), named)
		p.mustStart()
		c.must(c.pay())
	}
	c.checkChain()
	c.checkLogs()
}

// dataFiles lists what a process reads at its start.
func dataFiles(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() && e.Name() != ".lock" {
			out = append(out, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func readAll(t *testing.T, files []string) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	for _, path := range files {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		out[path] = raw
	}
	return out
}
