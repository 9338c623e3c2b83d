package keystore_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"go.etcd.io/bbolt"

	"coffer/canon"
	"coffer/keyshare"
	"coffer/keystore"
	"coffer/party"
	"coffer/store"
	"coffer/wallet"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

type disk struct {
	t    testing.TB
	path string
	db   *bbolt.DB
	*keystore.Store
}

func newDisk(t testing.TB) *disk {
	t.Helper()
	d := &disk{t: t, path: filepath.Join(t.TempDir(), "signer.db")}
	var err error
	d.db, err = store.Create(d.path)
	must(t, err)
	d.Store, err = keystore.Open(d.db)
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
	d.Store, err = keystore.Open(d.db)
	must(d.t, err)
}

func id(name string, n int) canon.Digest { return canon.Sum(fmt.Appendf(nil, "%s %d", name, n)) }

func wrapKey(t testing.TB) *keyshare.WrapKey {
	k, err := keyshare.NewWrapKey()
	must(t, err)
	return k
}

func meta(name string, epoch uint64, ceremony int) keyshare.Meta {
	return keyshare.Meta{
		Cluster: id("cluster", 0), Wallet: name, Epoch: epoch, Party: "bob", Quorum: party.Quorum{Need: 2, Of: 3},
		Signers: party.Set{"alice", "bob", "carol"}, Ceremony: id("ceremony", ceremony),
	}
}

func sealShare(t testing.TB, k *keyshare.WrapKey, m keyshare.Meta, secret string) []byte {
	t.Helper()
	share, err := keyshare.NewShare(m, 1, []byte(secret))
	must(t, err)
	sealed, err := share.Seal(k)
	must(t, err)
	return sealed
}

func record(m keyshare.Meta) (wallet.Signed, *wallet.Record) {
	seed := sha256.Sum256(m.AD())
	r := &wallet.Record{
		Cluster: m.Cluster, Charter: id("charter", 0), Name: m.Wallet, Paths: wallet.RootOnly, Epoch: m.Epoch,
		Quorum: m.Quorum, Signers: m.Signers, Ceremony: m.Ceremony,
	}
	copy(r.PublicKey[:], secp256k1.PrivKeyFromBytes(seed[:]).PubKey().SerializeCompressed())
	s := wallet.Signed{Raw: r.Encode(), Signatures: map[party.ID][]byte{}}
	for _, p := range m.Signers {
		s.Signatures[p] = bytes.Repeat([]byte(p[:1]), 64)
	}
	return s, r
}

// sign proves a record and gives this signer's word for it, once or again.
func (d *disk) sign(r *wallet.Record) error {
	if _, ok, err := d.Attested(r.Name, r.Epoch); err != nil || ok {
		return errors.Join(err, d.Attest(r))
	}
	return errors.Join(d.Prove(r), d.Attest(r))
}

func TestShareFromPendingToActive(t *testing.T) {
	d, k := newDisk(t), wrapKey(t)
	m := meta("treasury", 1, 1)
	sealed := sealShare(t, k, m, "the secret")
	signed, r := record(m)
	if err := d.Activate(signed, r); !errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("record without a share: %v", err)
	}
	must(t, d.PutShare(m, sealed))
	d.reopen()
	if _, _, err := d.Share("treasury", 1); !errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("a pending share is given out: %v", err)
	}
	if list, err := d.Pending(); err != nil || len(list) != 1 || !list[0].Equal(m) {
		t.Errorf("pending: %v, %v", list, err)
	}
	for range 2 { // again is harmless
		must(t, d.sign(r))
		must(t, d.Activate(signed, r))
		d.reopen()
	}
	got, raw, err := d.Share("treasury", 1)
	must(t, err)
	if !got.Equal(m) || !bytes.Equal(raw, sealed) {
		t.Errorf("share of %+v", got)
	}
	share, err := keyshare.OpenShare(k, got, raw)
	must(t, err)
	must(t, share.Use(func(_ uint64, secret []byte) error {
		if string(secret) != "the secret" {
			t.Errorf("secret is %q", secret)
		}
		return nil
	}))
	list, err := d.Wallets()
	must(t, err)
	if len(list) != 1 || !reflect.DeepEqual(list[0], signed) {
		t.Errorf("wallets: %+v", list)
	}
	if list, err := d.Pending(); err != nil || len(list) != 0 {
		t.Errorf("pending: %v, %v", list, err)
	}
	content, err := os.ReadFile(d.path)
	must(t, err)
	if bytes.Contains(content, []byte("the secret")) {
		t.Error("the secret is in the file")
	}
}

// TestSharesAreWrittenOnce: a good share survives everything that could overwrite it.
func TestSharesAreWrittenOnce(t *testing.T) {
	d, k := newDisk(t), wrapKey(t)
	m := meta("treasury", 1, 1)
	first := sealShare(t, k, m, "first")
	must(t, d.PutShare(m, first))
	if err := d.PutShare(m, sealShare(t, k, m, "second")); !errors.Is(err, keystore.ErrExists) {
		t.Errorf("same ceremony: %v", err)
	}
	// A failed ceremony does not stand in the way of the next.
	next := meta("treasury", 1, 2)
	must(t, d.PutShare(next, sealShare(t, k, next, "next")))
	signed, r := record(m)
	must(t, d.sign(r))
	must(t, d.Activate(signed, r))

	after := meta("treasury", 1, 3)
	if err := d.PutShare(after, sealShare(t, k, after, "after")); !errors.Is(err, keystore.ErrExists) {
		t.Errorf("share for an active epoch: %v", err)
	}
	otherSigned, otherRecord := record(next)
	if err := d.Activate(otherSigned, otherRecord); !errors.Is(err, keystore.ErrMismatch) {
		t.Errorf("second record of an epoch: %v", err)
	}
	if err := d.DropPending("treasury", 1, m.Ceremony); !errors.Is(err, keystore.ErrExists) {
		t.Errorf("drop of an active share: %v", err)
	}
	must(t, d.DropPending("treasury", 1, next.Ceremony))
	must(t, d.DropPending("treasury", 1, next.Ceremony)) // again, or of nothing, is harmless
	must(t, d.DropPending("savings", 1, next.Ceremony))

	// A later epoch leaves the earlier as it is, also for one who sleeps through it.
	later := meta("treasury", 2, 4)
	must(t, d.PutShare(later, sealShare(t, k, later, "later")))
	laterSigned, laterRecord := record(later)
	must(t, d.sign(laterRecord))
	must(t, d.Activate(laterSigned, laterRecord))
	old := meta("treasury", 0, 5)
	must(t, d.PutShare(old, sealShare(t, k, old, "old")))
	d.reopen()
	if _, got, err := d.Share("treasury", 1); err != nil || !bytes.Equal(got, first) {
		t.Errorf("first share: %v", err)
	}
	list, err := d.Wallets()
	must(t, err)
	if len(list) != 1 || !reflect.DeepEqual(list[0], laterSigned) {
		t.Errorf("wallets: %d, want the newest record", len(list))
	}
	must(t, d.sign(r))
	must(t, d.Activate(signed, r)) // an old record again changes nothing
}

// A signer that withheld its signature in one ceremony and gave it in the next cannot
// have two records of one name made active: this signer's word is given once.
func TestAttestIsForOneRecord(t *testing.T) {
	d, k := newDisk(t), wrapKey(t)
	first, second := meta("treasury", 1, 1), meta("treasury", 1, 2)
	for _, m := range []keyshare.Meta{first, second} {
		must(t, d.PutShare(m, sealShare(t, k, m, "x")))
	}
	signed, r := record(first)
	otherSigned, other := record(second)
	if err := d.Activate(signed, r); !errors.Is(err, keystore.ErrMismatch) {
		t.Errorf("a record that this signer never signed: %v", err)
	}
	if _, ok, err := d.Attested("treasury", 1); err != nil || ok {
		t.Errorf("attested before: %v, %v", ok, err)
	}
	must(t, d.sign(r))
	must(t, d.sign(r)) // again is harmless
	d.reopen()
	if err := d.Attest(other); !errors.Is(err, keystore.ErrExists) {
		t.Errorf("word for a second record: %v", err)
	}
	if err := d.Activate(otherSigned, other); !errors.Is(err, keystore.ErrMismatch) {
		t.Errorf("the second record: %v", err)
	}
	if digest, ok, err := d.Attested("treasury", 1); err != nil || !ok || digest != r.Digest() {
		t.Errorf("attested: %v, %v, %v", digest, ok, err)
	}
	must(t, d.Activate(signed, r))
	if _, ok, err := d.Attested("treasury", 2); err != nil || ok {
		t.Errorf("another epoch: %v, %v", ok, err)
	}
}

// What is proved is remembered until it is active or dropped, one ceremony at a time,
// and nothing is signed that is not.
func TestProof(t *testing.T) {
	d, k := newDisk(t), wrapKey(t)
	first, second := meta("treasury", 1, 1), meta("treasury", 1, 2)
	_, r := record(first)
	_, other := record(second)
	proved := func(want *wallet.Record) {
		t.Helper()
		d.reopen()
		got, err := d.Proved("treasury", 1)
		must(t, err)
		if (got == nil) != (want == nil) || got != nil && got.Digest() != want.Digest() {
			t.Errorf("proved is %v, want %v", got, want)
		}
	}
	if err := d.Prove(r); !errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("a proof without a share: %v", err)
	}
	for _, m := range []keyshare.Meta{first, second} {
		must(t, d.PutShare(m, sealShare(t, k, m, "x")))
	}
	if err := d.Attest(r); !errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("signed without a proof: %v", err)
	}
	foreign := *r
	foreign.Quorum.Need++
	if err := d.Prove(&foreign); !errors.Is(err, keystore.ErrMismatch) {
		t.Errorf("a proof of another quorum: %v", err)
	}
	proved(nil)
	must(t, d.Prove(r))
	must(t, d.Prove(r)) // again is harmless
	proved(r)
	if err := d.Prove(other); !errors.Is(err, keystore.ErrExists) {
		t.Errorf("a second proof: %v", err)
	}
	if err := d.Attest(other); !errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("signed what is not proved: %v", err)
	}
	// The others have none of it: it goes, share and all.
	must(t, d.DropPending("treasury", 1, first.Ceremony))
	proved(nil)
	if list, err := d.Pending(); err != nil || len(list) != 1 || list[0].Ceremony != second.Ceremony {
		t.Errorf("pending: %v, %v", list, err)
	}
	must(t, d.Prove(other))
	must(t, d.Attest(other))
	if err := d.DropPending("treasury", 1, second.Ceremony); !errors.Is(err, keystore.ErrExists) {
		t.Errorf("drop of a share whose record is signed: %v", err)
	}
	proved(other)
	signed, _ := record(second)
	must(t, d.Activate(signed, other))
	proved(nil)
	if err := d.Prove(other); !errors.Is(err, keystore.ErrExists) {
		t.Errorf("a proof of what is active: %v", err)
	}
}

func TestActivateRefuses(t *testing.T) {
	d, k := newDisk(t), wrapKey(t)
	m := meta("treasury", 3, 1)
	must(t, d.PutShare(m, sealShare(t, k, m, "x")))
	for name, change := range map[string]func(*wallet.Record){
		"cluster": func(r *wallet.Record) { r.Cluster[0] ^= 1 },
		"quorum":  func(r *wallet.Record) { r.Quorum.Need = 3 },
		"signers": func(r *wallet.Record) { r.Signers = party.Set{"alice", "bob", "dora"} },
	} {
		signed, r := record(m)
		change(r)
		signed.Raw = r.Encode()
		if err := d.Activate(signed, r); !errors.Is(err, keystore.ErrMismatch) {
			t.Errorf("%s differs: %v", name, err)
		}
	}
	for name, change := range map[string]func(*wallet.Record){
		"ceremony": func(r *wallet.Record) { r.Ceremony[0] ^= 1 },
		"epoch":    func(r *wallet.Record) { r.Epoch++ },
		"name":     func(r *wallet.Record) { r.Name = "savings" },
	} {
		signed, r := record(m)
		change(r)
		signed.Raw = r.Encode()
		if err := d.Activate(signed, r); !errors.Is(err, keystore.ErrNotFound) {
			t.Errorf("%s differs: %v", name, err)
		}
	}
	signed, r := record(m)
	if err := d.Activate(signed, nil); !errors.Is(err, keystore.ErrMismatch) {
		t.Errorf("no record: %v", err)
	}
	other := *r
	other.Epoch++
	if err := d.Activate(signed, &other); !errors.Is(err, keystore.ErrMismatch) {
		t.Errorf("record and bytes differ: %v", err)
	}
	delete(signed.Signatures, "carol")
	if err := d.Activate(signed, r); !errors.Is(err, keystore.ErrMismatch) {
		t.Errorf("a signature is missing: %v", err)
	}
	// An epoch before the newest comes too late.
	signed, r = record(m)
	must(t, d.sign(r))
	must(t, d.Activate(signed, r))
	early := meta("treasury", 2, 2)
	must(t, d.PutShare(early, sealShare(t, k, early, "early")))
	earlySigned, earlyRecord := record(early)
	must(t, d.sign(earlyRecord))
	if err := d.Activate(earlySigned, earlyRecord); !errors.Is(err, keystore.ErrExists) {
		t.Errorf("earlier epoch: %v", err)
	}
	for name, call := range map[string]func() error{
		"meta":   func() error { bad := m; bad.Party = "mallory"; return d.PutShare(bad, sealShare(t, k, m, "x")) },
		"sealed": func() error { return d.PutShare(meta("treasury", 9, 9), []byte("clear text")) },
		"name":   func() error { bad := meta("../x", 1, 1); return d.PutShare(bad, sealShare(t, k, bad, "x")) },
		"drop":   func() error { return d.DropPending("", 1, m.Ceremony) },
	} {
		if call() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, _, err := d.Share(strings.Repeat("w", 300), 1); !errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("overlong name: %v", err)
	}
}

func TestManyWallets(t *testing.T) {
	d, k := newDisk(t), wrapKey(t)
	names := []string{"a", "aa", "b", "treasury", "treasury-2"}
	for i, name := range names {
		for epoch := uint64(1); epoch <= 2; epoch++ {
			m := meta(name, epoch, i*10+int(epoch))
			must(t, d.PutShare(m, sealShare(t, k, m, "x")))
			signed, r := record(m)
			must(t, d.sign(r))
			must(t, d.Activate(signed, r))
		}
	}
	d.reopen()
	list, err := d.Wallets()
	must(t, err)
	if len(list) != len(names) {
		t.Fatalf("%d wallets, want %d", len(list), len(names))
	}
	for _, s := range list {
		if r, err := wallet.Parse(s.Raw); err != nil || r.Epoch != 2 {
			t.Errorf("listed %+v, %v", r, err)
		}
	}
}

func TestPreParams(t *testing.T) {
	d, k := newDisk(t), wrapKey(t)
	if _, err := d.TakePreParams(id("ceremony", 1)); !errors.Is(err, keystore.ErrNoPreParams) {
		t.Errorf("empty pool: %v", err)
	}
	sets := map[string]bool{}
	for i := range keystore.MaxPool {
		sealed, err := keyshare.Seal(k, keyshare.PreParamsAD(), fmt.Appendf(nil, "set %d", i))
		must(t, err)
		must(t, d.AddPreParams(sealed))
		sets[string(sealed)] = true
		if err := d.AddPreParams(sealed); !errors.Is(err, keystore.ErrTaken) {
			t.Errorf("same set again: %v", err)
		}
	}
	extra, err := keyshare.Seal(k, keyshare.PreParamsAD(), []byte("extra"))
	must(t, err)
	if err := d.AddPreParams(extra); !errors.Is(err, keystore.ErrPoolFull) {
		t.Errorf("full pool: %v", err)
	}
	if err := d.AddPreParams([]byte("clear text")); !errors.Is(err, keyshare.ErrFormat) {
		t.Errorf("unsealed set: %v", err)
	}
	if _, err := d.TakePreParams(canon.Digest{}); err == nil {
		t.Error("no ceremony accepted")
	}
	// Several take at once; some processes end right after.
	var mu sync.Mutex
	var group sync.WaitGroup
	for i := range keystore.MaxPool / 2 {
		group.Go(func() {
			sealed, err := d.TakePreParams(id("ceremony", i))
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if !sets[string(sealed)] {
				t.Error("a set was given out twice, or is unknown")
			}
			delete(sets, string(sealed))
		})
	}
	group.Wait()
	d.reopen()
	if _, err := d.TakePreParams(id("ceremony", 0)); !errors.Is(err, keystore.ErrTaken) {
		t.Errorf("ceremony takes again: %v", err)
	}
	if n, err := d.PreParamsCount(); err != nil || n != keystore.MaxPool/2 {
		t.Errorf("%d sets are left, %v", n, err)
	}
	taken, err := d.TakePreParams(id("ceremony", 1000))
	must(t, err)
	if err := d.AddPreParams(taken); !errors.Is(err, keystore.ErrTaken) {
		t.Errorf("used set again: %v", err)
	}
}

// TestFailedTake: when the disk fails while a set is taken, it is not given out.
func TestFailedTake(t *testing.T) {
	d, k := newDisk(t), wrapKey(t)
	for i := range 40 {
		sealed, err := keyshare.Seal(k, keyshare.PreParamsAD(), make([]byte, 5000+i))
		must(t, err)
		must(t, d.AddPreParams(sealed))
	}
	d.db.MaxSize = 1 // whatever needs a larger file fails
	m := meta("treasury", 1, 1)
	sealed, err := keyshare.Seal(k, m.AD(), make([]byte, 900_000))
	must(t, err)
	if err := d.PutShare(m, sealed); !errors.Is(err, store.ErrFailed) {
		t.Fatalf("full disk: %v, want ErrFailed", err)
	}
	d.db.MaxSize = 0
	if set, err := d.TakePreParams(id("ceremony", 1)); !errors.Is(err, store.ErrFailed) || set != nil {
		t.Errorf("take after a failure: %d bytes, %v", len(set), err)
	}
	if !errors.Is(d.Failed(), store.ErrFailed) {
		t.Error("Failed is silent")
	}
	d.reopen()
	if n, err := d.PreParamsCount(); err != nil || n != 40 {
		t.Errorf("%d sets, %v", n, err)
	}
}

// TestFlippedBits: what is read from a damaged file is the same or ErrCorrupt, for a
// spread of bits over the whole file and every byte of the live share.
func TestFlippedBits(t *testing.T) {
	d, k := newDisk(t), wrapKey(t)
	m := meta("treasury", 1, 1)
	sealed := sealShare(t, k, m, "the secret")
	must(t, d.PutShare(m, sealed))
	signed, r := record(m)
	must(t, d.sign(r))
	must(t, d.Activate(signed, r))
	set, err := keyshare.Seal(k, keyshare.PreParamsAD(), make([]byte, 300))
	must(t, err)
	must(t, d.AddPreParams(set))
	must(t, d.db.Close())
	read := func() error {
		db, err := store.Open(d.path)
		if err != nil {
			return err
		}
		defer db.Close()
		s, err := keystore.Open(db)
		if err != nil {
			return err
		}
		got, raw, err := s.Share("treasury", 1)
		if err != nil {
			return err
		}
		list, err := s.Wallets()
		if err != nil {
			return err
		}
		if n, err := s.PreParamsCount(); err != nil || n != 1 || !got.Equal(m) || !bytes.Equal(raw, sealed) || !reflect.DeepEqual(list, []wallet.Signed{signed}) {
			return errors.New("read something else")
		}
		return nil
	}
	must(t, read())
	whole, err := os.ReadFile(d.path)
	must(t, err)
	var places []int
	for at := 0; at < len(whole); at += 61 {
		places = append(places, at)
	}
	for _, part := range [][]byte{sealed, signed.Raw, set} {
		for at := 0; ; at++ {
			next := bytes.Index(whole[at:], part)
			if next < 0 {
				break
			}
			at += next
			for i := -40; i < len(part)+32; i += 3 {
				places = append(places, at+i)
			}
		}
	}
	detected := 0
	for n, at := range places {
		bit := byte(1) << (n % 8)
		whole[at] ^= bit
		must(t, os.WriteFile(d.path, whole, 0o600))
		switch err := read(); {
		case errors.Is(err, store.ErrCorrupt):
			detected++
		case err != nil:
			t.Fatalf("bit %#x of byte %d: %v", bit, at, err)
		}
		whole[at] ^= bit
	}
	if detected < 100 {
		t.Errorf("only %d of %d flips met something in use", detected, len(places))
	}
	must(t, os.WriteFile(d.path, whole, 0o600))
}

// TestMisplacedRecords: every checksum is right, but records contradict each other.
func TestMisplacedRecords(t *testing.T) {
	k := wrapKey(t)
	m := meta("treasury", 1, 1)
	signed, _ := record(m)
	sealed := sealShare(t, k, m, "x")
	one := id("x", 1)
	for name, c := range map[string]struct{ key, value []byte }{
		"share in another's place": {[]byte("s\x01a12345678"), keystore.EncodeShareForTest(m, sealed)},
		"record without share":     {[]byte("r\x08treasury\x00\x00\x00\x00\x00\x00\x00\x01"), keystore.EncodeRecordForTest(signed)},
		"share that does not parse": {
			append([]byte("s\x08treasury\x00\x00\x00\x00\x00\x00\x00\x01"), m.Ceremony[:]...), []byte("x")},
		"pool in another's place": {append([]byte("p"), one[:]...), sealed},
		"used by nobody":          {append([]byte("u"), one[:]...), one[:]},
		"unknown kind":            {[]byte("q"), nil},
	} {
		d := newDisk(t)
		table, err := store.OpenTable(d.db, "keystore")
		must(t, err)
		must(t, store.NewWriter(d.db).Do(func(tx *bbolt.Tx) error { return table.Put(tx, c.key, c.value) }))
		if _, err := keystore.Open(d.db); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzRecords(f *testing.F) {
	k := wrapKey(f)
	m := meta("treasury", 1, 1)
	signed, _ := record(m)
	f.Add(keystore.EncodeShareForTest(m, sealShare(f, k, m, "x")))
	f.Add(keystore.EncodeRecordForTest(signed))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if again, ok := keystore.RecodeForTest(raw); ok && !bytes.Equal(again, raw) {
			t.Errorf("two encodings: %x and %x", raw, again)
		}
	})
}
