package verdict

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"coffer/canon"
	"coffer/identity"
	"coffer/party"
)

// Domain begins every encoded verdict.
const Domain = "coffer/verdict/v1"

// What a signer would do.
const (
	Sign   = "sign"
	Wait   = "wait"   // it would sign if it had what Missing names
	Refuse = "refuse" // more approvals change nothing
)

const (
	// MaxText bounds each text, in bytes.
	MaxText = 512
	// MaxItems bounds each list.
	MaxItems = 32
	// MaxSize bounds an encoded verdict; full lists of full texts fit.
	MaxSize = 64 << 10

	maxName = 64
)

// Reason is one thing that stands in the way.
type Reason struct {
	Check string `json:"check"` // the gate's ID of the check, such as "G-POLICY"
	Code  string `json:"code"`  // stable, such as "POLICY_AMOUNT"
	Text  string `json:"text"`  // for people
}

// Verdict is what a signer thinks of an intent at a time. Intent, Charter and
// Transaction are zero where there was none to judge.
type Verdict struct {
	Cluster     canon.Digest `json:"cluster"`
	Signer      party.ID     `json:"signer"`
	Intent      canon.Digest `json:"intent"`
	Charter     canon.Digest `json:"charter"`
	Transaction canon.Digest `json:"transaction"`
	Outcome     string       `json:"outcome"`
	Matched     []string     `json:"matched,omitempty"` // names of the rules that apply
	Reasons     []Reason     `json:"reasons,omitempty"`
	Missing     []string     `json:"missing,omitempty"` // in words
	Time        int64        `json:"time"`              // Unix seconds, the signer's clock
}

// Validate reports the first field that keeps v from being encoded.
func (v Verdict) Validate() error {
	if v.Time < 0 {
		return fmt.Errorf("verdict: time %d is negative", v.Time)
	}
	if v.Signer == "" || len(v.Signer) > maxName || !printable(string(v.Signer)) {
		return fmt.Errorf("verdict: signer %.40q is not a name", string(v.Signer))
	}
	if len(v.Matched) > MaxItems || len(v.Reasons) > MaxItems || len(v.Missing) > MaxItems {
		return fmt.Errorf("verdict: more than %d items in a list", MaxItems)
	}
	for _, s := range append(append([]string(nil), v.Matched...), v.Missing...) {
		if err := checkText(s, MaxText); err != nil {
			return err
		}
	}
	for _, r := range v.Reasons {
		if err := errors.Join(checkText(r.Check, maxName), checkText(r.Code, maxName), checkText(r.Text, MaxText)); err != nil {
			return err
		}
	}
	switch v.Outcome {
	case Sign:
		if len(v.Missing) > 0 {
			return fmt.Errorf("verdict: outcome sign although something is missing")
		}
	case Wait:
		if len(v.Missing)+len(v.Reasons) == 0 {
			return fmt.Errorf("verdict: outcome wait does not say for what")
		}
	case Refuse:
		if len(v.Reasons) == 0 {
			return fmt.Errorf("verdict: outcome refuse gives no reason")
		}
	default:
		return fmt.Errorf("verdict: outcome %.40q, want %s, %s or %s", v.Outcome, Sign, Wait, Refuse)
	}
	return nil
}

func checkText(s string, max int) error {
	if len(s) > max {
		return fmt.Errorf("verdict: text of %d bytes, at most %d", len(s), max)
	}
	if !printable(s) {
		return fmt.Errorf("verdict: text %.60q is not printable", s)
	}
	return nil
}

func printable(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

// clean makes any text fit: reasons quote what strangers sent.
func clean(s string, max int) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if len(s) <= max {
		return s
	}
	const more = "…"
	cut := max - len(more)
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + more
}

// Clean returns v with texts and lists cut to what can be encoded.
func (v Verdict) Clean() Verdict {
	texts := func(list []string) (out []string) {
		for _, s := range list[:min(len(list), MaxItems)] {
			out = append(out, clean(s, MaxText))
		}
		return out
	}
	v.Matched, v.Missing = texts(v.Matched), texts(v.Missing)
	reasons := v.Reasons[:min(len(v.Reasons), MaxItems)]
	v.Reasons = nil
	for _, r := range reasons {
		v.Reasons = append(v.Reasons, Reason{clean(r.Check, maxName), clean(r.Code, maxName), clean(r.Text, MaxText)})
	}
	return v
}

// Encode is the canonical form, or nil for a verdict that does not validate.
func (v Verdict) Encode() []byte {
	if v.Validate() != nil {
		return nil
	}
	e := canon.New(Domain).
		Digest(v.Cluster).String(string(v.Signer)).
		Digest(v.Intent).Digest(v.Charter).Digest(v.Transaction).
		String(v.Outcome).Strings(v.Matched).List(len(v.Reasons))
	for _, r := range v.Reasons {
		e.String(r.Check).String(r.Code).String(r.Text)
	}
	return e.Strings(v.Missing).Time(v.Time).Encoded()
}

// Parse decodes canonical bytes. It says nothing of who made them; use Verify.
func Parse(raw []byte) (*Verdict, error) {
	if len(raw) > MaxSize {
		return nil, fmt.Errorf("verdict: %d bytes, at most %d", len(raw), MaxSize)
	}
	d := canon.NewDecoder(Domain, raw)
	v := &Verdict{
		Cluster: d.Digest(), Signer: party.ID(d.String(maxName)),
		Intent: d.Digest(), Charter: d.Digest(), Transaction: d.Digest(),
		Outcome: d.String(maxName), Matched: d.Strings(MaxItems, MaxText),
	}
	for n := d.List(MaxItems); n > 0 && d.Err() == nil; n-- {
		v.Reasons = append(v.Reasons, Reason{d.String(maxName), d.String(maxName), d.String(MaxText)})
	}
	v.Missing, v.Time = d.Strings(MaxItems, MaxText), d.Time()
	if err := d.Finish(); err != nil {
		return nil, fmt.Errorf("verdict: %w", err)
	}
	if err := v.Validate(); err != nil {
		return nil, err
	}
	if !bytes.Equal(v.Encode(), raw) {
		return nil, fmt.Errorf("verdict: not in its canonical encoding")
	}
	return v, nil
}

// Sign cleans v and signs it as the signer whose key this is.
func (v Verdict) Sign(key *identity.Key) (raw, signature []byte, err error) {
	v = v.Clean()
	if err := v.Validate(); err != nil {
		return nil, nil, err
	}
	if raw = v.Encode(); len(raw) > MaxSize {
		return nil, nil, fmt.Errorf("verdict: %d bytes, at most %d", len(raw), MaxSize)
	}
	return raw, key.Sign(raw), nil
}

// Verify parses a verdict that identity id signed. The caller compares Signer,
// Cluster and the digests with what it asked about: a verdict that verifies may
// still be about something else.
func Verify(raw, signature []byte, id identity.ID) (*Verdict, error) {
	v, err := Parse(raw)
	if err != nil {
		return nil, err
	}
	if err := id.Verify(raw, signature); err != nil {
		return nil, fmt.Errorf("verdict of %s: %w", v.Signer, err)
	}
	return v, nil
}

// About refuses a verdict that is not by signer, in cluster, about intent under charter.
func (v *Verdict) About(signer party.ID, cluster, charter, intent canon.Digest) error {
	switch {
	case v.Signer != signer:
		return fmt.Errorf("verdict is by %q, want %q", string(v.Signer), string(signer))
	case v.Cluster != cluster:
		return fmt.Errorf("verdict is of cluster %s, want %s", v.Cluster.Short(), cluster.Short())
	case v.Charter != charter:
		return fmt.Errorf("verdict is under charter %s, want %s", v.Charter.Short(), charter.Short())
	case v.Intent != intent:
		return fmt.Errorf("verdict is about intent %s, want %s", v.Intent.Short(), intent.Short())
	}
	return nil
}
