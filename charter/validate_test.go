package charter_test

import (
	"slices"
	"strings"
	"testing"

	"coffer/canon"
	"coffer/charter"
	"coffer/credential"
	"coffer/identity"
	"coffer/party"
	"coffer/policy"
)

func TestValidateAccepts(t *testing.T) {
	w := newWorld(t)
	if err := w.file(t).Charter.Validate(); err != nil {
		t.Fatal(err)
	}
}

// A charter is what everything else trusts, so each of these must not be signable.
func TestValidateRefuses(t *testing.T) {
	w := newWorld(t)
	// asPerson is an identity's key in the form of a person's.
	asPerson := func(b byte) credential.Key { return signer(t, b).Key() }
	sound := w.file(t).Charter.Digest()
	type c = *charter.Charter
	for name, x := range map[string]struct {
		change  func(c)
		mention []string
	}{
		// Names.
		"no name":                 {func(c c) { c.Name = "" }, []string{"name"}},
		"name in capitals":        {func(c c) { c.Name = "Demo" }, []string{"name", "a-z"}},
		"no cluster":              {func(c c) { c.Cluster = canon.Digest{} }, []string{"cluster"}},
		"version zero":            {func(c c) { c.Version = 0 }, []string{"version"}},
		"first with previous":     {func(c c) { c.Previous = canon.Digest{1} }, []string{"previous"}},
		"second version":          {func(c c) { c.Version = 2 }, []string{"previous", "version 1"}},
		"version without end":     {func(c c) { c.Version = 1<<32 + 1 }, []string{"version"}},
		"organisation look-alike": {func(c c) { c.Organisations[0] = "аcme" }, []string{"organisations", "a-z"}},
		"organisation twice":      {func(c c) { c.Organisations = append(c.Organisations, "acme") }, []string{"organisations", "acme"}},
		"no organisations":        {func(c c) { c.Organisations = nil }, []string{"organisation"}},
		"signer look-alike":       {func(c c) { c.Signers[1].Name = "а" }, []string{"signers", "a-z"}},
		"signer name twice":       {func(c c) { c.Signers[1].Name = "a" }, []string{"signers", `"a"`}},
		"signer of no org":        {func(c c) { c.Signers[0].Org = "evil" }, []string{"signers", "evil"}},
		"signer without org":      {func(c c) { c.Signers[0].Org = "" }, []string{"signers", "org"}},
		"coordinator as signer":   {func(c c) { c.Coordinators[0].Name = "a" }, []string{"coordinators", `"a"`}},
		"coordinator of no org":   {func(c c) { c.Coordinators[0].Org = "evil" }, []string{"coordinators", "evil"}},
		"no coordinator":          {func(c c) { c.Coordinators = nil }, []string{"coordinator"}},
		"person look-alike":       {func(c c) { c.People[1].Name = "аlice" }, []string{"people", "a-z"}},
		"person zero width":       {func(c c) { c.People[1].Name = "alice\u200b" }, []string{"people", "a-z"}},
		"person twice":            {func(c c) { c.People[1].Name = "alice" }, []string{"people", "alice"}},
		"person of no org":        {func(c c) { c.People[0].Org = "evil" }, []string{"people", "evil"}},
		"service named a person":  {func(c c) { c.Services[0].Name = "alice" }, []string{"services", "alice"}},
		"service twice":           {func(c c) { s := c.Services[0]; s.Key = asPerson(99); c.Services = append(c.Services, s) }, []string{"services", "erp"}},
		"service of no org":       {func(c c) { c.Services[0].Org = "evil" }, []string{"services", "evil"}},
		"group look-alike":        {func(c c) { c.People[0].Groups = append(c.People[0].Groups, "treаsury") }, []string{"groups", "a-z"}},
		"group twice":             {func(c c) { c.People[0].Groups = append(c.People[0].Groups, "treasury") }, []string{"groups", "treasury"}},

		// Keys: one key, one holder, one role.
		"two people, one key":        {func(c c) { c.People[1].Keys = slices.Clone(c.People[0].Keys) }, []string{"key", "alice", "bob"}},
		"one person, key twice":      {func(c c) { c.People[0].Keys = append(c.People[0].Keys, c.People[0].Keys[0]) }, []string{"key", "alice"}},
		"service with person's key":  {func(c c) { c.Services[0].Key = c.People[0].Keys[0] }, []string{"key", "alice", "erp"}},
		"two services, one key":      {func(c c) { s := c.Services[0]; s.Name = "pos"; c.Services = append(c.Services, s) }, []string{"key", "erp", "pos"}},
		"person without key":         {func(c c) { c.People[0].Keys = nil }, []string{"people", "alice", "key"}},
		"key with a comment":         {func(c c) { c.People[0].Keys[0].Public += " alice@host" }, []string{"people", "alice"}},
		"key of unknown kind":        {func(c c) { c.People[0].Keys[0].Kind = "pgp" }, []string{"people", "alice"}},
		"service key empty":          {func(c c) { c.Services[0].Key = credential.Key{} }, []string{"services", "erp"}},
		"signers share identity":     {func(c c) { c.Signers[1].Peer = c.Signers[0].Peer }, []string{"signers", "peer"}},
		"coordinator is a signer":    {func(c c) { c.Coordinators[0].Peer = c.Signers[0].Peer }, []string{"coordinators", "peer"}},
		"person has signer's key":    {func(c c) { c.People[0].Keys[0] = asPerson(1) }, []string{"alice", `"a"`}},
		"service has hub's key":      {func(c c) { c.Services[0].Key = asPerson(4) }, []string{"erp", "hub"}},
		"peer malformed":             {func(c c) { c.Signers[0].Peer = "12D3KooW" }, []string{"signers", "peer"}},
		"peer not Ed25519":           {func(c c) { c.Signers[0].Peer = "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N" }, []string{"signers", "peer"}},
		"peer as CID":                {func(c c) { c.Signers[0].Peer = identity.ID("f01721220" + strings.Repeat("00", 32)) }, []string{"signers", "peer"}},
		"coordinator peer malformed": {func(c c) { c.Coordinators[0].Peer = "" }, []string{"coordinators", "peer"}},

		// Quorum and admin rule.
		"quorum of too few":   {func(c c) { c.Quorum.Of = 4; c.Quorum.Need = 3 }, []string{"quorum", "3"}},
		"quorum of half":      {func(c c) { c.Quorum = party.Quorum{Need: 1, Of: 3} }, []string{"quorum", "need"}},
		"quorum negative":     {func(c c) { c.Quorum = party.Quorum{Need: -2, Of: -3} }, []string{"quorum"}},
		"one signer":          {func(c c) { c.Signers = c.Signers[:1]; c.Quorum = party.Quorum{Need: 1, Of: 1} }, []string{"quorum"}},
		"admin group unknown": {func(c c) { c.Admin.Group = "board" }, []string{"admin", "board"}},
		"admin half":          {func(c c) { c.Admin.K = 1; c.Admin.Orgs = 0 }, []string{"admin", "half"}},
		"admin too many":      {func(c c) { c.Admin.K = 4 }, []string{"admin", "3"}},
		"admin negative":      {func(c c) { c.Admin.K = -1 }, []string{"admin"}},
		"admin orgs too many": {func(c c) { c.Admin.Orgs = 3; c.Admin.K = 3 }, []string{"admin", "org"}},
		"admin orgs over k":   {func(c c) { c.Admin.Group = "treasury"; c.Admin.K = 2; c.Admin.Orgs = 3 }, []string{"admin", "org"}},
		"admin orgs negative": {func(c c) { c.Admin.Orgs = -1 }, []string{"admin", "org"}},

		// Chains and assets.
		"no chain":               {func(c c) { c.Chains = nil; c.Assets = nil; c.Destinations = nil; c.Rules = c.Rules[2:] }, []string{"chain"}},
		"chain look-alike":       {func(c c) { c.Chains[0].Name = "sepоlia" }, []string{"chains", "a-z"}},
		"chain twice":            {func(c c) { c.Chains[1].Name = "sepolia" }, []string{"chains", "sepolia"}},
		"two names of one chain": {func(c c) { c.Chains[1].ChainID = c.Chains[0].ChainID }, []string{"chains", "11155111"}},
		"chain id zero":          {func(c c) { c.Chains[0].ChainID = 0 }, []string{"chain_id"}},
		"chain id over 63 bits":  {func(c c) { c.Chains[0].ChainID = 1 << 63 }, []string{"chain_id"}},
		"chain of unknown kind":  {func(c c) { c.Chains[0].Kind = "bitcoin" }, []string{"kind", "evm"}},
		"chain without native":   {func(c c) { c.Assets = c.Assets[:2] }, []string{"amoy", "native"}},
		"two natives":            {func(c c) { c.Assets = append(c.Assets, charter.Asset{Symbol: "XYZ", Chain: "amoy", Decimals: 18}) }, []string{"amoy", "native"}},
		"asset of no chain":      {func(c c) { c.Assets[2].Chain = "mainnet" }, []string{"assets", "mainnet"}},
		"asset twice": {func(c c) {
			c.Assets = append(c.Assets, charter.Asset{Symbol: "USDC", Chain: "sepolia", Contract: mill, Decimals: 6})
		}, []string{"USDC"}},
		"one contract, two names": {func(c c) {
			c.Destinations = nil
			c.Rules[0].Destinations = nil
			c.Assets = append(c.Assets, charter.Asset{Symbol: "DAI", Chain: "sepolia", Contract: usdc, Decimals: 6})
		}, []string{"assets", "contract"}},
		"contract lower case": {func(c c) { c.Assets[1].Contract = strings.ToLower(usdc) }, []string{"contract", "checksum"}},
		"contract checksum":   {func(c c) { c.Assets[1].Contract = "0xDbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB" }, []string{"contract", "checksum"}},
		"contract zero":       {func(c c) { c.Assets[1].Contract = zero }, []string{"contract", "zero"}},
		"symbol look-alike":   {func(c c) { c.Assets[0].Symbol = "ЕTH" }, []string{"symbol"}},
		"decimals negative":   {func(c c) { c.Assets[1].Decimals = -6 }, []string{"decimals"}},
		"decimals absurd":     {func(c c) { c.Assets[1].Decimals = 256 }, []string{"decimals"}},

		// Destinations.
		"list look-alike":     {func(c c) { c.Destinations[0].Name = "supplіers" }, []string{"destinations", "a-z"}},
		"list twice":          {func(c c) { c.Destinations = append(c.Destinations, c.Destinations[0]) }, []string{"destinations", "suppliers"}},
		"list empty":          {func(c c) { c.Destinations[0].Entries = nil }, []string{"destinations", "suppliers"}},
		"address lower case":  {func(c c) { c.Destinations[0].Entries[0].Address = strings.ToLower(mill) }, []string{"address", "checksum"}},
		"address checksum":    {func(c c) { c.Destinations[0].Entries[0].Address = "0x5AAeb6053F3E94C9b9A09f33669435E7Ef1BeAed" }, []string{"address", "checksum"}},
		"address short":       {func(c c) { c.Destinations[0].Entries[0].Address = mill[:41] }, []string{"address"}},
		"address zero":        {func(c c) { c.Destinations[0].Entries[0].Address = zero }, []string{"address", "zero"}},
		"address is a token":  {func(c c) { c.Destinations[0].Entries[0].Address = usdc }, []string{"address", "USDC"}},
		"address twice":       {func(c c) { c.Destinations[0].Entries[1].Address = mill }, []string{"destinations", mill}},
		"address on no chain": {func(c c) { c.Destinations[0].Entries[0].Chain = "mainnet" }, []string{"destinations", "mainnet"}},
		"label empty":         {func(c c) { c.Destinations[0].Entries[0].Label = "" }, []string{"label"}},
		"label Cyrillic":      {func(c c) { c.Destinations[0].Entries[0].Label = "Рaper mill" }, []string{"label", "ASCII"}},
		"label bidi":          {func(c c) { c.Destinations[0].Entries[0].Label = "Paper\u202emill" }, []string{"label", "ASCII"}},
		"label escape":        {func(c c) { c.Destinations[0].Entries[0].Label = "Paper\x1b[2Kmill" }, []string{"label", "ASCII"}},
		"label of two":        {func(c c) { c.Destinations[0].Entries[1].Label = "Paper mill" }, []string{"label", "Paper mill"}},
		"label but for case":  {func(c c) { c.Destinations[0].Entries[1].Label = "PAPER MILL" }, []string{"label"}},
		"address of two names": {func(c c) {
			c.Destinations = append(c.Destinations, charter.DestinationList{Name: "more", Entries: []policy.Destination{{Chain: "sepolia", Address: mill, Label: "Other"}}})
		}, []string{"label"}},

		// Rules are policy's business; they must be asked.
		"no rules":               {func(c c) { c.Rules = nil }, []string{"rules"}},
		"rule twice":             {func(c c) { c.Rules[1].Name = "payments" }, []string{"rules[1]", "payments"}},
		"rule of unknown group":  {func(c c) { c.Rules[1].Approvals[0].Group = "board" }, []string{"rules[1]", "board"}},
		"rule never satisfied":   {func(c c) { c.Rules[0].Approvals[0].K = 4 }, []string{"rules[0]", "never"}},
		"rule orgs never":        {func(c c) { c.Rules[0].Approvals[0].Orgs = 3; c.Rules[0].Approvals[0].K = 3 }, []string{"rules[0]", "never"}},
		"rule of no approvals":   {func(c c) { c.Rules[0].Approvals = nil }, []string{"rules[0]", "approvals"}},
		"rule of unknown list":   {func(c c) { c.Rules[0].Destinations = []string{"friends"} }, []string{"rules[0]", "friends"}},
		"rule of unknown asset":  {func(c c) { c.Rules[0].MaxAmount = []string{"1 BTC"} }, []string{"rules[0]", "BTC"}},
		"rule on unknown person": {func(c c) { c.Rules[2].When = `intent.initiator == "erb"` }, []string{"rules[2]", "erb"}},
		"rule on unknown org":    {func(c c) { c.Rules[2].When = `intent.initiator_org == "acne"` }, []string{"rules[2]", "acne"}},
		"rule of high cost": {func(c c) {
			c.Rules[1].When = strings.TrimSuffix(strings.Repeat(`intent.reference.contains(intent.reference)||`, 45), "||")
		}, []string{"rules[1]", "work"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := w.file(t)
			x.change(f.Charter)
			err := f.Charter.Validate()
			if err == nil {
				t.Fatal("accepted")
			}
			for _, m := range x.mention {
				if !strings.Contains(strings.ToLower(err.Error()), strings.ToLower(m)) {
					t.Errorf("error does not mention %q:\n%v", m, err)
				}
			}
			// Whatever is wrong with it, encoding it must not panic, and it must not
			// share a digest with the sound one.
			if f.Charter.Digest() == sound {
				t.Error("the change does not reach the digest")
			}
			// A file that carries it must not verify, even if everybody signed it.
			for _, k := range w.signers {
				_ = f.Sign(k)
			}
			if err := f.Verify(); err == nil {
				t.Error("a signed file with it verifies")
			}
		})
	}
}

// Sizes that would make every later step slow are refused before anything is compared.
func TestValidateBounds(t *testing.T) {
	w := newWorld(t)
	for name, change := range map[string]func(*charter.Charter){
		"people":        func(c *charter.Charter) { c.People = slices.Repeat(c.People, 2000) },
		"services":      func(c *charter.Charter) { c.Services = slices.Repeat(c.Services, 5000) },
		"organisations": func(c *charter.Charter) { c.Organisations = slices.Repeat(c.Organisations, 5000) },
		"assets":        func(c *charter.Charter) { c.Assets = slices.Repeat(c.Assets, 5000) },
		"chains":        func(c *charter.Charter) { c.Chains = slices.Repeat(c.Chains, 5000) },
		"coordinators":  func(c *charter.Charter) { c.Coordinators = slices.Repeat(c.Coordinators, 5000) },
		"groups":        func(c *charter.Charter) { c.People[0].Groups = slices.Repeat(c.People[0].Groups, 5000) },
		"keys":          func(c *charter.Charter) { c.People[0].Keys = slices.Repeat(c.People[0].Keys, 5000) },
		"entries":       func(c *charter.Charter) { c.Destinations[0].Entries = slices.Repeat(c.Destinations[0].Entries, 50000) },
		"rules":         func(c *charter.Charter) { c.Rules = slices.Repeat(c.Rules, 5000) },
	} {
		f := w.file(t)
		change(f.Charter)
		err := f.Charter.Validate()
		if err == nil {
			t.Errorf("%s: accepted", name)
		} else if len(err.Error()) > 64<<10 {
			t.Errorf("%s: an error of %d bytes", name, len(err.Error()))
		}
	}
}

func TestValidateListsSeveralFaults(t *testing.T) {
	f := newWorld(t).file(t)
	f.Charter.Signers[0].Org = "evil"
	f.Charter.Assets[1].Contract = strings.ToLower(usdc)
	err := f.Charter.Validate()
	if err == nil || !strings.Contains(err.Error(), "evil") || !strings.Contains(err.Error(), "contract") {
		t.Errorf("want both faults in %v", err)
	}
}

func TestLookups(t *testing.T) {
	w := newWorld(t)
	f := w.file(t)
	c := f.Charter
	if s, ok := c.Signer("b"); !ok || s.Peer != w.signers["b"].ID() || s.Org != "acme" {
		t.Errorf("signer b is %+v", s)
	}
	if _, ok := c.Signer("hub"); ok {
		t.Error("a coordinator is found as a signer")
	}
	if s, ok := c.SignerByPeer(w.signers["c"].ID()); !ok || s.Name != "c" {
		t.Errorf("signer by peer is %+v", s)
	}
	if _, ok := c.SignerByPeer(w.coordinator.ID()); ok {
		t.Error("the coordinator's peer is a signer")
	}
	if k, ok := c.CoordinatorByPeer(w.coordinator.ID()); !ok || k.Name != "hub" {
		t.Errorf("coordinator by peer is %+v", k)
	}
	if _, ok := c.CoordinatorByPeer(w.signers["a"].ID()); ok {
		t.Error("a signer's peer is a coordinator")
	}
	if p, ok := c.Person("carol"); !ok || p.Org != "umbra" || !slices.Contains(p.Groups, "security") || p.Keys[0] != w.people["carol"].Key() {
		t.Errorf("carol is %+v", p)
	}
	if _, ok := c.Person("erp"); ok {
		t.Error("a service is found as a person")
	}
	if s, ok := c.Service("erp"); !ok || s.Key != w.service.Key() {
		t.Errorf("erp is %+v", s)
	}
	if ch, ok := c.Chain("amoy"); !ok || ch.ChainID != 80002 {
		t.Errorf("amoy is %+v", ch)
	}
	if a, ok := c.Asset("sepolia", "USDC"); !ok || a.Decimals != 6 || a.Contract != usdc {
		t.Errorf("USDC is %+v", a)
	}
	if _, ok := c.Asset("amoy", "USDC"); ok {
		t.Error("an asset is found on another chain")
	}
	if a, ok := c.NativeAsset("amoy"); !ok || a.Symbol != "POL" {
		t.Errorf("native of amoy is %+v", a)
	}
	if _, ok := c.NativeAsset("mainnet"); ok {
		t.Error("an unknown chain has a native asset")
	}
	if got := c.DestinationLabel(nil, "sepolia", mill); got != "Paper mill" {
		t.Errorf("label is %q", got)
	}
	held := map[string]charter.ListState{"kept": {Version: 1, Entries: []policy.Destination{{Chain: "sepolia", Address: mill, Label: "the mill"}}}}
	kept, err := c.Clone()
	if err != nil {
		t.Fatal(err)
	}
	kept.Destinations = append(kept.Destinations, charter.DestinationList{Name: "kept", Keepers: &policy.Requirement{Group: "approvers", K: 1}, MaxAge: "1h"})
	if got := kept.DestinationLabel(held, "sepolia", mill); got != "Paper mill; the mill" {
		t.Errorf("an address that keepers have too is %q", got)
	}
	kept.Destinations[len(kept.Destinations)-1].Kind = policy.ListSanctions
	if got := kept.DestinationLabel(held, "sepolia", mill); got != "SANCTIONED by list kept: the mill" {
		t.Errorf("a sanctioned address is %q", got)
	}
	if got := c.DestinationLabel(nil, "amoy", mill) + c.DestinationLabel(nil, "sepolia", usdc) + c.DestinationLabel(nil, "sepolia", strings.ToLower(mill)); got != "" {
		t.Errorf("label %q for what has none", got)
	}
	if want, _ := party.NewSet("a", "b", "c"); !c.Parties().Equal(want) {
		t.Errorf("parties are %v", c.Parties())
	}
}

func TestPolicyFollowsTheCharter(t *testing.T) {
	w := newWorld(t)
	f := w.file(t)
	c := f.Charter
	facts := policy.Facts{Kind: policy.KindCreateWallet, Wallet: "hot", Initiator: "alice"}
	votes := []policy.Vote{
		{Person: "bob", Org: "acme", Groups: []string{"treasury"}, KeyKind: "ssh"},
		{Person: "carol", Org: "umbra", Groups: []string{"treasury"}, KeyKind: "ssh"},
	}
	outcome := func() policy.Outcome {
		t.Helper()
		s, err := c.Policy()
		if err != nil {
			t.Fatal(err)
		}
		return s.Decide(facts, votes).Outcome
	}
	if got := outcome(); got != policy.Allow {
		t.Fatalf("got %s", got)
	}
	// What was compiled for a charter must not outlive a change of it.
	c.Rules[0].Approvals[0].K = 3
	if got := outcome(); got != policy.Wait {
		t.Errorf("after a change of the rules: %s, want wait", got)
	}
	c.Rules[0].Approvals[0].Group = "board"
	if s, err := c.Policy(); err == nil {
		t.Errorf("rules that do not compile yield %v", s)
	}
}

// What a charter says of lists, delays, vetoes, freshness and kinds of key.
func TestValidateAuthority(t *testing.T) {
	type c = *charter.Charter
	staff, banned := 1, 2
	for name, x := range map[string]struct {
		change  func(c c)
		mention []string // nothing: it is valid
	}{
		"as it is":                 {func(c) {}, nil},
		"service of unknown role":  {func(c c) { c.Services[0].Role = "admin" }, []string{"services[0].role", "reader"}},
		"list of unknown kind":     {func(c c) { c.Destinations[staff].Kind = "friends" }, []string{"destinations[1].kind", "sanctions"}},
		"sanctions nobody keeps":   {func(c c) { c.Destinations[banned].Keepers = nil }, []string{"destinations[2].keepers", "keepers"}},
		"sanctions for ever":       {func(c c) { c.Destinations[banned].MaxAge = "" }, []string{"destinations[2].max_age", "24h"}},
		"sanctions without any":    {func(c c) { c.Destinations[banned].Entries = nil }, nil},
		"destinations for ever":    {func(c c) { c.Destinations[staff].MaxAge = "" }, nil},
		"fixed, with an age":       {func(c c) { c.Destinations[0].MaxAge = "24h" }, []string{"destinations[0].max_age", "keepers"}},
		"fixed and empty":          {func(c c) { c.Destinations[0].Entries = nil }, []string{"destinations[0].entries", "suppliers"}},
		"age without unit":         {func(c c) { c.Destinations[staff].MaxAge = "24" }, []string{"destinations[1].max_age", "24h"}},
		"age of months":            {func(c c) { c.Destinations[staff].MaxAge = "31d" }, []string{"destinations[1].max_age", "30d"}},
		"keepers of nobody":        {func(c c) { c.Destinations[staff].Keepers.Group = "ghosts" }, []string{"destinations[1].keepers.k", "ghosts", "never"}},
		"keepers without a number": {func(c c) { c.Destinations[staff].Keepers.K = 0 }, []string{"destinations[1].keepers.k", "at least 1"}},
		"keepers too many":         {func(c c) { c.Destinations[staff].Keepers.K = 3 }, []string{"destinations[1].keepers.k", "compliance", "never"}},
		"keepers of too many orgs": {func(c c) { c.Destinations[staff].Keepers.Orgs = 2 }, []string{"destinations[1].keepers.orgs"}},
		"keepers orgs negative":    {func(c c) { c.Destinations[staff].Keepers.Orgs = -1 }, []string{"destinations[1].keepers.orgs"}},
		"paid to sanctions":        {func(c c) { c.Rules[0].Destinations = []string{"banned"} }, []string{"rules[0]", "banned", "sanctions"}},

		"delay without unit":        {func(c c) { c.Admin.Delay = "48" }, []string{"admin.delay", "24h"}},
		"delay too long":            {func(c c) { c.Admin.Delay = "31d" }, []string{"admin.delay", "30d"}},
		"no delay":                  {func(c c) { c.Admin.Delay, c.Admin.NarrowDelay = "", "" }, nil},
		"delay for widening only":   {func(c c) { c.Admin.NarrowDelay = "" }, nil},
		"narrowing waits longer":    {func(c c) { c.Admin.NarrowDelay = "3d" }, []string{"admin.narrow_delay", "at most"}},
		"narrowing waits, no delay": {func(c c) { c.Admin.Delay = "" }, []string{"admin.narrow_delay"}},
		"admin kind unknown":        {func(c c) { c.Admin.Keys = []string{"paper"} }, []string{"admin.keys", "paper", "webauthn"}},
		"admin kind twice":          {func(c c) { c.Admin.Keys = []string{"ssh", "ssh"} }, []string{"admin.keys", "twice"}},
		"admins have no such keys":  {func(c c) { c.Admin.Keys = []string{"ssh-sk", "webauthn"} }, []string{"admin.k", "kind ssh-sk or webauthn", "never"}},
		"admin any key":             {func(c c) { c.Admin.Keys = nil }, nil},
		"rule kind nobody has":      {func(c c) { c.Rules[1].Keys = []string{"webauthn"} }, []string{`rules[1] "large".approvals[0].k`, "kind webauthn", "never"}},
		"rule kind unknown":         {func(c c) { c.Rules[1].Keys = []string{"paper"} }, []string{"rules[1]", "paper"}},

		"veto of nobody":     {func(c c) { c.Veto = []string{"ghosts"} }, []string{"veto[0]", "ghosts"}},
		"veto twice":         {func(c c) { c.Veto = []string{"security", "security"} }, []string{"veto[1]", "twice"}},
		"veto too long":      {func(c c) { c.Veto = make([]string, 17) }, []string{"veto", "at most"}},
		"fresh by nobody":    {func(c c) { c.Freshness.Heads = 0 }, []string{"freshness.heads", "1 to 2"}},
		"fresh by all":       {func(c c) { c.Freshness.Heads = 2 }, nil},
		"fresh by more":      {func(c c) { c.Freshness.Heads = 3 }, []string{"freshness.heads"}},
		"fresh never":        {func(c c) { c.Freshness.Within = "" }, []string{"freshness.within"}},
		"fresh in no time":   {func(c c) { c.Freshness.Within = "9s" }, []string{"freshness.within", "10s"}},
		"fresh in a while":   {func(c c) { c.Freshness.Within = "11m" }, []string{"freshness.within", "10m"}},
		"fresh by default":   {func(c c) { c.Freshness = nil }, nil},
		"later version":      {func(c c) { c.Version, c.Previous = 9, canon.Digest{1} }, nil},
		"later, no previous": {func(c c) { c.Version = 9 }, []string{"previous"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := rich(t)
			x.change(c)
			err := c.Validate()
			if x.mention == nil {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil {
				t.Fatal("accepted")
			}
			for _, m := range x.mention {
				if !strings.Contains(err.Error(), m) {
					t.Errorf("error does not mention %q:\n%v", m, err)
				}
			}
		})
	}
}
