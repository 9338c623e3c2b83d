package node

import (
	"bytes"
	"fmt"
	"slices"
	"sync"

	"go.etcd.io/bbolt"

	"coffer/approval"
	"coffer/canon"
	"coffer/charter"
	"coffer/intent"
	"coffer/store"
)

const (
	memoryTable  = "intents"
	memoryDomain = "coffer/noted-intent/v1"

	// memoryFor is how long after its expiry an intent is remembered, in seconds: so long
	// a lost coordinator's references are still known.
	memoryFor = 30 * 24 * 3600
	// pruneEvery is how often what is too old is looked for, in seconds.
	pruneEvery = 3600
)

// memoryLimits bounds what is remembered, in bytes: of one initiator and of all. Only
// enrolled initiators get here, and the first limit is why one of them cannot push
// the others' out.
type memoryLimits struct{ initiator, all int }

var usualLimits = memoryLimits{initiator: 8 << 20, all: 64 << 20}

// noted is an intent that an enrolled initiator signed, and what people said of it.
type noted struct {
	request      // unsigned is the last transaction that the gate let pass
	asked   bool // the gate permitted a session or ceremony for it at least once
	seen    int64
}

func (e *noted) encode() []byte {
	c := canon.New(memoryDomain).Bytes(e.intent.Raw).Bytes(e.intent.Signature).List(len(e.statements))
	for _, s := range e.statements {
		c.Bytes(s.Raw).Bytes(s.Signature)
	}
	return c.Bytes(e.unsigned).Bool(e.asked).Time(e.seen).Encoded()
}

func parseNoted(raw []byte) (*noted, error) {
	d := canon.NewDecoder(memoryDomain, raw)
	e := &noted{}
	e.intent = intent.Signed{Raw: d.Bytes(maxMessage), Signature: d.Bytes(maxSignature)}
	for range d.List(approval.MaxStatements) {
		e.statements = append(e.statements, approval.Signed{Raw: d.Bytes(maxMessage), Signature: d.Bytes(maxSignature)})
	}
	e.unsigned, e.asked, e.seen = d.Bytes(maxUnsigned), d.Bool(), d.Time()
	return e, d.Finish()
}

// memory is what this signer was shown, so that a coordinator that lost everything can
// ask for it, and so that nobody can take back what narrows by hiding it. It decides
// nothing: the journal does.
type memory struct {
	db     *bbolt.DB
	table  *store.Table
	writer *store.Writer
	limits memoryLimits

	mu     sync.Mutex // guards what follows, and is held while it is written: the two agree
	known  map[canon.Digest]place
	used   map[string]int // bytes, by initiator
	all    int
	pruned int64
}

// place is what is kept in memory of one intent.
type place struct {
	initiator string
	expires   int64
	size      int
	narrowed  bool // somebody's no stands here, and nowhere else on this signer
}

func placeOf(i *intent.Intent, e *noted, size int) place {
	return place{i.Initiator, i.Expires, size, slices.ContainsFunc(e.statements, narrows)}
}

func narrows(s approval.Signed) bool {
	st, err := approval.Parse(s.Raw)
	return err == nil && st.Kind.Narrows()
}

func openMemory(db *bbolt.DB, limits memoryLimits, now int64) (*memory, error) {
	table, err := store.OpenTable(db, memoryTable)
	if err != nil {
		return nil, fmt.Errorf("open memory of intents: %w", err)
	}
	m := &memory{db: db, table: table, writer: store.NewWriter(db), limits: limits, known: map[canon.Digest]place{}, used: map[string]int{}}
	err = store.View(db, func(tx *bbolt.Tx) error {
		return table.ForEach(tx, nil, func(key, raw []byte) error {
			id, err := canon.DigestFrom(key)
			if err != nil {
				return err
			}
			e, err := parseNoted(raw)
			if err != nil {
				return err
			}
			i, err := intent.Parse(e.intent.Raw)
			if err != nil {
				return err
			}
			if i.Digest() != id {
				return fmt.Errorf("intent %s stands under another digest", i.Digest().Short())
			}
			m.count(id, placeOf(i, e, len(raw)))
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("open memory of intents: %w: store %w", err, store.ErrCorrupt)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m, m.prune(now)
}

func (m *memory) count(id canon.Digest, p place) {
	m.forget(id)
	m.known[id] = p
	m.used[p.initiator] += p.size
	m.all += p.size
}

func (m *memory) forget(id canon.Digest) {
	p, ok := m.known[id]
	if !ok {
		return
	}
	delete(m.known, id)
	if m.used[p.initiator] -= p.size; m.used[p.initiator] == 0 {
		delete(m.used, p.initiator)
	}
	m.all -= p.size
}

// has says whether an intent was shown here.
func (m *memory) has(id canon.Digest) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.known[id]
	return ok
}

func (m *memory) get(id canon.Digest) (e *noted, err error) {
	err = store.View(m.db, func(tx *bbolt.Tx) error {
		raw, ok, err := m.table.Get(tx, id[:])
		if err != nil || !ok {
			return err
		}
		e, err = parseNoted(raw)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read memory of intents: %w", err)
	}
	return e, nil
}

// note remembers a request, on disk when it returns: the intent if its initiator
// signed it, each statement if its author did, and the transaction if asked, which says
// that the gate permitted it. What is known already costs no write. Everything else is
// left out without an error: the gate says what is wrong with it. c is the charter in
// force, charters are those before it too: the initiator must be enrolled in c, who
// speaks about the intent in either.
func (m *memory) note(c *charter.Charter, charters charter.Lookup, r request, asked bool, now int64) (news bool, err error) {
	id := canon.Sum(r.intent.Raw)
	m.mu.Lock()
	defer m.mu.Unlock()
	e, err := m.get(id)
	if err != nil {
		return false, err
	}
	var i *intent.Intent
	if e == nil {
		var who intent.Initiator
		if i, who, _, err = r.intent.OpenUnder(charters); err == nil {
			_, err = intent.Enrolled(c, i.Initiator, who.Key)
		}
		if err != nil || now >= i.Expires || i.Expires > now+intent.MaxLifetime+approval.MaxSkew {
			return false, nil //nolint:nilerr // what nobody enrolled signed is not remembered
		}
		e = &noted{request: request{intent: r.intent}, seen: now}
		news = true
	} else if i, err = intent.Parse(e.intent.Raw); err != nil {
		return false, err
	}
	changed := news
	under := approval.Under{Force: c, Made: c}
	if made, ok := charters(i.Charter); ok {
		under.Made = made
	}
	for _, s := range r.statements {
		if slices.ContainsFunc(e.statements, func(old approval.Signed) bool { return bytes.Equal(old.Raw, s.Raw) }) {
			continue
		}
		if _, err := under.Verify(id, s); err != nil {
			continue
		}
		kept, more, err := approval.Keep(e.statements, s)
		if err != nil {
			continue // the list is full: nobody's word is lost by it, each person has a place
		}
		e.statements, changed = kept, changed || more
	}
	if asked && (!e.asked || !bytes.Equal(e.unsigned, r.unsigned)) {
		e.asked, e.unsigned, changed = true, r.unsigned, true
	}
	if !changed {
		return false, nil
	}
	if kept, err := m.put(id, i, e, news, now); err != nil || !kept {
		return false, err
	}
	if now-m.pruned >= pruneEvery {
		return news, m.prune(now)
	}
	return news, nil
}

// put writes an intent. One that is new is left out when all that could go to make room
// for it may not.
func (m *memory) put(id canon.Digest, i *intent.Intent, e *noted, news bool, now int64) (kept bool, err error) {
	raw := e.encode()
	p := placeOf(i, e, len(raw))
	gone, fits := m.makeRoom(id, p, now)
	if !fits && news {
		return false, nil
	}
	err = m.writer.Do(func(tx *bbolt.Tx) error {
		for _, old := range gone {
			if err := m.table.Delete(tx, old[:]); err != nil {
				return err
			}
		}
		return m.table.Put(tx, id[:], raw)
	})
	if err != nil {
		return false, fmt.Errorf("remember intent %s: %w", id.Short(), err)
	}
	for _, old := range gone {
		m.forget(old)
	}
	m.count(id, p)
	return true, nil
}

// makeRoom names the intents that have to go for one more: those of the same initiator
// when it has too many, else of whoever has most; always those that expire first, and
// never one that is alive and that somebody said no to: else whoever has an initiator's
// key could push a rejection out, and show the intent again without it.
func (m *memory) makeRoom(id canon.Digest, p place, now int64) (gone []canon.Digest, fits bool) {
	used, all := map[string]int{}, m.all-m.known[id].size+p.size
	for who, n := range m.used {
		used[who] = n
	}
	used[p.initiator] += p.size - m.known[id].size
	if used[p.initiator] <= m.limits.initiator && all <= m.limits.all {
		return nil, true
	}
	var order []canon.Digest
	for other, there := range m.known {
		if other != id && !(there.narrowed && there.expires > now) {
			order = append(order, other)
		}
	}
	slices.SortFunc(order, func(a, b canon.Digest) int {
		if d := m.known[a].expires - m.known[b].expires; d != 0 {
			return int(max(min(d, 1), -1))
		}
		return bytes.Compare(a[:], b[:])
	})
	for used[p.initiator] > m.limits.initiator || all > m.limits.all {
		from := p.initiator
		if used[from] <= m.limits.initiator {
			for who, n := range used {
				if n > used[from] {
					from = who
				}
			}
		}
		at := slices.IndexFunc(order, func(d canon.Digest) bool { return m.known[d].initiator == from })
		if at < 0 {
			return gone, false
		}
		old := order[at]
		order = slices.Delete(order, at, at+1)
		gone = append(gone, old)
		used[from] -= m.known[old].size
		all -= m.known[old].size
	}
	return gone, true
}

// prune forgets what expired long ago.
func (m *memory) prune(now int64) error {
	m.pruned = now
	var gone []canon.Digest
	for id, p := range m.known {
		if p.expires+memoryFor < now {
			gone = append(gone, id)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	err := m.writer.Do(func(tx *bbolt.Tx) error {
		for _, id := range gone {
			if err := m.table.Delete(tx, id[:]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("forget old intents: %w", err)
	}
	for _, id := range gone {
		m.forget(id)
	}
	return nil
}

// after lists the intents behind a digest, ascending.
func (m *memory) after(last canon.Digest) []canon.Digest {
	m.mu.Lock()
	defer m.mu.Unlock()
	var ids []canon.Digest
	for id := range m.known {
		if bytes.Compare(id[:], last[:]) > 0 {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b canon.Digest) int { return bytes.Compare(a[:], b[:]) })
	return ids
}

// withNarrowing adds to the statements of a request those that this signer saw before
// and that can only take away: who asks cannot unsay a person's no by leaving it out.
func (m *memory) withNarrowing(r request) ([]approval.Signed, error) {
	e, err := m.get(canon.Sum(r.intent.Raw))
	if err != nil || e == nil {
		return r.statements, err
	}
	out := r.statements
	for _, s := range e.statements {
		st, err := approval.Parse(s.Raw)
		if err != nil || !st.Kind.Narrows() || slices.ContainsFunc(out, func(o approval.Signed) bool { return bytes.Equal(o.Raw, s.Raw) }) {
			continue
		}
		out = append(slices.Clone(out), s)
	}
	return out, nil
}
