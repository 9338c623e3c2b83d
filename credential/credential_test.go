package credential_test

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"coffer/canon"
	"coffer/credential"
)

const namespace = "coffer-test-v1"

var message = func() []byte {
	d := canon.New("coffer/test/v1").String("what is signed").Sum()
	return d[:]
}()

func seeded(b byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, ed25519.SeedSize))
}

var rsaKey = sync.OnceValue(func() *rsa.PrivateKey { return newRSA(3072) })

// newRSA has OpenSSH make the key: Go's search for primes takes a minute under the race detector.
func newRSA(bits int) *rsa.PrivateKey {
	dir, err := os.MkdirTemp("", "rsa")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "key")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "rsa", "-b", fmt.Sprint(bits), "-N", "", "-f", path).CombinedOutput(); err != nil {
		panic(fmt.Sprintf("%v: %s", err, out))
	}
	text, err := os.ReadFile(path)
	if err != nil {
		panic(err)
	}
	k, err := ssh.ParseRawPrivateKey(text)
	if err != nil {
		panic(err)
	}
	return k.(*rsa.PrivateKey)
}

var ecdsaKey = sync.OnceValue(func() *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return k
})

func sshSigner(t testing.TB, secret crypto.PrivateKey) ssh.Signer {
	t.Helper()
	s, err := ssh.NewSignerFromKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func signer(t testing.TB, secret crypto.PrivateKey) credential.Signer {
	t.Helper()
	s, err := credential.NewSigner(sshSigner(t, secret))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func sign(t testing.TB, s credential.Signer, ns string, msg []byte) []byte {
	t.Helper()
	sig, err := s.Sign(ns, msg)
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

// writeKey stores a private key as OpenSSH does, next to its public key.
func writeKey(t testing.TB, secret crypto.PrivateKey, passphrase string) string {
	t.Helper()
	var block *pem.Block
	var err error
	if passphrase == "" {
		block, err = ssh.MarshalPrivateKey(secret, "comment with spaces")
	} else {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(secret, "c", []byte(passphrase))
	}
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	line := ssh.MarshalAuthorizedKey(sshSigner(t, secret).PublicKey())
	if err := os.WriteFile(path+".pub", append(bytes.TrimSpace(line), " a comment\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func kinds() map[string]crypto.PrivateKey {
	secret := seeded(1)
	return map[string]crypto.PrivateKey{"ed25519": &secret, "ecdsa": ecdsaKey(), "rsa": rsaKey()}
}

func TestSignVerify(t *testing.T) {
	for name, secret := range kinds() {
		t.Run(name, func(t *testing.T) {
			s := signer(t, secret)
			sig := sign(t, s, namespace, message)
			if err := s.Key().Verify(namespace, message, sig); err != nil {
				t.Fatal(err)
			}
			by, err := credential.SignatureKey(sig)
			if err != nil || by != s.Key() {
				t.Fatalf("signature key %v, %v", by, err)
			}
			if !strings.HasPrefix(by.Fingerprint(), "SHA256:") || by.Validate() != nil {
				t.Fatalf("fingerprint %q, validate %v", by.Fingerprint(), by.Validate())
			}
		})
	}
}

// What OpenSSH signs we accept, and what we sign OpenSSH accepts, for each type.
func TestOpenSSH(t *testing.T) {
	for name, secret := range kinds() {
		t.Run(name, func(t *testing.T) {
			path := writeKey(t, secret, "")
			s, err := credential.Open(path, nil)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "digest")
			if err := os.WriteFile(file, message, 0o600); err != nil {
				t.Fatal(err)
			}
			for _, h := range []string{"sha512", "sha256"} {
				run(t, nil, "ssh-keygen", "-q", "-Y", "sign", "-O", "hashalg="+h, "-n", namespace, "-f", path, file)
				theirs, err := os.ReadFile(file + ".sig")
				if err != nil {
					t.Fatal(err)
				}
				if err := os.Remove(file + ".sig"); err != nil {
					t.Fatal(err)
				}
				if err := s.Key().Verify(namespace, message, theirs); err != nil {
					t.Fatalf("%s: %v\n%s", h, err, theirs)
				}
				if name == "ed25519" && h == "sha512" {
					if ours := sign(t, s, namespace, message); !bytes.Equal(ours, theirs) {
						t.Fatalf("ours\n%s\ntheirs\n%s", ours, theirs)
					}
				}
			}
			allowed := filepath.Join(t.TempDir(), "allowed")
			if err := os.WriteFile(allowed, []byte("alice "+s.Key().Public+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			ours := filepath.Join(t.TempDir(), "ours")
			if err := os.WriteFile(ours, sign(t, s, namespace, message), 0o600); err != nil {
				t.Fatal(err)
			}
			run(t, message, "ssh-keygen", "-Y", "verify", "-f", allowed, "-I", "alice", "-n", namespace, "-s", ours)
			if out := run(t, nil, "ssh-keygen", "-l", "-f", path+".pub"); !strings.Contains(out, s.Key().Fingerprint()) {
				t.Fatalf("fingerprint %s is not in %s", s.Key().Fingerprint(), out)
			}
		})
	}
}

func run(t testing.TB, stdin []byte, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdin = bytes.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// startAgent runs a real ssh-agent and returns its socket.
func startAgent(t testing.TB) string {
	t.Helper()
	// Not t.TempDir: the path of a socket must be short.
	dir, err := os.MkdirTemp("", "agent")
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	cmd := exec.Command("ssh-agent", "-D", "-a", socket)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = os.RemoveAll(dir)
	})
	// It prints its socket once it listens.
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	return socket
}

func TestAgent(t *testing.T) {
	socket := startAgent(t)
	t.Setenv("SSH_AUTH_SOCK", socket)
	for name, secret := range kinds() {
		t.Run(name, func(t *testing.T) {
			path := writeKey(t, secret, "")
			if _, err := credential.Open(path+".pub", nil); !errors.Is(err, credential.ErrAgent) || !strings.Contains(err.Error(), "ssh-add") {
				t.Fatalf("agent without the key: %v", err)
			}
			run(t, nil, "ssh-add", "-q", path)
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			s, err := credential.Open(path+".pub", nil)
			if err != nil {
				t.Fatal(err)
			}
			sig := sign(t, s, namespace, message)
			if err := s.Key().Verify(namespace, message, sig); err != nil {
				t.Fatal(err)
			}
			run(t, nil, "ssh-add", "-q", "-d", path+".pub")
			if _, err := s.Sign(namespace, message); !errors.Is(err, credential.ErrAgent) {
				t.Fatalf("signed with a key that was removed: %v", err)
			}
		})
	}
	t.Run("gone", func(t *testing.T) {
		t.Setenv("SSH_AUTH_SOCK", filepath.Join(t.TempDir(), "none"))
		if _, err := credential.Open(writeKey(t, rsaKey(), "")+".pub", nil); !errors.Is(err, credential.ErrAgent) {
			t.Fatal(err)
		}
		t.Setenv("SSH_AUTH_SOCK", "")
		if _, err := credential.Open(writeKey(t, rsaKey(), "")+".pub", nil); !errors.Is(err, credential.ErrAgent) {
			t.Fatal(err)
		}
	})
}

// lyingAgent signs with its own key whatever key is asked for.
type lyingAgent struct {
	agent.ExtendedAgent
	own ssh.Signer
}

func (l lyingAgent) Sign(_ ssh.PublicKey, data []byte) (*ssh.Signature, error) {
	return l.own.Sign(rand.Reader, data)
}

func (l lyingAgent) SignWithFlags(k ssh.PublicKey, data []byte, _ agent.SignatureFlags) (*ssh.Signature, error) {
	return l.Sign(k, data)
}

func TestAgentLies(t *testing.T) {
	ring := agent.NewKeyring().(agent.ExtendedAgent)
	secret := seeded(1)
	if err := ring.Add(agent.AddedKey{PrivateKey: &secret}); err != nil {
		t.Fatal(err)
	}
	socket := serveAgent(t, lyingAgent{ring, sshSigner(t, seeded(2))})
	s, err := credential.Agent(socket, signer(t, seeded(1)).Key())
	if err != nil {
		t.Fatal(err)
	}
	if sig, err := s.Sign(namespace, message); err == nil {
		t.Fatalf("handed on what another key signed:\n%s", sig)
	}
}

func TestOpenPassphrase(t *testing.T) {
	secret := seeded(3)
	path := writeKey(t, &secret, "correct horse")
	answer := []byte("correct horse")
	asked := ""
	s, err := credential.Open(path, func(prompt string) ([]byte, error) { asked = prompt; return answer, nil })
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(asked, path) {
		t.Fatalf("prompt %q does not name the file", asked)
	}
	if !bytes.Equal(answer, make([]byte, len(answer))) {
		t.Fatal("the passphrase was not wiped")
	}
	if s.Key() != signer(t, seeded(3)).Key() {
		t.Fatal("another key came out")
	}
	if _, err := credential.Open(path, func(string) ([]byte, error) { return []byte("wrong"), nil }); !errors.Is(err, credential.ErrPassphrase) {
		t.Fatalf("wrong passphrase: %v", err)
	}
	if _, err := credential.Open(path, nil); err == nil || !strings.Contains(err.Error(), "encrypted") {
		t.Fatalf("nobody to ask: %v", err)
	}
	boom := errors.New("no terminal")
	if _, err := credential.Open(path, func(string) ([]byte, error) { return nil, boom }); !errors.Is(err, boom) {
		t.Fatalf("prompt failed: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	good := seeded(4)
	loose := writeKey(t, &good, "")
	if err := os.Chmod(loose, 0o640); err != nil {
		t.Fatal(err)
	}
	small := newRSA(2048)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, c := range map[string]struct{ path, want string }{
		"missing":   {filepath.Join(dir, "none"), "no such file"},
		"directory": {dir, "not a key file"},
		"others":    {loose, "chmod 600"},
		"rsa 2048":  {writeKey(t, small, ""), "RSA of 2048 bits"},
		"p384":      {writeKey(t, p384, ""), "ecdsa-sha2-nistp384"},
		"garbage":   {file("garbage", "hello\n"), "not a public key line"},
		"empty":     {file("empty", ""), "not a public key line"},
		"bad pem":   {file("bad", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"), "open key"},
		"big":       {file("big", strings.Repeat("x", 65<<10)), "not a key file"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := credential.Open(c.path, nil); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
		})
	}
}

func line(blob []byte) string {
	n := binary.BigEndian.Uint32(blob)
	return string(blob[4:4+n]) + " " + base64.StdEncoding.EncodeToString(blob)
}

func edBlob(point []byte) []byte {
	return ssh.Marshal(struct {
		Type string
		Key  []byte
	}{ssh.KeyAlgoED25519, point})
}

func TestParseKey(t *testing.T) {
	good := signer(t, seeded(1)).Key()
	for name, text := range map[string]string{
		"bare": good.Public, "comment": good.Public + " alice@host with spaces", "newline": good.Public + "\n",
		"crlf": good.Public + "\r\n", "tabs": "  " + strings.Replace(good.Public, " ", "\t ", 1),
	} {
		t.Run(name, func(t *testing.T) {
			k, err := credential.ParseKey(text)
			if err != nil || k != good {
				t.Fatalf("%v, %v", k, err)
			}
		})
	}
}

func TestParseKeyRefuses(t *testing.T) {
	good := signer(t, seeded(1)).Key()
	_, b64, _ := strings.Cut(good.Public, " ")
	ec, _ := ssh.NewPublicKey(&ecdsaKey().PublicKey)
	rsaPub := func(bits int) string {
		n := new(big.Int).Lsh(big.NewInt(1), uint(bits-1))
		return line(ssh.Marshal(struct {
			Type string
			E, N *big.Int
		}{ssh.KeyAlgoRSA, big.NewInt(65537), n.SetBit(n, 0, 1)}))
	}
	point := func(hexY string) string {
		y, err := hex.DecodeString(hexY)
		if err != nil || len(y) != 32 {
			t.Fatal(hexY, err)
		}
		return line(edBlob(y))
	}
	compressed := append([]byte{2 + byte(ecdsaKey().Y.Bit(0))}, ecdsaKey().X.FillBytes(make([]byte, 32))...)
	raw := func(s string) []byte { b, _ := base64.StdEncoding.DecodeString(s); return b }
	cases := map[string]struct {
		line string
		want error
	}{
		"empty":             {"", credential.ErrMalformedKey},
		"one field":         {"ssh-ed25519", credential.ErrMalformedKey},
		"two lines":         {good.Public + "\n" + good.Public, credential.ErrMalformedKey},
		"options":           {`command="rm" ` + good.Public, credential.ErrMalformedKey},
		"no-pty":            {"no-pty " + good.Public, credential.ErrMalformedKey},
		"private key":       {"-----BEGIN OPENSSH PRIVATE KEY-----", credential.ErrMalformedKey},
		"too long":          {good.Public + " " + strings.Repeat("x", 5000), credential.ErrMalformedKey},
		"base64 garbage":    {"ssh-ed25519 !!!!", credential.ErrMalformedKey},
		"base64 no padding": {rsaTrim(t), credential.ErrMalformedKey},
		"base64 loose bits": {"ssh-ed25519 " + looseBits(raw(b64)), credential.ErrMalformedKey},
		"type differs":      {"ssh-rsa " + b64, credential.ErrMalformedKey},
		"type other case":   {"SSH-ed25519 " + b64, credential.ErrMalformedKey},
		"trailing bytes":    {line(append(raw(b64), 0)), credential.ErrMalformedKey},
		"cut short":         {line(raw(b64)[:40]), credential.ErrMalformedKey},
		"31 byte point":     {line(edBlob(make([]byte, 31))), credential.ErrMalformedKey},
		"sk ed25519":        {"sk-ssh-ed25519@openssh.com AAAA", credential.ErrMalformedKey},
		"sk ecdsa":          {"sk-ecdsa-sha2-nistp256@openssh.com AAAA", credential.ErrMalformedKey},
		"sk unknown":        {"sk-ssh-ed448@openssh.com AAAA", credential.ErrUnsupportedKey},
		"certificate":       {"ssh-ed25519-cert-v01@openssh.com AAAA", credential.ErrUnsupportedKey},
		"dsa":               {"ssh-dss AAAA", credential.ErrUnsupportedKey},
		"p384":              {"ecdsa-sha2-nistp384 AAAA", credential.ErrUnsupportedKey},
		"p521":              {"ecdsa-sha2-nistp521 AAAA", credential.ErrUnsupportedKey},
		"rsa 2048":          {rsaPub(2048), credential.ErrUnsupportedKey},
		"rsa 3071":          {rsaPub(3071), credential.ErrUnsupportedKey},
		"rsa 16384":         {rsaPub(16384), credential.ErrUnsupportedKey},
		"p256 compressed": {line(ssh.Marshal(struct {
			Type, Curve string
			P           []byte
		}{ssh.KeyAlgoECDSA256, "nistp256", compressed})), credential.ErrMalformedKey},
		"p256 wrong curve": {line(ssh.Marshal(struct {
			Type, Curve string
			P           []byte
		}{ssh.KeyAlgoECDSA256, "nistp384", raw(line(ec.Marshal()))})), credential.ErrMalformedKey},
		"p256 off curve":     {line(append(ec.Marshal()[:len(ec.Marshal())-1], ec.Marshal()[len(ec.Marshal())-1]^1)), credential.ErrMalformedKey},
		"order 4":            {point(strings.Repeat("00", 32)), credential.ErrUnsupportedKey},
		"order 4, sign":      {point(strings.Repeat("00", 31) + "80"), credential.ErrUnsupportedKey},
		"identity":           {point("01" + strings.Repeat("00", 31)), credential.ErrUnsupportedKey},
		"identity, sign":     {point("01" + strings.Repeat("00", 30) + "80"), credential.ErrUnsupportedKey},
		"order 2":            {point("ec" + strings.Repeat("ff", 30) + "7f"), credential.ErrUnsupportedKey},
		"order 8":            {point("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), credential.ErrUnsupportedKey},
		"order 8, other":     {point("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa"), credential.ErrUnsupportedKey},
		"not canonical, 0":   {point("ed" + strings.Repeat("ff", 30) + "7f"), credential.ErrUnsupportedKey},
		"not canonical, 1":   {point("ee" + strings.Repeat("ff", 30) + "7f"), credential.ErrUnsupportedKey},
		"not canonical, 18":  {point(strings.Repeat("ff", 31) + "7f"), credential.ErrUnsupportedKey},
		"not canonical sign": {point("ee" + strings.Repeat("ff", 31)), credential.ErrUnsupportedKey},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			k, err := credential.ParseKey(c.line)
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if !k.IsZero() {
				t.Fatalf("an error and a key: %v", k)
			}
		})
	}
}

func rsaTrim(t *testing.T) string {
	k := signer(t, ecdsaKey()).Key().Public
	trimmed := strings.TrimRight(k, "=")
	if trimmed == k {
		t.Fatal("this line has no padding to cut")
	}
	return trimmed
}

// looseBits sets bits that decode to nothing: a second spelling of the same bytes.
func looseBits(blob []byte) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	blob = append(blob, make([]byte, (1+3-len(blob)%3)%3)...)
	if len(blob)%3 == 0 {
		blob = append(blob, 0)
	}
	b := []byte(base64.StdEncoding.EncodeToString(blob))
	for i := len(b) - 1; ; i-- {
		if b[i] != '=' {
			b[i] = alphabet[strings.IndexByte(alphabet, b[i])|1]
			return string(b)
		}
	}
}

// The refusal of small-order keys is no formality: the standard library accepts
// this "signature" by the neutral element over anything.
func TestNeutralKeySignsAnything(t *testing.T) {
	neutral := append([]byte{1}, make([]byte, 31)...)
	forged := append(bytes.Clone(neutral), make([]byte, 32)...)
	if !ed25519.Verify(neutral, []byte("anything"), forged) {
		t.Fatal("the attack is gone; is the check still needed?")
	}
	k := credential.Key{Kind: "ssh", Public: line(edBlob(neutral))}
	pub, err := ssh.ParsePublicKey(edBlob(neutral))
	if err != nil {
		t.Fatal(err)
	}
	sig := sshsig.Signature{Version: 1, PublicKey: pub, Namespace: namespace, HashAlgorithm: sshsig.HashSHA512,
		Signature: &ssh.Signature{Format: ssh.KeyAlgoED25519, Blob: forged}}
	if err := k.Verify(namespace, message, pem70(sig.Marshal())); !errors.Is(err, credential.ErrUnsupportedKey) {
		t.Fatal(err)
	}
}

func pem70(blob []byte) []byte {
	s := base64.StdEncoding.EncodeToString(blob)
	var b strings.Builder
	b.WriteString("-----BEGIN SSH SIGNATURE-----\n")
	for len(s) > 70 {
		b.WriteString(s[:70] + "\n")
		s = s[70:]
	}
	b.WriteString(s + "\n-----END SSH SIGNATURE-----\n")
	return []byte(b.String())
}

// wire is an SSHSIG taken apart, so that each field can be changed by itself.
type wire struct {
	Magic                                     [6]byte
	Version                                   uint32
	Key, Namespace, Reserved, Hash, Signature string
}

func takeApart(t testing.TB, armored []byte) wire {
	t.Helper()
	block, _ := pem.Decode(armored)
	var w wire
	if err := ssh.Unmarshal(block.Bytes, &w); err != nil {
		t.Fatal(err)
	}
	return w
}

func TestVerifyRefuses(t *testing.T) {
	alice, mallory := signer(t, seeded(1)), signer(t, seeded(2))
	good := sign(t, alice, namespace, message)
	type mutation struct {
		sig  []byte
		want error
	}
	text := func(s string) mutation { return mutation{[]byte(s), credential.ErrMalformedSignature} }
	change := func(want error, f func(*wire)) mutation {
		w := takeApart(t, good)
		f(&w)
		return mutation{pem70(ssh.Marshal(w)), want}
	}
	inner := func(format string, blob []byte, rest ...byte) string {
		return string(ssh.Marshal(struct {
			Format string
			Blob   []byte
			Rest   []byte `ssh:"rest"`
		}{format, blob, rest}))
	}
	mine := takeApart(t, good)
	var raw struct {
		Format string
		Blob   []byte
	}
	if err := ssh.Unmarshal([]byte(mine.Signature), &raw); err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(raw.Blob)
	flipped[0] ^= 1
	// s + order: the same signature, spelled again; Go and RFC 8032 refuse it.
	order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
	s := new(big.Int).SetBytes(reversed(raw.Blob[32:]))
	second := append(bytes.Clone(raw.Blob[:32]), reversed(s.Add(s, order).FillBytes(make([]byte, 32)))...)
	block, _ := pem.Decode(good)
	lines := strings.Split(string(good), "\n")

	cases := map[string]mutation{
		"empty":               text(""),
		"no head":             text(strings.Join(lines[1:], "\n")),
		"no tail":             text(strings.Join(lines[:len(lines)-2], "\n")),
		"no last newline":     text(strings.TrimSuffix(string(good), "\n")),
		"text before":         text("hello\n" + string(good)),
		"text after":          text(string(good) + "hello\n"),
		"twice":               text(string(good) + string(good)),
		"crlf":                text(strings.ReplaceAll(string(good), "\n", "\r\n")),
		"pem header":          text(strings.Replace(string(good), "\n", "\nX: y\n\n", 1)),
		"blank line":          text(strings.Replace(string(good), "\n", "\n\n", 1)),
		"spaces":              text(strings.Replace(string(good), "\n", "\n ", 1)),
		"one long line":       text(lines[0] + "\n" + strings.Join(lines[1:len(lines)-2], "") + "\n" + lines[len(lines)-2] + "\n"),
		"other pem type":      text(strings.ReplaceAll(string(good), "SSH SIGNATURE", "SSH SIGNATURES")),
		"url base64":          text(string(pem70([]byte{0xff, 0xff, 0xff})[:30]) + "____\n-----END SSH SIGNATURE-----\n"),
		"loose bits":          text(lines[0] + "\n" + looseBits([]byte("x")) + "\n" + lines[len(lines)-2] + "\n"),
		"huge":                text(string(pem70(make([]byte, 9000)))),
		"no content":          text(string(pem70(nil))),
		"cut":                 {pem70(block.Bytes[:len(block.Bytes)-1]), credential.ErrMalformedSignature},
		"trailing":            {pem70(append(bytes.Clone(block.Bytes), 0)), credential.ErrMalformedSignature},
		"magic":               change(credential.ErrMalformedSignature, func(w *wire) { w.Magic[0] = 's' }),
		"version 0":           change(credential.ErrMalformedSignature, func(w *wire) { w.Version = 0 }),
		"version 2":           change(credential.ErrMalformedSignature, func(w *wire) { w.Version = 2 }),
		"reserved":            change(credential.ErrMalformedSignature, func(w *wire) { w.Reserved = "x" }),
		"namespace other":     change(credential.ErrNamespace, func(w *wire) { w.Namespace = "file" }),
		"namespace empty":     change(credential.ErrNamespace, func(w *wire) { w.Namespace = "" }),
		"namespace nul":       change(credential.ErrNamespace, func(w *wire) { w.Namespace += "\x00" }),
		"hash sha1":           change(credential.ErrMalformedSignature, func(w *wire) { w.Hash = "sha1" }),
		"hash empty":          change(credential.ErrMalformedSignature, func(w *wire) { w.Hash = "" }),
		"hash SHA512":         change(credential.ErrMalformedSignature, func(w *wire) { w.Hash = "SHA512" }),
		"hash relabelled":     change(credential.ErrSignature, func(w *wire) { w.Hash = "sha256" }),
		"key swapped":         change(credential.ErrOtherKey, func(w *wire) { w.Key = takeApart(t, sign(t, mallory, namespace, message)).Key }),
		"key garbage":         change(credential.ErrMalformedSignature, func(w *wire) { w.Key = "x" }),
		"key empty":           change(credential.ErrMalformedSignature, func(w *wire) { w.Key = "" }),
		"key of another type": change(credential.ErrMalformedSignature, func(w *wire) { w.Key = string(sshSigner(t, ecdsaKey()).PublicKey().Marshal()) }),
		"bit flipped":         change(credential.ErrSignature, func(w *wire) { w.Signature = inner(raw.Format, flipped) }),
		"zero signature":      change(credential.ErrSignature, func(w *wire) { w.Signature = inner(raw.Format, make([]byte, 64)) }),
		"s plus order":        change(credential.ErrSignature, func(w *wire) { w.Signature = inner(raw.Format, second) }),
		"63 bytes":            change(credential.ErrMalformedSignature, func(w *wire) { w.Signature = inner(raw.Format, raw.Blob[:63]) }),
		"65 bytes":            change(credential.ErrMalformedSignature, func(w *wire) { w.Signature = inner(raw.Format, append(bytes.Clone(raw.Blob), 0)) }),
		"rest":                change(credential.ErrMalformedSignature, func(w *wire) { w.Signature = inner(raw.Format, raw.Blob, 1, 0, 0, 0, 9) }),
		"format sk":           change(credential.ErrMalformedSignature, func(w *wire) { w.Signature = inner("sk-ssh-ed25519@openssh.com", raw.Blob, 5, 0, 0, 0, 9) }),
		"format ecdsa":        change(credential.ErrMalformedSignature, func(w *wire) { w.Signature = inner(ssh.KeyAlgoECDSA256, raw.Blob) }),
		"signature empty":     change(credential.ErrMalformedSignature, func(w *wire) { w.Signature = "" }),
		"other signer":        {sign(t, mallory, namespace, message), credential.ErrOtherKey},
		"other namespace":     {sign(t, alice, "file", message), credential.ErrNamespace},
		"other message":       {sign(t, alice, namespace, []byte("other")), credential.ErrSignature},
		"message prefix":      {sign(t, alice, namespace, message[:31]), credential.ErrSignature},
		"sk key":              {skSignature(t), credential.ErrOtherKey},
		"certificate":         {certSignature(t), credential.ErrUnsupportedKey},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if err := alice.Key().Verify(namespace, message, c.sig); !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v\n%s", err, c.want, c.sig)
			}
		})
	}
	t.Run("empty namespace wanted", func(t *testing.T) {
		if err := alice.Key().Verify("", message, good); !errors.Is(err, credential.ErrNamespace) {
			t.Fatal(err)
		}
	})
	t.Run("sign for no namespace", func(t *testing.T) {
		if _, err := alice.Sign("", message); err == nil {
			t.Fatal("signed")
		}
	})
	for name, k := range map[string]credential.Key{
		"zero key": {}, "other kind": {Kind: "pgp", Public: alice.Key().Public},
		"comment in key": {Kind: "ssh", Public: alice.Key().Public + " x"}, "newline in key": {Kind: "ssh", Public: alice.Key().Public + "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			if k.Verify(namespace, message, good) == nil || k.Validate() == nil || k.Fingerprint() != "" {
				t.Fatal("accepted")
			}
		})
	}
	// PEM's own line width is another spelling that other tools write.
	if err := alice.Key().Verify(namespace, message, pem.EncodeToMemory(block)); err != nil {
		t.Fatal(err)
	}
}

func reversed(b []byte) []byte {
	out := make([]byte, len(b))
	for i, x := range b {
		out[len(b)-1-i] = x
	}
	return out
}

// sshsigData is what OpenSSH hashes and signs.
func sshsigData(hashName string, sum []byte) []byte {
	return append([]byte("SSHSIG"), ssh.Marshal(struct{ Namespace, Reserved, Hash, Sum string }{namespace, "", hashName, string(sum)})...)
}

func sha512Of(b []byte) []byte { h := crypto.SHA512.New(); h.Write(b); return h.Sum(nil) }

// skSignature is a valid signature of a security key, presence flag set.
func skSignature(t testing.TB) []byte {
	t.Helper()
	secret := seeded(7)
	const application = "ssh:"
	key := ssh.Marshal(struct {
		Type string
		Key  []byte
		App  string
	}{"sk-ssh-ed25519@openssh.com", secret.Public().(ed25519.PublicKey), application})
	pub, err := ssh.ParsePublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	appSum, dataSum := crypto.SHA256.New(), crypto.SHA256.New()
	appSum.Write([]byte(application))
	data := sshsigData("sha512", sha512Of(message))
	dataSum.Write(data)
	signed := append(appSum.Sum(nil), 1, 0, 0, 0, 1)
	signed = append(signed, dataSum.Sum(nil)...)
	inner := &ssh.Signature{Format: "sk-ssh-ed25519@openssh.com", Blob: ed25519.Sign(secret, signed), Rest: []byte{1, 0, 0, 0, 1}}
	if err := pub.Verify(data, inner); err != nil {
		t.Fatalf("the test's own signature is wrong: %v", err)
	}
	return pem70(sshsig.Signature{Version: 1, PublicKey: pub, Namespace: namespace, HashAlgorithm: "sha512", Signature: inner}.Marshal())
}

// certSignature is by a certificate that holds alice's key.
func certSignature(t testing.TB) []byte {
	t.Helper()
	s := sshSigner(t, seeded(1))
	cert := &ssh.Certificate{Key: s.PublicKey(), CertType: ssh.UserCert, KeyId: "alice", ValidBefore: ssh.CertTimeInfinity}
	if err := cert.SignCert(rand.Reader, sshSigner(t, seeded(2))); err != nil {
		t.Fatal(err)
	}
	cs, err := ssh.NewCertSigner(cert, s)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := sshsig.Sign(bytes.NewReader(message), cs, sshsig.HashSHA512, namespace)
	if err != nil {
		t.Fatal(err)
	}
	return pem70(sig.Marshal())
}

func TestVerifyRefusesRSA(t *testing.T) {
	k := rsaKey()
	s := signer(t, k)
	make1 := func(format string, h crypto.Hash) []byte {
		data := sshsigData("sha512", sha512Of(message))
		hf := h.New()
		hf.Write(data)
		blob, err := rsa.SignPKCS1v15(rand.Reader, k, h, hf.Sum(nil))
		if err != nil {
			t.Fatal(err)
		}
		return pem70(sshsig.Signature{Version: 1, PublicKey: sshSigner(t, k).PublicKey(), Namespace: namespace,
			HashAlgorithm: "sha512", Signature: &ssh.Signature{Format: format, Blob: blob}}.Marshal())
	}
	for name, c := range map[string]struct {
		sig  []byte
		want error
	}{
		"sha512":             {make1(ssh.KeyAlgoRSASHA512, crypto.SHA512), nil},
		"sha256":             {make1(ssh.KeyAlgoRSASHA256, crypto.SHA256), nil},
		"sha1":               {make1(ssh.KeyAlgoRSA, crypto.SHA1), credential.ErrMalformedSignature},
		"sha1 called sha512": {make1(ssh.KeyAlgoRSASHA512, crypto.SHA1), credential.ErrSignature},
		"sha256 called 512":  {make1(ssh.KeyAlgoRSASHA512, crypto.SHA256), credential.ErrSignature},
		"ed25519 algorithm":  {make1(ssh.KeyAlgoED25519, crypto.SHA512), credential.ErrMalformedSignature},
		"certificate's name": {make1("rsa-sha2-512-cert-v01@openssh.com", crypto.SHA512), credential.ErrMalformedSignature},
		"short":              {resized(t, make1(ssh.KeyAlgoRSASHA512, crypto.SHA512), -1), credential.ErrMalformedSignature},
		"long":               {resized(t, make1(ssh.KeyAlgoRSASHA512, crypto.SHA512), 1), credential.ErrMalformedSignature},
	} {
		t.Run(name, func(t *testing.T) {
			if err := s.Key().Verify(namespace, message, c.sig); !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
		})
	}
}

func resized(t testing.TB, armored []byte, by int) []byte {
	w := takeApart(t, armored)
	var in struct {
		Format string
		Blob   []byte
	}
	if err := ssh.Unmarshal([]byte(w.Signature), &in); err != nil {
		t.Fatal(err)
	}
	if by < 0 {
		in.Blob = in.Blob[-by:]
	} else {
		in.Blob = append(make([]byte, by), in.Blob...)
	}
	w.Signature = string(ssh.Marshal(in))
	return pem70(ssh.Marshal(w))
}

func TestVerifyRefusesECDSA(t *testing.T) {
	s := signer(t, ecdsaKey())
	good := sign(t, s, namespace, message)
	w := takeApart(t, good)
	var in struct {
		Format string
		Blob   []byte
	}
	var rs struct{ R, S []byte }
	if err := errors.Join(ssh.Unmarshal([]byte(w.Signature), &in), ssh.Unmarshal(in.Blob, &rs)); err != nil {
		t.Fatal(err)
	}
	with := func(r, sv []byte, rest ...byte) []byte {
		x := w
		x.Signature = string(ssh.Marshal(struct {
			Format string
			Blob   []byte
		}{in.Format, append(ssh.Marshal(struct{ R, S []byte }{r, sv}), rest...)}))
		return pem70(ssh.Marshal(x))
	}
	if err := s.Key().Verify(namespace, message, with(rs.R, rs.S)); err != nil {
		t.Fatal(err)
	}
	for name, sig := range map[string][]byte{
		"leading zero r": with(append([]byte{0, 0}, rs.R...), rs.S),
		"leading zero s": with(rs.R, append([]byte{0, 0}, rs.S...)),
		"r zero":         with(nil, rs.S),
		"s zero":         with(rs.R, nil),
		"r negative":     with([]byte{0x80}, rs.S),
		"trailing":       with(rs.R, rs.S, 0),
		"huge r":         with(bytes.Repeat([]byte{0x7f}, 3000), rs.S),
		"swapped":        with(rs.S, rs.R),
	} {
		t.Run(name, func(t *testing.T) {
			if err := s.Key().Verify(namespace, message, sig); err == nil {
				t.Fatal("accepted")
			}
		})
	}
}

func TestNoSecretPrints(t *testing.T) {
	secret := seeded(9)
	s := signer(t, &secret)
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "signer", s)
	asJSON, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	out := log.String() + string(asJSON)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%b", "%o", "%c", "%U", "%e", "%p"} {
		out += fmt.Sprintf(verb+" ", s)
		out += fmt.Sprintf(verb+" ", struct{ S credential.Signer }{s})
	}
	seed := bytes.Repeat([]byte{9}, 32)
	for _, leak := range []string{hex.EncodeToString(seed), base64.StdEncoding.EncodeToString(seed), "9 9 9 9", string(seed)} {
		if strings.Contains(out, leak) {
			t.Fatalf("the secret is printed as %q in %s", leak, out)
		}
	}
	if !strings.Contains(out, s.Key().Fingerprint()) {
		t.Fatal("nothing says which key it is")
	}
}

type stubSSH struct {
	ssh.Signer
	key ssh.PublicKey
}

func (s stubSSH) PublicKey() ssh.PublicKey { return s.key }

func TestNewSignerRefuses(t *testing.T) {
	if _, err := credential.NewSigner(nil); !errors.Is(err, credential.ErrUnsupportedKey) {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := credential.NewSigner(sshSigner(t, p384)); !errors.Is(err, credential.ErrUnsupportedKey) {
		t.Fatal(err)
	}
	// A signer whose key and signature do not belong together is caught before anyone sees the signature.
	s, err := credential.NewSigner(stubSSH{sshSigner(t, seeded(1)), sshSigner(t, seeded(2)).PublicKey()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Sign(namespace, message); !errors.Is(err, credential.ErrSignature) {
		t.Fatal(err)
	}
}

func TestKeyJSON(t *testing.T) {
	k := signer(t, seeded(1)).Key()
	b, err := json.Marshal(k)
	if err != nil {
		t.Fatal(err)
	}
	var back credential.Key
	if err := json.Unmarshal(b, &back); err != nil || back != k || back.String() != k.Public {
		t.Fatalf("%s: %v, %v", b, back, err)
	}
}
