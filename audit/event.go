package audit

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"coffer/canon"
)

// Codes of the events that the log writes about itself.
const (
	CodeBegin     = "AUDIT_BEGIN"     // the first: Detail has origin and identity
	CodeIdentity  = "AUDIT_IDENTITY"  // from here on checkpoints are another identity's: Detail has it, and a signature of the one before
	CodeRecovered = "AUDIT_RECOVERED" // an unacknowledged end was cut off after a crash
)

// Event is one entry. Code is a stable word of the caller; the rest may be empty.
type Event struct {
	Time    int64 // Unix seconds; Append fills in a zero
	Code    string
	Intent  string
	Session string
	Subject string
	Detail  map[string]string
}

const (
	eventDomain = "coffer/audit-event/v1"

	maxCode   = 64
	maxField  = 256
	maxDetail = 64
	// MaxText is where a detail's text is cut: reasons may quote what others sent,
	// and nobody may stop a signer by making it quote too much.
	MaxText   = 2048
	maxRecord = 1 << 18
)

// clean returns e as it is stored: texts cut and valid, or why it cannot be.
func (e Event) clean() (Event, error) {
	if e.Time < 0 {
		return Event{}, fmt.Errorf("%w: time %d is negative", ErrEvent, e.Time)
	}
	if e.Code == "" || len(e.Code) > maxCode || strings.Trim(e.Code, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-") != "" {
		return Event{}, fmt.Errorf("%w: code %q, use 1 to %d of letters, digits and _.-", ErrEvent, cut(e.Code, maxCode), maxCode)
	}
	if len(e.Detail) > maxDetail {
		return Event{}, fmt.Errorf("%w: %d details, at most %d", ErrEvent, len(e.Detail), maxDetail)
	}
	e.Intent, e.Session, e.Subject = cut(e.Intent, maxField), cut(e.Session, maxField), cut(e.Subject, maxField)
	detail := make(map[string]string, len(e.Detail))
	for name, text := range e.Detail {
		if name == "" || len(name) > maxCode || !utf8.ValidString(name) {
			return Event{}, fmt.Errorf("%w: detail name %q, use 1 to %d bytes", ErrEvent, cut(name, maxCode), maxCode)
		}
		detail[name] = cut(text, MaxText)
	}
	e.Detail = detail
	return e, nil
}

const cutMark = "…"

func cut(s string, max int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= max {
		return s
	}
	end := max - len(cutMark)
	for !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + cutMark
}

// encode gives the canonical bytes of entry index. The index is in them so that an
// entry says itself where it belongs.
func (e Event) encode(index int64) []byte {
	c := canon.New(eventDomain).Uint64(uint64(index)).Time(e.Time).String(e.Code).String(e.Intent).String(e.Session).String(e.Subject)
	names := slices.Sorted(maps.Keys(e.Detail))
	c.List(len(names))
	for _, name := range names {
		c.String(name).String(e.Detail[name])
	}
	return c.Encoded()
}

// ParseEvent reads the canonical bytes of an entry.
func ParseEvent(raw []byte) (index int64, e Event, err error) {
	d := canon.NewDecoder(eventDomain, raw)
	at := d.Uint64()
	e = Event{Time: d.Time(), Code: d.String(maxCode), Intent: d.String(maxField), Session: d.String(maxField), Subject: d.String(maxField)}
	n := d.List(maxDetail)
	e.Detail = make(map[string]string, n)
	last := ""
	for range n {
		name, text := d.String(maxCode), d.String(MaxText)
		if d.Err() == nil && name <= last { // the empty name is refused by this too
			d.Fail(fmt.Errorf("details are not in order"))
		}
		last, e.Detail[name] = name, text
	}
	if d.Err() == nil && at > 1<<62 {
		d.Fail(fmt.Errorf("index %d is out of range", at))
	}
	if err := d.Finish(); err != nil {
		return 0, Event{}, fmt.Errorf("audit event: %w", err)
	}
	if _, err := e.clean(); err != nil {
		return 0, Event{}, err
	}
	return int64(at), e, nil
}
