package cluster

import (
	"net"
	"sync"
	"testing"
	"time"
)

// Door stands between the coordinator and a signer, and can do what a killed or a
// stopped process does.
type Door struct {
	Addr   string
	target string

	mu     sync.Mutex
	frozen chan struct{} // closed when bytes may pass again; nil while they pass
	shut   bool
	conns  map[net.Conn]bool
	l      net.Listener
}

func newDoor(t testing.TB, target string) *Door {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &Door{Addr: l.Addr().String(), target: target, conns: map[net.Conn]bool{}, l: l}
	var tasks sync.WaitGroup
	tasks.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			tasks.Go(func() { d.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close() // it is only a test's
		d.Thaw()
		d.Shut(true)
		tasks.Wait()
	})
	return d
}

// Freeze lets connections begin and stay, and nothing through: the process is stopped.
func (d *Door) Freeze() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.frozen == nil {
		d.frozen = make(chan struct{})
	}
}

// Thaw lets through what waited, and what comes.
func (d *Door) Thaw() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.frozen != nil {
		close(d.frozen)
		d.frozen = nil
	}
}

// Shut resets all connections and takes no more, or does again: the process is dead.
func (d *Door) Shut(shut bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shut = shut
	for conn := range d.conns {
		if shut {
			reset(conn)
		}
	}
}

func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // a reset rather than a polite end
	}
	_ = conn.Close()
}

func (d *Door) keep(conn net.Conn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.shut {
		reset(conn)
		return false
	}
	d.conns[conn] = true
	return true
}

func (d *Door) drop(conn net.Conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.conns, conn)
	_ = conn.Close()
}

func (d *Door) serve(in net.Conn) {
	if !d.keep(in) {
		return
	}
	defer d.drop(in)
	out, err := net.DialTimeout("tcp", d.target, time.Second)
	if err != nil {
		reset(in) // nobody is at home
		return
	}
	if !d.keep(out) {
		return
	}
	defer d.drop(out)
	var pair sync.WaitGroup
	pair.Go(func() { d.pass(in, out) })
	d.pass(out, in)
	pair.Wait()
}

func (d *Door) pass(to, from net.Conn) {
	defer func() { _, _ = to.Close(), from.Close() }()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		d.mu.Lock()
		frozen := d.frozen
		d.mu.Unlock()
		if frozen != nil {
			<-frozen
		}
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
