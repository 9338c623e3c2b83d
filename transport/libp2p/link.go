package libp2p

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	p2pcrypto "github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/protocol"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/multiformats/go-multiaddr"
	"github.com/multiformats/go-multistream"

	"coffer/canon"
	"coffer/identity"
	"coffer/party"
	"coffer/transport"
)

// Protocol is the one protocol that is spoken on streams.
const Protocol = "/coffer/mesh/1"

// mailbox is how many frames of all peers wait for this side's reader.
const mailbox = 64

// Peer is another party: the key that its connections must prove, and where it is.
type Peer struct {
	ID    identity.ID
	Addrs []string // multiaddrs: /ip4/…/tcp/…, /dns4/…/udp/…/quic-v1
}

// Config is what a link is made of. All fields but Listen and Build are needed; without
// Listen the link calls and cannot be called.
type Config struct {
	Key     *identity.Key
	Self    party.ID
	Peers   map[party.ID]Peer // the charter's other signers
	Listen  []string
	Cluster canon.Digest
	Build   string // of this program, for the peers' operators; may be empty
	Logger  *slog.Logger
}

// Link is a transport.Link over go-libp2p.
type Link struct {
	self    party.ID
	key     p2pcrypto.PrivKey
	cluster canon.Digest
	log     *slog.Logger
	listen  []multiaddr.Multiaddr
	peers   map[party.ID]*remote
	byID    map[peer.ID]*remote
	hello   hello

	frames chan transport.Frame
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	shut   func() error // Close's work, once

	mu     sync.Mutex // guards what follows, so that nothing starts once Close began
	closed bool
	mesh   *mesh
	tasks  sync.WaitGroup
	called bool // Run was called
}

var _ transport.Link = (*Link)(nil)

// New checks the configuration. It does no I/O; Run does.
func New(cfg Config) (*Link, error) {
	switch {
	case cfg.Key == nil:
		return nil, errors.New("mesh: key is missing")
	case cfg.Self == "":
		return nil, errors.New("mesh: self is missing")
	case cfg.Cluster.IsZero():
		return nil, errors.New("mesh: cluster is missing")
	case cfg.Logger == nil:
		return nil, errors.New("mesh: logger is missing")
	}
	key, err := cfg.Key.Libp2p()
	if err != nil {
		return nil, fmt.Errorf("mesh: key: %w", err)
	}
	l := &Link{
		self: cfg.Self, key: key, cluster: cfg.Cluster, log: cfg.Logger,
		peers: map[party.ID]*remote{}, byID: map[peer.ID]*remote{},
		hello:  hello{Version: Version, Cluster: cfg.Cluster, Build: clip(cfg.Build, maxBuild)},
		frames: make(chan transport.Frame, mailbox),
	}
	if _, err := rand.Read(l.hello.Instance[:]); err != nil {
		return nil, fmt.Errorf("mesh: %w", err)
	}
	if l.listen, err = parseAddrs("", cfg.Listen); err != nil {
		return nil, fmt.Errorf("mesh: listen: %w", err)
	}
	for _, id := range slices.Sorted(maps.Keys(cfg.Peers)) {
		p := cfg.Peers[id]
		if id == cfg.Self || p.ID == cfg.Key.ID() {
			return nil, fmt.Errorf("mesh: peer %q is this signer itself: leave it out", id)
		}
		if _, err := p.ID.PublicKey(); err != nil {
			return nil, fmt.Errorf("mesh: peer %q: %w", id, err)
		}
		pid, err := peer.Decode(string(p.ID))
		if err != nil {
			return nil, fmt.Errorf("mesh: peer %q: %w", id, err)
		}
		if other, ok := l.byID[pid]; ok {
			return nil, fmt.Errorf("mesh: peers %q and %q have one identity: each signer has its own key", other.id, id)
		}
		addrs, err := parseAddrs(pid, p.Addrs)
		if err != nil {
			return nil, fmt.Errorf("mesh: peer %q: %w", id, err)
		}
		r := &remote{
			id: id, pid: pid, addrs: addrs, queue: newQueue(), log: cfg.Logger.With("peer", string(id)),
			kick: make(chan struct{}, 1), restarted: make(chan struct{}, 1),
			state: transport.PeerState{Since: time.Now()},
		}
		l.peers[id], l.byID[pid] = r, r
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.shut = sync.OnceValue(l.end)
	return l, nil
}

// parseAddrs takes TCP and QUIC addresses. One that ends in /p2p/ID must name want.
func parseAddrs(want peer.ID, list []string) ([]multiaddr.Multiaddr, error) {
	var out []multiaddr.Multiaddr
	for _, s := range list {
		a, err := multiaddr.NewMultiaddr(s)
		if err != nil {
			return nil, fmt.Errorf("address %q: %w (want one such as /ip4/192.0.2.1/tcp/7001)", s, err)
		}
		a, id := peer.SplitAddr(a)
		if id != "" && id != want {
			return nil, fmt.Errorf("address %q names the identity %s, want %s", s, id, want)
		}
		protocols := a.Protocols()
		if len(protocols) == 0 {
			return nil, fmt.Errorf("address %q says no place", s)
		}
		if last := protocols[len(protocols)-1].Code; last != multiaddr.P_TCP && last != multiaddr.P_QUIC_V1 {
			return nil, fmt.Errorf("address %q is neither /tcp/PORT nor /udp/PORT/quic-v1", s)
		}
		out = append(out, a)
	}
	return out, nil
}

// Listen binds the addresses; Run does it too if it was not done. All must be bound.
func (l *Link) Listen() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return transport.ErrClosed
	}
	if l.mesh != nil {
		return nil
	}
	addrs := map[peer.ID][]multiaddr.Multiaddr{}
	for _, r := range l.peers {
		addrs[r.pid] = r.addrs
	}
	m, err := newMesh(l.key, addrs, &gater{
		admits: func(id peer.ID) bool { _, ok := l.byID[id]; return ok },
		log:    l.log,
	})
	if err != nil {
		return fmt.Errorf("mesh: %w", err)
	}
	m.SetStreamHandler(l.incoming)
	for _, a := range l.listen {
		if err := m.Swarm.Listen(a); err != nil {
			return errors.Join(fmt.Errorf("mesh: listen on %s: %w", a, err), m.Close())
		}
	}
	l.mesh = m
	return nil
}

// Run listens, calls the peers, and keeps calling until ctx or the link ends.
func (l *Link) Run(ctx context.Context) error {
	if err := l.Listen(); err != nil {
		return err
	}
	l.mu.Lock()
	if l.closed || l.called {
		l.mu.Unlock()
		return errors.New("mesh: run was called before, or the link is closed")
	}
	l.called = true
	for _, r := range l.peers {
		l.tasks.Go(func() { l.call(l.ctx, r) })
	}
	l.mu.Unlock()
	select {
	case <-ctx.Done():
	case <-l.ctx.Done():
	}
	return l.Close()
}

// Addrs are the addresses that are listened on, once Listen or Run has bound them.
func (l *Link) Addrs() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mesh == nil || l.closed {
		return nil
	}
	var out []string
	for _, a := range l.mesh.ListenAddresses() {
		out = append(out, a.String())
	}
	return out
}

// SetAddrs replaces the places where a peer is called: its newest address record.
func (l *Link) SetAddrs(id party.ID, addrs []string) error {
	r, ok := l.peers[id]
	if !ok {
		return fmt.Errorf("addresses of %q: %w", id, transport.ErrUnknownPeer)
	}
	parsed, err := parseAddrs(r.pid, addrs)
	if err != nil {
		return fmt.Errorf("addresses of %q: %w", id, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	old := r.addrs
	r.addrs = parsed
	if l.mesh != nil && !l.closed {
		l.mesh.Peerstore().ClearAddrs(r.pid)
		l.mesh.Peerstore().AddAddrs(r.pid, parsed, peerstore.PermanentAddrTTL)
		l.mesh.allow(r.pid, old, (*rcmgr.Allowlist).Remove)
		l.mesh.allow(r.pid, parsed, (*rcmgr.Allowlist).Add)
	}
	poke(r.kick)
	return nil
}

// Send queues a copy of data. While the peer is away frames wait for it, 30 seconds
// at most.
func (l *Link) Send(to party.ID, data []byte) error {
	r, ok := l.peers[to]
	switch {
	case l.ctx.Err() != nil:
		return transport.ErrClosed
	case !ok:
		return fmt.Errorf("send to %q: %w", to, transport.ErrUnknownPeer)
	}
	err := transport.Check(data)
	if err == nil {
		err = r.queue.push(slices.Clone(data), time.Now())
	}
	if err != nil {
		return fmt.Errorf("send to %q: %w", to, err)
	}
	return nil
}

// Frames delivers what peers sent.
func (l *Link) Frames() <-chan transport.Frame { return l.frames }

// Connected reports whether the peer has accepted this side's stream.
func (l *Link) Connected(to party.ID) bool {
	r, ok := l.peers[to]
	return ok && l.ctx.Err() == nil && r.now().Connected
}

// State is what the link knows of a peer.
func (l *Link) State(of party.ID) transport.PeerState {
	r, ok := l.peers[of]
	if !ok {
		return transport.PeerState{Problem: fmt.Errorf("%q: %w", of, transport.ErrUnknownPeer)}
	}
	s := r.now()
	if s.Connected && l.ctx.Err() != nil {
		return transport.PeerState{Since: s.Since, Version: s.Version, Problem: transport.ErrClosed}
	}
	return s
}

// Close ends all connections and waits for all that the link started. It does nothing
// on the nil that a failed New returns, which an interface may hide from its owner.
func (l *Link) Close() error {
	if l == nil {
		return nil
	}
	return l.shut()
}

func (l *Link) end() error {
	l.mu.Lock()
	l.closed = true
	m := l.mesh
	l.mu.Unlock()
	l.cancel()
	var err error
	if m != nil {
		err = m.Close()
	}
	l.tasks.Wait()
	close(l.frames)
	return err
}

// begin counts a stream's handler in, unless the link is closing.
func (l *Link) begin() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.tasks.Add(1)
	return true
}

// remote is what this side knows of a peer.
type remote struct {
	id    party.ID
	pid   peer.ID
	log   *slog.Logger
	queue *queue
	addrs []multiaddr.Multiaddr // guarded by Link.mu

	kick      chan struct{} // the peer was heard: call it now
	restarted chan struct{} // the peer's process is another one: the stream to it is dead

	mu       sync.Mutex // guards what follows
	state    transport.PeerState
	instance [instanceLen]byte
	renewed  bool // the instance is another one since the last stream to it
	inbound  *receiver
}

func (r *remote) now() transport.PeerState {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state
}

// meet notes which process of the peer speaks and reports whether it is a new one.
func (r *remote) meet(h *hello) (renewed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	renewed = r.instance != h.Instance && r.instance != [instanceLen]byte{}
	r.renewed = r.renewed || renewed
	r.instance, r.state.Version, r.state.Process = h.Instance, printable(h.Build), hex.EncodeToString(h.Instance[:])
	return renewed
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// guard resets a stream when the link ends, which frees whoever waits on it.
func (l *Link) guard(s network.Stream) (release func() bool) {
	return context.AfterFunc(l.ctx, func() { _ = s.Reset() }) // it is over either way
}

func negotiate(s network.Stream) error {
	if err := s.SetDeadline(time.Now().Add(openTime)); err != nil {
		return err
	}
	if _, err := multistream.SelectOneOf([]protocol.ID{Protocol}, s); err != nil {
		return fmt.Errorf("negotiate %s: %w", Protocol, err)
	}
	return s.SetProtocol(Protocol)
}
