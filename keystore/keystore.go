package keystore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"go.etcd.io/bbolt"

	"coffer/canon"
	"coffer/keyshare"
	"coffer/party"
	"coffer/policy"
	"coffer/store"
	"coffer/wallet"
)

const tableName = "keystore"

// The first byte of a key says what it is of.
const (
	sharePrefix    = "s" // wallet, epoch, ceremony -> share
	recordPrefix   = "r" // wallet, epoch -> wallet record with its signatures
	provedPrefix   = "v" // wallet, epoch -> the record, unsigned, of the ceremony whose pending share was proved
	attestedPrefix = "a" // wallet, epoch -> digest of the one record that this signer signed
	poolPrefix     = "p" // digest of a sealed set -> the set
	usedPrefix     = "u" // digest of a sealed set -> ceremony that took it
	ceremonyPrefix = "c" // ceremony -> digest of the set that it took
)

// MaxPool bounds the sets of pre-parameters that wait.
const MaxPool = 64

const (
	shareDomain  = "coffer/stored-share/v1"
	recordDomain = "coffer/stored-record/v1"

	maxMeta   = 8 << 10
	maxSealed = keyshare.MaxPlaintext + keyshare.Overhead
)

// Store is a signer's key store. Make it with Open. It may be used by several goroutines.
type Store struct {
	db     *bbolt.DB
	table  *store.Table
	writer *store.Writer
}

// Open reads and checks every record, and makes an empty key store in a new store. It
// needs no key: what is sealed stays sealed.
func Open(db *bbolt.DB) (*Store, error) {
	table, err := store.OpenTable(db, tableName)
	if err != nil {
		return nil, fmt.Errorf("open key store: %w", err)
	}
	s := &Store{db: db, table: table, writer: store.NewWriter(db)}
	if err := store.View(db, s.check); err != nil {
		return nil, fmt.Errorf("open key store: %w", err)
	}
	return s, nil
}

func corrupt(err error) error { return fmt.Errorf("key store: %w: store %w", err, store.ErrCorrupt) }

func epochKey(prefix, name string, epoch uint64) []byte {
	key := append([]byte(prefix), byte(len(name)))
	key = append(key, name...)
	return binary.BigEndian.AppendUint64(key, epoch)
}

func digestKey(prefix string, d canon.Digest) []byte { return append([]byte(prefix), d[:]...) }

func shareKey(m keyshare.Meta) []byte {
	return append(epochKey(sharePrefix, m.Wallet, m.Epoch), m.Ceremony[:]...)
}

func encodeShare(m keyshare.Meta, sealed []byte) []byte {
	return canon.New(shareDomain).Bytes(m.AD()).Bytes(sealed).Encoded()
}

func parseShare(raw []byte) (keyshare.Meta, []byte, error) {
	d := canon.NewDecoder(shareDomain, raw)
	ad, sealed := d.Bytes(maxMeta), d.Bytes(maxSealed)
	if err := d.Finish(); err != nil {
		return keyshare.Meta{}, nil, fmt.Errorf("stored share: %w", err)
	}
	m, err := keyshare.ParseMeta(ad)
	if err != nil {
		return keyshare.Meta{}, nil, fmt.Errorf("stored share: %w", err)
	}
	if err := keyshare.CheckSealed(sealed); err != nil {
		return keyshare.Meta{}, nil, fmt.Errorf("stored share: %w", err)
	}
	return m, sealed, nil
}

func encodeRecord(s wallet.Signed) []byte {
	c := canon.New(recordDomain).Bytes(s.Raw)
	ids := slices.Sorted(maps.Keys(s.Signatures))
	c.List(len(ids))
	for _, id := range ids {
		c.String(string(id)).Bytes(s.Signatures[id])
	}
	return c.Encoded()
}

func parseRecord(raw []byte) (wallet.Signed, *wallet.Record, error) {
	d := canon.NewDecoder(recordDomain, raw)
	s := wallet.Signed{Raw: d.Bytes(wallet.MaxRaw), Signatures: map[party.ID][]byte{}}
	last := party.ID("")
	for range d.List(20) {
		id, signature := party.ID(d.String(32)), d.Bytes(64)
		if d.Err() == nil && id <= last {
			d.Fail(errors.New("signatures are not in order"))
		}
		last, s.Signatures[id] = id, signature
	}
	if err := d.Finish(); err != nil {
		return wallet.Signed{}, nil, fmt.Errorf("stored record: %w", err)
	}
	r, err := wallet.Parse(s.Raw)
	if err != nil {
		return wallet.Signed{}, nil, fmt.Errorf("stored record: %w", err)
	}
	return s, r, nil
}

// PutShare stores a sealed share as pending. A share that is stored for the same
// wallet, epoch and ceremony, or is active for the same wallet and epoch, stays, and
// ErrExists says so.
func (s *Store) PutShare(meta keyshare.Meta, sealed []byte) error {
	if err := errors.Join(policy.CheckName(meta.Wallet), meta.Validate(), keyshare.CheckSealed(sealed)); err != nil {
		return fmt.Errorf("store share: %w", err)
	}
	raw := encodeShare(meta, sealed)
	err := s.writer.Do(func(tx *bbolt.Tx) error {
		for _, key := range [][]byte{shareKey(meta), epochKey(recordPrefix, meta.Wallet, meta.Epoch)} {
			if _, there, err := s.table.Get(tx, key); err != nil {
				return err
			} else if there {
				return fmt.Errorf("share of wallet %q, epoch %d, %w", meta.Wallet, meta.Epoch, ErrExists)
			}
		}
		return s.table.Put(tx, shareKey(meta), raw)
	})
	if err != nil {
		return fmt.Errorf("store share: %w", err)
	}
	return nil
}

// Share returns the active share of a wallet's epoch.
func (s *Store) Share(name string, epoch uint64) (meta keyshare.Meta, sealed []byte, err error) {
	err = store.View(s.db, func(tx *bbolt.Tx) error {
		r, err := s.record(tx, name, epoch)
		if err != nil {
			return err
		}
		if r == nil {
			return fmt.Errorf("an active share of wallet %q, epoch %d, %w", name, epoch, ErrNotFound)
		}
		meta, sealed, err = s.share(tx, keyshare.Meta{Wallet: name, Epoch: epoch, Ceremony: r.Ceremony})
		return err
	})
	if err != nil {
		return keyshare.Meta{}, nil, fmt.Errorf("read share: %w", err)
	}
	return meta, sealed, nil
}

func (s *Store) record(tx *bbolt.Tx, name string, epoch uint64) (*wallet.Record, error) {
	if len(name) > 255 {
		return nil, nil
	}
	raw, there, err := s.table.Get(tx, epochKey(recordPrefix, name, epoch))
	if err != nil || !there {
		return nil, err
	}
	_, r, err := parseRecord(raw)
	if err != nil {
		return nil, corrupt(err)
	}
	return r, nil
}

// share reads by wallet, epoch and ceremony of m.
func (s *Store) share(tx *bbolt.Tx, m keyshare.Meta) (keyshare.Meta, []byte, error) {
	raw, there, err := s.table.Get(tx, shareKey(m))
	if err != nil {
		return keyshare.Meta{}, nil, err
	}
	if !there {
		return keyshare.Meta{}, nil, fmt.Errorf("share of wallet %q, epoch %d, ceremony %s, %w", m.Wallet, m.Epoch, m.Ceremony.Short(), ErrNotFound)
	}
	meta, sealed, err := parseShare(raw)
	if err != nil {
		return keyshare.Meta{}, nil, corrupt(err)
	}
	return meta, sealed, nil
}

// Activate stores a wallet's record and thereby makes the pending share of its
// ceremony the active one of its epoch. The caller has verified signed against its
// charter, and r is what Open returned for it. Doing it twice with the same bytes is
// harmless; another record for the same epoch, or an epoch that is not after all
// others, is refused.
func (s *Store) Activate(signed wallet.Signed, r *wallet.Record) error {
	if r == nil || !bytes.Equal(r.Encode(), signed.Raw) {
		return fmt.Errorf("activate wallet: %w: the record is not the one that was signed", ErrMismatch)
	}
	if len(signed.Signatures) != len(r.Signers) {
		return fmt.Errorf("activate wallet %q: %w: it has %d signatures, all %d signers must sign", r.Name, ErrMismatch, len(signed.Signatures), len(r.Signers))
	}
	raw := encodeRecord(signed)
	if _, _, err := parseRecord(raw); err != nil {
		return fmt.Errorf("activate wallet %q: %w: %w", r.Name, ErrMismatch, err)
	}
	err := s.writer.Do(func(tx *bbolt.Tx) error {
		m, _, err := s.share(tx, keyshare.Meta{Wallet: r.Name, Epoch: r.Epoch, Ceremony: r.Ceremony})
		if err != nil {
			return err
		}
		if err := belong(m, r); err != nil {
			return err
		}
		if digest, ok, err := s.attested(tx, r.Name, r.Epoch); err != nil {
			return err
		} else if !ok || digest != r.Digest() {
			return fmt.Errorf("%w: it is not the record that this signer signed", ErrMismatch)
		}
		// Those of all epochs: the newest is the last.
		err = s.table.ForEach(tx, epochKey(recordPrefix, r.Name, 0)[:2+len(r.Name)], func(key, value []byte) error {
			epoch := binary.BigEndian.Uint64(key[len(key)-8:])
			if epoch == r.Epoch {
				old, _, err := parseRecord(value)
				if err != nil {
					return corrupt(err)
				}
				if bytes.Equal(old.Raw, signed.Raw) {
					return errSame
				}
			}
			if epoch >= r.Epoch {
				return fmt.Errorf("record of epoch %d %w", epoch, ErrExists)
			}
			return nil
		})
		if err != nil {
			return err
		}
		return errors.Join(
			s.table.Put(tx, epochKey(recordPrefix, r.Name, r.Epoch), raw),
			s.table.Delete(tx, epochKey(provedPrefix, r.Name, r.Epoch)),
		)
	})
	if err != nil && !errors.Is(err, errSame) {
		return fmt.Errorf("activate wallet %q, epoch %d: %w", r.Name, r.Epoch, err)
	}
	return nil
}

// Prove remembers the record of the ceremony whose pending share has been proved by
// challenge signatures of all signers: with it the ceremony can be finished after a
// restart. One ceremony of a wallet's epoch is proved at a time; DropPending forgets it.
// The same record again is harmless; another one is ErrExists.
func (s *Store) Prove(r *wallet.Record) error {
	raw := r.Encode()
	err := s.writer.Do(func(tx *bbolt.Tx) error {
		m, _, err := s.share(tx, keyshare.Meta{Wallet: r.Name, Epoch: r.Epoch, Ceremony: r.Ceremony})
		if err == nil {
			err = belong(m, r)
		}
		if err != nil {
			return err
		}
		switch old, err := s.proved(tx, r.Name, r.Epoch); {
		case err != nil:
			return err
		case old != nil && old.Digest() == r.Digest():
			return errSame
		case old != nil:
			return fmt.Errorf("proof of ceremony %s %w", old.Ceremony.Short(), ErrExists)
		}
		if digest, ok, err := s.attested(tx, r.Name, r.Epoch); err != nil {
			return err
		} else if ok {
			return fmt.Errorf("word for record %s %w", digest.Short(), ErrExists)
		}
		return s.table.Put(tx, epochKey(provedPrefix, r.Name, r.Epoch), raw)
	})
	if err != nil && !errors.Is(err, errSame) {
		return fmt.Errorf("prove wallet %q, epoch %d: %w", r.Name, r.Epoch, err)
	}
	return nil
}

// Proved is the record of the ceremony of a wallet's epoch that broke off after this
// signer's share was proved, or nil.
func (s *Store) Proved(name string, epoch uint64) (r *wallet.Record, err error) {
	err = store.View(s.db, func(tx *bbolt.Tx) error {
		r, err = s.proved(tx, name, epoch)
		return err
	})
	return r, err
}

func (s *Store) proved(tx *bbolt.Tx, name string, epoch uint64) (*wallet.Record, error) {
	raw, ok, err := s.table.Get(tx, epochKey(provedPrefix, name, epoch))
	if err != nil || !ok {
		return nil, err
	}
	r, err := wallet.Parse(raw)
	if err != nil {
		return nil, corrupt(err)
	}
	return r, nil
}

// Attest remembers, for good, the one record of a wallet's epoch that this signer
// signs. It is on disk before the signature leaves: with two records of one name, each
// signed by all, a single signer that withheld its signature in the first ceremony
// could make half of the others use one key and half the other. The same record again
// is harmless; another one is ErrExists, and one that is not proved ErrNotFound.
func (s *Store) Attest(r *wallet.Record) error {
	digest := r.Digest()
	err := s.writer.Do(func(tx *bbolt.Tx) error {
		old, ok, err := s.attested(tx, r.Name, r.Epoch)
		if err != nil {
			return err
		}
		if ok && old != digest {
			return fmt.Errorf("word for record %s %w", old.Short(), ErrExists)
		}
		if ok {
			return errSame
		}
		if p, err := s.proved(tx, r.Name, r.Epoch); err != nil {
			return err
		} else if p == nil || p.Digest() != digest {
			return fmt.Errorf("proof of record %s %w", digest.Short(), ErrNotFound)
		}
		return s.table.Put(tx, epochKey(attestedPrefix, r.Name, r.Epoch), digest[:])
	})
	if err != nil && !errors.Is(err, errSame) {
		return fmt.Errorf("attest wallet %q, epoch %d: %w", r.Name, r.Epoch, err)
	}
	return nil
}

// Attested is the record that this signer signed for a wallet's epoch, if any.
func (s *Store) Attested(name string, epoch uint64) (digest canon.Digest, ok bool, err error) {
	err = store.View(s.db, func(tx *bbolt.Tx) error {
		digest, ok, err = s.attested(tx, name, epoch)
		return err
	})
	return digest, ok, err
}

func (s *Store) attested(tx *bbolt.Tx, name string, epoch uint64) (digest canon.Digest, ok bool, err error) {
	raw, ok, err := s.table.Get(tx, epochKey(attestedPrefix, name, epoch))
	if err != nil || !ok {
		return digest, false, err
	}
	if digest, err = canon.DigestFrom(raw); err != nil {
		return digest, false, corrupt(err)
	}
	return digest, true, nil
}

// errSame leaves a transaction that would change nothing.
var errSame = errors.New("nothing to change")

func belong(m keyshare.Meta, r *wallet.Record) error {
	for _, f := range []struct {
		name string
		same bool
	}{
		{"cluster", m.Cluster == r.Cluster}, {"wallet", m.Wallet == r.Name}, {"epoch", m.Epoch == r.Epoch}, {"quorum", m.Quorum == r.Quorum},
		{"signers", m.Signers.Equal(r.Signers)}, {"ceremony", m.Ceremony == r.Ceremony},
	} {
		if !f.same {
			return fmt.Errorf("%w: %s differs", ErrMismatch, f.name)
		}
	}
	return nil
}

// DropPending deletes the share of a ceremony that failed, if it is there, and its
// proof. An active share is never deleted, nor one whose record this signer has signed:
// ErrExists.
func (s *Store) DropPending(name string, epoch uint64, ceremony canon.Digest) error {
	if err := policy.CheckName(name); err != nil {
		return fmt.Errorf("drop share: %w", err)
	}
	err := s.writer.Do(func(tx *bbolt.Tx) error {
		r, err := s.record(tx, name, epoch)
		if err != nil {
			return err
		}
		if r != nil && r.Ceremony == ceremony {
			return fmt.Errorf("active share of wallet %q, epoch %d, %w", name, epoch, ErrExists)
		}
		if p, err := s.proved(tx, name, epoch); err != nil {
			return err
		} else if p != nil && p.Ceremony == ceremony {
			if _, ok, err := s.attested(tx, name, epoch); err != nil {
				return err
			} else if ok {
				return fmt.Errorf("share of wallet %q, epoch %d, whose record is signed, %w", name, epoch, ErrExists)
			}
			if err := s.table.Delete(tx, epochKey(provedPrefix, name, epoch)); err != nil {
				return err
			}
		}
		return s.table.Delete(tx, shareKey(keyshare.Meta{Wallet: name, Epoch: epoch, Ceremony: ceremony}))
	})
	if err != nil {
		return fmt.Errorf("drop share: %w", err)
	}
	return nil
}

// Pending lists the shares that no record has made active.
func (s *Store) Pending() (out []keyshare.Meta, err error) {
	err = store.View(s.db, func(tx *bbolt.Tx) error {
		return s.table.ForEach(tx, []byte(sharePrefix), func(_, raw []byte) error {
			m, _, err := parseShare(raw)
			if err != nil {
				return corrupt(err)
			}
			r, err := s.record(tx, m.Wallet, m.Epoch)
			if err != nil {
				return err
			}
			if r == nil || r.Ceremony != m.Ceremony {
				out = append(out, m)
			}
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("list pending shares: %w", err)
	}
	return out, nil
}

// Wallets returns the newest record of each wallet. The caller verifies them against
// its charter: a file can be exchanged while nobody looks.
func (s *Store) Wallets() (out []wallet.Signed, err error) {
	err = store.View(s.db, func(tx *bbolt.Tx) error {
		last := ""
		return s.table.ForEach(tx, []byte(recordPrefix), func(_, raw []byte) error {
			signed, r, err := parseRecord(raw)
			if err != nil {
				return corrupt(err)
			}
			// In order of wallet, then epoch.
			if r.Name == last {
				out[len(out)-1] = signed
			} else {
				out = append(out, signed)
			}
			last = r.Name
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("list wallets: %w", err)
	}
	return out, nil
}

// AddPreParams puts a sealed set of pre-parameters into the pool. A set that is there
// or was ever given out is refused with ErrTaken.
func (s *Store) AddPreParams(sealed []byte) error {
	if err := keyshare.CheckSealed(sealed); err != nil {
		return fmt.Errorf("add pre-parameters: %w", err)
	}
	sealed = bytes.Clone(sealed)
	id := canon.Sum(sealed)
	err := s.writer.Do(func(tx *bbolt.Tx) error {
		for _, prefix := range []string{poolPrefix, usedPrefix} {
			if _, there, err := s.table.Get(tx, digestKey(prefix, id)); err != nil {
				return err
			} else if there {
				return ErrTaken
			}
		}
		n, err := s.count(tx)
		if err != nil {
			return err
		}
		if n >= MaxPool {
			return ErrPoolFull
		}
		return s.table.Put(tx, digestKey(poolPrefix, id), sealed)
	})
	if err != nil {
		return fmt.Errorf("add pre-parameters: %w", err)
	}
	return nil
}

var errFound = errors.New("found")

// TakePreParams takes a set out of the pool and binds it to the ceremony, in one
// step that is on disk before the set is returned. Each ceremony takes once.
func (s *Store) TakePreParams(ceremony canon.Digest) ([]byte, error) {
	if ceremony.IsZero() {
		return nil, errors.New("take pre-parameters: the ceremony is missing")
	}
	var sealed []byte
	err := s.writer.Do(func(tx *bbolt.Tx) error {
		sealed = nil
		if _, there, err := s.table.Get(tx, digestKey(ceremonyPrefix, ceremony)); err != nil {
			return err
		} else if there {
			return fmt.Errorf("ceremony %s has taken its set: %w", ceremony.Short(), ErrTaken)
		}
		err := s.table.ForEach(tx, []byte(poolPrefix), func(_, value []byte) error {
			sealed = bytes.Clone(value)
			return errFound
		})
		if err != nil && !errors.Is(err, errFound) {
			return err
		}
		if sealed == nil {
			return ErrNoPreParams
		}
		id := canon.Sum(sealed)
		return errors.Join(
			s.table.Delete(tx, digestKey(poolPrefix, id)),
			s.table.Put(tx, digestKey(usedPrefix, id), ceremony[:]),
			s.table.Put(tx, digestKey(ceremonyPrefix, ceremony), id[:]),
		)
	})
	if err != nil {
		return nil, fmt.Errorf("take pre-parameters: %w", err)
	}
	return sealed, nil
}

// PreParamsCount is the number of sets in the pool.
func (s *Store) PreParamsCount() (n int, err error) {
	err = store.View(s.db, func(tx *bbolt.Tx) error {
		n, err = s.count(tx)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("count pre-parameters: %w", err)
	}
	return n, nil
}

func (s *Store) count(tx *bbolt.Tx) (n int, err error) {
	err = s.table.ForEach(tx, []byte(poolPrefix), func(_, _ []byte) error { n++; return nil })
	return n, err
}

// Failed reports the failed write that made the key store refuse all changes, if any.
func (s *Store) Failed() error { return s.writer.Failed() }

// check reads every record, and that each stands where it belongs.
func (s *Store) check(tx *bbolt.Tx) error {
	return s.table.ForEach(tx, nil, func(key, raw []byte) error {
		var place []byte
		switch string(key[:1]) {
		case sharePrefix:
			m, _, err := parseShare(raw)
			if err != nil {
				return corrupt(err)
			}
			place = shareKey(m)
		case recordPrefix:
			_, r, err := parseRecord(raw)
			if err != nil {
				return corrupt(err)
			}
			m, _, err := s.share(tx, keyshare.Meta{Wallet: r.Name, Epoch: r.Epoch, Ceremony: r.Ceremony})
			if err == nil {
				err = belong(m, r)
			}
			if err != nil {
				return corrupt(fmt.Errorf("active wallet %q, epoch %d: %w", r.Name, r.Epoch, err))
			}
			place = epochKey(recordPrefix, r.Name, r.Epoch)
		case provedPrefix:
			r, err := wallet.Parse(raw)
			if err != nil {
				return corrupt(err)
			}
			m, _, err := s.share(tx, keyshare.Meta{Wallet: r.Name, Epoch: r.Epoch, Ceremony: r.Ceremony})
			if err == nil {
				err = belong(m, r)
			}
			if err != nil {
				return corrupt(fmt.Errorf("proved wallet %q, epoch %d: %w", r.Name, r.Epoch, err))
			}
			place = epochKey(provedPrefix, r.Name, r.Epoch)
		case attestedPrefix:
			if _, err := canon.DigestFrom(raw); err != nil {
				return corrupt(err)
			}
			return nil // its key is covered by the record's checksum
		case poolPrefix:
			if err := keyshare.CheckSealed(raw); err != nil {
				return corrupt(err)
			}
			place = digestKey(poolPrefix, canon.Sum(raw))
			if _, used, err := s.table.Get(tx, digestKey(usedPrefix, canon.Sum(raw))); err != nil {
				return err
			} else if used {
				return corrupt(errors.New("pre-parameters that were given out are in the pool"))
			}
		case usedPrefix, ceremonyPrefix:
			back := ceremonyPrefix
			if string(key[:1]) == ceremonyPrefix {
				back = usedPrefix
			}
			other, err := canon.DigestFrom(raw)
			if err != nil {
				return corrupt(err)
			}
			is, _, err := s.table.Get(tx, digestKey(back, other))
			if err != nil {
				return err
			}
			place = append(bytes.Clone(key[:1]), is...)
		default:
			return corrupt(errors.New("a record of an unknown kind"))
		}
		if !bytes.Equal(place, key) {
			return corrupt(fmt.Errorf("a record of kind %q is not in its place", key[:1]))
		}
		return nil
	})
}
