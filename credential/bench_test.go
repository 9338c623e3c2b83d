package credential_test

import (
	"maps"
	"slices"
	"testing"

	"coffer/credential"
)

// BenchmarkVerify is what each signer pays for one approval, by kind of key.
func BenchmarkVerify(b *testing.B) {
	keys := map[string]credential.Signer{}
	for name, secret := range kinds() {
		keys["ssh-"+name] = signer(b, secret)
	}
	for name, sk := range skKinds(b) {
		keys["sk-"+name] = touched(b, sk)
	}
	for name, a := range passkeys(b) {
		keys["webauthn-"+name] = a
	}
	for _, name := range slices.Sorted(maps.Keys(keys)) {
		b.Run(name, func(b *testing.B) {
			key := keys[name].Key()
			sig := sign(b, keys[name], namespace, message)
			for b.Loop() {
				if err := key.Verify(namespace, message, sig); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
