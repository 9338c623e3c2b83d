package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"coffer/audit"
	"coffer/authority"
	"coffer/authority/book"
	"coffer/canon"
	"coffer/charter"
	"coffer/engine"
	"coffer/gate"
	"coffer/hook"
	"coffer/identity"
	"coffer/intent"
	"coffer/internal/addressbook"
	"coffer/internal/anchor"
	"coffer/journal"
	"coffer/keyshare"
	"coffer/keystore"
	"coffer/observe"
	"coffer/party"
	pb "coffer/proto/coffer/v1"
	"coffer/rpc"
	"coffer/store"
	"coffer/transport"
	"coffer/wallet"
)

// Config is what a signer runs on.
type Config struct {
	Dir     Dir
	Logger  *slog.Logger
	Version string
	// Link connects to the other signers' links.
	Link func(Peers) (transport.Link, error)
	// Host starts an engine: a worker process in production.
	Host func() (engine.Host, error)
	// SessionWithin and CeremonyWithin are how long a run may take before it is ended;
	// 45 seconds and 8 minutes if zero.
	SessionWithin, CeremonyWithin time.Duration
	// Passphrase, if set, unseals the signer at its start; it is cleared.
	Passphrase []byte
	// Ready, if set, is called with the coordinator endpoint's address once all is served,
	// Watching with that of the metrics, Taking with that of the endpoint for orders.
	Ready, Watching, Taking func(address string)

	wrap *keyshare.WrapKey // of a signer that was opened anew while it was unsealed
}

// Peers is what a link needs to know.
type Peers struct {
	Self    party.ID
	Key     *identity.Key
	Cluster canon.Digest
	Version string // of this build
	Listen  []string
	Others  map[party.ID]charter.AddressRecord
}

// ErrSealed says that the operator has not given the passphrase since the start.
var ErrSealed = errors.New("this signer is sealed: its operator must run coffer-signer unseal")

// Node is one signer.
type Node struct {
	cfg      Config
	settings *Settings
	log      *slog.Logger
	key      *identity.Key
	ring     *identity.Ring // what the servers answer with: key, and the next one
	self     party.ID
	file     *charter.File
	roster   map[party.ID]identity.ID
	others   party.Set

	current atomic.Pointer[charter.Charter] // the version in force
	book    *book.Book
	moved   atomic.Uint64 // counts what became new in the book

	db      *bbolt.DB
	keys    *keystore.Store
	journal *journal.Journal
	memory  *memory
	audit   *anchor.Log
	link    transport.Link

	addresses *addressbook.Book

	junk      *junk
	decisions *decisions
	seen      *observer

	// mail is how everybody else has the loop do something.
	mail    chan func()
	closed  chan struct{}
	closing sync.Once

	mu      sync.Mutex // guards what requests read and the loop or an operator writes
	wallets map[string]*wallet.Record
	records map[string]wallet.Signed
	sealed  bool
	busy    bool // primes are being searched
	active  int
	heads   map[party.ID]heard
	own     *ownHead

	loop loopState
}

// inForce is the version of the charter that counts now. Whoever needs it twice for one
// purpose asks once: another version can take force in between.
func (n *Node) inForce() *charter.Charter { return n.current.Load() }

// Serve runs a signer until ctx ends. It waits for the charter's signatures, opens the
// directory, and opens it again when a version of the charter takes force that changes
// who signs: links, listeners and what is kept about peers are then those of that version.
func Serve(ctx context.Context, cfg Config) error {
	if err := Await(ctx, cfg); err != nil {
		if ctx.Err() != nil {
			return nil // stopped while it waited
		}
		return err
	}
	cfg.Ready, cfg.Watching, cfg.Taking = observe.Once(cfg.Ready), observe.Once(cfg.Watching), observe.Once(cfg.Taking)
	for {
		n, err := New(cfg)
		if err != nil {
			cfg.wrap.Wipe()
			return err
		}
		err = n.Run(ctx)
		cfg.wrap, cfg.Passphrase = n.loop.carried, nil
		closeErr := n.Close()
		again := errors.Is(err, errReopen)
		if again {
			err = nil // it is no reason to end
		}
		if closeErr != nil || !again {
			cfg.wrap.Wipe()
			return errors.Join(err, closeErr)
		}
	}
}

// errReopen ends Run when the directory is to be opened again.
var errReopen = errors.New("the signers of the charter changed")

// New opens the directory and checks everything in it; its charter must be complete
// (Await). It starts nothing.
func New(cfg Config) (*Node, error) {
	settings, key, file, err := joined(cfg.Dir)
	if err != nil {
		return nil, err
	}
	if missing := file.Missing(); len(missing) > 0 {
		return nil, &charter.IncompleteError{Missing: missing}
	}
	db, err := store.Open(cfg.Dir.Store())
	if err != nil {
		return nil, err
	}
	n := &Node{
		cfg: cfg, settings: settings, log: cfg.Logger.With("signer", string(settings.Name)), key: key, self: settings.Name,
		file: file, roster: map[party.ID]identity.ID{},
		db: db, junk: newJunk(), decisions: newDecisions(), heads: map[party.ID]heard{},
		mail: make(chan func(), 64), closed: make(chan struct{}),
		wallets: map[string]*wallet.Record{}, records: map[string]wallet.Signed{}, sealed: cfg.wrap == nil,
	}
	n.cfg.SessionWithin = cmp.Or(cfg.SessionWithin, sessionWithin)
	n.cfg.CeremonyWithin = cmp.Or(cfg.CeremonyWithin, ceremonyWithin)
	n.loop = newLoopState()
	n.loop.wrap = cfg.wrap
	if err := n.open(); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

func (n *Node) open() error {
	if err := n.openCharter(); err != nil {
		return err
	}
	var err error
	if n.seen, err = n.newObserver(); err != nil {
		return err
	}
	if n.journal, err = journal.Open(n.db, time.Now().Unix()); err != nil {
		return err
	}
	if n.memory, err = openMemory(n.db, usualLimits, time.Now().Unix()); err != nil {
		return err
	}
	if n.keys, err = keystore.Open(n.db); err != nil {
		return err
	}
	if err := n.sweep(); err != nil {
		return err
	}
	if n.audit, err = anchor.Open(n.db, n.cfg.Dir.Audit(), n.key, n.origin(), false); err != nil {
		return err
	}
	if note := n.audit.Recovered(); note != "" {
		n.log.Warn("audit log recovered", "what", note)
	}
	active, err := n.keys.Wallets()
	if err != nil {
		return err
	}
	for _, signed := range active {
		r, err := signed.Open(n.charterOf)
		if err != nil {
			return fmt.Errorf("stored wallet record: %w", err)
		}
		n.wallets[r.Name], n.records[r.Name] = r, signed
	}
	return n.openLink()
}

// openCharter finds the version in force, and this signer in it: by identity.key, or by
// identity.next.key, which is its identity from then on.
func (n *Node) openCharter() error {
	var err error
	now := time.Now().Unix()
	if n.book, err = book.Open(n.db, n.file.Charter, n.key, now); err != nil {
		return err
	}
	for at, raw := range n.file.Records {
		r, err := authority.Parse(raw)
		if err == nil {
			_, err = n.book.Add(r, now)
		}
		var refused *authority.Refusal
		switch {
		case errors.As(err, &refused):
			n.log.Warn("a record of charter.json is not taken", "record", at+1, "error", err) // what is in force decides
		case err != nil:
			return err
		}
	}
	c := n.book.InForce()
	if err := confirmed(n.cfg.Dir, n.book.Charter); err != nil {
		return err
	}
	n.current.Store(c)
	n.writeCharter(c) // before the identity changes: the file says which one it is
	if me, ok := c.Signer(n.self); ok && me.Peer != n.key.ID() {
		if err := n.rotate(me.Peer, now); err != nil {
			return err
		}
	}
	for _, s := range c.Signers {
		n.roster[s.Name] = s.Peer
	}
	if !n.unlisted() {
		n.others = c.Parties().Without(n.self)
	}
	return nil
}

func (n *Node) origin() string {
	return "coffer/" + n.file.Charter.Cluster.String() + "/signer/" + string(n.self)
}

func (n *Node) openLink() error {
	if err := n.openAddresses(); err != nil {
		return err
	}
	if n.unlisted() {
		n.link = newSilence()
		return nil
	}
	peers := Peers{Self: n.self, Key: n.key, Cluster: n.file.Charter.Cluster, Version: n.cfg.Version, Listen: n.settings.ListenPeers, Others: map[party.ID]charter.AddressRecord{}}
	for _, id := range n.others {
		peers.Others[id], _ = n.addresses.Newest(id) // a book has everybody's
	}
	link, err := n.cfg.Link(peers)
	if err != nil {
		return fmt.Errorf("open link to peers: %w", err)
	}
	n.link = link
	return nil
}

// Run serves until ctx ends. Order of stopping: sessions, requests, link; Close does the store.
func (n *Node) Run(ctx context.Context) error {
	var listeners []net.Listener
	fail := func(err error) error {
		for _, l := range listeners {
			err = errors.Join(err, l.Close())
		}
		return err
	}
	lis, err := net.Listen("tcp", n.settings.ListenCoordinator)
	if err != nil {
		return fmt.Errorf("listen for the coordinator: %w", err)
	}
	listeners = append(listeners, lis)
	if n.ring, err = identity.NewRing(n.key); err != nil {
		return fail(err)
	}
	n.proveNext()
	server, err := rpc.NewServer(n.ring, coordinatorsOf(n.inForce), signerMethods)
	if err != nil {
		return fail(err)
	}
	pb.RegisterSignerServer(server, &service{n: n})
	operator, opLis, err := rpc.NewUnixServer(n.cfg.Dir.Socket(), operatorMethods)
	if err != nil {
		return fail(err)
	}
	listeners = append(listeners, opLis)
	pb.RegisterOperatorServer(operator, &operatorService{n: n})
	servers := []*rpc.Server{server, operator}
	if n.settings.ListenOrders != "" {
		orders, err := n.newOrders()
		if err != nil {
			return fail(err)
		}
		ordersLis, err := net.Listen("tcp", n.settings.ListenOrders)
		if err != nil {
			return fail(fmt.Errorf("listen for orders: %w", err))
		}
		servers, listeners = append(servers, orders), append(listeners, ordersLis)
	}

	if err := n.record(audit.Event{Code: "START", Detail: map[string]string{"version": n.cfg.Version, "charter": n.inForce().Digest().String()}}); err != nil {
		return fail(err)
	}
	g, ctx := errgroup.WithContext(ctx)
	// The link lives a moment longer than the loop, whose last words are the aborts of
	// its sessions.
	linkCtx, cutLink := context.WithCancel(context.WithoutCancel(ctx))
	defer cutLink()
	if runner, ok := n.link.(interface{ Run(context.Context) error }); ok {
		g.Go(func() error { return runner.Run(linkCtx) })
	}
	g.Go(func() error { return n.run(ctx) })
	// So do hooks, which tell why it ended.
	hooksCtx, endHooks := context.WithCancel(context.WithoutCancel(ctx))
	defer endHooks()
	g.Go(func() error { return n.seen.hooks.Run(hooksCtx) })
	g.Go(func() error { return n.serveMetrics(ctx) })
	for i, s := range servers {
		g.Go(func() error { return s.Serve(listeners[i]) })
	}
	g.Go(func() error {
		<-n.closed
		endHooks()
		stopServers(servers...)
		cutLink()
		return nil
	})
	if n.unlisted() {
		n.log.Error("this signer signs nothing: the charter in force does not list it", "version", n.inForce().Version)
		n.seen.hooks.Fire(hook.Event{Name: hook.Alarm, Subject: string(n.self), Text: errUnlisted.Error()}, "")
	}
	n.log.Info("signer serves", "coordinator", lis.Addr().String(), "charter", n.inForce().Digest().Short(), "sealed", n.isSealed())
	if len(n.cfg.Passphrase) > 0 {
		g.Go(func() error {
			err := n.unseal(ctx, n.cfg.Passphrase)
			clear(n.cfg.Passphrase)
			if err != nil && ctx.Err() == nil {
				return fmt.Errorf("unseal: %w", err)
			}
			return nil
		})
	} else if n.isSealed() {
		n.tellSealed()
	}
	if n.cfg.Ready != nil {
		n.cfg.Ready(lis.Addr().String())
	}
	if n.cfg.Taking != nil && len(listeners) > 2 {
		n.cfg.Taking(listeners[2].Addr().String())
	}
	if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// stopServers lets requests hear how their runs ended, for a moment. The loop is
// over, so nothing new begins.
func stopServers(servers ...*rpc.Server) {
	var g errgroup.Group
	for _, s := range servers {
		g.Go(func() error {
			late := time.AfterFunc(stopWithin, s.Stop)
			defer late.Stop()
			s.GracefulStop()
			return nil
		})
	}
	_ = g.Wait() // none of them returns an error
}

const stopWithin = time.Second

// Close releases what New opened. It is idempotent.
func (n *Node) Close() error {
	var err error
	n.closing.Do(func() {
		if n.link != nil {
			err = errors.Join(err, n.link.Close())
		}
		if n.seen != nil {
			n.seen.tracer.Close()
		}
		if n.audit != nil {
			err = errors.Join(err, n.audit.Close())
		}
		err = errors.Join(err, n.db.Close())
	})
	return err
}

// do has the loop run f and waits for it.
func (n *Node) do(ctx context.Context, f func()) error {
	done := make(chan struct{})
	select {
	case n.mail <- func() { f(); close(done) }:
	case <-n.closed:
		return errStopping
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-done:
		return nil
	case <-n.closed:
		return errStopping
	}
}

var errStopping = errors.New("this signer is stopping")

func (n *Node) wallet(name string) *wallet.Record {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.wallets[name]
}

// view asks the journal about the slot and the reference that an intent names.
func (n *Node) view(i *intent.Intent) (gate.View, error) {
	chain, ok := n.inForce().Chain(i.Chain)
	var chainID uint64
	if ok {
		chainID = chain.ChainID
	}
	v, err := n.journal.View(chainID, i.Account, i.Nonce, i.Digest(), i.Initiator, i.Reference)
	if err != nil {
		return gate.View{}, fmt.Errorf("read journal: %w", err)
	}
	out := gate.View{Reference: v.Reference, LastTime: v.LastTime}
	if v.SlotHolder != nil {
		out.Slot = &gate.Holder{Intent: v.SlotHolder.Intent, State: string(v.SlotHolder.State), Expires: v.SlotHolder.Expires}
	}
	return out, nil
}

// record writes an audit event and returns once it is on disk. Whoever cannot
// record does not act.
func (n *Node) record(e audit.Event) error {
	e.Time = time.Now().Unix()
	if _, err := n.audit.Append(e); err != nil {
		return fmt.Errorf("write audit log: %w", err)
	}
	n.recorded(e)
	return nil
}

func (n *Node) status() (*pb.StatusResponse, error) {
	count, err := n.keys.PreParamsCount()
	if err != nil {
		return nil, n.grpcError(err)
	}
	note, err := n.audit.Checkpoint()
	if err != nil {
		return nil, n.grpcError(err)
	}
	c := n.inForce()
	digest, root := c.Digest(), n.file.Charter.Digest()
	stands, err := n.stands(c)
	if err != nil {
		return nil, n.grpcError(err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	out := &pb.StatusResponse{
		Signer: string(n.self), PeerId: string(n.key.ID()), CharterDigest: digest[:], CharterVersion: c.Version, RootDigest: root[:],
		Freezes: stands.Freezes, NextVersion: stands.NextVersion, NextSeconds: stands.NextSeconds,
		Heads: stands.Heads, Fresh: stands.Fresh, Head: stands.Head, HeadSignature: stands.HeadSignature,
		Sealed: n.sealed, PreParameters: uint32(count), PreParametersBusy: n.busy, Version: n.cfg.Version,
		UnixTime: time.Now().Unix(), ActiveSessions: uint32(n.active), AuditSize: uint64(n.audit.Size()), AuditCheckpoint: note,
		CharterSignatures: signatures(n.file), CharterComplete: true,
	}
	for _, signed := range n.records {
		out.Wallets = append(out.Wallets, signed.ToProto())
	}
	for _, id := range n.others {
		out.Peers = append(out.Peers, n.peerStatus(id))
	}
	for _, r := range n.addresses.Records() {
		out.Addresses = append(out.Addresses, r.ToProto())
	}
	return out, nil
}

func (n *Node) peerStatus(id party.ID) *pb.PeerStatus {
	s := n.link.State(id)
	out := &pb.PeerStatus{
		Signer: string(id), Connected: s.Connected, Since: s.Since.Unix(), Version: s.Version,
		RoundTripUs: s.RoundTrip.Microseconds(), ClockAheadMs: s.ClockAhead.Milliseconds(),
	}
	if s.Problem != nil {
		out.Error = s.Problem.Error()
	}
	return out
}

// grpcError maps this package's errors to codes; the text goes to the charter's
// coordinators and the operator only and never holds a secret.
func (n *Node) grpcError(err error) error {
	switch {
	case errors.Is(err, ErrSealed), errors.Is(err, errNoPrimes), errors.Is(err, errRepeated), errors.Is(err, errCeremony), errors.Is(err, errAttested), errors.Is(err, errUnlisted), errors.Is(err, errOverruled), errors.Is(err, keystore.ErrExists):
		return status.Error(codes.FailedPrecondition, err.Error())
	case errors.Is(err, errStopping):
		return status.Error(codes.Unavailable, err.Error())
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return status.FromContextError(err).Err()
	case errors.Is(err, errBusy):
		return status.Error(codes.ResourceExhausted, err.Error())
	}
	n.log.Error("request failed", "error", err)
	return status.Error(codes.Internal, err.Error())
}

// signerMethods and operatorMethods say who may call what (docs/access.md); start-up
// fails when they do not fit what is served.
var (
	signerMethods = rpc.Methods{
		pb.Signer_Status_FullMethodName:       rpc.Coordinator,
		pb.Signer_Judge_FullMethodName:        rpc.Coordinator,
		pb.Signer_CreateWallet_FullMethodName: rpc.Coordinator,
		pb.Signer_AdoptWallet_FullMethodName:  rpc.Coordinator,
		pb.Signer_Sign_FullMethodName:         rpc.Coordinator,
		pb.Signer_Introduce_FullMethodName:    rpc.Coordinator,
		pb.Signer_Recall_FullMethodName:       rpc.Coordinator,
		pb.Signer_Exchange_FullMethodName:     rpc.Coordinator,
	}
	operatorMethods = rpc.Methods{
		pb.Operator_Status_FullMethodName:    rpc.Owner,
		pb.Operator_Unseal_FullMethodName:    rpc.Owner,
		pb.Operator_Seal_FullMethodName:      rpc.Owner,
		pb.Operator_Doctor_FullMethodName:    rpc.Owner,
		pb.Operator_Introduce_FullMethodName: rpc.Owner,
		pb.Operator_Recall_FullMethodName:    rpc.Owner,
		pb.Operator_Exchange_FullMethodName:  rpc.Owner,
		pb.Operator_Freeze_FullMethodName:    rpc.Owner,
	}
)
