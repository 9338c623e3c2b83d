package journal_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"

	"coffer/canon"
	"coffer/journal"
	"coffer/store"
)

// model is the journal as one would say it in a few sentences: for each slot the
// line of intents that held it, for each intent what has left.
type model struct {
	slots      map[uint64][]int // nonce -> intents in order; the last holds
	slotOf     map[int]uint64
	left       map[int]journal.State
	given      map[int]bool // abandoned
	references map[string]int
	sessions   map[int]string // session -> "intent/transaction", "" when only opened
	known      map[int]map[int]bool
	expiry     map[int]int64
	time       int64
}

func newModel() *model {
	return &model{
		slots: map[uint64][]int{}, slotOf: map[int]uint64{}, left: map[int]journal.State{}, given: map[int]bool{},
		references: map[string]int{}, sessions: map[int]string{}, known: map[int]map[int]bool{}, expiry: map[int]int64{}, time: start,
	}
}

func (m *model) holds(intent int) bool {
	line := m.slots[m.slotOf[intent]]
	return len(line) > 0 && line[len(line)-1] == intent
}

func (m *model) reserve(nonce uint64, intent, transaction, session, replaces int, now int64, release bool) bool {
	now = max(now, m.time)
	_, known := m.slotOf[intent]
	line := m.slots[nonce]
	switch {
	case known && (m.given[intent] || m.slotOf[intent] != nonce || !m.holds(intent)):
		return false
	case !known && len(line) > 0:
		holder := line[len(line)-1]
		free := m.given[holder] || m.left[holder] == journal.Reserved && now > m.expiry[holder] || replaces == holder
		if !free {
			return false
		}
	}
	reference := fmt.Sprint(intent / 2) // two intents share each reference
	if by, used := m.references[reference]; used && by != intent {
		return false
	}
	binding := fmt.Sprint(intent, "/", transaction)
	if was := m.sessions[session]; was != "" && was != binding {
		return false
	}
	m.references[reference], m.sessions[session] = intent, binding
	if !known {
		m.slots[nonce] = append(line, intent)
		m.slotOf[intent], m.left[intent], m.expiry[intent], m.known[intent] = nonce, journal.Reserved, expiryOf(intent), map[int]bool{}
	}
	m.known[intent][transaction] = true
	if release && m.left[intent] == journal.Reserved {
		m.left[intent] = journal.Released
	}
	m.time = now
	return true
}

func (m *model) mark(intent, transaction, session int, state journal.State) bool {
	if !m.known[intent][transaction] || m.given[intent] || !m.holds(intent) || m.sessions[session] != fmt.Sprint(intent, "/", transaction) {
		return false
	}
	if state == journal.Signed && m.left[intent] == journal.Reserved {
		return false
	}
	if state == journal.Signed || m.left[intent] == journal.Reserved {
		m.left[intent] = state
	}
	return true
}

func (m *model) abandon(intent int) bool {
	if _, known := m.slotOf[intent]; !known || m.left[intent] != journal.Reserved {
		return false
	}
	if m.holds(intent) {
		m.given[intent] = true
	}
	return true
}

func expiryOf(intent int) int64 { return start + int64(intent%4)*20 }

// TestModel drives journal and model with the same random steps, opens the journal
// again after each, and compares every answer and the whole state.
func TestModel(t *testing.T) {
	dir, run := t.TempDir(), 0
	rapid.Check(t, func(t *rapid.T) {
		run++
		path := filepath.Join(dir, fmt.Sprint(run, ".db"))
		db, err := store.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = db.Close(); _ = os.Remove(path) }()
		j, err := journal.Open(db, start)
		if err != nil {
			t.Fatal(err)
		}
		m := newModel()
		small := func(name string, n int) int { return rapid.IntRange(0, n-1).Draw(t, name) }
		for range rapid.IntRange(1, 14).Draw(t, "steps") {
			intent, transaction, session := small("intent", 8), small("transaction", 3), small("session", 10)
			var err error
			var ok bool
			step := rapid.SampledFrom([]string{"reserve", "reserve", "reserve", "release", "sign", "abandon", "open", "time"}).Draw(t, "step")
			switch step {
			case "reserve":
				nonce, replaces := uint64(small("nonce", 3)), small("replaces", 16)
				now, release := start+int64(small("now", 100)), rapid.Bool().Draw(t, "release")
				r := journal.Reservation{
					Chain: 1337, Account: "a", Nonce: nonce, Intent: id("intent", intent), Initiator: "alice", Reference: fmt.Sprint(intent / 2),
					Expires: expiryOf(intent), Transaction: id("transaction", transaction), Session: id("session", session), Time: now, Release: release,
				}
				if replaces < 8 && replaces != intent {
					d := id("intent", replaces)
					r.Replaces = &d
				} else {
					replaces = -1
				}
				err, ok = j.Reserve(r), m.reserve(nonce, intent, transaction, session, replaces, now, release)
			case "release":
				err = j.MarkReleased(id("intent", intent), id("session", session), id("transaction", transaction))
				ok = m.mark(intent, transaction, session, journal.Released)
			case "sign":
				err = j.MarkSigned(id("intent", intent), id("session", session), id("transaction", transaction))
				ok = m.mark(intent, transaction, session, journal.Signed)
			case "abandon":
				err, ok = j.Abandon(id("intent", intent), start), m.abandon(intent)
			case "open":
				_, seen := m.sessions[session]
				err, ok = j.OpenSession(id("session", session), "sign"), !seen
				if ok {
					m.sessions[session] = ""
				}
			case "time":
				now := start + int64(small("now", 100))
				err, ok = j.AdvanceTime(now), true
				m.time = max(m.time, now)
			}
			if ok != (err == nil) {
				t.Fatalf("%s of intent %d: journal says %v, model says %v", step, intent, err, ok)
			}
			if errors.Is(err, store.ErrCorrupt) || errors.Is(err, store.ErrFailed) {
				t.Fatal(err)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			if db, err = store.Open(path); err != nil {
				t.Fatal(err)
			}
			if j, err = journal.Open(db, start); err != nil {
				t.Fatal(err)
			}
			compare(t, j, m)
		}
	})
}

func compare(t *rapid.T, j *journal.Journal, m *model) {
	for intent := range 8 {
		for nonce := range uint64(3) {
			v, err := j.View(1337, "a", nonce, id("intent", intent), "alice", fmt.Sprint(intent/2))
			if err != nil {
				t.Fatal(err)
			}
			if v.LastTime != m.time {
				t.Fatalf("last time %d, want %d", v.LastTime, m.time)
			}
			line := m.slots[nonce]
			free := len(line) == 0 || m.given[line[len(line)-1]]
			if free != (v.SlotHolder == nil) {
				t.Fatalf("slot %d free: journal %v, model %v", nonce, v.SlotHolder == nil, free)
			}
			if !free {
				holder := line[len(line)-1]
				if v.SlotHolder.Intent != id("intent", holder) || v.SlotHolder.State != m.left[holder] || len(v.SlotHolder.Transactions) != len(m.known[holder]) {
					t.Fatalf("slot %d: %+v, want intent %d %s", nonce, v.SlotHolder, holder, m.left[holder])
				}
			}
			if _, known := m.slotOf[intent]; known != (v.IntentSlot != nil) || known && v.IntentSlot.Slot.Nonce != m.slotOf[intent] {
				t.Fatalf("intent %d: %+v, model has slot %d (%v)", intent, v.IntentSlot, m.slotOf[intent], known)
			}
			by, used := m.references[fmt.Sprint(intent/2)]
			if used != (v.Reference != nil) || used && *v.Reference != canon.Digest(id("intent", by)) {
				t.Fatalf("reference of intent %d: %v, model %v by %d", intent, v.Reference, used, by)
			}
		}
	}
}
