package coordinator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"go.etcd.io/bbolt"

	"coffer/approval"
	"coffer/canon"
	"coffer/chain/evm"
	"coffer/intent"
	pb "coffer/proto/coffer/v1"
	"coffer/store"
)

// item is one intent with all that the coordinator knows of it. Items are values:
// the flow changes a copy and saves it, so what others read is always what is on disk.
type item struct {
	ID         canon.Digest      `json:"id"`
	Intent     intent.Signed     `json:"intent"`
	Statements []approval.Signed `json:"statements,omitempty"`
	Anyway     bool              `json:"anyway,omitempty"`

	Stage    pb.Stage           `json:"stage"`
	Detail   string             `json:"detail"`
	Code     string             `json:"code,omitempty"`
	Verdicts map[string]verdRec `json:"verdicts,omitempty"`

	Unsigned []byte         `json:"unsigned,omitempty"` // what the signers were asked to sign last
	Sent     []sent         `json:"sent,omitempty"`     // oldest first; at most one of them is ever mined
	Mined    *mined         `json:"mined,omitempty"`
	Wallet   []byte         `json:"wallet,omitempty"`  // protobuf of the signed record
	Tries    int            `json:"tries,omitempty"`   // sessions or ceremonies that failed
	Quorums  map[string]int `json:"quorums,omitempty"` // signers -> how often they failed together
	// Recalled is set while an intent that signers told after the store was lost is looked
	// for: who told it, and whether that signer went on with it.
	Recalled map[string]bool `json:"recalled,omitempty"`
	// SignedElsewhere: signers went on with it before the store was lost, so that a
	// transaction of it may be in somebody's pool and be mined as long as its nonce is free.
	SignedElsewhere bool `json:"signed_elsewhere,omitempty"`

	Phases  []phase `json:"phases,omitempty"`
	Since   int64   `json:"since"`   // Unix milliseconds, begin of this phase
	Created int64   `json:"created"` // Unix milliseconds
	Updated int64   `json:"updated"` // Unix milliseconds
}

// sent is one signed transaction of an intent. A higher fee makes another one.
type sent struct {
	Raw      []byte   `json:"raw"`
	SignedBy []string `json:"signed_by,omitempty"` // empty: found on the chain, by whom it was signed is not known
	Time     int64    `json:"time"`                // Unix milliseconds
}

func (s *sent) hash() [32]byte { return evm.Hash(s.Raw) }

// mined is where the chain has one of them.
type mined struct {
	Hash      canon.Digest `json:"hash"` // of the transaction
	Block     uint64       `json:"block"`
	BlockHash canon.Digest `json:"block_hash"`
	Reverted  bool         `json:"reverted,omitempty"`
}

// hashes are those of all that was sent, the newest first: the likeliest to be mined.
func (it *item) hashes() [][32]byte {
	out := make([][32]byte, 0, len(it.Sent))
	for n := range it.Sent {
		out = append(out, it.Sent[len(it.Sent)-1-n].hash())
	}
	return out
}

// version is the transaction that counts: the one that was mined, else the newest.
func (it *item) version() *sent {
	for n := range it.Sent {
		if it.Mined != nil && it.Sent[n].hash() == it.Mined.Hash {
			return &it.Sent[n]
		}
	}
	if len(it.Sent) == 0 {
		return nil
	}
	return &it.Sent[len(it.Sent)-1]
}

// verdRec is a signer's newest verdict, or why it could not be asked.
type verdRec struct {
	Raw       []byte `json:"raw,omitempty"`
	Signature []byte `json:"signature,omitempty"`
	Error     string `json:"error,omitempty"`
}

type phase struct {
	Name         string `json:"name"`
	Milliseconds int64  `json:"ms"`
}

// onChain says that it is signed, and what can still stop it is a cancel at most.
func (it *item) onChain() bool {
	return it.Stage == pb.Stage_STAGE_BROADCAST || it.Stage == pb.Stage_STAGE_CONFIRMATION
}

func (it *item) ended() bool {
	switch it.Stage {
	case pb.Stage_STAGE_DONE, pb.Stage_STAGE_REFUSED, pb.Stage_STAGE_FAILED:
		return true
	default:
		return false
	}
}

// holds reports whether this very statement was taken before.
func (it *item) holds(signed approval.Signed) bool {
	return slices.ContainsFunc(it.Statements, func(s approval.Signed) bool {
		return bytes.Equal(s.Raw, signed.Raw) && bytes.Equal(s.Signature, signed.Signature)
	})
}

// phaseDone closes the running phase under the given name.
func (it *item) phaseDone(name string, now time.Time) {
	ms := now.UnixMilli()
	it.Phases = append(it.Phases, phase{Name: name, Milliseconds: ms - it.Since})
	it.Since = ms
}

var (
	errNoItem = errors.New("no such intent")
	// errEnded and errSigned: too late for a statement.
	errEnded  = errors.New("has ended")
	errSigned = errors.New("is signed and on its way into a block: what can still stop it is a cancel")
	// errNews: a statement came that the caller has not seen.
	errNews = errors.New("there is a new statement")
)

// items is the coordinator's store. A lost store costs no money: the chain, the
// signers' journals and the intents' own nonces decide what was paid.
type items struct {
	db      *bbolt.DB
	writer  *store.Writer
	intents *store.Table // digest -> item as JSON
	refs    *store.Table // digest of initiator and reference -> digest
	records *store.Table // wallet name -> protobuf of the signed record
	cancels *store.Table // digest of an intent -> digest of the cancel that was mined in its place
	sent    *store.Table // hash of a signed transaction -> digest of its intent
}

func openItems(db *bbolt.DB) (*items, error) {
	s := &items{db: db, writer: store.NewWriter(db)}
	for name, table := range map[string]**store.Table{"intents": &s.intents, "references": &s.refs, "wallets": &s.records, "cancelled": &s.cancels, "transactions": &s.sent} {
		var err error
		if *table, err = store.OpenTable(db, name); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func referenceKey(initiator, reference string) []byte {
	d := canon.New("coffer/coordinator-reference").String(initiator).String(reference).Sum()
	return d[:]
}

// add stores a new item and its reference, which is new too, together.
func (s *items) add(it item, initiator, reference string) error {
	err := s.writer.Do(func(tx *bbolt.Tx) error {
		if err := s.refs.Put(tx, referenceKey(initiator, reference), it.ID[:]); err != nil {
			return err
		}
		return s.put(tx, it)
	})
	if err != nil {
		return fmt.Errorf("store intent: %w", err)
	}
	return nil
}

// save writes what the flow changed. Statements are addStatement's alone: one that
// arrived while a stage worked on its copy must not be lost to that copy.
func (s *items) save(it item) error { return s.saveUnlessNews(it, -1) }

// saveUnlessNews is save, but errNews if there are other than seen statements.
func (s *items) saveUnlessNews(it item, seen int) error {
	err := s.writer.Do(func(tx *bbolt.Tx) error {
		stored, err := s.read(tx, it.ID[:])
		if err != nil {
			return err
		}
		if seen >= 0 && len(stored.Statements) != seen {
			return errNews
		}
		it.Statements = stored.Statements
		return s.put(tx, it)
	})
	if err != nil {
		return fmt.Errorf("store intent: %w", err)
	}
	return nil
}

// addStatement adds a statement, which its author signed, to an intent that can still
// be changed by it (approval.Keep).
func (s *items) addStatement(id canon.Digest, signed approval.Signed) (it *item, err error) {
	err = s.writer.Do(func(tx *bbolt.Tx) error {
		if it, err = s.read(tx, id[:]); err != nil {
			return err
		}
		if it.ended() {
			return errEnded
		}
		if it.onChain() && !it.unsent() {
			return errSigned
		}
		var changed bool
		if it.Statements, changed, err = approval.Keep(it.Statements, signed); err != nil || !changed {
			return err
		}
		return s.put(tx, *it)
	})
	return it, err
}

// markCancelled remembers that a cancel was mined in the place of its subject.
func (s *items) markCancelled(subject, by canon.Digest) error {
	err := s.writer.Do(func(tx *bbolt.Tx) error { return s.cancels.Put(tx, subject[:], by[:]) })
	if err != nil {
		return fmt.Errorf("store cancel: %w", err)
	}
	return nil
}

// cancelledBy answers the cancel that was mined in the place of an intent, or nil.
func (s *items) cancelledBy(id canon.Digest) (by *canon.Digest, err error) {
	err = store.View(s.db, func(tx *bbolt.Tx) error {
		raw, ok, err := s.cancels.Get(tx, id[:])
		if err != nil || !ok {
			return err
		}
		d, err := canon.DigestFrom(raw)
		by = &d
		return err
	})
	return by, err
}

func (s *items) get(id canon.Digest) (*item, error) {
	var it *item
	err := store.View(s.db, func(tx *bbolt.Tx) (err error) {
		it, err = s.read(tx, id[:])
		return err
	})
	return it, err
}

// byReference answers the intent for which an initiator used a reference, or nil.
func (s *items) byReference(initiator, reference string) (it *item, err error) {
	err = store.View(s.db, func(tx *bbolt.Tx) error {
		id, used, err := s.refs.Get(tx, referenceKey(initiator, reference))
		if err != nil || !used {
			return err
		}
		it, err = s.read(tx, id)
		return err
	})
	return it, err
}

// find takes a whole ID in hex or a prefix of it that only one intent has.
func (s *items) find(prefix string) (*item, error) {
	prefix = strings.ToLower(prefix)
	if len(prefix) < 6 || len(prefix) > 64 || strings.Trim(prefix, "0123456789abcdef") != "" {
		return nil, fmt.Errorf("intent ID %q: give 6 to 64 hex digits", prefix)
	}
	if id, err := canon.ParseDigest(prefix); err == nil {
		it, err := s.get(id)
		if err != nil {
			return nil, fmt.Errorf("%w: %s", err, prefix)
		}
		return it, nil
	}
	var found []item
	all, err := s.all()
	if err != nil {
		return nil, err
	}
	for _, it := range all {
		if strings.HasPrefix(it.ID.String(), prefix) {
			found = append(found, it)
		}
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("%w: %s", errNoItem, prefix)
	case 1:
		return &found[0], nil
	}
	return nil, fmt.Errorf("intent ID %q fits %d intents: give more digits", prefix, len(found))
}

// all answers every item, newest first.
func (s *items) all() ([]item, error) {
	var list []item
	err := store.View(s.db, func(tx *bbolt.Tx) error {
		return s.intents.ForEach(tx, nil, func(k, v []byte) error {
			it, err := decodeItem(k, v)
			if err != nil {
				return err
			}
			list = append(list, *it)
			return nil
		})
	})
	sort.Slice(list, func(i, j int) bool {
		if list[i].Created != list[j].Created {
			return list[i].Created > list[j].Created
		}
		return list[i].ID.String() > list[j].ID.String() // pages need one order
	})
	return list, err
}

func (s *items) putWallet(name string, record []byte) error {
	err := s.writer.Do(func(tx *bbolt.Tx) error { return s.records.Put(tx, []byte(name), record) })
	if err != nil {
		return fmt.Errorf("store wallet: %w", err)
	}
	return nil
}

func (s *items) wallets() (map[string][]byte, error) {
	out := map[string][]byte{}
	err := store.View(s.db, func(tx *bbolt.Tx) error {
		return s.records.ForEach(tx, nil, func(k, v []byte) error {
			out[string(k)] = append([]byte(nil), v...)
			return nil
		})
	})
	return out, err
}

// byTransaction answers the intent for which a transaction was signed, or nil.
func (s *items) byTransaction(hash [32]byte) (it *item, err error) {
	err = store.View(s.db, func(tx *bbolt.Tx) error {
		id, known, err := s.sent.Get(tx, hash[:])
		if err != nil || !known {
			return err
		}
		it, err = s.read(tx, id)
		return err
	})
	return it, err
}

func (s *items) put(tx *bbolt.Tx, it item) error {
	raw, err := json.Marshal(it)
	if err != nil {
		return err
	}
	for _, hash := range it.hashes() {
		if _, known, err := s.sent.Get(tx, hash[:]); err != nil {
			return err
		} else if known {
			continue
		}
		if err := s.sent.Put(tx, hash[:], it.ID[:]); err != nil {
			return err
		}
	}
	return s.intents.Put(tx, it.ID[:], raw)
}

func (s *items) read(tx *bbolt.Tx, id []byte) (*item, error) {
	raw, ok, err := s.intents.Get(tx, id)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, errNoItem
	}
	return decodeItem(id, raw)
}

func decodeItem(id, raw []byte) (*item, error) {
	it := new(item)
	if err := json.Unmarshal(raw, it); err != nil {
		return nil, fmt.Errorf("stored intent %x is damaged: %w", id, err)
	}
	return it, nil
}
