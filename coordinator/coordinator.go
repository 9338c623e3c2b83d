package coordinator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"coffer/access"
	"coffer/audit"
	"coffer/authority/book"
	"coffer/authority/exchange"
	"coffer/canon"
	"coffer/chain/rpc"
	"coffer/charter"
	"coffer/identity"
	"coffer/internal/addressbook"
	"coffer/internal/anchor"
	pb "coffer/proto/coffer/v1"
	cofferrpc "coffer/rpc"
	"coffer/wallet"
)

// Config is what a coordinator runs on.
type Config struct {
	Dir    Dir
	Logger *slog.Logger
	// Version is of the build.
	Version string
	// Rebuild permits to begin with an empty store in the place of one that is missing.
	Rebuild bool
	// Ready, if set, is called with the API's address once it is served, Watching with
	// that of the metrics.
	Ready, Watching func(address string)
}

// Coordinator runs the flow of all intents of one cluster.
type Coordinator struct {
	cfg      Config
	settings *Settings
	log      *slog.Logger
	key      *identity.Key
	cluster  canon.Digest
	db       *bbolt.DB
	items    *items
	rebuild  *rebuild
	audit    *anchor.Log

	roster    atomic.Pointer[roster]
	following sync.Mutex                // held while the roster is replaced
	book      atomic.Pointer[book.Book] // nil until every operator has signed version 1
	front     *exchange.Front           // of what anybody may call
	exchanges chan struct{}             // held by each exchange of records with a caller
	ring      *identity.Ring            // what the API proves
	anew      chan *goingOver           // ends Run
	addresses *addressbook.Book
	seen      *observer

	mu       sync.Mutex    // guards what follows; never held across I/O but the store's
	file     *charter.File // version 1; replaced as signatures come in
	chains   map[string]*rpc.Client
	wallets  map[string]*wallet.Record
	records  map[string]*pb.SignedRecord
	running  map[canon.Digest]chan struct{} // wakes the flow of an intent that has not ended
	progress map[canon.Digest]string
	watchers map[canon.Digest][]chan struct{}
	flows    *errgroup.Group // nil unless Run runs
	flowCtx  context.Context

	newest  map[string]uint64       // chain -> its newest block, as seen last
	hangs   map[canon.Digest]hang   // since when the newest version waits in the pool
	settled map[canon.Digest]landed // what ended in a block that a chain may still take back

	slots  chan struct{} // held by each session that runs
	submit sync.Mutex    // one intent is admitted at a time: two must not claim one nonce, wallet or reference
}

// New opens the directory and checks all that is in it; it dials nobody.
func New(cfg Config) (*Coordinator, error) {
	settings, err := cfg.Dir.LoadSettings()
	if err != nil {
		return nil, err
	}
	key, err := identity.Load(cfg.Dir.Identity())
	if err != nil {
		return nil, err
	}
	file, _, err := readCharter(cfg.Dir)
	if err != nil {
		return nil, err
	}
	db, err := openStore(cfg)
	if err != nil {
		return nil, err
	}
	c := &Coordinator{
		cfg: cfg, settings: settings, log: cfg.Logger, key: key, cluster: file.Charter.Cluster, file: file, db: db,
		chains: map[string]*rpc.Client{},
		slots:  make(chan struct{}, maxSessions), exchanges: make(chan struct{}, maxExchanges), anew: make(chan *goingOver, 1),
		wallets:  map[string]*wallet.Record{},
		records:  map[string]*pb.SignedRecord{},
		running:  map[canon.Digest]chan struct{}{},
		progress: map[canon.Digest]string{},
		watchers: map[canon.Digest][]chan struct{}{},
		newest:   map[string]uint64{},
		hangs:    map[canon.Digest]hang{},
		settled:  map[canon.Digest]landed{},
	}
	c.front = exchange.NewFront(c.shown)
	c.roster.Store(&roster{charter: file.Charter})
	if err := c.load(); err != nil {
		if c.audit != nil {
			err = errors.Join(err, c.audit.Close())
		}
		return nil, errors.Join(err, db.Close())
	}
	return c, nil
}

func (c *Coordinator) load() error {
	var err error
	if c.seen, err = c.newObserver(); err != nil {
		return err
	}
	if c.items, err = openItems(c.db); err != nil {
		return err
	}
	if c.rebuild, err = openRebuild(c.db); err != nil {
		return err
	}
	if c.ring, err = identity.NewRing(append([]*identity.Key{c.key}, c.otherKeys()...)...); err != nil {
		return err
	}
	if err := c.openBook(); err != nil {
		return err
	}
	now := c.charterFile().Charter
	if b := c.book.Load(); b != nil {
		now = b.InForce()
	}
	if over := c.goOver(now); over != nil {
		return over
	}
	// A store that is being rebuilt rightly knows less than the log.
	renewed := c.rebuild.begun && !c.rebuild.done
	if c.audit, err = anchor.Open(c.db, c.cfg.Dir.Audit(), c.key, c.origin(), renewed); errors.Is(err, anchor.ErrOlder) {
		return fmt.Errorf("%w. Without the newest one, move this one away and start with coffer-coordinator run --rebuild, which asks the signers and the chains for what was in it", err)
	} else if err != nil {
		return err
	}
	if renewed {
		if err := c.record("STORE_RENEWED", canon.Digest{}, nil); err != nil {
			return err
		}
	}
	if c.addresses, err = addressbook.Open(c.db, now, c.allCards(), nil); err != nil {
		return err
	}
	if err := c.follow(now, c.allCards()); err != nil {
		return err
	}
	// A crash came between the store and the file, perhaps.
	if b := c.book.Load(); b != nil && uint64(len(c.charterFile().Records))+1 < now.Version {
		if err := c.keepVersions(b); err != nil {
			c.log.Warn("the charter's versions are not in its file", "error", err)
		}
	}
	if err := suits(now, c.settings, c.key); err != nil && !renewed {
		return err
	} else if err != nil {
		c.log.Warn("the signers are asked for later versions of the charter", "why", err) // that is what a rebuild is for
	}
	stored, err := c.items.wallets()
	if err != nil {
		return err
	}
	for name, raw := range stored {
		record := new(pb.SignedRecord)
		if err := proto.Unmarshal(raw, record); err != nil {
			return fmt.Errorf("stored wallet %q is damaged: %w", name, err)
		}
		r, err := c.openRecord(record)
		if err != nil {
			return fmt.Errorf("stored wallet %q: %w", name, err)
		}
		c.wallets[r.Name], c.records[r.Name] = r, record
	}
	return nil
}

// origin names the audit log.
func (c *Coordinator) origin() string {
	return "coffer/" + c.cluster.String() + "/coordinator/" + c.settings.Name
}

func (c *Coordinator) openRecord(record *pb.SignedRecord) (*wallet.Record, error) {
	signed, err := wallet.FromProto(record)
	if err != nil {
		return nil, err
	}
	return signed.Open(c.charterOf)
}

// learn verifies a wallet record under the charter, stores it and keeps it. Signers
// show their records every second, so one that is known costs only a comparison.
func (c *Coordinator) learn(record *pb.SignedRecord) (*wallet.Record, error) {
	c.mu.Lock()
	for name, known := range c.records {
		if bytes.Equal(known.Raw, record.GetRaw()) {
			r := c.wallets[name]
			c.mu.Unlock()
			return r, nil
		}
	}
	c.mu.Unlock()
	r, err := c.openRecord(record)
	if err != nil {
		return nil, err
	}
	if old, err := c.wallet(r.Name); err == nil && old.Digest() != r.Digest() {
		return nil, fmt.Errorf("wallet %q has another record already", r.Name)
	}
	raw, err := proto.Marshal(record)
	if err != nil {
		return nil, err
	}
	if err := c.items.putWallet(r.Name, raw); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wallets[r.Name], c.records[r.Name] = r, record
	return r, nil
}

// Run serves the API and drives every unfinished intent until ctx ends.
func (c *Coordinator) Run(ctx context.Context) error {
	lis, err := net.Listen("tcp", c.settings.Listen)
	if err != nil {
		return fmt.Errorf("listen for the API: %w", err)
	}
	server, err := cofferrpc.NewPublicServer(c.ring, methods, access.NewGuard(c.inForce, time.Now).Authorize, cofferrpc.PublicBounds())
	if err != nil {
		return errors.Join(err, lis.Close())
	}
	pb.RegisterCoordinatorServer(server, &service{c: c})
	operator, opLis, err := cofferrpc.NewUnixServer(c.cfg.Dir.Socket(), operatorMethods)
	if err != nil {
		return errors.Join(err, lis.Close())
	}
	pb.RegisterCoordinatorOperatorServer(operator, &operatorService{c: c})

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	// Until it serves, an error takes back what was begun.
	abort := func(err error) error {
		c.mu.Lock()
		c.flows = nil
		c.mu.Unlock()
		cancel()
		_ = g.Wait() // err is why
		return errors.Join(err, lis.Close(), opLis.Close())
	}
	c.mu.Lock()
	c.flows, c.flowCtx = g, ctx
	c.mu.Unlock()
	for _, s := range c.signers() {
		c.attend(s)
	}
	unfinished, err := c.items.all()
	if err != nil {
		return abort(err)
	}
	if err := c.completeRebuild(); err != nil { // the last start ended just before it
		return abort(err)
	}
	if err := c.underWay(); err != nil {
		c.log.Warn("the store is being rebuilt", "state", status.Convert(err).Message())
		unfinished = nil // their flows begin when enough signers were heard
	}
	c.tellAll(unfinished)
	for _, it := range unfinished {
		if !it.ended() {
			c.start(it.ID)
		} else {
			c.remember(&it)
		}
	}
	g.Go(func() error { c.lookOut(ctx); return nil })
	g.Go(func() error {
		select {
		case over := <-c.anew:
			return over
		case <-ctx.Done():
			return nil
		}
	})
	// Hooks live a moment longer than what they tell of.
	hooksCtx, endHooks := context.WithCancel(context.WithoutCancel(ctx))
	defer endHooks()
	g.Go(func() error { return c.seen.hooks.Run(hooksCtx) })
	g.Go(func() error { return c.serveMetrics(ctx) })
	for name := range c.settings.Chains {
		g.Go(func() error { c.followChain(ctx, name); return nil })
	}
	g.Go(func() error { return server.Serve(lis) })
	g.Go(func() error { return operator.Serve(opLis) })
	g.Go(func() error { defer endHooks(); return c.watchDisk(ctx) })
	g.Go(func() error {
		<-ctx.Done()
		c.mu.Lock()
		c.flows = nil // what is submitted in the last moment is stored, and begins after the next start
		c.mu.Unlock()
		stopServers(server, operator)
		return nil
	})
	c.log.Info("coordinator serves", "address", lis.Addr().String(), "charter", c.inForce().Digest().Short(), "signers", len(c.signers()))
	c.mu.Lock()
	if len(c.file.Missing()) > 0 {
		c.sayMissing()
	}
	c.mu.Unlock()
	if c.cfg.Ready != nil {
		c.cfg.Ready(lis.Addr().String())
	}
	if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// stopServers lets requests that came in time be answered; streams that watch are cut
// off after a moment.
func stopServers(servers ...*cofferrpc.Server) {
	var g sync.WaitGroup
	for _, s := range servers {
		g.Go(func() {
			late := time.AfterFunc(stopWithin, s.Stop)
			defer late.Stop()
			s.GracefulStop()
		})
	}
	g.Wait()
}

const stopWithin = 500 * time.Millisecond

// watchDisk tells of a write that failed, and ends the coordinator. It could store
// nothing more, and a supervisor starts it again, which shows whether the disk is well.
func (c *Coordinator) watchDisk(ctx context.Context) error {
	clock := time.NewTicker(diskEvery)
	defer clock.Stop()
	defer c.tellUnwritten() // also when a flow ended this because of it
	for {
		if err := c.audit.Failed(); err != nil {
			return fmt.Errorf("this coordinator stops: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-clock.C:
		}
	}
}

const diskEvery = 250 * time.Millisecond

// Close releases what New opened. It is idempotent.
func (c *Coordinator) Close() error {
	for _, s := range c.signers() {
		s.leave()
	}
	c.mu.Lock()
	for _, client := range c.chains {
		client.Close()
	}
	c.chains = map[string]*rpc.Client{}
	c.mu.Unlock()
	c.seen.tracer.Close()
	return errors.Join(c.audit.Close(), c.db.Close())
}

// underFlow yields every intent whose flow runs, as it is stored, or why it cannot be read.
func (c *Coordinator) underFlow() iter.Seq2[*item, error] {
	c.mu.Lock()
	ids := slices.Collect(maps.Keys(c.running))
	c.mu.Unlock()
	return func(yield func(*item, error) bool) {
		for _, id := range ids {
			if !yield(c.items.get(id)) {
				return
			}
		}
	}
}

// start runs the flow of an intent, and says so, unless it runs already.
func (c *Coordinator) start(id canon.Digest) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.running[id]; ok || c.flows == nil {
		return false
	}
	wake := make(chan struct{}, 1)
	c.running[id] = wake
	ctx := c.flowCtx
	c.flows.Go(func() error {
		defer func() {
			c.mu.Lock()
			delete(c.running, id)
			delete(c.progress, id)
			delete(c.hangs, id)
			c.mu.Unlock()
			c.changed(id)
		}()
		return c.flow(ctx, id, wake)
	})
	return true
}

// wake tells the flow of an intent that something about it is new.
func (c *Coordinator) wake(id canon.Digest) {
	c.mu.Lock()
	wake := c.running[id]
	c.mu.Unlock()
	if wake != nil {
		select {
		case wake <- struct{}{}:
		default: // it has been told already
		}
	}
	c.changed(id)
}

// changed tells those who watch an intent to look again.
func (c *Coordinator) changed(id canon.Digest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ch := range c.watchers[id] {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

func (c *Coordinator) watch(id canon.Digest) (ch chan struct{}, stop func()) {
	ch = make(chan struct{}, 1)
	c.mu.Lock()
	c.watchers[id] = append(c.watchers[id], ch)
	c.mu.Unlock()
	return ch, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		list := c.watchers[id]
		for i := range list {
			if list[i] == ch {
				list = append(list[:i:i], list[i+1:]...)
				break
			}
		}
		if len(list) == 0 {
			delete(c.watchers, id)
		} else {
			c.watchers[id] = list
		}
	}
}

func (c *Coordinator) say(id canon.Digest, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	c.mu.Lock()
	same := c.progress[id] == text
	c.progress[id] = text
	c.mu.Unlock()
	if !same {
		c.log.Debug("progress", "intent", id.String(), "text", text)
		c.changed(id)
	}
}

// save writes an item and tells the watchers.
func (c *Coordinator) save(it *item) error {
	it.Updated = time.Now().UnixMilli()
	if err := c.items.save(*it); err != nil {
		return err
	}
	c.saved(it.ID)
	return nil
}

// saved forgets what was said of an intent before its last step, and tells the watchers.
func (c *Coordinator) saved(id canon.Digest) {
	c.mu.Lock()
	delete(c.progress, id)
	c.mu.Unlock()
	c.changed(id)
}

// record writes an audit event before the act that it describes.
func (c *Coordinator) record(code string, id canon.Digest, detail map[string]string) error {
	e := audit.Event{Time: time.Now().Unix(), Code: code, Detail: detail}
	if !id.IsZero() { // zero: it is about no intent
		e.Intent = id.String()
	}
	if _, err := c.audit.Append(e); err != nil {
		return fmt.Errorf("write audit log: %w", err)
	}
	c.recorded(code, id, detail)
	return nil
}

func plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + one + "s"
}

// methods says who may call what (docs/access.md); start-up fails when it does not fit
// what is served.
var methods = cofferrpc.Methods{
	pb.Coordinator_Advise_FullMethodName:   cofferrpc.Initiator,
	pb.Coordinator_Submit_FullMethodName:   cofferrpc.Initiator,
	pb.Coordinator_State_FullMethodName:    cofferrpc.Approver,
	pb.Coordinator_Get_FullMethodName:      cofferrpc.Reader,
	pb.Coordinator_List_FullMethodName:     cofferrpc.Reader,
	pb.Coordinator_Watch_FullMethodName:    cofferrpc.Reader,
	pb.Coordinator_Wallets_FullMethodName:  cofferrpc.Reader,
	pb.Coordinator_Cluster_FullMethodName:  cofferrpc.Reader,
	pb.Coordinator_Charter_FullMethodName:  cofferrpc.Anybody,
	pb.Coordinator_Exchange_FullMethodName: cofferrpc.Anybody,
}
