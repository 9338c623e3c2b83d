package node

import (
	"fmt"
	"net"
	"testing"
	"time"
)

// One who pushes does not stop another, and all together are bounded.
func TestTurnstile(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	s := newTurnstile(rate{3, 1}, rate{8, 4})
	passed := func(who string, tries int) (n int) {
		for range tries {
			if s.pass(who, now) {
				n++
			}
		}
		return n
	}
	if got := passed("flood", 1000); got != 3 {
		t.Errorf("%d of a flood passed at once, want 3", got)
	}
	if got := passed("other", 1); got != 1 {
		t.Error("another one was refused because of the flood")
	}
	for n := range 100 {
		passed(fmt.Sprint(n), 1)
	}
	if passed("late", 1) != 0 {
		t.Error("all together are not bounded")
	}
	now = now.Add(time.Second)
	if got := passed("flood", 1000); got != 1 {
		t.Errorf("%d of the flood passed after a second, want 1", got)
	}
	if got := passed("late", 1); got != 1 {
		t.Error("the late one was refused a second after")
	}
}

// What a turnstile remembers is bounded, whoever comes.
func TestTurnstileMemory(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	s := newTurnstile(rate{1, 0.001}, rate{1e9, 1e9})
	for n := range 3 * maxTurnstile {
		s.pass(fmt.Sprint(n), now)
		if len(s.by) > maxTurnstile {
			t.Fatalf("%d are remembered", len(s.by))
		}
	}
}

func TestHosts(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1:4000": "192.0.2.1", "[::ffff:192.0.2.1]:1": "192.0.2.1",
		"[2001:db8:1:2:3::4]:99": "2001:db8:1:2::/64", "[2001:db8:1:2:ffff::1]:7": "2001:db8:1:2::/64", "[fe80::1%eth0]:5": "fe80::/64",
	} {
		a, err := net.ResolveTCPAddr("tcp", in)
		if err != nil {
			t.Fatal(err)
		}
		if got := hostOf(a); got != want {
			t.Errorf("%s counts as %s, want %s", in, got, want)
		}
	}
}

type fakeConn struct {
	net.Conn
	from   string
	closed bool
}

func (c *fakeConn) RemoteAddr() net.Addr {
	a, _ := net.ResolveTCPAddr("tcp", c.from)
	return a
}

func (c *fakeConn) Close() error { c.closed = true; return nil }

// Connections that are held take nobody's place: the oldest goes.
func TestCrowdIsNeverFull(t *testing.T) {
	c := newCrowd(nil, 2, 4)
	enter := func(from string) (*guest, *fakeConn) {
		conn := &fakeConn{from: from}
		g, oldest := c.admit(conn)
		if oldest != nil {
			_ = oldest.Close()
		}
		return g, conn
	}
	var held []*fakeConn
	for _, from := range []string{"192.0.2.1:1", "192.0.2.1:2", "192.0.2.2:1", "192.0.2.2:2"} {
		g, conn := enter(from)
		if g == nil {
			t.Fatalf("%s was turned away", from)
		}
		held = append(held, conn)
	}
	if g, _ := enter("192.0.2.1:3"); g != nil {
		t.Error("a host got more than its share")
	}
	late, _ := enter("192.0.2.3:1")
	if late == nil || !held[0].closed || held[1].closed {
		t.Fatalf("the late one did not take the oldest's place: %v %v", late, held[0].closed)
	}
	if again, _ := enter("192.0.2.1:4"); again == nil {
		t.Error("the host whose connection was ended has no room for another one")
	}
	if len(c.conns) != 4 {
		t.Errorf("%d connections are counted", len(c.conns))
	}
	for _, g := range append([]*guest{}, c.conns...) {
		_, _ = g.Close(), g.Close()
	}
	if len(c.conns) != 0 || len(c.by) != 0 {
		t.Errorf("%d connections, %d hosts are counted after the end", len(c.conns), len(c.by))
	}
}
