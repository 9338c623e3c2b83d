package authority

import (
	"time"

	"coffer/canon"
)

const (
	keptDomain = "coffer/kept-record/v1"
	maxForks   = 16
	// MaxKept bounds an encoded Kept.
	MaxKept = MaxRecord + 64<<10
)

// Kept is a record together with what only its holder knows: what was in time when it
// came, and how long it has waited. Restore begins where it ended.
type Kept struct {
	Record   Record
	Arrived  int64          // Unix seconds, when something new in it came last
	Complete bool           // enough people had signed while their statements were good
	Counted  []canon.Digest // of the statements that made it complete, ascending
	Waited   time.Duration  // uptime since it was complete
	Final    bool           // in force, or carried out: nothing changes it any more
	Forks    []canon.Digest // rivals for the same number that have been told of, ascending
}

// Encode is for the holder's own disk.
func (k Kept) Encode() []byte {
	e := canon.New(keptDomain).Bytes(k.Record.Encode()).Time(k.Arrived).Bool(k.Complete).Bool(k.Final).Uint64(uint64(k.Waited))
	for _, list := range [][]canon.Digest{k.Counted, k.Forks} {
		e.List(len(list))
		for _, d := range list {
			e.Digest(d)
		}
	}
	return e.Encoded()
}

// ParseKept reads what Encode made.
func ParseKept(raw []byte) (Kept, error) {
	d := canon.NewDecoder(keptDomain, raw)
	record := d.Bytes(MaxRecord)
	k := Kept{Arrived: d.Time(), Complete: d.Bool(), Final: d.Bool(), Waited: time.Duration(d.Time())}
	for range d.List(MaxStatements) {
		k.Counted = append(k.Counted, d.Digest())
	}
	for range d.List(maxForks) {
		k.Forks = append(k.Forks, d.Digest())
	}
	if err := d.Finish(); err != nil {
		return Kept{}, refuse(CodeMalformed, "kept record: %w", err)
	}
	var err error
	k.Record, err = Parse(record)
	return k, err
}
