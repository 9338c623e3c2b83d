package keystore

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"filippo.io/age"
	"filippo.io/age/armor"

	"coffer/canon"
	"coffer/keyshare"
	"coffer/store"
)

// The seal file is one line with a checksum, and below it an armored age file with
// the wrap key, encrypted under a passphrase. In need, `tail -n +2 seal.age | age -d`
// opens it. The checksum tells a damaged file from a wrong passphrase, which age
// alone cannot.
const (
	sealLine   = "coffer-seal-v1 "
	sealDomain = "coffer/wrap-key/v1"
	maxSeal    = 64 << 10

	// DefaultWorkFactor is the base-2 logarithm of scrypt's cost: about a second and
	// 256 MiB for each guess.
	DefaultWorkFactor = 18
	// MinWorkFactor is the least that CreateSealWith accepts: 32 MiB for each guess.
	MinWorkFactor = 15
	// maxWorkFactor keeps a replaced file from taking all memory (1 GiB).
	maxWorkFactor = 20
)

// SealOptions are the settings of a new seal file.
type SealOptions struct {
	WorkFactor int // DefaultWorkFactor if zero; from MinWorkFactor to 20
}

// CreateSeal makes a wrap key and writes it to path under the passphrase. It never
// replaces a file.
func CreateSeal(path string, passphrase []byte) error {
	return CreateSealWith(path, passphrase, SealOptions{})
}

// CreateSealWith is CreateSeal with settings.
func CreateSealWith(path string, passphrase []byte, o SealOptions) error {
	if o.WorkFactor == 0 {
		o.WorkFactor = DefaultWorkFactor
	}
	if o.WorkFactor < MinWorkFactor || o.WorkFactor > maxWorkFactor {
		return fmt.Errorf("create seal: work factor %d, use %d to %d", o.WorkFactor, MinWorkFactor, maxWorkFactor)
	}
	return createSeal(path, passphrase, o.WorkFactor)
}

func createSeal(path string, passphrase []byte, workFactor int) error {
	if len(passphrase) == 0 {
		return errors.New("create seal: the passphrase is empty")
	}
	// Asked first, because the key derivation takes a second; O_EXCL below decides.
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("create seal: %s exists already: choose another directory, or keep using it", path)
	}
	key, err := keyshare.NewWrapKey()
	if err != nil {
		return fmt.Errorf("create seal: %w", err)
	}
	defer key.Wipe()
	content, err := encryptSeal(key, passphrase, workFactor)
	if err != nil {
		return fmt.Errorf("create seal: %w", err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("create seal: %s exists already: choose another directory, or keep using it", path)
	} else if err != nil {
		return fmt.Errorf("create seal: %w", err)
	}
	_, err = f.Write(content)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		// Half a seal file would stand in the way of the next try.
		return errors.Join(fmt.Errorf("create seal: %w", err), os.Remove(path))
	}
	return store.SyncDir(filepath.Dir(path))
}

func encryptSeal(key *keyshare.WrapKey, passphrase []byte, workFactor int) ([]byte, error) {
	recipient, err := age.NewScryptRecipient(string(passphrase))
	if err != nil {
		return nil, err
	}
	recipient.SetWorkFactor(workFactor)
	secret, err := key.Export()
	if err != nil {
		return nil, err
	}
	defer clear(secret)
	plain := canon.New(sealDomain).Bytes(secret).Encoded()
	defer clear(plain)
	var out bytes.Buffer
	armored := armor.NewWriter(&out)
	w, err := age.Encrypt(armored, recipient)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(plain); err != nil {
		return nil, err
	}
	if err := errors.Join(w.Close(), armored.Close()); err != nil {
		return nil, err
	}
	return append([]byte(sealHeader(out.Bytes())), out.Bytes()...), nil
}

func sealHeader(body []byte) string {
	sum := sha256.Sum256(body)
	return sealLine + hex.EncodeToString(sum[:]) + "\n"
}

// UnlockSeal opens the seal file. The key is the caller's to wipe.
func UnlockSeal(path string, passphrase []byte) (*keyshare.WrapKey, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("unlock: seal file %s is missing: has init been run for this directory?", path)
	} else if err != nil {
		return nil, fmt.Errorf("unlock: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("unlock: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("unlock: seal file %s has mode %04o: others could read it and guess; chmod 600 it", path, info.Mode().Perm())
	}
	content, err := io.ReadAll(io.LimitReader(f, maxSeal+1))
	if err != nil {
		return nil, fmt.Errorf("unlock: %w", err)
	}
	key, err := decryptSeal(content, passphrase)
	if err != nil {
		return nil, fmt.Errorf("unlock %s: %w", path, err)
	}
	return key, nil
}

func decryptSeal(content, passphrase []byte) (*keyshare.WrapKey, error) {
	line := len(sealHeader(nil))
	if len(content) > maxSeal || len(content) < line || string(content[:line]) != sealHeader(content[line:]) {
		return nil, ErrSealDamaged
	}
	if len(passphrase) == 0 {
		return nil, fmt.Errorf("%w: it is empty", ErrWrongPassphrase)
	}
	identity, err := age.NewScryptIdentity(string(passphrase))
	if err != nil {
		return nil, err
	}
	identity.SetMaxWorkFactor(maxWorkFactor)
	r, err := age.Decrypt(armor.NewReader(bytes.NewReader(content[line:])), identity)
	var noMatch *age.NoIdentityMatchError
	if errors.As(err, &noMatch) {
		return nil, ErrWrongPassphrase
	} else if err != nil {
		return nil, fmt.Errorf("%w (%w)", ErrSealDamaged, err)
	}
	plain, err := io.ReadAll(io.LimitReader(r, 1024))
	defer clear(plain)
	if err != nil {
		return nil, fmt.Errorf("%w (%w)", ErrSealDamaged, err)
	}
	d := canon.NewDecoder(sealDomain, plain)
	secret := d.Bytes(keyshare.WrapKeySize)
	defer clear(secret)
	if err := d.Finish(); err != nil {
		return nil, fmt.Errorf("%w (%w)", ErrSealDamaged, err)
	}
	return keyshare.ImportWrapKey(secret)
}
