package libp2p

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"

	p2pcrypto "github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/libp2p/go-libp2p/p2p/host/peerstore/pstoremem"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/net/upgrader"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	p2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	p2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/libp2p/go-libp2p/x/rate"
	"github.com/multiformats/go-multiaddr"
	"github.com/quic-go/quic-go"
)

// mesh is the swarm and what must be closed with it.
type mesh struct {
	*swarm.Swarm
	allowed *rcmgr.Allowlist
	closers []func() error // in order of closing
}

func (m *mesh) Close() error {
	var err error
	for _, c := range m.closers {
		err = errors.Join(err, c())
	}
	return err
}

// window bounds what one stream holds for a reader that lags; the muxer's default is
// 16 MiB, made for bulk transfers.
const window = 1 << 20

// newMesh assembles TCP (TLS or Noise, yamux) and QUIC under one gater and one
// resource manager. It listens nowhere yet.
func newMesh(key p2pcrypto.PrivKey, peers map[peer.ID][]multiaddr.Multiaddr, g *gater) (_ *mesh, err error) {
	m := new(mesh)
	defer func() {
		if err != nil {
			err = errors.Join(err, m.Close())
		}
	}()
	self, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return nil, err
	}
	limits, err := newLimits(len(peers))
	if err != nil {
		return nil, fmt.Errorf("make resource manager: %w", err)
	}
	m.closers = append(m.closers, limits.Close)
	book, err := pstoremem.NewPeerstore()
	if err != nil {
		return nil, fmt.Errorf("make peer store: %w", err)
	}
	m.closers = append([]func() error{book.Close}, m.closers...)
	if err := errors.Join(book.AddPrivKey(self, key), book.AddPubKey(self, key.GetPublic())); err != nil {
		return nil, err
	}
	m.allowed = rcmgr.GetAllowlist(limits)
	for id, addrs := range peers {
		book.AddAddrs(id, addrs, peerstore.PermanentAddrTTL)
		m.allow(id, addrs, (*rcmgr.Allowlist).Add)
	}

	reuse, err := newQUIC(key, limits)
	if err != nil {
		return nil, fmt.Errorf("make QUIC: %w", err)
	}
	m.closers = append([]func() error{reuse.Close}, m.closers...)
	m.Swarm, err = swarm.NewSwarm(self, book, eventbus.NewBus(),
		swarm.WithConnectionGater(g),
		swarm.WithResourceManager(limits),
		swarm.WithDialTimeout(openTime),
		swarm.WithDialTimeoutLocal(openTime),
		// The detectors of networks that swallow UDP or IPv6 learn from many peers; here
		// they would only refuse to dial after an outage.
		swarm.WithUDPBlackHoleSuccessCounter(nil),
		swarm.WithIPv6BlackHoleSuccessCounter(nil),
	)
	if err != nil {
		return nil, fmt.Errorf("make swarm: %w", err)
	}
	m.closers = append([]func() error{m.Swarm.Close}, m.closers...)

	mux := *yamux.DefaultTransport
	mux.MaxStreamWindowSize = window
	mux.MaxIncomingStreams = streamsPerPeer
	muxers := []upgrader.StreamMuxer{{ID: yamux.ID, Muxer: &mux}}
	tlsSec, err := p2ptls.New(p2ptls.ID, key, muxers)
	if err != nil {
		return nil, fmt.Errorf("make TLS: %w", err)
	}
	noiseSec, err := noise.New(noise.ID, key, muxers)
	if err != nil {
		return nil, fmt.Errorf("make Noise: %w", err)
	}
	up, err := upgrader.New([]sec.SecureTransport{tlsSec, noiseSec}, muxers, nil, limits, g, upgrader.WithAcceptTimeout(openTime))
	if err != nil {
		return nil, fmt.Errorf("make upgrader: %w", err)
	}
	// Dialling from the listening port serves hole punching, and makes a quick
	// reconnect collide with its own past connection.
	overTCP, err := tcp.NewTCPTransport(up, limits, nil, tcp.DisableReuseport(), tcp.WithConnectionTimeout(openTime))
	if err != nil {
		return nil, fmt.Errorf("make TCP: %w", err)
	}
	overQUIC, err := p2pquic.NewTransport(key, reuse, nil, g, limits)
	if err != nil {
		return nil, fmt.Errorf("make QUIC: %w", err)
	}
	if err := errors.Join(m.AddTransport(overTCP), m.AddTransport(overQUIC)); err != nil {
		return nil, err
	}
	return m, nil
}

// newQUIC has its keys from the identity, so that a restarted process resets the
// connections that its predecessor left behind.
func newQUIC(key p2pcrypto.PrivKey, limits network.ResourceManager) (*quicreuse.ConnManager, error) {
	raw, err := key.Raw()
	if err != nil {
		return nil, err
	}
	defer clear(raw)
	reset, err := hkdf.Key(sha256.New, raw, nil, "coffer mesh quic stateless reset", len(quic.StatelessResetKey{}))
	if err != nil {
		return nil, err
	}
	token, err := hkdf.Key(sha256.New, raw, nil, "coffer mesh quic address token", len(quic.TokenGeneratorKey{}))
	if err != nil {
		return nil, err
	}
	return quicreuse.NewConnManager(quic.StatelessResetKey(reset), quic.TokenGeneratorKey(token),
		quicreuse.VerifySourceAddress(func(addr net.Addr) bool { return limits.VerifySourceAddress(addr) }),
		quicreuse.ConnContext(func(ctx context.Context, client *quic.ClientInfo) (context.Context, error) {
			addr, err := quicreuse.ToQuicMultiaddr(client.RemoteAddr, quic.Version1)
			if err != nil {
				return ctx, err
			}
			scope, err := limits.OpenConnection(network.DirInbound, false, addr)
			if err != nil {
				return ctx, err
			}
			ctx = network.WithConnManagementScope(ctx, scope)
			context.AfterFunc(ctx, scope.Done)
			return ctx, nil
		}),
	)
}

const (
	connsPerPeer   = 8 // TCP and QUIC at once, both ways, and what a restart left
	streamsPerPeer = 8 // two are in use; more are being replaced
	memoryPerPeer  = 24 << 20
	handshakes     = 64 // connections that have not proved a key yet
	callsPerIP     = 32 // connections from one address: organisations may share one
)

// allow changes which of a peer's addresses are let through when strangers have used up
// what is for all.
func (m *mesh) allow(id peer.ID, addrs []multiaddr.Multiaddr, change func(*rcmgr.Allowlist, multiaddr.Multiaddr) error) {
	suffix, err := multiaddr.NewComponent("p2p", id.String())
	if err != nil {
		return // an ID that was parsed has a component
	}
	for _, a := range addrs {
		ip, _ := multiaddr.SplitFirst(a)
		if ip == nil || ip.Protocol().Code != multiaddr.P_IP4 && ip.Protocol().Code != multiaddr.P_IP6 {
			continue // a name: where it leads is not known now
		}
		_ = change(m.allowed, ip.Multiaddr().AppendComponent(suffix)) // a place that cannot be listed has no privilege
	}
}

// newLimits bounds connections, streams and memory.
func newLimits(peers int) (network.ResourceManager, error) {
	n := rcmgr.LimitVal(peers + 1)
	total := rcmgr.ResourceLimits{
		Conns: connsPerPeer*n + handshakes, ConnsInbound: connsPerPeer*n + handshakes, ConnsOutbound: connsPerPeer * n,
		Streams: streamsPerPeer * 2 * n, StreamsInbound: streamsPerPeer * n, StreamsOutbound: streamsPerPeer * n,
		FD: connsPerPeer*n + handshakes, Memory: rcmgr.LimitVal64(n)*memoryPerPeer + 64<<20,
	}
	fresh := rcmgr.ResourceLimits{
		Conns: 2 * handshakes, ConnsInbound: handshakes, ConnsOutbound: handshakes,
		Streams: streamsPerPeer * 2 * n, StreamsInbound: streamsPerPeer * n, StreamsOutbound: streamsPerPeer * n,
		FD: 2 * handshakes, Memory: 64 << 20,
	}
	limits := rcmgr.PartialLimitConfig{
		System: total, AllowlistedSystem: total, Transient: fresh, AllowlistedTransient: fresh,
		PeerDefault: rcmgr.ResourceLimits{
			Conns: connsPerPeer, ConnsInbound: connsPerPeer, ConnsOutbound: connsPerPeer,
			Streams: 2 * streamsPerPeer, StreamsInbound: streamsPerPeer, StreamsOutbound: streamsPerPeer,
			FD: connsPerPeer, Memory: memoryPerPeer,
		},
	}.Build(rcmgr.InfiniteLimits)
	loopback4, loopback6 := netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")
	return rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(limits),
		rcmgr.WithMetricsDisabled(),
		rcmgr.WithLimitPerSubnet(
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 32, ConnCount: callsPerIP}},
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 56, ConnCount: callsPerIP}}),
		rcmgr.WithNetworkPrefixLimit(
			[]rcmgr.NetworkPrefixLimit{{Network: loopback4, ConnCount: math.MaxInt}},
			[]rcmgr.NetworkPrefixLimit{{Network: loopback6, ConnCount: math.MaxInt}}),
		rcmgr.WithConnRateLimiters(&rate.Limiter{
			NetworkPrefixLimits: []rate.PrefixLimit{{Prefix: loopback4}, {Prefix: loopback6}},
			SubnetRateLimiter: rate.SubnetLimiter{
				IPv4SubnetLimits: []rate.SubnetLimit{{PrefixLength: 32, Limit: rate.Limit{RPS: 4, Burst: 2 * callsPerIP}}},
				IPv6SubnetLimits: []rate.SubnetLimit{{PrefixLength: 56, Limit: rate.Limit{RPS: 4, Burst: 2 * callsPerIP}}},
			},
		}),
	)
}
