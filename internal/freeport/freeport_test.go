package freeport_test

import (
	"fmt"
	"net"
	"testing"

	"coffer/internal/freeport"
)

func TestTake(t *testing.T) {
	t.Parallel()
	seen := map[int]bool{}
	for n := range 20 {
		ports, err := freeport.Take(n)
		if err != nil {
			t.Fatal(err)
		}
		if len(ports) != n {
			t.Fatalf("%d ports, want %d", len(ports), n)
		}
		for _, port := range ports {
			if port < 15000 || port > 31999 || seen[port] {
				t.Errorf("port %d, after %d others", port, len(seen))
			}
			seen[port] = true
			l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close() // what is in use is not given again
		}
	}
}
