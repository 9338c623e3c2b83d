package libp2p_test

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// proxy stands between a caller and a callee, so that a test can part them without
// either of them helping.
type proxy interface {
	addr() net.Addr
	cut(bool)
	stall(bool) // take what is sent and pass nothing on, as a stopped process would
}

// tcpProxy hangs up when it is cut.
type tcpProxy struct {
	lis     net.Listener
	target  string
	stalled atomic.Bool

	mu    sync.Mutex
	isCut bool
	conns map[net.Conn]bool
}

func newTCPProxy(t *testing.T, target string) *tcpProxy {
	lis, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &tcpProxy{lis: lis, target: target, conns: map[net.Conn]bool{}}
	t.Cleanup(func() { lis.Close(); p.cut(true) })
	go func() {
		for {
			c, err := lis.Accept()
			if err != nil {
				return
			}
			go p.pass(c)
		}
	}()
	return p
}

func (p *tcpProxy) addr() net.Addr { return p.lis.Addr() }

func (p *tcpProxy) pass(in net.Conn) {
	out, err := net.Dial("tcp4", p.target)
	if err != nil {
		in.Close()
		return
	}
	p.mu.Lock()
	refuse := p.isCut
	p.conns[in], p.conns[out] = true, true
	p.mu.Unlock()
	hangUp := sync.OnceFunc(func() {
		in.Close()
		out.Close()
		p.mu.Lock()
		delete(p.conns, in)
		delete(p.conns, out)
		p.mu.Unlock()
	})
	if refuse {
		hangUp()
		return
	}
	go func() { p.copy(in, out); hangUp() }()
	p.copy(out, in)
	hangUp()
}

func (p *tcpProxy) copy(to, from net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		if p.stalled.Load() {
			continue
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// stall spoils the streams under way: what was swallowed does not come again.
func (p *tcpProxy) stall(yes bool) { p.stalled.Store(yes) }

func (p *tcpProxy) cut(yes bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.isCut = yes
	if yes {
		for c := range p.conns {
			c.Close()
		}
	}
}

// udpProxy swallows when it is cut: nobody is told.
type udpProxy struct {
	lis    *net.UDPConn
	target *net.UDPAddr
	isCut  atomic.Bool

	mu  sync.Mutex
	ups map[string]*net.UDPConn
}

func newUDPProxy(t *testing.T, target string) *udpProxy {
	to, err := net.ResolveUDPAddr("udp4", target)
	if err != nil {
		t.Fatal(err)
	}
	lis, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	p := &udpProxy{lis: lis, target: to, ups: map[string]*net.UDPConn{}}
	t.Cleanup(func() {
		lis.Close()
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, u := range p.ups {
			u.Close()
		}
	})
	go func() {
		buf := make([]byte, 65536)
		for {
			n, from, err := lis.ReadFromUDP(buf)
			if err != nil {
				return
			}
			if p.isCut.Load() {
				continue
			}
			if u := p.up(from); u != nil {
				_, _ = u.Write(buf[:n])
			}
		}
	}()
	return p
}

func (p *udpProxy) addr() net.Addr { return p.lis.LocalAddr() }
func (p *udpProxy) cut(yes bool)   { p.isCut.Store(yes) }
func (p *udpProxy) stall(yes bool) { p.isCut.Store(yes) }

func (p *udpProxy) up(from *net.UDPAddr) *net.UDPConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	if u, ok := p.ups[from.String()]; ok {
		return u
	}
	u, err := net.DialUDP("udp4", nil, p.target)
	if err != nil {
		return nil
	}
	p.ups[from.String()] = u
	go func() {
		buf := make([]byte, 65536)
		for {
			n, err := u.Read(buf)
			if err != nil {
				if errors.Is(err, net.ErrClosed) {
					return
				}
				continue // the callee restarts and its port refuses: that is no end
			}
			if !p.isCut.Load() {
				_, _ = p.lis.WriteToUDP(buf[:n], from)
			}
		}
	}()
	return u
}
