package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"coffer/approval"
	"coffer/authority"
	"coffer/canon"
	"coffer/charter"
	"coffer/credential"
	"coffer/intent"
	"coffer/internal/cli"
	"coffer/policy"
)

// recordLifetime is for how long a signature under a record may be on its way to the
// last signer. Once all signers have it, time does not matter any more.
const recordLifetime = 7 * 24 * time.Hour

// act is an authority record, decoded here from the bytes whose digest people sign.
type act struct {
	authority.Record
	id      canon.Digest
	title   string
	lines   []intent.Line
	decides policy.Requirement
	keys    []string           // kinds of key that count; none means all
	pending *authority.Pending // nil: it is in force, lifted or past
	freeze  *authority.Freeze
}

// decode says in words what a record does. It never fails for one that the ledger took.
func (h *home) decode(r authority.Record) (*act, error) {
	a := &act{Record: r, id: r.ID()}
	for _, p := range h.ledger.Pending() {
		if p.Record == a.id {
			a.pending = &p
		}
	}
	now := h.inForce()
	a.decides, a.keys = now.Admin.Requirement(), now.Admin.Keys
	switch r.Kind {
	case authority.KindCharter:
		return a, h.decodeCharter(a)
	case authority.KindList:
		return a, h.decodeList(a)
	case authority.KindUnfreeze:
		return a, h.decodeUnfreeze(a)
	case authority.KindFreeze:
		f, err := authority.ParseFreeze(r.Raw)
		if err != nil {
			return nil, err
		}
		a.freeze = f
		a.title = fmt.Sprintf("the freeze of %s by %s", f.What(), f.By)
		a.add("freezes", "%s", f.What())
		a.add("by", "%s, %s", f.By, stamp(f.Time))
		a.add("reason", "%s", cli.Clean(f.Reason))
		return a, nil
	case authority.KindOrder:
		a.title = "orders about intent " + r.Subject().Short()
		for _, s := range r.Statements {
			if st, err := approval.Parse(s.Raw); err == nil {
				a.add("order", "%s by %s, %s", st.Kind, st.Person, stamp(st.Issued))
			}
		}
		return a, nil
	}
	return nil, fmt.Errorf("record %s is of kind %q, which this version of coffer does not know", a.id.Short(), cli.Clean(string(r.Kind)))
}

func (a *act) add(label, format string, args ...any) {
	a.lines = append(a.lines, intent.Line{Label: label, Value: fmt.Sprintf(format, args...)})
}

func (h *home) decodeCharter(a *act) error {
	next, err := charter.Parse(a.Raw)
	if err != nil {
		return err
	}
	a.title = fmt.Sprintf("version %d of the charter", next.Version)
	a.add("charter", "%s, version %d", next.Name, next.Version)
	old, known := h.ledger.Charter(next.Previous)
	if !known {
		a.add("follows", "%s, which is not known here", next.Previous)
		return nil
	}
	a.add("follows", "version %d, %s", old.Version, old.Digest())
	a.decides, a.keys = old.Admin.Requirement(), old.Admin.Keys
	a.lines = append(a.lines, changeLines(charter.Diff(old, next))...)
	if wait := old.Admin.Wait(charter.Narrows(old, next)); wait > 0 {
		a.add("delay", "%s of each signer's uptime once it is signed", duration(wait))
	}
	return nil
}

// changeLines are what a change lets whom do, the widening ones first: nobody may
// overlook them.
func changeLines(changes []charter.Change) (out []intent.Line) {
	for _, c := range changes {
		if c.Widens {
			out = append(out, intent.Line{Label: "WIDENS", Value: c.Text})
		}
	}
	for _, c := range changes {
		if !c.Widens {
			out = append(out, intent.Line{Label: "changes", Value: c.Text})
		}
	}
	if len(changes) == 0 {
		out = append(out, intent.Line{Label: "changes", Value: "nothing but the number"})
	}
	return out
}

func (h *home) decodeList(a *act) error {
	l, err := authority.ParseList(a.Raw)
	if err != nil {
		return err
	}
	a.title = fmt.Sprintf("version %d of list %q", l.Version, l.Name)
	a.add("list", "%s, version %d, %s, issued %s", l.Name, l.Version, count(len(l.Entries), "entry", "entries"), stamp(l.Issued))
	if list, ok := h.inForce().List(l.Name); ok && list.Keepers != nil {
		a.decides, a.keys = *list.Keepers, nil
	}
	added, removed := h.listDiff(l)
	for _, e := range added {
		a.add("adds", "%s", entryWords(e))
	}
	for _, e := range removed {
		a.add("removes", "%s", entryWords(e))
	}
	if len(added)+len(removed) == 0 {
		a.add("changes", "nothing but the number and the time it was issued")
	}
	return nil
}

func entryWords(e policy.Destination) string {
	return fmt.Sprintf("%s on %s (%s)", e.Address, e.Chain, cli.Clean(e.Label))
}

// listDiff compares a version of a list with the one in force.
func (h *home) listDiff(l *authority.ListVersion) (added, removed []policy.Destination) {
	held := h.entries(l.Name)
	for _, e := range l.Entries {
		if !slices.Contains(held, e) {
			added = append(added, e)
		}
	}
	for _, e := range held {
		if !slices.Contains(l.Entries, e) {
			removed = append(removed, e)
		}
	}
	return added, removed
}

func (h *home) decodeUnfreeze(a *act) error {
	u, err := authority.ParseUnfreeze(a.Raw)
	if err != nil {
		return err
	}
	a.title = "an unfreeze of " + count(len(u.Freezes), "freeze", "freezes")
	if c, ok := h.ledger.Charter(u.Charter); ok {
		a.decides, a.keys = c.Admin.Requirement(), c.Admin.Keys
	}
	active := map[canon.Digest]authority.Held{}
	for _, f := range h.ledger.Freezes() {
		active[f.ID] = f
	}
	for _, id := range u.Freezes {
		f, ok := active[id]
		if !ok {
			a.add("lifts", "%s, which is not known here or lifted already", id.Short())
			continue
		}
		a.add("lifts", "the freeze of %s", freezeWords(f))
	}
	for _, f := range h.ledger.Freezes() {
		if !slices.Contains(u.Freezes, f.ID) {
			a.add("leaves", "the freeze of %s", freezeWords(f))
		}
	}
	a.add("reason", "%s", cli.Clean(u.Reason))
	a.add("until", "%s, to be signed", stamp(u.Expires))
	return nil
}

// name says in a few words which record it is.
func (h *home) name(r authority.Record) string {
	a, err := h.decode(r)
	if err != nil {
		return "record " + r.ID().Short()
	}
	return fmt.Sprintf("%s (%s)", a.title, a.id.Short())
}

// signedBy are the people whose statements a record carries, and what else they say.
func (a *act) signedBy(h *home) (out []string) {
	seen := map[string]bool{}
	for _, s := range a.Statements {
		st, err := approval.Parse(s.Raw)
		if err != nil || a.Kind == authority.KindOrder || st.Kind == approval.Approve && a.said(st.Person, approval.Withdraw) {
			continue
		}
		text := st.Person
		if p, ok := h.person(st.Person); ok {
			text += " of " + p.Org
		}
		if st.Kind == approval.Withdraw {
			text += ", who WITHDREW it"
		}
		if !seen[text] {
			seen[text] = true
			out = append(out, text)
		}
	}
	for _, s := range a.Signers {
		out = append(out, "signer "+string(s.Signer))
	}
	slices.Sort(out)
	return out
}

// person looks somebody up in the charter in force.
func (h *home) person(name string) (charter.Person, bool) { return h.inForce().Person(name) }

// rivals are the other records that wait for the same number.
func (h *home) rivals(a *act) (out []*act) {
	if a.Kind == authority.KindUnfreeze {
		return nil // it has no number, and several lift what they lift
	}
	for _, p := range h.ledger.Pending() {
		r, ok := h.ledger.Record(p.Record)
		if !ok || p.Record == a.id || p.Kind != a.Kind || len(p.Have) == 0 { // nobody stands behind one that was taken back
			continue
		}
		if other, err := h.decode(r); err == nil && other.title == a.title {
			out = append(out, other)
		}
	}
	return out
}

// torn refuses to sign a second record for one number: two versions of the charter that
// are both signed are a fork, which stops the cluster.
func (h *home) torn(a *act, as string) error {
	for _, other := range h.rivals(a) {
		if other.said(as, approval.Approve) && !other.said(as, approval.Withdraw) {
			return cli.Hint(cli.Refusedf("%q has signed another %s, %s, and at most one of them takes force", as, a.title, other.id.Short()),
				"coffer withdraw %s takes that signature back; or wait until that one is in force, and propose this on top of it", other.id.String()[:12])
		}
	}
	return nil
}

// onSigners are those whose receipts verify: it is in force there.
func (a *act) onSigners() (out []string) {
	for _, r := range a.Receipts {
		out = append(out, string(r.Signer))
	}
	slices.Sort(out)
	return out
}

// wants says whether a signature of as would bring a record nearer to its force.
func (h *home) wants(a *act, as string) bool {
	p, ok := h.person(as)
	return ok && a.pending != nil && !a.pending.Complete && slices.Contains(p.Groups, a.decides.Group) && !slices.Contains(a.pending.Have, as) && !a.said(as, approval.Withdraw)
}

func (a *act) said(person string, kind approval.Kind) bool {
	for _, s := range a.Statements {
		if st, err := approval.Parse(s.Raw); err == nil && st.Person == person && st.Kind == kind {
			return true
		}
	}
	return false
}

// state says where a record stands.
func (h *home) state(a *act) string {
	p := a.pending
	if _, known := h.ledger.Record(a.id); !known {
		return "not signed by anybody yet"
	}
	switch {
	case p == nil && a.Kind == authority.KindFreeze:
		for _, f := range h.ledger.Freezes() {
			if f.ID != a.id {
				continue
			}
			if f.Effective {
				return "effective"
			}
			return "not known to be effective"
		}
		return "lifted"
	case p == nil && a.Kind == authority.KindOrder:
		return "given"
	case p == nil && a.Kind == authority.KindCharter && a.id != h.inForce().Digest():
		if _, was := h.ledger.Charter(a.id); was {
			return "was in force"
		}
		return "did not take force"
	case p == nil:
		return "in force"
	case p.Fork:
		return "FORK: another version of this number is signed as well, and neither takes force until an admin takes a signature back: coffer withdraw"
	case !p.Complete:
		return "waits for people"
	}
	return "signed; " + strings.TrimPrefix(p.Missing, "complete; ")
}

// count is a number of things in words.
func count(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, more)
}

// missing are the people whose signatures a record waits for, in words.
func (a *act) missing() string {
	if a.pending == nil || a.pending.Complete {
		return ""
	}
	return strings.TrimPrefix(a.pending.Missing, "waits for ")
}

// actLines are a record as this program decoded it, for as.
func (h *home) actLines(a *act, as string) []intent.Line {
	out := []intent.Line{{Label: "record", Value: a.id.String()}}
	out = append(out, a.lines...)
	line := func(label, format string, args ...any) {
		out = append(out, intent.Line{Label: label, Value: fmt.Sprintf(format, args...)})
	}
	if a.Kind != authority.KindFreeze && a.Kind != authority.KindOrder {
		text := a.decides.String()
		if len(a.keys) > 0 {
			text += " with keys of kind " + strings.Join(a.keys, ", ")
		}
		line("decided by", "%s", text)
	}
	for _, who := range a.signedBy(h) {
		line("signed by", "%s", who)
	}
	line("state", "%s", h.state(a))
	for _, other := range h.rivals(a) {
		line("beside", "%s (%s), signed by %s, waits too: at most one of them takes force", other.title, other.id.Short(), strings.Join(other.signedBy(h), ", "))
	}
	if missing := a.missing(); missing != "" {
		line("missing", "%s", missing)
	}
	if on := a.onSigners(); len(on) > 0 {
		line("on signers", "%s", strings.Join(on, ", "))
	}
	if h.wants(a, as) {
		line("you", "can sign it: coffer approve %s", a.id.String()[:12])
	}
	return out
}

// actReport is the JSON form of a record.
type actReport struct {
	ID       string   `json:"id"`
	Kind     string   `json:"kind"`
	Title    string   `json:"title"`
	State    string   `json:"state"`
	Says     []string `json:"says"`
	Decides  string   `json:"decided_by,omitempty"`
	SignedBy []string `json:"signed_by,omitempty"`
	Missing  string   `json:"missing,omitempty"`
	Signers  []string `json:"on_signers,omitempty"` // whose receipts verify
	Fork     bool     `json:"fork,omitempty"`
	Yours    bool     `json:"yours,omitempty"` // whoever asks can sign it
	Record   string   `json:"record"`          // one line, for mail and for operators
}

func (h *home) report(a *act, as string) actReport {
	r := actReport{
		ID: a.id.String(), Kind: string(a.Kind), Title: a.title, State: h.state(a), Says: []string{},
		SignedBy: a.signedBy(h), Signers: a.onSigners(), Yours: h.wants(a, as), Record: a.Line(),
	}
	for _, l := range a.lines {
		r.Says = append(r.Says, l.Label+" "+l.Value)
	}
	if a.Kind != authority.KindFreeze && a.Kind != authority.KindOrder {
		r.Decides = a.decides.String()
	}
	if a.pending != nil {
		r.Missing, r.Fork = a.missing(), a.pending.Fork
	}
	return r
}

func (h *home) printAct(cmd *cobra.Command, a *act) error {
	if h.o.json {
		return cli.JSON(cmd, h.report(a, h.o.as))
	}
	printLines(cmd.OutOrStdout(), h.actLines(a, h.o.as))
	return nil
}

// find is the record that word names: six or more digits of its ID, or a file with its
// line. It is nil if none is meant.
func (h *home) find(word string) (*act, error) {
	if id, ok, err := h.fromFile(word); ok || err != nil {
		if err != nil {
			return nil, err
		}
		word = id.String()
	}
	if !likeID.MatchString(word) {
		return nil, nil
	}
	var found *authority.Record
	for _, r := range h.ledger.Records() {
		if !strings.HasPrefix(r.ID().String(), strings.ToLower(word)) {
			continue
		}
		if found != nil {
			return nil, cli.Usagef("%s begins the IDs of several records: give more digits", word)
		}
		found = &r
	}
	if found == nil {
		return nil, nil
	}
	return h.decode(*found)
}

// fromFile takes the records of a file, and answers the one that waits for people; ok
// is false if word names no file, or one that is about something else: the folder of
// whoever approves INV-9 may well hold the invoice of that name.
func (h *home) fromFile(word string) (id canon.Digest, ok bool, err error) {
	info, err := os.Stat(word)
	if err != nil || !info.Mode().IsRegular() {
		return id, false, nil
	}
	records, err := readRecordFile(word)
	if err != nil {
		raw, _ := readUpTo(word, maxRecords)
		if !strings.ContainsRune(word, filepath.Separator) && !strings.Contains(string(raw), "coffer-record-v1:") {
			return id, false, nil
		}
		return id, true, err
	}
	var last error
	for _, r := range records {
		if _, err := h.ledger.Add(r, unixNow()); err != nil {
			last = err
		}
	}
	var waiting []canon.Digest
	for _, p := range h.ledger.Pending() {
		if slices.ContainsFunc(records, func(r authority.Record) bool { return r.ID() == p.Record }) {
			waiting = append(waiting, p.Record)
		}
	}
	switch {
	case len(waiting) == 1:
		return waiting[0], true, h.save()
	case len(waiting) > 1:
		return id, true, cli.Usagef("%s holds %d records that wait: name one by its ID, %s, …", word, len(waiting), waiting[0])
	case len(records) == 1 && last == nil:
		return records[0].ID(), true, h.save()
	case last != nil:
		return id, true, &cli.ExitError{Code: cli.Refused, Err: fmt.Errorf("%s: %w", word, last)}
	}
	return id, true, cli.Usagef("%s holds no record that waits for people", word)
}

// readRecordFile reads the records of a file, in whichever form it holds them.
func readRecordFile(path string) ([]authority.Record, error) {
	raw, err := readUpTo(path, maxRecords)
	if err != nil {
		return nil, err
	}
	out, err := authority.ParseText(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return out, nil
}

// waiting are the records that wait for people or signers.
func (h *home) waiting() (out []*act, err error) {
	for _, p := range h.ledger.Pending() {
		r, _ := h.ledger.Record(p.Record)
		a, err := h.decode(r)
		if err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	return out, nil
}

// statement is what the user says about a record or an intent, signed.
func (o *options) statement(h *home, key credential.Signer, kind approval.Kind, subject canon.Digest, lifetime time.Duration, until int64) (approval.Signed, error) {
	now := time.Now()
	st := &approval.Statement{
		Cluster: h.inForce().Cluster, Kind: kind, Subject: subject, Person: o.as,
		Issued: now.Unix(), Expires: now.Add(lifetime).Unix(),
	}
	if until > 0 {
		st.Expires = min(st.Expires, until)
	}
	if _, err := rand.Read(st.Nonce[:]); err != nil {
		return approval.Signed{}, err
	}
	return approval.Sign(st, key)
}

// sign adds the user's statement to a record, and keeps it before anybody else sees it.
func (o *options) sign(h *home, key credential.Signer, a *act, kind approval.Kind, until int64) (*act, error) {
	signed, err := o.statement(h, key, kind, a.id, recordLifetime, until)
	if err != nil {
		return nil, err
	}
	r := a.Record
	r.Statements, r.Receipts = append(slices.Clone(r.Statements), signed), nil
	// Found here, the error names the key; found by a signer, it is only refused.
	if _, err := h.ledger.Add(r, unixNow()); err != nil {
		return nil, &cli.ExitError{Code: cli.Refused, Err: err}
	}
	if err := h.save(); err != nil {
		return nil, err
	}
	after, err := h.find(a.id.String())
	if err == nil && after == nil {
		err = errors.New("the record was not kept")
	}
	return after, err
}

// handIn gives a record to the coordinator, which passes it on to the signers.
func (c *client) handIn(ctx context.Context, a *act, talk io.Writer) (*act, error) {
	h := c.home
	got, err := h.withBrief(ctx, "the coordinator", c.api, []authority.Record{a.Record})
	if err != nil {
		return nil, cli.Hint(fmt.Errorf("it is signed and kept here, and not handed in: %w", err), // not explain: its hint would stand before the one that helps
			"any coffer command hands it in once the coordinator is back; or coffer show %s --json gives it as a line, which an operator takes with coffer-signer records", a.id.String()[:12])
	}
	warn(got, talk)
	if r := got.refused[a.id]; r != nil {
		return nil, cli.Refusedf("the coordinator refused it: %s: %s", r.Code, r.Text)
	}
	h.announce(talk)
	if err := h.save(); err != nil {
		return nil, err
	}
	after, err := h.find(a.id.String())
	if err == nil && after == nil {
		after = a
	}
	return after, err
}

// proposed is the verb of a record that was made just now.
const proposed = "proposed"

// printSigned says what a signature came to.
func (h *home) printSigned(cmd *cobra.Command, verb string, a *act) error {
	if h.o.json {
		return cli.JSON(cmd, h.report(a, h.o.as))
	}
	if verb != proposed { // of what is new the ID alone, for scripts
		fmt.Fprintf(cmd.OutOrStdout(), "%s ", verb)
	}
	fmt.Fprintln(cmd.OutOrStdout(), a.id)
	text := a.title + ": " + h.state(a)
	if missing := a.missing(); missing != "" {
		text += "; still missing: " + missing
	}
	fmt.Fprintln(cmd.ErrOrStderr(), text)
	return nil
}
