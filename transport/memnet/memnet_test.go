package memnet_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"coffer/party"
	"coffer/transport"
	"coffer/transport/memnet"
	"coffer/transport/transporttest"
)

type network struct {
	t *testing.T
	*memnet.Net
}

func (n network) Link(id party.ID) transport.Link {
	l, err := n.Net.Link(id)
	if err != nil {
		n.t.Fatal(err)
	}
	return l
}

func (n network) Restart(id party.ID) {
	if err := n.Link(id).Close(); err != nil {
		n.t.Fatal(err)
	}
	n.Link(id)
}

func open(t *testing.T, seed uint64, ids ...party.ID) network {
	t.Helper()
	members, err := party.NewSet(ids...)
	if err != nil {
		t.Fatal(err)
	}
	n := network{t, memnet.New(seed, members)}
	for _, id := range ids {
		n.Link(id)
	}
	return n
}

func TestConformance(t *testing.T) {
	transporttest.Run(t, func(t *testing.T, ids ...party.ID) transporttest.Net {
		n := open(t, 1, ids...)
		t.Cleanup(func() { _ = n.Close() })
		return n
	})
}

// exchange sends count numbered frames from alice to bob and returns what arrives.
func exchange(t *testing.T, n network, count int) (got [][]byte) {
	t.Helper()
	for i := range count {
		if err := n.Link("alice").Send("bob", binary.BigEndian.AppendUint32(nil, uint32(i))); err != nil {
			t.Fatal(err)
		}
	}
	end := time.NewTimer(time.Minute)
	defer end.Stop()
	for {
		select {
		case f := <-n.Link("bob").Frames():
			got = append(got, f.Data)
		case <-end.C:
			return got
		}
	}
}

func TestFaults(t *testing.T) {
	const count = 200
	numbers := func(frames [][]byte) (out []int) {
		for _, f := range frames {
			out = append(out, int(binary.BigEndian.Uint32(f)))
		}
		return out
	}
	delay := memnet.Faults{MinDelay: 10 * time.Millisecond, MaxDelay: 500 * time.Millisecond}
	for _, c := range []struct {
		name   string
		faults func(f *memnet.Faults)
		check  func(t *testing.T, got [][]byte, c memnet.Counts)
	}{
		{"delay alone keeps order", func(*memnet.Faults) {}, func(t *testing.T, got [][]byte, _ memnet.Counts) {
			if n := numbers(got); len(n) != count || !slices.IsSorted(n) {
				t.Errorf("%v", n)
			}
		}},
		{"loss", func(f *memnet.Faults) { f.Loss = 0.3 }, func(t *testing.T, got [][]byte, c memnet.Counts) {
			if c.Lost < 20 || len(got)+int(c.Lost) != count {
				t.Errorf("%d arrived, %d lost", len(got), c.Lost)
			}
		}},
		{"duplication", func(f *memnet.Faults) { f.Duplicate = 0.2 }, func(t *testing.T, got [][]byte, c memnet.Counts) {
			n := numbers(got)
			slices.Sort(n)
			if c.Duplicated < 10 || len(n) != count+int(c.Duplicated) || len(slices.Compact(n)) != count {
				t.Errorf("%d arrived, %d twice", len(got), c.Duplicated)
			}
		}},
		{"reordering", func(f *memnet.Faults) { f.Reorder = 0.5 }, func(t *testing.T, got [][]byte, _ memnet.Counts) {
			n := numbers(got)
			if slices.IsSorted(n) {
				t.Error("all arrived in order")
			}
			slices.Sort(n)
			if len(slices.Compact(n)) != count {
				t.Error("frames are missing")
			}
		}},
		{"corruption", func(f *memnet.Faults) { f.Corrupt = 0.5 }, func(t *testing.T, got [][]byte, c memnet.Counts) {
			bad := 0
			for i, f := range got {
				if binary.BigEndian.Uint32(f) != uint32(i) {
					bad++
				}
			}
			if len(got) != count || bad == 0 || bad != int(c.Corrupted) {
				t.Errorf("%d of %d differ, %d were corrupted", bad, len(got), c.Corrupted)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := open(t, 7, "alice", "bob")
				defer n.Close()
				f := delay
				c.faults(&f)
				n.SetFaults(f)
				got := exchange(t, n, count)
				c.check(t, got, n.Counts())
			})
		})
	}
}

func TestSameSeedSameFate(t *testing.T) {
	run := func(seed uint64) (got [][]byte) {
		synctest.Test(t, func(t *testing.T) {
			n := open(t, seed, "alice", "bob")
			defer n.Close()
			n.SetFaults(memnet.Faults{MaxDelay: time.Second, Loss: 0.1, Duplicate: 0.1, Reorder: 0.3, Corrupt: 0.1})
			got = exchange(t, n, 200)
		})
		return got
	}
	first := run(3)
	if !slices.EqualFunc(first, run(3), bytes.Equal) {
		t.Error("one seed gave two outcomes")
	}
	if slices.EqualFunc(first, run(4), bytes.Equal) {
		t.Error("two seeds gave one outcome")
	}
}

func TestFaultsOfOnePair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := open(t, 1, "alice", "bob", "carol")
		defer n.Close()
		n.SetFaultsOn("alice", "bob", memnet.Faults{Loss: 1})
		for _, to := range []party.ID{"bob", "carol"} {
			if err := n.Link("alice").Send(to, []byte("x")); err != nil {
				t.Fatal(err)
			}
		}
		<-n.Link("carol").Frames()
		synctest.Wait()
		if c := n.Counts(); c.Lost != 1 || c.Delivered != 1 {
			t.Errorf("%+v", c)
		}
	})
}

func TestTamper(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := open(t, 1, "alice", "bob")
		defer n.Close()
		n.SetTamper(func(from, to party.ID, data []byte) []byte {
			switch string(data) {
			case "drop":
				return nil
			case "change":
				return []byte("changed")
			}
			return data
		})
		for _, s := range []string{"drop", "change", "pass"} {
			if err := n.Link("alice").Send("bob", []byte(s)); err != nil {
				t.Fatal(err)
			}
		}
		for _, want := range []string{"changed", "pass"} {
			if f := <-n.Link("bob").Frames(); string(f.Data) != want {
				t.Errorf("got %q, want %q", f.Data, want)
			}
		}
		if c := n.Counts(); c.Tampered != 2 {
			t.Errorf("%+v", c)
		}
	})
}

func TestPartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := open(t, 1, "alice", "bob", "carol")
		defer n.Close()
		n.SetFaults(memnet.Faults{MinDelay: time.Second, MaxDelay: time.Second})
		if err := n.Link("alice").Send("bob", []byte("on its way")); err != nil {
			t.Fatal(err)
		}
		side, err := party.NewSet("alice")
		if err != nil {
			t.Fatal(err)
		}
		n.Partition(side)
		if n.Link("alice").Connected("bob") || n.Link("carol").Connected("alice") || !n.Link("bob").Connected("carol") {
			t.Error("the partition runs elsewhere")
		}
		if err := n.Link("alice").Send("carol", []byte("into the void")); err != nil {
			t.Fatal(err)
		}
		if err := n.Link("bob").Send("carol", []byte("same side")); err != nil {
			t.Fatal(err)
		}
		if f := <-n.Link("carol").Frames(); f.From != "bob" {
			t.Errorf("carol got a frame of %s", f.From)
		}
		n.Heal()
		if err := n.Link("alice").Send("bob", []byte("healed")); err != nil {
			t.Fatal(err)
		}
		if f := <-n.Link("bob").Frames(); string(f.Data) != "healed" {
			t.Errorf("got %q", f.Data)
		}
		if c := n.Counts(); c.Cut != 2 {
			t.Errorf("%+v", c)
		}
	})
}
