package credential_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"os"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"coffer/canon"
	"coffer/credential"
	"coffer/credential/credentialtest"
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

// A passkey with an Ed25519 key is as deterministic. The file holds the canonical signature.
func TestGoldenPasskey(t *testing.T) {
	want, err := os.ReadFile("testdata/webauthn.hex")
	if err != nil {
		t.Fatal(err)
	}
	a := credentialtest.NewAuthenticatorOf(t, credential.Localhost, "golden", credentialtest.Ed25519("golden"))
	got := sign(t, a, "coffer-intent-v1", message)
	if text := hex.EncodeToString(got) + "\n"; text != string(want) {
		t.Fatalf("got\n%s", text)
	}
	if by, err := credential.SignatureKey(got); err != nil || by.Verify("coffer-intent-v1", message, got) != nil {
		t.Fatal(by, err)
	}
	const challenge = "15eb4dbc1d64747a04f0af57be748b810df9f8bdbc76c6fda5c5dad5f80f0854"
	if c := credential.Challenge("coffer-intent-v1", message).String(); c != challenge {
		t.Fatalf("challenge %s", c)
	}
}

func FuzzParseKey(f *testing.F) {
	for _, s := range kinds() {
		f.Add(signer(f, s).Key().Public)
	}
	for _, a := range passkeys(f) {
		f.Add(a.Key().Public)
	}
	for _, k := range skKinds(f) {
		f.Add(touched(f, k).Key().Public)
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
		if err := k.Validate(); err != nil || k.Fingerprint() == "" || k.Bare() == "" {
			t.Fatal(err)
		}
		if (k.RelyingParty() == "") == (k.Kind == credential.KindWebAuthn) {
			t.Fatalf("%v is of relying party %q", k, k.RelyingParty())
		}
	})
}

func FuzzSignature(f *testing.F) {
	for _, s := range kinds() {
		f.Add(sign(f, signer(f, s), namespace, message))
	}
	f.Add(skSignature(f))
	for _, a := range passkeys(f) {
		f.Add(sign(f, a, namespace, message))
	}
	k := signer(f, seeded(2)).Key()
	f.Fuzz(func(t *testing.T, sig []byte) {
		by, err := credential.SignatureKey(sig)
		if err != nil {
			return
		}
		if err := by.Validate(); err != nil {
			t.Fatalf("a signature by a key that is not accepted: %v", err)
		}
		if by.Kind == credential.KindWebAuthn {
			// Taken apart and put together again it is the same, whoever made it.
			d := canon.NewDecoder("coffer/webauthn/v1", sig)
			e := canon.New("coffer/webauthn/v1").String(d.String(1 << 20))
			for range 3 {
				e.Bytes(d.Bytes(1 << 20))
			}
			if d.Finish() != nil || !bytes.Equal(e.Encoded(), sig) {
				t.Fatalf("a second spelling was accepted: %x", sig)
			}
			if k.Verify(namespace, message, sig) == nil {
				t.Fatal("forged")
			}
			return
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

// FuzzClientData holds that what is accepted says, to any reader of JSON, what was asked.
func FuzzClientData(f *testing.F) {
	a := credentialtest.NewAuthenticatorOf(f, credential.Localhost, "fuzz", credentialtest.Ed25519("fuzz"))
	good, err := a.Assert(namespace, message)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good.ClientData)
	f.Add([]byte(`{"type":"webauthn.get","challenge":"","origin":"http://localhost:1","crossOrigin":false,"x":[]}`))
	digest := credential.Challenge(namespace, message)
	want := base64.RawURLEncoding.EncodeToString(digest[:])
	f.Fuzz(func(t *testing.T, clientData []byte) {
		answer, err := a.SignParts(good.AuthenticatorData, clientData)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := answer.Seal(a.Key(), namespace, message); err != nil {
			return
		}
		var loose map[string]any
		if err := json.Unmarshal(clientData, &loose); err != nil {
			t.Fatal(err)
		}
		origin, _ := loose["origin"].(string)
		if loose["type"] != "webauthn.get" || loose["challenge"] != want || !strings.HasPrefix(origin, "http://localhost:") || loose["crossOrigin"] == true || loose["topOrigin"] != nil {
			t.Fatalf("accepted %s", clientData)
		}
	})
}

func marshal(w wire) []byte { return ssh.Marshal(w) }

func pem64(blob []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "SSH SIGNATURE", Bytes: blob})
}
