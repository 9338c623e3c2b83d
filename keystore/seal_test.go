package keystore_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"filippo.io/age/armor"

	"coffer/keystore"
)

var passphrase = []byte("correct horse battery staple")

func TestSealRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "seal.age")
	must(t, keystore.CreateSealWith(path, passphrase, keystore.SealOptions{WorkFactor: keystore.MinWorkFactor}))
	first, err := keystore.UnlockSeal(path, passphrase)
	must(t, err)
	second, err := keystore.UnlockSeal(path, passphrase)
	must(t, err)
	if !first.Equal(second) {
		t.Error("two keys from one file")
	}
	for _, wrong := range [][]byte{nil, []byte("guess-17"), append([]byte(" "), passphrase...), bytes.ToUpper(passphrase)} {
		if _, err := keystore.UnlockSeal(path, wrong); !errors.Is(err, keystore.ErrWrongPassphrase) || errors.Is(err, keystore.ErrSealDamaged) {
			t.Errorf("passphrase %q: %v, want ErrWrongPassphrase", wrong, err)
		} else if len(wrong) > 0 && strings.Contains(err.Error(), string(wrong)) {
			t.Errorf("the error repeats the passphrase: %v", err)
		}
	}
	info, err := os.Stat(path)
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %04o", info.Mode().Perm())
	}
	if err := keystore.CreateSeal(path, passphrase); err == nil || !strings.Contains(err.Error(), "exists") {
		t.Errorf("second seal: %v", err)
	}
	content, err := os.ReadFile(path)
	must(t, err)
	secret, err := first.Export()
	must(t, err)
	if bytes.Contains(content, secret) || bytes.Contains(content, passphrase) {
		t.Error("a secret is in the file")
	}
	must(t, os.Chmod(path, 0o640))
	if _, err := keystore.UnlockSeal(path, passphrase); err == nil || !strings.Contains(err.Error(), "chmod") {
		t.Errorf("readable seal file: %v", err)
	}
	if _, err := keystore.UnlockSeal(path+"x", passphrase); err == nil || !strings.Contains(err.Error(), "missing") {
		t.Errorf("missing seal file: %v", err)
	}
}

// TestSealDefault: what production calls costs what the constant says.
func TestSealDefault(t *testing.T) {
	path := filepath.Join(t.TempDir(), "seal.age")
	must(t, keystore.CreateSeal(path, passphrase))
	content, err := os.ReadFile(path)
	must(t, err)
	_, body, _ := strings.Cut(string(content), "\n")
	header, err := io.ReadAll(armor.NewReader(strings.NewReader(body)))
	must(t, err)
	if line := strings.Split(string(header), "\n")[1]; !strings.HasPrefix(line, "-> scrypt ") || !strings.HasSuffix(line, " 18") {
		t.Errorf("age header says %q, want a work factor of 18", line)
	}
	for _, factor := range []int{-1, 1, keystore.MinWorkFactor - 1, 21, 64} {
		if err := keystore.CreateSealWith(path+"2", passphrase, keystore.SealOptions{WorkFactor: factor}); err == nil {
			t.Errorf("work factor %d accepted", factor)
		}
	}
	if err := keystore.CreateSeal(path+"2", nil); err == nil {
		t.Error("empty passphrase accepted")
	}
	if _, err := os.Stat(path + "2"); err == nil {
		t.Error("a refused call made a file")
	}
}

// TestSealOpensWithAge: below its first line the file is plain age.
func TestSealOpensWithAge(t *testing.T) {
	path := filepath.Join(t.TempDir(), "seal.age")
	must(t, keystore.CreateWeakSeal(path, passphrase))
	content, err := os.ReadFile(path)
	must(t, err)
	_, body, _ := strings.Cut(string(content), "\n")
	identity, err := age.NewScryptIdentity(string(passphrase))
	must(t, err)
	r, err := age.Decrypt(armor.NewReader(strings.NewReader(body)), identity)
	must(t, err)
	plain, err := io.ReadAll(r)
	must(t, err)
	key, err := keystore.UnlockSeal(path, passphrase)
	must(t, err)
	secret, err := key.Export()
	must(t, err)
	if !bytes.HasSuffix(plain, secret) {
		t.Error("age finds another key")
	}
}

// TestDamagedSeal: a flipped bit in any byte and every cut is damage, and not a wrong passphrase.
func TestDamagedSeal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "seal.age")
	must(t, keystore.CreateWeakSeal(path, passphrase))
	whole, err := os.ReadFile(path)
	must(t, err)
	check := func(what string, i int, content []byte) {
		must(t, os.WriteFile(path, content, 0o600))
		if _, err := keystore.UnlockSeal(path, passphrase); !errors.Is(err, keystore.ErrSealDamaged) || errors.Is(err, keystore.ErrWrongPassphrase) {
			t.Errorf("%s %d: %v, want ErrSealDamaged", what, i, err)
		}
	}
	for i := range whole {
		bad := bytes.Clone(whole)
		bad[i] ^= 1 << (i % 8)
		check("flipped bit in byte", i, bad)
	}
	for n := 0; n < len(whole); n += 7 {
		check("cut to", n, whole[:n])
	}
	check("longer by", 1, append(bytes.Clone(whole), '\n'))
	check("huge", 0, bytes.Repeat(whole, 200))
}
