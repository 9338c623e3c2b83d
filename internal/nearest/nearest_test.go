package nearest_test

import (
	"strings"
	"testing"

	"coffer/internal/nearest"
)

func TestWord(t *testing.T) {
	known := []string{"listen_peers", "listen_coordinator", "announce_peers", "name", "organisation", "pre_parameters"}
	for word, want := range map[string]string{
		"nmae":                    "name",
		"Name":                    "name",
		"organization":            "organisation",
		"listen_peer":             "listen_peers",
		"listenpeers":             "listen_peers",
		"pre":                     "pre_parameters",
		"x":                       "",
		"":                        "",
		"metrics":                 "",
		strings.Repeat("n", 1000): "",
	} {
		if got := nearest.Word(word, known); got != want {
			t.Errorf("%q is taken for %q, want %q", word, got, want)
		}
	}
}
