package rpc

import (
	"context"
	"fmt"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

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
	third, _ := enter("192.0.2.1:3")
	if third == nil || !held[0].closed || held[1].closed || c.by["192.0.2.1"] != 2 {
		t.Fatalf("a host with its share: %v %v, it has %d", third, held[0].closed, c.by["192.0.2.1"])
	}
	late, _ := enter("192.0.2.3:1")
	if late == nil || !held[1].closed || held[2].closed {
		t.Fatalf("the late one did not take the oldest's place: %v %v", late, held[1].closed)
	}
	// Who is known gives way to nobody.
	third.known.Store(true)
	for n := range 10 {
		if g, _ := enter(fmt.Sprintf("192.0.2.4:%d", n+1)); g == nil || c.by["192.0.2.1"] != 1 {
			t.Fatalf("%d: %v, %v", n, g, c.by)
		}
	}
	for _, g := range c.conns {
		g.known.Store(true)
	}
	if g, _ := enter("192.0.2.9:1"); g != nil {
		t.Error("a stranger took the place of somebody known")
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

// Calls of strangers end: each host has a share, the oldest makes room, none lasts, and
// who shows who it is takes no place any more.
func TestVisits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVisits(2, 3, time.Minute)
		c := newCrowd(nil, 9, 9)
		call := func(from string) (context.Context, error) {
			g, _ := c.admit(&fakeConn{from: from})
			return v.tap(peer.NewContext(t.Context(), &peer.Peer{Addr: g.RemoteAddr()}), nil)
		}
		must := func(from string) context.Context {
			ctx, err := call(from)
			if err != nil {
				t.Fatal(err)
			}
			return ctx
		}
		first := must("192.0.2.1:1")
		second := must("192.0.2.1:2")
		if _, err := call("192.0.2.1:3"); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("a third call of one host: %v", err)
		}
		alone := must("192.0.2.2:1")
		must("192.0.2.3:1")
		if first.Err() == nil || second.Err() != nil {
			t.Error("the oldest did not make room")
		}
		introduce(second, true)
		known, err := v.tap(second, nil)
		if err != nil || known != second {
			t.Errorf("a call of somebody known: %v", err)
		}
		must("192.0.2.3:2")
		if must("192.0.2.4:1"); alone.Err() != nil {
			t.Error("the only call of a host made room for others")
		}
		time.Sleep(2 * time.Minute) //nolint:forbidigo // the time of a synctest bubble
		synctest.Wait()
		if second.Err() != nil {
			t.Error("a call of somebody known was ended")
		}
		if len(v.list) != 0 || len(v.by) != 0 {
			t.Errorf("%d calls, %v after a minute", len(v.list), v.by)
		}
	})
}
