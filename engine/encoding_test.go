package engine_test

import (
	"bytes"
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"coffer/canon"
	"coffer/engine"
	"coffer/internal/testkeys"
	"coffer/keyshare"
)

// golden compares with the lines of a file of testdata.
func golden(t *testing.T, name string, got ...string) {
	t.Helper()
	want, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if text := strings.Join(got, "\n") + "\n"; text != string(want) {
		t.Errorf("testdata/%s changed:\n got %swant %s", name, text, want)
	}
}

// TestPartyKeysGolden pins the numbers: a share is worthless without its own.
func TestPartyKeysGolden(t *testing.T) {
	keys, err := engine.PartyKeys(testkeys.Meta("alice"))
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	seen := map[string]bool{}
	for _, k := range keys {
		lines = append(lines, hex.EncodeToString(k.FillBytes(make([]byte, 32))))
		seen[k.String()] = true
	}
	golden(t, "partykeys.txt", lines...)
	for name, change := range map[string]func(*keyshare.Meta){
		"cluster":  func(m *keyshare.Meta) { m.Cluster[0] ^= 1 },
		"wallet":   func(m *keyshare.Meta) { m.Wallet = "other" },
		"epoch":    func(m *keyshare.Meta) { m.Epoch++ },
		"ceremony": func(m *keyshare.Meta) { m.Ceremony[0] ^= 1 },
	} {
		m := testkeys.Meta("alice")
		change(&m)
		others, err := engine.PartyKeys(m)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range others {
			if seen[k.String()] {
				t.Errorf("another %s, the same party key", name)
			}
		}
	}
}

// TestPublicGolden: the frozen wallet's public data, which signers hash and sign,
// and its stored shares still open and give the same bytes.
func TestPublicGolden(t *testing.T) {
	k, err := keyshare.NewWrapKey()
	if err != nil {
		t.Fatal(err)
	}
	wallet, err := testkeys.Shares(k)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "public.txt", hex.EncodeToString(wallet.Public), canon.Sum(wallet.Public).String())
	for id, sealed := range wallet.Sealed {
		public, err := engine.OpenPublic(k, testkeys.Meta(id), sealed)
		if err != nil || !bytes.Equal(public, wallet.Public) {
			t.Errorf("%s: %v; same public data: %v", id, err, bytes.Equal(public, wallet.Public))
		}
	}
}

// TestRecordChecks: a record that decrypts but does not fit together is refused.
func TestRecordChecks(t *testing.T) {
	if err := engine.TamperedRecords(testkeys.Meta("alice")); err != nil {
		t.Error(err)
	}
}

func FuzzCommand(f *testing.F) {
	for _, b := range engine.SampleCommands(testkeys.Meta("alice")) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if again, err := engine.EncodeCommand(b); err == nil && !bytes.Equal(again, b) {
			t.Errorf("two encodings: %x and %x", b, again)
		}
	})
}

func FuzzEvent(f *testing.F) {
	for _, b := range engine.SampleEvents() {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if again, err := engine.EncodeEvent(b); err == nil && !bytes.Equal(again, b) {
			t.Errorf("two encodings: %x and %x", b, again)
		}
	})
}

func FuzzMessage(f *testing.F) {
	f.Add("S3", []byte{0x0a, 1, 5})
	f.Add("KG1", []byte{0x0a, 1, 5, 0x12, 1, 7})
	f.Add("S2", []byte{0x0a, 1, 5, 0x12, 1, 7, 0x1a, 1, 9})
	f.Fuzz(func(t *testing.T, kind string, b []byte) {
		if _, ok := engine.Kinds()[kind]; !ok {
			return
		}
		if engine.Parse(engine.Message{Kind: kind, From: "carol", Payload: b}) != nil {
			return
		}
		content := engine.Content(kind)
		if err := proto.Unmarshal(b, content); err != nil {
			t.Fatal(err)
		}
		if again, err := (proto.MarshalOptions{Deterministic: true}).Marshal(content); err != nil || !bytes.Equal(again, b) {
			t.Errorf("two encodings: %x and %x", b, again)
		}
	})
}

// FuzzGuard gives the whole guard a message of carol in an otherwise honest round:
// whatever she sends, the guard returns.
func FuzzGuard(f *testing.F) {
	f.Add("S3", []byte{0x0a, 1, 5})
	f.Add("KG2b", []byte{0x0a, 1, 5, 0x12, 1, 7})
	f.Fuzz(func(t *testing.T, kind string, b []byte) {
		if _, ok := engine.Kinds()[kind]; !ok {
			return
		}
		messages := messagesOf(t, kind)
		for i, m := range messages {
			if m.Kind == kind && m.From == "carol" {
				messages[i].Payload = b
			}
		}
		if kind[0] == 'K' {
			engine.GuardKeygen(testkeys.Meta("alice"), messages)
		} else {
			engine.GuardSign(signTranscript.key, testkeys.Meta("alice"), signTranscript.share, pair, messages)
		}
	})
}

func FuzzRecord(f *testing.F) {
	k, err := keyshare.NewWrapKey()
	if err != nil {
		f.Fatal(err)
	}
	wallet, err := testkeys.Shares(k)
	if err != nil {
		f.Fatal(err)
	}
	plain, err := engine.RecordBytes(k, testkeys.Meta("alice"), wallet.Sealed["alice"])
	if err != nil {
		f.Fatal(err)
	}
	f.Add(plain)
	f.Fuzz(func(t *testing.T, b []byte) {
		if again, err := engine.EncodeRecord(testkeys.Meta("alice"), b); err == nil && !bytes.Equal(again, b) {
			t.Error("two encodings of one record")
		}
	})
}

func FuzzPreParams(f *testing.F) {
	plain, err := testkeys.PreParams(0)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(plain)
	f.Fuzz(func(t *testing.T, b []byte) {
		if again, err := engine.EncodePreParams(b); err == nil && !bytes.Equal(again, b) {
			t.Error("two encodings of one set")
		}
	})
}
