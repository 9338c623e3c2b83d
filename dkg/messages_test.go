package dkg_test

import (
	"bytes"
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"coffer/canon"
	"coffer/dkg"
	"coffer/envelope/envelopetest"
	"coffer/partial"
	"coffer/party"
	"coffer/wallet"
)

func digest(s string) canon.Digest { return canon.Sum([]byte(s)) }

var (
	terms = dkg.Terms{Cluster: digest("cluster"), Charter: digest("charter"), Intent: digest("intent"), Wallet: "treasury",
		Quorum: party.Quorum{Need: 2, Of: 3}, Signers: party.Set{"alice", "bob", "carol"}}
	id     = terms.Ceremony(attempt, [][32]byte{digest("nonce of alice"), digest("nonce of bob"), digest("nonce of carol")})
	pubkey = [33]byte{2, 0x79, 0xbe, 0x66, 0x7e, 0xf9, 0xdc, 0xbb, 0xac, 0x55, 0xa0, 0x62, 0x95, 0xce, 0x87, 0x0b, 0x07,
		0x02, 0x9b, 0xfc, 0xdb, 0x2d, 0xce, 0x28, 0xd9, 0x59, 0xf2, 0x81, 0x5b, 0x16, 0xf8, 0x17, 0x98} // the generator
	commitMessage  = dkg.Commit{Ceremony: id, Commitment: dkg.ShareCommitment(id, "alice", digest("part of alice"))}
	revealMessage  = dkg.Reveal{Ceremony: id, Share: digest("part of alice")}
	chainCode      = dkg.ChainCode(id, terms.Signers, map[party.ID][32]byte{"alice": digest("part of alice"), "bob": digest("part of bob"), "carol": digest("part of carol")})
	confirmMessage = dkg.Confirm{Terms: terms, Ceremony: id, Epoch: 1, PublicKey: pubkey, ChainCode: chainCode, Public: digest("public")}
	partialMessage = dkg.Partial{Ceremony: id, Challenge: 1, Partial: partial.Partial{Session: digest("session"), R: pubkey, S: digest("s")}}
)

func attestation(t testing.TB) dkg.Attestation {
	record := wallet.Record{Cluster: terms.Cluster, Charter: terms.Charter, Name: terms.Wallet, PublicKey: pubkey, ChainCode: chainCode,
		Paths: "m", Epoch: 1, Quorum: terms.Quorum, Signers: terms.Signers, Ceremony: id}
	return dkg.Attestation{Ceremony: id, Record: record.Digest(), Signature: [64]byte(envelopetest.Key(t, "alice").Sign(record.Encode()))}
}

func TestGolden(t *testing.T) {
	var out strings.Builder
	line := func(name string, b []byte) { out.WriteString(name + " " + hex.EncodeToString(b) + "\n") }
	run := terms.Run(attempt)
	a := attestation(t)
	line("run-id", run[:])
	line("ceremony-id", id[:])
	line("chain-code", chainCode[:])
	line("have", dkg.Have{Run: run, Record: a.Record}.Encode())
	line("commit", commitMessage.Encode())
	line("reveal", revealMessage.Encode())
	line("confirm", confirmMessage.Encode())
	line("challenge-partial", partialMessage.Encode())
	line("proved", dkg.Proved{Ceremony: id, Record: a.Record}.Encode())
	line("attestation", a.Encode())
	line("attested", dkg.Attested{Ceremony: id, Record: a.Record, Signatures: [][64]byte{a.Signature, a.Signature, a.Signature}}.Encode())
	const path = "testdata/golden.txt"
	if *update {
		if err := os.WriteFile(path, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if out.String() != string(want) {
		t.Errorf("encodings changed:\n%s\nwant:\n%s", out.String(), want)
	}
}

func TestCeremonyIDBindsEverything(t *testing.T) {
	seen := map[canon.Digest]string{}
	nonces := [][32]byte{{1}, {2}, {3}}
	add := func(name string, d canon.Digest) {
		if old, ok := seen[d]; ok {
			t.Errorf("%s has the ID of %s", name, old)
		}
		seen[d] = name
	}
	for name, change := range map[string]func(*dkg.Terms){
		"base":    func(*dkg.Terms) {},
		"cluster": func(t *dkg.Terms) { t.Cluster = attempt },
		"charter": func(t *dkg.Terms) { t.Charter = attempt },
		"intent":  func(t *dkg.Terms) { t.Intent = attempt },
		"wallet":  func(t *dkg.Terms) { t.Wallet = "savings" },
		"quorum":  func(t *dkg.Terms) { t.Quorum.Need = 3 },
		"signers": func(t *dkg.Terms) { t.Signers = party.Set{"alice", "bob", "dave"} },
	} {
		other := terms
		change(&other)
		add("ceremony of "+name, other.Ceremony(attempt, nonces))
		add("run of "+name, other.Run(attempt))
	}
	add("other attempt", terms.Ceremony(id, nonces))
	add("other nonce", terms.Ceremony(attempt, [][32]byte{{1}, {2}, {4}}))
}

// fuzz holds a decoder to one encoding for each value.
func fuzz[T interface{ Encode() []byte }](f *testing.F, seed []byte, parse func([]byte) (T, error)) {
	f.Add(seed)
	f.Fuzz(func(t *testing.T, raw []byte) {
		if v, err := parse(raw); err == nil && !bytes.Equal(v.Encode(), raw) {
			t.Errorf("%x is not the one encoding of what it decodes to", raw)
		}
	})
}

func FuzzParseCommit(f *testing.F)  { fuzz(f, commitMessage.Encode(), dkg.ParseCommit) }
func FuzzParseHave(f *testing.F)    { fuzz(f, dkg.Have{Run: id}.Encode(), dkg.ParseHave) }
func FuzzParseProved(f *testing.F)  { fuzz(f, dkg.Proved{Ceremony: id}.Encode(), dkg.ParseProved) }
func FuzzParseReveal(f *testing.F)  { fuzz(f, revealMessage.Encode(), dkg.ParseReveal) }
func FuzzParseConfirm(f *testing.F) { fuzz(f, confirmMessage.Encode(), dkg.ParseConfirm) }
func FuzzParsePartial(f *testing.F) { fuzz(f, partialMessage.Encode(), dkg.ParsePartial) }
func FuzzParseAttestation(f *testing.F) {
	fuzz(f, attestation(f).Encode(), dkg.ParseAttestation)
}
func FuzzParseAttested(f *testing.F) {
	fuzz(f, dkg.Attested{Ceremony: id, Signatures: make([][64]byte, 2)}.Encode(), dkg.ParseAttested)
}
