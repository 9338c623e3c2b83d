package canon_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"math/big"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"coffer/canon"
)

// The golden vector of docs/encoding.md: one message with a field of every type.
func TestGoldenVector(t *testing.T) {
	var d canon.Digest
	for i := range d {
		d[i] = byte(i)
	}
	message := canon.New("coffer/example/v1").String("é").Bytes([]byte{1, 2}).Uint64(7).Bool(true).
		Big(big.NewInt(256)).Big(nil).Digest(d).Strings([]string{"a", ""}).Time(1700000000).Encoded()
	const want = "00000011636f666665722f6578616d706c652f7631" + "00000002c3a9" + "000000020102" + "0000000000000007" + "01" +
		"000000020100" + "00000000" + "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f" +
		"00000002" + "0000000161" + "00000000" + "000000006553f100"
	if got := hex.EncodeToString(message); got != want {
		t.Fatalf("encoding changed:\n got %s\nwant %s", got, want)
	}
	if got := canon.Sum(message).String(); got != "41345e439ad32dcb1a3af4f6782d4407fdcd7cd91fe42108e36653bd6390a3f6" {
		t.Fatalf("digest changed: %s", got)
	}
	r := canon.NewDecoder("coffer/example/v1", message)
	if s := r.String(10); s != "é" {
		t.Errorf("string %q", s)
	}
	if b := r.Bytes(10); !bytes.Equal(b, []byte{1, 2}) {
		t.Errorf("bytes %x", b)
	}
	if v := r.Uint64(); v != 7 {
		t.Errorf("uint64 %d", v)
	}
	if !r.Bool() {
		t.Error("bool")
	}
	if v := r.Big(32); v.Int64() != 256 {
		t.Errorf("big %s", v)
	}
	if v := r.Big(32); v.Sign() != 0 {
		t.Errorf("zero %s", v)
	}
	if r.Digest() != d {
		t.Error("digest")
	}
	if l := r.Strings(5, 5); len(l) != 2 || l[0] != "a" || l[1] != "" {
		t.Errorf("strings %q", l)
	}
	if v := r.Time(); v != 1700000000 {
		t.Errorf("time %d", v)
	}
	if err := r.Finish(); err != nil {
		t.Fatal(err)
	}
}

// Every way to write the same value differently, and every cut, is refused.
func TestDecoderRefuses(t *testing.T) {
	head := func() *canon.Encoder { return canon.New("d") }
	for name, c := range map[string]struct {
		message []byte
		read    func(*canon.Decoder)
		want    string
	}{
		"other domain":    {canon.New("x").Encoded(), func(*canon.Decoder) {}, "domain"},
		"empty":           {nil, func(*canon.Decoder) {}, "cut short"},
		"trailing byte":   {append(head().Encoded(), 0), func(*canon.Decoder) {}, "left after"},
		"leading zero":    {head().Bytes([]byte{0, 1}).Encoded(), func(d *canon.Decoder) { d.Big(8) }, "leading zero"},
		"bool of two":     {append(head().Encoded(), 2), func(d *canon.Decoder) { d.Bool() }, "boolean"},
		"broken text":     {head().Bytes([]byte{0xff}).Encoded(), func(d *canon.Decoder) { d.String(8) }, "UTF-8"},
		"too long":        {head().Bytes(make([]byte, 9)).Encoded(), func(d *canon.Decoder) { d.Bytes(8) }, "at most 8"},
		"too many":        {head().List(9).Encoded(), func(d *canon.Decoder) { d.List(8) }, "at most 8"},
		"huge length":     {append(head().Encoded(), 0xff, 0xff, 0xff, 0xff), func(d *canon.Decoder) { d.Bytes(1 << 30) }, "at most"},
		"length past end": {append(head().Encoded(), 0, 0, 0, 9, 1), func(d *canon.Decoder) { d.Bytes(100) }, "cut short"},
		"cut integer":     {append(head().Encoded(), 0, 0), func(d *canon.Decoder) { d.Uint64() }, "cut short"},
		"cut digest":      {append(head().Encoded(), 0, 0), func(d *canon.Decoder) { d.Digest() }, "cut short"},
		"cut bool":        {head().Encoded(), func(d *canon.Decoder) { d.Bool() }, "cut short"},
		"cut list":        {head().Encoded(), func(d *canon.Decoder) { d.List(1) }, "cut short"},
		"late time":       {head().Uint64(1 << 63).Encoded(), func(d *canon.Decoder) { d.Time() }, "out of range"},
	} {
		t.Run(name, func(t *testing.T) {
			d := canon.NewDecoder("d", c.message)
			c.read(d)
			if err := d.Finish(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

// Two different sequences of fields never have the same encoding.
func TestInjective(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 5), 0, 4)
		a, b := list.Draw(t, "a"), list.Draw(t, "b")
		encode := func(fields [][]byte) []byte {
			e := canon.New("d").List(len(fields))
			for _, f := range fields {
				e.Bytes(f)
			}
			return e.Encoded()
		}
		same := len(a) == len(b)
		for i := 0; same && i < len(a); i++ {
			same = bytes.Equal(a[i], b[i])
		}
		if bytes.Equal(encode(a), encode(b)) != same {
			t.Fatalf("%x and %x", a, b)
		}
	})
}

func TestDigestText(t *testing.T) {
	d := canon.Sum([]byte("x"))
	raw, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	var back canon.Digest
	if err := json.Unmarshal(raw, &back); err != nil || back != d {
		t.Fatalf("%v %v", back, err)
	}
	for _, bad := range []string{"", "00", strings.ToUpper(d.String()), d.String() + "00", strings.Repeat("g", 64)} {
		if _, err := canon.ParseDigest(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
	if _, err := canon.DigestFrom(make([]byte, 31)); err == nil {
		t.Error("31 bytes were accepted")
	}
	if !(canon.Digest{}).IsZero() || d.IsZero() {
		t.Error("IsZero")
	}
}

// Whatever the bytes, decoding ends without a panic, and what it accepts encodes back to them.
func FuzzDecoder(f *testing.F) {
	f.Add(canon.New("d").String("a").Big(big.NewInt(300)).Bool(true).Uint64(9).Encoded())
	f.Fuzz(func(t *testing.T, message []byte) {
		d := canon.NewDecoder("d", message)
		s, b, v, u := d.String(100), d.Big(100), d.Bool(), d.Uint64()
		if d.Finish() != nil {
			return
		}
		if back := canon.New("d").String(s).Big(b).Bool(v).Uint64(u).Encoded(); !bytes.Equal(back, message) {
			t.Fatalf("%x encodes back to %x", message, back)
		}
	})
}
