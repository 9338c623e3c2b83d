package authority_test

import (
	"encoding/json"
	"strings"
	"testing"

	"coffer/authority"
)

// Records are read in every form in which coffer and coffer-signer print them.
func TestParseText(t *testing.T) {
	w := newTable(t)
	a := w.FreezeRecord(t, "alice", authority.ScopeCluster, "", now, 1)
	b := w.FreezeRecord(t, "bob", authority.ScopeCluster, "", now, 2)
	pretty := func(v any) string {
		raw, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		return string(raw) + "\n"
	}
	shown := func(r authority.Record) map[string]any {
		return map[string]any{"id": r.ID(), "kind": r.Kind, "record": r.Line()}
	}
	file := w.File.Clone()
	file.Records = [][]byte{a.Encode(), b.Encode()}
	for name, c := range map[string]struct {
		text string
		want []authority.Record
	}{
		"a line":           {a.Line(), []authority.Record{a}},
		"lines":            {"\n# by mail\r\n " + a.Line() + "\r\n\n" + b.Line() + "\n", []authority.Record{a, b}},
		"show --json":      {pretty(shown(a)), []authority.Record{a}},
		"pending --json":   {pretty(map[string]any{"intents": []any{}, "more": false, "records": []any{shown(a), shown(b)}}), []authority.Record{a, b}},
		"records --json":   {pretty(shown(a)) + pretty(shown(b)), []authority.Record{a, b}},
		"a charter's file": {pretty(file), []authority.Record{a, b}},
	} {
		got, err := authority.ParseText([]byte(c.text))
		if err != nil || len(got) != len(c.want) {
			t.Errorf("%s: %d records, %v", name, len(got), err)
			continue
		}
		for n := range got {
			if got[n].Sum() != c.want[n].Sum() {
				t.Errorf("%s: record %d is another one", name, n)
			}
		}
	}
	file.Records = [][]byte{[]byte("x")}
	for name, c := range map[string]struct{ text, says string }{
		"nothing":               {"\n# nothing\n", "no record in it"},
		"charter of version 1":  {pretty(w.File), "no record in it"},
		"an invoice":            {"\ninvoice 9\n", "line 2: "},
		"another object":        {`{"amount": 9}`, "charter file"},
		"another second object": {pretty(shown(a)) + `{"amount": 9}`, "object 2: charter file"},
		"half an object":        {strings.TrimSuffix(pretty(shown(a)), "}\n"), "unexpected EOF"},
		"something behind it":   {pretty(shown(a)) + a.Line(), "invalid character"},
		"a line that was cut":   {pretty(map[string]any{"record": a.Line()[:99]}), "RECORD_MALFORMED"},
		"an empty one of two":   {pretty(map[string]any{"records": []any{shown(a), map[string]any{}}}), "RECORD_MALFORMED"},
		"no record in its file": {pretty(file), "RECORD_MALFORMED"},
	} {
		if got, err := authority.ParseText([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %d records, %v, want %q", name, len(got), err, c.says)
		}
	}
}
