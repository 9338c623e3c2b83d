package charter_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"coffer/canon"
	"coffer/charter"
	"coffer/party"
)

func TestOpen(t *testing.T) {
	w := newWorld(t)
	f := w.signed(t)
	path, pin := save(t, f)
	c, back, err := charter.Open(path, pin)
	if err != nil {
		t.Fatal(err)
	}
	if c.Digest() != pin || back.Charter.Digest() != pin {
		t.Error("another charter came back")
	}
	if a, ok := back.Address("a"); !ok || a.GRPC != "127.0.0.1:7001" || !slices.Equal(a.P2P, []string{"/ip4/127.0.0.1/tcp/4001"}) {
		t.Errorf("address of a is %+v, %v", a, ok)
	}
	if _, ok := back.Address("hub"); ok {
		t.Error("a coordinator has a signer's address")
	}
	if a, ok := back.CoordinatorAddress("hub"); !ok || a != "127.0.0.1:7000" {
		t.Errorf("address of hub is %q, %v", a, ok)
	}
	if _, ok := back.CoordinatorAddress("a"); ok {
		t.Error("a signer has a coordinator's address")
	}
	raw, _ := os.ReadFile(path)
	again := filepath.Join(t.TempDir(), "again.json")
	if err := charter.WriteFile(again, back); err != nil {
		t.Fatal(err)
	}
	if raw2, _ := os.ReadFile(again); !bytes.Equal(raw, raw2) {
		t.Error("reading and writing changes the file")
	}
}

func TestOpenWrongPin(t *testing.T) {
	w := newWorld(t)
	path, pin := save(t, w.signed(t))
	for _, wrong := range []canon.Digest{{}, {1}, canon.Sum([]byte("x"))} {
		_, _, err := charter.Open(path, wrong)
		if err == nil {
			t.Fatalf("opens under pin %s", wrong.Short())
		}
		if !strings.Contains(err.Error(), "pin") || !strings.Contains(err.Error(), pin.Short()) {
			t.Errorf("error names neither pin nor digest: %v", err)
		}
	}
}

// A second cluster with the same names, signed by the same operators, is another charter.
func TestOpenOtherCluster(t *testing.T) {
	w := newWorld(t)
	_, pin := save(t, w.signed(t))
	other := w.file(t)
	other.Charter.Cluster[0] ^= 1
	for _, k := range w.signers {
		if err := other.Sign(k); err != nil {
			t.Fatal(err)
		}
	}
	path, _ := save(t, other)
	if _, _, err := charter.Open(path, pin); err == nil {
		t.Error("another cluster's charter opens")
	}
}

// edits yields every single change of a JSON value: each leaf altered, each field
// removed, each element removed, doubled or swapped with the next.
func edits(v any, where string, yield func(where string, changed any)) {
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			edits(x, where+"."+k, func(w string, changed any) {
				m := map[string]any{}
				for k2, x2 := range v {
					m[k2] = x2
				}
				m[k] = changed
				yield(w, m)
			})
			m := map[string]any{}
			for k2, x2 := range v {
				if k2 != k {
					m[k2] = x2
				}
			}
			yield("without "+where+"."+k, m)
		}
	case []any:
		for i, x := range v {
			at := fmt.Sprintf("%s[%d]", where, i)
			edits(x, at, func(w string, changed any) {
				l := slices.Clone(v)
				l[i] = changed
				yield(w, l)
			})
			yield("without "+at, slices.Delete(slices.Clone(v), i, i+1))
			yield("doubled "+at, slices.Insert(slices.Clone(v), i, x))
			if i+1 < len(v) {
				l := slices.Clone(v)
				l[i], l[i+1] = l[i+1], l[i]
				yield("swapped "+at, l)
			}
		}
	case string:
		yield(where+" longer", v+"a")
		if v != "" {
			yield(where+" emptied", "")
			b := []byte(v)
			i := len(b) / 2
			if b[i] == '1' {
				b[i] = '2'
			} else {
				b[i] = '1'
			}
			yield(where+" altered", string(b))
		}
	case json.Number:
		yield(where+" more", json.Number(v.String()+"0"))
		yield(where+" zero", json.Number("0"))
		yield(where+" negative", json.Number("-1"))
	case bool:
		yield(where, !v)
	}
}

// Whatever single thing is edited in a charter file after signing, the file does not
// open, neither under the pin nor for somebody who verifies signatures only.
func TestEditedAfterSigning(t *testing.T) {
	w := newWorld(t)
	path, pin := save(t, w.signed(t))
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var tree any
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&tree); err != nil {
		t.Fatal(err)
	}
	n := 0
	edits(tree, "", func(where string, changed any) {
		n++
		out, err := json.Marshal(changed)
		if err != nil {
			t.Fatal(err)
		}
		f, err := charter.ParseFile(out)
		if err != nil || f.Verify() != nil {
			return // Open begins with both
		}
		if !harmless(w, f, pin) {
			t.Errorf("%s: verifies", where)
		}
	})
	if n < 300 {
		t.Errorf("only %d edits tried", n)
	}
}

// harmless: an order in which nothing is meant, such as that of signatures and cards,
// may change, if the file still says the same.
func harmless(w *world, f *charter.File, pin canon.Digest) bool {
	if f.Charter.Digest() != pin || len(f.Signatures) != len(w.signers) || len(f.Cards) != len(w.cards) {
		return false
	}
	for _, card := range w.cards {
		if !slices.Contains(f.Cards, card) {
			return false
		}
	}
	return true
}

func TestEditedCharterIsNamed(t *testing.T) {
	w := newWorld(t)
	f := w.signed(t)
	f.Charter.Rules[0].MaxAmount[0] = "2000 ETH"
	err := f.Verify()
	if err == nil {
		t.Fatal("verifies")
	}
	for _, m := range []string{"demo", "edited"} {
		if !strings.Contains(err.Error(), m) {
			t.Errorf("error does not mention %q: %v", m, err)
		}
	}
	if f.VerifyPresent() == nil {
		t.Error("VerifyPresent accepts signatures of another text")
	}
}

func TestSignatures(t *testing.T) {
	w := newWorld(t)
	mallory := seeded(t, 66)
	for name, c := range map[string]struct {
		change  func(f *charter.File)
		present bool // still acceptable while signatures are being collected
		mention string
	}{
		"none":          {func(f *charter.File) { f.Signatures = nil }, true, "a"},
		"one missing":   {func(f *charter.File) { f.Signatures = f.Signatures[:2] }, true, ""},
		"one twice":     {func(f *charter.File) { f.Signatures = append(f.Signatures, f.Signatures[0]) }, false, "twice"},
		"twice, same n": {func(f *charter.File) { f.Signatures[2] = f.Signatures[0] }, false, "twice"},
		"two swapped": {func(f *charter.File) {
			f.Signatures[0].Signature, f.Signatures[1].Signature = f.Signatures[1].Signature, f.Signatures[0].Signature
		}, false, ""},
		"a stranger's": {func(f *charter.File) {
			s := f.Signatures[0]
			s.Signer, s.Signature = "mallory", mallory.Sign(f.Charter.Encode())
			f.Signatures = append(f.Signatures, s)
		}, false, "mallory"},
		"a stranger's as a": {func(f *charter.File) { f.Signatures[0].Signature = mallory.Sign(f.Charter.Encode()) }, false, `"a"`},
		"coordinator's": {func(f *charter.File) {
			s := f.Signatures[0]
			s.Signer, s.Signature = "hub", w.coordinator.Sign(f.Charter.Encode())
			f.Signatures = append(f.Signatures, s)
		}, false, "hub"},
		"over the digest": {func(f *charter.File) {
			d := f.Charter.Digest()
			f.Signatures[0].Signature = w.signers["a"].Sign(d[:])
		}, false, `"a"`},
		"cut short":  {func(f *charter.File) { f.Signatures[0].Signature = f.Signatures[0].Signature[:63] }, false, `"a"`},
		"lengthened": {func(f *charter.File) { f.Signatures[0].Signature = append(f.Signatures[0].Signature, 0) }, false, `"a"`},
		"empty":      {func(f *charter.File) { f.Signatures[0].Signature = nil }, false, `"a"`},
		"thousands":  {func(f *charter.File) { f.Signatures = slices.Repeat(f.Signatures, 10_000) }, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := w.signed(t)
			slices.SortFunc(f.Signatures, func(x, y charter.Signature) int { return strings.Compare(string(x.Signer), string(y.Signer)) })
			for i := range f.Signatures {
				f.Signatures[i].Signature = slices.Clone(f.Signatures[i].Signature)
			}
			c.change(f)
			err := f.Verify()
			if err == nil {
				t.Fatal("verifies")
			}
			if !strings.Contains(err.Error(), c.mention) {
				t.Errorf("error does not mention %q: %v", c.mention, err)
			}
			if err := f.VerifyPresent(); (err == nil) != c.present {
				t.Errorf("VerifyPresent: %v", err)
			}
		})
	}
}

func TestSign(t *testing.T) {
	w := newWorld(t)
	f := w.file(t)
	if err := f.Sign(seeded(t, 66)); err == nil {
		t.Error("a stranger signs")
	}
	if err := f.Sign(w.coordinator); err == nil {
		t.Error("the coordinator signs")
	}
	if len(f.Signatures) != 0 {
		t.Fatal("refused signatures are kept")
	}
	for range 3 { // joining twice is no fault
		for _, id := range []party.ID{"c", "a", "b"} {
			if err := f.Sign(w.signers[id]); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(f.Signatures) != 3 {
		t.Errorf("%d signatures", len(f.Signatures))
	}
	if err := f.Verify(); err != nil {
		t.Error(err)
	}
}

// Version 2 needs what the admin rule of version 1 demands: operators alone must not be
// able to replace the rules.
func TestLaterVersionRefused(t *testing.T) {
	w := newWorld(t)
	f := w.file(t)
	f.Charter.Version, f.Charter.Previous = 2, canon.Digest{1}
	for _, k := range w.signers {
		_ = f.Sign(k)
	}
	if err := f.Verify(); err == nil || !strings.Contains(err.Error(), "version") {
		t.Errorf("version 2: %v", err)
	}
}

func TestReadFileRefuses(t *testing.T) {
	w := newWorld(t)
	path, _ := save(t, w.signed(t))
	raw, _ := os.ReadFile(path)
	text := string(raw)
	swap := func(old, new string) string {
		if !strings.Contains(text, old) {
			t.Fatalf("the file holds no %s", old)
		}
		return strings.Replace(text, old, new, 1)
	}
	for name, content := range map[string]string{
		"empty":          "",
		"null":           "null",
		"list":           "[]",
		"number":         "7",
		"cut short":      text[:len(text)-10],
		"two objects":    text + text,
		"trailing":       text + "x",
		"unknown field":  swap(`"name"`, `"freeze": true, "name"`),
		"nested unknown": swap(`"need"`, `"want": 1, "need"`),
		"key twice":      swap(`"need"`, `"need": 3, "need"`),
		"key in capital": swap(`"need"`, `"Need"`),
		"both cases":     swap(`"need"`, `"NEED": 3, "need"`),
		"Kelvin sign":    swap(`"k"`, "\"\u212a\""),
		"escaped key":    swap(`"need"`, `"\u006eeed": 3, "need"`),
		"float":          swap(`"need": 2`, `"need": 2.0`),
		"exponent":       swap(`"need": 2`, `"need": 2e0`),
		"text for int":   swap(`"need": 2`, `"need": "2"`),
		"bad UTF-8":      swap(`Paper mill`, "Paper\xffmill"),
		"BOM":            "\ufeff" + text,
		"deep":           strings.Repeat("[", 100_000),
	} {
		p := filepath.Join(t.TempDir(), "charter.json")
		if err := os.WriteFile(p, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := charter.ReadFile(p)
		if err == nil {
			if name == "bad UTF-8" && f.Verify() != nil {
				continue // the replacement character is not what was signed
			}
			t.Errorf("%s: read", name)
		} else if !strings.Contains(err.Error(), p) {
			t.Errorf("%s: error does not name the file: %v", name, err)
		}
	}
	if _, err := charter.ReadFile(filepath.Join(t.TempDir(), "absent.json")); err == nil {
		t.Error("an absent file is read")
	}
	huge := filepath.Join(t.TempDir(), "huge.json")
	if err := os.WriteFile(huge, append([]byte(text), bytes.Repeat([]byte(" "), 64<<20)...), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := charter.ReadFile(huge); err == nil {
		t.Error("a file of more than 64 MiB is read")
	}
}

func TestWriteFile(t *testing.T) {
	w := newWorld(t)
	f := w.signed(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "charter.json")
	if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := charter.WriteFile(path, f); err != nil {
		t.Fatal(err)
	}
	entries, _ := os.ReadDir(dir)
	if len(entries) != 1 {
		t.Errorf("%d entries in the directory, want only the charter", len(entries))
	}
	info, _ := os.Stat(path)
	if info.Mode().Perm()&0o022 != 0 {
		t.Errorf("mode %o lets others write", info.Mode().Perm())
	}
	if err := charter.WriteFile(filepath.Join(dir, "no", "charter.json"), f); err == nil {
		t.Error("writes into a directory that does not exist")
	}
	raw, _ := os.ReadFile(path)
	for _, want := range []string{`"max_amount"`, `"2 ETH"`, `"chain_id": 11155111`, `"group": "treasury"`, `intent.asset == \"ETH\" && intent.amount > amount(\"1 ETH\")`} {
		if !strings.Contains(string(raw), want) {
			t.Errorf("the file does not read %s", want)
		}
	}
	if !strings.Contains(string(raw), "\n") {
		t.Error("the file is on one line: people cannot read it")
	}
}

func TestDescribe(t *testing.T) {
	f := newWorld(t).signed(t)
	text := strings.Join(f.Charter.Describe(), "\n")
	for _, want := range []string{f.Charter.Digest().String(), "demo", "alice", "carol", "erp", "hub", "umbra", mill, "Paper mill", usdc, "2 of 3 signers", "payments", "large", "night", "admins", "11155111",
		"rule          payments: always; per payment at most 2 ETH, 5000 USDC and no other asset; fee at most 0.01 ETH; only to suppliers; approved by 2 of treasury from 2 organisations; with keys of kind ssh",
		`rule          large: when intent.asset == "ETH" && intent.amount > amount("1 ETH"); approved by 1 of security`, "deny: services do not touch the cold wallet",
		f.Charter.People[0].Keys[0].Fingerprint(), string(f.Charter.Signers[0].Peer)} {
		if !strings.Contains(text, want) {
			t.Errorf("it does not say %q", want)
		}
	}
}

// Two charters that differ in anything have different encodings, and one encoding
// reads back as itself: over many random charters, valid or not.
func TestEncodeRoundTrip(t *testing.T) {
	w := newWorld(t)
	base := w.file(t).Charter
	word := rapid.StringMatching(`[a-z]{0,6}`)
	rapid.Check(t, func(t *rapid.T) {
		raw := base.Encode()
		c, err := charter.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		c.Name = word.Draw(t, "name")
		c.Organisations = rapid.SliceOfN(word, 0, 4).Draw(t, "orgs")
		c.People[0].Groups = rapid.SliceOfN(word, 0, 4).Draw(t, "groups")
		c.Rules[0].Destinations = rapid.SliceOfN(word, 0, 3).Draw(t, "lists")
		c.Rules[0].MaxAmount = rapid.SliceOfN(word, 0, 3).Draw(t, "limits")
		c.Rules[0].Keys = rapid.SliceOfN(word, 0, 3).Draw(t, "keys")
		c.Rules[0].When = word.Draw(t, "when")
		c.Admin.K = rapid.IntRange(0, 20).Draw(t, "k")
		one := c.Encode()
		back, err := charter.Parse(one)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(back.Encode(), one) {
			t.Fatal("a charter reads back as another")
		}
		a, _ := json.Marshal(c)
		b, _ := json.Marshal(back)
		if !bytes.Equal(normal(t, a), normal(t, b)) {
			t.Fatalf("fields are lost:\n%s\n%s", a, b)
		}
	})
}

// normal makes absent, null and empty lists the same.
func normal(t interface{ Fatal(...any) }, raw []byte) []byte {
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	var strip func(any) any
	strip = func(v any) any {
		switch v := v.(type) {
		case map[string]any:
			for k, x := range v {
				if x = strip(x); x == nil {
					delete(v, k)
				} else {
					v[k] = x
				}
			}
			return v
		case []any:
			if len(v) == 0 {
				return nil
			}
			for i := range v {
				v[i] = strip(v[i])
			}
			return v
		}
		return v
	}
	out, err := json.Marshal(strip(v))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestParseRefuses(t *testing.T) {
	raw := newWorld(t).file(t).Charter.Encode()
	for i := range raw {
		if _, err := charter.Parse(raw[:i]); err == nil {
			t.Fatalf("the first %d bytes parse", i)
		}
	}
	if _, err := charter.Parse(append(slices.Clone(raw), 0)); err == nil {
		t.Error("a trailing byte parses")
	}
	other := canon.New("coffer/charter/v2").Encoded()
	if _, err := charter.Parse(append(other, raw[len(other):]...)); err == nil {
		t.Error("another domain parses")
	}
	if _, err := charter.Parse(bytes.Repeat([]byte{0xff}, 8<<20)); err == nil {
		t.Error("junk parses")
	}
}

// Whatever byte of a signed file is another, it does not verify, or is the same file
// with another space in it.
func TestEachByteOfAFile(t *testing.T) {
	f := newWorld(t).signed(t)
	raw, err := f.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	verified, cards := 0, bytes.Index(raw, []byte(`"cards"`))
	for i := range raw {
		// TestVerifyCards looks at each byte of a card.
		if i > cards && i%16 != 0 {
			continue
		}
		altered := slices.Clone(raw)
		altered[i] ^= 1
		if raw[i] == ' ' {
			if i%40 != 0 {
				continue
			}
			altered[i] = '\t' // the one way in which a byte may be another
		}
		got, err := charter.ParseFile(altered)
		if err != nil || got.Verify() != nil {
			continue
		}
		verified++
		if again, err := got.Marshal(); err != nil || !bytes.Equal(again, raw) {
			t.Fatalf("byte %d altered (%q): it verifies and says something else", i, altered[max(0, i-20):min(len(raw), i+20)])
		}
	}
	if verified == 0 {
		t.Error("nothing verifies: the test looks at nothing")
	}
	// The signed bytes themselves: each is under each signature.
	encoded := f.Charter.Encode()
	for i := range encoded {
		altered := slices.Clone(encoded)
		altered[i] ^= 1
		for _, s := range f.Signatures {
			signer, _ := f.Charter.Signer(s.Signer)
			if signer.Peer.Verify(altered, s.Signature) == nil {
				t.Fatalf("byte %d of the canonical form is not signed", i)
			}
		}
	}
}
