package eip55_test

import (
	"errors"
	"strings"
	"testing"

	"coffer/chain/evm/eip55"

	"github.com/ethereum/go-ethereum/common"
	"pgregory.net/rapid"
)

// The test cases of https://eips.ethereum.org/EIPS/eip-55.
var golden = []string{
	"0x52908400098527886E0F7030069857D2E4169EE7", // all capitals
	"0x8617E340B3D01FA5F11F306F4090FD50E238070D",
	"0xde709f2102306220921060314715629080e2fb77", // all lower
	"0x27b1fdb04752bbc536007a920d24acb045561c26",
	"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", // normal
	"0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
	"0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
	"0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
}

func TestGolden(t *testing.T) {
	for _, s := range golden {
		address, err := eip55.Parse(s)
		if err != nil {
			t.Errorf("%s: %v", s, err)
		}
		if got := eip55.Format(address); got != s {
			t.Errorf("got %s, want %s", got, s)
		}
	}
}

func TestFormatAgreesWithGoEthereum(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := [20]byte(rapid.SliceOfN(rapid.Byte(), 20, 20).Draw(t, "address"))
		if got, want := eip55.Format(a), common.Address(a).Hex(); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	})
}

func TestParseRefuses(t *testing.T) {
	const good = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
	for _, c := range []struct{ name, in, says string }{
		{"empty", "", "0 characters"},
		{"no prefix", good[2:], "40 characters"},
		{"capital prefix", "0X" + good[2:], "begin with 0x"},
		{"one digit short", good[:41], "41 characters"},
		{"one digit more", good + "0", "43 characters"},
		{"leading space", " " + good[:41], "begin with 0x"},
		{"not hex", good[:41] + "g", "no hex digit"},
		{"letters of another script", "0x" + strings.Repeat("а", 20), "no hex digit"},
		{"lower case", strings.ToLower(good), "no checksum"},
		{"upper case", "0x" + strings.ToUpper(good[2:]), "no checksum"},
		{"one letter's case", "0x5aaeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "checksum is wrong"},
		{"one digit", "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAee", "checksum is wrong"},
		{"very long", strings.Repeat("0", 10000), "10000 characters"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := eip55.Parse(c.in)
			if !errors.Is(err, eip55.ErrAddress) || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("got %v, want %v that says %q", err, eip55.ErrAddress, c.says)
			}
			if len(err.Error()) > 400 {
				t.Fatalf("error of %d characters", len(err.Error()))
			}
		})
	}
}

// Whatever Parse accepts, Format writes back unchanged.
func FuzzParse(f *testing.F) {
	for _, s := range golden {
		f.Add(s)
		f.Add(strings.ToLower(s))
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := eip55.Parse(s)
		if err != nil {
			return
		}
		if got := eip55.Format(a); got != s {
			t.Fatalf("accepted %q, which is written %q", s, got)
		}
		if !common.IsHexAddress(s) || common.HexToAddress(s) != common.Address(a) {
			t.Fatalf("go-ethereum reads %q otherwise", s)
		}
	})
}
