package testkeys_test

import (
	"bytes"
	"testing"

	"coffer/internal/testkeys"
	"coffer/keyshare"
)

func TestSetsDifferAndOpen(t *testing.T) {
	k, err := keyshare.NewWrapKey()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for i := range testkeys.Count {
		plain, err := testkeys.PreParams(i)
		if err != nil {
			t.Fatal(err)
		}
		if seen[string(plain)] {
			t.Errorf("set %d is there twice", i)
		}
		seen[string(plain)] = true
		sealed, err := testkeys.SealedPreParams(k, i)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := keyshare.Open(k, keyshare.PreParamsAD(), sealed); err != nil || !bytes.Equal(back, plain) {
			t.Errorf("set %d does not open: %v", i, err)
		}
	}
	if _, err := testkeys.PreParams(testkeys.Count); err == nil {
		t.Error("a set beyond the last was returned")
	}
}

func TestSharesOpen(t *testing.T) {
	k, err := keyshare.NewWrapKey()
	if err != nil {
		t.Fatal(err)
	}
	w, err := testkeys.Shares(k)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range testkeys.Meta("alice").Signers {
		if _, err := keyshare.OpenShare(k, testkeys.Meta(id), w.Sealed[id]); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	if _, err := keyshare.OpenShare(k, testkeys.Meta("alice"), w.Sealed["bob"]); err == nil {
		t.Error("bob's share opens as alice's")
	}
}
