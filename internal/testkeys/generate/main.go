package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"coffer/canon"
	"coffer/engine"
	"coffer/internal/testkeys"
	"coffer/keyshare"
	"coffer/party"
)

const warning = "# UNSAFE: secrets in clear, for tests only. Written by go run ./internal/testkeys/generate\n"

func main() {
	if err := run("internal/testkeys/testdata"); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func run(dir string) error {
	key, err := keyshare.NewWrapKey()
	if err != nil {
		return err
	}
	var sets [][]byte
	for i := range testkeys.Count {
		// Linked in when this program was built: what exists is kept.
		plain, err := testkeys.PreParams(i)
		if err != nil {
			if plain, err = search(key); err != nil {
				return err
			}
			fmt.Fprintln(os.Stderr, "made set", i)
		}
		sets = append(sets, plain)
	}
	if err := write(filepath.Join(dir, "preparams.txt"), sets); err != nil {
		return err
	}
	wallet, err := keygen(key, sets)
	if err != nil {
		return err
	}
	return write(filepath.Join(dir, "wallet.txt"), wallet)
}

func write(path string, lines [][]byte) error {
	var b strings.Builder
	b.WriteString(warning)
	for _, l := range lines {
		b.WriteString(hex.EncodeToString(l) + "\n")
	}
	return os.WriteFile(path, []byte(b.String()), 0o644)
}

func search(key *keyshare.WrapKey) ([]byte, error) {
	host := engine.NewInProcess()
	defer host.Close()
	if err := host.Unlock(key); err != nil {
		return nil, err
	}
	if err := host.GeneratePreParams(); err != nil {
		return nil, err
	}
	for e := range host.Events() {
		switch {
		case e.Failed != nil:
			return nil, e.Failed
		case e.PreParams != nil:
			return keyshare.Open(key, keyshare.PreParamsAD(), e.PreParams)
		}
	}
	return nil, errors.New("host closed")
}

type news struct {
	id party.ID
	engine.Event
}

func keygen(key *keyshare.WrapKey, sets [][]byte) ([][]byte, error) {
	signers := testkeys.Meta("alice").Signers
	session := canon.Sum([]byte("coffer test key generation"))
	hosts := make(map[party.ID]*engine.InProcess)
	inbox := make(chan news)
	for i, id := range signers {
		host := engine.NewInProcess()
		if err := host.Unlock(key); err != nil {
			return nil, err
		}
		sealed, err := keyshare.Seal(key, keyshare.PreParamsAD(), sets[i])
		if err != nil {
			return nil, err
		}
		if err := host.Keygen(engine.KeygenConfig{Session: session, Meta: testkeys.Meta(id), PreParams: sealed}); err != nil {
			return nil, err
		}
		hosts[id] = host
		go func() {
			for e := range host.Events() {
				inbox <- news{id, e}
			}
		}()
	}
	shares := make(map[party.ID][]byte)
	var first *engine.KeygenResult
	for len(shares) < len(signers) {
		e := <-inbox
		switch {
		case e.Failed != nil:
			return nil, e.Failed
		case e.Out != nil:
			for _, to := range signers.Without(e.id) {
				if e.Out.To == "" || e.Out.To == to {
					if err := hosts[to].Deliver(session, *e.Out); err != nil {
						return nil, err
					}
				}
			}
		case e.Keygen != nil:
			plain, err := keyshare.Open(key, testkeys.Meta(e.id).AD(), e.Keygen.Sealed)
			if err != nil {
				return nil, err
			}
			shares[e.id], first = plain, e.Keygen
		}
	}
	lines := [][]byte{first.PublicKey[:], first.Public}
	for _, id := range signers {
		lines = append(lines, shares[id])
	}
	return lines, nil
}
