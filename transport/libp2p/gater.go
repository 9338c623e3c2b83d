package libp2p

import (
	"log/slog"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
)

// gater admits the charter's peers and nobody else. Who calls is known only after
// the handshake, and that is where a stranger is cut, before a muxer exists on
// which it could open a stream.
type gater struct {
	admits func(peer.ID) bool
	log    *slog.Logger

	mu     sync.Mutex // guards what follows
	logged time.Time
	silent int // strangers refused since
}

var _ connmgr.ConnectionGater = (*gater)(nil)

func (g *gater) InterceptPeerDial(id peer.ID) bool { return g.admits(id) }

func (g *gater) InterceptAddrDial(id peer.ID, _ multiaddr.Multiaddr) bool { return g.admits(id) }

func (g *gater) InterceptAccept(network.ConnMultiaddrs) bool { return true }

func (g *gater) InterceptSecured(_ network.Direction, id peer.ID, conn network.ConnMultiaddrs) bool {
	if g.admits(id) {
		return true
	}
	g.refused(id, conn.RemoteMultiaddr())
	return false
}

// refused logs at most one stranger in ten seconds: a flood of them fills no disk.
func (g *gater) refused(id peer.ID, addr multiaddr.Multiaddr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if now := time.Now(); now.Sub(g.logged) >= 10*time.Second {
		g.log.Warn("connection of a stranger refused", "identity", id.String(), "address", addr.String(), "others", g.silent)
		g.logged, g.silent = now, 0
		return
	}
	g.silent++
}

func (g *gater) InterceptUpgraded(conn network.Conn) (bool, control.DisconnectReason) {
	return g.admits(conn.RemotePeer()), 0
}
