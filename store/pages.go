package store

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
	"math"
)

// The parts of bbolt's file format (version 2) that checkPages reads. Integers are
// in the byte order of the machine; this release supports little-endian machines.
const (
	boltMagic   = 0xED0CDAED
	boltVersion = 2

	pageHeader  = 16 // id u64, flags u16, count u16, overflow u32
	elementSize = 16 // branch: pos u32, ksize u32, page u64; leaf: flags, pos, ksize, vsize u32
	metaSize    = 64
	metaSummed  = 56 // the bytes before the meta's checksum

	flagBranch, flagLeaf, flagMeta, flagFree = 0x01, 0x02, 0x04, 0x10

	elementIsBucket = 0x01
	maxDepth        = 64
)

var little = binary.LittleEndian

type boltMeta struct {
	pageSize             uint32
	root, freelist, high uint64 // pages; high is the first page that was never used
	tx                   uint64
}

// pages reads a bbolt file without mapping it and keeps account of every page.
type pages struct {
	file io.ReaderAt
	meta boltMeta
	// used says what every page below meta.high is for; each has exactly one use.
	used []pageUse
}

type pageUse uint8

const (
	pageUnknown pageUse = iota
	pageTree
	pageFree
	pageOther
)

// checkPages verifies the whole structure of a bbolt file: both meta pages, the
// free list, and that the trees of all buckets are well formed, within bounds,
// ordered, and together with the free pages use every page exactly once. What it
// accepts, bbolt reads without a panic or a fault.
func checkPages(file io.ReaderAt, size int64) error {
	m, err := readMetas(file, size)
	if err != nil {
		return err
	}
	if m.high < 4 || m.high > uint64(size)/uint64(m.pageSize) {
		return fmt.Errorf("it is truncated: it has %d bytes and used %d pages of %d bytes", size, m.high, m.pageSize)
	}
	p := &pages{file: file, meta: m, used: make([]pageUse, m.high)}
	p.used[0], p.used[1] = pageOther, pageOther
	if err := p.checkFreelist(); err != nil {
		return err
	}
	if err := p.checkTree(m.root, nil, nil, 0); err != nil {
		return err
	}
	for id, use := range p.used {
		if use == pageUnknown {
			return fmt.Errorf("page %d is neither used nor free", id)
		}
	}
	return nil
}

func readMetas(file io.ReaderAt, size int64) (boltMeta, error) {
	first, err := readMeta(file, 0, size)
	if err != nil {
		return boltMeta{}, fmt.Errorf("meta page 0: %w", err)
	}
	second, err := readMeta(file, int64(first.pageSize), size)
	if err != nil {
		return boltMeta{}, fmt.Errorf("meta page 1: %w", err)
	}
	if second.pageSize != first.pageSize {
		return boltMeta{}, fmt.Errorf("meta pages disagree on the page size: %d and %d", first.pageSize, second.pageSize)
	}
	// Every commit raises the number by one and writes the other page.
	switch {
	case first.tx%2 != 0 || second.tx%2 != 1:
		return boltMeta{}, fmt.Errorf("meta pages are of transactions %d and %d", first.tx, second.tx)
	case first.tx == second.tx+1:
		return first, nil
	case second.tx == first.tx+1:
		return second, nil
	}
	return boltMeta{}, fmt.Errorf("meta pages are of transactions %d and %d, which do not follow each other", first.tx, second.tx)
}

func readMeta(file io.ReaderAt, at, size int64) (boltMeta, error) {
	var b [pageHeader + metaSize]byte
	if at+int64(len(b)) > size {
		return boltMeta{}, fmt.Errorf("it is truncated: it has %d bytes", size)
	}
	if _, err := file.ReadAt(b[:], at); err != nil {
		return boltMeta{}, err
	}
	m := b[pageHeader:]
	sum := fnv.New64a()
	_, _ = sum.Write(m[:metaSummed])
	switch {
	case little.Uint32(m) != boltMagic:
		return boltMeta{}, fmt.Errorf("it is no database of this kind")
	case little.Uint32(m[4:]) != boltVersion:
		return boltMeta{}, fmt.Errorf("format version %d, want %d", little.Uint32(m[4:]), boltVersion)
	case little.Uint64(m[metaSummed:]) != sum.Sum64():
		return boltMeta{}, fmt.Errorf("checksum is wrong")
	case little.Uint16(b[8:]) != flagMeta:
		return boltMeta{}, fmt.Errorf("type is %#x", little.Uint16(b[8:]))
	}
	out := boltMeta{
		pageSize: little.Uint32(m[8:]), root: little.Uint64(m[16:]), freelist: little.Uint64(m[32:]),
		high: little.Uint64(m[40:]), tx: little.Uint64(m[48:]),
	}
	if out.pageSize < 1024 || out.pageSize > 1<<16 || out.pageSize&(out.pageSize-1) != 0 {
		return boltMeta{}, fmt.Errorf("page size is %d", out.pageSize)
	}
	return out, nil
}

// read returns a page with its overflow pages and notes their use.
func (p *pages) read(id uint64, use pageUse) ([]byte, error) {
	if id < 2 || id >= p.meta.high {
		return nil, fmt.Errorf("page %d is out of range", id)
	}
	var head [pageHeader]byte
	at := int64(id) * int64(p.meta.pageSize)
	if _, err := p.file.ReadAt(head[:], at); err != nil {
		return nil, fmt.Errorf("page %d: %w", id, err)
	}
	if got := little.Uint64(head[:]); got != id {
		return nil, fmt.Errorf("page %d says that it is page %d", id, got)
	}
	count := uint64(little.Uint32(head[12:])) + 1
	if count > p.meta.high-id {
		return nil, fmt.Errorf("page %d runs over the end by its overflow of %d pages", id, count-1)
	}
	for i := id; i < id+count; i++ {
		if p.used[i] != pageUnknown {
			return nil, fmt.Errorf("page %d is used twice", i)
		}
		p.used[i] = use
	}
	b := make([]byte, count*uint64(p.meta.pageSize))
	if _, err := p.file.ReadAt(b, at); err != nil {
		return nil, fmt.Errorf("page %d: %w", id, err)
	}
	return b, nil
}

func (p *pages) checkFreelist() error {
	b, err := p.read(p.meta.freelist, pageOther)
	if err != nil {
		return fmt.Errorf("free list: %w", err)
	}
	if flags := little.Uint16(b[8:]); flags != flagFree {
		return fmt.Errorf("free list: page %d has type %#x", p.meta.freelist, flags)
	}
	count, list := uint64(little.Uint16(b[10:])), b[pageHeader:]
	if count == math.MaxUint16 { // the real count follows
		count, list = little.Uint64(list), list[8:]
	}
	if count > uint64(len(list))/8 {
		return fmt.Errorf("free list: it counts %d pages, more than fit", count)
	}
	for i := range count {
		id := little.Uint64(list[8*i:])
		if id < 2 || id >= p.meta.high {
			return fmt.Errorf("free list: page %d is out of range", id)
		}
		if p.used[id] != pageUnknown {
			return fmt.Errorf("free list: page %d is used twice", id)
		}
		p.used[id] = pageFree
	}
	return nil
}

// checkTree verifies the tree under a page, whose keys lie in [low, high); a nil
// bound is no bound.
func (p *pages) checkTree(id uint64, low, high []byte, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("page %d lies %d levels deep", id, depth)
	}
	b, err := p.read(id, pageTree)
	if err != nil {
		return err
	}
	switch flags := little.Uint16(b[8:]); flags {
	case flagLeaf:
		err = p.checkLeaf(b, low, high, depth, false)
	case flagBranch:
		err = p.checkBranch(b, low, high, depth)
	default:
		err = fmt.Errorf("type is %#x", flags)
	}
	if err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	return nil
}

func (p *pages) checkBranch(b, low, high []byte, depth int) error {
	count := int(little.Uint16(b[10:]))
	if count == 0 {
		return fmt.Errorf("branch has no children")
	}
	keys, children := make([][]byte, count), make([]uint64, count)
	for i := range count {
		at := pageHeader + i*elementSize
		if at+elementSize > len(b) {
			return fmt.Errorf("it counts %d elements, more than fit", count)
		}
		var err error
		if keys[i], err = field(b, at, count, little.Uint32(b[at:]), 0, little.Uint32(b[at+4:])); err != nil {
			return fmt.Errorf("element %d: %w", i, err)
		}
		children[i] = little.Uint64(b[at+8:])
	}
	for i := range keys {
		// A branch's first key may lie below all keys of its first child.
		if i > 0 && bytes.Compare(keys[i-1], keys[i]) >= 0 || !within(keys[i], low, high) {
			return fmt.Errorf("element %d: key is out of order", i)
		}
		next := high
		if i+1 < count {
			next = keys[i+1]
		}
		if err := p.checkTree(children[i], keys[i], next, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (p *pages) checkLeaf(b, low, high []byte, depth int, inline bool) error {
	count := int(little.Uint16(b[10:]))
	var last []byte
	for i := range count {
		at := pageHeader + i*elementSize
		if at+elementSize > len(b) {
			return fmt.Errorf("it counts %d elements, more than fit", count)
		}
		flags, pos, ksize, vsize := little.Uint32(b[at:]), little.Uint32(b[at+4:]), little.Uint32(b[at+8:]), little.Uint32(b[at+12:])
		key, err := field(b, at, count, pos, 0, ksize)
		if err != nil {
			return fmt.Errorf("element %d: key: %w", i, err)
		}
		value, err := field(b, at, count, pos, ksize, vsize)
		if err != nil {
			return fmt.Errorf("element %d: value: %w", i, err)
		}
		if len(key) == 0 || i > 0 && bytes.Compare(last, key) >= 0 || !within(key, low, high) {
			return fmt.Errorf("element %d: key is out of order", i)
		}
		last = key
		switch {
		case flags == 0:
		case flags == elementIsBucket && !inline:
			if err := p.checkBucket(value, depth); err != nil {
				return fmt.Errorf("bucket %q: %w", key, err)
			}
		default:
			return fmt.Errorf("element %d: flags are %#x", i, flags)
		}
	}
	return nil
}

// checkBucket reads a bucket's value: its root page, or an inline leaf when that is 0.
func (p *pages) checkBucket(value []byte, depth int) error {
	const header = 16 // root u64, sequence u64
	if len(value) < header {
		return fmt.Errorf("header is cut short")
	}
	if root := little.Uint64(value); root != 0 {
		if len(value) != header {
			return fmt.Errorf("header has %d bytes", len(value))
		}
		return p.checkTree(root, nil, nil, depth+1)
	}
	page := value[header:]
	if len(page) < pageHeader || little.Uint16(page[8:]) != flagLeaf || little.Uint64(page) != 0 || little.Uint32(page[12:]) != 0 {
		return fmt.Errorf("inline page is malformed")
	}
	return p.checkLeaf(page, nil, nil, depth+1, true)
}

// field cuts n bytes out of a page, at pos+skip from the element at `at`, and
// refuses what overlaps the element table or the end.
func field(b []byte, at, count int, pos, skip, n uint32) ([]byte, error) {
	start := uint64(at) + uint64(pos) + uint64(skip)
	if start < uint64(pageHeader+count*elementSize) || start+uint64(n) > uint64(len(b)) {
		return nil, fmt.Errorf("it lies outside of its page")
	}
	return b[start : start+uint64(n)], nil
}

func within(key, low, high []byte) bool {
	return (low == nil || bytes.Compare(key, low) >= 0) && (high == nil || bytes.Compare(key, high) < 0)
}
