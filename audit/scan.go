package audit

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"coffer/identity"
)

const lengthSize = 4

// frontier holds the roots of the complete subtrees at the right edge of the tree, by
// level: all that is needed to append.
type frontier [64]tlog.Hash

// add returns the hashes that entry n adds to the tree, in tlog's order of storage.
func (f *frontier) add(n int64, leaf tlog.Hash) []tlog.Hash {
	out := []tlog.Hash{leaf}
	level := 0
	for ; n>>level&1 == 1; level++ {
		leaf = tlog.NodeHash(f[level], leaf)
		out = append(out, leaf)
	}
	f[level] = leaf
	return out
}

// hashReader reads the "hashes" file for tlog.
type hashReader struct{ io.ReaderAt }

func (r hashReader) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		if _, err := r.ReadAt(out[i][:], index*tlog.HashSize); err != nil {
			return nil, fmt.Errorf("read audit hash %d: %w", index, err)
		}
	}
	return out, nil
}

// scanned is a log that was read from end to end.
type scanned struct {
	size    int64   // entries that have all their hashes
	starts  []int64 // where each entry's length stands in "records", and where the next goes
	edge    frontier
	tornRec int64 // bytes in "records" after the last entry
	tornSum int64 // bytes in "hashes" after the last entry's
	begin   Event // entry 0
	holders []holder
}

// holder is whose checkpoints count while the log has so many entries and more.
type holder struct {
	from int64
	id   identity.ID
}

// origin is the log's name, by its first entry.
func (s *scanned) origin() string { return s.begin.Detail["origin"] }

// identity is whose log it is now.
func (s *scanned) identity() identity.ID {
	if len(s.holders) == 0 {
		return ""
	}
	return s.holders[len(s.holders)-1].id
}

// hand takes the entry by which the log passes to another identity: the one before has
// signed it.
func (s *scanned) hand(e Event) error {
	next := identity.ID(e.Detail["identity"])
	signature, err := base64.StdEncoding.DecodeString(e.Detail["signature"])
	if err != nil {
		return err
	}
	if err := s.identity().Verify(handoverMessage(s.origin(), s.size, next), signature); err != nil {
		return err
	}
	s.holders = append(s.holders, holder{s.size + 1, next})
	return nil
}

// open verifies a checkpoint by the identity whose log it was at that size.
func (s *scanned) open(raw []byte) (tlog.Tree, identity.ID, error) {
	var first error
	until := int64(math.MaxInt64)
	for _, h := range slices.Backward(s.holders) {
		tree, err := OpenCheckpoint(raw, h.id, s.origin())
		if err == nil && tree.N >= h.from && tree.N < until {
			return tree, h.id, nil
		} else if first == nil {
			first = err
		}
		until = h.from
	}
	if first == nil {
		first = errors.New("checkpoint is signed by an identity whose log it was not at that size")
	}
	return tlog.Tree{}, "", first
}

// scan reads all entries and compares them with the stored hashes. Only what is
// beyond the last complete entry may be incomplete.
func scan(records io.ReaderAt, recordsSize int64, hashes io.ReaderAt, hashesSize int64) (*scanned, error) {
	s := &scanned{starts: []int64{0}}
	stored := hashesSize / tlog.HashSize // a hash that is cut short does not count
	in := bufio.NewReaderSize(io.NewSectionReader(records, 0, recordsSize), 1<<16)
	sums := bufio.NewReaderSize(io.NewSectionReader(hashes, 0, stored*tlog.HashSize), 1<<16)
	for at := int64(0); tlog.StoredHashCount(s.size+1) <= stored; s.size++ {
		// A disk that lost power while hashes were written may have grown the file
		// without writing all of it. Such a place reads as zeros, which no hash is, and
		// the log ends there. The checkpoint keeps this from hiding an older loss.
		sum := make([]byte, (tlog.StoredHashCount(s.size+1)-tlog.StoredHashCount(s.size))*tlog.HashSize)
		if _, err := io.ReadFull(sums, sum); err != nil {
			return nil, fmt.Errorf("entry %d: read its hash: %w", s.size, err)
		}
		if hasZeroHash(sum) {
			break
		}
		raw, err := readRecord(in, recordsSize-at)
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w: %w", s.size, err, ErrDamaged)
		}
		for _, h := range s.edge.add(s.size, tlog.RecordHash(raw)) {
			if string(h[:]) != string(sum[:tlog.HashSize]) {
				return nil, fmt.Errorf("entry %d: its bytes and its hash do not agree: %w", s.size, ErrDamaged)
			}
			sum = sum[tlog.HashSize:]
		}
		event, err := parseAt(raw, s.size)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", err, ErrDamaged)
		}
		switch {
		case s.size == 0:
			s.begin, s.holders = event, []holder{{0, identity.ID(event.Detail["identity"])}}
		case event.Code == CodeIdentity:
			if err := s.hand(event); err != nil {
				return nil, fmt.Errorf("entry %d: it passes the log to another identity: %w: %w", s.size, err, ErrDamaged)
			}
		}
		at += lengthSize + int64(len(raw))
		s.starts = append(s.starts, at)
	}
	s.tornRec = recordsSize - s.starts[s.size]
	s.tornSum = hashesSize - tlog.StoredHashCount(s.size)*tlog.HashSize
	return s, nil
}

func hasZeroHash(sums []byte) bool {
	var zero tlog.Hash
	for ; len(sums) > 0; sums = sums[tlog.HashSize:] {
		if string(sums[:tlog.HashSize]) == string(zero[:]) {
			return true
		}
	}
	return false
}

// parseAt reads an entry and demands that it stands where it says.
func parseAt(raw []byte, i int64) (Event, error) {
	index, e, err := ParseEvent(raw)
	if err != nil {
		return Event{}, fmt.Errorf("entry %d: %w", i, err)
	}
	if index != i {
		return Event{}, fmt.Errorf("entry %d: it says that it is entry %d", i, index)
	}
	return e, nil
}

func readRecord(in io.Reader, left int64) ([]byte, error) {
	var head [lengthSize]byte
	if left < lengthSize {
		return nil, errors.New("it is missing")
	}
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return nil, err
	}
	n := int64(binary.BigEndian.Uint32(head[:]))
	if n > maxRecord || n > left-lengthSize {
		return nil, fmt.Errorf("its length is %d, of %d bytes left", n, left-lengthSize)
	}
	raw := make([]byte, n)
	_, err := io.ReadFull(in, raw)
	return raw, err
}

// tree is the tree of the first n entries.
func treeOf(n int64, hashes io.ReaderAt) (tlog.Tree, error) {
	root, err := tlog.TreeHash(n, hashReader{hashes})
	if err != nil {
		return tlog.Tree{}, err
	}
	return tlog.Tree{N: n, Hash: root}, nil
}

// extends checks that a checkpoint describes a beginning of the log.
func (s *scanned) extends(t tlog.Tree, hashes io.ReaderAt) error {
	if t.N > s.size {
		return fmt.Errorf("entry %d: it is missing, a checkpoint counts %d entries: %w", s.size, t.N, ErrDamaged)
	}
	got, err := treeOf(t.N, hashes)
	if err != nil {
		return err
	}
	if got != t {
		return fmt.Errorf("entries before %d are not those that a checkpoint signed: %w", t.N, ErrDamaged)
	}
	return nil
}

// checkOwn compares the log with the checkpoint in its folder.
func (s *scanned) checkOwn(raw []byte, readErr error, hashes io.ReaderAt) error {
	switch {
	case errors.Is(readErr, fs.ErrNotExist) && s.size <= 1:
		return nil // a crash while the log was begun
	case errors.Is(readErr, fs.ErrNotExist):
		return fmt.Errorf("the file %q is missing: %w", checkpointName, ErrDamaged)
	case readErr != nil:
		return fmt.Errorf("read checkpoint: %w", readErr)
	case s.size == 0:
		return fmt.Errorf("entry 0: it is missing, but there is a checkpoint: %w", ErrDamaged)
	}
	tree, peer, err := s.open(raw)
	if err != nil {
		return fmt.Errorf("%w: %w", err, ErrDamaged)
	}
	if !exactNote(raw, peer, s.origin()) {
		return fmt.Errorf("checkpoint is not as it was written: %w", ErrDamaged)
	}
	return s.extends(tree, hashes)
}

// Report is what Verify found.
type Report struct {
	Size     int64       // entries
	Root     tlog.Hash   // of the tree of all of them
	Origin   string      // whose log it is, by its first entry
	Identity identity.ID // whose log it is now
	Signed   int64       // entries that the checkpoint in the folder covers
	Torn     int64       // bytes after the last entry, of a write that was never acknowledged
}

// Verify reads a log without changing it, and needs no key: it checks every entry,
// every hash and the checkpoint. known are checkpoints that were kept elsewhere; the
// log must extend each of them. Whether Identity is the right one is for the caller
// to compare with the charter.
func Verify(dir string, known ...[]byte) (*Report, error) {
	return verify(diskFolder(dir), known)
}

func verify(dir folder, known [][]byte) (*Report, error) {
	// The checkpoint first: on a log in use, the entries read later extend it.
	note, noteErr := dir.read(checkpointName)
	hashes, err := dir.read(hashesName)
	if err != nil {
		return nil, fmt.Errorf("verify audit log: %w", err)
	}
	records, err := dir.read(recordsName)
	if err != nil {
		return nil, fmt.Errorf("verify audit log: %w", err)
	}
	sums := bytes.NewReader(hashes)
	s, err := scan(bytes.NewReader(records), int64(len(records)), sums, int64(len(hashes)))
	if err != nil {
		return nil, fmt.Errorf("verify audit log: %w", err)
	}
	if err := s.checkOwn(note, noteErr, sums); err != nil {
		return nil, fmt.Errorf("verify audit log: %w", err)
	}
	r := &Report{Size: s.size, Origin: s.origin(), Identity: s.identity(), Torn: s.tornRec + s.tornSum}
	if s.size > 0 && s.begin.Code != CodeBegin {
		return nil, fmt.Errorf("verify audit log: entry 0: its code is %q: %w", s.begin.Code, ErrDamaged)
	}
	if noteErr == nil {
		tree, _, err := s.open(note)
		if err != nil {
			return nil, fmt.Errorf("verify audit log: %w", err)
		}
		r.Signed = tree.N
	}
	for _, raw := range known {
		tree, _, err := s.open(raw)
		if err != nil {
			return nil, fmt.Errorf("verify audit log: %w", err)
		}
		if err := s.extends(tree, sums); err != nil {
			return nil, fmt.Errorf("verify audit log: %w", err)
		}
	}
	tree, err := treeOf(s.size, sums)
	if err != nil {
		return nil, fmt.Errorf("verify audit log: %w", err)
	}
	r.Root = tree.Hash
	return r, nil
}
