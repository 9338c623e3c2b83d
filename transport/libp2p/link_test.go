package libp2p_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"
	"time"

	golibp2p "github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	p2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/multiformats/go-multiaddr"

	"coffer/canon"
	"coffer/identity"
	"coffer/party"
	"coffer/transport"
	"coffer/transport/libp2p"
	"coffer/transport/transporttest"
)

const alice, bob, carol = party.ID("alice"), party.ID("bob"), party.ID("carol")

func TestMain(m *testing.M) {
	libp2p.Hurry()
	code := m.Run()
	if code == 0 {
		if left := leftovers(10 * time.Second); left != "" {
			fmt.Fprintf(os.Stderr, "goroutines survive the tests:\n%s\n", left)
			code = 1
		}
	}
	os.Exit(code)
}

// leftovers are the goroutines of links and of what they stand on, if any are still
// there after a while.
func leftovers(patience time.Duration) string {
	deadline := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		var all bytes.Buffer
		_ = pprof.Lookup("goroutine").WriteTo(&all, 2)
		var left []string
		for _, g := range strings.Split(all.String(), "\n\n") {
			if strings.Contains(g, "testing.tRunner") || strings.Contains(g, "TestMain") {
				continue // a test itself
			}
			for _, owner := range []string{"coffer/transport", "go-libp2p", "quic-go", "go-yamux"} {
				if strings.Contains(g, owner) {
					left = append(left, g)
					break
				}
			}
		}
		if len(left) == 0 {
			return ""
		}
		select {
		case <-deadline:
			return strings.Join(left, "\n\n")
		case <-tick.C:
		}
	}
}

func newKey(t *testing.T) *identity.Key {
	t.Helper()
	k, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func logger(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// start runs a link until the test ends.
func start(t *testing.T, cfg libp2p.Config) *libp2p.Link {
	t.Helper()
	if cfg.Cluster.IsZero() {
		cfg.Cluster = cluster
	}
	if cfg.Logger == nil {
		cfg.Logger = logger(t).With("self", string(cfg.Self))
	}
	l, err := libp2p.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return l
}

// kind is one of the two transports that a cluster may use.
type kind struct {
	name, listen string
	proxy        func(t *testing.T, target string) proxy
}

var kinds = []kind{
	{"TCP", "/ip4/127.0.0.1/tcp/0", func(t *testing.T, target string) proxy { return newTCPProxy(t, target) }},
	{"QUIC", "/ip4/127.0.0.1/udp/0/quic-v1", func(t *testing.T, target string) proxy { return newUDPProxy(t, target) }},
}

func (k kind) multiaddr(a net.Addr) string {
	_, port, _ := net.SplitHostPort(a.String())
	return strings.Replace(k.listen, "/0", "/"+port, 1)
}

func hostPort(t *testing.T, addr string) string {
	t.Helper()
	a, err := multiaddr.NewMultiaddr(addr)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []int{multiaddr.P_TCP, multiaddr.P_UDP} {
		if port, err := a.ValueForProtocol(p); err == nil {
			return "127.0.0.1:" + port
		}
	}
	t.Fatalf("no port in %s", addr)
	return ""
}

// cluster of links, every ordered pair through a proxy of its own.
type mesh struct {
	t       *testing.T
	kind    kind
	keys    map[party.ID]*identity.Key
	listens map[party.ID]string
	proxies map[[2]party.ID]proxy // caller, callee

	mu    sync.Mutex
	links map[party.ID]*libp2p.Link
}

func openMesh(t *testing.T, k kind, ids ...party.ID) *mesh {
	m := &mesh{
		t: t, kind: k, keys: map[party.ID]*identity.Key{}, listens: map[party.ID]string{},
		proxies: map[[2]party.ID]proxy{}, links: map[party.ID]*libp2p.Link{},
	}
	for _, id := range ids {
		m.keys[id] = newKey(t)
		m.listens[id] = k.listen
	}
	for _, id := range ids {
		m.open(id)
		m.listens[id] = m.links[id].Addrs()[0]
	}
	for _, a := range ids {
		for _, b := range ids {
			if a == b {
				continue
			}
			p := k.proxy(t, hostPort(t, m.listens[b]))
			m.proxies[[2]party.ID{a, b}] = p
			if err := m.links[a].SetAddrs(b, []string{k.multiaddr(p.addr())}); err != nil {
				t.Fatal(err)
			}
		}
	}
	return m
}

func (m *mesh) open(id party.ID) {
	cfg := libp2p.Config{Key: m.keys[id], Self: id, Listen: []string{m.listens[id]}, Peers: map[party.ID]libp2p.Peer{}}
	for other, key := range m.keys {
		if other == id {
			continue
		}
		p := libp2p.Peer{ID: key.ID()}
		if via, ok := m.proxies[[2]party.ID{id, other}]; ok {
			p.Addrs = []string{m.kind.multiaddr(via.addr())}
		}
		cfg.Peers[other] = p
	}
	m.links[id] = start(m.t, cfg)
}

func (m *mesh) Link(id party.ID) transport.Link {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.links[id]
}

func (m *mesh) Restart(id party.ID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.links[id].Close(); err != nil {
		m.t.Fatal(err)
	}
	m.open(id)
}

func (m *mesh) Cut(a, b party.ID) {
	m.proxies[[2]party.ID{a, b}].cut(true)
	m.proxies[[2]party.ID{b, a}].cut(true)
}

func (m *mesh) Heal() {
	for _, p := range m.proxies {
		p.cut(false)
	}
}

func TestConformance(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			transporttest.Run(t, func(t *testing.T, ids ...party.ID) transporttest.Net { return openMesh(t, k, ids...) })
		})
	}
}

// outsider is a stock go-libp2p host: a client that none of this package's code made.
func outsider(t *testing.T, key *identity.Key, handle network.StreamHandler) host.Host {
	t.Helper()
	priv, err := key.Libp2p()
	if err != nil {
		t.Fatal(err)
	}
	h, err := golibp2p.New(golibp2p.Identity(priv), golibp2p.ListenAddrStrings(kinds[0].listen), golibp2p.DisableRelay(), golibp2p.DisableMetrics(),
		golibp2p.Security(noise.ID, noise.New), golibp2p.Transport(tcp.NewTCPTransport), golibp2p.Transport(p2pquic.NewTransport))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	if handle != nil {
		h.SetStreamHandler(libp2p.Protocol, handle)
	}
	return h
}

// reach opens a mesh stream from an outsider to a link.
func reach(t *testing.T, h host.Host, key *identity.Key, addr string) (network.Stream, error) {
	t.Helper()
	pid, err := peer.Decode(string(key.ID()))
	if err != nil {
		t.Fatal(err)
	}
	a, err := multiaddr.NewMultiaddr(addr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), transporttest.Patience)
	defer cancel()
	if err := h.Connect(ctx, peer.AddrInfo{ID: pid, Addrs: []multiaddr.Multiaddr{a}}); err != nil {
		return nil, err
	}
	s, err := h.NewStream(ctx, pid, libp2p.Protocol)
	if err != nil {
		return nil, err
	}
	return s, s.SetDeadline(time.Now().Add(transporttest.Patience))
}

// greet writes a hello and reads the answer's.
func greet(s network.Stream, hello []byte) ([]byte, error) {
	if _, err := s.Write(libp2p.WriteFrame(hello)); err != nil {
		return nil, err
	}
	return next(s)
}

// next reads one frame that is no beat.
func next(s network.Stream) ([]byte, error) {
	for {
		var head [4]byte
		if _, err := io.ReadFull(s, head[:]); err != nil {
			return nil, err
		}
		size := int(head[2])<<8 | int(head[3])
		if size == 0 {
			continue
		}
		data := make([]byte, size)
		_, err := io.ReadFull(s, data)
		return data, err
	}
}

// gone waits until the other side has cut a stream.
func gone(t *testing.T, s network.Stream, why string) {
	t.Helper()
	if err := s.SetReadDeadline(time.Now().Add(transporttest.Patience)); err != nil {
		return // it is gone
	}
	_, err := io.Copy(io.Discard, s)
	if nerr, ok := errors.AsType[net.Error](err); ok && nerr.Timeout() {
		t.Errorf("%s: the stream is still open", why)
	}
}

func silent(t *testing.T, l *libp2p.Link) {
	t.Helper()
	select {
	case f := <-l.Frames():
		t.Errorf("a frame of %s was delivered: %q", f.From, f.Data)
	default:
	}
}

func TestStrangerIsCutBeforeAnyFrame(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			a, b := newKey(t), newKey(t)
			l := start(t, libp2p.Config{Key: a, Self: alice, Listen: []string{k.listen}, Peers: map[party.ID]libp2p.Peer{bob: {ID: b.ID()}}})
			h := outsider(t, newKey(t), nil)
			s, err := reach(t, h, a, l.Addrs()[0])
			if err == nil {
				_, err = greet(s, libp2p.Hello(1, cluster, [16]byte{1}, ""))
				_, _ = s.Write(libp2p.WriteFrame([]byte("let me in")))
			}
			if err == nil {
				t.Error("a stranger was answered")
			}
			transporttest.Eventually(t, transporttest.Patience, "the stranger's connection is cut", func() bool { return len(h.Network().Conns()) == 0 })
			silent(t, l)

			// The same client with bob's key is heard, as bob, whatever it claims.
			s, err = reach(t, outsider(t, b, nil), a, l.Addrs()[0])
			if err != nil {
				t.Fatal(err)
			}
			if _, err := greet(s, libp2p.Hello(1, cluster, [16]byte{1}, "")); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Write(libp2p.WriteFrame([]byte("I am carol"))); err != nil {
				t.Fatal(err)
			}
			if f := transporttest.Receive(t, l); f.From != bob || string(f.Data) != "I am carol" {
				t.Errorf("%q of %s", f.Data, f.From)
			}
		})
	}
}

func TestImpostorIsNotCalled(t *testing.T) {
	// At bob's address somebody else answers.
	called := make(chan struct{}, 16)
	h := outsider(t, newKey(t), func(s network.Stream) { called <- struct{}{}; _ = s.Reset() })
	a, b := newKey(t), newKey(t)
	l := start(t, libp2p.Config{Key: a, Self: alice, Peers: map[party.ID]libp2p.Peer{bob: {ID: b.ID(), Addrs: []string{h.Addrs()[0].String()}}}})
	if err := l.Send(bob, []byte("for bob")); err != nil {
		t.Fatal(err)
	}
	transporttest.Eventually(t, transporttest.Patience, "the call fails", func() bool { return l.State(bob).Problem != nil })
	if l.Connected(bob) || len(called) > 0 {
		t.Error("an impostor was greeted")
	}
}

func TestOtherClusterIsRefused(t *testing.T) {
	a, b := newKey(t), newKey(t)
	la := start(t, libp2p.Config{Key: a, Self: alice, Listen: []string{kinds[0].listen}, Peers: map[party.ID]libp2p.Peer{bob: {ID: b.ID()}}})
	lb := start(t, libp2p.Config{
		Key: b, Self: bob, Cluster: canon.Sum([]byte("another")),
		Peers: map[party.ID]libp2p.Peer{alice: {ID: a.ID(), Addrs: la.Addrs()}},
	})
	if err := lb.Send(alice, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	transporttest.Eventually(t, transporttest.Patience, "bob is told why", func() bool { return errors.Is(lb.State(alice).Problem, libp2p.ErrRefused) })
	if text := lb.State(alice).Problem.Error(); !strings.Contains(text, "another cluster") || !strings.Contains(text, cluster.Short()) {
		t.Errorf("the reason is %q", text)
	}
	if lb.Connected(alice) {
		t.Error("connected across clusters")
	}
	silent(t, la)
}

func TestOtherVersionIsRefused(t *testing.T) {
	a, b := newKey(t), newKey(t)
	l := start(t, libp2p.Config{Key: a, Self: alice, Listen: []string{kinds[0].listen}, Peers: map[party.ID]libp2p.Peer{bob: {ID: b.ID()}}})
	s, err := reach(t, outsider(t, b, nil), a, l.Addrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	answer, err := greet(s, libp2p.Hello(2, cluster, [16]byte{1}, ""))
	if err != nil {
		t.Fatal(err)
	}
	if err := libp2p.Judge(answer, cluster); !errors.Is(err, libp2p.ErrRefused) || !strings.Contains(err.Error(), "another version") {
		t.Errorf("the answer says %v", err)
	}
	_, _ = s.Write(libp2p.WriteFrame([]byte("anyway")))
	gone(t, s, "other version")
	silent(t, l)
}

func TestMisbehaviourCutsTheConnection(t *testing.T) {
	hello := libp2p.WriteFrame(libp2p.Hello(1, cluster, [16]byte{1}, ""))
	for _, c := range []struct {
		name string
		send []byte
	}{
		{"oversize frame", append(bytes.Clone(hello), 0, 8, 0, 1, 'x')},
		{"largest frame there is", append(bytes.Clone(hello), 0xff, 0xff, 0xff, 0xff)},
		{"oversize hello", []byte{0, 0, 2, 1}},
		{"no hello", libp2p.WriteFrame([]byte("let us begin"))},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := newKey(t), newKey(t)
			l := start(t, libp2p.Config{Key: a, Self: alice, Listen: []string{kinds[0].listen}, Peers: map[party.ID]libp2p.Peer{bob: {ID: b.ID()}}})
			h := outsider(t, b, nil)
			s, err := reach(t, h, a, l.Addrs()[0])
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Write(c.send); err != nil {
				t.Fatal(err)
			}
			transporttest.Eventually(t, transporttest.Patience, "the connection is cut", func() bool { return len(h.Network().Conns()) == 0 })
			silent(t, l)
		})
	}
}

func TestSilentPeersAreCut(t *testing.T) {
	a, b, c := newKey(t), newKey(t), newKey(t)
	la := start(t, libp2p.Config{Key: a, Self: alice, Listen: []string{kinds[0].listen}, Peers: map[party.ID]libp2p.Peer{bob: {ID: b.ID()}, carol: {ID: c.ID()}}})
	lc := start(t, libp2p.Config{Key: c, Self: carol, Peers: map[party.ID]libp2p.Peer{alice: {ID: a.ID(), Addrs: la.Addrs()}}})

	// Somebody holds a connection before any handshake.
	raw, err := net.Dial("tcp4", hostPort(t, la.Addrs()[0]))
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	// Bob opens as many streams as he can, and says nothing, or stops within a frame.
	h := outsider(t, b, nil)
	first, err := reach(t, h, a, la.Addrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := greet(first, libp2p.Hello(1, cluster, [16]byte{1}, "")); err != nil {
		t.Fatal(err)
	}
	if _, err := first.Write([]byte{0, 1, 0, 0, 'x'}); err != nil {
		t.Fatal(err)
	}
	streams := []network.Stream{first}
	for range 40 {
		if s, err := h.Network().NewStream(t.Context(), first.Conn().RemotePeer()); err == nil {
			streams = append(streams, s)
		}
	}
	if err := lc.Send(alice, []byte("meanwhile")); err != nil {
		t.Fatal(err)
	}
	if f := transporttest.Receive(t, la); f.From != carol {
		t.Errorf("frame of %s", f.From)
	}
	for _, s := range streams {
		gone(t, s, "silent stream")
	}
	if err := raw.SetReadDeadline(time.Now().Add(transporttest.Patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, raw); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("a connection without a handshake is still open")
	}
}

func TestPeerThatNeverReads(t *testing.T) {
	a, b := newKey(t), newKey(t)
	streams := make(chan network.Stream, 64)
	h := outsider(t, b, func(s network.Stream) {
		if _, err := greet(s, libp2p.Hello(1, cluster, [16]byte{1}, "")); err == nil {
			streams <- s
		}
		// It beats, so that it looks alive, and reads nothing any more.
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for range tick.C {
			if _, err := s.Write([]byte{0, 0, 0, 0}); err != nil {
				return
			}
		}
	})
	l := start(t, libp2p.Config{Key: a, Self: alice, Peers: map[party.ID]libp2p.Peer{bob: {ID: b.ID(), Addrs: []string{h.Addrs()[0].String()}}}})
	transporttest.Eventually(t, transporttest.Patience, "alice is connected", func() bool { return l.Connected(bob) })
	s := <-streams
	frame := make([]byte, 256<<10)
	var err error
	for range 1000 {
		before := time.Now()
		if err = l.Send(bob, frame); err != nil {
			break
		}
		if took := time.Since(before); took > time.Second {
			t.Fatalf("send blocked for %s", took)
		}
	}
	if !errors.Is(err, transport.ErrQueueFull) {
		t.Errorf("a quarter of a gigabyte was queued: %v", err)
	}
	transporttest.Eventually(t, transporttest.Patience, "alice gives the stream up", func() bool { return s.Conn().IsClosed() })
}

func TestNewStreamReplacesTheOld(t *testing.T) {
	a, b := newKey(t), newKey(t)
	l := start(t, libp2p.Config{Key: a, Self: alice, Listen: []string{kinds[0].listen}, Peers: map[party.ID]libp2p.Peer{bob: {ID: b.ID()}}})
	h := outsider(t, b, nil)
	hello := libp2p.Hello(1, cluster, [16]byte{1}, "")
	var last network.Stream
	for range 12 {
		s, err := reach(t, h, a, l.Addrs()[0])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := greet(s, hello); err != nil {
			t.Fatal(err)
		}
		if last != nil {
			gone(t, last, "replaced stream")
		}
		last = s
	}
	if _, err := last.Write(libp2p.WriteFrame([]byte("newest"))); err != nil {
		t.Fatal(err)
	}
	if f := transporttest.Receive(t, l); string(f.Data) != "newest" {
		t.Errorf("%q", f.Data)
	}
}

func TestFramesWaitForAPeerThatIsAway(t *testing.T) {
	a, b := newKey(t), newKey(t)
	la := start(t, libp2p.Config{Key: a, Self: alice, Listen: []string{kinds[1].listen}, Peers: map[party.ID]libp2p.Peer{bob: {ID: b.ID()}}})
	if err := la.Send(bob, []byte("early")); err != nil {
		t.Fatal(err)
	}
	// Alice has no address of bob: he calls, and she uses his connection.
	lb := start(t, libp2p.Config{Key: b, Self: bob, Peers: map[party.ID]libp2p.Peer{alice: {ID: a.ID(), Addrs: la.Addrs()}}})
	if f := transporttest.Receive(t, lb); f.From != alice || string(f.Data) != "early" {
		t.Errorf("%q of %s", f.Data, f.From)
	}
}

// A signer that dies without a word and comes back is known by its new hello; nobody
// waits for the old connection's time-outs.
func TestRestartThatNobodyHeard(t *testing.T) {
	restore := libp2p.Patient()
	t.Cleanup(restore) // runs after the links have ended
	m := openMesh(t, kinds[1], alice, bob)
	transporttest.Meet(t, m, alice, bob)
	m.Cut(alice, bob)
	m.listens[bob] = kinds[1].listen // another port: the old one cannot answer for him
	m.Restart(bob)
	m.Heal()
	transporttest.Eventually(t, transporttest.Patience, "alice sends to the new bob", func() bool {
		if err := m.Link(alice).Send(bob, []byte("are you there")); err != nil && !errors.Is(err, transport.ErrQueueFull) {
			t.Fatal(err)
		}
		select {
		case f := <-m.Link(bob).Frames():
			return f.From == alice
		default:
			return false
		}
	})
}

func TestNothingIsLeftRunning(t *testing.T) {
	t.Run("cluster", func(t *testing.T) {
		m := openMesh(t, kinds[0], alice, bob, carol)
		transporttest.Meet(t, m, alice, bob, carol)
		m.Restart(bob)
	})
	t.Run("never run", func(t *testing.T) {
		l, err := libp2p.New(libp2p.Config{Key: newKey(t), Self: alice, Cluster: cluster, Logger: logger(t), Listen: []string{kinds[0].listen, kinds[1].listen}})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(l.Listen(), l.Close()); err != nil {
			t.Fatal(err)
		}
	})
	if left := leftovers(10 * time.Second); left != "" {
		t.Errorf("goroutines are left:\n%s", left)
	}
}

func TestAddressInUse(t *testing.T) {
	first := start(t, libp2p.Config{Key: newKey(t), Self: alice, Listen: []string{kinds[0].listen}})
	l, err := libp2p.New(libp2p.Config{Key: newKey(t), Self: bob, Cluster: cluster, Logger: logger(t), Listen: []string{kinds[1].listen, first.Addrs()[0]}})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Run(t.Context()); err == nil || !strings.Contains(err.Error(), first.Addrs()[0]) {
		t.Errorf("one of two addresses is taken: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

func TestNewRefuses(t *testing.T) {
	key, other := newKey(t), newKey(t)
	good := func() libp2p.Config {
		return libp2p.Config{
			Key: key, Self: alice, Cluster: cluster, Logger: logger(t), Listen: []string{"/ip4/127.0.0.1/tcp/0"},
			Peers: map[party.ID]libp2p.Peer{bob: {ID: other.ID(), Addrs: []string{"/dns4/bob.example/tcp/7001", "/ip6/::1/udp/7001/quic-v1/p2p/" + string(other.ID())}}},
		}
	}
	if _, err := libp2p.New(good()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		want   string
		change func(*libp2p.Config)
	}{
		{"key is missing", func(c *libp2p.Config) { c.Key = nil }},
		{"self is missing", func(c *libp2p.Config) { c.Self = "" }},
		{"cluster is missing", func(c *libp2p.Config) { c.Cluster = canon.Digest{} }},
		{"logger is missing", func(c *libp2p.Config) { c.Logger = nil }},
		{"listen: address \"localhost:1\"", func(c *libp2p.Config) { c.Listen = []string{"localhost:1"} }},
		{"neither /tcp/PORT nor", func(c *libp2p.Config) { c.Listen = []string{"/ip4/127.0.0.1/tcp/1/ws"} }},
		{"neither /tcp/PORT nor", func(c *libp2p.Config) { c.Listen = []string{"/ip4/127.0.0.1/udp/1"} }},
		{"this signer itself", func(c *libp2p.Config) { c.Peers[alice] = libp2p.Peer{ID: newKey(t).ID()} }},
		{"this signer itself", func(c *libp2p.Config) { c.Peers[carol] = libp2p.Peer{ID: key.ID()} }},
		{"have one identity", func(c *libp2p.Config) { c.Peers[carol] = libp2p.Peer{ID: other.ID()} }},
		{"peer \"carol\": peer ID", func(c *libp2p.Config) { c.Peers[carol] = libp2p.Peer{ID: "carol"} }},
		{"names the identity", func(c *libp2p.Config) {
			c.Peers[bob] = libp2p.Peer{ID: other.ID(), Addrs: []string{"/ip4/127.0.0.1/tcp/1/p2p/" + string(key.ID())}}
		}},
	} {
		cfg := good()
		c.change(&cfg)
		l, err := libp2p.New(cfg)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("want %q: %v", c.want, err)
		}
		if err := transport.Link(l).Close(); err != nil {
			t.Errorf("close after %q: %v", c.want, err)
		}
	}
}

// A peer that is gone without a word, its process stopped or the line dead, is known
// within two seconds, though frames for it hang half-written; and it is found again.
func TestSilentDeathIsKnownSoon(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			m := openMesh(t, k, alice, bob)
			transporttest.Meet(t, m, alice, bob)
			for _, p := range m.proxies {
				p.stall(true)
			}
			stalled := time.Now()
			for range 16 {
				if err := m.Link(alice).Send(bob, make([]byte, transport.MaxFrame)); err != nil {
					t.Fatal(err)
				}
			}
			for _, end := range [][2]party.ID{{alice, bob}, {bob, alice}} {
				transporttest.Eventually(t, transporttest.Patience, "the silence is noticed", func() bool { return !m.Link(end[0]).Connected(end[1]) })
				if took := time.Since(stalled); took > 2500*time.Millisecond {
					t.Errorf("%s held %s for alive for %s", end[0], end[1], took)
				}
				if s := m.Link(end[0]).State(end[1]); s.Problem == nil || s.RoundTrip != 0 {
					t.Errorf("%s of %s: %+v", end[0], end[1], s)
				}
			}
			for _, p := range m.proxies {
				p.stall(false)
			}
			healed := time.Now()
			transporttest.Meet(t, m, alice, bob)
			// Each tries at least every seven seconds, five of which a call may take.
			if took := time.Since(healed); took > 8*time.Second {
				t.Errorf("they found each other after %s", took)
			}
		})
	}
}

// What a connection that broke had not delivered comes on the next one, in order: a blip
// costs a session time, and not its life.
func TestABlipLosesNothing(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			m := openMesh(t, k, alice, bob)
			transporttest.Meet(t, m, alice, bob)
			const count = 120
			// All is read at once, so that it is the line that holds frames, not the reader.
			type result struct{ next, again uint32 }
			ended := make(chan result, 1)
			go func() {
				var r result
				for f := range m.Link(bob).Frames() {
					switch got := binary.BigEndian.Uint32(f.Data); {
					case got == r.next:
						r.next++
					case got < r.next:
						r.again++
					default:
						t.Errorf("frame %d comes before frame %d", got, r.next)
						r.next = count
					}
					if r.next == count {
						ended <- r
						return
					}
				}
			}()
			for n := uint32(0); n < count; n++ {
				switch n {
				case 30:
					m.Cut(alice, bob)
				case 40:
					m.Heal()
				case 60:
					for _, p := range m.proxies {
						p.stall(true)
					}
				case 80:
					transporttest.Eventually(t, transporttest.Patience, "the silence is noticed", func() bool { return !m.Link(alice).Connected(bob) })
					for _, p := range m.proxies {
						p.stall(false)
					}
				}
				// Large ones, so that much is under way when the line breaks.
				if err := m.Link(alice).Send(bob, append(binary.BigEndian.AppendUint32(nil, n), make([]byte, 32<<10)...)); err != nil {
					t.Fatalf("frame %d: %v", n, err)
				}
			}
			select {
			case r := <-ended:
				t.Logf("%d frames came twice", r.again)
			case <-time.After(transporttest.Patience):
				t.Error("not all frames arrive")
			}
		})
	}
}

// A peer that is away is called again and again, ever more seldom but never less than
// every five seconds, and not in step.
func TestPauses(t *testing.T) {
	seen := map[time.Duration]bool{}
	for range 100 {
		var total time.Duration
		pause := libp2p.FirstPause
		for try := range 20 {
			at := libp2p.Jitter(pause)
			if at < pause/2 || at >= pause || pause > 5*time.Second {
				t.Fatalf("try %d comes after %s of %s", try, at, pause)
			}
			total += at
			pause = libp2p.Longer(pause)
		}
		seen[total] = true
		if pause != 5*time.Second {
			t.Fatalf("it ends at %s", pause)
		}
	}
	if len(seen) < 90 {
		t.Errorf("of 100 signers only %d have pauses of their own", len(seen))
	}
}

// The version of a peer's build, and what it says of its clock, are its own word.
func TestStateOfAStrangeClock(t *testing.T) {
	a, b := newKey(t), newKey(t)
	const ahead = 90 * time.Second
	h := outsider(t, b, func(s network.Stream) {
		if _, err := greet(s, libp2p.Hello(1, cluster, [16]byte{1}, "")); err != nil {
			return
		}
		for beats := uint64(1); ; beats++ {
			if _, err := io.ReadFull(s, make([]byte, 4)); err != nil {
				return
			}
			// An answer to nothing, before the one to what was asked: it counts for nothing.
			for _, n := range []uint64{beats + 1e6, beats} {
				if _, err := s.Write(libp2p.WriteFrame(libp2p.Answer(n, 0, time.Now().Add(ahead)))); err != nil {
					return
				}
			}
		}
	})
	l := start(t, libp2p.Config{Key: a, Self: alice, Build: "1.0", Peers: map[party.ID]libp2p.Peer{bob: {ID: b.ID(), Addrs: []string{h.Addrs()[0].String()}}}})
	transporttest.Eventually(t, transporttest.Patience, "bob answers", func() bool { return l.State(bob).RoundTrip > 0 })
	s := l.State(bob)
	if s.Version != "1.2" || (s.ClockAhead-ahead).Abs() > s.RoundTrip {
		t.Errorf("%+v", s)
	}
}
