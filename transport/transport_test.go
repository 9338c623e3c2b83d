package transport_test

import (
	"errors"
	"testing"

	"coffer/transport"
)

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		size int
		want error
	}{{0, transport.ErrEmpty}, {1, nil}, {transport.MaxFrame, nil}, {transport.MaxFrame + 1, transport.ErrTooLarge}} {
		if err := transport.Check(make([]byte, c.size)); !errors.Is(err, c.want) {
			t.Errorf("%d bytes: %v", c.size, err)
		}
	}
}
