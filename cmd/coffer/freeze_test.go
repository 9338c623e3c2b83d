package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coffer/authority"
	"coffer/canon"
	"coffer/charter"
	"coffer/credential"
	"coffer/identity"
	"coffer/internal/cli"
	"coffer/internal/testcharter"
	"coffer/party"
	pb "coffer/proto/coffer/v1"
	"coffer/store"
)

// A freeze is effective when enough signers' receipts verify, and no sooner.
func TestFreeze(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	dave := o.person("dave")
	r := dave.fails(cli.Done, []string{"effective: the freeze of the whole cluster is on disk at"}, "freeze", "--reason", "a laptop was stolen")
	id := strings.TrimSpace(r.stdout)
	for name, c := range o.signers {
		if !c.ledger.Frozen().Any() {
			t.Errorf("signer %s is not frozen", name)
		}
	}
	alice := o.person("alice")
	alice.fails(cli.Failed, []string{"FROZEN", "a laptop was stolen", "by dave", "effective, on disk at north, south, west", "the whole cluster is frozen"}, "status")
	report := decode[struct{ Freezes []freezeRow }](t, alice.run("status", "--json").stdout)
	if len(report.Freezes) != 1 || report.Freezes[0].ID != id || !report.Freezes[0].Effective || len(report.Freezes[0].OnDisk) != 3 {
		t.Errorf("%+v", report)
	}
	if got := decode[freezeReport](t, dave.must("freeze", "--wallet", "treasury", "--reason", "an odd payment", "--json")); !got.Effective || got.Scope != authority.ScopeWallet || got.Name != "treasury" {
		t.Errorf("%+v", got)
	}
	dave.fails(cli.Usage, []string{"--reason is missing"}, "freeze")
	dave.fails(cli.Usage, []string{"not both"}, "freeze", "--wallet", "w", "--person", "bob", "--reason", "x")
	dave.fails(cli.Usage, []string{`did you mean "carol"?`, "nothing was frozen", "--anyway"}, "freeze", "--person", "carl", "--reason", "x")
	// What signers would not know looks like safety; a reason is no reason to refuse.
	if n := len(o.desk.ledger.Freezes()); n != 2 {
		t.Errorf("%d freezes", n)
	}
	dave.fails(cli.Done, []string{"effective"}, "freeze", "--person", "carl", "--anyway", "--reason", "Schlüssel\n gestohlen")
	dave.fails(cli.Failed, []string{"Schluessel gestohlen"}, "status")
}

// No coordinator is needed for a freeze, and none can keep it from the signers.
func TestFreezeWithoutCoordinator(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(o *office){
		"away":     func(o *office) { o.desk.stop() },
		"swallows": func(o *office) { o.desk.set(func() { o.desk.drop = func(authority.Record) bool { return true } }) },
	} {
		t.Run(name, func(t *testing.T) {
			o := newOffice(t)
			spoil(o)
			o.person("dave").fails(cli.Done, []string{"effective"}, "freeze", "--reason", "now")
		})
	}
}

// Whoever has joined with a file that operators have not all signed yet may freeze at
// once, without anybody to fetch those signatures from.
func TestFreezeByNewcomer(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.f.File.Signatures = o.f.File.Signatures[:1]
	dave := o.person("dave")
	o.desk.stop()
	dave.fails(cli.Failed, []string{"signatures under the charter"}, "list", "show")
	dave.fails(cli.Done, []string{"effective"}, "freeze", "--reason", "now")
}

// The folder of whoever freezes may be old by several versions: who is enrolled by now
// is frozen all the same, and whose name is known by nobody is a slip of the pen.
func TestFreezeFromAnOldFolder(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	dave := o.person("dave")
	for n := range 4 {
		o.change(func(c *charter.Charter) {
			if n == 2 {
				c.People = append(c.People, charter.Person{Name: "erin", Org: "auditor", Keys: []credential.Key{testcharter.SSH(t, "erin").Key()}})
			}
			c.Rules[0].FeeCap = fmt.Sprintf("0.00%d ETH", 5-n)
		})
	}
	dave.fails(cli.Done, []string{"version 5 of the charter is in force", `effective: the freeze of person "erin"`}, "freeze", "--person", "erin", "--reason", "now")
	if v := o.shown(dave); v != 5 {
		t.Errorf("version %d after the freeze", v)
	}
	for _, c := range o.clerks() {
		c.stop()
	}
	dave.fails(cli.Waiting, []string{`nobody says whether there is a person "carl"`, "no signer acknowledged it"}, "freeze", "--person", "carl", "--reason", "now", "--timeout", "1s")
}

// A folder that cannot be written keeps no freeze from the signers.
func TestFreezeFromAFolderInUse(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	dave := o.person("dave")
	file, err := os.OpenFile(filepath.Join(dave.home, ".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := store.LockFile(file); err != nil {
		t.Fatal(err)
	}
	dave.fails(cli.Done, []string{"WARNING", "does not keep", "effective"}, "freeze", "--reason", "now")
}

// Receipts of fewer signers, or receipts that nobody signed, are never called effective.
func TestFreezeNotEffective(t *testing.T) {
	t.Parallel()
	alone := func(o *office, keep string) {
		for id, c := range o.signers {
			if string(id) != keep {
				c.stop()
			}
		}
		for _, c := range o.clerks() {
			c.set(func() { c.apart = true })
		}
	}
	forge := func(change func(r *authority.Record)) func(*pb.ExchangeResponse) {
		return func(reply *pb.ExchangeResponse) {
			for n, raw := range reply.Records {
				r, err := authority.Parse(raw)
				if err != nil || r.Kind != authority.KindFreeze {
					continue
				}
				change(&r)
				reply.Records[n] = r.Encode()
			}
		}
	}
	short := []string{"freeze", "--reason", "now", "--timeout", "1s"}
	t.Run("one signer", func(t *testing.T) {
		t.Parallel()
		o := newOffice(t)
		alone(o, "south")
		r := o.person("dave").fails(cli.Waiting, []string{"signer south has it on disk", "no receipt of signer north: no connection", "no receipt of signer west", "NOT known to be effective", "coffer-signer freeze"}, short...)
		if strings.Contains(r.stderr, "\neffective") {
			t.Error(r.stderr)
		}
	})
	t.Run("no endpoint reachable", func(t *testing.T) {
		t.Parallel()
		o := newOffice(t)
		alone(o, "")
		o.desk.stop()
		o.person("dave").fails(cli.Waiting, []string{"no signer acknowledged it"}, short...)
	})
	t.Run("no endpoint known", func(t *testing.T) {
		t.Parallel()
		o := newOffice(t)
		for _, c := range o.clerks() {
			c.set(func() { c.apart = true })
		}
		dave := o.person("dave")
		dave.more = dave.more[:2]
		dave.fails(cli.Waiting, []string{"no endpoint of its own that is known here", "--signer west=HOST:PORT"}, short...)
	})
	receipts := func(o *office, r *authority.Record, key func(party.ID) *identity.Key, about canon.Digest) {
		r.Receipts = nil
		for _, id := range o.f.Charter.Parties() {
			r.Receipts = append(r.Receipts, authority.NewReceipt(key(id), o.f.Charter.Cluster, id, about, 1))
		}
	}
	for name, lie := range map[string]func(o *office, r *authority.Record){
		"a stranger's keys": func(o *office, r *authority.Record) {
			receipts(o, r, func(party.ID) *identity.Key { return testKey(t) }, r.ID())
		},
		"one signer's key for all": func(o *office, r *authority.Record) {
			receipts(o, r, func(party.ID) *identity.Key { return o.f.Coordinator }, r.ID())
		},
		"receipts of something else": func(o *office, r *authority.Record) {
			receipts(o, r, func(id party.ID) *identity.Key { return o.f.Signers[id] }, canon.Sum([]byte("another freeze")))
		},
	} {
		t.Run("forged: "+name, func(t *testing.T) {
			t.Parallel()
			o := newOffice(t)
			alone(o, "")
			o.desk.set(func() { o.desk.lie = forge(func(r *authority.Record) { lie(o, r) }) })
			o.person("dave").fails(cli.Waiting, []string{"WARNING: the coordinator hands out what does not verify", "no signer acknowledged it"}, short...)
		})
	}
}
