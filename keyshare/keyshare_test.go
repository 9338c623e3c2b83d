package keyshare_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"

	"coffer/canon"
	"coffer/keyshare"
	"coffer/party"
)

func meta(t testing.TB) keyshare.Meta {
	t.Helper()
	signers, err := party.NewSet("alice", "bob", "carol")
	if err != nil {
		t.Fatal(err)
	}
	return keyshare.Meta{
		Cluster: canon.Sum([]byte("cluster")), Wallet: "treasury", Epoch: 1, Party: "bob",
		Quorum: party.Quorum{Need: 2, Of: 3}, Signers: signers, Ceremony: canon.Sum([]byte("ceremony")),
	}
}

func wrapKey(t testing.TB) *keyshare.WrapKey {
	t.Helper()
	k, err := keyshare.NewWrapKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestMetaGolden(t *testing.T) {
	got := hex.EncodeToString(meta(t).AD())
	want, err := os.ReadFile("testdata/meta.txt")
	if err != nil {
		t.Fatal(err)
	}
	if got != strings.TrimSpace(string(want)) {
		t.Errorf("canonical bytes of Meta changed:\n got %s\nwant %s", got, want)
	}
	back, err := keyshare.ParseMeta(meta(t).AD())
	if err != nil || !back.Equal(meta(t)) {
		t.Errorf("ParseMeta = %+v, %v", back, err)
	}
}

func TestMetaValidate(t *testing.T) {
	for name, change := range map[string]func(*keyshare.Meta){
		"cluster":   func(m *keyshare.Meta) { m.Cluster = canon.Digest{} },
		"wallet":    func(m *keyshare.Meta) { m.Wallet = "" },
		"long name": func(m *keyshare.Meta) { m.Wallet = strings.Repeat("w", 65) },
		"ceremony":  func(m *keyshare.Meta) { m.Ceremony = canon.Digest{} },
		"quorum":    func(m *keyshare.Meta) { m.Quorum.Need = 1 },
		"count":     func(m *keyshare.Meta) { m.Quorum.Of = 2 },
		"party":     func(m *keyshare.Meta) { m.Party = "mallory" },
		"unsorted":  func(m *keyshare.Meta) { m.Signers = party.Set{"bob", "alice", "carol"} },
		"twice":     func(m *keyshare.Meta) { m.Signers = party.Set{"alice", "alice", "bob"} },
	} {
		m := meta(t)
		change(&m)
		if m.Validate() == nil {
			t.Errorf("%s: accepted", name)
		}
		if _, err := keyshare.ParseMeta(m.AD()); err == nil {
			t.Errorf("%s: parsed", name)
		}
		if _, err := keyshare.NewShare(m, 1, []byte("x")); err == nil {
			t.Errorf("%s: made a share", name)
		}
	}
}

func TestSealIsBoundToEveryFieldOfMeta(t *testing.T) {
	k := wrapKey(t)
	share, err := keyshare.NewShare(meta(t), 1, []byte("the secret share"))
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := share.Seal(k)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := keyshare.OpenShare(k, meta(t), sealed)
	if err != nil {
		t.Fatal(err)
	}
	if err := opened.Use(func(format uint64, secret []byte) error {
		if format != 1 || string(secret) != "the secret share" {
			t.Errorf("opened format %d, %q", format, secret)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	other, _ := party.NewSet("alice", "bob", "dora")
	for name, change := range map[string]func(*keyshare.Meta){
		"cluster":  func(m *keyshare.Meta) { m.Cluster[0] ^= 1 },
		"wallet":   func(m *keyshare.Meta) { m.Wallet = "treasurz" },
		"epoch":    func(m *keyshare.Meta) { m.Epoch++ },
		"party":    func(m *keyshare.Meta) { m.Party = "alice" },
		"quorum":   func(m *keyshare.Meta) { m.Quorum.Need = 3 },
		"signers":  func(m *keyshare.Meta) { m.Signers = other },
		"ceremony": func(m *keyshare.Meta) { m.Ceremony[31] ^= 1 },
	} {
		m := meta(t)
		change(&m)
		if _, err := keyshare.OpenShare(k, m, sealed); !errors.Is(err, keyshare.ErrOpen) {
			t.Errorf("%s changed: %v, want ErrOpen", name, err)
		}
	}
	if _, err := keyshare.OpenShare(wrapKey(t), meta(t), sealed); !errors.Is(err, keyshare.ErrOpen) {
		t.Errorf("other key: %v, want ErrOpen", err)
	}
	if _, err := keyshare.Open(k, keyshare.PreParamsAD(), sealed); !errors.Is(err, keyshare.ErrOpen) {
		t.Errorf("as pre-parameters: %v, want ErrOpen", err)
	}
}

func TestEveryFlippedBitIsDetected(t *testing.T) {
	k, ad := wrapKey(t), []byte("ad")
	sealed, err := keyshare.Seal(k, ad, []byte("plaintext"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range len(sealed) * 8 {
		bad := bytes.Clone(sealed)
		bad[i/8] ^= 1 << (i % 8)
		if _, err := keyshare.Open(k, ad, bad); !errors.Is(err, keyshare.ErrOpen) && !errors.Is(err, keyshare.ErrFormat) {
			t.Fatalf("bit %d flipped: %v", i, err)
		}
	}
	for n := range sealed {
		if _, err := keyshare.Open(k, ad, sealed[:n]); err == nil {
			t.Fatalf("cut to %d bytes: opened", n)
		}
	}
}

func TestSealRefuses(t *testing.T) {
	k := wrapKey(t)
	if _, err := keyshare.Seal(k, nil, []byte("x")); err == nil {
		t.Error("empty associated data accepted")
	}
	if _, err := keyshare.Seal(k, []byte("ad"), make([]byte, keyshare.MaxPlaintext+1)); err == nil {
		t.Error("oversized plaintext accepted")
	}
	for name, zero := range map[string]*keyshare.WrapKey{"nil": nil, "zero": {}} {
		if _, err := keyshare.Seal(zero, []byte("ad"), nil); !errors.Is(err, keyshare.ErrWiped) {
			t.Errorf("seal with %s key: %v", name, err)
		}
		if _, err := keyshare.Open(zero, []byte("ad"), make([]byte, 200)); !errors.Is(err, keyshare.ErrWiped) {
			t.Errorf("open with %s key: %v", name, err)
		}
		if _, err := zero.Export(); !errors.Is(err, keyshare.ErrWiped) {
			t.Errorf("export of %s key: %v", name, err)
		}
		if zero.Equal(zero) || zero.Equal(k) || k.Equal(zero) {
			t.Errorf("%s key equals", name)
		}
	}
}

func TestWrapKey(t *testing.T) {
	k := wrapKey(t)
	raw, err := k.Export()
	if err != nil {
		t.Fatal(err)
	}
	same, err := keyshare.ImportWrapKey(raw)
	if err != nil {
		t.Fatal(err)
	}
	if !k.Equal(same) || k.Equal(wrapKey(t)) {
		t.Error("Equal is wrong")
	}
	raw[0] ^= 1
	if !k.Equal(same) {
		t.Error("Export or ImportWrapKey shares its bytes with the key")
	}
	copied := *k
	k.Wipe()
	k.Wipe()
	if _, err := keyshare.Seal(&copied, []byte("ad"), nil); !errors.Is(err, keyshare.ErrWiped) {
		t.Errorf("copy of a wiped key: %v", err)
	}
	if _, err := keyshare.Seal(k, []byte("ad"), nil); !errors.Is(err, keyshare.ErrWiped) {
		t.Errorf("wiped key: %v", err)
	}
	if _, err := keyshare.ImportWrapKey(raw[:31]); err == nil {
		t.Error("short key accepted")
	}
}

func TestShareWipe(t *testing.T) {
	secret := []byte("secret")
	s, err := keyshare.NewShare(meta(t), 7, secret)
	if err != nil {
		t.Fatal(err)
	}
	clear(secret) // the caller's copy is the caller's
	var lent []byte
	if err := s.Use(func(_ uint64, b []byte) error { lent = b; return nil }); err != nil {
		t.Fatal(err)
	}
	if string(lent) != "secret" {
		t.Fatalf("lent %q", lent)
	}
	s.Wipe()
	s.Wipe()
	if !bytes.Equal(lent, make([]byte, len(lent))) {
		t.Error("Wipe left bytes")
	}
	for name, s := range map[string]*keyshare.Share{"wiped": s, "zero": {}, "nil": nil} {
		if err := s.Use(func(uint64, []byte) error { return nil }); !errors.Is(err, keyshare.ErrWiped) {
			t.Errorf("%s: Use = %v", name, err)
		}
		if _, err := s.Seal(wrapKey(t)); !errors.Is(err, keyshare.ErrWiped) {
			t.Errorf("%s: Seal = %v", name, err)
		}
	}
	if _, err := keyshare.NewShare(meta(t), 1, nil); err == nil {
		t.Error("empty share accepted")
	}
}

// TestSecretsNeverPrint formats both secret types, bare, by pointer and inside
// other values (unexported fields too), with every verb, JSON and slog.
func TestSecretsNeverPrint(t *testing.T) {
	secret := []byte("\x01SEKRETsekretSEKRETsekretSEKRET\xff") // 32 bytes, printable in the middle
	k, err := keyshare.ImportWrapKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	s, err := keyshare.NewShare(meta(t), 1, secret)
	if err != nil {
		t.Fatal(err)
	}
	type hidden struct {
		key   keyshare.WrapKey
		share keyshare.Share
	}
	type shown struct {
		Key   *keyshare.WrapKey
		Share *keyshare.Share
	}
	values := []any{
		k, *k, s, *s, &k, &s,
		hidden{*k, *s}, &hidden{*k, *s}, shown{k, s}, &shown{k, s},
		[]any{k, s}, map[string]any{"k": k, "s": *s}, []keyshare.WrapKey{*k}, []keyshare.Share{*s},
		fmt.Errorf("wrapped: %v %v", k, s),
	}
	var out strings.Builder
	for _, v := range values {
		for _, flag := range []string{"", "+", "#", " ", "0", "-", "64", ".64"} {
			for verb := rune('A'); verb <= 'z'; verb++ {
				fmt.Fprintf(&out, "%"+flag+string(verb)+"\n", v)
			}
		}
		if b, err := json.Marshal(v); err == nil {
			out.Write(b)
		}
		for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
			slog.New(h).Info("test", "value", v, slog.Group("group", "value", v))
		}
	}
	text := strings.ToLower(out.String())
	for name, needle := range map[string]string{
		"text": "sekret", "hex": hex.EncodeToString([]byte("SEKRET")), "hex lower": hex.EncodeToString([]byte("sekret")),
		"hex, spaced": "73 65 6b 72", "hex, 0x": "0x73, 0x65", "decimal": "115 101 107", "decimal, listed": "115, 101, 107",
		"octal": "163 145 153", "binary": "1110011 1100101", "base64": "rvjsrvrz",
	} {
		if strings.Contains(text, needle) {
			t.Errorf("%s form of a secret is printed", name)
		}
	}
	if !strings.Contains(text, "redacted") {
		t.Error("no placeholder in the output: the test formats nothing")
	}
}

func FuzzParseMeta(f *testing.F) {
	f.Add(meta(f).AD())
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := keyshare.ParseMeta(b); err == nil && !bytes.Equal(m.AD(), b) {
			t.Errorf("two encodings of %+v", m)
		}
	})
}

func FuzzParseShare(f *testing.F) {
	f.Add(keyshare.EncodeShareForTest(1, []byte("secret")))
	f.Fuzz(func(t *testing.T, b []byte) {
		if format, secret, err := keyshare.ParseShareForTest(b); err == nil && !bytes.Equal(keyshare.EncodeShareForTest(format, secret), b) {
			t.Errorf("two encodings of format %d, %x", format, secret)
		}
	})
}

func FuzzOpen(f *testing.F) {
	k, err := keyshare.NewWrapKey()
	if err != nil {
		f.Fatal(err)
	}
	sealed, err := keyshare.Seal(k, []byte("ad"), []byte("x"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := keyshare.Open(k, []byte("ad"), b); err == nil && !bytes.Equal(b, sealed) {
			t.Error("bytes that nobody sealed opened")
		}
	})
}
