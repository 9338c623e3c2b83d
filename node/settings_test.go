package node_test

import (
	"strings"
	"testing"

	"coffer/node"
)

// Each field is checked, and the error names it.
func TestSettings(t *testing.T) {
	good := func() node.Settings {
		return node.Settings{Name: "a", Organisation: "exchange", ListenPeers: []string{"/ip4/127.0.0.1/tcp/7001"}, ListenCoordinator: "127.0.0.1:7101"}
	}
	if s := good(); s.Validate() != nil {
		t.Fatal(s.Validate())
	}
	everywhere := good()
	everywhere.ListenPeers, everywhere.ListenCoordinator = []string{"/ip4/0.0.0.0/tcp/7001", "/ip6/::/udp/7001/quic-v1"}, "0.0.0.0:7101"
	everywhere.ListenOrders, everywhere.AnnounceOrders = ":7201", "a.example:7201"
	everywhere.AnnouncePeers, everywhere.AnnounceCoordinator = []string{"/dns4/a.example/tcp/7001"}, "a.example:7101"
	if err := everywhere.Validate(); err != nil {
		t.Errorf("listening everywhere, announcing a name: %v", err)
	}
	for want, edit := range map[string]func(*node.Settings){
		"name: ":                              func(s *node.Settings) { s.Name = "A" },
		"organisation: ":                      func(s *node.Settings) { s.Organisation = "" },
		"listen_peers is empty":               func(s *node.Settings) { s.ListenPeers = nil },
		"listen_peers: \"nowhere\"":           func(s *node.Settings) { s.ListenPeers = []string{"nowhere"} },
		"listen_coordinator: ":                func(s *node.Settings) { s.ListenCoordinator = "127.0.0.1:x" },
		"announce_peers: \"a.example:1\"":     func(s *node.Settings) { s.AnnouncePeers = []string{"a.example:1"} },
		"announce_peers: /ip4/0.0.0.0":        func(s *node.Settings) { s.ListenPeers = []string{"/ip4/0.0.0.0/tcp/1"} },
		"announce_coordinator: \"a.example\"": func(s *node.Settings) { s.AnnounceCoordinator = "a.example" },
		"announce_coordinator: 0.0.0.0:7101":  func(s *node.Settings) { s.ListenCoordinator = "0.0.0.0:7101" },
		"listen_orders: ":                     func(s *node.Settings) { s.ListenOrders = "7201" },
		"announce_orders: 0.0.0.0:7201":       func(s *node.Settings) { s.ListenOrders = "0.0.0.0:7201" },
		"announce_orders: nobody":             func(s *node.Settings) { s.AnnounceOrders = "a.example:7201" },
		"pre_parameters: 17":                  func(s *node.Settings) { s.PreParameters = 17 },
		"pre_parameters: -1":                  func(s *node.Settings) { s.PreParameters = -1 },
	} {
		s := good()
		edit(&s)
		if err := s.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
