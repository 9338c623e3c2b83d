package datadir

import (
	"fmt"
	"net"
	"strconv"
)

// CheckAddress refuses what is not host:port with a number as port; 0 lets the system choose.
func CheckAddress(s string) error {
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		return fmt.Errorf("%q is not host:port: %w", s, err)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%q: port %q is not a number from 0 to 65535", s, port)
	}
	return nil
}

// Everywhere says whether host:port listens on all interfaces, which is an address
// that nobody can dial.
func Everywhere(s string) bool {
	host, _, err := net.SplitHostPort(s)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "" || ip != nil && ip.IsUnspecified()
}
