package libp2p_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"coffer/canon"
	"coffer/transport"
	"coffer/transport/libp2p"
)

var cluster = canon.Sum([]byte("a cluster"))

func TestHelloGolden(t *testing.T) {
	raw := libp2p.Hello(1, canon.Digest{0xaa, 31: 0xbb}, [16]byte{1, 15: 2}, "no")
	const want = "00000014636f666665722f6d6573682d68656c6c6f2f7631" + // domain
		"0000000000000001" + // version
		"aa000000000000000000000000000000000000000000000000000000000000bb" +
		"0000001001000000000000000000000000000002" + // instance
		"00000003312e32" + // build
		"000000026e6f"
	if got := hex.EncodeToString(raw); got != want {
		t.Errorf("hello is\n%s, want\n%s", got, want)
	}
}

func TestHelloIsJudged(t *testing.T) {
	other := canon.Sum([]byte("another cluster"))
	for _, c := range []struct {
		name string
		raw  []byte
		want error
		text string
	}{
		{"equal", libp2p.Hello(1, cluster, [16]byte{}, ""), nil, ""},
		{"cluster", libp2p.Hello(1, other, [16]byte{}, ""), libp2p.ErrCluster, other.Short()},
		{"version", libp2p.Hello(2, cluster, [16]byte{}, ""), libp2p.ErrVersion, "it has 2, this side 1"},
		{"refused", libp2p.Hello(1, cluster, [16]byte{}, "go\x1b[31m away"), libp2p.ErrRefused, "go?[31m away"},
		{"long", libp2p.Hello(1, cluster, [16]byte{}, strings.Repeat("x", 201)), libp2p.ErrMalformed, ""},
		{"longer", make([]byte, 513), libp2p.ErrMalformed, "513 bytes"},
		{"build", canon.New("coffer/mesh-hello/v1").Uint64(1).Digest(cluster).Bytes(make([]byte, 16)).String(strings.Repeat("x", 65)).String("").Encoded(), libp2p.ErrMalformed, ""},
		{"empty", nil, libp2p.ErrMalformed, ""},
		{"tail", append(libp2p.Hello(1, cluster, [16]byte{}, ""), 0), libp2p.ErrMalformed, ""},
	} {
		err := libp2p.Judge(c.raw, cluster)
		if !errors.Is(err, c.want) || c.want != nil && !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestFrameSizeIsCheckedFirst(t *testing.T) {
	_, _, err := libp2p.ReadFrame([]byte{0, 8, 0, 1, 'x'}, transport.MaxFrame)
	if !errors.Is(err, transport.ErrTooLarge) || !errors.Is(err, libp2p.ErrMalformed) {
		t.Errorf("512 KiB and a byte: %v", err)
	}
	allocated := testing.AllocsPerRun(10, func() { _, _, _ = libp2p.ReadFrame([]byte{0xff, 0xff, 0xff, 0xff}, transport.MaxFrame) })
	if allocated > 20 {
		t.Errorf("%f allocations for a frame that is refused", allocated)
	}
}

func TestQueue(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	t.Run("frames", func(t *testing.T) {
		q := libp2p.NewQueue()
		for i := range libp2p.QueueFrames {
			if err := q.Push([]byte{byte(i)}, now); err != nil {
				t.Fatal(err)
			}
		}
		if err := q.Push([]byte{1}, now); !errors.Is(err, transport.ErrQueueFull) {
			t.Errorf("one too many: %v", err)
		}
		first, _ := q.Next(now)
		if first[0] != 0 {
			t.Errorf("the oldest was dropped, not the newest")
		}
		// What has waited too long makes room.
		later := now.Add(libp2p.QueueAge + time.Second)
		if err := q.Push([]byte("fresh"), later); err != nil {
			t.Fatal(err)
		}
		if got, _ := q.Next(later); string(got) != "fresh" {
			t.Errorf("next is %q", got)
		}
		q.Confirm(1) // the one that has expired: nothing else may be removed for it
		q.Rewind(false)
		if got, _ := q.Next(later); string(got) != "fresh" {
			t.Errorf("after a new connection next is %q", got)
		}
	})
	t.Run("bytes", func(t *testing.T) {
		q := libp2p.NewQueue()
		for range libp2p.QueueBytes / transport.MaxFrame {
			if err := q.Push(make([]byte, transport.MaxFrame), now); err != nil {
				t.Fatal(err)
			}
		}
		if err := q.Push([]byte{1}, now); !errors.Is(err, transport.ErrQueueFull) {
			t.Errorf("over 8 MiB: %v", err)
		}
		q.Confirm(1) // of what was not even written
		_, _ = q.Next(now)
		if err := q.Push([]byte{1}, now); !errors.Is(err, transport.ErrQueueFull) {
			t.Errorf("what is not confirmed was given up: %v", err)
		}
		q.Confirm(1)
		if err := q.Push([]byte{1}, now); err != nil {
			t.Errorf("after one was taken: %v", err)
		}
	})
	t.Run("streams", func(t *testing.T) {
		q := libp2p.NewQueue()
		want := func(frames string) {
			t.Helper()
			got := ""
			for data, ok := q.Next(now); ok; data, ok = q.Next(now) {
				got += string(data)
			}
			if got != frames {
				t.Errorf("written are %q, want %q", got, frames)
			}
		}
		push := func(frames string) {
			t.Helper()
			for _, f := range frames {
				if err := q.Push([]byte(string(f)), now); err != nil {
					t.Fatal(err)
				}
			}
		}
		push("abcd")
		want("abcd")
		q.Confirm(1)
		q.Confirm(1) // counts all of the stream, not what is new
		q.Rewind(false)
		push("e")
		want("bcde")
		q.Confirm(2)
		push("f")
		want("f")
		q.Rewind(true) // a new process
		want("")
		push("gh")
		want("gh")
		q.Confirm(1 << 63)
		q.Rewind(false)
		want("")
	})
}

func FuzzHello(f *testing.F) {
	f.Add(libp2p.Hello(1, cluster, [16]byte{1}, ""))
	f.Add(libp2p.Hello(9, canon.Digest{}, [16]byte{}, "because"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		again, err := libp2p.Reencode(raw)
		if err == nil && !bytes.Equal(again, raw) {
			t.Errorf("%x encodes again as %x", raw, again)
		}
	})
}

func FuzzFrame(f *testing.F) {
	f.Add(libp2p.WriteFrame([]byte("frame")))
	f.Add(libp2p.WriteFrame(nil))
	f.Add([]byte{0, 8, 0, 1})
	f.Fuzz(func(t *testing.T, raw []byte) {
		frame, rest, err := libp2p.ReadFrame(raw, 1<<10)
		if err != nil {
			return
		}
		if len(frame) > 1<<10 {
			t.Fatalf("frame of %d bytes", len(frame))
		}
		if again := append(libp2p.WriteFrame(frame), rest...); !bytes.Equal(again, raw) {
			t.Errorf("%x encodes again as %x", raw, again)
		}
	})
}
