package credential_test

import (
	"bytes"
	"encoding/hex"
	"encoding/pem"
	"os"
	"testing"

	"golang.org/x/crypto/ssh"

	"coffer/credential"
)

// Ed25519 is deterministic: the same key, namespace and message give this very
// file, here and from ssh-keygen. The key is thirty-two bytes of 0x01.
func TestGolden(t *testing.T) {
	const digest = "32cb92ff389b1b7d6a4d0cf37e2ab2ea78fb6a51c5e3a1bcd3bbf0dc7b0f0d21"
	want, err := os.ReadFile("testdata/ed25519.sig")
	if err != nil {
		t.Fatal(err)
	}
	msg, err := hex.DecodeString(digest)
	if err != nil {
		t.Fatal(err)
	}
	secret := seeded(1)
	got := sign(t, signer(t, &secret), "coffer-intent-v1", msg)
	if !bytes.Equal(got, want) {
		t.Fatalf("got\n%s", got)
	}
}

func FuzzParseKey(f *testing.F) {
	for _, s := range kinds() {
		f.Add(signer(f, s).Key().Public)
	}
	f.Add("ssh-ed25519 AAAA comment")
	f.Add("sk-ssh-ed25519@openssh.com AAAA")
	f.Fuzz(func(t *testing.T, line string) {
		k, err := credential.ParseKey(line)
		if err != nil {
			return
		}
		again, err := credential.ParseKey(k.Public)
		if err != nil || again != k {
			t.Fatalf("%q gives %v, which gives %v, %v", line, k, again, err)
		}
		if err := k.Validate(); err != nil || k.Fingerprint() == "" {
			t.Fatal(err)
		}
	})
}

func FuzzSignature(f *testing.F) {
	for _, s := range kinds() {
		f.Add(sign(f, signer(f, s), namespace, message))
	}
	f.Add(skSignature(f))
	k := signer(f, seeded(2)).Key()
	f.Fuzz(func(t *testing.T, sig []byte) {
		by, err := credential.SignatureKey(sig)
		if err != nil {
			return
		}
		if err := by.Validate(); err != nil {
			t.Fatalf("a signature by a key that is not accepted: %v", err)
		}
		w := takeApart(t, sig)
		if !bytes.Equal(pem70(marshal(w)), sig) && !bytes.Equal(pem64(marshal(w)), sig) {
			t.Fatalf("a second spelling was accepted:\n%s", sig)
		}
		// Nobody in this test ever signs with k.
		if k.Verify(namespace, message, sig) == nil {
			t.Fatal("forged")
		}
	})
}

func marshal(w wire) []byte { return ssh.Marshal(w) }

func pem64(blob []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "SSH SIGNATURE", Bytes: blob})
}
