package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"coffer/authority"
	"coffer/canon"
	"coffer/charter"
	"coffer/identity"
	"coffer/internal/cli"
	"coffer/party"
	"coffer/store"
)

func (o *options) charterFile() string   { return filepath.Join(o.home, "charter.json") }
func (o *options) pinFile() string       { return filepath.Join(o.home, "charter.pin") }
func (o *options) recordsFile() string   { return filepath.Join(o.home, "records") }
func (o *options) addressesFile() string { return filepath.Join(o.home, "addresses") }

// maxRecords bounds the file of records that is read.
const maxRecords = 256 << 20

// home is what a user's folder holds of the cluster's authority: version 1 of the
// charter, whose digest somebody heard by another channel, and the records since. Every
// signature is verified each time it is opened.
type home struct {
	o      *options
	root   *charter.File
	ledger *authority.Ledger
	newest canon.Digest                  // of the newest version that ever was in force here
	moved  map[identity.ID]moved         // signers that moved since their cards
	given  map[string]string             // endpoints that --signer names
	kept   map[canon.Digest]canon.Digest // what the file holds: sums by ID

	mu     sync.Mutex        // guards the ledger while several are asked at the same time, and events
	events []authority.Event // not announced yet
}

// pins are the digests that this user confirmed: of version 1, on which everything
// rests, and of the newest version that was in force here, behind which nobody brings
// this folder back.
type pins struct{ first, newest canon.Digest }

func (o *options) pins() (pins, error) {
	raw, err := os.ReadFile(o.pinFile())
	if err != nil {
		return pins{}, err
	}
	var p pins
	lines := strings.Fields(string(raw))
	if len(lines) != 2 {
		return pins{}, fmt.Errorf("pin %s: it has %d lines, want the digests of version 1 and of the newest version", o.pinFile(), len(lines))
	}
	for n, into := range []*canon.Digest{&p.first, &p.newest} {
		if *into, err = canon.ParseDigest(lines[n]); err != nil {
			return pins{}, fmt.Errorf("pin %s: %w", o.pinFile(), err)
		}
	}
	return p, nil
}

func (o *options) writePins(p pins) error {
	return store.WriteFile(o.pinFile(), []byte(p.first.String()+"\n"+p.newest.String()+"\n"), 0o600)
}

// pinned opens version 1 of the charter that this user pinned; operators' signatures
// may be missing.
func (o *options) pinned() (*charter.File, pins, error) {
	p, err := o.pins()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, p, cli.Hint(fmt.Errorf("no charter is pinned in %s", o.home), "coffer join FILE pins one; --home or COFFER_HOME names another folder")
	} else if err != nil {
		return nil, p, err
	}
	file, err := charter.OpenPresent(o.charterFile(), p.first)
	return file, p, err
}

// open reads the folder. A charter that operators have still to sign is an
// IncompleteError: there is nothing to act under.
func (o *options) open() (*home, error) {
	file, p, err := o.pinned()
	if err != nil {
		return nil, err
	}
	if missing := file.Missing(); len(missing) > 0 {
		return nil, &charter.IncompleteError{Missing: missing}
	}
	return o.openFile(file, p)
}

// openPresent reads the folder, whichever operators have signed: an order that only
// stops things waits for no signature, and for nobody who would have to be asked for one.
func (o *options) openPresent() (*home, error) {
	file, p, err := o.pinned()
	if err != nil {
		return nil, err
	}
	return o.openFile(file, p)
}

func (o *options) openFile(file *charter.File, p pins) (*home, error) {
	h := &home{o: o, root: file, newest: p.newest}
	var err error
	if h.ledger, err = authority.NewLedger(file.Charter, nil); err != nil {
		return nil, err
	}
	kept, err := o.readRecords()
	if err != nil {
		return nil, err
	}
	if err := h.ledger.Restore(kept, unixNow()); err != nil {
		return nil, cli.Hint(fmt.Errorf("%s: %w", o.recordsFile(), err), "it was damaged or changed: move it away, and the next command fetches what it held")
	}
	h.kept = h.sums()
	h.moved = o.readAddresses()
	return h, h.readGiven()
}

// behind says whether the folder has lost records: a version that was in force here
// is not in them.
func (h *home) behind() error {
	if _, ok := h.ledger.Charter(h.newest); ok {
		return nil
	}
	return cli.Hint(fmt.Errorf("version %s of the charter was in force here, and the records end with version %d, %s: nothing is done under an older version",
		h.newest.Short(), h.inForce().Version, h.inForce().Digest().Short()), "the coordinator or a signer that has it must be reached; or a charter file of somebody else's: coffer join FILE")
}

func (h *home) inForce() *charter.Charter { return h.ledger.InForce() }

func (h *home) sums() map[canon.Digest]canon.Digest {
	out := map[canon.Digest]canon.Digest{}
	for _, ref := range h.ledger.Refs() {
		out[ref.ID] = ref.Sum
	}
	return out
}

// keep is save where what is done must not wait for it: an order is worth more at the
// signers than here.
func (h *home) keep(talk io.Writer) {
	if err := h.save(); err != nil {
		fmt.Fprintf(talk, "WARNING: %s does not keep what was learned or signed just now: %s\n", h.o.home, cli.Text(err))
	}
}

// lockWithin is for how long another coffer may hold the folder.
const lockWithin = 5 * time.Second

func lock(f *os.File) (err error) {
	for start := time.Now(); time.Since(start) < lockWithin; {
		if err = store.LockFile(f); !errors.Is(err, store.ErrInUse) {
			return err
		}
	}
	return err
}

// save writes what is new, with what another coffer wrote meanwhile.
func (h *home) save() error {
	same := len(h.kept) == len(h.ledger.Refs())
	for _, ref := range h.ledger.Refs() {
		same = same && h.kept[ref.ID] == ref.Sum
	}
	if same && h.newest == h.inForce().Digest() {
		return nil
	}
	file, err := os.OpenFile(filepath.Join(h.o.home, ".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := lock(file); err != nil {
		return err
	}
	if err := h.merge(); err != nil {
		return err
	}
	var text strings.Builder
	for _, k := range h.ledger.All() {
		text.WriteString(base64.StdEncoding.EncodeToString(k.Encode()) + "\n")
	}
	if err := store.WriteFile(h.o.recordsFile(), []byte(text.String()), 0o600); err != nil {
		return err
	}
	h.kept = h.sums()
	// The records first: a pin of a version that is not in them would stop everything.
	if now := h.inForce(); h.newest != now.Digest() {
		if old, ok := h.ledger.Charter(h.newest); ok && old.Version < now.Version {
			h.newest = now.Digest()
			return h.o.writePins(pins{h.root.Charter.Digest(), h.newest})
		}
	}
	return nil
}

// merge puts what is known here onto what the file holds by now. Records only grow:
// what two commands learned at the same time is both.
func (h *home) merge() error {
	theirs, err := h.o.readRecords()
	if err != nil {
		return err
	}
	both, err := authority.NewLedger(h.root.Charter, nil)
	if err != nil {
		return err
	}
	if err := both.Restore(theirs, unixNow()); err != nil {
		return fmt.Errorf("%s: %w", h.o.recordsFile(), err)
	}
	// In the order of their IDs a list may come before the version of the charter that
	// has it. What is refused in the end was overtaken by what the other command wrote.
	ours := h.ledger.All()
	for before := 0; before != len(ours); {
		before = len(ours)
		ours = slices.DeleteFunc(ours, func(k authority.Kept) bool {
			_, err := both.Add(k.Record, k.Arrived)
			return err == nil
		})
	}
	if now, was := both.InForce(), h.inForce(); now.Version < was.Version {
		return fmt.Errorf("%s holds records with which version %d of the charter, in force here, would be version %d again: move it away, and the next command fetches what it held",
			h.o.recordsFile(), was.Version, now.Version)
	}
	h.ledger = both
	return nil
}

func (o *options) readRecords() (out []authority.Kept, err error) {
	raw, err := readUpTo(o.recordsFile(), maxRecords)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	for n, line := range strings.Fields(string(raw)) {
		var k authority.Kept
		kept, err := base64.StdEncoding.Strict().DecodeString(line)
		if err == nil {
			k, err = authority.ParseKept(kept)
		}
		if err != nil {
			return nil, cli.Hint(fmt.Errorf("%s, line %d: %w", o.recordsFile(), n+1, err), "it was damaged or changed: move it away, and the next command fetches what it held")
		}
		out = append(out, k)
	}
	return out, nil
}

func readUpTo(path string, most int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > most {
		return nil, fmt.Errorf("%s has %d bytes, at most %d are read", path, info.Size(), most)
	}
	return os.ReadFile(path)
}

// place is one endpoint: a coordinator's, or a signer's own.
type place struct {
	name string
	peer identity.ID
	addr string
}

// cards are those of all versions, in their order.
func (h *home) cards() []string {
	return authority.Cards(h.root, h.ledger.Records())
}

// address is the record of an identity with the highest sequence, of all cards and of
// what came since. Each was signed by that identity.
func (h *home) address(peer identity.ID) (best charter.AddressRecord, ok bool) {
	take := func(a charter.AddressRecord) {
		if a.Peer == peer && (!ok || a.Sequence > best.Sequence) {
			best, ok = a, true
		}
	}
	for _, line := range h.cards() {
		if card, err := charter.ParseCard(line); err == nil && card.Peer == peer {
			take(card.Address)
		}
	}
	if m, there := h.moved[peer]; there {
		take(m.at)
	}
	return best, ok
}

// endpoints are the signers' own, of the charter in force, and the signers that have
// none. --signer names others.
func (h *home) endpoints() (out []place, without []string) {
	for _, s := range h.inForce().Signers {
		p := place{name: string(s.Name), peer: s.Peer, addr: h.given[string(s.Name)]}
		if a, ok := h.address(s.Peer); ok && p.addr == "" {
			p.addr = a.Orders
		}
		if p.addr == "" {
			without = append(without, p.name)
			continue
		}
		out = append(out, p)
	}
	return out, without
}

// readGiven reads --signer.
func (h *home) readGiven() error {
	h.given = map[string]string{}
	for _, text := range h.o.signers {
		name, addr, ok := strings.Cut(text, "=")
		if _, listed := h.inForce().Signer(party.ID(name)); !ok || !listed {
			return cli.Usagef("--signer %q: write NAME=HOST:PORT, with the name of a signer of the charter", text)
		}
		h.given[name] = addr
	}
	return nil
}

// moved is a signed address record that came after a card.
type moved struct {
	line string
	at   charter.AddressRecord
}

func parseMoved(line string) (moved, error) {
	raw, signature, err := charter.ParseAddressLine(line)
	if err != nil {
		return moved{}, err
	}
	at, err := charter.ParseAddressRecord(raw, signature)
	return moved{line, at}, err
}

func (o *options) readAddresses() map[identity.ID]moved {
	out := map[identity.ID]moved{}
	raw, err := readUpTo(o.addressesFile(), 1<<20)
	if err != nil {
		return out // the cards have the first addresses, and the coordinator tells the newer ones again
	}
	for _, line := range strings.Fields(string(raw)) {
		if m, err := parseMoved(line); err == nil {
			out[m.at.Peer] = m
		}
	}
	return out
}

// learn keeps newer address records of the charter's signers.
func (h *home) learn(lines []string) error {
	changed := false
	for _, line := range lines {
		m, err := parseMoved(line)
		if err != nil {
			continue // nobody signed it: it says nothing
		}
		known, ok := h.address(m.at.Peer)
		if _, listed := h.inForce().SignerByPeer(m.at.Peer); listed && (!ok || known.Sequence < m.at.Sequence) {
			h.moved[m.at.Peer], changed = m, true
		}
	}
	if !changed {
		return nil
	}
	var text strings.Builder
	for _, peer := range slices.Sorted(maps.Keys(h.moved)) {
		text.WriteString(h.moved[peer].line + "\n")
	}
	return store.WriteFile(h.o.addressesFile(), []byte(text.String()), 0o600)
}

func unixNow() int64 { return time.Now().Unix() }
