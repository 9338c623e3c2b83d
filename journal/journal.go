package journal

import (
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/bbolt"

	"coffer/canon"
	"coffer/store"
)

const tableName = "journal"

// The first byte of a key says what it is of.
const (
	slotPrefix      = "s" // slot -> intent that holds it
	intentPrefix    = "i" // intent -> Entry
	referencePrefix = "r" // (initiator, reference) -> intent
	sessionPrefix   = "x" // session -> binding
	timeKey         = "t" // latest time seen
)

// Journal is a signer's journal in its store. Make it with Open.
type Journal struct {
	db     *bbolt.DB
	table  *store.Table
	writer *store.Writer
}

// Open reads and checks the whole journal, and makes an empty one in a new store.
// It takes note of now, Unix seconds.
func Open(db *bbolt.DB, now int64) (*Journal, error) {
	table, err := store.OpenTable(db, tableName)
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	j := &Journal{db: db, table: table, writer: store.NewWriter(db)}
	if err := store.View(db, j.check); err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	if err := j.AdvanceTime(now); err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	return j, nil
}

func (s Slot) key() []byte {
	return append([]byte(slotPrefix), canon.New("coffer/slot/v1").Uint64(s.Chain).String(s.Account).Uint64(s.Nonce).Encoded()...)
}

func digestKey(prefix string, d canon.Digest) []byte { return append([]byte(prefix), d[:]...) }

func referenceKey(initiator, reference string) []byte {
	return digestKey(referencePrefix, canon.New("coffer/reference/v1").String(initiator).String(reference).Sum())
}

// View is what the journal says about an intent and the slot and reference it names.
type View struct {
	SlotHolder *Entry        // the intent that holds the slot now; nil when it is free
	IntentSlot *Entry        // what is known of the intent asked about; nil when it is new
	Reference  *canon.Digest // the intent that used (initiator, reference) first; nil when none did
	LastTime   int64         // the latest time the journal has seen, Unix seconds
}

// View reads one consistent state. An empty reference is never taken.
func (j *Journal) View(chain uint64, account string, nonce uint64, intent canon.Digest, initiator, reference string) (View, error) {
	var v View
	err := store.View(j.db, func(tx *bbolt.Tx) (err error) {
		if v.SlotHolder, err = j.holder(tx, Slot{chain, account, nonce}); err != nil {
			return err
		}
		// Who was given up holds nothing: to the gate the slot is free.
		if v.SlotHolder != nil && v.SlotHolder.State == Abandoned {
			v.SlotHolder = nil
		}
		if v.IntentSlot, err = j.entry(tx, intent); err != nil {
			return err
		}
		if reference != "" {
			if v.Reference, err = j.digest(tx, referenceKey(initiator, reference)); err != nil {
				return err
			}
		}
		v.LastTime, err = j.lastTime(tx)
		return err
	})
	if err != nil {
		return View{}, fmt.Errorf("read journal: %w", err)
	}
	return v, nil
}

// Reservation asks for a slot for one transaction of an intent in one session.
type Reservation struct {
	Chain       uint64
	Account     string
	Nonce       uint64
	Intent      canon.Digest
	Initiator   string
	Reference   string // may be empty: then it is not checked
	Expires     int64  // of the intent, Unix seconds
	Transaction canon.Digest
	Session     canon.Digest
	Time        int64 // now, Unix seconds

	// Replaces names the intent whose slot this one takes over, for an approved
	// cancel; nil otherwise.
	Replaces *canon.Digest

	// Release also does MarkReleased, in the same sync: for a session that was
	// prepared before.
	Release bool
}

func (r *Reservation) validate() error {
	for _, d := range []struct {
		name  string
		value canon.Digest
	}{{"intent", r.Intent}, {"transaction", r.Transaction}, {"session", r.Session}} {
		if d.value.IsZero() {
			return fmt.Errorf("%w: %s is missing", ErrInvalid, d.name)
		}
	}
	switch {
	case r.Account == "" || len(r.Account) > maxText:
		return fmt.Errorf("%w: account has %d bytes, want 1 to %d", ErrInvalid, len(r.Account), maxText)
	case len(r.Initiator) > maxText || len(r.Reference) > maxText:
		return fmt.Errorf("%w: initiator or reference has more than %d bytes", ErrInvalid, maxText)
	case r.Expires <= 0 || r.Time <= 0:
		return fmt.Errorf("%w: expiry %d or time %d is missing", ErrInvalid, r.Expires, r.Time)
	case r.Replaces != nil && (r.Replaces.IsZero() || *r.Replaces == r.Intent):
		return fmt.Errorf("%w: it replaces nothing, or itself", ErrInvalid)
	}
	return nil
}

// Reserve gives the intent its slot, or adds a transaction to the slot that it
// holds. It is on disk when Reserve returns.
func (j *Journal) Reserve(r Reservation) error {
	if err := r.validate(); err != nil {
		return fmt.Errorf("reserve: %w", err)
	}
	err := j.writer.Do(func(tx *bbolt.Tx) error { return j.reserve(tx, &r) })
	if err != nil {
		return fmt.Errorf("reserve: %w", err)
	}
	return nil
}

func (j *Journal) reserve(tx *bbolt.Tx, r *Reservation) error {
	slot := Slot{r.Chain, r.Account, r.Nonce}
	e, err := j.entry(tx, r.Intent)
	if err != nil {
		return err
	}
	holder, err := j.holder(tx, slot)
	if err != nil {
		return err
	}
	last, err := j.lastTime(tx)
	if err != nil {
		return err
	}
	// An expiry counts against the later of clock and journal: setting the clock back
	// keeps no slot, and setting it forward once does not free slots for ever after.
	now := max(r.Time, last)
	switch {
	case e != nil && e.State == Abandoned:
		return fmt.Errorf("%s: %w", slot, ErrAbandoned)
	case e != nil && e.Slot != slot:
		return fmt.Errorf("%s: %w (%s)", slot, ErrOtherSlot, e.Slot)
	case e != nil && (e.Initiator != r.Initiator || e.Reference != r.Reference || e.Expires != r.Expires):
		// The digest covers them, so this is another meaning of the same digest.
		return fmt.Errorf("%w: initiator, reference or expiry of intent %s differ from before", ErrInvalid, r.Intent.Short())
	case e != nil && (holder == nil || holder.Intent != r.Intent):
		return fmt.Errorf("%s: %w", slot, ErrTaken)
	case e == nil && holder != nil:
		if err := j.pass(tx, holder, r, now); err != nil {
			return err
		}
	}
	if r.Reference != "" {
		key := referenceKey(r.Initiator, r.Reference)
		used, err := j.digest(tx, key)
		if err != nil {
			return err
		}
		if used != nil && *used != r.Intent {
			return fmt.Errorf("reference %q of %q: %w", r.Reference, r.Initiator, ErrReference)
		}
		if used == nil {
			if err := j.table.Put(tx, key, r.Intent[:]); err != nil {
				return err
			}
		}
	}
	if e == nil {
		e = &Entry{Intent: r.Intent, Slot: slot, State: Reserved, Initiator: r.Initiator, Reference: r.Reference, Expires: r.Expires}
		if err := j.table.Put(tx, slot.key(), r.Intent[:]); err != nil {
			return err
		}
	}
	if !slices.Contains(e.Transactions, r.Transaction) {
		if len(e.Transactions) == MaxTransactions {
			return fmt.Errorf("%s: %w", slot, ErrTooMany)
		}
		e.Transactions = append(e.Transactions, r.Transaction)
	}
	b, err := j.binding(tx, r.Session)
	if err != nil {
		return err
	}
	if b == nil {
		// A session that the caller opens with the reservation.
		b = &binding{kind: sessionOfReserve}
	}
	if err := b.bind(r.Intent, r.Transaction); err != nil {
		return err
	}
	if err := j.table.Put(tx, digestKey(sessionPrefix, r.Session), b.encode()); err != nil {
		return err
	}
	if r.Release && e.State == Reserved {
		e.State = Released
	}
	e.Updated = now
	if err := j.putEntry(tx, e); err != nil {
		return err
	}
	return j.advance(tx, r.Time)
}

const sessionOfReserve = "sign"

// bind ties a session to one transaction for ever.
func (b *binding) bind(intent, transaction canon.Digest) error {
	if b.transaction.IsZero() {
		b.intent, b.transaction = intent, transaction
	}
	if b.intent != intent || b.transaction != transaction {
		return ErrOtherTransaction
	}
	return nil
}

// pass takes the slot from its holder, if one of the three cases applies.
func (j *Journal) pass(tx *bbolt.Tx, holder *Entry, r *Reservation, now int64) error {
	switch {
	case r.Replaces != nil && *r.Replaces == holder.Intent:
		if holder.State == Reserved {
			holder.State = Passed
		}
	case holder.State == Abandoned:
	case holder.State == Reserved && now > holder.Expires:
		holder.State = Passed
	default:
		return fmt.Errorf("%s: %w", holder.Slot, ErrTaken)
	}
	holder.By, holder.Updated = r.Intent, now
	return j.putEntry(tx, holder)
}

// MarkReleased notes that a Binding of this signer is about to leave for a reserved
// transaction. It is on disk when MarkReleased returns; doing it twice is harmless.
func (j *Journal) MarkReleased(intent, session, transaction canon.Digest) error {
	return j.mark("release", intent, session, transaction, func(e *Entry, _ *binding) error {
		if e.State == Reserved {
			e.State = Released
		}
		return nil
	})
}

// MarkSigned notes that a partial of this signer is about to leave for a released
// transaction. It is on disk when MarkSigned returns; doing it twice is harmless.
func (j *Journal) MarkSigned(intent, session, transaction canon.Digest) error {
	return j.mark("sign", intent, session, transaction, func(e *Entry, b *binding) error {
		if e.State == Reserved {
			return fmt.Errorf("intent %s was not released: %w", intent.Short(), ErrUnknown)
		}
		e.State, b.signed = Signed, true
		return nil
	})
}

func (j *Journal) mark(verb string, intent, session, transaction canon.Digest, change func(*Entry, *binding) error) error {
	err := j.writer.Do(func(tx *bbolt.Tx) error {
		e, err := j.entry(tx, intent)
		if err != nil {
			return err
		}
		if e == nil || !slices.Contains(e.Transactions, transaction) {
			return fmt.Errorf("intent %s: %w", intent.Short(), ErrUnknown)
		}
		// Another intent may have taken the slot between the reservation and now.
		holder, err := j.holder(tx, e.Slot)
		if err != nil {
			return err
		}
		if e.State == Abandoned {
			return fmt.Errorf("%s: %w", e.Slot, ErrAbandoned)
		}
		if holder == nil || holder.Intent != intent {
			return fmt.Errorf("%s: %w", e.Slot, ErrTaken)
		}
		b, err := j.binding(tx, session)
		if err != nil {
			return err
		}
		if b == nil || b.transaction.IsZero() {
			return fmt.Errorf("session %s: %w", session.Short(), ErrUnknown)
		}
		if err := b.bind(intent, transaction); err != nil {
			return err
		}
		if err := change(e, b); err != nil {
			return err
		}
		if err := j.table.Put(tx, digestKey(sessionPrefix, session), b.encode()); err != nil {
			return err
		}
		if e.Updated, err = j.lastTime(tx); err != nil {
			return err
		}
		return j.putEntry(tx, e)
	})
	if err != nil {
		return fmt.Errorf("mark %s: %w", verb, err)
	}
	return nil
}

// Abandon gives up an intent that people rejected, so that its slot is free before
// it expires. It is refused with ErrReleased once a partial may exist. An intent that
// the journal does not know is ErrUnknown, and needs no giving up.
func (j *Journal) Abandon(intent canon.Digest, now int64) error {
	err := j.writer.Do(func(tx *bbolt.Tx) error {
		e, err := j.entry(tx, intent)
		switch {
		case err != nil:
			return err
		case e == nil:
			return fmt.Errorf("intent %s: %w", intent.Short(), ErrUnknown)
		case e.State == Released || e.State == Signed:
			return fmt.Errorf("%s: %w", e.Slot, ErrReleased)
		case e.State == Reserved:
			e.State = Abandoned
		}
		last, err := j.lastTime(tx)
		if err != nil {
			return err
		}
		e.Updated = max(now, last)
		return j.putEntry(tx, e)
	})
	if err != nil {
		return fmt.Errorf("abandon: %w", err)
	}
	return nil
}

// OpenSession notes a session before its first byte leaves, and refuses one that was
// ever noted. kind is a word for people.
func (j *Journal) OpenSession(id canon.Digest, kind string) error {
	if id.IsZero() || kind == "" || len(kind) > maxText {
		return fmt.Errorf("open session: %w: its id or kind is missing", ErrInvalid)
	}
	err := j.writer.Do(func(tx *bbolt.Tx) error {
		b, err := j.binding(tx, id)
		if err != nil {
			return err
		}
		if b != nil {
			return fmt.Errorf("session %s: %w", id.Short(), ErrSeen)
		}
		return j.table.Put(tx, digestKey(sessionPrefix, id), (&binding{kind: kind}).encode())
	})
	if err != nil {
		return fmt.Errorf("open session: %w", err)
	}
	return nil
}

// AdvanceTime notes the time, if it is later than the latest that was noted.
func (j *Journal) AdvanceTime(now int64) error {
	if now < 0 {
		return fmt.Errorf("note time: %w: %d is negative", ErrInvalid, now)
	}
	var last int64
	err := store.View(j.db, func(tx *bbolt.Tx) (err error) {
		last, err = j.lastTime(tx)
		return err
	})
	if err == nil && now > last {
		err = j.writer.Do(func(tx *bbolt.Tx) error { return j.advance(tx, now) })
	}
	if err != nil {
		return fmt.Errorf("note time: %w", err)
	}
	return nil
}

// Export calls f with every intent's entry, for inquiry.
func (j *Journal) Export(f func(Entry) error) error {
	return store.View(j.db, func(tx *bbolt.Tx) error {
		return j.table.ForEach(tx, []byte(intentPrefix), func(_, raw []byte) error {
			e, err := parseEntry(raw)
			if err != nil {
				return corrupt(err)
			}
			return f(*e)
		})
	})
}

// Failed reports the failed write that made the journal refuse all changes, if any.
func (j *Journal) Failed() error { return j.writer.Failed() }

func corrupt(err error) error { return fmt.Errorf("%w: store %w", err, store.ErrCorrupt) }

func (j *Journal) digest(tx *bbolt.Tx, key []byte) (*canon.Digest, error) {
	raw, ok, err := j.table.Get(tx, key)
	if err != nil || !ok {
		return nil, err
	}
	d, err := canon.DigestFrom(raw)
	if err != nil {
		return nil, corrupt(fmt.Errorf("journal record %q: %w", key, err))
	}
	return &d, nil
}

// holder is the entry of the intent on a slot, in whatever state; nil when none ever was.
func (j *Journal) holder(tx *bbolt.Tx, slot Slot) (*Entry, error) {
	d, err := j.digest(tx, slot.key())
	if err != nil || d == nil {
		return nil, err
	}
	e, err := j.entry(tx, *d)
	if err != nil {
		return nil, err
	}
	if e == nil || e.Slot != slot {
		return nil, corrupt(fmt.Errorf("journal: %s is held by intent %s, which does not say so", slot, d.Short()))
	}
	return e, nil
}

func (j *Journal) entry(tx *bbolt.Tx, intent canon.Digest) (*Entry, error) {
	raw, ok, err := j.table.Get(tx, digestKey(intentPrefix, intent))
	if err != nil || !ok {
		return nil, err
	}
	e, err := parseEntry(raw)
	if err != nil {
		return nil, corrupt(err)
	}
	return e, nil
}

func (j *Journal) putEntry(tx *bbolt.Tx, e *Entry) error {
	return j.table.Put(tx, digestKey(intentPrefix, e.Intent), e.encode())
}

func (j *Journal) binding(tx *bbolt.Tx, session canon.Digest) (*binding, error) {
	raw, ok, err := j.table.Get(tx, digestKey(sessionPrefix, session))
	if err != nil || !ok {
		return nil, err
	}
	b, err := parseBinding(raw)
	if err != nil {
		return nil, corrupt(err)
	}
	return b, nil
}

func (j *Journal) lastTime(tx *bbolt.Tx) (int64, error) {
	raw, ok, err := j.table.Get(tx, []byte(timeKey))
	if err != nil || !ok {
		return 0, err
	}
	return parseTime(raw)
}

const timeDomain = "coffer/journal-time/v1"

func parseTime(raw []byte) (int64, error) {
	d := canon.NewDecoder(timeDomain, raw)
	t := d.Time()
	if err := d.Finish(); err != nil {
		return 0, corrupt(fmt.Errorf("journal time: %w", err))
	}
	return t, nil
}

func (j *Journal) advance(tx *bbolt.Tx, now int64) error {
	last, err := j.lastTime(tx)
	if err != nil || now <= last {
		return err
	}
	return j.table.Put(tx, []byte(timeKey), canon.New(timeDomain).Time(now).Encoded())
}

// check reads every record and compares both directions.
func (j *Journal) check(tx *bbolt.Tx) error {
	return j.table.ForEach(tx, nil, func(key, raw []byte) error {
		switch string(key[:1]) {
		case intentPrefix:
			e, err := parseEntry(raw)
			if err != nil {
				return corrupt(err)
			}
			holder, err := j.holder(tx, e.Slot)
			if err != nil {
				return err
			}
			lost := e.State == Passed || !e.By.IsZero()
			if holder == nil || string(key) != string(digestKey(intentPrefix, e.Intent)) || lost == (holder.Intent == e.Intent) {
				return corrupt(fmt.Errorf("journal: intent %s (%s) and its slot, %s, do not agree", e.Intent.Short(), e.State, e.Slot))
			}
		case slotPrefix:
			d, err := canon.DigestFrom(raw)
			if err != nil {
				return corrupt(fmt.Errorf("journal slot: %w", err))
			}
			e, err := j.entry(tx, d)
			if err != nil {
				return err
			}
			if e == nil || string(e.Slot.key()) != string(key) {
				return corrupt(fmt.Errorf("journal: a slot is held by intent %s, which does not say so", d.Short()))
			}
		case referencePrefix:
			d, err := canon.DigestFrom(raw)
			if err != nil {
				return corrupt(fmt.Errorf("journal reference: %w", err))
			}
			e, err := j.entry(tx, d)
			if err != nil {
				return err
			}
			if e == nil || string(referenceKey(e.Initiator, e.Reference)) != string(key) {
				return corrupt(fmt.Errorf("journal: a reference is of intent %s, which does not say so", d.Short()))
			}
		case sessionPrefix:
			if _, err := parseBinding(raw); err != nil {
				return corrupt(err)
			}
		case timeKey:
			if _, err := parseTime(raw); err != nil {
				return err
			}
		default:
			return corrupt(errors.New("journal: a record of an unknown kind"))
		}
		return nil
	})
}
