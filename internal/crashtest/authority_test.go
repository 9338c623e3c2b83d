//go:build e2e && crashpoint

package crashtest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"coffer/authority"
	"coffer/authority/book"
	"coffer/canon"
	"coffer/charter"
	"coffer/coordinator"
	"coffer/identity"
	"coffer/internal/testcharter"
	"coffer/node"
	"coffer/party"
	"coffer/policy"
	pb "coffer/proto/coffer/v1"
	"coffer/rpc"
	"coffer/store"
)

// delay is what a version of the charter waits for on each signer, in its uptime.
const delay = time.Second

// authorities is a cluster whose people and operators freeze it and lift that, and
// change lists and the charter, while its processes die. What it notes is what nobody
// may go back on.
type authorities struct {
	*cluster
	f    *testcharter.Fixture
	root *charter.Charter

	list  canon.Digest // the version of the list that the keepers signed last
	count uint64       // of versions of that list
	spoke byte         // tells freezes of one second apart

	mu       sync.Mutex
	newest   map[string]uint64                // version of the charter that a process said is in force
	earliest map[uint64]time.Time             // no version may be in force anywhere before
	held     map[string]map[canon.Digest]bool // freezes that a process acknowledged and nobody lifts
	lifted   map[string]map[canon.Digest]bool // of which it acknowledged that they are lifted
}

func newAuthorities(t testing.TB) *authorities {
	c := newCluster(t, nil)
	a := &authorities{
		cluster: c, root: c.charter, f: &testcharter.Fixture{Charter: c.charter, People: c.people},
		newest: map[string]uint64{}, earliest: map[uint64]time.Time{},
		held: map[string]map[canon.Digest]bool{}, lifted: map[string]map[canon.Digest]bool{},
	}
	a.each(func(p *process) {
		a.held[p.name], a.lifted[p.name] = map[canon.Digest]bool{}, map[canon.Digest]bool{}
		if p != a.desk {
			p.autopsy = func() { a.receiptsAreOnDisk(p) }
		}
	})
	return a
}

// persist asks again until it is answered, as a person does whose signer is away.
func (a *authorities) persist(what string, f func(ctx context.Context) error) error {
	err := await(within, func() error {
		ctx, cancel := context.WithTimeout(a.t.Context(), 5*time.Second)
		defer cancel()
		return f(ctx)
	})
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// operator calls a signer through its operator's socket.
func operator(p *process, f func(pb.OperatorClient) error) error {
	conn, err := rpc.DialUnix(node.Dir(p.dir).Socket())
	if err != nil {
		return err
	}
	defer conn.Close()
	return f(pb.NewOperatorClient(conn))
}

func (a *authorities) exchange(ctx context.Context, p *process, req *pb.ExchangeRequest) (reply *pb.ExchangeResponse, err error) {
	if p == a.desk {
		return a.api.Exchange(ctx, req)
	}
	err = operator(p, func(o pb.OperatorClient) error {
		reply, err = o.Exchange(ctx, req)
		return err
	})
	return reply, err
}

// hand gives a record to a process, until it has taken it.
func (a *authorities) hand(p *process, r authority.Record) error {
	return a.persist(fmt.Sprintf("hand a %s to %s", r.Kind, p.name), func(ctx context.Context) error {
		reply, err := a.exchange(ctx, p, &pb.ExchangeRequest{Records: [][]byte{r.Encode()}})
		if err == nil && len(reply.Refused) > 0 {
			err = fmt.Errorf("%s: %s", reply.Refused[0].Code, reply.Refused[0].Text)
		}
		return err
	})
}

// records are what a process hands out.
func (a *authorities) records(ctx context.Context, p *process) (map[canon.Digest]authority.Record, error) {
	out := map[canon.Digest]authority.Record{}
	req := &pb.ExchangeRequest{Fetch: true}
	for {
		reply, err := a.exchange(ctx, p, req)
		if err != nil {
			return nil, err
		}
		for _, raw := range reply.Records {
			r, err := authority.Parse(raw)
			if err != nil {
				return nil, err
			}
			id, sum := r.ID(), r.Sum()
			out[id] = r
			req.Have = append(req.Have, &pb.RecordRef{Id: id[:], Sum: sum[:]})
		}
		if !reply.More {
			return out, nil
		}
	}
}

// standing is what a process says that stands, which must be no less than it said before.
type standing struct {
	version uint64
	freezes map[canon.Digest]bool
}

func (a *authorities) standing(ctx context.Context, p *process) (s standing, err error) {
	var freezes []*pb.FreezeState
	if p == a.desk {
		reply, err := a.api.Cluster(ctx, &pb.ClusterRequest{})
		if err != nil {
			return s, err
		}
		s.version, freezes = reply.CharterVersion, reply.Freezes
	} else if err := operator(p, func(o pb.OperatorClient) error {
		reply, err := o.Status(ctx, &pb.StatusRequest{})
		if err == nil {
			s.version, freezes = reply.CharterVersion, reply.Freezes
		}
		return err
	}); err != nil {
		return s, err
	}
	s.freezes = map[canon.Digest]bool{}
	for _, f := range freezes {
		s.freezes[canon.Digest(f.Id)] = true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if s.version < a.newest[p.name] {
		a.t.Errorf("%s went back from version %d of the charter to %d", p.name, a.newest[p.name], s.version)
	}
	if until := a.earliest[s.version]; time.Now().Before(until) {
		a.t.Errorf("version %d is in force at %s %s before its delay is over", s.version, p.name, time.Until(until))
	}
	a.newest[p.name] = s.version
	for id := range a.held[p.name] {
		if !s.freezes[id] {
			a.t.Errorf("%s acknowledged freeze %s, and has lost it", p.name, id.Short())
		}
	}
	for id := range a.lifted[p.name] {
		if s.freezes[id] {
			a.t.Errorf("%s acknowledged that %s is lifted, and holds it again", p.name, id.Short())
		}
	}
	return s, nil
}

// everywhere waits until a condition holds at every process.
func (a *authorities) everywhere(what string, ok func(standing) bool) (err error) {
	a.each(func(p *process) {
		err = errors.Join(err, a.persist(what+" at "+p.name, func(ctx context.Context) error {
			s, err := a.standing(ctx, p)
			if err == nil && !ok(s) {
				err = fmt.Errorf("version %d, %d freezes", s.version, len(s.freezes))
			}
			return err
		}))
	})
	return err
}

// receiptsAreOnDisk opens the store of a signer that has just died: what any other holds
// its receipt of must be there.
func (a *authorities) receiptsAreOnDisk(p *process) {
	raw, err := os.ReadFile(node.Dir(p.dir).Store())
	if err != nil {
		a.t.Error(err)
		return
	}
	path := filepath.Join(a.t.TempDir(), "signer.db")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		a.t.Error(err)
		return
	}
	db, err := store.Open(path)
	if err != nil {
		a.t.Errorf("the store of %s: %v", p.name, err)
		return
	}
	defer db.Close()
	b, err := book.Open(db, a.root, nil, time.Now().Unix())
	if err != nil {
		a.t.Errorf("the records of %s: %v", p.name, err)
		return
	}
	ctx, cancel := context.WithTimeout(a.t.Context(), 5*time.Second)
	defer cancel()
	a.each(func(other *process) {
		if other == p {
			return
		}
		records, err := a.records(ctx, other)
		if err != nil {
			a.t.Logf("%s is not asked what it heard of %s: %v", other.name, p.name, err)
			return
		}
		for id, r := range records {
			if !slices.ContainsFunc(r.Receipts, func(r authority.Receipt) bool { return string(r.Signer) == p.name }) {
				continue
			}
			if _, kept := b.Record(id); !kept && !b.Lifted(id) && r.Kind != authority.KindList {
				a.t.Errorf("%s has given a receipt of %s %s to %s, which is not on its disk", p.name, r.Kind, id.Short(), other.name)
			}
			if _, force := b.Charter(id); r.Kind == authority.KindCharter && !force {
				a.t.Errorf("%s has told %s that version %s is in force, which it is not on its disk", p.name, other.name, id.Short())
			}
		}
	})
}

// freeze has a process freeze the cluster until it acknowledges that: a signer for its
// operator, the coordinator for a person. What was not acknowledged may stand or not.
func (a *authorities) freeze(p *process) error {
	var id canon.Digest
	var err error
	if p == a.desk {
		a.spoke++
		r := a.f.FreezeRecord(a.t, "alice", authority.ScopeCluster, "", time.Now().Unix(), a.spoke)
		id, err = r.ID(), a.hand(p, r)
	} else {
		err = a.persist("freeze at "+p.name, func(ctx context.Context) error {
			return operator(p, func(o pb.OperatorClient) error {
				reply, err := o.Freeze(ctx, &pb.FreezeRequest{Scope: authority.ScopeCluster, Reason: "strange requests"})
				if err != nil {
					return err
				}
				r, err := authority.Parse(reply.Record)
				id = r.ID()
				return err
			})
		})
	}
	if err != nil {
		return err
	}
	a.mu.Lock()
	a.held[p.name][id] = true
	a.mu.Unlock()
	return a.everywhere("the freeze is held", func(s standing) bool { return s.freezes[id] })
}

// lift has two admins lift whatever stands, through a process.
func (a *authorities) lift(p *process) error {
	stand := map[canon.Digest]bool{}
	if err := a.everywhere("what stands", func(s standing) bool { maps.Copy(stand, s.freezes); return true }); err != nil {
		return err
	}
	ids := slices.Collect(maps.Keys(stand))
	a.mu.Lock()
	for _, held := range a.held {
		clear(held)
	}
	a.mu.Unlock()
	if err := a.hand(p, a.f.UnfreezeRecord(a.t, a.charter, time.Now().Unix(), ids, "bob", "carol")); err != nil {
		return err
	}
	a.mu.Lock()
	for _, id := range ids {
		a.lifted[p.name][id] = true
	}
	a.mu.Unlock()
	return a.everywhere("nothing is frozen", func(s standing) bool { return len(s.freezes) == 0 })
}

// relist has the keepers of a list sign its next version, and hands it to a process.
func (a *authorities) relist(p *process) error {
	entry := policy.Destination{Chain: "dev", Address: testcharter.Stranger, Label: fmt.Sprintf("version %d", a.count+1)}
	r := a.f.ListRecord(a.t, staff, a.count+1, a.list, time.Now().Unix(), []policy.Destination{entry}, "bob", "carol")
	if err := a.hand(p, r); err != nil {
		return err
	}
	a.list, a.count = r.ID(), a.count+1
	return a.kept(r.ID())
}

// kept waits until every process has a record, and demands it at once of one that took it.
func (a *authorities) kept(id canon.Digest) (err error) {
	a.each(func(p *process) {
		err = errors.Join(err, a.persist("record "+id.Short()+" at "+p.name, func(ctx context.Context) error {
			records, err := a.records(ctx, p)
			if _, ok := records[id]; err == nil && !ok {
				err = fmt.Errorf("it is not among %d", len(records))
			}
			return err
		}))
	})
	return err
}

// orders are what the people of a working day do with records, through one process.
func (a *authorities) orders(p *process) func() error {
	return func() error {
		for _, step := range []func(*process) error{a.freeze, a.relist, a.lift} {
			if err := step(p); err != nil {
				return err
			}
		}
		return nil
	}
}

// change has the admins sign the next version of the charter, hands it to a process, and
// waits until it is in force everywhere.
func (a *authorities) change(p *process, edit func(*charter.Charter), cards ...string) error {
	next := a.f.Next(a.t, a.charter, edit)
	r := a.f.CharterRecord(a.t, next, time.Now().Unix(), cards, "bob", "carol")
	a.mu.Lock()
	a.earliest[next.Version] = time.Now().Add(delay)
	a.mu.Unlock()
	if err := a.hand(p, r); err != nil {
		return err
	}
	if err := a.everywhere(fmt.Sprintf("version %d is in force", next.Version), func(s standing) bool { return s.version == next.Version }); err != nil {
		return err
	}
	a.charter, a.f.Charter = next, next
	return a.inFile()
}

// inFile waits until the charter's file of every process has all versions, for newcomers
// and for the day on which its store is lost.
func (a *authorities) inFile() (err error) {
	a.each(func(p *process) {
		path := node.Dir(p.dir).Charter()
		if p == a.desk {
			path = coordinator.Dir(p.dir).Charter()
		}
		err = errors.Join(err, a.persist("versions in "+path, func(context.Context) error {
			file, err := charter.OpenPresent(path, a.root.Digest())
			if err == nil && uint64(len(file.Records)) != a.charter.Version-1 {
				err = fmt.Errorf("it has %d beside the first, of %d", len(file.Records), a.charter.Version-1)
			}
			return err
		}))
	})
	return err
}

// amend is a change of a number, up and down.
func (a *authorities) amend(p *process) func() error {
	return func() error {
		return a.change(p, func(c *charter.Charter) {
			for n := range c.Rules {
				if r := &c.Rules[n]; r.Name == "payments" && r.FeeCap == "0.01 ETH" {
					r.FeeCap = "0.02 ETH"
				} else if r.Name == "payments" {
					r.FeeCap = "0.01 ETH"
				}
			}
		})
	}
}

// rotate changes the identity of a process, and waits until all speak with it under that.
func (a *authorities) rotate(p *process) func() error {
	return func() error {
		makeNext, path := func() (string, error) { return node.Rotate(node.Dir(p.dir)) }, node.Dir(p.dir).NextIdentity()
		if p == a.desk {
			makeNext, path = func() (string, error) { return coordinator.Rotate(coordinator.Dir(p.dir)) }, coordinator.Dir(p.dir).NextIdentity()
		}
		card, err := makeNext()
		if err != nil {
			return err
		}
		next, err := identity.Load(path)
		if err != nil {
			return err
		}
		if err := a.change(a.signers["b"], func(c *charter.Charter) {
			for n := range c.Signers {
				if c.Signers[n].Name == party.ID(p.name) {
					c.Signers[n].Peer = next.ID()
				}
			}
			for n := range c.Coordinators {
				if c.Coordinators[n].Name == p.name {
					c.Coordinators[n].Peer = next.ID()
				}
			}
		}, card); err != nil {
			return err
		}
		if p == a.desk {
			a.dial(next.ID())
		}
		return a.together()
	}
}

// together waits until every signer agrees with all others, and the coordinator reaches
// each.
func (a *authorities) together() (err error) {
	for _, id := range slices.Sorted(maps.Keys(a.signers)) {
		p := a.signers[id]
		err = errors.Join(err, a.persist("the others' heads at "+p.name, func(ctx context.Context) error {
			return operator(p, func(o pb.OperatorClient) error {
				s, err := o.Status(ctx, &pb.StatusRequest{})
				if err != nil {
					return err
				}
				me, _ := a.charter.Signer(id)
				if string(me.Peer) != s.PeerId {
					return fmt.Errorf("it is %s, the charter lists %s", s.PeerId, me.Peer)
				}
				for _, peer := range s.Peers {
					if !peer.Connected {
						return fmt.Errorf("%s is away: %s", peer.Signer, peer.Error)
					}
				}
				if !s.Fresh {
					return errors.New("they are old or differ")
				}
				return nil
			})
		}))
	}
	return errors.Join(err, a.persist("the coordinator reaches all signers", func(ctx context.Context) error {
		reply, err := a.api.Cluster(ctx, &pb.ClusterRequest{})
		if err != nil {
			return err
		}
		for _, s := range reply.Signers {
			if !s.Reachable {
				return fmt.Errorf("%s: %s", s.Name, s.Error)
			}
		}
		return nil
	}))
}

// onDisk are the places about what is kept: those of the network differ little between
// one record and the next.
func onDisk(seen map[string]int, most int) map[string]int {
	out := map[string]int{}
	for name, times := range seen {
		if isWrite(name) || slices.ContainsFunc([]string{"store.committed", "audit.appended", "file."}, func(p string) bool { return strings.HasPrefix(name, p) }) {
			out[name] = min(times, most)
		}
	}
	return out
}

// seen is where processes come while work is done.
func (a *authorities) seen(work func() error, of ...*process) map[*process]map[string]int {
	a.t.Helper()
	for _, p := range of {
		p.record()
	}
	a.must(work())
	out := map[*process]map[string]int{}
	for _, p := range of {
		out[p] = p.recorded()
	}
	return out
}

// TestOrdersMatrix ends processes at every write and send of a freeze, of a version of a
// list and of an unfreeze: what was acknowledged stands, what was not stands or does not,
// all come to hold the same, and nothing that a process told others is missing on its disk.
func TestOrdersMatrix(t *testing.T) {
	t.Parallel()
	c := newAuthorities(t)
	c.fund()
	s, other := c.signers["a"], c.signers["b"]
	work := c.orders(s)
	c.must(work())
	seen := c.seen(work, s, other)
	few := func(seen map[string]int) map[string]int {
		out := map[string]int{}
		for name, times := range seen {
			out[name] = min(times, 3)
		}
		return out
	}
	matrix(t, s, few(seen[s]), work)
	for name := range seen[s] { // the other hears what the first is told
		if !strings.HasPrefix(name, "store.") && !strings.HasPrefix(name, "audit.") {
			delete(seen[other], name)
		}
	}
	matrix(t, other, few(seen[other]), work)
	work = c.orders(c.desk)
	matrix(t, c.desk, onDisk(c.seen(work, c.desk)[c.desk], 3), work)
	c.must(c.pay()) // nothing is left of all this
	c.checkChain()
	c.checkLogs()
}

// TestCharterMatrix ends processes at every write while a version of the charter is taken
// in, waits and takes force: its delay is not skipped, and nobody goes back.
func TestCharterMatrix(t *testing.T) {
	t.Parallel()
	c := newAuthorities(t)
	c.fund()
	for _, p := range []*process{c.signers["a"], c.desk} {
		work := c.amend(p)
		c.must(work())
		matrix(t, p, onDisk(c.seen(work, p)[p], 2), work)
	}
	c.must(c.pay())
	c.checkChain()
	c.checkLogs()
}

// TestRotationMatrix ends a signer and the coordinator at every write while they go over
// to another identity, which they finish by themselves.
func TestRotationMatrix(t *testing.T) {
	t.Parallel()
	c := newAuthorities(t)
	c.fund()
	for _, p := range []*process{c.signers["a"], c.desk} {
		work := c.rotate(p)
		c.must(work())
		seen := c.seen(work, p)[p]
		if !slices.ContainsFunc(slices.Collect(maps.Keys(seen)), func(name string) bool { return strings.HasPrefix(name, "file.move@") }) {
			t.Fatalf("%s took no identity: %v", p.name, slices.Sorted(maps.Keys(seen)))
		}
		matrix(t, p, onDisk(seen, 1), work)
	}
	c.signers["c"].kill() // a is needed
	c.must(c.pay())
	c.checkChain()
	c.checkLogs()
}

// TestFullDiskAtEveryRecord has every write of records, by signer and coordinator, meet a
// full disk from there on: the process ends and says so, and nothing that it acknowledged,
// or told others that it has, is lost.
func TestFullDiskAtEveryRecord(t *testing.T) {
	t.Parallel()
	c := newAuthorities(t)
	c.fund()
	for _, p := range []*process{c.signers["a"], c.desk} {
		for _, work := range []func() error{c.orders(p), c.amend(p), c.rotate(p)} {
			c.must(work())
			seen := onDisk(c.seen(work, p)[p], 2)
			// A copy of what is in the store: the coordinator warns, and lives without it
			// until its next start.
			delete(seen, "file.create@charter.WriteFile")
			n := starve(t, p, seen, work)
			t.Logf("%s: a full disk at %d writes", p.name, n)
		}
	}
	c.must(c.pay())
	c.checkChain()
	c.checkLogs()
}
