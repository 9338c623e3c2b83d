package testkeys

import (
	"bytes"
	"embed"
	"encoding/hex"
	"fmt"
	"strings"

	"coffer/canon"
	"coffer/keyshare"
	"coffer/party"
)

//go:embed testdata/*.txt
var files embed.FS

// Count is how many sets of pre-parameters there are.
const Count = 8

// PreParams returns the i-th set of Count in the engine's encoding, in clear. Two
// parties of one key generation never use the same.
func PreParams(i int) ([]byte, error) {
	lines, err := readHex("preparams.txt")
	if err != nil {
		return nil, err
	}
	if i < 0 || i >= len(lines) {
		return nil, fmt.Errorf("test pre-parameters %d: there are %d", i, len(lines))
	}
	return lines[i], nil
}

// SealedPreParams returns the i-th set sealed under k, as a Host makes them.
func SealedPreParams(k *keyshare.WrapKey, i int) ([]byte, error) {
	plain, err := PreParams(i)
	if err != nil {
		return nil, err
	}
	return keyshare.Seal(k, keyshare.PreParamsAD(), plain)
}

// Meta is the meta of id's share of the frozen wallet: 2-of-3, alice, bob and carol.
func Meta(id party.ID) keyshare.Meta {
	return keyshare.Meta{
		Cluster: canon.Sum([]byte("coffer test cluster")), Wallet: "treasury", Epoch: 1, Party: id,
		Quorum: party.Quorum{Need: 2, Of: 3}, Signers: party.Set{"alice", "bob", "carol"},
		Ceremony: canon.Sum([]byte("coffer test ceremony")),
	}
}

// Wallet is what a key generation returned for the frozen wallet.
type Wallet struct {
	PublicKey [33]byte
	Public    []byte
	Sealed    map[party.ID][]byte // by signer, each under Meta(signer)
}

// Shares returns the frozen wallet with all shares sealed under k.
func Shares(k *keyshare.WrapKey) (*Wallet, error) {
	return SharesUnder(func(party.ID) *keyshare.WrapKey { return k })
}

// SharesUnder is Shares with a key for each signer.
func SharesUnder(key func(party.ID) *keyshare.WrapKey) (*Wallet, error) {
	lines, err := readHex("wallet.txt")
	if err != nil {
		return nil, err
	}
	signers := Meta("alice").Signers
	if len(lines) != 2+len(signers) || len(lines[0]) != 33 {
		return nil, fmt.Errorf("testdata/wallet.txt has %d lines of data", len(lines))
	}
	w := &Wallet{PublicKey: [33]byte(lines[0]), Public: lines[1], Sealed: make(map[party.ID][]byte)}
	for i, id := range signers {
		// The stored bytes are the share's plaintext as sealed: format and record.
		if w.Sealed[id], err = keyshare.Seal(key(id), Meta(id).AD(), lines[2+i]); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// readHex returns the lines of a file of testdata, comments left out.
func readHex(name string) ([][]byte, error) {
	raw, err := files.ReadFile("testdata/" + name)
	if err != nil {
		return nil, err
	}
	var out [][]byte
	for line := range strings.Lines(string(raw)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		b, err := hex.DecodeString(line)
		if err != nil {
			return nil, fmt.Errorf("testdata/%s: %w", name, err)
		}
		out = append(out, bytes.Clone(b))
	}
	return out, nil
}
