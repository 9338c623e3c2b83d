package main

import (
	"bytes"
	"context"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"coffer/authority"
	"coffer/authority/exchange"
	"coffer/canon"
	"coffer/charter"
	"coffer/identity"
	"coffer/internal/cli"
	"coffer/internal/testcharter"
	"coffer/party"
	"coffer/policy"
	pb "coffer/proto/coffer/v1"
	"coffer/rpc"
)

// office is a coordinator and the signers' own endpoints, as far as authority goes: each
// with a ledger of its own, which it passes on to the others, unless it is told to lie.
type office struct {
	t       *testing.T
	f       *testcharter.Fixture
	desk    *clerk
	signers map[party.ID]*clerk
}

// clerk holds a ledger and answers for it.
type clerk struct {
	pb.UnimplementedCoordinatorServer
	o    *office
	name party.ID // empty: the coordinator
	addr string
	stop func()

	mu     sync.Mutex
	ledger *authority.Ledger
	apart  bool                          // passes nothing on, and takes nothing that is passed on
	lie    func(r *pb.ExchangeResponse)  // about what it answers
	drop   func(r authority.Record) bool // what it takes and forgets
	asked  int
}

// newOffice starts everybody. The charter has lists with keepers, and delays that the
// test lets pass.
func newOffice(t *testing.T, edits ...func(*charter.Charter)) *office {
	t.Helper()
	edits = append([]func(*charter.Charter){func(c *charter.Charter) {
		c.Destinations[0].Keepers = &policy.Requirement{Group: "approvers", K: 2, Orgs: 2}
	}}, edits...)
	o := &office{t: t, f: testcharter.New(t, edits...), signers: map[party.ID]*clerk{}}
	o.desk = o.hire("", o.f.Coordinator)
	for id, key := range o.f.Signers {
		o.signers[id] = o.hire(id, key)
	}
	return o
}

func (o *office) hire(name party.ID, key *identity.Key) *clerk {
	o.t.Helper()
	var self *identity.Key
	if name != "" {
		self = key
	}
	ledger, err := authority.NewLedger(o.f.Charter, self)
	if err != nil {
		o.t.Fatal(err)
	}
	c := &clerk{o: o, name: name, ledger: ledger}
	service, register := pb.Orders_ServiceDesc.ServiceName, func(s *rpc.Server) { pb.RegisterOrdersServer(s, endpoint{c: c}) }
	methods := rpc.Methods{"/" + service + "/Exchange": rpc.Anybody}
	if name == "" {
		methods = rpc.Methods{}
		for _, m := range pb.Coordinator_ServiceDesc.Methods {
			methods["/"+pb.Coordinator_ServiceDesc.ServiceName+"/"+m.MethodName] = rpc.Anybody
		}
		for _, m := range pb.Coordinator_ServiceDesc.Streams {
			methods["/"+pb.Coordinator_ServiceDesc.ServiceName+"/"+m.StreamName] = rpc.Anybody
		}
		register = func(s *rpc.Server) { pb.RegisterCoordinatorServer(s, c) }
	}
	server, err := rpc.NewPublicServer(key, methods, nil, rpc.PublicBounds())
	if err != nil {
		o.t.Fatal(err)
	}
	register(server)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		o.t.Fatal(err)
	}
	c.addr = lis.Addr().String()
	done := make(chan error, 1)
	go func() { done <- server.Serve(lis) }()
	c.stop = sync.OnceFunc(func() {
		server.Stop()
		if err := <-done; err != nil {
			o.t.Error(err)
		}
	})
	o.t.Cleanup(c.stop)
	return c
}

// endpoint is a signer's own.
type endpoint struct {
	pb.UnimplementedOrdersServer
	c *clerk
}

func (e endpoint) Exchange(_ context.Context, req *pb.ExchangeRequest) (*pb.ExchangeResponse, error) {
	return e.c.exchange(req, func(k authority.Kind) bool { return k == authority.KindFreeze || k == authority.KindOrder })
}

func (c *clerk) Exchange(_ context.Context, req *pb.ExchangeRequest) (*pb.ExchangeResponse, error) {
	return c.exchange(req, nil)
}

func (c *clerk) List(context.Context, *pb.ListRequest) (*pb.ListResponse, error) {
	return &pb.ListResponse{}, nil
}

func (c *clerk) Cluster(context.Context, *pb.ClusterRequest) (*pb.ClusterResponse, error) {
	out := &pb.ClusterResponse{}
	for _, id := range c.o.f.Charter.Parties() {
		s := c.o.signers[id]
		s.mu.Lock()
		in := s.ledger.InForce()
		digest := in.Digest()
		raw, sig := s.head()
		signer, _ := in.Signer(id)
		out.Signers = append(out.Signers, &pb.SignerState{Name: string(id), Reachable: true, Status: &pb.StatusResponse{
			Signer: string(id), PeerId: string(signer.Peer), CharterDigest: digest[:], CharterVersion: in.Version, CharterComplete: true,
			Head: raw, HeadSignature: sig, Fresh: true,
		}})
		s.mu.Unlock()
	}
	return out, nil
}

func (c *clerk) head() (raw, signature []byte) {
	return c.ledger.Head(c.name, 7, canon.Sum([]byte("audit")), time.Now().Unix()).Sign(c.o.f.Signers[c.name])
}

func (c *clerk) exchange(req *pb.ExchangeRequest, take func(authority.Kind) bool) (*pb.ExchangeResponse, error) {
	reply, err := c.serve(req, take)
	c.o.gossip()
	return reply, err
}

func (c *clerk) serve(req *pb.ExchangeRequest, take func(authority.Kind) bool) (*pb.ExchangeResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	if c.drop != nil {
		req.Records = slices.DeleteFunc(req.Records, func(raw []byte) bool {
			r, err := authority.Parse(raw)
			return err == nil && c.drop(r)
		})
	}
	reply, _, err := exchange.Serve(c.ledger, req, take, time.Now().Unix())
	if err != nil {
		return nil, err
	}
	if c.name != "" {
		reply.Head, reply.HeadSignature = c.head()
	}
	if c.lie != nil {
		c.lie(reply)
	}
	return reply, nil
}

func (o *office) clerks() []*clerk {
	out := []*clerk{o.desk}
	for _, id := range o.f.Charter.Parties() {
		out = append(out, o.signers[id])
	}
	return out
}

// gossip passes everything on, until there is nothing new.
func (o *office) gossip() {
	for fresh := true; fresh; {
		fresh = false
		var all []authority.Record
		for _, c := range o.clerks() {
			c.mu.Lock()
			if !c.apart {
				all = append(all, c.ledger.Records()...)
			}
			c.mu.Unlock()
		}
		for _, c := range o.clerks() {
			c.mu.Lock()
			for _, r := range all {
				if c.apart || c.drop != nil && c.drop(r) {
					continue
				}
				events, _ := c.ledger.Add(r, time.Now().Unix())
				fresh = fresh || len(events) > 0
			}
			c.mu.Unlock()
		}
	}
}

// pass lets uptime pass at the signers.
func (o *office) pass(d time.Duration) {
	for _, c := range o.signers {
		c.mu.Lock()
		c.ledger.Advance(d, time.Now().Unix())
		c.mu.Unlock()
	}
	o.gossip()
}

// tell hands a record to one of them alone.
func (c *clerk) tell(r authority.Record) {
	c.o.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := c.ledger.Add(r, time.Now().Unix()); err != nil {
		c.o.t.Fatal(err)
	}
}

func (c *clerk) set(f func()) { c.mu.Lock(); defer c.mu.Unlock(); f() }

// person is a coffer of somebody's own, with a folder of its own.
type person struct {
	o    *office
	name string
	home string
	more []string // flags
}

func (o *office) person(name string) *person {
	o.t.Helper()
	p := &person{o: o, name: name, home: o.t.TempDir() + "/home"}
	p.more = append(p.more, "--addr", o.desk.addr)
	for id, c := range o.signers {
		p.more = append(p.more, "--signer", string(id)+"="+c.addr)
	}
	path := o.t.TempDir() + "/charter.json"
	if err := charter.WriteFile(path, o.f.File); err != nil {
		o.t.Fatal(err)
	}
	if r := p.bare("join", path, "--digest", o.f.Charter.Digest().String(), "--home", p.home); r.code != cli.Done {
		o.t.Fatalf("join: %s", r.stderr)
	}
	return p
}

func (p *person) bare(args ...string) result {
	p.o.t.Helper()
	var stdout, stderr bytes.Buffer
	code := cli.Run(p.o.t.Context(), command(), args, &stdout, &stderr)
	return result{code, stdout.String(), stderr.String()}
}

func (p *person) run(args ...string) result {
	p.o.t.Helper()
	full := append([]string{"--home", p.home, "--as", p.name, "--key", testcharter.KeyFile(p.o.t, p.name)}, p.more...)
	return p.bare(append(full, args...)...)
}

func (p *person) must(args ...string) string {
	p.o.t.Helper()
	r := p.run(args...)
	if r.code != cli.Done {
		p.o.t.Fatalf("%s: coffer %s: exit %d: %s", p.name, strings.Join(args, " "), r.code, r.stderr)
	}
	return strings.TrimSpace(r.stdout)
}

// fails runs a command that must end with code and say all of says.
func (p *person) fails(code int, says []string, args ...string) result {
	p.o.t.Helper()
	r := p.run(args...)
	if r.code != code {
		p.o.t.Errorf("coffer %s: exit %d, want %d: %s%s", strings.Join(args, " "), r.code, code, r.stdout, r.stderr)
	}
	p.says(r, says...)
	return r
}

func (p *person) says(r result, says ...string) {
	p.o.t.Helper()
	for _, text := range says {
		if !strings.Contains(r.stdout+r.stderr, text) {
			p.o.t.Errorf("nobody says %q: %s%s", text, r.stdout, r.stderr)
		}
	}
}

// change brings another version of the charter in force, which everybody but the people
// has at once.
func (o *office) change(edit func(*charter.Charter)) *charter.Charter {
	o.t.Helper()
	now, old := time.Now().Unix(), o.desk.ledger.InForce()
	next := o.f.Next(o.t, old, edit)
	o.desk.tell(o.f.CharterRecord(o.t, next, now, o.f.Cards(o.t, next, old), "alice", "bob"))
	o.gossip()
	o.pass(0)
	if got := o.desk.ledger.InForce().Digest(); got != next.Digest() {
		o.t.Fatalf("version %d did not take force", next.Version)
	}
	return next
}

// shown is the version of the charter that a person's own folder has in force.
func (o *office) shown(p *person) uint64 {
	o.t.Helper()
	h, err := (&options{home: p.home}).open()
	if err != nil {
		o.t.Fatal(err)
	}
	return h.inForce().Version
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
