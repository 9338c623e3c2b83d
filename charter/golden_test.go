package charter_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coffer/charter"
	"coffer/credential"
	"coffer/identity"
)

// The signed bytes of this package, by name, in testdata/golden.txt. A change of any
// breaks every charter in use: it needs a new domain, not a new file.
func TestGolden(t *testing.T) {
	w := newWorld(t)
	f := w.signed(t)
	a, _ := f.Address("a")
	got := map[string]string{
		"charter":           hex.EncodeToString(f.Charter.Encode()),
		"charter-digest":    f.Charter.Digest().String(),
		"charter-signature": hex.EncodeToString(f.Signatures[0].Signature),
		"address":           hex.EncodeToString(a.Encode()),
	}
	for _, line := range w.cards {
		c, err := charter.ParseCard(line)
		if err != nil {
			t.Fatal(err)
		}
		if c.Name != "a" && c.Name != "hub" && c.Name != "alice" && c.Name != "erp" {
			continue
		}
		got[c.Kind+"-card"] = hex.EncodeToString(c.Encode())
		got[c.Kind+"-card-line"] = line
	}
	raw, err := os.ReadFile("testdata/golden.txt")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for _, line := range strings.Split(strings.TrimSpace(string(raw)), "\n") {
		name, value, _ := strings.Cut(line, " ")
		want[name] = value
	}
	for name, value := range got {
		if want[name] != value {
			t.Errorf("%s is\n%s\nwant\n%s", name, value, want[name])
		}
	}
	if len(want) != len(got) {
		t.Errorf("%d vectors in the file, %d made", len(want), len(got))
	}
	if c, err := charter.Parse(f.Charter.Encode()); err != nil || c.Digest() != f.Charter.Digest() || c.Validate() != nil {
		t.Errorf("the golden charter does not read back: %v", err)
	}
}

// A charter file as it was written once: later releases must open it.
func TestFrozenFile(t *testing.T) {
	w := newWorld(t)
	path := filepath.Join("testdata", "charter.json")
	c, f, err := charter.Open(path, w.signed(t).Charter.Digest())
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := f.Marshal()
	if err != nil || !bytes.Equal(again, raw) {
		t.Errorf("it is written in another way now (%v)", err)
	}
	if _, ok := c.Person("alice"); !ok {
		t.Error("alice is gone")
	}
}

func FuzzParse(f *testing.F) {
	raw := newWorld(f).file(f).Charter.Encode()
	f.Add(raw)
	f.Add(rich(f).Encode())
	f.Add((&charter.Charter{}).Encode())
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := charter.Parse(raw)
		if err != nil {
			return
		}
		if !bytes.Equal(c.Encode(), raw) {
			t.Fatal("one charter, two encodings")
		}
		_ = c.Validate()
		_ = c.Describe()
	})
}

func FuzzParseCard(f *testing.F) {
	for _, line := range newWorld(f).cards {
		f.Add(line)
	}
	f.Add("coffer-card-v1:")
	f.Fuzz(func(t *testing.T, line string) {
		c, err := charter.ParseCard(line)
		if err != nil {
			return
		}
		// Nobody has the keys of the seeds' holders here, so what parses is a seed or
		// was signed by a key that the fuzzer knows, which it does not.
		if (c.Kind == charter.CardPerson || c.Kind == charter.CardService) != (c.Peer == identity.ID("")) || (c.Key == credential.Key{}) == (c.Peer == "") {
			t.Fatalf("a card of two sorts: %+v", c)
		}
	})
}

func FuzzParseAddressRecord(f *testing.F) {
	key := seeded(f, 1)
	a := charter.AddressRecord{Peer: key.ID(), Sequence: 7, P2P: []string{"/dns4/a.example/tcp/4001"}, GRPC: "a.example:7001"}
	f.Add(a.Encode())
	f.Fuzz(func(t *testing.T, raw []byte) {
		// Signed by the key of the seed, so that the fuzzer gets past the signature.
		a, err := charter.ParseAddressRecord(raw, key.Sign(raw))
		if err == nil && !bytes.Equal(a.Encode(), raw) {
			t.Fatal("one record, two encodings")
		}
	})
}

func FuzzParseFile(f *testing.F) {
	w := newWorld(f)
	for _, file := range []*charter.File{w.file(f), w.signed(f)} {
		raw, err := file.Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
		small, _ := json.Marshal(file.Charter)
		f.Add([]byte(`{"charter":` + string(small) + `}`))
	}
	f.Add([]byte(`{"charter":null}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		one, err := charter.ParseFile(raw)
		if err != nil {
			return
		}
		out, err := one.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		two, err := charter.ParseFile(out)
		if err != nil {
			t.Fatalf("what was read cannot be read again: %v", err)
		}
		if one.Charter.Digest() != two.Charter.Digest() {
			t.Fatal("writing changes the charter")
		}
		if (one.Verify() == nil) != (two.Verify() == nil) {
			t.Fatal("writing changes whether it verifies")
		}
	})
}

// FuzzParseJSON: what an editor has left of a version is that, or refused.
func FuzzParseJSON(f *testing.F) {
	for _, c := range []*charter.Charter{newWorld(f).file(f).Charter, rich(f)} {
		raw, err := json.Marshal(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Add([]byte(`{"version":2}`))
	old := rich(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := charter.ParseJSON(raw)
		if err != nil {
			return
		}
		c.Follow(old)
		if c.Validate() != nil {
			return
		}
		// What a person may be asked to sign can be said in words, and has one encoding.
		charter.Diff(old, c)
		charter.Narrows(old, c)
		if back, err := charter.Parse(c.Encode()); err != nil || back.Digest() != c.Digest() {
			t.Fatalf("does not read back: %v", err)
		}
	})
}

func FuzzDraft(f *testing.F) {
	f.Add([]byte(draftJSON))
	cards := newWorld(f).cards
	f.Fuzz(func(t *testing.T, raw []byte) {
		var d charter.Draft
		if json.Unmarshal(raw, &d) != nil {
			return
		}
		file, err := charter.Assemble(d, cards)
		if err != nil {
			return
		}
		if err := file.VerifyPresent(); err != nil {
			t.Fatalf("assembled what does not verify: %v", err)
		}
	})
}
