package store

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"

	"coffer/canon"
	"coffer/internal/crashpoint"
)

const (
	recordDomain = "coffer/store-record/v1"

	// A record on disk is version, value, checksum.
	recordVersion  = 1
	recordOverhead = 1 + sha256.Size

	maxKey = 1024
)

var (
	manifestName = []byte("coffer")
	formatKey    = []byte("format")
	formatValue  = []byte("coffer-store-1")
	tablePrefix  = "table/"

	// headerKey sorts first, and no record may have it.
	headerKey = []byte{0}
)

// Table is a bucket whose records carry a checksum over table, key and value, and
// whose header holds the number and the sum of all records.
type Table struct{ name string }

// header sums the digests of all records with XOR: order does not matter, a record
// goes out as it came in, and any record more, less or other shows.
type header struct {
	count uint64
	// generation is one more after each change. It also stands, as the bucket's
	// sequence number, in the page above: an older page that comes back whole, with
	// header and records that agree, does not agree with that.
	generation uint64
	sum        [sha256.Size]byte
}

const headerSize = 8 + 8 + sha256.Size

func (t *Table) digest(key, value []byte) [sha256.Size]byte {
	return canon.New(recordDomain).String(t.name).Bytes(key).Bytes(value).Sum()
}

func (t *Table) damaged(key []byte, text string) error {
	return fmt.Errorf("table %q, record %q: %s: store %w", t.name, key, text, ErrCorrupt)
}

func (t *Table) bucket(tx *bbolt.Tx) (*bbolt.Bucket, error) {
	b := tx.Bucket([]byte(t.name))
	if b == nil {
		return nil, fmt.Errorf("table %q is missing: store %w", t.name, ErrCorrupt)
	}
	return b, nil
}

func (t *Table) decode(key, raw []byte) (value []byte, sum [sha256.Size]byte, err error) {
	if len(raw) < recordOverhead {
		return nil, sum, t.damaged(key, "it is cut short")
	}
	if raw[0] != recordVersion {
		return nil, sum, t.damaged(key, fmt.Sprintf("it has version %d, this release reads %d", raw[0], recordVersion))
	}
	value = raw[1 : len(raw)-sha256.Size]
	sum = t.digest(key, value)
	if subtle.ConstantTimeCompare(sum[:], raw[len(raw)-sha256.Size:]) != 1 {
		return nil, sum, t.damaged(key, "its checksum is wrong")
	}
	return value, sum, nil
}

func (t *Table) write(b *bbolt.Bucket, key, value []byte) ([sha256.Size]byte, error) {
	sum := t.digest(key, value)
	raw := make([]byte, 0, len(value)+recordOverhead)
	raw = append(raw, recordVersion)
	raw = append(raw, value...)
	raw = append(raw, sum[:]...)
	return sum, b.Put(key, raw)
}

func (t *Table) header(b *bbolt.Bucket) (h header, err error) {
	value, _, err := t.decode(headerKey, b.Get(headerKey))
	if err != nil {
		return header{}, err
	}
	if len(value) != headerSize {
		return header{}, t.damaged(headerKey, fmt.Sprintf("it has %d bytes, want %d", len(value), headerSize))
	}
	h.count, h.generation = binary.BigEndian.Uint64(value), binary.BigEndian.Uint64(value[8:])
	copy(h.sum[:], value[16:])
	if h.generation != b.Sequence() {
		return header{}, t.damaged(headerKey, fmt.Sprintf("it is of generation %d, the table of %d", h.generation, b.Sequence()))
	}
	return h, nil
}

func (t *Table) putHeader(b *bbolt.Bucket, h header) error {
	h.generation++
	if err := b.SetSequence(h.generation); err != nil {
		return fmt.Errorf("write header: %w", err)
	}
	value := make([]byte, 0, headerSize)
	value = binary.BigEndian.AppendUint64(value, h.count)
	value = binary.BigEndian.AppendUint64(value, h.generation)
	if _, err := t.write(b, headerKey, append(value, h.sum[:]...)); err != nil {
		return fmt.Errorf("write header: %w", err)
	}
	return nil
}

func checkKey(key []byte) error {
	if len(key) == 0 || len(key) > maxKey || bytes.Equal(key, headerKey) {
		return fmt.Errorf("record key of %d bytes is not allowed", len(key))
	}
	return nil
}

// Get returns a copy of a record's value; ok says whether there is one.
func (t *Table) Get(tx *bbolt.Tx, key []byte) (value []byte, ok bool, err error) {
	if err := checkKey(key); err != nil {
		return nil, false, err
	}
	b, err := t.bucket(tx)
	if err != nil {
		return nil, false, err
	}
	raw := b.Get(key)
	if raw == nil {
		return nil, false, nil
	}
	value, _, err = t.decode(key, raw)
	if err != nil {
		return nil, false, err
	}
	return bytes.Clone(value), true, nil
}

// Put writes a record, new or not.
func (t *Table) Put(tx *bbolt.Tx, key, value []byte) error { return t.change(tx, key, value, false) }

// Delete removes a record, if it is there.
func (t *Table) Delete(tx *bbolt.Tx, key []byte) error { return t.change(tx, key, nil, true) }

func (t *Table) change(tx *bbolt.Tx, key, value []byte, remove bool) error {
	if err := checkKey(key); err != nil {
		return err
	}
	b, err := t.bucket(tx)
	if err != nil {
		return err
	}
	h, err := t.header(b)
	if err != nil {
		return err
	}
	if old := b.Get(key); old != nil {
		_, sum, err := t.decode(key, old)
		if err != nil {
			return err
		}
		if h.count == 0 {
			return t.damaged(headerKey, "it counts no records")
		}
		h.count--
		subtle.XORBytes(h.sum[:], h.sum[:], sum[:])
	} else if remove {
		return nil
	}
	if remove {
		if err := b.Delete(key); err != nil {
			return fmt.Errorf("delete record: %w", err)
		}
		return t.putHeader(b, h)
	}
	sum, err := t.write(b, key, value)
	if err != nil {
		return fmt.Errorf("write record: %w", err)
	}
	h.count++
	subtle.XORBytes(h.sum[:], h.sum[:], sum[:])
	return t.putHeader(b, h)
}

// ForEach calls f with every record whose key begins with prefix, in order of keys.
// Neither slice may be kept.
func (t *Table) ForEach(tx *bbolt.Tx, prefix []byte, f func(key, value []byte) error) error {
	b, err := t.bucket(tx)
	if err != nil {
		return err
	}
	c := b.Cursor()
	for key, raw := c.Seek(prefix); key != nil && bytes.HasPrefix(key, prefix); key, raw = c.Next() {
		if bytes.Equal(key, headerKey) {
			continue
		}
		value, _, err := t.decode(key, raw)
		if err != nil {
			return err
		}
		if err := f(key, value); err != nil {
			return err
		}
	}
	return nil
}

// Len is the number of records.
func (t *Table) Len(tx *bbolt.Tx) (uint64, error) {
	b, err := t.bucket(tx)
	if err != nil {
		return 0, err
	}
	h, err := t.header(b)
	return h.count, err
}

// check reads every record and compares with the header.
func (t *Table) check(tx *bbolt.Tx) error {
	b, err := t.bucket(tx)
	if err != nil {
		return err
	}
	want, err := t.header(b)
	if err != nil {
		return err
	}
	var got header
	err = b.ForEach(func(key, raw []byte) error {
		if bytes.Equal(key, headerKey) {
			return nil
		}
		_, sum, err := t.decode(key, raw)
		if err != nil {
			return err
		}
		got.count++
		subtle.XORBytes(got.sum[:], got.sum[:], sum[:])
		return nil
	})
	if err != nil {
		return err
	}
	if got.count != want.count {
		return fmt.Errorf("table %q has %d records, its header counts %d: store %w", t.name, got.count, want.count, ErrCorrupt)
	}
	if got.sum != want.sum {
		return fmt.Errorf("table %q: its records are not those that its header sums: store %w", t.name, ErrCorrupt)
	}
	return nil
}

// OpenTable checks every record of a table, and makes the table if it has never
// been made in this file.
func OpenTable(db *bbolt.DB, name string) (*Table, error) {
	if name == "" || name == string(manifestName) || len(name) > 64 {
		return nil, fmt.Errorf("table name %q is not allowed", name)
	}
	t, manifest := &Table{name}, &Table{string(manifestName)}
	entry := []byte(tablePrefix + name)
	err := update(db, func(tx *bbolt.Tx) error {
		_, made, err := manifest.Get(tx, entry)
		if err != nil {
			return err
		}
		if !made {
			if err := crashpoint.Write("store.table"); err != nil {
				return err
			}
			if err := t.create(tx); err != nil {
				return err
			}
			return manifest.Put(tx, entry, nil)
		}
		return errUnchanged
	})
	if err != nil && !errors.Is(err, errUnchanged) {
		return nil, fmt.Errorf("open table %q of %s: %w", name, db.Path(), Explain(err))
	}
	if err := View(db, t.check); err != nil {
		return nil, fmt.Errorf("open %s: %w", db.Path(), err)
	}
	return t, nil
}

// errUnchanged rolls a transaction back that has nothing to write.
var errUnchanged = errors.New("nothing to write")

func (t *Table) create(tx *bbolt.Tx) error {
	b, err := tx.CreateBucket([]byte(t.name))
	if err != nil {
		return err
	}
	return t.putHeader(b, header{})
}

func createManifest(tx *bbolt.Tx) error {
	m := &Table{string(manifestName)}
	if err := m.create(tx); err != nil {
		return err
	}
	return m.Put(tx, formatKey, formatValue)
}

// checkManifest checks the list of tables, and that each is there.
func checkManifest(tx *bbolt.Tx) error {
	m := &Table{string(manifestName)}
	if err := m.check(tx); err != nil {
		return err
	}
	format, ok, err := m.Get(tx, formatKey)
	if err != nil {
		return err
	}
	if !ok || !bytes.Equal(format, formatValue) {
		return fmt.Errorf("store has format %q, this release reads %q", format, formatValue)
	}
	return m.ForEach(tx, []byte(tablePrefix), func(key, _ []byte) error {
		_, err := (&Table{string(key[len(tablePrefix):])}).bucket(tx)
		return err
	})
}
