package intent_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"coffer/canon"
	"coffer/charter"
	"coffer/credential"
	"coffer/intent"
	"coffer/internal/testcharter"
	"coffer/party"
	"coffer/policy"
	pb "coffer/proto/coffer/v1"
)

const now = testcharter.Now

var update = flag.Bool("update", false, "write the golden files anew")

func digest(s string) canon.Digest { return canon.Sum([]byte(s)) }

// samples do not depend on any charter, so that golden bytes change only when the encoding does.
func samples() map[string]*intent.Intent {
	base := intent.Intent{
		Cluster: digest("cluster"), Charter: digest("charter"), Wallet: "treasury", NotBefore: now, Expires: now + 3600,
		Initiator: "dave", Reference: "INV-7", Salt: [16]byte{0: 1, 15: 16},
	}
	spend := base
	spend.Chain, spend.Account, spend.Nonce, spend.FeeCap = "dev", testcharter.Second, 5, big.NewInt(5e15)
	pay, cancel, create := spend, spend, base
	pay.Kind, pay.Transfer = intent.Transfer, &intent.TransferBody{Asset: "ETH", To: testcharter.Supplier, Amount: big.NewInt(15e17)}
	cancel.Kind, cancel.Cancel = intent.Cancel, &intent.CancelBody{Subject: digest("subject")}
	create.Kind, create.FeeCap = intent.CreateWallet, new(big.Int)
	create.CreateWallet = &intent.CreateWalletBody{Quorum: party.Quorum{Need: 2, Of: 3}, Signers: party.Set{"north", "south", "west"}}
	return map[string]*intent.Intent{"transfer": &pay, "cancel": &cancel, "create_wallet": &create}
}

func TestRoundTrip(t *testing.T) {
	for name, want := range samples() {
		got, err := intent.Parse(want.Encode())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !reflect.DeepEqual(got, want) || got.Digest() != want.Digest() || got.Digest().IsZero() {
			t.Fatalf("%s: %+v, want %+v", name, got, want)
		}
		if clone := want.Clone(); !reflect.DeepEqual(clone, want) {
			t.Fatalf("%s: clone %+v", name, clone)
		}
	}
	c := samples()["transfer"].Clone()
	c.Transfer.Amount.SetInt64(1)
	c.FeeCap.SetInt64(1)
	if reflect.DeepEqual(c, samples()["transfer"]) {
		t.Fatal("the clone shares numbers")
	}
}

func TestGolden(t *testing.T) {
	for name, i := range samples() {
		path := filepath.Join("testdata", name+".txt")
		got := fmt.Sprintf("%x\n%s\n", i.Encode(), i.Digest())
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s: the encoding changed:\n%s", name, got)
		}
	}
}

// Each field is in what is signed: changing any one changes the digest.
func TestDigestCoversEveryField(t *testing.T) {
	seen := map[canon.Digest]string{}
	note := func(name string, i *intent.Intent) {
		t.Helper()
		if err := i.Validate(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if before, dup := seen[i.Digest()]; dup {
			t.Fatalf("%s and %s have the same digest", name, before)
		}
		seen[i.Digest()] = name
	}
	for name, s := range samples() {
		note(name, s)
	}
	for name, change := range map[string]func(*intent.Intent){
		"cluster":   func(i *intent.Intent) { i.Cluster[31]++ },
		"charter":   func(i *intent.Intent) { i.Charter[31]++ },
		"wallet":    func(i *intent.Intent) { i.Wallet = "treasurz" },
		"chain":     func(i *intent.Intent) { i.Chain = "dew" },
		"account":   func(i *intent.Intent) { i.Account = testcharter.Supplier },
		"nonce":     func(i *intent.Intent) { i.Nonce++ },
		"fee cap":   func(i *intent.Intent) { i.FeeCap = big.NewInt(5e15 + 1) },
		"asset":     func(i *intent.Intent) { i.Transfer.Asset = "ETI" },
		"to":        func(i *intent.Intent) { i.Transfer.To = testcharter.Stranger },
		"amount":    func(i *intent.Intent) { i.Transfer.Amount = big.NewInt(15e17 + 1) },
		"begin":     func(i *intent.Intent) { i.NotBefore++ },
		"expires":   func(i *intent.Intent) { i.Expires++ },
		"initiator": func(i *intent.Intent) { i.Initiator = "davf" },
		"reference": func(i *intent.Intent) { i.Reference = "INV-8" },
		"salt":      func(i *intent.Intent) { i.Salt[15]++ },
	} {
		i := samples()["transfer"].Clone()
		change(i)
		note(name, i)
	}
	i := samples()["cancel"].Clone()
	i.Cancel.Subject[0]++
	note("subject", i)
	i = samples()["create_wallet"].Clone()
	i.CreateWallet.Quorum.Need = 3
	note("need", i)
	i = samples()["create_wallet"].Clone()
	i.CreateWallet.Signers[0] = "morth"
	note("signers", i)
}

func TestValidate(t *testing.T) {
	type change func(*intent.Intent)
	huge := new(big.Int).Lsh(big.NewInt(1), 256)
	cases := map[string]struct {
		of   string
		do   change
		want string
	}{
		"no cluster":           {"transfer", func(i *intent.Intent) { i.Cluster = canon.Digest{} }, "cluster"},
		"no charter":           {"transfer", func(i *intent.Intent) { i.Charter = canon.Digest{} }, "charter"},
		"kind":                 {"transfer", func(i *intent.Intent) { i.Kind = "call" }, "kind"},
		"kind empty":           {"transfer", func(i *intent.Intent) { i.Kind = "" }, "kind"},
		"kind of another body": {"transfer", func(i *intent.Intent) { i.Kind = intent.Cancel }, "body"},
		"no body":              {"transfer", func(i *intent.Intent) { i.Transfer = nil }, "bodies"},
		"two bodies":           {"transfer", func(i *intent.Intent) { i.Cancel = &intent.CancelBody{Subject: digest("x")} }, "bodies"},
		"create body, kind":    {"create_wallet", func(i *intent.Intent) { i.Kind = intent.Transfer }, "body"},
		"cancel body, kind":    {"cancel", func(i *intent.Intent) { i.Kind = intent.CreateWallet }, "body"},
		"wallet empty":         {"transfer", func(i *intent.Intent) { i.Wallet = "" }, "wallet"},
		"wallet capital":       {"transfer", func(i *intent.Intent) { i.Wallet = "Treasury" }, "wallet"},
		"wallet cyrillic":      {"transfer", func(i *intent.Intent) { i.Wallet = "treаsury" }, "wallet"},
		"path":                 {"transfer", func(i *intent.Intent) { i.Path = "m/0" }, "path"},
		"path root":            {"transfer", func(i *intent.Intent) { i.Path = "m" }, "path"},
		"chain empty":          {"transfer", func(i *intent.Intent) { i.Chain = "" }, "chain"},
		"account empty":        {"transfer", func(i *intent.Intent) { i.Account = "" }, "account"},
		"account spaces":       {"transfer", func(i *intent.Intent) { i.Account += " " }, "account"},
		"account long":         {"transfer", func(i *intent.Intent) { i.Account = strings.Repeat("a", 129) }, "account"},
		"last nonce":           {"transfer", func(i *intent.Intent) { i.Nonce = math.MaxUint64 }, "nonce"},
		"fee nil":              {"transfer", func(i *intent.Intent) { i.FeeCap = nil }, "fee cap"},
		"fee zero":             {"transfer", func(i *intent.Intent) { i.FeeCap = new(big.Int) }, "fee cap"},
		"fee negative":         {"transfer", func(i *intent.Intent) { i.FeeCap = big.NewInt(-1) }, "fee cap"},
		"fee huge":             {"transfer", func(i *intent.Intent) { i.FeeCap = huge }, "fee cap"},
		"asset empty":          {"transfer", func(i *intent.Intent) { i.Transfer.Asset = "" }, "asset"},
		"asset space":          {"transfer", func(i *intent.Intent) { i.Transfer.Asset = "E H" }, "asset"},
		"asset unicode":        {"transfer", func(i *intent.Intent) { i.Transfer.Asset = "ΕTH" }, "asset"},
		"to empty":             {"transfer", func(i *intent.Intent) { i.Transfer.To = "" }, "destination"},
		"to newline":           {"transfer", func(i *intent.Intent) { i.Transfer.To += "\n" }, "destination"},
		"to right to left":     {"transfer", func(i *intent.Intent) { i.Transfer.To = "0x\u202e00" }, "destination"},
		"amount nil":           {"transfer", func(i *intent.Intent) { i.Transfer.Amount = nil }, "amount"},
		"amount zero":          {"transfer", func(i *intent.Intent) { i.Transfer.Amount = new(big.Int) }, "amount"},
		"amount negative":      {"transfer", func(i *intent.Intent) { i.Transfer.Amount = big.NewInt(-5) }, "amount"},
		"amount huge":          {"transfer", func(i *intent.Intent) { i.Transfer.Amount = huge }, "amount"},
		"begin negative":       {"transfer", func(i *intent.Intent) { i.NotBefore = -1 }, "not-before"},
		"begin minimum":        {"transfer", func(i *intent.Intent) { i.NotBefore, i.Expires = math.MinInt64, math.MaxInt64 }, "not-before"},
		"expires far":          {"transfer", func(i *intent.Intent) { i.NotBefore, i.Expires = math.MaxInt64-1, math.MaxInt64 }, "expires"},
		"expires at once":      {"transfer", func(i *intent.Intent) { i.Expires = i.NotBefore }, "expires"},
		"expires before":       {"transfer", func(i *intent.Intent) { i.Expires = i.NotBefore - 1 }, "expires"},
		"31 days":              {"transfer", func(i *intent.Intent) { i.Expires = i.NotBefore + intent.MaxLifetime + 1 }, "30 days"},
		"initiator empty":      {"transfer", func(i *intent.Intent) { i.Initiator = "" }, "initiator"},
		"initiator space":      {"transfer", func(i *intent.Intent) { i.Initiator = "dave " }, "initiator"},
		"reference empty":      {"transfer", func(i *intent.Intent) { i.Reference = "" }, "reference"},
		"reference long":       {"transfer", func(i *intent.Intent) { i.Reference = strings.Repeat("x", intent.MaxReference+1) }, "reference"},
		"reference escape":     {"transfer", func(i *intent.Intent) { i.Reference = "\x1b[2J" }, "reference"},
		"reference spaces":     {"transfer", func(i *intent.Intent) { i.Reference = "INV-7 " }, "reference"},
		"subject zero":         {"cancel", func(i *intent.Intent) { i.Cancel.Subject = canon.Digest{} }, "subject"},
		"cancel no account":    {"cancel", func(i *intent.Intent) { i.Account = "" }, "account"},
		"cancel no fee":        {"cancel", func(i *intent.Intent) { i.FeeCap = nil }, "fee cap"},
		"create with chain":    {"create_wallet", func(i *intent.Intent) { i.Chain = "dev" }, "must be empty"},
		"create with account":  {"create_wallet", func(i *intent.Intent) { i.Account = testcharter.Second }, "must be empty"},
		"create with nonce":    {"create_wallet", func(i *intent.Intent) { i.Nonce = 1 }, "must be empty"},
		"create with fee":      {"create_wallet", func(i *intent.Intent) { i.FeeCap = big.NewInt(1) }, "must be empty"},
		"1 of 3":               {"create_wallet", func(i *intent.Intent) { i.CreateWallet.Quorum.Need = 1 }, "quorum"},
		"2 of 4":               {"create_wallet", func(i *intent.Intent) { i.CreateWallet.Quorum.Of = 4 }, "quorum"},
		"quorum negative":      {"create_wallet", func(i *intent.Intent) { i.CreateWallet.Quorum = party.Quorum{Need: -1, Of: -1} }, "quorum"},
		"a signer less":        {"create_wallet", func(i *intent.Intent) { i.CreateWallet.Signers = i.CreateWallet.Signers[:2] }, "signers"},
		"signer twice":         {"create_wallet", func(i *intent.Intent) { i.CreateWallet.Signers[1] = "north" }, "signers"},
		"signers unsorted":     {"create_wallet", func(i *intent.Intent) { i.CreateWallet.Signers = party.Set{"south", "north", "west"} }, "signers"},
		"signer's name":        {"create_wallet", func(i *intent.Intent) { i.CreateWallet.Signers[2] = "WEST" }, "signers"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			i := samples()[c.of].Clone()
			c.do(i)
			err := i.Validate()
			if !errors.Is(err, intent.ErrMalformed) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want mention of %q", err, c.want)
			}
			if i.Encode() != nil || !i.Digest().IsZero() {
				t.Fatal("what does not validate was encoded")
			}
			if _, err := intent.Sign(i, testcharter.SSH(t, "dave")); err == nil {
				t.Fatal("signed")
			}
		})
	}
	var none *intent.Intent
	if none.Validate() == nil || none.Encode() != nil || !none.Digest().IsZero() || none.Clone() != nil {
		t.Fatal("nil")
	}
}

func TestParseRefuses(t *testing.T) {
	for name, s := range samples() {
		good := s.Encode()
		for n := range good {
			if _, err := intent.Parse(good[:n]); !errors.Is(err, intent.ErrMalformed) {
				t.Fatalf("%s: first %d bytes: %v", name, n, err)
			}
		}
		if _, err := intent.Parse(append(bytes.Clone(good), 0)); !errors.Is(err, intent.ErrMalformed) {
			t.Fatalf("%s: trailing byte: %v", name, err)
		}
	}
	good := samples()["transfer"].Encode()
	head := func() *canon.Encoder {
		return canon.New(intent.Domain).Digest(digest("cluster")).Digest(digest("charter")).String("transfer").
			String("treasury").String("").String("dev").String(testcharter.Second).Uint64(5)
	}
	tail := func(e *canon.Encoder, salt int) []byte {
		return e.String("ETH").String(testcharter.Supplier).Big(big.NewInt(1)).Time(now).Time(now + 1).String("dave").String("INV-7").Bytes(make([]byte, salt)).Encoded()
	}
	if _, err := intent.Parse(tail(head().Big(big.NewInt(1)), 16)); err != nil {
		t.Fatalf("the frame of this test is wrong: %v", err)
	}
	for name, raw := range map[string][]byte{
		"domain":         bytes.Replace(good, []byte("intent/v1"), []byte("intent/v2"), 1),
		"statement":      bytes.Replace(good, []byte("coffer/intent/v1"), []byte("coffer/sttmnt/v1"), 1),
		"huge":           make([]byte, intent.MaxRaw+1),
		"leading zero":   tail(head().Bytes([]byte{0, 1}), 16),
		"33 byte number": tail(head().Bytes(bytes.Repeat([]byte{1}, 33)), 16),
		"short salt":     tail(head().Big(big.NewInt(1)), 15),
		"long salt":      tail(head().Big(big.NewInt(1)), 17),
		"unknown kind":   bytes.Replace(good, []byte("transfer"), []byte("transfes"), 1),
		"huge length":    bytes.Replace(good, []byte{0, 0, 0, 8, 't', 'r', 'e'}, []byte{255, 255, 255, 255, 't', 'r', 'e'}, 1),
	} {
		if _, err := intent.Parse(raw); !errors.Is(err, intent.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOpen(t *testing.T) {
	f := testcharter.New(t)
	for name, want := range map[string]*intent.Intent{
		"payment": f.Payment(now), "cancel": f.Cancel(now, f.Payment(now)), "wallet": f.CreateWallet(now, "reserve"),
	} {
		got, who, err := f.Sign(t, want).Open(f.Charter)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !reflect.DeepEqual(got, want) || who.Name != "dave" || who.Org != "exchange" || who.Service || who.Key != f.People["dave"].Key() ||
			!reflect.DeepEqual(who.Groups, []string{"initiators"}) {
			t.Fatalf("%s: %+v by %+v", name, got, who)
		}
	}
	service := f.Payment(now)
	service.Initiator = "payroll"
	if _, who, err := f.Sign(t, service).Open(f.Charter); err != nil || !who.Service || who.Groups != nil || who.Org != "exchange" {
		t.Fatalf("service: %+v, %v", who, err)
	}
	second := f.Payment(now)
	second.Initiator = "bob"
	signed, err := intent.Sign(second, f.Spare["bob"])
	if err != nil {
		t.Fatal(err)
	}
	if _, who, err := signed.Open(f.Charter); err != nil || who.Key != f.Spare["bob"].Key() {
		t.Fatalf("second key: %+v, %v", who, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	f := testcharter.New(t)
	good := f.Sign(t, f.Payment(now))
	by := func(key credential.Signer, change func(*intent.Intent)) intent.Signed {
		i := f.Payment(now)
		change(i)
		s, err := intent.Sign(i, key)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	same := func(*intent.Intent) {}
	raw := func(ns string, message []byte) intent.Signed {
		sig, err := f.People["dave"].Sign(ns, message)
		if err != nil {
			t.Fatal(err)
		}
		return intent.Signed{Raw: good.Raw, Signature: sig}
	}
	sum := canon.Sum(good.Raw)
	flipped := bytes.Clone(good.Raw)
	flipped[len(flipped)-1] ^= 1
	dearer := f.Payment(now)
	dearer.Transfer.Amount = big.NewInt(16e17)
	for name, c := range map[string]struct {
		signed intent.Signed
		want   error
	}{
		"empty":               {intent.Signed{}, intent.ErrMalformed},
		"no raw":              {intent.Signed{Signature: good.Signature}, intent.ErrMalformed},
		"no signature":        {intent.Signed{Raw: good.Raw}, intent.ErrSignature},
		"garbage signature":   {intent.Signed{Raw: good.Raw, Signature: []byte("yes")}, intent.ErrSignature},
		"salt flipped":        {intent.Signed{Raw: flipped, Signature: good.Signature}, intent.ErrSignature},
		"other amount":        {intent.Signed{Raw: dearer.Encode(), Signature: good.Signature}, intent.ErrSignature},
		"namespace statement": {raw("coffer-statement-v1", sum[:]), intent.ErrSignature},
		"namespace file":      {raw("file", sum[:]), intent.ErrSignature},
		"raw signed":          {raw(intent.Namespace, good.Raw), intent.ErrSignature},
		"hex signed":          {raw(intent.Namespace, []byte(sum.String())), intent.ErrSignature},
		"key of another":      {by(f.People["alice"], same), intent.ErrSignature},
		"key of a service":    {by(f.Services["payroll"], same), intent.ErrSignature},
		"key of nobody":       {by(testcharter.SSH(t, "mallory"), same), intent.ErrSignature},
		"service, dave's key": {by(f.People["dave"], func(i *intent.Intent) { i.Initiator = "payroll" }), intent.ErrSignature},
		"stranger":            {by(f.People["dave"], func(i *intent.Intent) { i.Initiator = "mallory" }), intent.ErrInitiator},
		"a signer's name":     {by(f.People["dave"], func(i *intent.Intent) { i.Initiator = "north" }), intent.ErrInitiator},
		"other cluster":       {by(f.People["dave"], func(i *intent.Intent) { i.Cluster[0]++ }), intent.ErrCluster},
		"other charter":       {by(f.People["dave"], func(i *intent.Intent) { i.Charter[0]++ }), intent.ErrCharter},
	} {
		t.Run(name, func(t *testing.T) {
			i, who, err := c.signed.Open(f.Charter)
			if !errors.Is(err, c.want) || i != nil || who.Name != "" {
				t.Fatalf("got %v, %+v, %v; want %v", i, who, err, c.want)
			}
		})
	}
	// The same people in another version: what they signed under the first is not theirs under the second.
	next := testcharter.New(t, func(c *charter.Charter) { c.Rules[0].MaxAmount[0] = "20 ETH" })
	if _, _, err := good.Open(next.Charter); !errors.Is(err, intent.ErrCharter) {
		t.Fatal(err)
	}
	without := testcharter.New(t, func(c *charter.Charter) { c.People[3].Name = "erin" })
	i := without.Payment(now)
	signed, err := intent.Sign(i, f.People["dave"])
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := signed.Open(without.Charter); !errors.Is(err, intent.ErrInitiator) {
		t.Fatal(err)
	}
}

// A service that only reads asks for nothing.
func TestReadersAskForNothing(t *testing.T) {
	f := testcharter.New(t, func(c *charter.Charter) { c.Services[0].Role = "reader" })
	i := f.Payment(now)
	i.Initiator = "payroll"
	if _, _, err := f.Sign(t, i).Open(f.Charter); !errors.Is(err, intent.ErrInitiator) {
		t.Fatal(err)
	}
	if _, err := intent.Facts(i, f.Charter, nil, now); !errors.Is(err, intent.ErrInitiator) {
		t.Fatal(err)
	}
}

// An intent is opened under the version that it names, and under no other.
func TestOpenUnder(t *testing.T) {
	f := testcharter.New(t)
	next := testcharter.New(t, func(c *charter.Charter) {
		c.Name = "next"
		c.People = slices.DeleteFunc(c.People, func(p charter.Person) bool { return p.Name == "dave" })
	})
	both := func(d canon.Digest) (*charter.Charter, bool) {
		if c, ok := f.Charter.Only()(d); ok {
			return c, true
		}
		return next.Charter.Only()(d)
	}
	old := f.Sign(t, f.Payment(now))
	i, who, c, err := old.OpenUnder(both)
	if err != nil || c != f.Charter || who.Name != "dave" || i.Charter != f.Charter.Digest() {
		t.Fatalf("%+v, %v", who, err)
	}
	// Who has left the newer version asks for nothing under it.
	late := next.Payment(now)
	if _, _, _, err := f.Sign(t, late).OpenUnder(both); !errors.Is(err, intent.ErrInitiator) {
		t.Fatal(err)
	}
	if _, _, _, err := old.OpenUnder(next.Charter.Only()); !errors.Is(err, intent.ErrCharter) {
		t.Fatal(err)
	}
	if _, _, _, err := (intent.Signed{}).OpenUnder(both); !errors.Is(err, intent.ErrMalformed) {
		t.Fatal(err)
	}
	if _, err := intent.Enrolled(next.Charter, "dave", who.Key); !errors.Is(err, intent.ErrInitiator) {
		t.Fatal(err)
	}
	if _, err := intent.Enrolled(f.Charter, "bob", who.Key); !errors.Is(err, intent.ErrSignature) {
		t.Fatal(err)
	}
	if _, err := intent.Enrolled(f.Charter, "bob", f.Spare["bob"].Key()); err != nil {
		t.Fatal(err)
	}
}

func TestFacts(t *testing.T) {
	f := testcharter.New(t)
	i := f.TokenPayment(now)
	got, err := intent.Facts(i, f.Charter, nil, now)
	if err != nil {
		t.Fatal(err)
	}
	if got.Kind != "transfer" || got.Asset != "USDC" || got.To != testcharter.Supplier || got.Amount.Cmp(i.Transfer.Amount) != 0 || got.FeeCap.Cmp(i.FeeCap) != 0 ||
		got.Now != now || got.NotBefore != i.NotBefore || got.Expires != i.Expires || got.Wallet != "treasury" || got.Chain != "dev" || got.InitiatorOrg != "exchange" || got.InitiatorService || !slices.Equal(got.InitiatorGroups, []string{"initiators"}) || got.Reference != "INV-7" {
		t.Fatalf("%+v", got)
	}
	got.Amount.SetInt64(1)
	got.InitiatorGroups[0] = "x"
	if i.Transfer.Amount.Cmp(big.NewInt(1)) == 0 {
		t.Fatal("the facts share memory with the intent")
	}
	if p, _ := f.Charter.Person("dave"); p.Groups[0] == "x" {
		t.Fatal("the facts share memory with the charter")
	}
	cancel, err := intent.Facts(f.Cancel(now, i), f.Charter, nil, now)
	if err != nil || cancel.Amount != nil || cancel.Asset != "" || cancel.To != "" || cancel.FeeCap == nil {
		t.Fatalf("%+v, %v", cancel, err)
	}
	create, err := intent.Facts(f.CreateWallet(now, "reserve"), f.Charter, nil, now)
	if err != nil || create.Wallet != "reserve" || create.Amount != nil || create.FeeCap != nil {
		t.Fatalf("%+v, %v", create, err)
	}

	wrong := strings.ToLower(testcharter.Supplier)
	swapped := "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAeD"
	for name, c := range map[string]struct {
		do   func(*intent.Intent)
		want string
	}{
		"chain":              {func(i *intent.Intent) { i.Chain = "main" }, "chain"},
		"asset":              {func(i *intent.Intent) { i.Transfer.Asset = "DAI" }, "asset"},
		"asset's case":       {func(i *intent.Intent) { i.Transfer.Asset = "usdc" }, "asset"},
		"to no checksum":     {func(i *intent.Intent) { i.Transfer.To = wrong }, "destination"},
		"to wrong checksum":  {func(i *intent.Intent) { i.Transfer.To = swapped }, "destination"},
		"to short":           {func(i *intent.Intent) { i.Transfer.To = testcharter.Supplier[:41] }, "destination"},
		"to a name":          {func(i *intent.Intent) { i.Transfer.To = "supplier" }, "destination"},
		"account's checksum": {func(i *intent.Intent) { i.Account = strings.ToLower(i.Account) }, "account"},
		"malformed":          {func(i *intent.Intent) { i.Wallet = "" }, "wallet"},
		"initiator":          {func(i *intent.Intent) { i.Initiator = "mallory" }, "mallory"},
	} {
		i := f.Payment(now)
		c.do(i)
		if _, err := intent.Facts(i, f.Charter, nil, now); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
	w := f.CreateWallet(now, "reserve")
	w.CreateWallet.Signers[2] = "zenith"
	if _, err := intent.Facts(w, f.Charter, nil, now); !errors.Is(err, intent.ErrUnknown) {
		t.Errorf("unknown signer: %v", err)
	}
}

// An approver reads what keepers call an address, and that nobody does.
func TestDescribeKeptLists(t *testing.T) {
	f := testcharter.New(t, testcharter.Lists)
	i := f.Payment(now)
	i.Transfer.To = testcharter.Stranger
	entry := []policy.Destination{{Chain: i.Chain, Address: testcharter.Stranger, Label: "the tea house"}}
	for _, c := range []struct {
		held map[string]charter.ListState
		want string
	}{
		{nil, " (on no list that the charter fixes)"},
		{map[string]charter.ListState{}, " (on no list)"},
		{map[string]charter.ListState{"staff": {Version: 1, Entries: entry}}, " (the tea house)"},
		{map[string]charter.ListState{"staff": {Version: 1, Entries: entry}, "banned": {Version: 1, Entries: entry}}, " (SANCTIONED by list banned: the tea house)"},
	} {
		lines := intent.Describe(i, f.Charter, c.held)
		if got := lines[1]; got.Label != "to" || got.Value != testcharter.Stranger+c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

func TestDescribe(t *testing.T) {
	f := testcharter.New(t)
	text := func(i *intent.Intent) string {
		var b strings.Builder
		for _, l := range intent.Describe(i, f.Charter, nil) {
			fmt.Fprintf(&b, "%s: %s\n", l.Label, l.Value)
		}
		return b.String()
	}
	pay, token, create := f.Payment(now), f.TokenPayment(now), f.CreateWallet(now, "reserve")
	cancel := f.Cancel(now, pay)
	unknown := f.Payment(now)
	unknown.Chain, unknown.Transfer.Asset, unknown.Initiator, unknown.Transfer.To = "moon", "CHEESE", "mallory", testcharter.Stranger
	service := f.Payment(now)
	service.Initiator = "payroll"
	broken := f.Payment(now)
	broken.Reference = "\x1b"
	for name, c := range map[string]struct {
		i    *intent.Intent
		want []string
	}{
		"payment": {pay, []string{"pay: 1.5 ETH\n", testcharter.Supplier + " (coffee supplier)", "at most 0.005 ETH", "chain ID 1337", "nonce: 5", "dave (of exchange)",
			"INV-7", "2027-01-15 07:59:00 UTC", testcharter.Account(testcharter.Wallet), pay.Digest().String(), f.Charter.Digest().String()}},
		"token":   {token, []string{"pay: 250 USDC (token " + testcharter.USDC + ")"}},
		"cancel":  {cancel, []string{"cancel: intent " + pay.Digest().String(), "0 to the account itself", "nonce: 5"}},
		"create":  {create, []string{"create wallet: reserve", "quorum: 2-of-3", "north, south, west"}},
		"unknown": {unknown, []string{"moon (NOT IN THE CHARTER)", "1500000000000000000 smallest units of CHEESE", "mallory (NOT IN THE CHARTER)", testcharter.Stranger + " (on no list"}},
		"service": {service, []string{"payroll (a service of exchange)"}},
		"broken":  {broken, []string{"error: "}},
	} {
		got := text(c.i)
		for _, want := range c.want {
			if !strings.Contains(got, want) {
				t.Errorf("%s: no %q in\n%s", name, want, got)
			}
		}
		for _, r := range got {
			if r != '\n' && (r < 0x20 || r > 0x7e) {
				t.Errorf("%s: prints %q", name, r)
			}
		}
	}
}

func TestProtoAndJSON(t *testing.T) {
	f := testcharter.New(t)
	s := f.Sign(t, f.Payment(now))
	back, err := intent.FromProto(s.ToProto())
	if err != nil || !reflect.DeepEqual(back, s) {
		t.Fatal(err)
	}
	for name, m := range map[string]*pb.SignedMessage{
		"nil": nil, "empty": {}, "no signature": {Raw: s.Raw}, "no raw": {Signature: s.Signature},
		"huge raw": {Raw: make([]byte, intent.MaxRaw+1), Signature: s.Signature}, "huge signature": {Raw: s.Raw, Signature: make([]byte, credential.MaxSignature+1)},
	} {
		if _, err := intent.FromProto(m); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var again intent.Signed
	if err := json.Unmarshal(b, &again); err != nil || !reflect.DeepEqual(again, s) {
		t.Fatal(err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range samples() {
		f.Add(s.Encode())
	}
	if b, err := hex.DecodeString("00000010636f666665722f696e74656e742f7631"); err == nil {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		i, err := intent.Parse(raw)
		if err != nil {
			return
		}
		if !bytes.Equal(i.Encode(), raw) || i.Digest() != canon.Sum(raw) {
			t.Fatalf("%x encodes to %x", raw, i.Encode())
		}
	})
}
