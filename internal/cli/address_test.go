package cli_test

import (
	"strings"
	"testing"

	"coffer/charter"
	"coffer/identity"
	"coffer/internal/cli"
)

func TestAddressRecords(t *testing.T) {
	key, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	raw, signature, err := charter.NewAddressRecord(key, 3, charter.Places{P2P: []string{"/ip4/192.0.2.1/tcp/1"}, GRPC: "192.0.2.1:2"})
	if err != nil {
		t.Fatal(err)
	}
	line := charter.AddressLine(raw, signature)
	records, words, err := cli.AddressRecords([]string{line, line})
	if err != nil || len(records) != 2 || len(words) != 2 || !strings.Contains(words[0], "192.0.2.1:2, sequence 3") || string(records[0].Raw) != string(raw) {
		t.Errorf("%v, %v, %v", records, words, err)
	}
	signature[0] ^= 1
	for _, bad := range []string{"", "junk", charter.AddressLine(raw, signature)} {
		if _, _, err := cli.AddressRecords([]string{line, bad}); err == nil {
			t.Errorf("%q: taken", bad)
		}
	}
}
