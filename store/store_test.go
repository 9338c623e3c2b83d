package store_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"pgregory.net/rapid"

	"coffer/store"
)

// holdEnv makes the test binary a process that holds a store open until its
// standard input ends.
const holdEnv = "COFFER_STORE_TEST_HOLD"

func TestMain(m *testing.M) {
	if path := os.Getenv(holdEnv); path != "" {
		db, err := store.Open(path)
		fmt.Println("open", err)
		_, _ = io.Copy(io.Discard, os.Stdin)
		if err == nil {
			_ = db.Close()
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// filled makes a closed store with a table of n records of every size.
func filled(t testing.TB, n int) (path string, want map[string]string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "data", "test.db")
	db, err := store.Create(path)
	must(t, err)
	table, err := store.OpenTable(db, "things")
	must(t, err)
	other, err := store.OpenTable(db, "zeta")
	must(t, err)
	want = map[string]string{}
	w := store.NewWriter(db)
	must(t, w.Do(func(tx *bbolt.Tx) error {
		for i := range n {
			k, v := fmt.Sprintf("key/%04d", i), strings.Repeat(fmt.Sprint(i, "."), i*i%400)
			want[k] = v
			if err := table.Put(tx, []byte(k), []byte(v)); err != nil {
				return err
			}
		}
		return other.Put(tx, []byte("last"), []byte("one"))
	}))
	// Some removals, so that there are free pages.
	must(t, w.Do(func(tx *bbolt.Tx) error {
		for i := 0; i < n; i += 5 {
			k := fmt.Sprintf("key/%04d", i)
			delete(want, k)
			if err := table.Delete(tx, []byte(k)); err != nil {
				return err
			}
		}
		return nil
	}))
	must(t, db.Close())
	return path, want
}

// load opens a store and reads everything, as an owner does at start.
func load(path string) (map[string]string, error) {
	db, err := store.Open(path)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	got := map[string]string{}
	for _, name := range []string{"things", "zeta"} {
		table, err := store.OpenTable(db, name)
		if err != nil {
			return nil, err
		}
		err = store.View(db, func(tx *bbolt.Tx) error {
			return table.ForEach(tx, nil, func(k, v []byte) error {
				if name == "things" {
					got[string(k)] = string(v)
				}
				return nil
			})
		})
		if err != nil {
			return nil, err
		}
	}
	return got, nil
}

func same(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if got, ok := b[k]; !ok || got != v {
			return false
		}
	}
	return true
}

func TestCreateAndOpen(t *testing.T) {
	path, want := filled(t, 50)
	got, err := load(path)
	must(t, err)
	if !same(got, want) {
		t.Errorf("read %d records, want %d", len(got), len(want))
	}
	if _, err := store.Create(path); !errors.Is(err, store.ErrExists) {
		t.Errorf("Create over a file: %v, want ErrExists", err)
	}
	if _, err := store.Open(path + "x"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Open of nothing: %v, want ErrNotFound", err)
	}
	if _, err := os.Stat(path + "x"); err == nil {
		t.Error("Open made a file")
	}
	for p, mode := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
		info, err := os.Stat(p)
		must(t, err)
		if info.Mode().Perm() != mode {
			t.Errorf("%s has mode %04o, want %04o", p, info.Mode().Perm(), mode)
		}
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	must(t, err)
	if len(entries) != 1 {
		t.Errorf("temporary files are left: %v", entries)
	}
	must(t, os.Chmod(path, 0o644))
	if _, err := store.Open(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("Open of a readable file: %v", err)
	}
	if _, err := store.Open(filepath.Dir(path)); err == nil {
		t.Error("opened a directory")
	}
}

func TestInUseByAnotherProcess(t *testing.T) {
	path, _ := filled(t, 3)
	holder := exec.Command(os.Args[0])
	holder.Env = append(os.Environ(), holdEnv+"="+path)
	in, err := holder.StdinPipe()
	must(t, err)
	out, err := holder.StdoutPipe()
	must(t, err)
	must(t, holder.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "open <nil>\n" {
		t.Fatalf("holder says %q, %v", line, err)
	}
	start := time.Now()
	_, err = store.Open(path)
	if took := time.Since(start); !errors.Is(err, store.ErrInUse) || took > time.Second {
		t.Errorf("Open = %v after %v, want ErrInUse within a second", err, took)
	}
	if err != nil && !strings.Contains(err.Error(), path) {
		t.Errorf("error does not name the file: %v", err)
	}
	must(t, in.Close())
	must(t, holder.Wait())
	_, err = load(path)
	must(t, err)
}

// TestTruncated cuts the file at every page and at odd places: never a panic, never
// a fault, and either the same records or ErrCorrupt.
func TestTruncated(t *testing.T) {
	path, want := filled(t, 120)
	whole, err := os.ReadFile(path)
	must(t, err)
	refused := 0
	for n := 0; n <= len(whole); n += 509 {
		for _, size := range []int{n, n / 4096 * 4096} {
			must(t, os.WriteFile(path, whole[:size], 0o600))
			got, err := load(path)
			switch {
			case err == nil && same(got, want): // only the unused end is gone
			case errors.Is(err, store.ErrCorrupt) && strings.Contains(err.Error(), path):
				refused++
			default:
				t.Fatalf("cut to %d bytes: %d records, %v", size, len(got), err)
			}
		}
	}
	if refused == 0 {
		t.Error("no truncation was refused: the test cuts nothing that matters")
	}
	for name, content := range map[string][]byte{
		"empty": {}, "text": bytes.Repeat([]byte("not a database\n"), 3000), "zeros": make([]byte, 1<<16),
	} {
		must(t, os.WriteFile(path, content, 0o600))
		if _, err := store.Open(path); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("%s file: %v, want ErrCorrupt", name, err)
		}
	}
}

// TestFlippedBits flips one bit at a time, in every byte of every record and all
// over the file: the records read are the same, or the error is ErrCorrupt.
func TestFlippedBits(t *testing.T) {
	path, want := filled(t, 40)
	whole, err := os.ReadFile(path)
	must(t, err)
	random := rand.New(rand.NewPCG(1, 2))
	var places []int
	for range 3000 {
		places = append(places, random.IntN(len(whole)))
	}
	for k, v := range want { // first and last byte of each record's key and value
		if at := bytes.Index(whole, []byte(k+"\x01"+v)); at >= 0 {
			places = append(places, at, at+len(k), at+len(k)+len(v))
		}
	}
	for i := range 64 { // the page headers and first elements of all pages
		for at := i; at < len(whole); at += 4096 {
			places = append(places, at)
		}
	}
	detected := 0
	for _, at := range places {
		bit := byte(1) << random.IntN(8)
		whole[at] ^= bit
		must(t, os.WriteFile(path, whole, 0o600))
		got, err := load(path)
		switch {
		case err == nil && same(got, want): // in a free page, or in no record
		case errors.Is(err, store.ErrCorrupt):
			detected++
		default:
			t.Fatalf("bit %#x of byte %d flipped: %d records of %d, %v", bit, at, len(got), len(want), err)
		}
		whole[at] ^= bit
	}
	t.Logf("%d of %d flips met something in use; all were detected", detected, len(places))
	if detected < len(want) {
		t.Errorf("only %d flips were detected", detected)
	}
}

// TestEveryBitOfEveryRecord flips each byte of each live record on its page.
func TestEveryBitOfEveryRecord(t *testing.T) {
	path := filepath.Join(t.TempDir(), "test.db")
	db, err := store.Create(path)
	must(t, err)
	table, err := store.OpenTable(db, "things")
	must(t, err)
	w := store.NewWriter(db)
	for i := range 3 {
		must(t, w.Do(func(tx *bbolt.Tx) error {
			return table.Put(tx, []byte{'k', byte('0' + i)}, []byte("value"))
		}))
	}
	must(t, db.Close())
	whole, err := os.ReadFile(path)
	must(t, err)
	// Older versions of the records are on free pages; only flips of the live
	// version must be found, and at least one version of each byte is live.
	for i := range 3 {
		record := append([]byte{'k', byte('0' + i), 1}, "value"...)
		for offset := range len(record) + 32 {
			found := false
			for at := 0; ; {
				next := bytes.Index(whole[at:], record)
				if next < 0 {
					break
				}
				at += next + 1
				place := at - 1 + offset
				for bit := range 8 {
					whole[place] ^= 1 << bit
					must(t, os.WriteFile(path, whole, 0o600))
					_, err := load(path)
					if err != nil && !errors.Is(err, store.ErrCorrupt) {
						t.Fatalf("record %d, byte %d: %v", i, offset, err)
					}
					found = found || errors.Is(err, store.ErrCorrupt)
					whole[place] ^= 1 << bit
					if err == nil {
						break // a free page; its other bits are no more alive
					}
				}
			}
			if !found {
				t.Errorf("record %d: no flip in byte %d was detected", i, offset)
			}
		}
	}
}

// TestOlderPageIsDetected puts an older version of one page in the place of the
// newer: every page is well formed and every record's checksum right.
func TestOlderPageIsDetected(t *testing.T) {
	for _, commits := range []int{4, 5} { // the newest meta page is one or the other
		testOlderPage(t, commits)
	}
}

func testOlderPage(t *testing.T, commits int) {
	t.Helper()
	path, _ := filled(t, 60)
	before, err := os.ReadFile(path)
	must(t, err)
	db, err := store.Open(path)
	must(t, err)
	table, err := store.OpenTable(db, "things")
	must(t, err)
	w := store.NewWriter(db)
	for i := range commits {
		must(t, w.Do(func(tx *bbolt.Tx) error { return table.Put(tx, []byte("key/0001"), fmt.Append(nil, "newer ", i)) }))
	}
	must(t, db.Close())
	after, err := os.ReadFile(path)
	must(t, err)
	want, err := load(path)
	must(t, err)
	for page := range len(before) / 4096 {
		mixed := bytes.Clone(after)
		copy(mixed[page*4096:][:4096], before[page*4096:][:4096])
		must(t, os.WriteFile(path, mixed, 0o600))
		if got, err := load(path); !errors.Is(err, store.ErrCorrupt) && !(err == nil && same(got, want)) {
			t.Errorf("%d commits, page %d replaced: %v", commits, page, err)
		}
	}
}

// TestStructureAgainstBbolt: what bbolt writes, whatever was done to it, passes the check.
func TestStructureAgainstBbolt(t *testing.T) {
	dir := t.TempDir()
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		path := filepath.Join(dir, fmt.Sprint(n, ".db"))
		db, err := store.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		db.NoSync = true
		defer func() { _ = db.Close(); _ = os.Remove(path) }()
		model := map[string]int{}
		for range rapid.IntRange(1, 8).Draw(t, "transactions") {
			keys := rapid.SliceOfN(rapid.IntRange(0, 400), 0, 120).Draw(t, "keys")
			size := rapid.SampledFrom([]int{0, 1, 50, 900, 9000}).Draw(t, "size")
			remove := rapid.Bool().Draw(t, "remove")
			err := db.Update(func(tx *bbolt.Tx) error {
				b, err := tx.CreateBucketIfNotExists([]byte("plain"))
				if err != nil {
					return err
				}
				inner, err := b.CreateBucketIfNotExists([]byte("inner"))
				if err != nil {
					return err
				}
				for _, k := range keys {
					key := fmt.Appendf(nil, "%d", k*7919)
					if remove {
						delete(model, string(key))
						if err := errors.Join(b.Delete(key), inner.Delete(key)); err != nil {
							return err
						}
					} else {
						model[string(key)] = size
						if err := errors.Join(b.Put(key, make([]byte, size)), inner.Put(key, make([]byte, size/2))); err != nil {
							return err
						}
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if db, err = store.Open(path); err != nil {
			t.Fatalf("sound file refused: %v", err)
		}
		_ = db.View(func(tx *bbolt.Tx) error {
			if b := tx.Bucket([]byte("plain")); b != nil && b.Stats().KeyN < len(model) {
				t.Errorf("%d keys, want %d", b.Stats().KeyN, len(model))
			}
			return nil
		})
	})
}

func TestWriterRefusesOneAndCommitsOthers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "test.db")
	db, err := store.Create(path)
	must(t, err)
	defer db.Close()
	table, err := store.OpenTable(db, "things")
	must(t, err)
	w := store.NewWriter(db)
	refused := errors.New("refused")
	var group sync.WaitGroup
	for i := range 300 {
		group.Go(func() {
			key := fmt.Appendf(nil, "%03d", i)
			err := w.Do(func(tx *bbolt.Tx) error {
				if err := table.Put(tx, key, key); err != nil {
					return err
				}
				if i%7 == 0 {
					return refused // after writing: must leave no trace
				}
				return nil
			})
			if i%7 == 0 != errors.Is(err, refused) || i%7 != 0 && err != nil {
				t.Errorf("change %d: %v", i, err)
			}
		})
	}
	group.Wait()
	must(t, store.View(db, func(tx *bbolt.Tx) error {
		n, err := table.Len(tx)
		if err != nil || n != 300-43 {
			t.Errorf("%d records, want %d (%v)", n, 300-43, err)
		}
		for i := range 300 {
			_, ok, err := table.Get(tx, fmt.Appendf(nil, "%03d", i))
			if err != nil || ok != (i%7 != 0) {
				t.Errorf("record %d there: %v, %v", i, ok, err)
			}
		}
		return nil
	}))
}

func TestWriterStopsAfterAFailedCommit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "test.db")
	db, err := store.Create(path)
	must(t, err)
	defer db.Close()
	table, err := store.OpenTable(db, "things")
	must(t, err)
	w := store.NewWriter(db)
	put := func(n int) error {
		return w.Do(func(tx *bbolt.Tx) error { return table.Put(tx, []byte("k"), make([]byte, n)) })
	}
	must(t, put(10))
	db.MaxSize = 1 // a full disk, as bbolt reports it
	if err := put(1 << 20); !errors.Is(err, store.ErrFailed) {
		t.Fatalf("write on a full disk: %v, want ErrFailed", err)
	}
	db.MaxSize = 0
	if err := put(10); !errors.Is(err, store.ErrFailed) {
		t.Errorf("write after a failed one: %v, want ErrFailed", err)
	}
	if !errors.Is(w.Failed(), store.ErrFailed) {
		t.Error("Failed() is silent")
	}
}

func TestTableRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "test.db")
	db, err := store.Create(path)
	must(t, err)
	defer db.Close()
	for _, name := range []string{"", "coffer", strings.Repeat("n", 65)} {
		if _, err := store.OpenTable(db, name); err == nil {
			t.Errorf("table name %q accepted", name)
		}
	}
	table, err := store.OpenTable(db, "things")
	must(t, err)
	for _, key := range [][]byte{nil, {0}, make([]byte, 1025)} {
		err := store.NewWriter(db).Do(func(tx *bbolt.Tx) error { return table.Put(tx, key, nil) })
		if err == nil {
			t.Errorf("key %q accepted", key)
		}
	}
	// A record that bypassed the table, and a table that vanished.
	must(t, db.Update(func(tx *bbolt.Tx) error { return tx.Bucket([]byte("things")).Put([]byte("x"), []byte("y")) }))
	if _, err := store.OpenTable(db, "things"); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("foreign record: %v, want ErrCorrupt", err)
	}
	must(t, db.Update(func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte("things")) }))
	if _, err := store.OpenTable(db, "things"); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("missing table: %v, want ErrCorrupt", err)
	}
	must(t, db.Close())
	if _, err := store.Open(path); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("missing table, at open: %v, want ErrCorrupt", err)
	}
}

func TestWriteFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	for _, content := range []string{"one", "two, longer", ""} {
		must(t, store.WriteFile(path, []byte(content), 0o600))
		got, err := os.ReadFile(path)
		if err != nil || string(got) != content {
			t.Errorf("read %q, %v", got, err)
		}
	}
	info, err := os.Stat(path)
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %04o", info.Mode().Perm())
	}
	if err := store.WriteFile(filepath.Join(path, "below"), nil, 0o600); err == nil {
		t.Error("wrote below a file")
	}
	entries, _ := os.ReadDir(filepath.Dir(path))
	if len(entries) != 1 {
		t.Errorf("temporary files are left: %v", entries)
	}
}

// FuzzOpen damages a small sound file in two places and cuts it.
func FuzzOpen(f *testing.F) {
	path, _ := filled(f, 8)
	whole, err := os.ReadFile(path)
	must(f, err)
	f.Add(uint32(10), byte(1), uint32(4100), byte(2), uint32(len(whole)))
	f.Fuzz(func(t *testing.T, a uint32, x byte, b uint32, y byte, size uint32) {
		damaged := bytes.Clone(whole)
		damaged[int(a)%len(damaged)] ^= x
		damaged[int(b)%len(damaged)] ^= y
		p := filepath.Join(t.TempDir(), "f.db")
		must(t, os.WriteFile(p, damaged[:int(size)%(len(damaged)+1)], 0o600))
		if db, err := store.Open(p); err == nil {
			must(t, db.Close())
		} else if !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("not named as damage: %v", err)
		}
	})
}
