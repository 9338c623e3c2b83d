package charter_test

import (
	"slices"
	"strings"
	"testing"

	"coffer/charter"
	"coffer/policy"
)

func TestCardsAreOneLine(t *testing.T) {
	w := newWorld(t)
	for _, line := range w.cards {
		if !strings.HasPrefix(line, "coffer-card-v1:") || strings.ContainsAny(line, "\r\n\t ") {
			t.Errorf("card is %q", line)
		}
		if _, err := charter.ParseCard(line); err != nil {
			t.Error(err)
		}
	}
}

// No character of a card can be altered, left out or added.
func TestParseCardRefuses(t *testing.T) {
	w := newWorld(t)
	for _, line := range w.cards {
		for i := range line {
			b := []byte(line)
			if b[i] == 'A' {
				b[i] = 'B'
			} else {
				b[i] = 'A'
			}
			if _, err := charter.ParseCard(string(b)); err == nil {
				t.Fatalf("parses with character %d altered", i)
			}
		}
		for _, other := range []string{"", "coffer-card-v1:", line[:len(line)-4], line + "AAAA", line + "=", " " + line, line + "\n", strings.ToUpper(line),
			strings.Replace(line, "coffer-card-v1:", "coffer-card-v2:", 1), line + line, strings.TrimPrefix(line, "coffer-card-v1:")} {
			if _, err := charter.ParseCard(other); err == nil {
				t.Errorf("parses %.60q", other)
			}
		}
	}
	if _, err := charter.ParseCard("coffer-card-v1:" + strings.Repeat("A", 4<<20)); err == nil {
		t.Error("4 MiB parse")
	}
}

func TestNewCardRefuses(t *testing.T) {
	w := newWorld(t)
	k, p := w.signers["a"], w.people["alice"]
	addrs := []string{"/ip4/127.0.0.1/tcp/4001"}
	for name, make := range map[string]func() (string, error){
		"name look-alike": func() (string, error) { return charter.NewPersonCard(p, "аlice", "acme") },
		"name empty":      func() (string, error) { return charter.NewPersonCard(p, "", "acme") },
		"org look-alike":  func() (string, error) { return charter.NewPersonCard(p, "alice", "Acme") },
		"service name":    func() (string, error) { return charter.NewServiceCard(p, "e r p", "acme") },
		"signer name": func() (string, error) {
			return charter.NewSignerCard(k, "A", "acme", charter.Places{P2P: addrs, GRPC: "127.0.0.1:7001"})
		},
		"no address": func() (string, error) {
			return charter.NewSignerCard(k, "a", "acme", charter.Places{P2P: nil, GRPC: "127.0.0.1:7001"})
		},
		"bad multiaddr": func() (string, error) {
			return charter.NewSignerCard(k, "a", "acme", charter.Places{P2P: []string{"127.0.0.1:4001"}, GRPC: "127.0.0.1:7001"})
		},
		"many multiaddrs": func() (string, error) {
			return charter.NewSignerCard(k, "a", "acme", charter.Places{P2P: slices.Repeat(addrs, 1000), GRPC: "127.0.0.1:7001"})
		},
		"long multiaddr": func() (string, error) {
			return charter.NewSignerCard(k, "a", "acme", charter.Places{P2P: []string{"/dns4/" + strings.Repeat("a", 5000) + "/tcp/1"}, GRPC: "127.0.0.1:7001"})
		},
		"grpc without port": func() (string, error) {
			return charter.NewSignerCard(k, "a", "acme", charter.Places{P2P: addrs, GRPC: "127.0.0.1"})
		},
		"grpc with scheme": func() (string, error) {
			return charter.NewSignerCard(k, "a", "acme", charter.Places{P2P: addrs, GRPC: "https://127.0.0.1:7001"})
		},
		"grpc port": func() (string, error) {
			return charter.NewSignerCard(k, "a", "acme", charter.Places{P2P: addrs, GRPC: "127.0.0.1:70001"})
		},
		"grpc with control": func() (string, error) {
			return charter.NewSignerCard(k, "a", "acme", charter.Places{P2P: addrs, GRPC: "evil\x1b[2K:7001"})
		},
		"coordinator addr": func() (string, error) { return charter.NewCoordinatorCard(w.coordinator, "hub", "acme", "") },
	} {
		if line, err := make(); err == nil {
			t.Errorf("%s: makes %.60s", name, line)
		}
	}
}

func TestAssemble(t *testing.T) {
	w := newWorld(t)
	one, err := charter.Assemble(draft(t), w.cards)
	if err != nil {
		t.Fatal(err)
	}
	two, err := charter.Assemble(draft(t), w.cards)
	if err != nil {
		t.Fatal(err)
	}
	if one.Charter.Cluster == two.Charter.Cluster || one.Charter.Cluster.IsZero() {
		t.Error("clusters are not random: messages of one would be valid in the other")
	}
	if err := one.Charter.Validate(); err != nil {
		t.Error(err)
	}
	if one.Charter.Version != 1 || !one.Charter.Previous.IsZero() {
		t.Errorf("version %d after %s", one.Charter.Version, one.Charter.Previous)
	}
	// The order in which cards arrive by mail must not change what is signed.
	shuffled := slices.Clone(w.cards)
	slices.Reverse(shuffled)
	three, err := charter.Assemble(draft(t), shuffled)
	if err != nil {
		t.Fatal(err)
	}
	three.Charter.Cluster = one.Charter.Cluster
	if three.Charter.Digest() != one.Charter.Digest() {
		t.Error("the order of cards changes the charter")
	}
	if err := one.VerifyPresent(); err != nil {
		t.Error(err)
	}
	if err := one.Verify(); err == nil {
		t.Error("an unsigned charter verifies")
	}
}

func TestAssembleRefuses(t *testing.T) {
	w := newWorld(t)
	card := func(line string, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return line
	}
	with := func(lines ...string) []string { return append(slices.Clone(w.cards), lines...) }
	without := func(i int) []string { return slices.Delete(slices.Clone(w.cards), i, i+1) }
	mallory := signer(t, 66)
	for name, c := range map[string]struct {
		cards   []string
		change  func(d *charter.Draft)
		mention string
	}{
		"no cards":              {nil, nil, ""},
		"junk":                  {with("hello"), nil, "card"},
		"a card twice":          {with(w.cards[0]), nil, `"a"`},
		"a person's card twice": {with(w.cards[4]), nil, "alice"},
		"signer missing":        {without(0), nil, "quorum"},
		"person missing":        {without(4), nil, "alice"},
		"no coordinator":        {without(3), nil, "coordinator"},
		"person not in draft":   {with(card(charter.NewPersonCard(mallory, "mallory", "acme"))), nil, "mallory"},
		"fourth signer":         {with(card(charter.NewSignerCard(seeded(t, 66), "d", "acme", charter.Places{P2P: []string{"/ip4/127.0.0.1/tcp/1"}, GRPC: "127.0.0.1:1"}))), nil, "quorum"},
		"second signer named a": {append(without(1), card(charter.NewSignerCard(seeded(t, 66), "a", "acme", charter.Places{P2P: []string{"/ip4/127.0.0.1/tcp/1"}, GRPC: "127.0.0.1:1"}))), nil, `"a"`},
		"service named alice":   {with(card(charter.NewServiceCard(mallory, "alice", "acme"))), nil, "alice"},
		"alice's second org":    {with(card(charter.NewPersonCard(mallory, "alice", "umbra"))), nil, "alice"},
		"bob with alice's key":  {append(without(5), card(charter.NewPersonCard(w.people["alice"], "bob", "acme"))), nil, "alice"},
		"alice's voice stolen":  {with(card(charter.NewPersonCard(mallory, "alice", "acme"))), nil, `"keys": 2`},
		"organisation unknown":  {append(without(7), card(charter.NewServiceCard(w.service, "erp", "evil"))), nil, "evil"},
		"rules that fail":       {w.cards, func(d *charter.Draft) { d.Rules[0].Approvals = []policy.Requirement{{Group: "treasury", K: 9}} }, "never"},
		"admin rule that fails": {w.cards, func(d *charter.Draft) { d.Admin.K = 1 }, "admin"},
		"quorum that fails":     {w.cards, func(d *charter.Draft) { d.Quorum.Need = 1 }, "quorum"},
	} {
		t.Run(name, func(t *testing.T) {
			d := draft(t)
			if c.change != nil {
				c.change(&d)
			}
			f, err := charter.Assemble(d, c.cards)
			if err == nil {
				t.Fatalf("assembled %+v", f.Charter)
			}
			if !strings.Contains(err.Error(), c.mention) {
				t.Errorf("error does not mention %q: %v", c.mention, err)
			}
		})
	}
}

// A person may have two keys; the charter says so with both, and both have a card.
func TestTwoKeysOfOnePerson(t *testing.T) {
	w := newWorld(t)
	second, err := charter.NewPersonCard(signer(t, 21), "alice", "acme")
	if err != nil {
		t.Fatal(err)
	}
	d := draft(t)
	d.People["alice"] = charter.DraftPerson{Groups: d.People["alice"].Groups, Keys: 2}
	f, err := charter.Assemble(d, append(slices.Clone(w.cards), second))
	if err != nil {
		t.Fatal(err)
	}
	p, _ := f.Charter.Person("alice")
	if len(p.Keys) != 2 {
		t.Errorf("alice has %d keys", len(p.Keys))
	}
	if !strings.Contains(strings.Join(f.Charter.Describe(), "\n"), signer(t, 21).Key().Fingerprint()) {
		t.Error("the second key is not shown to those who sign the charter")
	}
}

// Every key that the charter lists has proved that somebody holds it, under that name,
// and nothing else is in the file.
func TestCardsInTheFile(t *testing.T) {
	w := newWorld(t)
	card := func(line string, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return line
	}
	for i := range w.cards {
		f := w.signed(t)
		f.Cards = slices.Delete(f.Cards, i, i+1)
		if err := f.Verify(); err == nil {
			t.Errorf("verifies without card %d", i)
		}
		if err := f.VerifyPresent(); err == nil {
			t.Errorf("present verifies without card %d", i)
		}
		f = w.signed(t)
		f.Cards = append(f.Cards, f.Cards[i])
		if err := f.Verify(); err == nil {
			t.Errorf("verifies with card %d twice", i)
		}
	}
	for name, line := range map[string]string{
		"junk":            "hello",
		"stranger":        card(charter.NewPersonCard(signer(t, 66), "mallory", "acme")),
		"alice's new key": card(charter.NewPersonCard(signer(t, 66), "alice", "acme")),
		"alice elsewhere": card(charter.NewPersonCard(w.people["alice"], "alice", "umbra")),
		"alice renamed":   card(charter.NewPersonCard(w.people["alice"], "bob", "acme")),
		"alice a service": card(charter.NewServiceCard(w.people["alice"], "alice", "acme")),
		"a as hub":        card(charter.NewCoordinatorCard(w.signers["a"], "hub", "acme", "127.0.0.1:1")),
		"a elsewhere":     card(charter.NewSignerCard(w.signers["a"], "a", "umbra", charter.Places{P2P: []string{"/ip4/127.0.0.1/tcp/1"}, GRPC: "127.0.0.1:1"})),
	} {
		f := w.signed(t)
		f.Cards = append(f.Cards, line)
		if err := f.Verify(); err == nil {
			t.Errorf("%s: verifies with an extra card", name)
		}
		// In place of the proof for alice's key, or a's identity.
		for _, i := range []int{0, 4} {
			f = w.signed(t)
			f.Cards[i] = line
			if err := f.Verify(); err == nil {
				t.Errorf("%s: verifies in place of card %d", name, i)
			}
		}
	}
}
