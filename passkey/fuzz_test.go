package passkey

import (
	"encoding/base64"
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"

	"coffer/credential/credentialtest"
)

// FuzzCreated: what a browser, or whatever else knows the page's address, posts as a new
// passkey gives the one that was made, or nothing.
func FuzzCreated(f *testing.F) {
	const challenge, origin = "Y2hhbGxlbmdl", "http://localhost:1"
	a := credentialtest.NewAuthenticator(f, "alice")
	a.Origin, a.Type, a.Flags = origin, "webauthn.create", 0x05
	c := a.Create(f, challenge)
	b64 := base64.RawURLEncoding.EncodeToString
	good, err := json.Marshal(answer{ID: b64(c.ID), Attestation: b64(c.Attestation), ClientData: b64(c.ClientData)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(good))
	f.Add(string(good) + string(good))
	f.Add(`{"id":"","attestation":"oA","clientData":"e30"}`)
	var seed answer
	if err := json.Unmarshal(good, &seed); err != nil {
		f.Fatal(err)
	}
	if _, _, err := created(seed, challenge, origin); err != nil {
		f.Fatal("the seed is no passkey:", err)
	}
	f.Fuzz(func(t *testing.T, body string) {
		var got answer
		if read(httptest.NewRequest("POST", "/answer", strings.NewReader(body)), &got) != nil {
			return
		}
		key, _, err := created(got, challenge, origin)
		if err != nil {
			return
		}
		if err := key.Validate(); err != nil || key.RelyingParty() != "localhost" {
			t.Fatalf("a key that nobody may enrol: %v, %v", key, err)
		}
	})
}
