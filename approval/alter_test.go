package approval_test

import (
	"bytes"
	"testing"

	"coffer/approval"
	"coffer/charter"
	"coffer/credential"
	"coffer/credential/credentialtest"
	"coffer/internal/testcharter"
)

// TestEachByteAltered: an approval of which any byte is another, of the statement or of
// the signature, is nobody's, whatever kind of key signed it. There is no byte that makes
// no difference: neither form of signature has room for one.
func TestEachByteAltered(t *testing.T) {
	for name, key := range map[string]credential.Signer{
		"file":                     testcharter.SSH(t, "bob"),
		"security key":             credentialtest.SecurityKey(t, "bob"),
		"passkey":                  credentialtest.Passkey(t, "bob"),
		"passkey of another curve": credentialtest.NewAuthenticatorOf(t, credential.Localhost, "bob", credentialtest.Ed25519("bob")),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := testcharter.New(t)
			next := f.Charter
			if name != "file" { // which bob has already
				next = f.Next(t, f.Charter, func(c *charter.Charter) {
					for n := range c.People {
						if c.People[n].Name == "bob" {
							c.People[n].Keys = append(c.People[n].Keys, key.Key())
						}
					}
				})
			}
			i := f.Payment(now)
			i.Charter = next.Digest()
			signed, err := approval.Sign(f.Statement("bob", approval.Approve, i, now), key)
			if err != nil {
				t.Fatal(err)
			}
			votes := func(s approval.Signed) int {
				return len(approval.Tally(under(next), i, i.Digest(), []approval.Signed{s}).Votes)
			}
			if votes(signed) != 1 {
				t.Fatal("the right one is no vote")
			}
			for part, raw := range map[string]*[]byte{"statement": &signed.Raw, "signature": &signed.Signature} {
				whole := *raw
				for at := range whole {
					for _, bit := range []byte{1, 0x20} {
						*raw = bytes.Clone(whole)
						(*raw)[at] ^= bit
						if votes(signed) != 0 {
							t.Errorf("%s, byte %d with bit %#x: a vote", part, at, bit)
						}
					}
				}
				*raw = whole
			}
		})
	}
}
