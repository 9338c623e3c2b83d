package node

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// rate is a token bucket: burst at once, then perSecond.
type rate struct{ burst, perSecond float64 }

type bucket struct {
	spent float64
	at    time.Time
}

func (r rate) take(b *bucket, now time.Time) bool {
	if passed := now.Sub(b.at).Seconds(); passed > 0 {
		b.spent, b.at = max(0, b.spent-passed*r.perSecond), now
	}
	if b.spent+1 > r.burst {
		return false
	}
	b.spent++
	return true
}

// turnstile lets everybody pass at a bounded rate: each by itself and all together. One
// who pushes is refused before the others notice.
type turnstile struct {
	each, all rate

	mu    sync.Mutex
	by    map[string]*bucket
	total bucket
}

// maxTurnstile bounds whom a turnstile remembers.
const maxTurnstile = 4096

func newTurnstile(each, all rate) *turnstile {
	return &turnstile{each: each, all: all, by: map[string]*bucket{}}
}

func (t *turnstile) pass(who string, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	b, ok := t.by[who]
	if !ok {
		if len(t.by) >= maxTurnstile {
			t.forget(now)
		}
		b = &bucket{}
		t.by[who] = b
	}
	// First each alone: what one is refused is not taken from all.
	return t.each.take(b, now) && t.all.take(&t.total, now)
}

// forget drops those that have their whole burst again; when all are busy, all of them:
// what they may do together is bounded still.
func (t *turnstile) forget(now time.Time) {
	for who, b := range t.by {
		if now.Sub(b.at).Seconds()*t.each.perSecond >= b.spent {
			delete(t.by, who)
		}
	}
	if len(t.by) >= maxTurnstile {
		clear(t.by)
	}
}

// hostOf is what an address is counted under: a host, and of IPv6, where one host has as
// many addresses as it likes, its network.
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

// crowd is a listener that is never full: a host that has its share of connections gets
// no more, and when all are taken the oldest makes room. Whoever has something to say
// says it in a moment; whoever occupies connections loses them.
type crowd struct {
	net.Listener
	each, all int

	mu    sync.Mutex
	conns []*guest // oldest first
	by    map[string]int
}

type guest struct {
	net.Conn
	host string
	once sync.Once
	of   *crowd
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
		g, oldest := c.admit(conn)
		if oldest != nil {
			_ = oldest.Close() // it had its time
		}
		if g != nil {
			return g, nil
		}
		_ = conn.Close() // its host has enough
	}
}

func (c *crowd) admit(conn net.Conn) (admitted, oldest *guest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	host := hostOf(conn.RemoteAddr())
	if c.by[host] >= c.each {
		return nil, nil
	}
	if len(c.conns) >= c.all {
		oldest = c.conns[0]
	}
	admitted = &guest{Conn: conn, host: host, of: c}
	c.by[host]++
	c.conns = append(c.conns, admitted)
	return admitted, oldest
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
