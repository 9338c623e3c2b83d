package demo

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"testing"
	"time"
)

// echo answers each line with itself.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); _ = c.Close() }()
		}
	}()
	return l.Addr().String()
}

func TestRelay(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{address: free.Addr().String(), to: echo(t)}
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // cut and opened again it is as before
		if err := r.open(); err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("tcp", r.address)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(c)
		fmt.Fprintln(c, "hello")
		if got, err := lines.ReadString('\n'); err != nil || got != "hello\n" {
			t.Fatalf("%q, %v", got, err)
		}
		if err := r.cut(); err != nil {
			t.Fatal(err)
		}
		if got, err := lines.ReadString('\n'); err == nil {
			t.Fatalf("a connection outlives the cut: %q", got)
		}
		if _, err := net.Dial("tcp", r.address); err == nil {
			t.Fatal("somebody answers at what is cut")
		}
		_ = c.Close()
	}
}
