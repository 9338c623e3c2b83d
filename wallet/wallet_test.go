package wallet_test

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"coffer/canon"
	"coffer/charter"
	"coffer/internal/testcharter"
	"coffer/party"
	pb "coffer/proto/coffer/v1"
	"coffer/wallet"
)

var update = flag.Bool("update", false, "write the golden file anew")

func digest(s string) canon.Digest { return canon.Sum([]byte(s)) }

// sample depends on no charter; its key is the generator's, 1.
func sample() *wallet.Record {
	r := &wallet.Record{
		Cluster: digest("cluster"), Charter: digest("charter"), Name: "treasury", ChainCode: digest("chain code"),
		Paths: wallet.RootOnly, Epoch: 1, Quorum: party.Quorum{Need: 2, Of: 3}, Signers: party.Set{"north", "south", "west"}, Ceremony: digest("ceremony"),
	}
	copy(r.PublicKey[:], "\x02\x79\xbe\x66\x7e\xf9\xdc\xbb\xac\x55\xa0\x62\x95\xce\x87\x0b\x07\x02\x9b\xfc\xdb\x2d\xce\x28\xd9\x59\xf2\x81\x5b\x16\xf8\x17\x98")
	return r
}

func TestRoundTrip(t *testing.T) {
	want := sample()
	got, err := wallet.Parse(want.Encode())
	if err != nil || !reflect.DeepEqual(got, want) || got.Digest() != canon.Sum(want.Encode()) {
		t.Fatalf("%+v, %v", got, err)
	}
	seen := map[canon.Digest]bool{want.Digest(): true}
	changes := []func(*wallet.Record){
		func(r *wallet.Record) { r.Cluster[0]++ }, func(r *wallet.Record) { r.Charter[0]++ }, func(r *wallet.Record) { r.Name = "reserve" },
		func(r *wallet.Record) { r.PublicKey[0] = 3 }, func(r *wallet.Record) { r.ChainCode[31]++ }, func(r *wallet.Record) { r.Epoch++ },
		func(r *wallet.Record) { r.Quorum.Need = 3 }, func(r *wallet.Record) { r.Signers[0] = "east" }, func(r *wallet.Record) { r.Ceremony[0]++ },
	}
	for n, change := range changes {
		r := sample()
		change(r)
		if _, err := wallet.Parse(r.Encode()); err != nil {
			t.Fatalf("change %d: %v", n, err)
		}
		seen[r.Digest()] = true
	}
	if len(seen) != len(changes)+1 {
		t.Fatalf("%d digests for %d records", len(seen), len(changes)+1)
	}
}

func TestGolden(t *testing.T) {
	const path = "testdata/record.txt"
	got := fmt.Sprintf("%x\n%s\n", sample().Encode(), sample().Digest())
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || got != string(want) {
		t.Fatalf("the encoding changed (%v):\n%s", err, got)
	}
}

func TestParseRefuses(t *testing.T) {
	good := sample().Encode()
	for n := range good {
		if _, err := wallet.Parse(good[:n]); err == nil {
			t.Fatalf("accepted the first %d bytes", n)
		}
	}
	changed := func(change func(*wallet.Record)) []byte {
		r := sample()
		change(r)
		return r.Encode()
	}
	for name, c := range map[string]struct {
		raw  []byte
		want string
	}{
		"trailing":          {append(bytes.Clone(good), 0), "left after"},
		"domain":            {bytes.Replace(good, []byte("wallet/v1"), []byte("wallet/v2"), 1), "domain"},
		"huge":              {make([]byte, wallet.MaxRaw+1), "at most"},
		"name empty":        {changed(func(r *wallet.Record) { r.Name = "" }), "name"},
		"name's case":       {changed(func(r *wallet.Record) { r.Name = "Treasury" }), "name"},
		"name long":         {changed(func(r *wallet.Record) { r.Name = strings.Repeat("a", 33) }), "field"},
		"name's newline":    {changed(func(r *wallet.Record) { r.Name = "treasury\n" }), "name"},
		"key zero":          {changed(func(r *wallet.Record) { r.PublicKey = [33]byte{} }), "public key"},
		"key not on curve":  {changed(func(r *wallet.Record) { r.PublicKey = [33]byte{0: 2, 32: 5} }), "public key"},
		"key's form":        {changed(func(r *wallet.Record) { r.PublicKey[0] = 4 }), "public key"},
		"key above p":       {changed(func(r *wallet.Record) { copy(r.PublicKey[1:], bytes.Repeat([]byte{0xff}, 32)) }), "public key"},
		"key of 32 bytes":   {bytes.Replace(good, []byte{0, 0, 0, 33, 2}, []byte{0, 0, 0, 32}, 1), ""},
		"no cluster":        {changed(func(r *wallet.Record) { r.Cluster = canon.Digest{} }), "missing"},
		"no charter":        {changed(func(r *wallet.Record) { r.Charter = canon.Digest{} }), "missing"},
		"no ceremony":       {changed(func(r *wallet.Record) { r.Ceremony = canon.Digest{} }), "missing"},
		"paths":             {changed(func(r *wallet.Record) { r.Paths = "m/*" }), "path rule"},
		"no paths":          {changed(func(r *wallet.Record) { r.Paths = "" }), "path rule"},
		"epoch 0":           {changed(func(r *wallet.Record) { r.Epoch = 0 }), "epoch"},
		"1 of 3":            {changed(func(r *wallet.Record) { r.Quorum.Need = 1 }), "quorum"},
		"4 of 3":            {changed(func(r *wallet.Record) { r.Quorum.Need = 4 }), "quorum"},
		"2 of 2^63":         {changed(func(r *wallet.Record) { r.Quorum.Of = 1 << 62 }), "at most 20"},
		"need negative":     {changed(func(r *wallet.Record) { r.Quorum.Need = -1 }), "at most 20"},
		"signers too few":   {changed(func(r *wallet.Record) { r.Signers = r.Signers[:2] }), "signers"},
		"signers unsorted":  {changed(func(r *wallet.Record) { slices.Reverse(r.Signers) }), "order"},
		"signer twice":      {changed(func(r *wallet.Record) { r.Signers[1] = "north" }), "twice"},
		"signer's name":     {changed(func(r *wallet.Record) { r.Signers[0] = "North" }), "signer name"},
		"signer empty":      {changed(func(r *wallet.Record) { r.Signers[0] = "" }), "signer name"},
		"signer not text":   {changed(func(r *wallet.Record) { r.Signers[0] = "\xff" }), ""},
		"21 signers":        {changed(func(r *wallet.Record) { r.Signers = make(party.Set, 21) }), "list"},
		"signer, 40 digits": {changed(func(r *wallet.Record) { r.Signers[2] = party.ID(strings.Repeat("z", 40)) }), "field"},
	} {
		if _, err := wallet.Parse(c.raw); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

func TestOpen(t *testing.T) {
	f := testcharter.New(t)
	want, signed := f.Wallet("treasury")
	got, err := signed.Open(f.Charter.Only())
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v, %v", got, err)
	}
	// Later versions have other signers; the record is verified under the one that it names.
	later := testcharter.New(t, func(c *charter.Charter) { c.Signers[2].Peer = testcharter.Identity(t, "mallory").ID() })
	both := func(d canon.Digest) (*charter.Charter, bool) {
		if d == later.Charter.Digest() {
			return later.Charter, true
		}
		return f.Charter.Only()(d)
	}
	if _, err := signed.Open(both); err != nil {
		t.Fatal(err)
	}
	// What the old signers sign in the new charter's name is not the new signers'.
	forged := *want
	forged.Charter = later.Charter.Digest()
	signed = wallet.Signed{Raw: forged.Encode(), Signatures: map[party.ID][]byte{}}
	for id, key := range f.Signers {
		signed.Signatures[id] = key.Sign(signed.Raw)
	}
	if _, err := signed.Open(both); err == nil || !strings.Contains(err.Error(), `"west"`) {
		t.Fatal(err)
	}
}

func TestOpenRefuses(t *testing.T) {
	f := testcharter.New(t)
	record, good := f.Wallet("treasury")
	// resign is a record that everybody in f signed, changed before.
	resign := func(change func(*wallet.Record)) wallet.Signed {
		r := *record
		r.Signers = slices.Clone(r.Signers)
		change(&r)
		s := wallet.Signed{Raw: r.Encode(), Signatures: map[party.ID][]byte{}}
		for _, id := range r.Signers {
			if key := f.Signers[id]; key != nil {
				s.Signatures[id] = key.Sign(s.Raw)
			}
		}
		return s
	}
	sigs := func(change func(map[party.ID][]byte)) wallet.Signed {
		m := maps.Clone(good.Signatures)
		change(m)
		return wallet.Signed{Raw: good.Raw, Signatures: m}
	}
	_, reserve := f.Wallet("reserve")
	flipped := bytes.Clone(good.Raw)
	flipped[len(flipped)-1] ^= 1
	mallory := testcharter.Identity(t, "mallory")
	for name, c := range map[string]struct {
		signed wallet.Signed
		want   string
	}{
		"empty":                 {wallet.Signed{}, "wallet record"},
		"no signatures":         {wallet.Signed{Raw: good.Raw}, "0 signatures"},
		"one missing":           {sigs(func(m map[party.ID][]byte) { delete(m, "west") }), "2 signatures"},
		"one empty":             {sigs(func(m map[party.ID][]byte) { m["west"] = nil }), `"west"`},
		"one cut":               {sigs(func(m map[party.ID][]byte) { m["west"] = m["west"][:63] }), `"west"`},
		"one of a stranger":     {sigs(func(m map[party.ID][]byte) { m["west"] = mallory.Sign(good.Raw) }), `"west"`},
		"one of another signer": {sigs(func(m map[party.ID][]byte) { m["west"] = m["north"] }), `"west"`},
		"one too many":          {sigs(func(m map[party.ID][]byte) { m["east"] = mallory.Sign(good.Raw) }), "4 signatures"},
		"renamed":               {sigs(func(m map[party.ID][]byte) { m["east"] = m["west"]; delete(m, "west") }), `"west"`},
		"of another record":     {wallet.Signed{Raw: good.Raw, Signatures: reserve.Signatures}, "does not verify"},
		"changed after":         {wallet.Signed{Raw: flipped, Signatures: good.Signatures}, "does not verify"},
		"another cluster":       {resign(func(r *wallet.Record) { r.Cluster[0]++ }), "cluster"},
		"another charter":       {resign(func(r *wallet.Record) { r.Charter[0]++ }), "never in force"},
		"an unlisted signer":    {resign(func(r *wallet.Record) { r.Signers[2] = "zenith" }), "needs all"},
		// Signed by all whom the record names, and by fewer than hold the wallets.
		"2 of 2": {resign(func(r *wallet.Record) {
			r.Signers, r.Quorum = party.Set{"north", "south"}, party.Quorum{Need: 2, Of: 2}
		}), "needs all"},
		"another quorum": {resign(func(r *wallet.Record) { r.Quorum.Need = 3 }), "needs all"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := c.signed.Open(f.Charter.Only())
			if err == nil || r != nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
		})
	}
	if _, err := good.Open(nil); err == nil {
		t.Fatal("opened without a charter")
	}
	// A version that was never in force makes no wallets.
	other := testcharter.New(t, func(c *charter.Charter) { c.Rules[0].MaxAmount[0] = "3 ETH" })
	if _, err := good.Open(other.Charter.Only()); err == nil || !strings.Contains(err.Error(), "never in force") {
		t.Fatal(err)
	}
}

func TestProto(t *testing.T) {
	f := testcharter.New(t)
	_, s := f.Wallet("treasury")
	p := s.ToProto()
	if len(p.Signatures) != 3 || p.Signatures[0].Name != "north" || p.Signatures[2].Name != "west" {
		t.Fatalf("%v", p)
	}
	back, err := wallet.FromProto(p)
	if err != nil || !reflect.DeepEqual(back, s) {
		t.Fatal(err)
	}
	north := &pb.NamedSignature{Name: "north", Signature: s.Signatures["north"]}
	for name, p := range map[string]*pb.SignedRecord{
		"nil": nil, "empty": {}, "no raw": {Signatures: p.Signatures}, "nil signature": {Raw: s.Raw, Signatures: []*pb.NamedSignature{nil}},
		"twice": {Raw: s.Raw, Signatures: []*pb.NamedSignature{north, north}},
	} {
		if _, err := wallet.FromProto(p); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(sample().Encode())
	r := sample()
	r.Quorum, r.Signers, r.Epoch = party.Quorum{Need: 2, Of: 2}, party.Set{"a", "b"}, 1<<64-1
	f.Add(r.Encode())
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := wallet.Parse(raw)
		if err != nil {
			return
		}
		if !bytes.Equal(r.Encode(), raw) || r.Digest() != canon.Sum(raw) {
			t.Fatalf("%x encodes to %x", raw, r.Encode())
		}
	})
}
