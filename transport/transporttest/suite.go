package transporttest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"coffer/party"
	"coffer/transport"
)

// Net is a network under test. Links that it opened are closed by its own cleanup.
type Net interface {
	Link(id party.ID) transport.Link
	// Cut keeps two members apart until Heal.
	Cut(a, b party.ID)
	Heal()
	// Restart closes a member's link and opens it again.
	Restart(id party.ID)
}

// Patience is how long anything that must happen may take.
const Patience = 20 * time.Second

// Eventually polls a condition until it holds.
func Eventually(t testing.TB, within time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			t.Fatalf("not within %s: %s", within, what)
		case <-tick.C:
		}
	}
}

// Receive takes the next frame.
func Receive(t testing.TB, l transport.Link) transport.Frame {
	t.Helper()
	deadline := time.NewTimer(Patience)
	defer deadline.Stop()
	select {
	case f, ok := <-l.Frames():
		if !ok {
			t.Fatal("the link is closed")
		}
		return f
	case <-deadline.C:
		t.Fatal("no frame arrives")
	}
	return transport.Frame{}
}

// Meet waits until all members are connected to each other.
func Meet(t testing.TB, n Net, ids ...party.ID) {
	t.Helper()
	for _, a := range ids {
		for _, b := range ids {
			if a != b {
				Eventually(t, Patience, fmt.Sprintf("%s is connected to %s", a, b), func() bool { return n.Link(a).Connected(b) })
			}
		}
	}
}

// Run tests an implementation. open makes a network of the named members.
func Run(t *testing.T, open func(t *testing.T, ids ...party.ID) Net) {
	const alice, bob, carol = party.ID("alice"), party.ID("bob"), party.ID("carol")

	t.Run("Delivers", func(t *testing.T) {
		ids := []party.ID{alice, bob, carol}
		n := open(t, ids...)
		Meet(t, n, ids...)
		for _, to := range ids {
			want := map[party.ID]string{}
			for _, from := range ids {
				if from == to {
					continue
				}
				want[from] = "from " + string(from)
				if err := n.Link(from).Send(to, []byte(want[from])); err != nil {
					t.Fatal(err)
				}
			}
			for len(want) > 0 {
				f := Receive(t, n.Link(to))
				if string(f.Data) != want[f.From] {
					t.Fatalf("%s got %q of %s", to, f.Data, f.From)
				}
				delete(want, f.From)
			}
		}
	})

	t.Run("KeepsOrder", func(t *testing.T) {
		n := open(t, alice, bob)
		Meet(t, n, alice, bob)
		const count = 200
		for i := range uint32(count) {
			if err := n.Link(alice).Send(bob, binary.BigEndian.AppendUint32(nil, i)); err != nil {
				t.Fatal(err)
			}
		}
		for i := range uint32(count) {
			if f := Receive(t, n.Link(bob)); binary.BigEndian.Uint32(f.Data) != i {
				t.Fatalf("frame %d is %x", i, f.Data)
			}
		}
	})

	t.Run("FromIsTheLinkNotTheBytes", func(t *testing.T) {
		n := open(t, alice, bob, carol)
		Meet(t, n, alice, bob, carol)
		if err := n.Link(bob).Send(alice, []byte(carol)); err != nil {
			t.Fatal(err)
		}
		if f := Receive(t, n.Link(alice)); f.From != bob {
			t.Fatalf("a frame of bob counts as one of %s", f.From)
		}
	})

	t.Run("CopiesBytes", func(t *testing.T) {
		n := open(t, alice, bob, carol)
		Meet(t, n, alice, bob, carol)
		data := []byte("first")
		for _, to := range []party.ID{bob, carol} {
			if err := n.Link(alice).Send(to, data); err != nil {
				t.Fatal(err)
			}
		}
		copy(data, "XXXXX")
		got := Receive(t, n.Link(bob))
		if string(got.Data) != "first" {
			t.Fatalf("bob got %q: the sender's buffer was kept", got.Data)
		}
		copy(got.Data, "YYYYY")
		if got := Receive(t, n.Link(carol)); string(got.Data) != "first" {
			t.Fatalf("carol got %q: receivers share a buffer", got.Data)
		}
	})

	t.Run("Sizes", func(t *testing.T) {
		n := open(t, alice, bob)
		Meet(t, n, alice, bob)
		if err := n.Link(alice).Send(bob, make([]byte, transport.MaxFrame+1)); !errors.Is(err, transport.ErrTooLarge) {
			t.Fatalf("oversize: %v", err)
		}
		if err := n.Link(alice).Send(bob, nil); !errors.Is(err, transport.ErrEmpty) {
			t.Fatalf("empty: %v", err)
		}
		largest := bytes.Repeat([]byte{0xa5}, transport.MaxFrame)
		if err := n.Link(alice).Send(bob, largest); err != nil {
			t.Fatal(err)
		}
		if f := Receive(t, n.Link(bob)); !bytes.Equal(f.Data, largest) {
			t.Fatalf("got %d bytes, or others", len(f.Data))
		}
	})

	t.Run("RefusesStrangers", func(t *testing.T) {
		n := open(t, alice, bob)
		for _, to := range []party.ID{"mallory", "", alice} {
			if err := n.Link(alice).Send(to, []byte("x")); !errors.Is(err, transport.ErrUnknownPeer) {
				t.Errorf("send to %q: %v", to, err)
			}
			if n.Link(alice).Connected(to) {
				t.Errorf("connected to %q", to)
			}
		}
	})

	t.Run("BoundsItsQueues", func(t *testing.T) {
		n := open(t, alice, bob)
		Meet(t, n, alice, bob)
		frame := make([]byte, 128<<10)
		full := false
		for range 4096 {
			before := time.Now()
			err := n.Link(alice).Send(bob, frame)
			if took := time.Since(before); took > time.Second {
				t.Fatalf("send blocked for %s", took)
			}
			if err != nil {
				if !errors.Is(err, transport.ErrQueueFull) {
					t.Fatal(err)
				}
				full = true
				break
			}
		}
		if !full {
			t.Fatal("half a gigabyte was taken for a receiver that does not read")
		}
		// Once the receiver reads, the link works again.
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		deadline := time.NewTimer(Patience)
		defer deadline.Stop()
		for {
			select {
			case f := <-n.Link(bob).Frames():
				if string(f.Data) == "again" {
					return
				}
			case <-tick.C:
				if err := n.Link(alice).Send(bob, []byte("again")); err != nil && !errors.Is(err, transport.ErrQueueFull) {
					t.Fatal(err)
				}
			case <-deadline.C:
				t.Fatal("the link does not recover from a full queue")
			}
		}
	})

	t.Run("PartitionAndHeal", func(t *testing.T) {
		n := open(t, alice, bob, carol)
		Meet(t, n, alice, bob, carol)
		n.Cut(alice, bob)
		Eventually(t, Patience, "the cut is noticed", func() bool {
			return !n.Link(alice).Connected(bob) && !n.Link(bob).Connected(alice)
		})
		if err := n.Link(carol).Send(bob, []byte("others go on")); err != nil {
			t.Fatal(err)
		}
		if f := Receive(t, n.Link(bob)); f.From != carol {
			t.Fatalf("bob got a frame of %s across a cut", f.From)
		}
		n.Heal()
		Meet(t, n, alice, bob, carol)
		arrive(t, n, alice, bob)
		arrive(t, n, bob, alice)
	})

	t.Run("State", func(t *testing.T) {
		n := open(t, alice, bob)
		began := time.Now()
		Meet(t, n, alice, bob)
		l := n.Link(alice)
		Eventually(t, Patience, "a question is answered", func() bool { return l.State(bob).RoundTrip > 0 })
		s := l.State(bob)
		if !s.Connected || s.Problem != nil || s.Since.Before(began.Add(-time.Minute)) || s.Since.After(time.Now()) || s.RoundTrip > Patience {
			t.Errorf("connected: %+v", s)
		}
		// Both are of one clock.
		if ahead := s.ClockAhead.Abs(); ahead > s.RoundTrip {
			t.Errorf("bob's clock is %s ahead", ahead)
		}
		n.Cut(alice, bob)
		Eventually(t, Patience, "the cut is noticed", func() bool { return !l.State(bob).Connected })
		if away := l.State(bob); away.Problem == nil || away.RoundTrip != 0 || !away.Since.After(s.Since) {
			t.Errorf("cut off: %+v", away)
		}
		for _, of := range []party.ID{alice, "mallory"} {
			if s := l.State(of); s.Connected || !errors.Is(s.Problem, transport.ErrUnknownPeer) {
				t.Errorf("of %q: %+v", of, s)
			}
			if err := l.SetAddrs(of, nil); !errors.Is(err, transport.ErrUnknownPeer) {
				t.Errorf("addresses of %q: %v", of, err)
			}
		}
	})

	t.Run("Restart", func(t *testing.T) {
		n := open(t, alice, bob)
		Meet(t, n, alice, bob)
		arrive(t, n, alice, bob)
		process := n.Link(alice).State(bob).Process
		n.Restart(bob)
		began := time.Now()
		Eventually(t, Patience, "both are connected again", func() bool {
			return n.Link(alice).Connected(bob) && n.Link(bob).Connected(alice)
		})
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("reconnect took %s, want at most 2 s", took)
		}
		if now := n.Link(alice).State(bob).Process; process == "" || now == "" || now == process {
			t.Errorf("bob's process was %q and is %q", process, now)
		}
		arrive(t, n, alice, bob)
		arrive(t, n, bob, alice)
	})

	t.Run("ConcurrentSenders", func(t *testing.T) {
		n := open(t, alice, bob)
		Meet(t, n, alice, bob)
		const senders, each = 8, 20
		var wg sync.WaitGroup
		for s := range senders {
			wg.Go(func() {
				for i := range each {
					if err := n.Link(alice).Send(bob, []byte{byte(s), byte(i)}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		next := make([]byte, senders)
		for range senders * each {
			f := Receive(t, n.Link(bob))
			if len(f.Data) != 2 || next[f.Data[0]] != f.Data[1] {
				t.Fatalf("frame %x, want sender's %d", f.Data, next[f.Data[0]])
			}
			next[f.Data[0]]++
		}
		wg.Wait()
	})

	t.Run("Close", func(t *testing.T) {
		n := open(t, alice, bob)
		Meet(t, n, alice, bob)
		l := n.Link(alice)
		for range 2 {
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Send(bob, []byte("x")); !errors.Is(err, transport.ErrClosed) {
			t.Errorf("send after close: %v", err)
		}
		if l.Connected(bob) {
			t.Error("connected after close")
		}
		Eventually(t, Patience, "frames channel is closed", func() bool {
			select {
			case _, ok := <-l.Frames():
				return !ok
			default:
				return false
			}
		})
		Eventually(t, Patience, "the peer notices", func() bool { return !n.Link(bob).Connected(alice) })
	})
}

// arrive sends until one frame arrives: around a reconnect frames may be lost.
func arrive(t *testing.T, n Net, from, to party.ID) {
	t.Helper()
	marker := fmt.Appendf(nil, "%s to %s at %d", from, to, time.Now().UnixNano())
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	deadline := time.NewTimer(Patience)
	defer deadline.Stop()
	for {
		if err := n.Link(from).Send(to, marker); err != nil && !errors.Is(err, transport.ErrQueueFull) {
			t.Fatal(err)
		}
		select {
		case f := <-n.Link(to).Frames():
			if f.From == from && bytes.Equal(f.Data, marker) {
				return
			}
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("no frame of %s reaches %s", from, to)
		}
	}
}
