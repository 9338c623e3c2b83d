package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"coffer/approval"
	"coffer/authority"
	"coffer/canon"
	"coffer/charter"
	"coffer/internal/cli"
	"coffer/internal/testcharter"
	"coffer/policy"
	pb "coffer/proto/coffer/v1"
)

// without is a lie: answers lack the records that hide says.
func without(hide func(authority.Record) bool) func(*pb.ExchangeResponse) {
	return func(reply *pb.ExchangeResponse) {
		reply.Records = slices.DeleteFunc(reply.Records, func(raw []byte) bool {
			r, err := authority.Parse(raw)
			return err == nil && hide(r)
		})
	}
}

// among is a lie: answers hold a record more.
func among(r authority.Record) func(*pb.ExchangeResponse) {
	return func(reply *pb.ExchangeResponse) { reply.Records = append(reply.Records, r.Encode()) }
}

func (c *clerk) lies(lie func(*pb.ExchangeResponse)) { c.set(func() { c.lie = lie }) }

// saidBy are the kinds of what a person said, wherever it came to.
func (o *office) saidBy(person string) (out []string) {
	for _, c := range o.clerks() {
		c.mu.Lock()
		for _, r := range c.ledger.Records() {
			for _, s := range r.Statements {
				if st, err := approval.Parse(s.Raw); err == nil && st.Person == person {
					out = append(out, string(st.Kind)+" "+st.Subject.String())
				}
			}
		}
		c.mu.Unlock()
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// A coordinator that shows an old charter takes nobody back: who knows better keeps it
// and names the coordinator; who does not is told by the signers.
func TestCoordinatorShowsOldCharter(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	alice, erin := o.person("alice"), o.person("carol")
	for n := range 3 {
		o.change(func(c *charter.Charter) { c.Rules[0].MaxAmount[0] = []string{"1.9 ETH", "1.8 ETH", "1.7 ETH"}[n] })
	}
	alice.fails(cli.Done, []string{"version 4"}, "charter", "show")
	if v := o.shown(alice); v != 4 {
		t.Fatalf("version %d in the folder of somebody who was behind by three", v)
	}
	hide := func(r authority.Record) bool { return r.Kind == authority.KindCharter }
	o.desk.lies(without(hide))
	alice.fails(cli.Done, []string{"version 4", "WARNING: the coordinator does not show version 4 of the charter"}, "charter", "show")
	erin.fails(cli.Done, []string{"version 4", "in force"}, "status")
	if v := o.shown(erin); v != 4 {
		t.Errorf("version %d in the folder of whom the signers told", v)
	}
	for _, p := range []*person{alice, erin} {
		p.fails(cli.Done, []string{"version 4"}, "charter", "show")
	}
}

// A freeze that the coordinator hides is shown.
func TestCoordinatorHidesFreeze(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	dave, alice, bob := o.person("dave"), o.person("alice"), o.person("bob")
	dave.must("freeze", "--reason", "a laptop was stolen")
	alice.fails(cli.Failed, []string{"FROZEN"}, "status")
	isFreeze := func(r authority.Record) bool { return r.Kind == authority.KindFreeze }
	o.desk.set(func() { o.desk.drop, o.desk.lie = isFreeze, without(isFreeze) })
	alice.fails(cli.Done, []string{"WARNING: the coordinator does not show the freeze of the whole cluster by dave", "hides it"}, "pending")
	for _, p := range []*person{alice, bob} { // bob hears of it from the signers
		p.fails(cli.Failed, []string{"FROZEN", "a laptop was stolen"}, "status")
	}
}

// Nothing that a coordinator makes up or alters is taken, and it is named.
func TestCoordinatorForges(t *testing.T) {
	t.Parallel()
	now := time.Now().Unix()
	garbled := func(r authority.Record) authority.Record {
		r.Raw = slices.Clone(r.Raw)
		r.Raw[len(r.Raw)-1] ^= 1
		return r
	}
	entry := []policy.Destination{{Chain: "dev", Address: testcharter.Stranger, Label: "the thief"}}
	for name, make := range map[string]func(o *office) authority.Record{
		"a version that fewer admins signed, altered": func(o *office) authority.Record {
			next := o.f.Next(t, o.f.Charter, func(c *charter.Charter) { c.Rules[0].MaxAmount[0] = "1 ETH" })
			r := o.f.CharterRecord(t, next, now, nil, "alice", "bob")
			richer := o.f.Next(t, o.f.Charter, func(c *charter.Charter) { c.Rules[0].MaxAmount[0] = "1000 ETH" })
			r.Raw = richer.Encode()
			return r
		},
		"a version by somebody who may not": func(o *office) authority.Record {
			next := o.f.Next(t, o.f.Charter, func(c *charter.Charter) { c.Rules[0].MaxAmount[0] = "1000 ETH" })
			return o.f.CharterRecord(t, next, now, nil, "dave")
		},
		"a list with another entry": func(o *office) authority.Record {
			r := o.f.ListRecord(t, "suppliers", 1, canon.Digest{}, now, nil, "alice", "bob")
			r.Raw = o.f.ListRecord(t, "suppliers", 1, canon.Digest{}, now, entry).Raw
			return r
		},
		"a freeze that was altered": func(o *office) authority.Record {
			return garbled(o.f.FreezeRecord(t, "dave", authority.ScopeCluster, "", now, 1))
		},
		"an unfreeze of another cluster": func(o *office) authority.Record {
			other, err := o.f.Charter.Clone()
			if err != nil {
				t.Fatal(err)
			}
			other.Cluster[0] ^= 1
			return o.f.UnfreezeRecord(t, other, now, []canon.Digest{{1}}, "alice", "bob")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOffice(t)
			carol := o.person("carol")
			before := carol.must("list", "show", "suppliers", "--json")
			o.desk.lies(among(make(o)))
			r := carol.fails(cli.Done, []string{"WARNING: the coordinator hands out what does not verify"}, "pending")
			if strings.TrimSpace(r.stdout) != "" {
				t.Errorf("it is shown: %s", r.stdout)
			}
			if after := carol.must("list", "show", "suppliers", "--json"); after != before {
				t.Errorf("the list is %s, was %s", after, before)
			}
			if v := o.shown(carol); v != 1 {
				t.Errorf("version %d", v)
			}
		})
	}
}

// A coordinator that hides what somebody is asked to sign, and shows what another admin
// made in its place, gets no signature: neither under the whole ID that the person was
// told, nor for a beginning of it.
func TestCoordinatorSwapsProposals(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	now := time.Now().Unix()
	version := func(amount, by string) authority.Record {
		next := o.f.Next(t, o.f.Charter, func(c *charter.Charter) { c.Rules[0].MaxAmount[0] = amount })
		return o.f.CharterRecord(t, next, now, nil, by)
	}
	meant, rogue := version("1 ETH", "alice"), version("1000 ETH", "carol")
	o.desk.tell(meant)
	o.desk.tell(rogue)
	o.desk.lies(without(func(r authority.Record) bool { return r.ID() == meant.ID() }))
	for _, word := range []string{meant.ID().String(), meant.ID().String()[:12]} {
		for _, args := range [][]string{{"approve", word, "--yes"}, {"charter", "sign", word, "--yes"}} {
			bob := o.person("bob")
			if r := bob.run(args...); r.code != cli.Failed && r.code != cli.Usage {
				t.Errorf("%q: exit %d: %s", args, r.code, r.stderr)
			}
		}
	}
	// The rogue one is asked about in full, under its own ID, and no terminal says yes.
	bob := o.person("bob")
	bob.fails(cli.Failed, []string{"WIDENS", "1000 ETH", "signed by     carol"}, "charter", "sign", rogue.ID().String()[:12])
	if said := o.saidBy("bob"); len(said) != 0 {
		t.Errorf("bob said %q", said)
	}
	// Handed over by mail the one that is meant is signed, and the coordinator cannot keep it back.
	path := bob.home + "/mail"
	writeFile(t, path, meant.Line()+"\n")
	bob.fails(cli.Done, []string{"version 2"}, "show", path)
	bob.must("approve", meant.ID().String(), "--yes")
	if said := o.saidBy("bob"); !slices.Equal(said, []string{"approve " + meant.ID().String()}) {
		t.Errorf("bob said %q", said)
	}
}

// An order that the coordinator keeps to itself is at the signers.
func TestCoordinatorSwallowsOrders(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	for range 3 { // and the folder is old by as many versions
		o.change(func(c *charter.Charter) {
			c.Rules[0].MaxAmount[0] = "1." + strings.Repeat("9", int(c.Version)) + " ETH"
		})
	}
	alice := o.person("alice")
	o.desk.set(func() { o.desk.drop = func(r authority.Record) bool { return r.Kind == authority.KindOrder } })
	subject := canon.Sum([]byte("an intent"))
	alice.fails(cli.Done, []string{"version 4 of the charter is in force", "taken by signers", "no coordinator can hide it"}, "veto", subject.String(), "--yes")
	if v := o.shown(alice); v != 4 {
		t.Errorf("version %d", v)
	}
	for id, c := range o.signers {
		if n := len(c.ledger.Orders(subject)); n != 1 {
			t.Errorf("signer %s has %d orders", id, n)
		}
	}
}

// What happens to be called as an intent is is no file of records, unless it holds some.
func TestFileOfTheName(t *testing.T) {
	o := newOffice(t)
	dave := o.person("dave")
	id := strings.TrimSpace(dave.must("freeze", "--reason", "now"))
	shown := dave.must("show", id, "--json")
	t.Chdir(t.TempDir())
	writeFile(t, "INV-9", "invoice 9: coffee, 1.5 ETH\n")
	dave.fails(cli.Failed, []string{"INV-9"}, "list", "sign", "INV-9")
	if r := dave.run("list", "sign", "INV-9"); strings.Contains(r.stderr, "RECORD_MALFORMED") {
		t.Errorf("an invoice is taken for a record: %s", r.stderr)
	}
	dave.fails(cli.Failed, []string{"INV-9: line 1"}, "show", "./INV-9")
	writeFile(t, "shown", shown)
	writeFile(t, "lines", "# mailed by dave\n"+decode[struct{ Record string }](t, shown).Record+"\n")
	for _, name := range []string{"shown", "lines"} {
		dave.fails(cli.Done, []string{id}, "show", name)
	}
	writeFile(t, "lines", "coffer-record-v1:AAAA\n")
	dave.fails(cli.Failed, []string{"lines: line 1"}, "show", "lines")
}
