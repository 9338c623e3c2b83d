package freeport

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

// The ports are below those that the kernel gives to outgoing connections and to port 0
// (net.ipv4.ip_local_port_range), so that it gives none away before the server starts.
const (
	lowest = 15000
	count  = 17000
	tries  = 1000
)

var (
	mu    sync.Mutex
	taken = map[int]bool{} // by this process
)

// Take chooses n ports on which nobody listens and that this process has not been given.
func Take(n int) ([]int, error) {
	mu.Lock()
	defer mu.Unlock()
	if len(taken)+n > count/2 {
		clear(taken) // the first ones are long done with
	}
	var ports []int
	var last error
	for try := 0; len(ports) < n; try++ {
		if try == tries {
			return nil, errors.Join(fmt.Errorf("no %d free ports from %d to %d", n, lowest, lowest+count-1), last)
		}
		port := lowest + rand.IntN(count)
		if taken[port] {
			continue
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			last = err
			continue
		}
		if err := l.Close(); err != nil {
			return nil, err
		}
		taken[port] = true
		ports = append(ports, port)
	}
	return ports, nil
}
