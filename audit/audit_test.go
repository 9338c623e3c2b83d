package audit_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"coffer/audit"
	"coffer/identity"
	"coffer/store"
)

const origin = "coffer/test/signer/alice"

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newKey(t testing.TB) *identity.Key {
	t.Helper()
	k, err := identity.Generate()
	must(t, err)
	return k
}

func event(n int) audit.Event {
	e := audit.Event{Time: 1_800_000_000 + int64(n), Code: "SIGN_REQUEST", Intent: fmt.Sprint("intent-", n), Detail: map[string]string{}}
	for i := range n % 4 {
		e.Detail[fmt.Sprint("key", i)] = strings.Repeat("text ", n%37)
	}
	return e
}

func fill(t testing.TB, dir string, key *identity.Key, n int) {
	t.Helper()
	l, err := audit.Open(dir, key, origin)
	must(t, err)
	for i := range n {
		_, err := l.Append(event(i))
		must(t, err)
	}
	must(t, l.Close())
}

func TestAppendReadReopen(t *testing.T) {
	dir, key := t.TempDir(), newKey(t)
	var first []byte
	for round := range 3 {
		l, err := audit.Open(dir, key, origin)
		must(t, err)
		if l.Recovered() != "" {
			t.Errorf("recovered a sound log: %s", l.Recovered())
		}
		if want := int64(1 + 40*round); l.Size() != want {
			t.Errorf("size %d, want %d", l.Size(), want)
		}
		for i := range 40 {
			index, err := l.Append(event(i))
			must(t, err)
			if want := int64(1 + 40*round + i); index != want {
				t.Errorf("index %d, want %d", index, want)
			}
		}
		for i := range l.Size() {
			got, err := l.Record(i)
			must(t, err)
			switch {
			case i == 0 && (got.Code != audit.CodeBegin || got.Detail["origin"] != origin || got.Detail["identity"] != string(key.ID())):
				t.Errorf("first entry is %+v", got)
			case i > 0 && !reflect.DeepEqual(got, event(int(i-1)%40)):
				t.Errorf("entry %d is %+v", i, got)
			}
		}
		for _, i := range []int64{-1, l.Size()} {
			if _, err := l.Record(i); !errors.Is(err, audit.ErrNoEntry) {
				t.Errorf("entry %d: %v", i, err)
			}
		}
		note, err := l.Checkpoint()
		must(t, err)
		if first == nil {
			first = note
		}
		must(t, l.Close())
		must(t, l.Close())
		if _, err := l.Append(event(1)); !errors.Is(err, audit.ErrClosed) {
			t.Errorf("append after close: %v", err)
		}
		report, err := audit.Verify(dir, first, note)
		must(t, err)
		tree, err := audit.OpenCheckpoint(note, key.ID(), origin)
		must(t, err)
		if report.Size != tree.N || report.Signed != tree.N || report.Root != tree.Hash || report.Origin != origin || report.Identity != key.ID() || report.Torn != 0 {
			t.Errorf("report %+v of tree %+v", report, tree)
		}
	}
	if _, err := audit.Open(dir, newKey(t), origin); err == nil {
		t.Error("opened under another identity")
	}
	if _, err := audit.Open(dir, key, origin+"x"); err == nil {
		t.Error("opened under another origin")
	}
	if _, err := audit.Open(filepath.Join(dir, "no"), key, origin); err == nil || !strings.Contains(err.Error(), "init") {
		t.Errorf("opened a folder that is not there: %v", err)
	}
	if _, err := audit.Open(t.TempDir(), key, "two words"); err == nil {
		t.Error("malformed origin accepted")
	}
}

// TestTree: the stored hashes are tlog's own.
func TestTree(t *testing.T) {
	dir, key := t.TempDir(), newKey(t)
	fill(t, dir, key, 70)
	got, err := os.ReadFile(filepath.Join(dir, "hashes"))
	must(t, err)
	l, err := audit.Open(dir, key, origin)
	must(t, err)
	defer l.Close()
	var want []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) (out []tlog.Hash, err error) {
		for _, i := range indexes {
			out = append(out, want[i])
		}
		return out, nil
	})
	for i := range l.Size() {
		e, err := l.Record(i)
		must(t, err)
		hashes, err := tlog.StoredHashes(i, audit.EncodeForTest(i, e), reader)
		must(t, err)
		want = append(want, hashes...)
	}
	var flat []byte
	for _, h := range want {
		flat = append(flat, h[:]...)
	}
	if !bytes.Equal(got, flat) {
		t.Error("stored hashes differ from tlog's")
	}
}

func TestProofs(t *testing.T) {
	dir, key := t.TempDir(), newKey(t)
	fill(t, dir, key, 9)
	l, err := audit.Open(dir, key, origin)
	must(t, err)
	defer l.Close()
	old, err := l.Checkpoint()
	must(t, err)
	oldTree, err := audit.OpenCheckpoint(old, key.ID(), origin)
	must(t, err)
	for i := range 30 {
		_, err := l.Append(event(i))
		must(t, err)
	}
	for i := range l.Size() {
		p, err := l.Proof(i)
		must(t, err)
		want, err := l.Record(i)
		must(t, err)
		if got, err := p.Check(key.ID(), origin); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("proof of entry %d: %+v, %v", i, got, err)
		}
		for name, change := range map[string]func(p *audit.Inclusion){
			"index":      func(p *audit.Inclusion) { p.Index = (p.Index + 1) % l.Size() },
			"record":     func(p *audit.Inclusion) { p.Record = audit.EncodeForTest(i, event(99)) },
			"path":       func(p *audit.Inclusion) { p.Path = p.Path[1:] },
			"checkpoint": func(p *audit.Inclusion) { p.Checkpoint = old },
		} {
			bad := *p
			change(&bad)
			if _, err := bad.Check(key.ID(), origin); !errors.Is(err, audit.ErrProof) {
				t.Errorf("entry %d, %s changed: %v", i, name, err)
			}
		}
		if _, err := p.Check(newKey(t).ID(), origin); !errors.Is(err, audit.ErrProof) {
			t.Errorf("proof under another identity: %v", err)
		}
	}
	proof, note, err := l.Consistency(oldTree.N)
	must(t, err)
	tree, err := audit.OpenCheckpoint(note, key.ID(), origin)
	must(t, err)
	must(t, tlog.CheckTree(proof, tree.N, tree.Hash, oldTree.N, oldTree.Hash))
	for _, n := range []int64{0, l.Size() + 1} {
		if _, _, err := l.Consistency(n); !errors.Is(err, audit.ErrNoEntry) {
			t.Errorf("consistency with %d entries: %v", n, err)
		}
	}
	if _, err := l.Proof(l.Size()); !errors.Is(err, audit.ErrNoEntry) {
		t.Errorf("proof of no entry: %v", err)
	}
}

// TestFlippedBits: of 1,000 random single bits of a log, Verify detects every one,
// and Open refuses too.
func TestFlippedBits(t *testing.T) {
	dir, key := t.TempDir(), newKey(t)
	fill(t, dir, key, 90)
	_, err := audit.Verify(dir)
	must(t, err)
	names := []string{"records", "hashes", "checkpoint"}
	content := map[string][]byte{}
	for _, name := range names {
		content[name], err = os.ReadFile(filepath.Join(dir, name))
		must(t, err)
	}
	random := rand.New(rand.NewPCG(5, 6))
	for i := range 1500 {
		name := names[i%3]
		path, b := filepath.Join(dir, name), content[name]
		at := random.IntN(len(b))
		if name == "checkpoint" {
			at = i / 3 % len(b) // all of it
		}
		bit := byte(1) << random.IntN(8)
		b[at] ^= bit
		must(t, os.WriteFile(path, b, 0o600))
		if r, err := audit.Verify(dir); !errors.Is(err, audit.ErrDamaged) {
			t.Fatalf("%s: bit %#x of byte %d flipped: %+v, %v", name, bit, at, r, err)
		}
		if i%10 == 0 {
			if _, err := audit.Open(dir, key, origin); !errors.Is(err, audit.ErrDamaged) {
				t.Fatalf("%s: bit %#x of byte %d flipped: Open says %v", name, bit, at, err)
			}
		}
		b[at] ^= bit
		must(t, os.WriteFile(path, b, 0o600))
	}
	_, err = audit.Verify(dir)
	must(t, err)
}

func TestTamperedLog(t *testing.T) {
	key, sound := newKey(t), t.TempDir()
	fill(t, sound, key, 60)
	for name, c := range map[string]struct {
		change func(t *testing.T, dir string)
		entry  string
	}{
		"end cut from both files": {func(t *testing.T, dir string) {
			must(t, os.Truncate(filepath.Join(dir, "hashes"), 32*tlog.StoredHashCount(40)))
		}, "entry 40"},
		"records cut":         {func(t *testing.T, dir string) { must(t, os.Truncate(filepath.Join(dir, "records"), 3000)) }, "entry"},
		"records removed":     {func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, "records"))) }, "entry 0"},
		"hashes removed":      {func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, "hashes"))) }, "entry 0"},
		"checkpoint removed":  {func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, "checkpoint"))) }, "checkpoint"},
		"checkpoint emptied":  {func(t *testing.T, dir string) { must(t, os.Truncate(filepath.Join(dir, "checkpoint"), 0)) }, "checkpoint"},
		"hashes zeroed":       {func(t *testing.T, dir string) { zero(t, filepath.Join(dir, "hashes"), 320, 64) }, "entry 6"},
		"checkpoint and both": {func(t *testing.T, dir string) { fillOther(t, dir) }, "identity"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "audit")
			must(t, os.CopyFS(dir, os.DirFS(sound)))
			c.change(t, dir)
			_, err := audit.Open(dir, key, origin)
			if err == nil || !strings.Contains(err.Error(), c.entry) {
				t.Errorf("Open: %v, want it to name %q", err, c.entry)
			}
		})
	}
}

func zero(t *testing.T, path string, at, n int) {
	b, err := os.ReadFile(path)
	must(t, err)
	clear(b[at : at+n])
	must(t, os.WriteFile(path, b, 0o600))
}

func fillOther(t *testing.T, dir string) {
	for _, name := range []string{"records", "hashes", "checkpoint"} {
		must(t, os.Remove(filepath.Join(dir, name)))
	}
	fill(t, dir, newKey(t), 3)
}

// TestRewrittenLog: a whole new log under the right key passes by itself, and fails
// against a checkpoint that somebody kept.
func TestRewrittenLog(t *testing.T) {
	dir, key := t.TempDir(), newKey(t)
	fill(t, dir, key, 20)
	kept, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
	must(t, err)
	other := t.TempDir()
	l, err := audit.Open(other, key, origin)
	must(t, err)
	for i := range 30 {
		_, err := l.Append(event(1000 + i))
		must(t, err)
	}
	must(t, l.Close())
	_, err = audit.Verify(other)
	must(t, err)
	if _, err := audit.Verify(other, kept); !errors.Is(err, audit.ErrDamaged) {
		t.Errorf("rewritten log passes: %v", err)
	}
	short := t.TempDir()
	fill(t, short, key, 10)
	if _, err := audit.Verify(short, kept); !errors.Is(err, audit.ErrDamaged) {
		t.Errorf("shortened log passes: %v", err)
	}
	if _, err := audit.Verify(dir, []byte("note")); err == nil {
		t.Error("malformed checkpoint accepted")
	}
}

// A log goes on under another identity when the one before says so, and only then.
func TestHandover(t *testing.T) {
	dir, before, after := t.TempDir(), newKey(t), newKey(t)
	fill(t, dir, before, 20)
	kept, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
	must(t, err)
	if _, err := audit.Open(dir, after, origin); !errors.Is(err, audit.ErrIdentity) {
		t.Fatalf("opened under another identity: %v", err)
	}
	if err := audit.Handover(dir, newKey(t), after, origin, 0); !errors.Is(err, audit.ErrIdentity) {
		t.Fatalf("handed over by a stranger: %v", err)
	}
	// An older copy: the entry of the handover is none of those that it lacks.
	records, err := os.ReadFile(filepath.Join(dir, "records"))
	must(t, err)
	if err := audit.Handover(dir, before, after, origin, 22); !errors.Is(err, audit.ErrDamaged) || !strings.Contains(err.Error(), dir) {
		t.Fatalf("an older copy was handed over: %v", err)
	}
	if now, err := os.ReadFile(filepath.Join(dir, "records")); err != nil || !bytes.Equal(now, records) {
		t.Fatalf("an older copy was changed: %v", err)
	}
	for _, least := range []int64{21, 22} { // the second time, after a crash between this and what follows, it changes nothing
		must(t, audit.Handover(dir, before, after, origin, least))
	}
	if err := audit.Handover(dir, before, after, origin, 23); !errors.Is(err, audit.ErrDamaged) {
		t.Fatalf("an older copy that is the next identity's already: %v", err)
	}
	if _, err := audit.Open(dir, before, origin); !errors.Is(err, audit.ErrIdentity) {
		t.Fatalf("opened under the identity before: %v", err)
	}
	fill(t, dir, after, 5)
	report, err := audit.Verify(dir, kept)
	must(t, err)
	if report.Size != 27 || report.Signed != 27 || report.Identity != after.ID() {
		t.Errorf("report %+v", report)
	}

	// A checkpoint of the identity before that says more than it had is none.
	l, err := audit.Open(dir, after, origin)
	must(t, err)
	mine, err := l.Checkpoint()
	must(t, err)
	must(t, l.Close())
	_, tree, err := audit.ParseCheckpointForTest(strings.SplitN(string(mine), "\n\n", 2)[0] + "\n")
	must(t, err)
	forged, err := audit.SignForTest(before, origin, tree)
	must(t, err)
	if _, err := audit.Verify(dir, forged); err == nil {
		t.Error("a checkpoint that the identity before signed after the handover passes")
	}
}

// An entry that claims a handover, and is not signed by the identity before, breaks the log.
func TestForgedHandover(t *testing.T) {
	dir, key, thief := t.TempDir(), newKey(t), newKey(t)
	l, err := audit.Open(dir, key, origin)
	must(t, err)
	_, err = l.Append(audit.Event{Code: audit.CodeIdentity, Detail: map[string]string{"identity": string(thief.ID()), "signature": "AAAA"}})
	must(t, err)
	must(t, l.Close())
	if _, err := audit.Verify(dir); !errors.Is(err, audit.ErrDamaged) {
		t.Errorf("forged handover: %v", err)
	}
}

func TestTornTail(t *testing.T) {
	for name, tear := range map[string]func(records, hashes []byte) ([]byte, []byte){
		"half a record":        func(r, h []byte) ([]byte, []byte) { return append(r, 0, 0, 0, 90, 1, 2, 3), h },
		"half a length":        func(r, h []byte) ([]byte, []byte) { return append(r, 0, 0), h },
		"records, half a hash": func(r, h []byte) ([]byte, []byte) { return append(r, r...), append(h, h[:20]...) },
		"zeros at both ends": func(r, h []byte) ([]byte, []byte) {
			return append(r, make([]byte, 700)...), append(h, make([]byte, 512)...)
		},
		"hashes with a hole": func(r, h []byte) ([]byte, []byte) {
			return append(r, r...), append(append(h, make([]byte, 512)...), h[:512]...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, key := t.TempDir(), newKey(t)
			fill(t, dir, key, 12)
			records, err := os.ReadFile(filepath.Join(dir, "records"))
			must(t, err)
			hashes, err := os.ReadFile(filepath.Join(dir, "hashes"))
			must(t, err)
			r, h := tear(bytes.Clone(records), bytes.Clone(hashes))
			must(t, os.WriteFile(filepath.Join(dir, "records"), r, 0o600))
			must(t, os.WriteFile(filepath.Join(dir, "hashes"), h, 0o600))
			report, err := audit.Verify(dir)
			must(t, err)
			if want := int64(len(r) - len(records) + len(h) - len(hashes)); report.Torn != want || report.Size != 13 {
				t.Errorf("report %+v, want 13 entries and %d torn bytes", report, want)
			}
			l, err := audit.Open(dir, key, origin)
			must(t, err)
			if !strings.Contains(l.Recovered(), "cut off") {
				t.Errorf("recovered: %q", l.Recovered())
			}
			last, err := l.Record(l.Size() - 1)
			must(t, err)
			if l.Size() != 14 || last.Code != audit.CodeRecovered {
				t.Errorf("size %d, last %+v", l.Size(), last)
			}
			must(t, l.Close())
			_, err = audit.Verify(dir)
			must(t, err)
		})
	}
}

func TestInUse(t *testing.T) {
	dir, key := t.TempDir(), newKey(t)
	l, err := audit.Open(dir, key, origin)
	must(t, err)
	start := time.Now()
	if _, err := audit.Open(dir, key, origin); !errors.Is(err, store.ErrInUse) || time.Since(start) > time.Second {
		t.Errorf("second Open: %v after %v", err, time.Since(start))
	}
	must(t, l.Close())
	l, err = audit.Open(dir, key, origin)
	must(t, err)
	must(t, l.Close())
}

func TestEventsAreCutAndRefused(t *testing.T) {
	dir, key := t.TempDir(), newKey(t)
	l, err := audit.Open(dir, key, origin)
	must(t, err)
	defer l.Close()
	many := map[string]string{}
	for i := range 65 {
		many[fmt.Sprint(i)] = ""
	}
	for name, e := range map[string]audit.Event{
		"no code": {}, "spaces": {Code: "a b"}, "long": {Code: strings.Repeat("A", 65)}, "negative": {Code: "A", Time: -1},
		"detail": {Code: "A", Detail: map[string]string{"": "x"}}, "many": {Code: "A", Detail: many},
	} {
		if _, err := l.Append(e); !errors.Is(err, audit.ErrEvent) {
			t.Errorf("%s: %v", name, err)
		}
	}
	i, err := l.Append(audit.Event{Code: "G-TX.match_1", Subject: "a\xffb", Intent: strings.Repeat("é", 300), Detail: map[string]string{"text": strings.Repeat("€", 5000)}})
	must(t, err)
	got, err := l.Record(i)
	must(t, err)
	if got.Subject != "a\uFFFDb" || len(got.Intent) > 256 || !strings.HasSuffix(got.Intent, "é…") || len(got.Detail["text"]) > audit.MaxText || got.Time == 0 {
		t.Errorf("stored %d bytes of intent, %d of text, subject %q, time %d", len(got.Intent), len(got.Detail["text"]), got.Subject, got.Time)
	}
}

func TestGroups(t *testing.T) {
	dir, key := t.TempDir(), newKey(t)
	l, err := audit.Open(dir, key, origin)
	must(t, err)
	const writers, each = 32, 20
	seen := make([]bool, 1+writers*each)
	var mu sync.Mutex
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			for n := range each {
				e := audit.Event{Code: "X", Subject: fmt.Sprint(w, "/", n)}
				i, err := l.Append(e)
				if err != nil {
					t.Error(err)
					return
				}
				if got, err := l.Record(i); err != nil || got.Subject != e.Subject {
					t.Errorf("entry %d: %+v, %v", i, got, err)
				}
				if _, err := l.Checkpoint(); err != nil {
					t.Error(err)
				}
				mu.Lock()
				if seen[i] {
					t.Errorf("index %d was given twice", i)
				}
				seen[i] = true
				mu.Unlock()
			}
		})
	}
	group.Wait()
	must(t, l.Close())
	r, err := audit.Verify(dir)
	must(t, err)
	if r.Size != int64(len(seen)) {
		t.Errorf("size %d, want %d", r.Size, len(seen))
	}
}

// workload runs a log on a disk until it fails or is through, and returns what was
// acknowledged.
func workload(disk audit.Folder, key *identity.Key) (acknowledged map[int64]audit.Event, err error) {
	acknowledged = map[int64]audit.Event{}
	for round := range 2 {
		l, err := audit.OpenIn(disk, key, origin)
		if err != nil {
			return acknowledged, err
		}
		for n := range 35 { // past one renewal of the checkpoint over both rounds
			e := event(round*35 + n)
			i, err := l.Append(e)
			if err != nil {
				return acknowledged, err
			}
			acknowledged[i] = e
		}
		if err := l.Close(); err != nil {
			return acknowledged, err
		}
	}
	return acknowledged, nil
}

// TestPowerLossAtEveryOperation ends the world at each write, truncation and sync, with
// some part of what was not synced on the disk: the next start finds every
// acknowledged event, and goes on.
func TestPowerLossAtEveryOperation(t *testing.T) {
	key := newKey(t)
	counter := audit.NewMemoryDisk()
	_, err := workload(counter, key)
	must(t, err)
	if counter.Ops < 280 {
		t.Fatalf("only %d operations", counter.Ops)
	}
	for failAt := 1; failAt <= counter.Ops; failAt++ {
		for seed := range uint64(4) {
			disk := audit.NewMemoryDisk()
			disk.FailAt, disk.Dead, disk.Stored = failAt, true, seed%2 == 0
			acknowledged, err := workload(disk, key)
			if !errors.Is(err, audit.ErrPower) {
				t.Fatalf("operation %d failed and nobody noticed: %v", failAt, err)
			}
			after := disk.AfterPowerLoss(rand.New(rand.NewPCG(seed, uint64(failAt))))
			l, err := audit.OpenIn(after, key, origin)
			if err != nil {
				t.Fatalf("power lost at operation %d, seed %d: %v", failAt, seed, err)
			}
			for i, want := range acknowledged {
				if got, err := l.Record(i); err != nil || !reflect.DeepEqual(got, want) {
					t.Fatalf("power lost at operation %d, seed %d: acknowledged entry %d is %+v, %v", failAt, seed, i, got, err)
				}
			}
			_, err = l.Append(event(1))
			must(t, err)
			must(t, l.Close())
			_, err = audit.VerifyIn(after)
			must(t, err)
		}
	}
}

// TestFailedOperationSticks: after one failed write or sync everything is refused,
// although the disk works again; and what failed, stored or not, harms no restart.
func TestFailedOperationSticks(t *testing.T) {
	key := newKey(t)
	for _, stored := range []bool{false, true} {
		for fail := 1; fail <= 4; fail++ {
			disk := audit.NewMemoryDisk()
			l, err := audit.OpenIn(disk, key, origin)
			must(t, err)
			_, err = l.Append(event(1))
			must(t, err)
			disk.FailAt, disk.Stored = disk.Ops+fail, stored
			if _, err := l.Append(event(2)); !errors.Is(err, audit.ErrFailed) || !errors.Is(err, audit.ErrPower) {
				t.Fatalf("operation %d failed: %v", fail, err)
			}
			ops := disk.Ops
			for range 3 {
				if _, err := l.Append(event(3)); !errors.Is(err, audit.ErrFailed) {
					t.Errorf("append after a failure: %v", err)
				}
			}
			if disk.Ops != ops {
				t.Error("a failed log goes on writing")
			}
			if !errors.Is(l.Failed(), audit.ErrFailed) {
				t.Error("Failed is silent")
			}
			if l.Size() != 2 {
				t.Errorf("size %d, want 2", l.Size())
			}
			must(t, l.Close())
			l, err = audit.OpenIn(disk, key, origin)
			must(t, err)
			if got, err := l.Record(1); err != nil || !reflect.DeepEqual(got, event(1)) {
				t.Errorf("acknowledged entry: %+v, %v", got, err)
			}
			must(t, l.Close())
		}
	}
}

// TestSyncedBeforeReturn: when Append returns, nothing is left in the cache.
func TestSyncedBeforeReturn(t *testing.T) {
	disk := audit.NewMemoryDisk()
	l, err := audit.OpenIn(disk, newKey(t), origin)
	must(t, err)
	if !disk.Clean() {
		t.Error("Open returned before its entry was on disk")
	}
	for i := range 200 {
		_, err := l.Append(event(i))
		must(t, err)
		if !disk.Clean() {
			t.Fatalf("Append of event %d returned before it was on disk", i)
		}
	}
}

func TestEventGolden(t *testing.T) {
	e := audit.Event{Time: 1_800_000_000, Code: "RELEASE", Intent: "i", Session: "s", Subject: "treasury", Detail: map[string]string{"b": "2", "a": "1"}}
	want, err := os.ReadFile("testdata/event.txt")
	must(t, err)
	if got := hex.EncodeToString(audit.EncodeForTest(7, e)); got != strings.TrimSpace(string(want)) {
		t.Errorf("canonical bytes of Event changed:\n got %s\nwant %s", got, want)
	}
	want, err = os.ReadFile("testdata/checkpoint.txt")
	must(t, err)
	if got := audit.FormatCheckpointForTest(origin, tlog.Tree{N: 7, Hash: tlog.RecordHash([]byte("x"))}); got != string(want) {
		t.Errorf("text of a checkpoint changed:\n got %q\nwant %q", got, want)
	}
}

func FuzzParseEvent(f *testing.F) {
	f.Add(audit.EncodeForTest(7, audit.Event{Time: 1, Code: "A", Detail: map[string]string{"a": "b", "c": "d"}}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if i, e, err := audit.ParseEvent(raw); err == nil && !bytes.Equal(audit.EncodeForTest(i, e), raw) {
			t.Errorf("two encodings of %+v", e)
		}
	})
}

func FuzzParseCheckpoint(f *testing.F) {
	f.Add(audit.FormatCheckpointForTest("o", tlog.Tree{N: 3}))
	f.Fuzz(func(t *testing.T, text string) {
		if origin, tree, err := audit.ParseCheckpointForTest(text); err == nil && audit.FormatCheckpointForTest(origin, tree) != text {
			t.Errorf("two texts of %q, %+v", origin, tree)
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	l, err := audit.Open(b.TempDir(), newKey(b), origin)
	must(b, err)
	defer l.Close()
	for b.Loop() {
		_, err := l.Append(event(7))
		must(b, err)
	}
}

func BenchmarkAppendParallel(b *testing.B) {
	l, err := audit.Open(b.TempDir(), newKey(b), origin)
	must(b, err)
	defer l.Close()
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := l.Append(event(7)); err != nil {
				b.Error(err)
			}
		}
	})
}
