package memnet

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"coffer/party"
	"coffer/transport"
)

const (
	// window bounds the frames of one ordered pair that were sent and not yet taken.
	window = 256
	// mailbox is the capacity of Frames.
	mailbox = 64
	// late is how much longer than its delay a reordered frame takes at most.
	late = 20 * time.Millisecond
)

// Faults is what befalls the frames of an ordered pair. The zero value is a perfect
// network without delay. Probabilities are between 0 and 1.
type Faults struct {
	MinDelay, MaxDelay time.Duration
	Loss               float64 // the frame never arrives
	Duplicate          float64 // it arrives twice
	Reorder            float64 // frames sent later may arrive earlier
	Corrupt            float64 // one bit is flipped
}

// Tamper stands between the parties: it gets a copy of every frame and returns what
// is to arrive instead, nil for nothing.
type Tamper func(from, to party.ID, data []byte) []byte

// Counts says what happened to the frames so far.
type Counts struct {
	Sent, Delivered, Lost, Duplicated, Reordered, Corrupted, Tampered, Cut uint64
}

type pair struct{ from, to party.ID }

// lane is one ordered pair.
type lane struct {
	rng    *rand.Rand
	faults *Faults   // nil: the network's
	last   time.Time // when its latest frame in order arrives
	cut    bool
	open   bool      // both ends are, and it is not cut
	since  time.Time // it is open, or not, since then
	flying int       // sent and not yet taken by the receiver
}

// Net is the network. All its methods may be called at any time by anybody.
type Net struct {
	seed    uint64
	members party.Set
	wake    chan struct{}
	done    chan struct{}
	ended   sync.WaitGroup

	mu     sync.Mutex // guards all below; never held while waiting
	closed bool
	faults Faults
	tamper Tamper
	lanes  map[pair]*lane
	links  map[party.ID]*Link
	queue  []flight // by inOrder
	serial uint64
	opened uint64 // links so far
	counts Counts
}

// New makes a network of members and starts it.
func New(seed uint64, members party.Set) *Net {
	n := &Net{
		seed: seed, members: members,
		wake: make(chan struct{}, 1), done: make(chan struct{}),
		lanes: map[pair]*lane{}, links: map[party.ID]*Link{},
	}
	n.ended.Go(n.deliver)
	return n
}

// Link is the end of a member. After Close it opens a new one, as a restart would;
// frames for the old one are lost.
func (n *Net) Link(id party.ID) (*Link, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, transport.ErrClosed
	}
	if !n.members.Has(id) {
		return nil, fmt.Errorf("link of %q: %w", id, transport.ErrUnknownPeer)
	}
	if l, ok := n.links[id]; ok {
		return l, nil
	}
	l := &Link{
		net: n, id: id, process: fmt.Sprint(n.opened),
		frames: make(chan transport.Frame, mailbox),
		more:   make(chan struct{}, 1), done: make(chan struct{}), stopped: make(chan struct{}),
	}
	n.opened++
	n.links[id] = l
	n.changed()
	go l.pump()
	return l, nil
}

// SetFaults sets the faults of all pairs that have none of their own.
func (n *Net) SetFaults(f Faults) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.faults = f
}

// SetFaultsOn sets the faults of one ordered pair.
func (n *Net) SetFaultsOn(from, to party.ID, f Faults) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lane(pair{from, to}).faults = &f
}

// SetTamper sets the rule that sees every frame; nil takes it away. It is called with
// the network locked and must not call it.
func (n *Net) SetTamper(t Tamper) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.tamper = t
}

// Cut parts two members, both ways. What is on its way between them is lost.
func (n *Net) Cut(a, b party.ID) {
	n.CutOneWay(a, b)
	n.CutOneWay(b, a)
}

// CutOneWay loses what one member sends to another.
func (n *Net) CutOneWay(from, to party.ID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lane(pair{from, to}).cut = true
	n.changed()
}

// Partition parts every member of side from every other member.
func (n *Net) Partition(side party.Set) {
	for _, a := range n.members {
		for _, b := range n.members {
			if side.Has(a) && !side.Has(b) {
				n.Cut(a, b)
			}
		}
	}
}

// Heal ends all cuts.
func (n *Net) Heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, l := range n.lanes {
		l.cut = false
	}
	n.changed()
}

// Counts returns what happened so far.
func (n *Net) Counts() Counts {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.counts
}

// Close ends the network and all its links. It is idempotent.
func (n *Net) Close() error {
	n.mu.Lock()
	links := make([]*Link, 0, len(n.links))
	for _, l := range n.links {
		links = append(links, l)
	}
	if !n.closed {
		n.closed = true
		close(n.done)
	}
	n.mu.Unlock()
	n.ended.Wait()
	for _, l := range links {
		_ = l.Close() // it never fails
	}
	return nil
}

// changed notes since when lanes are open or not.
func (n *Net) changed() {
	now := time.Now()
	for _, from := range n.members {
		for _, to := range n.members {
			l := n.lane(pair{from, to})
			if open := from != to && n.links[from] != nil && n.links[to] != nil && !l.cut; open != l.open || l.since.IsZero() {
				l.open, l.since = open, now
			}
		}
	}
}

func (n *Net) lane(p pair) *lane {
	l, ok := n.lanes[p]
	if !ok {
		h := fnv.New64a()
		_, _ = fmt.Fprintf(h, "%d:%s%d:%s", len(p.from), p.from, len(p.to), p.to) // a hash never fails
		l = &lane{rng: rand.New(rand.NewPCG(n.seed, h.Sum64()))}
		n.lanes[p] = l
	}
	return l
}

func (n *Net) send(from *Link, to party.ID, data []byte) error {
	if err := transport.Check(data); err != nil {
		return fmt.Errorf("send to %q: %w", to, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed || n.links[from.id] != from {
		return transport.ErrClosed
	}
	if to == from.id || !n.members.Has(to) {
		return fmt.Errorf("send to %q: %w", to, transport.ErrUnknownPeer)
	}
	p := pair{from.id, to}
	l := n.lane(p)
	if l.flying >= window {
		return fmt.Errorf("send to %q: %w", to, transport.ErrQueueFull)
	}
	n.counts.Sent++

	f := n.faults
	if l.faults != nil {
		f = *l.faults
	}
	// Every frame draws the same numbers, so that one fault more or less does not change
	// the fate of the frames after it.
	loss, dup, reorder, corrupt := l.rng.Float64(), l.rng.Float64(), l.rng.Float64(), l.rng.Float64()
	delay1, delay2, hold, bit := l.rng.Float64(), l.rng.Float64(), l.rng.Float64(), l.rng.Uint64()

	if l.cut || n.links[to] == nil {
		n.counts.Cut++
		return nil
	}
	if loss < f.Loss {
		n.counts.Lost++
		return nil
	}
	data = bytes.Clone(data)
	if n.tamper != nil {
		changed := n.tamper(from.id, to, bytes.Clone(data))
		if !bytes.Equal(changed, data) {
			n.counts.Tampered++
		}
		if len(changed) == 0 {
			return nil
		}
		data = bytes.Clone(changed)
	}
	if corrupt < f.Corrupt {
		n.counts.Corrupted++
		bit %= uint64(len(data)) * 8
		data[bit/8] ^= 1 << (bit % 8)
	}

	now := time.Now()
	spread := float64(max(0, f.MaxDelay-f.MinDelay))
	due := now.Add(f.MinDelay + time.Duration(delay1*spread))
	if reorder < f.Reorder {
		n.counts.Reordered++
		due = due.Add(time.Duration(hold * float64(late)))
	} else {
		if due.Before(l.last) {
			due = l.last
		}
		l.last = due
	}
	n.put(l, p, due, data)
	if dup < f.Duplicate {
		n.counts.Duplicated++
		n.put(l, p, due.Add(time.Duration(delay2*spread)), bytes.Clone(data))
	}
	return nil
}

func (n *Net) put(l *lane, p pair, due time.Time, data []byte) {
	l.flying++
	n.serial++
	f := flight{pair: p, to: n.links[p.to], due: due, serial: n.serial, data: data}
	at, _ := slices.BinarySearchFunc(n.queue, f, inOrder)
	n.queue = slices.Insert(n.queue, at, f)
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// deliver is the one goroutine that moves frames to their receivers, by due time and,
// at the same time, in the order in which they were sent.
func (n *Net) deliver() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		n.mu.Lock()
		now := time.Now()
		for len(n.queue) > 0 && !n.queue[0].due.After(now) {
			f := n.queue[0]
			n.queue = slices.Delete(n.queue, 0, 1)
			l := n.lane(f.pair)
			if l.cut || n.links[f.pair.to] != f.to {
				l.flying--
				n.counts.Cut++
				continue
			}
			f.to.inbox = append(f.to.inbox, f)
			select {
			case f.to.more <- struct{}{}:
			default:
			}
		}
		wait := time.Hour
		if len(n.queue) > 0 {
			wait = n.queue[0].due.Sub(now)
		}
		n.mu.Unlock()
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-n.wake:
		case <-n.done:
			return
		}
	}
}

// Link is one member's end. It is a transport.Link.
type Link struct {
	net     *Net
	id      party.ID
	process string
	frames  chan transport.Frame
	more    chan struct{}
	done    chan struct{}
	stopped chan struct{}

	inbox []flight // guarded by net.mu
}

var _ transport.Link = (*Link)(nil)

// Send queues a copy of data.
func (l *Link) Send(to party.ID, data []byte) error { return l.net.send(l, to, data) }

// Frames delivers what peers sent.
func (l *Link) Frames() <-chan transport.Frame { return l.frames }

// Connected reports whether to is open and not cut off.
func (l *Link) Connected(to party.ID) bool {
	n := l.net
	n.mu.Lock()
	defer n.mu.Unlock()
	return !n.closed && n.links[l.id] == l && n.lane(pair{l.id, to}).open
}

// State is what the network itself knows. There is one clock, and no build.
func (l *Link) State(of party.ID) transport.PeerState {
	n := l.net
	n.mu.Lock()
	defer n.mu.Unlock()
	there := n.lane(pair{l.id, of})
	s := transport.PeerState{Since: there.since}
	switch {
	case n.closed || n.links[l.id] != l:
		s.Problem = transport.ErrClosed
	case of == l.id || !n.members.Has(of):
		s.Problem = fmt.Errorf("%q: %w", of, transport.ErrUnknownPeer)
	case !there.open:
		s.Problem = errAway
	default:
		s.Connected, s.RoundTrip, s.Process = true, time.Microsecond, n.links[of].process
		for _, p := range []pair{{l.id, of}, {of, l.id}} {
			f := n.faults
			if own := n.lane(p).faults; own != nil {
				f = *own
			}
			s.RoundTrip += f.MinDelay
		}
	}
	return s
}

var errAway = errors.New("it is cut off or not open")

// SetAddrs keeps a peer's name only: everybody is in one place here.
func (l *Link) SetAddrs(of party.ID, _ []string) error {
	if of == l.id || !l.net.members.Has(of) {
		return fmt.Errorf("addresses of %q: %w", of, transport.ErrUnknownPeer)
	}
	return nil
}

// Close ends the link. It is idempotent.
func (l *Link) Close() error {
	n := l.net
	n.mu.Lock()
	if n.links[l.id] == l {
		delete(n.links, l.id)
		n.changed()
		close(l.done)
	}
	n.mu.Unlock()
	<-l.stopped
	return nil
}

// pump hands the inbox to the reader at the reader's pace.
func (l *Link) pump() {
	defer close(l.stopped)
	defer close(l.frames)
	n := l.net
	for {
		n.mu.Lock()
		batch := l.inbox
		l.inbox = nil
		n.mu.Unlock()
		for i, f := range batch {
			select {
			case l.frames <- transport.Frame{From: f.pair.from, Data: f.data}:
				n.taken(f.pair, true)
			case <-l.done:
				for _, rest := range batch[i:] {
					n.taken(rest.pair, false)
				}
				l.drop()
				return
			}
		}
		if len(batch) > 0 {
			continue
		}
		select {
		case <-l.more:
		case <-l.done:
			l.drop()
			return
		}
	}
}

func (l *Link) drop() {
	l.net.mu.Lock()
	defer l.net.mu.Unlock()
	for _, f := range l.inbox {
		l.net.lane(f.pair).flying--
		l.net.counts.Cut++
	}
	l.inbox = nil
}

func (n *Net) taken(p pair, delivered bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lane(p).flying--
	if delivered {
		n.counts.Delivered++
	} else {
		n.counts.Cut++
	}
}

// flight is a frame on its way.
type flight struct {
	pair   pair
	to     *Link
	due    time.Time
	serial uint64
	data   []byte
}

// inOrder sorts by due time, then by order of sending.
func inOrder(a, b flight) int {
	return cmp.Or(a.due.Compare(b.due), cmp.Compare(a.serial, b.serial))
}
