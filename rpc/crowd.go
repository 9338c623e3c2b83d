package rpc

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"
)

// Host is what the caller of a method is counted under: its host, and of IPv6, where one
// host has as many addresses as it likes, its network.
func Host(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return ""
	}
	return hostOf(p.Addr)
}

func hostOf(a net.Addr) string {
	if a == nil {
		return ""
	}
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return a.String()
	}
	ip := ap.Addr().Unmap()
	if ip.Is6() {
		if p, err := ip.WithZone("").Prefix(64); err == nil {
			return p.String()
		}
	}
	return ip.String()
}

// crowd is a listener that is never full. When a host has its share of connections, or all
// are taken, the oldest of a stranger makes room: whoever has something to say says it in
// a moment, and whoever only occupies connections loses them. Who has shown who it is
// gives way to no stranger.
type crowd struct {
	net.Listener
	each, all int

	mu    sync.Mutex
	conns []*guest // oldest first
	by    map[string]int
}

type guest struct {
	net.Conn
	host  string
	known atomic.Bool // a call on it was authorized
	once  sync.Once
	of    *crowd
}

func newCrowd(l net.Listener, each, all int) *crowd {
	return &crowd{Listener: l, each: each, all: all, by: map[string]int{}}
}

func (c *crowd) Accept() (net.Conn, error) {
	for {
		conn, err := c.Listener.Accept()
		if err != nil {
			return nil, err
		}
		g, leaves := c.admit(conn)
		if leaves != nil {
			_ = leaves.Close() // it had its time
		}
		if g != nil {
			return g, nil
		}
		_ = conn.Close() // its host has enough
	}
}

// admit takes a connection, and says which one has to leave for it.
func (c *crowd) admit(conn net.Conn) (admitted, leaves *guest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	host := hostOf(conn.RemoteAddr())
	switch {
	case c.by[host] >= c.each:
		leaves = c.oldest(host)
	case len(c.conns) >= c.all:
		leaves = c.oldest(c.greediest())
	}
	if leaves == nil && (c.by[host] >= c.each || len(c.conns) >= c.all) {
		return nil, nil
	}
	admitted = &guest{Conn: conn, host: host, of: c}
	c.by[host]++
	c.conns = append(c.conns, admitted)
	return admitted, leaves
}

// greediest is the host with the most connections of strangers.
func (c *crowd) greediest() (host string) {
	strangers := map[string]int{}
	for _, g := range c.conns { // oldest first: of equal ones, the host that came first
		if !g.known.Load() {
			strangers[g.host]++
		}
	}
	for _, g := range c.conns {
		if strangers[g.host] > strangers[host] {
			host = g.host
		}
	}
	return host
}

func (c *crowd) oldest(host string) *guest {
	for _, g := range c.conns {
		if g.host == host && !g.known.Load() {
			return g
		}
	}
	return nil
}

// Close makes room.
func (g *guest) Close() error {
	g.once.Do(func() {
		c := g.of
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.by[g.host]--; c.by[g.host] == 0 {
			delete(c.by, g.host)
		}
		if at := slices.Index(c.conns, g); at >= 0 {
			c.conns = slices.Delete(c.conns, at, at+1)
		}
	})
	return g.Conn.Close()
}

// RemoteAddr leads from a call back to its connection.
func (g *guest) RemoteAddr() net.Addr { return guestAddr{g.Conn.RemoteAddr(), g} }

type guestAddr struct {
	net.Addr
	guest *guest
}

func guestOf(ctx context.Context) *guest {
	if p, ok := peer.FromContext(ctx); ok {
		if a, ok := p.Addr.(guestAddr); ok {
			return a.guest
		}
	}
	return nil
}

// visits are the calls of strangers that are under way: before one of them has read its
// message, and so before it can be told who calls, it holds memory. They are counted when
// their headers come, and like connections: each host has a share, and when all are taken
// the oldest of the host with the most ends. One that does not come to an end is ended.
type visits struct {
	each, all int
	within    time.Duration

	mu   sync.Mutex
	list []*visit // oldest first
	by   map[string]int
}

type visit struct {
	host  string
	of    *visits
	end   context.CancelFunc
	timer *time.Timer
}

func newVisits(each, all int, within time.Duration) *visits {
	return &visits{each: each, all: all, within: within, by: map[string]int{}}
}

type visitKey struct{}

// tap is asked when the headers of a call have come, and nothing else.
func (v *visits) tap(ctx context.Context, _ *tap.Info) (context.Context, error) {
	if g := guestOf(ctx); g != nil && g.known.Load() {
		return ctx, nil
	}
	host := Host(ctx)
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.by[host] >= v.each {
		return ctx, status.Error(codes.ResourceExhausted, "too many requests of one address at once: try again in a second")
	}
	if len(v.list) >= v.all {
		x := v.oldest()
		x.end()
		v.remove(x)
	}
	ctx, end := context.WithCancel(ctx)
	x := &visit{host: host, of: v, end: end, timer: time.AfterFunc(v.within, end)}
	v.list = append(v.list, x)
	v.by[host]++
	context.AfterFunc(ctx, x.leave)
	return context.WithValue(ctx, visitKey{}, x), nil
}

// oldest is that of the host with the most: many hosts that ask much end each other's, not
// the one call of somebody else. The caller holds the lock, and the list is not empty.
func (v *visits) oldest() *visit {
	found := v.list[0]
	for _, x := range v.list { // of equal hosts, the one whose call is the oldest
		if v.by[x.host] > v.by[found.host] {
			found = x
		}
	}
	return found
}

// remove forgets a visit; the caller holds the lock.
func (v *visits) remove(x *visit) {
	at := slices.Index(v.list, x)
	if at < 0 {
		return
	}
	v.list = slices.Delete(v.list, at, at+1)
	if v.by[x.host]--; v.by[x.host] == 0 {
		delete(v.by, x.host)
	}
}

// leave makes room: the call is over, or is a stranger's no more.
func (x *visit) leave() {
	x.timer.Stop()
	x.of.mu.Lock()
	defer x.of.mu.Unlock()
	x.of.remove(x)
}

// introduce says whether the caller of a method has shown who it is.
func introduce(ctx context.Context, known bool) {
	if g := guestOf(ctx); g != nil {
		g.known.Store(known)
	}
	if x, ok := ctx.Value(visitKey{}).(*visit); ok && known {
		x.leave()
	}
}
