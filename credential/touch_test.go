package credential_test

import (
	"bytes"
	"crypto"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"coffer/credential"
	"coffer/credential/credentialtest"
)

func touched(t testing.TB, k *credentialtest.SK) credential.Signer {
	t.Helper()
	s, err := credential.NewSigner(k)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func skKinds(t testing.TB) map[string]*credentialtest.SK {
	return map[string]*credentialtest.SK{"ed25519": credentialtest.NewSK("alice"), "ecdsa": credentialtest.NewSKP256(t, "alice")}
}

func TestSecurityKey(t *testing.T) {
	for name, sk := range skKinds(t) {
		t.Run(name, func(t *testing.T) {
			s := touched(t, sk)
			sig := sign(t, s, namespace, message)
			by, err := credential.SignatureKey(sig)
			if err != nil || by != s.Key() || by.Kind != credential.KindSK || by.Validate() != nil {
				t.Fatalf("%v, %v", by, err)
			}
			if err := by.Verify(namespace, message, sig); err != nil {
				t.Fatal(err)
			}
			if plain := by.Bare(); plain == "" || plain == by.Public || strings.HasPrefix(plain, "sk-") {
				t.Fatalf("the key inside is %q", plain)
			}
			if (credential.Key{Kind: credential.KindSSH, Public: by.Public}).Validate() == nil {
				t.Fatal("a security key passes for a key in a file")
			}
			// OpenSSH knows the key and its fingerprint too.
			path := filepath.Join(t.TempDir(), "k.pub")
			if err := os.WriteFile(path, []byte(by.Public+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			if out := run(t, nil, "ssh-keygen", "-l", "-f", path); !strings.Contains(out, by.Fingerprint()) {
				t.Fatalf("%s is not in %s", by.Fingerprint(), out)
			}
			// And its -Y verify takes what we take.
			allowed, ours := filepath.Join(t.TempDir(), "allowed"), filepath.Join(t.TempDir(), "sig")
			if err := errors.Join(os.WriteFile(allowed, []byte("alice "+by.Public+"\n"), 0o600), os.WriteFile(ours, sig, 0o600)); err != nil {
				t.Fatal(err)
			}
			run(t, message, "ssh-keygen", "-Y", "verify", "-f", allowed, "-I", "alice", "-n", namespace, "-s", ours)
		})
	}
}

// TestSecurityKeyFlags holds what CVE-2026-39831 was about, and what the library
// never asked: every combination of flags, truly signed.
func TestSecurityKeyFlags(t *testing.T) {
	for name := range skKinds(t) {
		for flags := range 256 {
			sk := skKinds(t)[name]
			s := touched(t, sk)
			sk.Flags = byte(flags)
			sig, err := s.Sign(namespace, message)
			good := flags&0x05 == 0x05 && flags&^0x1d == 0
			if good != (err == nil) {
				t.Fatalf("%s, flags %#02x: %v\n%s", name, flags, err, sig)
			}
			if !good && flags&^0x1d == 0 && !errors.Is(err, credential.ErrPresence) {
				t.Fatalf("%s, flags %#02x: %v", name, flags, err)
			}
		}
	}
}

// unchecked is what a token signs, put together without the check that seal makes.
func unchecked(t testing.TB, sk *credentialtest.SK, ns string, msg []byte, hash string) wire {
	t.Helper()
	sum := sha512Of(msg)
	if hash == "sha256" {
		h := crypto.SHA256.New()
		h.Write(msg)
		sum = h.Sum(nil)
	}
	inner, err := sk.Sign(rand.Reader, sshsigData2(ns, hash, sum))
	if err != nil {
		t.Fatal(err)
	}
	w := wire{Version: 1, Key: string(sk.PublicKey().Marshal()), Namespace: ns, Hash: hash, Signature: string(ssh.Marshal(inner))}
	copy(w.Magic[:], "SSHSIG")
	return w
}

func sshsigData2(ns, hashName string, sum []byte) []byte {
	return append([]byte("SSHSIG"), ssh.Marshal(struct{ Namespace, Reserved, Hash, Sum string }{ns, "", hashName, string(sum)})...)
}

func TestSecurityKeyRefuses(t *testing.T) {
	for name, sk := range skKinds(t) {
		t.Run(name, func(t *testing.T) {
			k := touched(t, sk).Key()
			base := unchecked(t, sk, namespace, message, "sha512")
			if err := k.Verify(namespace, message, pem70(marshal(base))); err != nil {
				t.Fatal(err)
			}
			if err := k.Verify(namespace, message, pem70(marshal(unchecked(t, sk, namespace, message, "sha256")))); err != nil {
				t.Fatal(err)
			}
			var in ssh.Signature
			if err := ssh.Unmarshal([]byte(base.Signature), &in); err != nil {
				t.Fatal(err)
			}
			with := func(f func(*ssh.Signature)) wire {
				c, w := in, base
				c.Blob, c.Rest = bytes.Clone(in.Blob), bytes.Clone(in.Rest)
				f(&c)
				w.Signature = string(ssh.Marshal(&c))
				return w
			}
			otherApp := *sk
			otherApp.Application = "ssh:other"
			cases := map[string]struct {
				w    wire
				want error
			}{
				"flags changed after":    {with(func(s *ssh.Signature) { s.Rest[0] |= 0x08 }), credential.ErrSignature},
				"counter changed after":  {with(func(s *ssh.Signature) { s.Rest[4] ^= 1 }), credential.ErrSignature},
				"no flags":               {with(func(s *ssh.Signature) { s.Rest = nil }), credential.ErrMalformedSignature},
				"flags only":             {with(func(s *ssh.Signature) { s.Rest = s.Rest[:1] }), credential.ErrMalformedSignature},
				"more after the counter": {with(func(s *ssh.Signature) { s.Rest = append(s.Rest, 0) }), credential.ErrMalformedSignature},
				"blob cut":               {with(func(s *ssh.Signature) { s.Blob = s.Blob[:len(s.Blob)-1] }), credential.ErrMalformedSignature},
				"blob changed":           {with(func(s *ssh.Signature) { s.Blob[10] ^= 1 }), credential.ErrSignature},
				"plain format":           {with(func(s *ssh.Signature) { s.Format = ssh.KeyAlgoED25519 }), credential.ErrMalformedSignature},
				"format of a web page":   {with(func(s *ssh.Signature) { s.Format = "webauthn-sk-ecdsa-sha2-nistp256@openssh.com" }), credential.ErrMalformedSignature},
				"other application":      {unchecked(t, &otherApp, namespace, message, "sha512"), credential.ErrOtherKey},
				"other token":            {unchecked(t, credentialtest.NewSK("bob"), namespace, message, "sha512"), credential.ErrOtherKey},
				"other namespace":        {unchecked(t, sk, "file", message, "sha512"), credential.ErrNamespace},
				"other message":          {unchecked(t, sk, namespace, message[1:], "sha512"), credential.ErrSignature},
				"other hash":             {unchecked(t, sk, namespace, message, "sha384"), credential.ErrMalformedSignature},
			}
			for what, c := range cases {
				if err := k.Verify(namespace, message, pem70(marshal(c.w))); !errors.Is(err, c.want) {
					t.Errorf("%s: got %v, want %v", what, err, c.want)
				}
			}
			// Every bit of the token's answer counts: none can be changed and still verify as the same.
			for i := range base.Signature {
				w := base
				b := []byte(base.Signature)
				b[i] ^= 0x40
				w.Signature = string(b)
				if k.Verify(namespace, message, pem70(marshal(w))) == nil {
					t.Fatalf("byte %d of the signature can be changed", i)
				}
			}
			// The plain key inside is another key: what a file signs is not a token's.
			bare, err := credential.ParseKey(k.Bare())
			if err != nil {
				t.Fatal(err)
			}
			if err := bare.Verify(namespace, message, pem70(marshal(base))); !errors.Is(err, credential.ErrOtherKey) {
				t.Fatal(err)
			}
		})
	}
	for _, app := range []string{"", "https://bank.example", "SSH:", "ssh: ", "ssh:\x00", "ssh:é", "ssh:" + strings.Repeat("x", 200)} {
		sk := credentialtest.NewSK("alice")
		sk.Application = app
		if _, err := credential.NewSigner(sk); !errors.Is(err, credential.ErrUnsupportedKey) {
			t.Errorf("application %q: %v", app, err)
		}
	}
}

// skAgent is an ssh-agent that holds one security key, as OpenSSH's does.
type skAgent struct {
	agent.ExtendedAgent
	key    *credentialtest.SK
	refuse bool
}

func (a skAgent) List() ([]*agent.Key, error) {
	pub := a.key.PublicKey()
	return []*agent.Key{{Format: pub.Type(), Blob: pub.Marshal()}}, nil
}

func (a skAgent) Sign(_ ssh.PublicKey, data []byte) (*ssh.Signature, error) {
	if a.refuse {
		return nil, errors.New("no touch")
	}
	return a.key.Sign(rand.Reader, data)
}

func (a skAgent) SignWithFlags(k ssh.PublicKey, data []byte, _ agent.SignatureFlags) (*ssh.Signature, error) {
	return a.Sign(k, data)
}

func TestSecurityKeyAgent(t *testing.T) {
	for name, sk := range skKinds(t) {
		t.Run(name, func(t *testing.T) {
			ring := agent.NewKeyring().(agent.ExtendedAgent)
			t.Setenv("SSH_AUTH_SOCK", serveAgent(t, skAgent{ring, sk, false}))
			path := filepath.Join(t.TempDir(), "id_sk.pub")
			if err := os.WriteFile(path, append(ssh.MarshalAuthorizedKey(sk.PublicKey()), '\n'), 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := credential.Open(path, nil)
			if err != nil {
				t.Fatal(err)
			}
			var told bytes.Buffer
			sig := sign(t, credential.Announced(s, &told), namespace, message)
			if err := s.Key().Verify(namespace, message, sig); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(told.String(), "touch your security key SHA256:") {
				t.Fatalf("told %q", told.String())
			}
			// A token that did not ask who touches it is of no use, and its owner hears why.
			sk.Flags = credentialtest.Present
			if _, err := s.Sign(namespace, message); !errors.Is(err, credential.ErrPresence) || !strings.Contains(err.Error(), "verify-required") {
				t.Fatal(err)
			}
			t.Setenv("SSH_AUTH_SOCK", serveAgent(t, skAgent{ring, sk, true}))
			if s, err = credential.Open(path, nil); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Sign(namespace, message); !errors.Is(err, credential.ErrAgent) || !strings.Contains(err.Error(), "plugged in") {
				t.Fatal(err)
			}
		})
	}
	plain := signer(t, seeded(1))
	var told bytes.Buffer
	sign(t, credential.Announced(plain, &told), namespace, message)
	if told.Len() > 0 {
		t.Fatalf("asked for a touch of a file: %s", &told)
	}
}

// A private key file of a security key holds a handle, which only a token can use.
func TestOpenHandle(t *testing.T) {
	for name, sk := range skKinds(t) {
		body := append([]byte("openssh-key-v1\x00"), ssh.Marshal(struct {
			Cipher, KDF, Options string
			Keys                 uint32
			Public, Private      []byte
		}{"none", "none", "", 1, sk.PublicKey().Marshal(), []byte("handle")})...)
		path := filepath.Join(t.TempDir(), "id_"+name)
		text := "-----BEGIN OPENSSH PRIVATE KEY-----\n" + base64.StdEncoding.EncodeToString(body) + "\n-----END OPENSSH PRIVATE KEY-----\n"
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := credential.Open(path, nil); err == nil || !strings.Contains(err.Error(), "ssh-add "+path) || !strings.Contains(err.Error(), path+".pub") {
			t.Fatal(err)
		}
	}
}

func passkeys(t testing.TB) map[string]*credentialtest.Authenticator {
	return map[string]*credentialtest.Authenticator{
		"es256":  credentialtest.NewAuthenticator(t, "alice"),
		"eddsa":  credentialtest.NewAuthenticatorOf(t, credential.Localhost, "alice", credentialtest.Ed25519("alice")),
		"rs256":  credentialtest.NewAuthenticatorOf(t, credential.Localhost, "alice", rsaKey()),
		"domain": credentialtest.NewAuthenticatorOf(t, "approve.acme.example", "alice", nil),
	}
}

func TestPasskey(t *testing.T) {
	for name, a := range passkeys(t) {
		t.Run(name, func(t *testing.T) {
			sig := sign(t, a, namespace, message)
			by, err := credential.SignatureKey(sig)
			if err != nil || by != a.Key() || by.Kind != credential.KindWebAuthn || by.Validate() != nil {
				t.Fatalf("%v, %v", by, err)
			}
			if err := by.Verify(namespace, message, sig); err != nil {
				t.Fatal(err)
			}
			if len(sig) > credential.MaxSignature || by.RelyingParty() != a.RP || len(by.CredentialID()) != 20 || !strings.HasPrefix(by.Bare(), "ssh-") && !strings.HasPrefix(by.Bare(), "ecdsa-") {
				t.Fatalf("%d bytes, %q, %x, %q", len(sig), by.RelyingParty(), by.CredentialID(), by.Bare())
			}
			again, err := credential.ParseKey(by.Public)
			if err != nil || again != by {
				t.Fatalf("%v, %v", again, err)
			}
		})
	}
}

func TestPasskeyKeyRefuses(t *testing.T) {
	good := credentialtest.NewAuthenticator(t, "alice").Key()
	f := strings.Fields(good.Public)
	join := func(fields ...string) string { return strings.Join(fields, " ") }
	for what, line := range map[string]string{
		"no key":             join(f[:4]...),
		"rp capital":         join("webauthn", "Localhost", f[2], f[3], f[4]),
		"rp without dot":     join("webauthn", "intranet", f[2], f[3], f[4]),
		"rp with port":       join("webauthn", "acme.example:443", f[2], f[3], f[4]),
		"rp with scheme":     join("webauthn", "https://acme.example", f[2], f[3], f[4]),
		"rp address":         join("webauthn", "127.0.0.1", f[2], f[3], f[4]),
		"rp empty label":     join("webauthn", "acme..example", f[2], f[3], f[4]),
		"rp dot at end":      join("webauthn", "acme.example.", f[2], f[3], f[4]),
		"rp hyphen":          join("webauthn", "-acme.example", f[2], f[3], f[4]),
		"rp not ASCII":       join("webauthn", "acmé.example", f[2], f[3], f[4]),
		"rp long":            join("webauthn", strings.Repeat("a.", 130)+"example", f[2], f[3], f[4]),
		"id padded":          join("webauthn", f[1], f[2]+"=", f[3], f[4]),
		"id standard base64": join("webauthn", f[1], "++//", f[3], f[4]),
		"id loose bits":      join("webauthn", f[1], "AB", f[3], f[4]),
		"id long":            join("webauthn", f[1], strings.Repeat("AAAA", 342), f[3], f[4]),
		"key garbage":        join("webauthn", f[1], f[2], f[3], "AAAA"),
		"key of a token":     join("webauthn", f[1], f[2], ssh.KeyAlgoSKED25519, strings.Fields(credentialtest.SecurityKey(t, "x").Key().Public)[1]),
		"key type":           join("webauthn", f[1], f[2], "ssh-ed25519", f[4]),
		"kind capital":       join("WebAuthn", f[1], f[2], f[3], f[4]),
	} {
		if k, err := credential.ParseKey(line); err == nil {
			t.Errorf("%s: accepted as %v", what, k)
		}
	}
	for what, k := range map[string]credential.Key{
		"comment":      {Kind: "webauthn", Public: good.Public + " x"},
		"called ssh":   {Kind: "ssh", Public: good.Public},
		"called sk":    {Kind: "ssh-sk", Public: good.Public},
		"ssh as it":    {Kind: "webauthn", Public: good.Bare()},
		"double space": {Kind: "webauthn", Public: strings.Replace(good.Public, " ", "  ", 1)},
	} {
		if k.Validate() == nil || k.Fingerprint() != "" || k.Bare() != "" || k.RelyingParty() != "" || k.CredentialID() != nil {
			t.Errorf("%s: accepted", what)
		}
	}
	// An even modulus, a small one and a point of small order are refused inside a passkey too.
	weak, err := ssh.ParsePublicKey(edBlob(make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := credential.NewWebAuthnKey("localhost", []byte{1}, weak); !errors.Is(err, credential.ErrUnsupportedKey) {
		t.Fatal(err)
	}
	if _, err := credential.NewWebAuthnKey("localhost", []byte{1}, nil); !errors.Is(err, credential.ErrUnsupportedKey) {
		t.Fatal(err)
	}
	if _, err := credential.Agent("/nowhere", good); !errors.Is(err, credential.ErrUnsupportedKey) {
		t.Fatal(err)
	}
}

// Each field of an assertion, changed and truly signed so.
func TestPasskeyFields(t *testing.T) {
	type fields = credentialtest.Authenticator
	cases := map[string]struct {
		change func(*fields)
		want   error // nil: accepted
	}{
		"unchanged":              {func(*fields) {}, nil},
		"other relying party":    {func(a *fields) { a.RP = "acme.example" }, credential.ErrSignature},
		"not present":            {func(a *fields) { a.Flags = 0x04 }, credential.ErrPresence},
		"not verified":           {func(a *fields) { a.Flags = 0x01 }, credential.ErrPresence},
		"no flags":               {func(a *fields) { a.Flags = 0 }, credential.ErrPresence},
		"backup eligible":        {func(a *fields) { a.Flags = 0x1d }, nil},
		"attested data":          {func(a *fields) { a.Flags = 0x45 }, credential.ErrMalformedSignature},
		"extensions":             {func(a *fields) { a.Flags = 0x85 }, credential.ErrMalformedSignature},
		"reserved flag":          {func(a *fields) { a.Flags = 0x07 }, credential.ErrMalformedSignature},
		"counter":                {func(a *fields) { a.Counter = 0 }, nil},
		"made, not asserted":     {func(a *fields) { a.Type = "webauthn.create" }, credential.ErrSignature},
		"payment":                {func(a *fields) { a.Type = "payment.get" }, credential.ErrSignature},
		"type empty":             {func(a *fields) { a.Type = "" }, credential.ErrSignature},
		"other port":             {func(a *fields) { a.Origin = "http://localhost:1" }, nil},
		"port 0":                 {func(a *fields) { a.Origin = "http://localhost:0" }, credential.ErrOrigin},
		"port too high":          {func(a *fields) { a.Origin = "http://localhost:65536" }, credential.ErrOrigin},
		"port with zero":         {func(a *fields) { a.Origin = "http://localhost:080" }, credential.ErrOrigin},
		"port with sign":         {func(a *fields) { a.Origin = "http://localhost:+80" }, credential.ErrOrigin},
		"no port":                {func(a *fields) { a.Origin = "http://localhost" }, credential.ErrOrigin},
		"path":                   {func(a *fields) { a.Origin = "http://localhost:80/" }, credential.ErrOrigin},
		"https":                  {func(a *fields) { a.Origin = "https://localhost:80" }, credential.ErrOrigin},
		"subdomain of localhost": {func(a *fields) { a.Origin = "http://evil.localhost:80" }, credential.ErrOrigin},
		"address":                {func(a *fields) { a.Origin = "http://127.0.0.1:80" }, credential.ErrOrigin},
		"other origin":           {func(a *fields) { a.Origin = "https://evil.example" }, credential.ErrOrigin},
		"origin with user":       {func(a *fields) { a.Origin = "http://localhost:80@evil.example" }, credential.ErrOrigin},
		"no origin":              {func(a *fields) { a.Origin = "" }, credential.ErrOrigin},
		"framed":                 {func(a *fields) { a.CrossOrigin = "true" }, credential.ErrOrigin},
		"framed, odd":            {func(a *fields) { a.CrossOrigin = "null" }, credential.ErrOrigin},
		"crossOrigin left out":   {func(a *fields) { a.CrossOrigin = "" }, nil},
		"top origin":             {func(a *fields) { a.Extra = `,"topOrigin":"https://evil.example"` }, credential.ErrOrigin},
		"top origin empty":       {func(a *fields) { a.Extra = `,"topOrigin":""` }, credential.ErrOrigin},
		"new member": {func(a *fields) {
			a.Extra = `,"other_keys_can_be_added_here":"do not compare clientDataJSON against a template"`
		}, nil},
		"new member, nested": {func(a *fields) { a.Extra = `,"x":{"origin":"https://evil.example","type":1}` }, nil},
		"member twice":       {func(a *fields) { a.Extra = `,"origin":"http://localhost:1"` }, credential.ErrMalformedSignature},
		"type twice":         {func(a *fields) { a.Extra = `,"type":"webauthn.get"` }, credential.ErrMalformedSignature},
		"member in capitals": {func(a *fields) { a.Extra = `,"Origin":"https://evil.example"` }, credential.ErrMalformedSignature},
		"new member twice":   {func(a *fields) { a.Extra = `,"x":1,"x":2` }, credential.ErrMalformedSignature},
		"many members": {func(a *fields) {
			for i := range 20 {
				a.Extra += fmt.Sprintf(`,"x%d":1`, i)
			}
		}, credential.ErrMalformedSignature},
		"large": {func(a *fields) { a.Extra = `,"x":"` + strings.Repeat("x", 2000) + `"` }, credential.ErrMalformedSignature},
	}
	for what, c := range cases {
		t.Run(what, func(t *testing.T) {
			a := credentialtest.NewAuthenticator(t, "alice")
			c.change(a)
			answer, err := a.Assert(namespace, message)
			if err != nil {
				t.Fatal(err)
			}
			_, err = answer.Seal(a.Key(), namespace, message)
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
		})
	}
	for origin, want := range map[string]error{
		"https://approve.acme.example":      nil,
		"https://approve.acme.example:443":  credential.ErrOrigin,
		"https://approve.acme.example:8443": credential.ErrOrigin,
		"https://approve.acme.example/":     credential.ErrOrigin,
		"https://APPROVE.acme.example":      credential.ErrOrigin,
		"http://approve.acme.example":       credential.ErrOrigin,
		"https://acme.example":              credential.ErrOrigin,
		"https://x.approve.acme.example":    credential.ErrOrigin,
		"http://localhost:80":               credential.ErrOrigin,
	} {
		a := passkeys(t)["domain"]
		a.Origin = origin
		answer, err := a.Assert(namespace, message)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := answer.Seal(a.Key(), namespace, message); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", origin, err, want)
		}
	}
}

// What an assertion was made for, and by whom, is fixed.
func TestPasskeyRefuses(t *testing.T) {
	for name, a := range passkeys(t) {
		t.Run(name, func(t *testing.T) {
			answer, err := a.Assert(namespace, message)
			if err != nil {
				t.Fatal(err)
			}
			k := a.Key()
			sig, err := answer.Seal(k, namespace, message)
			if err != nil {
				t.Fatal(err)
			}
			fails := func(what string, err, want error) {
				t.Helper()
				if !errors.Is(err, want) {
					t.Errorf("%s: got %v, want %v", what, err, want)
				}
			}
			fails("other message", k.Verify(namespace, message[1:], sig), credential.ErrSignature)
			fails("other namespace", k.Verify("file", message, sig), credential.ErrSignature)
			fails("no namespace", k.Verify("", message, sig), credential.ErrNamespace)
			// Where the namespace ends and the message begins is part of what is signed.
			fails("shifted", k.Verify(namespace+string(message[:1]), message[1:], sig), credential.ErrSignature)
			fails("other passkey", credentialtest.NewAuthenticator(t, "bob").Key().Verify(namespace, message, sig), credential.ErrOtherKey)
			fails("ssh key", signer(t, seeded(1)).Key().Verify(namespace, message, sig), credential.ErrOtherKey)
			fails("ssh signature", k.Verify(namespace, message, sign(t, signer(t, seeded(1)), namespace, message)), credential.ErrOtherKey)

			// The same key under another credential ID, or relying party, is another key.
			f := strings.Fields(k.Public)
			other := func(i int, value string) credential.Key {
				g := append([]string(nil), f...)
				g[i] = value
				p, err := credential.ParseKey(strings.Join(g, " "))
				if err != nil {
					t.Fatal(err)
				}
				return p
			}
			for i, value := range map[int]string{2: "AQID", 1: "other.example"} {
				b := other(i, value)
				if b.Bare() != k.Bare() {
					t.Fatal("the key inside changed")
				}
				fails("other "+value, b.Verify(namespace, message, sig), credential.ErrOtherKey)
			}
			if _, err := answer.Seal(other(1, "other.example"), namespace, message); err == nil {
				t.Error("sealed for another relying party")
			}

			for what, change := range map[string]func(*credential.Assertion){
				"no signature":   func(a *credential.Assertion) { a.Signature = nil },
				"signature cut":  func(a *credential.Assertion) { a.Signature = a.Signature[:len(a.Signature)-1] },
				"signature more": func(a *credential.Assertion) { a.Signature = append(bytes.Clone(a.Signature), 0) },
				"data cut":       func(a *credential.Assertion) { a.AuthenticatorData = a.AuthenticatorData[:36] },
				"data more":      func(a *credential.Assertion) { a.AuthenticatorData = append(bytes.Clone(a.AuthenticatorData), 0) },
				"no client data": func(a *credential.Assertion) { a.ClientData = nil },
				"space after":    func(a *credential.Assertion) { a.ClientData = append(bytes.Clone(a.ClientData), ' ') },
				"space before":   func(a *credential.Assertion) { a.ClientData = append([]byte(" "), a.ClientData...) },
			} {
				b := answer
				change(&b)
				if _, err := b.Seal(k, namespace, message); err == nil {
					t.Errorf("%s: accepted", what)
				}
			}
			// No bit of it can be changed.
			for i := range sig {
				for _, bit := range []byte{1, 0x20, 0x80} {
					b := bytes.Clone(sig)
					b[i] ^= bit
					if k.Verify(namespace, message, b) == nil {
						t.Fatalf("byte %d can be changed", i)
					}
				}
			}
			for n := range sig {
				if k.Verify(namespace, message, sig[:n]) == nil {
					t.Fatalf("cut to %d bytes and accepted", n)
				}
			}
			fails("more after", k.Verify(namespace, message, append(bytes.Clone(sig), 0)), credential.ErrMalformedSignature)
			fails("huge", k.Verify(namespace, message, make([]byte, 1<<20)), credential.ErrMalformedSignature)
		})
	}
}

// Client data that is signed, and that two parsers might read differently.
func TestPasskeyClientData(t *testing.T) {
	a := credentialtest.NewAuthenticator(t, "alice")
	proper := string(a.ClientData(namespace, message))
	good, err := a.Assert(namespace, message)
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{
		"null":              "null",
		"array":             "[" + proper + "]",
		"text":              `"x"`,
		"empty":             "{}",
		"second object":     proper + "{}",
		"comma at the end":  strings.TrimSuffix(proper, "}") + ",}",
		"cut":               strings.TrimSuffix(proper, "}"),
		"not UTF-8":         strings.TrimSuffix(proper, "}") + ",\"x\":\"\xff\"}",
		"byte order mark":   "\xef\xbb\xbf" + proper,
		"type a number":     strings.Replace(proper, `"webauthn.get"`, "1", 1),
		"type null":         strings.Replace(proper, `"webauthn.get"`, "null", 1),
		"origin missing":    strings.Replace(proper, `"origin"`, `"other"`, 1),
		"challenge padded":  strings.Replace(proper, `","origin"`, `=","origin"`, 1),
		"member not text":   strings.TrimSuffix(proper, "}") + ",1:2}",
		"member no value":   strings.TrimSuffix(proper, "}") + `,"x"}`,
		"capital by kelvin": strings.TrimSuffix(proper, "}") + ",\"to\u212aenBinding\":1}",
	} {
		b, err := a.SignParts(good.AuthenticatorData, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Seal(a.Key(), namespace, message); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
}

// An ECDSA signature has a second form that anybody can make of the first; DER has none.
func TestPasskeyMalleability(t *testing.T) {
	a := credentialtest.NewAuthenticator(t, "alice")
	answer, err := a.Assert(namespace, message)
	if err != nil {
		t.Fatal(err)
	}
	if answer.Signature[0] != 0x30 {
		t.Fatalf("not DER: %x", answer.Signature)
	}
	rLen := int(answer.Signature[3])
	s := new(big.Int).SetBytes(answer.Signature[6+rLen:])
	r := new(big.Int).SetBytes(answer.Signature[4 : 4+rLen])
	der := func(parts ...[]byte) []byte {
		var body []byte
		for _, p := range parts {
			body = append(append(body, 2, byte(len(p))), p...)
		}
		return append([]byte{0x30, byte(len(body))}, body...)
	}
	number := func(v *big.Int) []byte {
		b := v.Bytes()
		if b[0]&0x80 != 0 {
			b = append([]byte{0}, b...)
		}
		return b
	}
	try := func(sig []byte) error {
		b := answer
		b.Signature = sig
		_, err := b.Seal(a.Key(), namespace, message)
		return err
	}
	if err := try(der(number(r), number(s))); err != nil {
		t.Fatalf("the test writes DER wrongly: %v", err)
	}
	// Authenticators make either, so both count; no signature is an identity.
	if err := try(der(number(r), number(new(big.Int).Sub(elliptic.P256().Params().N, s)))); err != nil {
		t.Fatal(err)
	}
	for what, sig := range map[string][]byte{
		"padded r":    der(append([]byte{0}, number(r)...), number(s)),
		"third":       der(number(r), number(s), []byte{1}),
		"s plus n":    der(number(r), number(new(big.Int).Add(elliptic.P256().Params().N, s))),
		"s zero":      der(number(r), []byte{0}),
		"r zero":      der([]byte{0}, number(s)),
		"long length": append([]byte{0x30, 0x81}, der(number(r), number(s))[1:]...),
		"raw r and s": append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...),
	} {
		if try(sig) == nil {
			t.Errorf("%s: accepted", what)
		}
	}
}

// The key that an authenticator hands over in CBOR when it makes a passkey.
func TestKeyFromCOSE(t *testing.T) {
	point, err := ecdsaKey().PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	x, y := point[1:33], point[33:]
	cbor := func(head string, parts ...any) []byte {
		b, err := hex.DecodeString(head)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range parts {
			switch p := p.(type) {
			case string:
				h, err := hex.DecodeString(p)
				if err != nil {
					t.Fatal(err)
				}
				b = append(b, h...)
			case []byte:
				b = append(append(b, 0x58, byte(len(p))), p...)
			}
		}
		return b
	}
	ed := credentialtest.Ed25519("alice")
	edPub := strings.Fields(credentialtest.NewAuthenticatorOf(t, "localhost", "alice", ed).Key().Bare())[1]
	raw, err := base64.StdEncoding.DecodeString(edPub)
	if err != nil {
		t.Fatal(err)
	}
	raw = raw[len(raw)-32:]
	for what, c := range map[string]struct {
		cose []byte
		want string
	}{
		"es256":         {cbor("a501020326200121", x, "22", y), "ecdsa-sha2-nistp256 "},
		"eddsa":         {cbor("a401010327200621", raw), "ssh-ed25519 "},
		"es384 named":   {cbor("a50102033822200121", x, "22", y), ""},
		"esp256":        {cbor("a501020328200121", x, "22", y), ""},
		"off the curve": {cbor("a501020326200121", x, "22", x), ""},
		"small order":   {cbor("a401010327200621", make([]byte, 32)), ""},
		"garbage":       {[]byte("hello"), ""},
		"nothing":       {nil, ""},
		"symmetric":     {cbor("a201040305"), ""},
	} {
		cose := c.cose
		k, err := credential.KeyFromCOSE("localhost", []byte{1, 2, 3}, cose)
		if (c.want == "") != (err != nil) || !strings.HasPrefix(k.Bare(), c.want) {
			t.Errorf("%s: %v, %v", what, k, err)
		}
	}
	if _, err := credential.KeyFromCOSE("LOCALHOST", []byte{1}, cbor("a501020326200121", x, "22", y)); err == nil {
		t.Error("relying party not checked")
	}
}
