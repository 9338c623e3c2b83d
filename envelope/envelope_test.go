package envelope_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"strings"
	"testing"

	"coffer/canon"
	"coffer/envelope"
	"coffer/envelope/envelopetest"
	"coffer/identity"
	"coffer/party"
)

var update = flag.Bool("update", false, "rewrite the golden files of this package")

var (
	cluster = canon.Sum([]byte("cluster"))
	run     = canon.Sum([]byte("run"))
	session = canon.Sum([]byte("session"))
)

func header(kind string, from, to party.ID) envelope.Header {
	return envelope.Header{Cluster: cluster, Run: run, Session: session, From: from, To: to, Kind: kind}
}

func golden(t *testing.T, lines ...string) {
	t.Helper()
	const path = "testdata/golden.txt"
	got := strings.Join(lines, "\n") + "\n"
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("encodings changed:\n%s\nwant:\n%s", got, want)
	}
}

func TestGolden(t *testing.T) {
	alice := envelopetest.Key(t, "alice")
	p2p := envelope.Sign(alice, header("S1a", "alice", "bob"), []byte("payload"))
	all := envelope.Sign(alice, header("S1b", "alice", ""), nil)
	echo := envelope.Echo{Session: session, Kind: "S1b", Entries: []envelope.EchoEntry{
		{Payload: all.Payload, Signature: all.Signature}, {Payload: p2p.Payload, Signature: p2p.Signature},
	}}
	line := func(name string, b []byte) string { return name + " " + hex.EncodeToString(b) }
	golden(t,
		line("header", p2p.Header.Encode()),
		line("signature", p2p.Signature[:]),
		line("envelope", p2p.Encode()),
		line("broadcast-header", all.Header.Encode()),
		line("broadcast-envelope", all.Encode()),
		line("echo", echo.Encode()),
	)
	for _, e := range []envelope.Envelope{p2p, all} {
		got, err := envelope.Parse(e.Encode())
		if err != nil {
			t.Fatal(err)
		}
		if got.Header != e.Header || !bytes.Equal(got.Body, e.Body) || got.Signature != e.Signature {
			t.Errorf("%s changed on the way", e.Kind)
		}
		if err := got.Verify(map[party.ID]identity.ID{"alice": alice.ID()}); err != nil {
			t.Error(err)
		}
	}
	back, err := envelope.ParseEcho(echo.Encode())
	if err != nil || len(back.Entries) != 2 || back.Entries[1] != echo.Entries[1] {
		t.Errorf("echo changed on the way: %v", err)
	}
}

func TestParseRefuses(t *testing.T) {
	good := envelope.Sign(envelopetest.Key(t, "alice"), header("S1a", "alice", "bob"), []byte("payload")).Encode()
	tests := []struct {
		name string
		raw  []byte
		want error
	}{
		{"empty", nil, envelope.ErrMalformed},
		{"cut short", good[:len(good)-1], envelope.ErrMalformed},
		{"a byte more", append(bytes.Clone(good), 0), envelope.ErrMalformed},
		{"payload changed", append(bytes.Clone(good[:len(good)-1]), 'D'), envelope.ErrMalformed},
		{"too large", make([]byte, envelope.MaxRaw+1), envelope.ErrTooLarge},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := envelope.Parse(tt.raw); !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
		})
	}
}

func TestEveryBitCounts(t *testing.T) {
	alice := envelopetest.Key(t, "alice")
	roster := map[party.ID]identity.ID{"alice": alice.ID()}
	good := envelope.Sign(alice, header("S1a", "alice", "bob"), []byte("payload")).Encode()
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if e, err := envelope.Parse(bad); err == nil && e.Verify(roster) == nil {
			t.Errorf("a change of byte %d goes unnoticed", i)
		}
	}
}

func FuzzParse(f *testing.F) {
	k := envelopetest.Key(f, "alice")
	f.Add(envelope.Sign(k, header("S1a", "alice", "bob"), []byte("payload")).Encode())
	f.Add(envelope.Sign(k, header("S1b", "alice", ""), nil).Encode())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := envelope.Parse(raw)
		if err == nil && !bytes.Equal(e.Encode(), raw) {
			t.Errorf("%x is not the one encoding of what it decodes to", raw)
		}
	})
}

func FuzzParseEcho(f *testing.F) {
	f.Add(envelope.Echo{Session: session, Kind: "S1b", Entries: make([]envelope.EchoEntry, 2)}.Encode())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := envelope.ParseEcho(raw)
		if err == nil && !bytes.Equal(e.Encode(), raw) {
			t.Errorf("%x is not the one encoding of what it decodes to", raw)
		}
	})
}

func FuzzParseHeader(f *testing.F) {
	f.Add(header("S1a", "alice", "bob").Encode())
	f.Fuzz(func(t *testing.T, raw []byte) {
		h, err := envelope.ParseHeader(raw)
		if err == nil && !bytes.Equal(h.Encode(), raw) {
			t.Errorf("%x is not the one encoding of what it decodes to", raw)
		}
	})
}

func TestEvidence(t *testing.T) {
	alice, bob := envelopetest.Key(t, "alice"), envelopetest.Key(t, "bob")
	a := envelope.Sign(alice, header("S1b", "alice", ""), []byte("one"))
	b := envelope.Sign(alice, header("S1b", "alice", ""), []byte("two"))
	other := envelope.Sign(alice, header("S3", "alice", ""), []byte("two"))
	forged := envelope.Sign(bob, header("S1b", "alice", ""), []byte("two"))
	pair := func(a, b envelope.Envelope) envelope.Evidence {
		return envelope.Evidence{First: a.Header.Encode(), FirstSignature: a.Signature[:], Second: b.Header.Encode(), SecondSignature: b.Signature[:]}
	}
	if who, err := pair(a, b).Verify(alice.ID()); err != nil || who != "alice" {
		t.Errorf("evidence names %q, %v", who, err)
	}
	for name, e := range map[string]envelope.Evidence{
		"the same twice": pair(a, a), "two kinds": pair(a, other), "forged": pair(a, forged), "nothing": {},
	} {
		if who, err := e.Verify(alice.ID()); err == nil {
			t.Errorf("%s accuses %s", name, who)
		}
	}
}
