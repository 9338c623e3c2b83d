package access_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"coffer/access"
	"coffer/canon"
	"coffer/charter"
	"coffer/credential"
	"coffer/identity"
	"coffer/internal/testcharter"
	"coffer/rpc"
)

const now = int64(1_800_000_000)

func key(t *testing.T) *identity.Key {
	t.Helper()
	k, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func grantOf(f *testcharter.Fixture, name string, client *identity.Key) *access.Grant {
	return &access.Grant{Cluster: f.Charter.Cluster, Name: name, Client: client.ID(), Issued: now, Expires: now + 3600}
}

func sign(t *testing.T, g *access.Grant, by credential.Signer) []byte {
	t.Helper()
	raw, err := access.Sign(g, by)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// clock is a Guard's world: the charter in force and the time.
type clock struct {
	mu      sync.Mutex
	charter *charter.Charter
	now     int64
}

func (c *clock) guard() *access.Guard {
	return access.NewGuard(func() *charter.Charter {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.charter
	}, func() time.Time { return time.Unix(c.now, 0) })
}

func TestGuard(t *testing.T) {
	f := testcharter.New(t)
	client, other := key(t), key(t)
	alice, payroll := f.Key(t, "alice"), f.Key(t, "payroll")
	good := sign(t, grantOf(f, "alice", client), alice)
	service := sign(t, grantOf(f, "payroll", client), payroll)
	change := func(do func(*access.Grant)) []byte {
		g := grantOf(f, "alice", client)
		do(g)
		return sign(t, g, alice)
	}
	// A statement's signature, under its own namespace, over what would be a grant.
	raw := grantOf(f, "alice", client).Encode()
	digest := canon.Sum(raw)
	wrong, err := alice.Sign("coffer-statement-v1", digest[:])
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		caller identity.ID
		grant  []byte
		role   rpc.Role
		want   codes.Code
	}{
		"a person reads":            {client.ID(), good, rpc.Reader, codes.OK},
		"a person asks":             {client.ID(), good, rpc.Initiator, codes.OK},
		"a person answers":          {client.ID(), good, rpc.Approver, codes.OK},
		"a service reads":           {client.ID(), service, rpc.Reader, codes.OK},
		"a service asks":            {client.ID(), service, rpc.Initiator, codes.OK},
		"a service answers":         {client.ID(), service, rpc.Approver, codes.PermissionDenied},
		"an owner":                  {client.ID(), good, rpc.Owner, codes.PermissionDenied},
		"a coordinator":             {client.ID(), good, rpc.Coordinator, codes.PermissionDenied},
		"no grant":                  {client.ID(), nil, rpc.Reader, codes.Unauthenticated},
		"no certificate":            {"", good, rpc.Reader, codes.Unauthenticated},
		"stolen":                    {other.ID(), good, rpc.Reader, codes.Unauthenticated},
		"somebody else's key":       {client.ID(), sign(t, grantOf(f, "alice", client), f.Key(t, "bob")), rpc.Reader, codes.Unauthenticated},
		"a service's key":           {client.ID(), sign(t, grantOf(f, "alice", client), payroll), rpc.Reader, codes.Unauthenticated},
		"a name that nobody has":    {client.ID(), change(func(g *access.Grant) { g.Name = "mallory" }), rpc.Reader, codes.Unauthenticated},
		"of another cluster":        {client.ID(), change(func(g *access.Grant) { g.Cluster[0] ^= 1 }), rpc.Reader, codes.Unauthenticated},
		"ended":                     {client.ID(), change(func(g *access.Grant) { g.Issued, g.Expires = now-10, now }), rpc.Reader, codes.Unauthenticated},
		"ends in a second":          {client.ID(), change(func(g *access.Grant) { g.Issued, g.Expires = now-10, now+1 }), rpc.Reader, codes.OK},
		"issued by a clock ahead":   {client.ID(), change(func(g *access.Grant) { g.Issued = now + 300 }), rpc.Reader, codes.OK},
		"issued in the future":      {client.ID(), change(func(g *access.Grant) { g.Issued = now + 301 }), rpc.Reader, codes.Unauthenticated},
		"under another namespace":   {client.ID(), canon.New("coffer/access/v1/signed").Bytes(raw).Bytes(wrong).Encoded(), rpc.Reader, codes.Unauthenticated},
		"not signed":                {client.ID(), canon.New("coffer/access/v1/signed").Bytes(raw).Bytes(nil).Encoded(), rpc.Reader, codes.Unauthenticated},
		"too large":                 {client.ID(), append(good, make([]byte, access.MaxGrant)...), rpc.Reader, codes.Unauthenticated},
		"with bytes after it":       {client.ID(), append(append([]byte(nil), good...), 0), rpc.Reader, codes.Unauthenticated},
		"the longest that is taken": {client.ID(), change(func(g *access.Grant) { g.Expires = now + 24*3600 }), rpc.Reader, codes.OK},
	} {
		t.Run(name, func(t *testing.T) {
			who, err := (&clock{charter: f.Charter, now: now}).guard().Authorize(t.Context(), c.caller, c.grant, c.role)
			if status.Code(err) != c.want {
				t.Fatalf("%v, want %v", err, c.want)
			}
			if access.NoGrant(err) != (c.want == codes.Unauthenticated) {
				t.Errorf("NoGrant: %v", err)
			}
			if err == nil && who != "alice" && who != "payroll" {
				t.Errorf("who is %q", who)
			}
		})
	}
}

// Each byte of a signed grant counts. A newline or two in an armored signature are read
// in one way only, so there is no second spelling either.
func TestEachByteOfAGrant(t *testing.T) {
	f := testcharter.New(t)
	client := key(t)
	good := sign(t, grantOf(f, "alice", client), f.Key(t, "alice"))
	if _, err := access.Verify(f.Charter, good); err != nil {
		t.Fatal(err)
	}
	for i := range good {
		for _, bit := range []byte{1, 0x80} {
			bad := append([]byte(nil), good...)
			bad[i] ^= bit
			if _, err := access.Verify(f.Charter, bad); err == nil {
				t.Errorf("byte %d of %d changed, and it verifies", i, len(good))
			}
		}
		if _, err := access.Verify(f.Charter, good[:i]); err == nil {
			t.Errorf("cut to %d of %d bytes, and it verifies", i, len(good))
		}
	}
}

// Whoever is removed from the charter, or whose key is, is refused at the next call,
// although the grant was verified before and has hours to go. A change that leaves them
// there costs them nothing.
func TestRemovedFromTheCharter(t *testing.T) {
	f := testcharter.New(t)
	client := key(t)
	good := sign(t, grantOf(f, "alice", client), f.Key(t, "alice"))
	world := &clock{charter: f.Charter, now: now}
	guard := world.guard()
	call := func() error {
		_, err := guard.Authorize(t.Context(), client.ID(), good, rpc.Reader)
		return err
	}
	edit := func(do func(*charter.Charter)) {
		raw := f.Charter.Encode()
		next, err := charter.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		do(next)
		world.mu.Lock()
		defer world.mu.Unlock()
		world.charter = next
	}
	at := func(c *charter.Charter) int {
		for i, p := range c.People {
			if p.Name == "alice" {
				return i
			}
		}
		t.Fatal("no alice")
		return 0
	}
	for _, step := range []struct {
		name string
		edit func(*charter.Charter)
		want codes.Code
	}{
		{"as it was", func(*charter.Charter) {}, codes.OK},
		{"another rule", func(c *charter.Charter) { c.Admin.K++ }, codes.OK},
		{"without her", func(c *charter.Charter) { i := at(c); c.People = append(c.People[:i:i], c.People[i+1:]...) }, codes.Unauthenticated},
		{"as it was again", func(*charter.Charter) {}, codes.OK},
		{"with another key of hers", func(c *charter.Charter) { c.People[at(c)].Keys = c.People[(at(c)+1)%len(c.People)].Keys }, codes.Unauthenticated},
	} {
		edit(step.edit)
		for range 2 { // the second time from memory
			if err := call(); status.Code(err) != step.want {
				t.Errorf("%s: %v", step.name, err)
			}
		}
	}
	// Verified before is not valid for ever.
	edit(func(*charter.Charter) {})
	if err := call(); err != nil {
		t.Fatal(err)
	}
	world.now = now + 3600
	if err := call(); status.Code(err) != codes.Unauthenticated {
		t.Errorf("after its end: %v", err)
	}
}

// The memory of a guard is bounded, and forgetting costs only time.
func TestManyGrants(t *testing.T) {
	f := testcharter.New(t)
	guard := (&clock{charter: f.Charter, now: now}).guard()
	alice := f.Key(t, "alice")
	client := key(t)
	var wg sync.WaitGroup
	for i := range 300 {
		g := grantOf(f, "alice", client)
		g.Expires += int64(i)
		signed := sign(t, g, alice)
		for range 2 {
			wg.Go(func() {
				if _, err := guard.Authorize(context.Background(), client.ID(), signed, rpc.Reader); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	if n := guard.Remembered(); n == 0 || n > 256 {
		t.Errorf("%d grants are remembered", n)
	}
}

func TestGrantShape(t *testing.T) {
	f := testcharter.New(t)
	client := key(t)
	for name, do := range map[string]func(*access.Grant){
		"no cluster":      func(g *access.Grant) { g.Cluster = canon.Digest{} },
		"no name":         func(g *access.Grant) { g.Name = "" },
		"no client":       func(g *access.Grant) { g.Client = "" },
		"ends at once":    func(g *access.Grant) { g.Expires = g.Issued },
		"longer than 24h": func(g *access.Grant) { g.Expires = g.Issued + 24*3600 + 1 },
		"before 1970":     func(g *access.Grant) { g.Issued = -1 },
	} {
		g := grantOf(f, "alice", client)
		do(g)
		if g.Encode() != nil {
			t.Errorf("%s: encoded", name)
		}
		if _, err := access.Sign(g, f.Key(t, "alice")); !errors.Is(err, access.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	raw := grantOf(f, "alice", client).Encode()
	if back, err := access.Parse(raw); err != nil || *back != *grantOf(f, "alice", client) {
		t.Errorf("%v %v", back, err)
	}
}

func FuzzVerify(f *testing.F) {
	fixture := testcharter.New(f)
	client := testcharter.Identity(f, "client") // the same in each process that fuzzes
	good, err := access.Sign(grantOf(fixture, "alice", client), fixture.Key(f, "alice"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, raw []byte) {
		if g, err := access.Verify(fixture.Charter, raw); err == nil && (g.Name != "alice" || string(raw) != string(good)) {
			t.Errorf("verifies: %x", raw)
		}
	})
}

// asked counts how often a key was needed.
type asked struct {
	credential.Signer
	n int
}

func (a *asked) get() (credential.Signer, error) { a.n++; return a.Signer, nil }

func TestSource(t *testing.T) {
	f := testcharter.New(t)
	path := filepath.Join(t.TempDir(), "home", "access", "alice")
	world := &clock{charter: f.Charter, now: now}
	guard := world.guard()
	signer := &asked{Signer: f.Key(t, "alice")}
	open := func(get func() (credential.Signer, error)) *access.Source {
		t.Helper()
		s, err := access.OpenSourceAt(path, f.Charter.Cluster, "alice", get, func() time.Time { return time.Unix(world.now, 0) })
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	call := func(s *access.Source) {
		t.Helper()
		grant, err := s.Grant(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := guard.Authorize(t.Context(), s.Key().ID(), grant, rpc.Approver); err != nil {
			t.Fatal(err)
		}
	}
	want := func(n int) {
		t.Helper()
		if signer.n != n {
			t.Fatalf("the key was needed %d times, want %d", signer.n, n)
		}
	}

	// Without a key that signs by itself somebody has to log in first.
	touch := open(nil)
	if _, err := touch.Grant(t.Context()); !errors.Is(err, access.ErrLogin) || !touch.Expires().IsZero() {
		t.Fatalf("%v %v", err, touch.Expires())
	}
	if err := touch.Login(signer.Signer, nil); err != nil {
		t.Fatal(err)
	}
	call(touch)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v %v", info, err)
	}
	if info, err := os.Stat(filepath.Dir(path)); err != nil || info.Mode().Perm() != 0o700 {
		t.Fatalf("%v %v", info, err)
	}

	// The next command finds it, and needs no key.
	s := open(signer.get)
	call(s)
	want(0)
	if s.Key().ID() != touch.Key().ID() || s.Expires().Unix() != now+12*3600 {
		t.Fatalf("%v ends %v", s.Key(), s.Expires())
	}
	// Before its end it is renewed, for the same TLS key: connections live on.
	world.now += 12*3600 - 1800
	call(s)
	want(1)
	call(s)
	want(1)
	if s.Key().ID() != touch.Key().ID() {
		t.Error("the key changed under a living connection")
	}
	// One that needs a touch is used to its last second.
	last := open(nil)
	world.now = last.Expires().Unix() - 1
	call(last)
	world.now++
	if _, err := last.Grant(t.Context()); !errors.Is(err, access.ErrLogin) {
		t.Errorf("after its end: %v", err)
	}
	// One that ended takes its TLS key along.
	anew := open(signer.get)
	if anew.Key().ID() == s.Key().ID() {
		t.Error("the key of an ended grant lives on")
	}
	call(anew)
	want(2)

	if err := anew.Forget(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("forgotten: %v", err)
	}
	if err := anew.Forget(); err != nil {
		t.Errorf("twice: %v", err)
	}
}

// What lies in the file and does not fit counts as nothing; a file that others can read
// is not used.
func TestSourceFile(t *testing.T) {
	f := testcharter.New(t)
	path := filepath.Join(t.TempDir(), "alice")
	s, err := access.OpenSource(path, f.Charter.Cluster, "alice", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Login(f.Key(t, "alice"), nil); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, secret, ok := strings.Cut(string(good), "-----BEGIN PRIVATE KEY"); !ok || secret == "" {
		t.Fatal("no key in the file")
	}
	for name, c := range map[string]struct {
		raw     []byte
		name    string
		cluster canon.Digest
	}{
		"nothing":         {nil, "alice", f.Charter.Cluster},
		"junk":            {[]byte("junk"), "alice", f.Charter.Cluster},
		"cut":             {good[:len(good)-40], "alice", f.Charter.Cluster},
		"huge":            {append(good, make([]byte, 1<<20)...), "alice", f.Charter.Cluster},
		"another name":    {good, "bob", f.Charter.Cluster},
		"another cluster": {good, "alice", canon.Sum([]byte("x"))},
	} {
		if err := os.WriteFile(path, c.raw, 0o600); err != nil {
			t.Fatal(err)
		}
		found, err := access.OpenSource(path, c.cluster, c.name, nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, err := found.Grant(t.Context()); !errors.Is(err, access.ErrLogin) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := access.OpenSource(path, f.Charter.Cluster, "alice", nil); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a file that others can read: %v", err)
	}
	if text := fmt.Sprintf("%v %+v", s, s.Key()); strings.Contains(text, "PRIVATE") {
		t.Error("a secret is printed")
	}
}

// The encoding, byte by byte: a grant of one build is a grant for another.
func TestGrantGolden(t *testing.T) {
	g := &access.Grant{
		Cluster: canon.Sum([]byte("cluster")), Name: "alice", Client: "12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X",
		Issued: 1_700_000_000, Expires: 1_700_003_600,
	}
	const want = "00000010636f666665722f6163636573732f7631164cf1ca8391532e4f239c556c0c19589ae8877cb25ecfaf0b310c6c3713ba1f00000005616c69636500000034313244334b6f6f57506a63655172537764575850794c4c65414252586d75717436395267337342596255314e6674394879513658000000006553f100000000006553ff10"
	if got := fmt.Sprintf("%x", g.Encode()); got != want {
		t.Errorf("encoded %s", got)
	}
}
