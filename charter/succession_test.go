package charter_test

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"coffer/canon"
	"coffer/charter"
	"coffer/credential"
	"coffer/policy"
)

func TestSucceeds(t *testing.T) {
	old := rich(t)
	next := edited(t, old, func(c *charter.Charter) { c.Coordinators = c.Coordinators[:1] })
	if err := next.Succeeds(old); err != nil {
		t.Fatal(err)
	}
	third := edited(t, next, func(*charter.Charter) {})
	if err := third.Succeeds(next); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		after *charter.Charter
		edit  func(c *charter.Charter)
	}{
		"itself":          {next, func(*charter.Charter) {}},
		"another cluster": {old, func(c *charter.Charter) { c.Cluster[31]++ }},
		"another name":    {old, func(c *charter.Charter) { c.Name = "demo2" }},
		"the same number": {old, func(c *charter.Charter) { c.Version = 1 }},
		"a gap":           {old, func(c *charter.Charter) { c.Version = 3 }},
		"a lower number":  {third, func(c *charter.Charter) { c.Previous = third.Digest() }},
		"another before":  {old, func(c *charter.Charter) { c.Previous = canon.Digest{1} }},
		"no predecessor":  {old, func(c *charter.Charter) { c.Previous = canon.Digest{} }},
	} {
		t.Run(name, func(t *testing.T) {
			bad, err := next.Clone()
			if err != nil {
				t.Fatal(err)
			}
			c.edit(bad)
			if err := bad.Succeeds(c.after); !errors.Is(err, charter.ErrSuccession) {
				t.Errorf("%v", err)
			}
		})
	}
}

// Whoever is new proves their key, and nobody else brings a card.
func TestVerifyCards(t *testing.T) {
	w := newWorld(t)
	old := w.file(t).Charter
	frank, second, moved := signer(t, 60), signer(t, 61), seeded(t, 62)
	next := edited(t, old, func(c *charter.Charter) {
		c.People = append(c.People, charter.Person{Name: "frank", Org: "umbra", Keys: []credential.Key{frank.Key()}})
		c.People[0].Keys = append(c.People[0].Keys, second.Key())
		c.Signers[1].Peer = moved.ID()
		// Alice's old key becomes the service's: it needs a card as that.
		c.Services[0].Key, c.People[0].Keys = c.People[0].Keys[0], c.People[0].Keys[1:]
	})
	var want []string
	for _, card := range next.NewKeys(old) {
		want = append(want, card.Kind+" "+card.Name)
	}
	if got := strings.Join(want, ", "); got != "signer b, person alice, person frank, service erp" {
		t.Fatalf("new keys: %s", got)
	}
	line := func(s string, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	at := charter.Places{P2P: []string{"/ip4/127.0.0.1/tcp/4001"}, GRPC: "127.0.0.1:7001", Orders: "127.0.0.1:7002"}
	cards := []string{
		line(charter.NewSignerCard(moved, "b", "acme", at)),
		line(charter.NewPersonCard(second, "alice", "acme")),
		line(charter.NewPersonCard(frank, "frank", "umbra")),
		line(charter.NewServiceCard(w.people["alice"], "erp", "acme")),
	}
	if err := charter.VerifyCards(next, old, cards); err != nil {
		t.Fatal(err)
	}
	if err := charter.VerifyCards(old, nil, w.cards); err != nil {
		t.Fatal(err)
	}
	with := func(i int, card string) []string {
		out := slices.Clone(cards)
		out[i] = card
		return out
	}
	for name, bad := range map[string][]string{
		"none":            nil,
		"one missing":     cards[1:],
		"one twice":       append(slices.Clone(cards), cards[0]),
		"an old key's":    append(slices.Clone(cards), w.cards[0]),
		"frank elsewhere": with(2, line(charter.NewPersonCard(frank, "frank", "acme"))),
		"another's name":  with(2, line(charter.NewPersonCard(frank, "carol", "umbra"))),
		"a second signer": append(slices.Clone(cards), line(charter.NewSignerCard(moved, "b", "acme", charter.Places{P2P: at.P2P, GRPC: "127.0.0.1:9"}))),
		"as a person":     with(3, w.cards[4]),
		"no card":         with(0, "coffer-card-v1:AAAA"),
	} {
		if err := charter.VerifyCards(next, old, bad); !errors.Is(err, charter.ErrCard) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Each byte of each card counts.
	for n, card := range cards {
		for i := range len(card) {
			altered := []byte(card)
			altered[i] ^= 1
			if err := charter.VerifyCards(next, old, with(n, string(altered))); err == nil {
				t.Errorf("card %d, byte %d altered: accepted", n, i)
			}
		}
	}
}

func TestParseJSON(t *testing.T) {
	c := rich(t)
	raw := marshal(t, c)
	read, err := charter.ParseJSON(raw)
	if err != nil || read.Digest() != c.Digest() {
		t.Fatalf("it reads back as another: %v", err)
	}
	for name, text := range map[string]string{
		"unknown field": strings.Replace(string(raw), `"veto"`, `"vetos"`, 1),
		"twice":         strings.Replace(string(raw), `"veto"`, `"name"`, 1),
		"more behind":   string(raw) + "{}",
		"empty":         "",
	} {
		if _, err := charter.ParseJSON([]byte(text)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"": 0, "1s": time.Second, "90m": 90 * time.Minute, "24h": 24 * time.Hour, "30d": charter.MaxDelay, "720h": charter.MaxDelay,
	} {
		if got, err := charter.ParseDuration(text); err != nil || got != want {
			t.Errorf("%q is %s, %v", text, got, err)
		}
	}
	for _, text := range []string{"0s", "0", "1", "h", " 1h", "1h ", "01h", "+1h", "-1h", "1.5h", "1h30m", "1ms", "1H", "31d", "721h", "2592001s", "99999999999999999999d", "4294967296s", "١h", "1\u0127"} {
		if got, err := charter.ParseDuration(text); err == nil {
			t.Errorf("%q is %s", text, got)
		}
	}
}

func TestDefaults(t *testing.T) {
	c := rich(t)
	if heads, within := c.Fresh(); heads != 1 || within != time.Minute {
		t.Errorf("%d heads within %s", heads, within)
	}
	c.Freshness = nil
	c.Quorum.Need, c.Quorum.Of = 3, 5
	if heads, within := c.Fresh(); heads != 2 || within != time.Minute {
		t.Errorf("by default %d heads within %s", heads, within)
	}
	if c.Admin.Wait(false) != 48*time.Hour || c.Admin.Wait(true) != time.Hour || (charter.AdminRule{}).Wait(false) != 0 {
		t.Error("the delays are others")
	}
	for name, want := range map[string]bool{"carol": true, "erin": true, "alice": false, "nobody": false, "erp": false} {
		if c.MayVeto(name) != want {
			t.Errorf("%s may veto: %t", name, !want)
		}
	}
	for name, want := range map[string]bool{"erp": true, "shop": false} {
		if s, ok := c.Service(name); !ok || s.Initiates() != want {
			t.Errorf("service %s asks: %t", name, !want)
		}
	}
}

func TestLists(t *testing.T) {
	c := rich(t)
	entry := policy.Destination{Chain: "sepolia", Address: paper, Label: "held"}
	held := func(issued int64) map[string]charter.ListState {
		s := charter.ListState{Version: 7, Issued: issued, Entries: []policy.Destination{entry}}
		return map[string]charter.ListState{"suppliers": s, "staff": s, "banned": s, "unheard-of": s}
	}
	const day = 24 * 3600
	for name, x := range map[string]struct {
		held  map[string]charter.ListState
		stale map[string]string // a word of why
	}{
		"never issued":    {nil, map[string]string{"staff": "no version", "banned": "no version"}},
		"fresh":           {held(now - day), map[string]string{}},
		"a second late":   {held(now - day - 1), map[string]string{"banned": "counts for 24h"}},
		"a week and more": {held(now - 7*day - 1), map[string]string{"staff": "counts for 7d", "banned": "counts for 24h"}},
		"clocks differ":   {held(now + 300), map[string]string{}},
		"from the future": {held(now + 301), map[string]string{"staff": "future", "banned": "future"}},
		"before time":     {held(math.MinInt64), map[string]string{"staff": "counts for", "banned": "counts for"}},
	} {
		got := c.Lists(x.held, now)
		if len(got) != 3 {
			t.Fatalf("%s: %d lists", name, len(got))
		}
		for list, l := range got {
			why, stale := x.stale[list]
			if stale != (l.Stale != "") || !strings.Contains(l.Stale, why) {
				t.Errorf("%s: list %s is stale: %q", name, list, l.Stale)
			}
			// The charter's own list does not change, whoever signed another.
			kept := list != "suppliers" && x.held != nil
			if (l.Version == 7) != kept || slices.Contains(l.Entries, entry) != kept {
				t.Errorf("%s: list %s is %+v", name, list, l)
			}
			if l.Kept != (list != "suppliers") || (l.Kind == policy.ListSanctions) != (list == "banned") {
				t.Errorf("%s: list %s is %+v", name, list, l)
			}
		}
	}
	c.Destinations[1].MaxAge = ""
	if l := c.Lists(nil, now)["staff"]; l.Stale != "" || l.Version != 0 {
		t.Errorf("without a max_age: %+v", l)
	}
}
