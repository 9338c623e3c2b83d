package verdict_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"coffer/canon"
	"coffer/identity"
	"coffer/verdict"
)

func digest(name string) canon.Digest { return canon.Sum([]byte(name)) }

func sample() verdict.Verdict {
	return verdict.Verdict{
		Cluster: digest("cluster"), Signer: "north", Intent: digest("intent"), Charter: digest("charter"),
		Transaction: digest("transaction"), Outcome: verdict.Wait, Matched: []string{"small payments"},
		Reasons: []verdict.Reason{{Check: "G-APPROVALS", Code: "POLICY_APPROVALS", Text: "1 of 2 approvers"}},
		Missing: []string{"1 more of treasury"}, Time: 1_700_000_000,
	}
}

func TestSignVerify(t *testing.T) {
	key, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	want := sample()
	raw, sig, err := want.Sign(key)
	if err != nil {
		t.Fatal(err)
	}
	got, err := verdict.Verify(raw, sig, key.ID())
	if err != nil || !reflect.DeepEqual(*got, want) {
		t.Fatalf("%+v, %v", got, err)
	}
	other, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(raw)
	flipped[len(flipped)-1] ^= 1
	for name, c := range map[string]struct {
		raw, sig []byte
		id       identity.ID
	}{
		"other key": {raw, sig, other.ID()}, "changed": {flipped, sig, key.ID()}, "no signature": {raw, nil, key.ID()},
		"cut": {raw[:len(raw)-1], sig, key.ID()}, "long signature": {raw, append(bytes.Clone(sig), 0), key.ID()}, "no id": {raw, sig, ""},
	} {
		if _, err := verdict.Verify(c.raw, c.sig, c.id); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestAbout(t *testing.T) {
	v := sample()
	if err := v.About(v.Signer, v.Cluster, v.Charter, v.Intent); err != nil {
		t.Fatal(err)
	}
	o := digest("other")
	for name, err := range map[string]error{
		"signer": v.About("south", v.Cluster, v.Charter, v.Intent), "cluster": v.About(v.Signer, o, v.Charter, v.Intent),
		"charter": v.About(v.Signer, v.Cluster, o, v.Intent), "intent": v.About(v.Signer, v.Cluster, v.Charter, o),
	} {
		if err == nil || !strings.Contains(err.Error(), name) && name != "signer" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestValidate(t *testing.T) {
	many := make([]string, verdict.MaxItems+1)
	for name, change := range map[string]func(*verdict.Verdict){
		"time":      func(v *verdict.Verdict) { v.Time = -1 },
		"no signer": func(v *verdict.Verdict) { v.Signer = "" },
		"signer long": func(v *verdict.Verdict) {
			v.Signer = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
		},
		"signer control":   func(v *verdict.Verdict) { v.Signer = "a\x1b" },
		"outcome":          func(v *verdict.Verdict) { v.Outcome = "maybe" },
		"outcome empty":    func(v *verdict.Verdict) { v.Outcome = "" },
		"sign and missing": func(v *verdict.Verdict) { v.Outcome = verdict.Sign },
		"wait for nothing": func(v *verdict.Verdict) { v.Missing, v.Reasons = nil, nil },
		"refuse silently":  func(v *verdict.Verdict) { v.Outcome, v.Reasons = verdict.Refuse, nil },
		"escape in text":   func(v *verdict.Verdict) { v.Reasons[0].Text = "\x1b[2J" },
		"newline":          func(v *verdict.Verdict) { v.Missing[0] = "a\nb" },
		"right to left":    func(v *verdict.Verdict) { v.Missing[0] = "a\u202eb" },
		"not utf-8":        func(v *verdict.Verdict) { v.Matched[0] = "\xff" },
		"long text":        func(v *verdict.Verdict) { v.Reasons[0].Text = strings.Repeat("x", verdict.MaxText+1) },
		"long code":        func(v *verdict.Verdict) { v.Reasons[0].Code = strings.Repeat("x", 65) },
		"long check": func(v *verdict.Verdict) {
			v.Reasons[0].Check = strings.Repeat("x", 65)
			v.Reasons[0].Text = v.Reasons[0].Check
		},
		"many matched": func(v *verdict.Verdict) { v.Matched = many },
		"many missing": func(v *verdict.Verdict) { v.Missing = many },
		"many reasons": func(v *verdict.Verdict) { v.Reasons = make([]verdict.Reason, verdict.MaxItems+1) },
	} {
		t.Run(name, func(t *testing.T) {
			v := sample()
			change(&v)
			if v.Validate() == nil || v.Encode() != nil {
				t.Fatal("accepted")
			}
		})
	}
}

// What strangers sent is quoted in reasons; it must never keep a signer from answering.
func TestCleanAlwaysSigns(t *testing.T) {
	key, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	v := sample()
	v.Outcome, v.Missing = verdict.Refuse, nil
	v.Matched = make([]string, 1000)
	for i := range 200 {
		v.Reasons = append(v.Reasons, verdict.Reason{Check: strings.Repeat("é", 99), Code: "\x00", Text: fmt.Sprint(i, "\xff\n\t\x1b[2J\u202e", strings.Repeat("€", 900))})
	}
	raw, sig, err := v.Sign(key)
	if err != nil {
		t.Fatal(err)
	}
	got, err := verdict.Verify(raw, sig, key.ID())
	if err != nil || len(got.Reasons) != verdict.MaxItems || !strings.HasSuffix(got.Reasons[9].Text, "…") {
		t.Fatalf("%v %v", err, got)
	}
	long := strings.Repeat("x", 4*verdict.MaxText)
	full := verdict.Verdict{Signer: "north", Outcome: verdict.Wait}
	for range 2 * verdict.MaxItems {
		full.Matched, full.Missing = append(full.Matched, long), append(full.Missing, long)
		full.Reasons = append(full.Reasons, verdict.Reason{Check: long, Code: long, Text: long})
	}
	if raw, sig, err = full.Sign(key); err != nil {
		t.Fatal(err)
	}
	if _, err := verdict.Verify(raw, sig, key.ID()); err != nil {
		t.Fatalf("%d bytes: %v", len(raw), err)
	}
	v.Outcome = "?"
	if _, _, err := v.Sign(key); err == nil {
		t.Fatal("signed nonsense")
	}
}

func TestParseRefuses(t *testing.T) {
	good := sample().Encode()
	other := canon.New("coffer/intent/v1").Encoded()
	for name, raw := range map[string][]byte{
		"empty": nil, "cut": good[:len(good)-1], "trailing": append(bytes.Clone(good), 0), "domain": other,
		"huge": make([]byte, verdict.MaxSize+1), "bad list": bytes.Replace(good, []byte{0, 0, 0, 1}, []byte{255, 0, 0, 1}, 1),
	} {
		if _, err := verdict.Parse(raw); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for n := range good {
		if _, err := verdict.Parse(good[:n]); err == nil {
			t.Fatalf("accepted the first %d bytes", n)
		}
	}
}

func TestJSON(t *testing.T) {
	want := sample()
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got verdict.Verdict
	if err := json.Unmarshal(b, &got); err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%s %v", b, err)
	}
}

func TestGolden(t *testing.T) {
	got := hex.EncodeToString(sample().Encode())
	want, err := os.ReadFile("testdata/verdict.txt")
	if err != nil {
		t.Fatal(err)
	}
	if got != strings.TrimSpace(string(want)) {
		t.Fatalf("the encoding changed:\n%s", got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(sample().Encode())
	v := sample()
	v.Outcome, v.Missing, v.Reasons = verdict.Sign, nil, nil
	f.Add(v.Encode())
	f.Fuzz(func(t *testing.T, raw []byte) {
		v, err := verdict.Parse(raw)
		if err == nil && !bytes.Equal(v.Encode(), raw) {
			t.Fatalf("%x encodes to %x", raw, v.Encode())
		}
	})
}
