package audit

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"coffer/canon"
	"coffer/identity"
	"coffer/internal/crashpoint"
	"coffer/store"
)

const (
	// signEvery is how many entries may follow the checkpoint in the folder.
	signEvery = 64
	// maxGroup bounds how many events one sync may carry.
	maxGroup = 256
)

// Log is an open audit log. Make it with Open. It may be used by several goroutines;
// events that wait at the same time share the syncs.
type Log struct {
	dir       folder
	release   func() error
	origin    string
	signer    *signer
	records   file
	hashes    file
	recovered string

	// commit is held by the caller that writes for all that wait, and guards what
	// only a writer uses.
	commit sync.Mutex
	edge   frontier
	signed int64 // size of the checkpoint in the folder

	mu      sync.Mutex // guards the rest; never held during I/O
	waiting []*pending
	size    int64
	starts  []int64 // of each entry in "records", and of the next
	failed  error   // sticky
	closed  bool
}

type pending struct {
	event Event
	index int64
	err   error
	done  bool
}

// Open reads the whole log in dir and verifies it, or begins one in an empty folder.
// origin names the log; it stands in every checkpoint and must not change.
func Open(dir string, key *identity.Key, origin string) (*Log, error) {
	return OpenSince(dir, key, origin, 0)
}

// OpenSince is Open for a caller who knows elsewhere that the log had so many entries
// once. One that has fewer is damaged, such as an older copy, of which nothing else shows
// that the end is missing.
func OpenSince(dir string, key *identity.Key, origin string, least int64) (*Log, error) {
	l, err := open(diskFolder(dir), key, origin, least)
	if err != nil {
		return nil, fmt.Errorf("open audit log %s: %w", dir, err)
	}
	return l, nil
}

func open(dir folder, key *identity.Key, origin string, least int64) (_ *Log, err error) {
	l := &Log{dir: dir, origin: origin}
	if l.signer, err = newSigner(key, origin); err != nil {
		return nil, err
	}
	if l.release, err = dir.lock(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.closeFiles())
		}
	}()
	if l.records, err = dir.open(recordsName); err != nil {
		return nil, err
	}
	if l.hashes, err = dir.open(hashesName); err != nil {
		return nil, err
	}
	if err := l.load(least); err != nil {
		return nil, store.Explain(err)
	}
	return l, nil
}

func (l *Log) load(least int64) error {
	recordsSize, err := l.records.Size()
	if err != nil {
		return err
	}
	hashesSize, err := l.hashes.Size()
	if err != nil {
		return err
	}
	s, err := scan(l.records, recordsSize, l.hashes, hashesSize)
	if err != nil {
		return err
	}
	note, noteErr := l.dir.read(checkpointName)
	if err := s.checkOwn(note, noteErr, l.hashes); err != nil {
		return err
	}
	if s.size > 0 {
		if o, id := s.origin(), s.identity(); s.begin.Code != CodeBegin || o != l.origin || id != l.signer.key.ID() {
			return fmt.Errorf("it is %w: of %q under identity %s, not of %q under %s: each has a folder of its own", ErrIdentity, o, id, l.origin, l.signer.key.ID())
		}
	}
	// Before anything is cut off: what looks like the torn end of an older copy may be
	// entries of which only the hashes are older.
	if s.size < least {
		return fmt.Errorf("entry %d: it is missing, %d were written: this is an older copy: %w", s.size, least, ErrDamaged)
	}
	l.edge, l.size, l.starts = s.edge, s.size, s.starts
	var first []Event
	if s.size == 0 {
		first = append(first, Event{Code: CodeBegin, Detail: map[string]string{"origin": l.origin, "identity": string(l.signer.key.ID())}})
		if err := l.dir.sync(); err != nil {
			return err
		}
	}
	if s.tornRec+s.tornSum > 0 {
		// Never acknowledged, so nobody acted on it. Synced, so that no part of it comes
		// back behind what is written next.
		err := errors.Join(l.records.Truncate(s.starts[s.size]), l.hashes.Truncate(tlog.StoredHashCount(s.size)*tlog.HashSize),
			l.records.Sync(), l.hashes.Sync())
		if err != nil {
			return err
		}
		if s.size > 0 {
			l.recovered = fmt.Sprintf("cut off %d bytes of entries and %d of hashes after entry %d: they were being written when the process ended, and nothing was done on them", s.tornRec, s.tornSum, s.size-1)
			first = append(first, Event{Code: CodeRecovered, Detail: map[string]string{"records": strconv.FormatInt(s.tornRec, 10), "hashes": strconv.FormatInt(s.tornSum, 10)}})
		}
	}
	for _, e := range first {
		if _, err := l.Append(e); err != nil {
			return err
		}
	}
	l.commit.Lock()
	defer l.commit.Unlock()
	return l.sign()
}

// Handover passes a closed log on to another identity of the same owner: by an entry that
// the identity before signs. A log that is the next one's already stays as it is. One of
// fewer than least entries is damaged, as for OpenSince: the entry that is added here
// would stand in the place of one that is missing.
func Handover(dir string, from, to *identity.Key, origin string, least int64) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("hand over audit log %s: %w", dir, err)
		}
	}()
	l, err := open(diskFolder(dir), from, origin, least)
	if errors.Is(err, ErrIdentity) {
		if l, err = open(diskFolder(dir), to, origin, least); err == nil {
			return l.Close()
		}
	}
	if err != nil {
		return err
	}
	e := Event{Code: CodeIdentity, Detail: map[string]string{
		"identity":  string(to.ID()),
		"signature": base64.StdEncoding.EncodeToString(from.Sign(handoverMessage(origin, l.Size(), to.ID()))),
	}}
	if _, err := l.Append(e); err != nil {
		return errors.Join(err, l.Close())
	}
	l.commit.Lock()
	l.signer, err = newSigner(to, origin)
	l.signed = -1 // its end is to be signed by the new identity
	l.commit.Unlock()
	return errors.Join(err, l.Close())
}

// handoverMessage is what an identity signs that leaves its log, of so many entries, to
// another one.
func handoverMessage(origin string, size int64, to identity.ID) []byte {
	return canon.New(handoverDomain).String(origin).Uint64(uint64(size)).String(string(to)).Encoded()
}

const handoverDomain = "coffer/audit-identity/v1"

// Recovered says in a sentence what Open cut off after a crash, or is empty.
func (l *Log) Recovered() string { return l.recovered }

// Append writes an event and returns its index when it is on disk. Whoever gets an
// error does not act; after an error other than ErrEvent nothing is accepted any more.
func (l *Log) Append(e Event) (index int64, err error) {
	if e.Time == 0 {
		e.Time = time.Now().Unix()
	}
	if e, err = e.clean(); err != nil {
		return 0, fmt.Errorf("append: %w", err)
	}
	p := &pending{event: e}
	l.mu.Lock()
	if err := l.refusal(); err != nil {
		l.mu.Unlock()
		return 0, err
	}
	l.waiting = append(l.waiting, p)
	l.mu.Unlock()

	l.commit.Lock()
	defer l.commit.Unlock()
	// Whoever wrote before may have written this event too; it is done or waiting.
	for !p.done {
		l.mu.Lock()
		group := l.waiting[:min(len(l.waiting), maxGroup)]
		l.waiting = l.waiting[len(group):]
		err := l.refusal()
		size, start := l.size, l.starts[l.size]
		l.mu.Unlock()
		if err == nil {
			err = l.write(group, size, start)
		}
		for _, p := range group {
			p.err, p.done = err, true
		}
	}
	if p.err != nil {
		return 0, p.err
	}
	return p.index, nil
}

func (l *Log) refusal() error {
	if l.failed != nil {
		return fmt.Errorf("%w: %w", ErrFailed, l.failed)
	}
	if l.closed {
		return ErrClosed
	}
	return nil
}

func (l *Log) fail(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed == nil {
		l.failed = store.Explain(err)
	}
	return l.refusal()
}

// write puts a group on disk: entries, sync, hashes, sync. The order is what tells an
// entry that was acknowledged from one that was not.
func (l *Log) write(group []*pending, size, start int64) error {
	var entries, sums []byte
	starts := make([]int64, 0, len(group))
	edge := l.edge
	for i, p := range group {
		p.index = size + int64(i)
		raw := p.event.encode(p.index)
		entries = binary.BigEndian.AppendUint32(entries, uint32(len(raw)))
		entries = append(entries, raw...)
		starts = append(starts, start+int64(len(entries)))
		for _, h := range edge.add(p.index, tlog.RecordHash(raw)) {
			sums = append(sums, h[:]...)
		}
	}
	if err := crashpoint.Write("audit.entries"); err != nil {
		return l.fail(fmt.Errorf("write entries: %w", err))
	}
	if _, err := l.records.WriteAt(entries, start); err != nil {
		return l.fail(fmt.Errorf("write entries: %w", err))
	}
	if err := l.records.Sync(); err != nil {
		return l.fail(fmt.Errorf("sync entries: %w", err))
	}
	if err := crashpoint.Write("audit.hashes"); err != nil {
		return l.fail(fmt.Errorf("write hashes: %w", err))
	}
	if _, err := l.hashes.WriteAt(sums, tlog.StoredHashCount(size)*tlog.HashSize); err != nil {
		return l.fail(fmt.Errorf("write hashes: %w", err))
	}
	if err := l.hashes.Sync(); err != nil {
		return l.fail(fmt.Errorf("sync hashes: %w", err))
	}
	crashpoint.Hit("audit.appended")
	l.edge = edge
	l.mu.Lock()
	l.size += int64(len(group))
	l.starts = append(l.starts, starts...)
	now := l.size
	l.mu.Unlock()
	if now-l.signed >= signEvery {
		if err := l.sign(); err != nil {
			return l.fail(err)
		}
	}
	return nil
}

// sign renews the checkpoint in the folder. The caller holds commit.
func (l *Log) sign() error {
	raw, size, err := l.checkpoint()
	if err != nil {
		return err
	}
	if err := l.dir.replace(checkpointName, raw); err != nil {
		return fmt.Errorf("write checkpoint: %w", err)
	}
	l.signed = size
	return nil
}

// Size is the number of entries.
func (l *Log) Size() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.size
}

// Tree is the log as it is now.
func (l *Log) Tree() (tlog.Tree, error) { return treeOf(l.Size(), l.hashes) }

// Checkpoint is a signed note of the log as it is now.
func (l *Log) Checkpoint() ([]byte, error) {
	raw, _, err := l.checkpoint()
	return raw, err
}

func (l *Log) checkpoint() ([]byte, int64, error) {
	tree, err := treeOf(l.Size(), l.hashes)
	if err != nil {
		return nil, 0, fmt.Errorf("make checkpoint: %w", err)
	}
	raw, err := note.Sign(&note.Note{Text: formatCheckpoint(l.origin, tree)}, l.signer)
	if err != nil {
		return nil, 0, fmt.Errorf("make checkpoint: %w", err)
	}
	return raw, tree.N, nil
}

func (l *Log) raw(i int64) ([]byte, error) {
	l.mu.Lock()
	if i < 0 || i >= l.size {
		size := l.size
		l.mu.Unlock()
		return nil, fmt.Errorf("%w: %d of %d", ErrNoEntry, i, size)
	}
	from, to := l.starts[i]+lengthSize, l.starts[i+1]
	l.mu.Unlock()
	raw := make([]byte, to-from)
	if _, err := l.records.ReadAt(raw, from); err != nil {
		return nil, fmt.Errorf("read entry %d: %w", i, err)
	}
	return raw, nil
}

// Record is entry i.
func (l *Log) Record(i int64) (Event, error) {
	raw, err := l.raw(i)
	if err != nil {
		return Event{}, err
	}
	e, err := parseAt(raw, i)
	if err != nil {
		return Event{}, fmt.Errorf("%w: %w", err, ErrDamaged)
	}
	return e, nil
}

// Inclusion proves to someone else that an entry is in the log.
type Inclusion struct {
	Index      int64
	Record     []byte // canonical bytes of the entry
	Path       tlog.RecordProof
	Checkpoint []byte
}

// Proof proves entry i against a checkpoint of now.
func (l *Log) Proof(i int64) (*Inclusion, error) {
	raw, err := l.raw(i)
	if err != nil {
		return nil, err
	}
	note, size, err := l.checkpoint()
	if err != nil {
		return nil, err
	}
	path, err := tlog.ProveRecord(size, i, hashReader{l.hashes})
	if err != nil {
		return nil, fmt.Errorf("prove entry %d: %w", i, err)
	}
	return &Inclusion{Index: i, Record: raw, Path: path, Checkpoint: note}, nil
}

// Check returns the entry, if peer's log of that origin contains it.
func (p *Inclusion) Check(peer identity.ID, origin string) (Event, error) {
	tree, err := OpenCheckpoint(p.Checkpoint, peer, origin)
	if err != nil {
		return Event{}, fmt.Errorf("%w: %w", ErrProof, err)
	}
	if err := tlog.CheckRecord(p.Path, tree.N, tree.Hash, p.Index, tlog.RecordHash(p.Record)); err != nil {
		return Event{}, fmt.Errorf("%w: %w", ErrProof, err)
	}
	e, err := parseAt(p.Record, p.Index)
	if err != nil {
		return Event{}, fmt.Errorf("%w: %w", ErrProof, err)
	}
	return e, nil
}

// Consistency proves that the log as it is now extends its first n entries.
func (l *Log) Consistency(n int64) (tlog.TreeProof, []byte, error) {
	raw, size, err := l.checkpoint()
	if err != nil {
		return nil, nil, err
	}
	if n < 1 || n > size {
		return nil, nil, fmt.Errorf("%w: %d of %d", ErrNoEntry, n, size)
	}
	proof, err := tlog.ProveTree(size, n, hashReader{l.hashes})
	if err != nil {
		return nil, nil, fmt.Errorf("prove consistency with %d entries: %w", n, err)
	}
	return proof, raw, nil
}

// Failed reports the failed write that made the log refuse all events, if any.
func (l *Log) Failed() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed == nil {
		return nil
	}
	return l.refusal()
}

// Close signs the end of the log and closes it. It may be called more than once.
func (l *Log) Close() error {
	l.commit.Lock()
	defer l.commit.Unlock()
	l.mu.Lock()
	closed, failed := l.closed, l.failed
	l.closed = true
	l.mu.Unlock()
	if closed {
		return nil
	}
	var err error
	if failed == nil && l.signed != l.Size() {
		err = l.sign()
	}
	return errors.Join(err, l.closeFiles())
}

func (l *Log) closeFiles() error {
	var errs []error
	for _, f := range []file{l.records, l.hashes} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	if l.release != nil {
		errs = append(errs, l.release())
	}
	return errors.Join(errs...)
}
