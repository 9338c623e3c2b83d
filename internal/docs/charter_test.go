package docs_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"coffer/charter"
	"coffer/credential"
	"coffer/credential/credentialtest"
	"coffer/internal/testcharter"
	"coffer/party"
)

// Every field of a charter and of a draft has a row in docs/charter.md, and every row a
// field.
func TestCharterFields(t *testing.T) {
	known := map[string]reflect.Type{}
	keys(reflect.TypeFor[charter.Charter](), "", known)
	draft := map[string]reflect.Type{}
	keys(reflect.TypeFor[charter.Draft](), "", draft)
	for key := range draft {
		if _, both := known[key]; !both && key != "people.NAME" {
			known[key] = draft[key]
		}
	}
	seen := map[string]bool{}
	for _, row := range rows(section(t, read(t, "docs/charter.md"), "Fields")) {
		if len(row) != 5 {
			t.Errorf("row %q has %d cells, want 5", row[0], len(row))
			continue
		}
		key := strings.Trim(row[0], "`")
		if _, ok := known[key]; !ok {
			t.Errorf("there is no field %s", key)
		}
		if seen[key] {
			t.Errorf("%s has two rows", key)
		}
		seen[key] = true
		if row[1] == "" || row[2] == "" {
			t.Errorf("%s: its type and default are missing", key)
		}
	}
	for key := range known {
		if !seen[key] {
			t.Errorf("%s has no row", key)
		}
	}
}

// The examples of drafts become charters with the cards of the people that they name.
func TestCharterExamples(t *testing.T) {
	for _, path := range []string{"docs/first-charter.json", "deploy/charter/draft.json"} {
		var d charter.Draft
		if err := json.Unmarshal([]byte(read(t, path)), &d); err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		var cards []string
		add := func(line string, err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
			cards = append(cards, line)
		}
		org := func(n int) string { return d.Organisations[n%len(d.Organisations)] }
		for n := range d.Quorum.Of {
			name := fmt.Sprintf("s%d", n)
			add(charter.NewSignerCard(testcharter.Identity(t, name), party.ID(name), org(n), charter.Places{P2P: []string{"/ip4/192.0.2.1/tcp/7001"}, GRPC: "192.0.2.1:7101"}))
		}
		add(charter.NewCoordinatorCard(testcharter.Identity(t, "desk"), "desk", org(0), "192.0.2.9:7400"))
		people := []string{}
		for name := range d.People {
			people = append(people, name)
		}
		slices.Sort(people)
		for n, name := range people {
			for k := range max(d.People[name].Keys, 1) {
				key := []func() credential.Signer{
					func() credential.Signer { return credentialtest.SecurityKey(t, name) },
					func() credential.Signer { return credentialtest.Passkey(t, name) },
				}[k]()
				add(charter.NewPersonCard(key, name, org(n)))
			}
		}
		for _, name := range d.Readers {
			add(charter.NewServiceCard(testcharter.SSH(t, name), name, org(0)))
		}
		f, err := charter.Assemble(d, cards)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		for _, name := range d.Readers {
			if s, ok := f.Charter.Service(name); !ok || s.Initiates() {
				t.Errorf("%s: service %s is no reader", path, name)
			}
		}
	}
}
