package policy_test

import (
	"errors"
	"math/big"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"coffer/policy"
)

func TestParseAmount(t *testing.T) {
	max := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 256), big.NewInt(1))
	over := new(big.Int).Lsh(big.NewInt(1), 256)
	for _, c := range []struct {
		in       string
		decimals int
		want     string // "" = refused
		mention  string
	}{
		{"0", 18, "0", ""},
		{"1", 0, "1", ""},
		{"1.5", 18, "1500000000000000000", ""},
		{"0.000000000000000001", 18, "1", ""},
		{"1.50", 2, "150", ""},
		{"18446744073709551616", 0, "18446744073709551616", ""}, // 2^64
		{"100000000000000000000", 18, "100000000000000000000000000000000000000", ""},
		{max.String(), 0, max.String(), ""},
		{over.String(), 0, "", "256 bits"},
		{"115792089237316195423570985008687907853269984665640564039457584007913129639935", 1, "", "256 bits"},
		{"", 18, "", "empty"},
		{".5", 18, "", "write 0.5"},
		{"5.", 18, "", "write 5"},
		{".", 18, "", "no digit"},
		{"1.2.3", 18, "", "two points"},
		{"007", 18, "", "needless zero"},
		{"00.1", 18, "", "needless zero"},
		{"-1", 18, "", "'-'"},
		{"+1", 18, "", "'+'"},
		{"1e3", 18, "", "'e'"},
		{"0x10", 18, "", "'x'"},
		{"1_000", 18, "", "'_'"},
		{"1,5", 18, "", "','"},
		{" 1", 18, "", "' '"},
		{"1\n", 18, "", `'\n'`},
		{"١٢", 18, "", "digits"},     // Arabic-Indic
		{"\uff11", 18, "", "digits"}, // full width
		{"Inf", 18, "", "'I'"},
		{"0.0000001", 6, "", "asset has 6"},
		{"1.0", 0, "", "asset has 0"},
		{strings.Repeat("9", 1_000_000), 18, "", "at most"},
		{"1", -1, "", "decimals"},
		{"1", 37, "", "decimals"},
	} {
		got, err := policy.ParseAmount(c.in, c.decimals)
		name := c.in
		if len(name) > 40 {
			name = name[:40]
		}
		switch {
		case c.want == "" && err == nil:
			t.Errorf("ParseAmount(%q, %d) = %s, want an error", name, c.decimals, got)
		case c.want == "":
			if !errors.Is(err, policy.ErrAmount) || !strings.Contains(err.Error(), c.mention) {
				t.Errorf("ParseAmount(%q, %d): error %q, want one that mentions %q", name, c.decimals, err, c.mention)
			}
		case err != nil:
			t.Errorf("ParseAmount(%q, %d): %v", name, c.decimals, err)
		case got.String() != c.want:
			t.Errorf("ParseAmount(%q, %d) = %s, want %s", name, c.decimals, got, c.want)
		}
	}
}

func TestFormatAmount(t *testing.T) {
	for _, c := range []struct {
		in       string
		decimals int
		want     string
	}{
		{"0", 18, "0"}, {"0", 0, "0"}, {"1", 18, "0.000000000000000001"}, {"1500000000000000000", 18, "1.5"},
		{"1000000", 6, "1"}, {"100", 0, "100"}, {"-15", 1, "-1.5"}, {"1000001", 6, "1.000001"},
	} {
		v, _ := new(big.Int).SetString(c.in, 10)
		if got := policy.FormatAmount(v, c.decimals); got != c.want {
			t.Errorf("FormatAmount(%s, %d) = %q, want %q", c.in, c.decimals, got, c.want)
		}
	}
	if got := policy.FormatAmount(nil, 18); got != "0" {
		t.Errorf("FormatAmount(nil) = %q", got)
	}
}

func TestAmountRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SliceOfN(rapid.Byte(), 0, 32).Draw(t, "magnitude")
		decimals := rapid.IntRange(0, policy.MaxDecimals).Draw(t, "decimals")
		v := new(big.Int).SetBytes(b)
		s := policy.FormatAmount(v, decimals)
		back, err := policy.ParseAmount(s, decimals)
		if err != nil || back.Cmp(v) != 0 {
			t.Fatalf("%s with %d decimals printed as %q and read as %v, %v", v, decimals, s, back, err)
		}
	})
}

func FuzzParseAmount(f *testing.F) {
	for _, s := range []string{"1.5", "0", "007", "-1", "1e9", "0.000000000000000001", "9999999999999999999999"} {
		f.Add(s, 18)
	}
	f.Fuzz(func(t *testing.T, s string, decimals int) {
		v, err := policy.ParseAmount(s, decimals)
		if err != nil {
			if v != nil {
				t.Fatal("a value beside an error")
			}
			return
		}
		if v.Sign() < 0 || v.BitLen() > policy.MaxAmountBits {
			t.Fatalf("accepted %s", v)
		}
		// What is printed is what was written, but for zeros at the end.
		want := s
		if strings.Contains(want, ".") {
			want = strings.TrimSuffix(strings.TrimRight(want, "0"), ".")
		}
		if got := policy.FormatAmount(v, decimals); got != want {
			t.Fatalf("read %q, prints %q", s, got)
		}
	})
}

func TestParseQuantity(t *testing.T) {
	v := vocabulary()
	for in, mention := range map[string]string{
		"2ETH": "a space", "": "a space", "2 eth": "unknown asset", "2 ETН": "unknown asset", // Cyrillic Н
		"2  ETH": "unknown asset", " ETH": "empty", "-2 ETH": "'-'", "0.0000001 USDC": "asset has 6", "2 BTC": "known: ETH, POL, USDC",
	} {
		if _, err := v.ParseQuantity(in); err == nil || !strings.Contains(err.Error(), mention) {
			t.Errorf("ParseQuantity(%q): %v, want mention of %q", in, err, mention)
		}
	}
	q, err := v.ParseQuantity("2.50 USDC")
	if err != nil || q.String() != "2.5 USDC" || q.Amount.Int64() != 2_500_000 {
		t.Errorf("2.50 USDC = %v, %v", q, err)
	}
}
