package journal_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"go.etcd.io/bbolt"

	"coffer/canon"
	"coffer/journal"
	"coffer/store"
)

const (
	start   = int64(1_800_000_000)
	expires = start + 1000
)

func id(name string, n int) canon.Digest { return canon.Sum(fmt.Appendf(nil, "%s %d", name, n)) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// disk is a journal on its file that can be closed and opened again.
type disk struct {
	t    testing.TB
	path string
	db   *bbolt.DB
	*journal.Journal
}

func newDisk(t testing.TB) *disk {
	t.Helper()
	d := &disk{t: t, path: filepath.Join(t.TempDir(), "signer.db")}
	var err error
	d.db, err = store.Create(d.path)
	must(t, err)
	d.Journal, err = journal.Open(d.db, start)
	must(t, err)
	t.Cleanup(func() { _ = d.db.Close() })
	return d
}

func (d *disk) reopen() {
	d.t.Helper()
	must(d.t, d.db.Close())
	var err error
	d.db, err = store.Open(d.path)
	must(d.t, err)
	d.Journal, err = journal.Open(d.db, start)
	must(d.t, err)
}

// reservation of intent n for a slot, with transaction and session of their own.
func reservation(intent, nonce int) journal.Reservation {
	return journal.Reservation{
		Chain: 31337, Account: "0xA11ce", Nonce: uint64(nonce), Intent: id("intent", intent), Initiator: "payroll",
		Reference: fmt.Sprint("invoice ", intent), Expires: expires, Transaction: id("transaction", intent), Session: id("session", intent), Time: start,
	}
}

func want(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func TestOnePaymentFromReserveToSigned(t *testing.T) {
	d, r := newDisk(t), reservation(1, 7)
	must(t, d.OpenSession(r.Session, "sign"))
	v, err := d.View(r.Chain, r.Account, r.Nonce, r.Intent, r.Initiator, r.Reference)
	must(t, err)
	if v.SlotHolder != nil || v.IntentSlot != nil || v.Reference != nil || v.LastTime != start {
		t.Errorf("view of an empty journal: %+v", v)
	}
	want(t, "release before reserve", d.MarkReleased(r.Intent, r.Session, r.Transaction), journal.ErrUnknown)
	for _, step := range []struct {
		state journal.State
		do    func() error
	}{
		{journal.Reserved, func() error { return d.Reserve(r) }},
		{journal.Reserved, func() error { return d.Reserve(r) }}, // again is harmless
		{journal.Released, func() error { return d.MarkReleased(r.Intent, r.Session, r.Transaction) }},
		{journal.Released, func() error { return d.MarkReleased(r.Intent, r.Session, r.Transaction) }},
		{journal.Signed, func() error { return d.MarkSigned(r.Intent, r.Session, r.Transaction) }},
		{journal.Signed, func() error { return d.Reserve(r) }},
		{journal.Signed, func() error { return d.MarkReleased(r.Intent, r.Session, r.Transaction) }},
	} {
		must(t, step.do())
		d.reopen()
		v, err := d.View(r.Chain, r.Account, r.Nonce, r.Intent, r.Initiator, r.Reference)
		must(t, err)
		wantEntry := &journal.Entry{
			Intent: r.Intent, Slot: journal.Slot{Chain: 31337, Account: "0xA11ce", Nonce: 7}, State: step.state, Initiator: "payroll",
			Reference: "invoice 1", Expires: expires, Transactions: []canon.Digest{r.Transaction}, Updated: start,
		}
		if !reflect.DeepEqual(v.SlotHolder, wantEntry) || !reflect.DeepEqual(v.IntentSlot, wantEntry) || v.Reference == nil || *v.Reference != r.Intent {
			t.Errorf("view: %+v\nwant: %+v", v.SlotHolder, wantEntry)
		}
	}
	want(t, "abandon of signed", d.Abandon(r.Intent, start), journal.ErrReleased)
}

func TestSignNeedsRelease(t *testing.T) {
	d, r := newDisk(t), reservation(1, 7)
	must(t, d.Reserve(r))
	want(t, "sign before release", d.MarkSigned(r.Intent, r.Session, r.Transaction), journal.ErrUnknown)
	r2 := reservation(2, 8)
	r2.Release = true
	must(t, d.Reserve(r2))
	must(t, d.MarkSigned(r2.Intent, r2.Session, r2.Transaction))
}

func TestTakenSlot(t *testing.T) {
	for _, c := range []struct {
		name    string
		prepare func(d *disk, first journal.Reservation) error
		second  func(*journal.Reservation)
		want    error
	}{
		{"reserved", nil, nil, journal.ErrTaken},
		{"reserved, at its expiry", nil, func(r *journal.Reservation) { r.Time = expires }, journal.ErrTaken},
		{"reserved, expired", nil, func(r *journal.Reservation) { r.Time = expires + 1 }, nil},
		{"reserved, expired by the journal's time", func(d *disk, _ journal.Reservation) error { return d.AdvanceTime(expires + 1) }, nil, nil},
		{"released, expired", func(d *disk, r journal.Reservation) error { return d.MarkReleased(r.Intent, r.Session, r.Transaction) },
			func(r *journal.Reservation) { r.Time = expires + 1 }, journal.ErrTaken},
		{"abandoned", func(d *disk, r journal.Reservation) error { return d.Abandon(r.Intent, start) }, nil, nil},
		{"released, replaced by a cancel", func(d *disk, r journal.Reservation) error {
			return d.MarkReleased(r.Intent, r.Session, r.Transaction)
		}, func(r *journal.Reservation) { first := id("intent", 1); r.Replaces = &first }, nil},
		{"reserved, replaced by a cancel", nil, func(r *journal.Reservation) { first := id("intent", 1); r.Replaces = &first }, nil},
		{"cancel of another intent", nil, func(r *journal.Reservation) { other := id("intent", 9); r.Replaces = &other }, journal.ErrTaken},
		{"other account", nil, func(r *journal.Reservation) { r.Account = "0xB0b" }, nil},
		{"other chain", nil, func(r *journal.Reservation) { r.Chain = 1337 }, nil},
		{"other nonce", nil, func(r *journal.Reservation) { r.Nonce = 8 }, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, first, second := newDisk(t), reservation(1, 7), reservation(2, 7)
			must(t, d.Reserve(first))
			if c.prepare != nil {
				must(t, c.prepare(d, first))
			}
			if c.second != nil {
				c.second(&second)
			}
			want(t, "second intent", d.Reserve(second), c.want)
			d.reopen() // the check at open must agree with what was written
			if c.want != nil || second.Account != first.Account || second.Chain != first.Chain || second.Nonce != first.Nonce {
				return
			}
			// The first lost its slot for ever.
			first.Time = expires + 2
			if err := d.Reserve(first); !errors.Is(err, journal.ErrTaken) && !errors.Is(err, journal.ErrAbandoned) {
				t.Errorf("first intent again: %v", err)
			}
			if err := d.MarkReleased(first.Intent, first.Session, first.Transaction); !errors.Is(err, journal.ErrTaken) && !errors.Is(err, journal.ErrAbandoned) {
				t.Errorf("first intent released: %v", err)
			}
			if err := d.MarkSigned(first.Intent, first.Session, first.Transaction); err == nil {
				t.Error("first intent signed")
			}
			first.Nonce++
			if err := d.Reserve(first); !errors.Is(err, journal.ErrOtherSlot) && !errors.Is(err, journal.ErrAbandoned) {
				t.Errorf("first intent, other slot: %v", err)
			}
		})
	}
}

func TestFeeBump(t *testing.T) {
	d, r := newDisk(t), reservation(1, 7)
	must(t, d.Reserve(r))
	must(t, d.MarkReleased(r.Intent, r.Session, r.Transaction))
	bump := r
	bump.Transaction, bump.Session = id("transaction", 100), id("session", 100)
	must(t, d.Reserve(bump))
	must(t, d.MarkReleased(r.Intent, bump.Session, bump.Transaction))

	mixed := r
	mixed.Transaction = bump.Transaction // in the session of the first
	want(t, "second transaction in one session", d.Reserve(mixed), journal.ErrOtherTransaction)
	want(t, "release across sessions", d.MarkReleased(r.Intent, r.Session, bump.Transaction), journal.ErrOtherTransaction)
	want(t, "sign across sessions", d.MarkSigned(r.Intent, bump.Session, r.Transaction), journal.ErrOtherTransaction)
	other := reservation(2, 8)
	other.Session = r.Session
	want(t, "second intent in one session", d.Reserve(other), journal.ErrOtherTransaction)
	v, err := d.View(other.Chain, other.Account, other.Nonce, other.Intent, other.Initiator, other.Reference)
	must(t, err)
	if v.SlotHolder != nil || v.Reference != nil || v.IntentSlot != nil {
		t.Errorf("a refused reservation left something: %+v", v)
	}

	for i := 2; i < journal.MaxTransactions; i++ {
		bump.Transaction, bump.Session = id("transaction", 1000+i), id("session", 1000+i)
		must(t, d.Reserve(bump))
	}
	bump.Transaction, bump.Session = id("transaction", 1), id("session", 5000)
	must(t, d.Reserve(bump)) // one that is known already
	bump.Transaction, bump.Session = id("transaction", 5001), id("session", 5001)
	want(t, "one too many", d.Reserve(bump), journal.ErrTooMany)
	d.reopen()
}

func TestReference(t *testing.T) {
	d, first, second := newDisk(t), reservation(1, 7), reservation(2, 8)
	must(t, d.Reserve(first))
	second.Reference = first.Reference
	want(t, "same reference", d.Reserve(second), journal.ErrReference)
	second.Initiator = "sales"
	must(t, d.Reserve(second))
	for n := 3; n < 5; n++ {
		none := reservation(n, n+6)
		none.Reference = ""
		must(t, d.Reserve(none))
		v, err := d.View(none.Chain, none.Account, none.Nonce, none.Intent, none.Initiator, "")
		must(t, err)
		if v.Reference != nil {
			t.Error("an empty reference is taken")
		}
	}
	first.Reference = "changed"
	want(t, "same intent, other reference", d.Reserve(first), journal.ErrInvalid)
}

func TestSessionsOpenOnce(t *testing.T) {
	d := newDisk(t)
	must(t, d.OpenSession(id("session", 1), "sign"))
	want(t, "again", d.OpenSession(id("session", 1), "sign"), journal.ErrSeen)
	d.reopen()
	want(t, "after restart", d.OpenSession(id("session", 1), "keygen"), journal.ErrSeen)
	r := reservation(2, 7)
	must(t, d.Reserve(r))
	want(t, "after a reservation", d.OpenSession(r.Session, "sign"), journal.ErrSeen)
	want(t, "no id", d.OpenSession(canon.Digest{}, "sign"), journal.ErrInvalid)
	want(t, "no kind", d.OpenSession(id("session", 3), ""), journal.ErrInvalid)
	// A session that was opened only, with nothing reserved in it.
	want(t, "release in an empty session", d.MarkReleased(r.Intent, id("session", 1), r.Transaction), journal.ErrUnknown)
}

func TestTimeNeverGoesBack(t *testing.T) {
	d := newDisk(t)
	last := func() int64 {
		v, err := d.View(1, "a", 1, id("intent", 1), "", "")
		must(t, err)
		return v.LastTime
	}
	must(t, d.AdvanceTime(start+50))
	must(t, d.AdvanceTime(start+10))
	d.reopen() // opens at start
	if last() != start+50 {
		t.Errorf("last time %d, want %d", last(), start+50)
	}
	r := reservation(1, 7)
	r.Time = start + 60
	must(t, d.Reserve(r))
	if last() != start+60 {
		t.Errorf("last time %d, want %d", last(), start+60)
	}
	want(t, "negative", d.AdvanceTime(-1), journal.ErrInvalid)
}

func TestReserveRefusesMalformed(t *testing.T) {
	d := newDisk(t)
	zero, self := canon.Digest{}, id("intent", 1)
	for name, change := range map[string]func(*journal.Reservation){
		"intent":      func(r *journal.Reservation) { r.Intent = zero },
		"transaction": func(r *journal.Reservation) { r.Transaction = zero },
		"session":     func(r *journal.Reservation) { r.Session = zero },
		"account":     func(r *journal.Reservation) { r.Account = "" },
		"long":        func(r *journal.Reservation) { r.Account = strings.Repeat("a", 257) },
		"reference":   func(r *journal.Reservation) { r.Reference = strings.Repeat("a", 257) },
		"expires":     func(r *journal.Reservation) { r.Expires = -5 },
		"time":        func(r *journal.Reservation) { r.Time = 0 },
		"replaces 0":  func(r *journal.Reservation) { r.Replaces = &zero },
		"itself":      func(r *journal.Reservation) { r.Replaces = &self },
	} {
		r := reservation(1, 7)
		change(&r)
		want(t, name, d.Reserve(r), journal.ErrInvalid)
	}
	want(t, "abandon of nothing", d.Abandon(self, start), journal.ErrUnknown)
}

// TestRace lets many intents ask for the same few slots at once: each slot goes to one.
func TestRace(t *testing.T) {
	d := newDisk(t)
	const intents, slots = 120, 6
	var won [slots]atomic.Int32
	var group sync.WaitGroup
	for n := range intents {
		group.Go(func() {
			r := reservation(n, n%slots)
			r.Release = n%2 == 0
			switch err := d.Reserve(r); {
			case err == nil:
				won[n%slots].Add(1)
				v, err := d.View(r.Chain, r.Account, r.Nonce, r.Intent, r.Initiator, r.Reference)
				if err != nil || v.SlotHolder == nil || v.SlotHolder.Intent != r.Intent {
					t.Errorf("intent %d won its slot and does not hold it: %v", n, err)
				}
			case !errors.Is(err, journal.ErrTaken):
				t.Errorf("intent %d: %v", n, err)
			}
		})
	}
	group.Wait()
	for i := range won {
		if won[i].Load() != 1 {
			t.Errorf("slot %d went to %d intents", i, won[i].Load())
		}
	}
	d.reopen()
	n := 0
	must(t, d.Export(func(journal.Entry) error { n++; return nil }))
	if n != slots {
		t.Errorf("%d entries, want %d: refused reservations left something", n, slots)
	}
}

func TestFullDiskStopsTheJournal(t *testing.T) {
	d := newDisk(t)
	must(t, d.Reserve(reservation(1, 1)))
	d.db.MaxSize = 1
	var err error
	for n := 2; err == nil && n < 500; n++ {
		err = d.Reserve(reservation(n, n))
	}
	want(t, "write on a full disk", err, store.ErrFailed)
	d.db.MaxSize = 0
	want(t, "write after it", d.Reserve(reservation(1, 1)), store.ErrFailed)
	want(t, "session after it", d.OpenSession(id("session", 9999), "sign"), store.ErrFailed)
	want(t, "failed", d.Failed(), store.ErrFailed)
	d.reopen()
	must(t, d.Reserve(reservation(1, 1)))
}

// TestFlippedBits: a journal read from a damaged file is the same or ErrCorrupt.
func TestFlippedBits(t *testing.T) {
	d := newDisk(t)
	for n := range 30 {
		r := reservation(n, n)
		r.Release = n%3 == 0
		must(t, d.Reserve(r))
	}
	read := func() (all []journal.Entry, err error) {
		db, err := store.Open(d.path)
		if err != nil {
			return nil, err
		}
		defer db.Close()
		j, err := journal.Open(db, 0)
		if err != nil {
			return nil, err
		}
		err = j.Export(func(e journal.Entry) error { all = append(all, e); return nil })
		return all, err
	}
	must(t, d.db.Close())
	sound, err := read()
	must(t, err)
	whole, err := os.ReadFile(d.path)
	must(t, err)
	random := rand.New(rand.NewPCG(3, 4))
	detected := 0
	for range 1500 {
		at, bit := random.IntN(len(whole)), byte(1)<<random.IntN(8)
		whole[at] ^= bit
		must(t, os.WriteFile(d.path, whole, 0o600))
		switch got, err := read(); {
		case err == nil && reflect.DeepEqual(got, sound):
		case errors.Is(err, store.ErrCorrupt):
			detected++
		default:
			t.Fatalf("bit %#x of byte %d: %d entries, %v", bit, at, len(got), err)
		}
		whole[at] ^= bit
	}
	if detected < 100 {
		t.Errorf("only %d of 1500 flips met something in use", detected)
	}
}

// TestDisagreeingRecords: every checksum is right, but the two directions differ.
func TestDisagreeingRecords(t *testing.T) {
	for name, change := range map[string]func(tx *bbolt.Tx, table *store.Table) error{
		"slot of an unknown intent": func(tx *bbolt.Tx, table *store.Table) error {
			unknown := id("intent", 99)
			return table.Put(tx, append([]byte("s"), canon.New("coffer/slot/v1").Uint64(31337).String("0xA11ce").Uint64(7).Encoded()...), unknown[:])
		},
		"intent without its slot": func(tx *bbolt.Tx, table *store.Table) error {
			return table.Delete(tx, append([]byte("s"), canon.New("coffer/slot/v1").Uint64(31337).String("0xA11ce").Uint64(7).Encoded()...))
		},
		"entry that does not parse": func(tx *bbolt.Tx, table *store.Table) error {
			intent := id("intent", 1)
			return table.Put(tx, append([]byte("i"), intent[:]...), []byte("x"))
		},
		"unknown kind": func(tx *bbolt.Tx, table *store.Table) error { return table.Put(tx, []byte("q"), nil) },
		"session":      func(tx *bbolt.Tx, table *store.Table) error { return table.Put(tx, []byte("x1"), nil) },
		"time":         func(tx *bbolt.Tx, table *store.Table) error { return table.Put(tx, []byte("t"), nil) },
		"reference": func(tx *bbolt.Tx, table *store.Table) error {
			intent := id("intent", 1)
			return table.Put(tx, []byte("r1"), intent[:])
		},
	} {
		d := newDisk(t)
		must(t, d.Reserve(reservation(1, 7)))
		table, err := store.OpenTable(d.db, "journal")
		must(t, err)
		must(t, store.NewWriter(d.db).Do(func(tx *bbolt.Tx) error { return change(tx, table) }))
		_, err = journal.Open(d.db, start)
		want(t, name, err, store.ErrCorrupt)
	}
}

const killEnv = "COFFER_JOURNAL_TEST_KILL"

func TestMain(m *testing.M) {
	if path := os.Getenv(killEnv); path != "" {
		reserveForEver(path)
	}
	os.Exit(m.Run())
}

func reserveForEver(path string) {
	db, err := store.Open(path)
	if err != nil {
		panic(err)
	}
	j, err := journal.Open(db, start)
	if err != nil {
		panic(err)
	}
	for n := 0; ; n++ {
		if err := j.Reserve(reservation(n, n)); err != nil {
			panic(err)
		}
		fmt.Println(n)
	}
}

// TestKilled kills a process while it reserves: what it was told is on disk, is there.
func TestKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "signer.db")
	db, err := store.Create(path)
	must(t, err)
	must(t, db.Close())
	next := 0
	for round := range 4 {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), killEnv+"="+path)
		out, err := child.StdoutPipe()
		must(t, err)
		must(t, child.Start())
		lines, last := bufio.NewScanner(out), -1
		for lines.Scan() {
			if _, err := fmt.Sscan(lines.Text(), &last); err != nil {
				t.Fatalf("child says %q", lines.Text())
			}
			if last == 20+13*round {
				must(t, child.Process.Kill())
			}
		}
		_ = child.Wait()
		if last < 20 {
			t.Fatalf("child ended after %d reservations", last)
		}
		next = max(next, last)
		db, err := store.Open(path)
		must(t, err)
		j, err := journal.Open(db, start)
		must(t, err)
		for n := 0; n <= next; n++ {
			r := reservation(n, n)
			v, err := j.View(r.Chain, r.Account, r.Nonce, r.Intent, r.Initiator, r.Reference)
			if err != nil || v.SlotHolder == nil || v.SlotHolder.Intent != r.Intent {
				t.Fatalf("reservation %d of %d was acknowledged and is lost: %v", n, next, err)
			}
		}
		must(t, db.Close())
	}
}

func FuzzRecords(f *testing.F) {
	f.Add(journal.EntryForTest(journal.Entry{State: journal.Reserved, Transactions: []canon.Digest{{1}}}))
	f.Add([]byte("x"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if again, ok := journal.RecodeForTest(raw); ok && !bytes.Equal(again, raw) {
			t.Errorf("two encodings: %x and %x", raw, again)
		}
	})
}

func BenchmarkReserve(b *testing.B) {
	d := newDisk(b)
	n := 0
	for b.Loop() {
		n++
		must(b, d.Reserve(reservation(n, n)))
	}
}

func BenchmarkReserveParallel(b *testing.B) {
	d := newDisk(b)
	var n atomic.Int64
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			i := int(n.Add(1))
			if err := d.Reserve(reservation(i, i)); err != nil {
				b.Error(err)
			}
		}
	})
}
