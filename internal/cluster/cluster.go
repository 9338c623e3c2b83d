package cluster

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"

	"coffer/approval"
	"coffer/audit"
	"coffer/canon"
	"coffer/chain/evm"
	"coffer/charter"
	"coffer/coordinator"
	"coffer/credential"
	"coffer/engine"
	"coffer/engine/enginetest"
	"coffer/identity"
	"coffer/intent"
	"coffer/internal/freeport"
	"coffer/internal/testcharter"
	"coffer/keystore"
	"coffer/node"
	"coffer/party"
	"coffer/policy"
	pb "coffer/proto/coffer/v1"
	"coffer/rpc"
	"coffer/store"
	"coffer/transport"
	"coffer/transport/libp2p"
	"coffer/transport/memnet"
	"coffer/wallet"
)

// Supplier is the one destination that the cluster's rules permit.
const Supplier = testcharter.Supplier

// Passphrase is every signer's.
const Passphrase = "correct horse battery"

// WalletName is the wallet that the rules speak of.
const WalletName = "treasury"

// Config says what is unusual about a cluster.
type Config struct {
	Quorum party.Quorum // 2-of-3 if zero
	// Host makes the engine of a signer; the fake one if nil.
	Host func(party.ID) (engine.Host, error)
	// Chain is the coordinator's settings of chain "dev".
	Chain coordinator.ChainSettings
	Seed  uint64
	// Doors puts one before each signer.
	Doors bool
	// Spares are so many signers more, that no charter lists yet, by the next letters.
	Spares int
	// Draft changes the charter before it is made.
	Draft func(*charter.Draft)
	// Strangers leaves every signer with its own signature under the charter alone, the
	// coordinator with none, and starts nobody.
	Strangers bool
	// SessionWithin and CeremonyWithin are node.Config's.
	SessionWithin, CeremonyWithin time.Duration
	// Link, if set, stands between a signer and its link.
	Link func(party.ID, transport.Link) transport.Link
	// Mesh has the signers talk over libp2p on loopback instead of over Net.
	Mesh bool
	// Signer and Coordinator change settings before anything starts.
	Signer      func(*node.Settings)
	Coordinator func(*coordinator.Settings)
	// Cards are of more keys of alice, bob and carol.
	Cards []string
	// Log, if set, is where each process's log goes as JSON; its name is a signer's or "desk".
	Log func(process string) io.Writer
}

// logger is that of one process.
func (c *Cluster) logger(process string) *slog.Logger {
	if c.cfg.Log == nil {
		return c.log
	}
	return slog.New(slog.NewJSONHandler(c.cfg.Log(process), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// Cluster is a running cluster. Everything ends with the test.
type Cluster struct {
	Charter *charter.Charter
	File    *charter.File
	People  map[string]credential.Signer
	Net     *memnet.Net
	Members map[party.ID]*Member
	Desk    coordinator.Dir
	DeskKey *identity.Key

	t   testing.TB
	cfg Config
	log *slog.Logger
}

// Member is one signer.
type Member struct {
	ID   party.ID
	Dir  node.Dir
	Addr string
	// Metrics is the loopback address of a signer that serves metrics, Takes that of the
	// endpoint for orders.
	Metrics, Takes string
	Card           string // what its operator sent to whoever makes the charter
	Door           *Door  // nil unless Config asks for it

	c        *Cluster
	ready    chan struct{} // closed once it serves
	watching chan string
	cancel   context.CancelFunc
	done     chan error

	mu   sync.Mutex
	desk *grpc.ClientConn // the coordinator's connection
	to   string           // whom and where it leads
}

// New makes directories, keys and the charter, and starts every signer, unsealed.
func New(t testing.TB, cfg Config) *Cluster {
	t.Helper()
	if cfg.Quorum == (party.Quorum{}) {
		cfg.Quorum = party.Quorum{Need: 2, Of: 3}
	}
	c := &Cluster{t: t, cfg: cfg, People: map[string]credential.Signer{}, Members: map[party.ID]*Member{}, log: slog.New(slog.NewTextHandler(writer{t}, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	root := t.TempDir()
	var cards []string
	add := func(card string, err error) {
		t.Helper()
		c.must(err)
		cards = append(cards, card)
	}
	var ids []party.ID
	for i := range cfg.Quorum.Of + cfg.Spares {
		id := party.ID(rune('a' + i))
		ids = append(ids, id)
		m := &Member{ID: id, Dir: node.Dir(filepath.Join(root, "signer-"+string(id))), Addr: free(t), c: c}
		c.Members[id] = m
		settings := node.Settings{
			Name: id, Organisation: []string{"exchange", "custodian", "auditor"}[i%3],
			ListenPeers: []string{place(t)}, ListenCoordinator: m.Addr,
		}
		if cfg.Signer != nil {
			cfg.Signer(&settings)
		}
		m.Takes = settings.ListenOrders
		if cfg.Doors {
			m.Door = newDoor(t, m.Addr)
			settings.AnnounceCoordinator = m.Door.Addr
		}
		card, err := node.Init(m.Dir, settings, []byte(Passphrase), keystore.SealOptions{WorkFactor: keystore.MinWorkFactor})
		c.must(err)
		if m.Card = card; i < cfg.Quorum.Of {
			add(card, nil)
		}
	}
	all, err := party.NewSet(ids...)
	c.must(err)
	set := all[:cfg.Quorum.Of]
	c.Net = memnet.New(cfg.Seed, all)
	t.Cleanup(func() { c.must(c.Net.Close()) })
	c.Desk = coordinator.Dir(filepath.Join(root, "desk"))
	settings := coordinator.Settings{Name: "desk", Organisation: "exchange", Listen: free(t)}
	if cfg.Chain.URL != "" {
		settings.Chains = map[string]coordinator.ChainSettings{"dev": cfg.Chain}
	}
	if cfg.Coordinator != nil {
		cfg.Coordinator(&settings)
	}
	add(coordinator.Init(c.Desk, settings))
	c.DeskKey, err = identity.Load(c.Desk.Identity())
	c.must(err)
	for name, org := range map[string]string{"alice": "exchange", "bob": "exchange", "carol": "custodian"} {
		c.People[name] = testcharter.SSH(t, name)
		add(charter.NewPersonCard(c.People[name], name, org))
	}
	d := draft(cfg.Quorum)
	for _, text := range cfg.Cards {
		card, err := charter.ParseCard(text)
		c.must(err)
		p := d.People[card.Name]
		p.Keys = max(p.Keys, 1) + 1
		d.People[card.Name] = p
		cards = append(cards, text)
	}
	if cfg.Draft != nil {
		cfg.Draft(&d)
	}
	c.File, err = charter.Assemble(d, cards)
	c.must(err)
	c.Charter = c.File.Charter
	for _, id := range set {
		kept, err := node.Join(c.Members[id].Dir, c.File, c.Charter.Digest())
		c.must(err)
		if !cfg.Strangers {
			c.File = kept // with the signatures of those before
		}
	}
	c.must(charter.WriteFile(c.Desk.Charter(), c.File))
	if cfg.Strangers {
		return c
	}
	for _, id := range set {
		c.must(charter.WriteFile(c.Members[id].Dir.Charter(), c.File))
	}
	for _, id := range set {
		c.Members[id].Start()
	}
	c.Fresh()
	return c
}

// Fresh waits until every signer that runs, and that is connected to so many that it can
// be, has heard enough of the others to sign.
func (c *Cluster) Fresh() {
	c.t.Helper()
	for _, m := range c.Members {
		if m.cancel != nil {
			m.Fresh()
		}
	}
}

// Fresh is that of one signer.
func (m *Member) Fresh() {
	c := m.c
	c.t.Helper()
	api := m.API()
	c.Eventually("signer "+string(m.ID)+" is fresh", func() bool {
		st, err := api.Status(c.t.Context(), &pb.StatusRequest{})
		if err != nil {
			return false
		}
		connected := 0
		for _, p := range st.Peers {
			if p.Connected {
				connected++
			}
		}
		need, _ := c.Charter.Fresh()
		return st.Fresh || connected < need
	})
}

func draft(q party.Quorum) charter.Draft {
	two := []policy.Requirement{{Group: "approvers", K: 2, Orgs: 2}}
	return charter.Draft{
		Name: "test", Organisations: []string{"exchange", "custodian", "auditor"},
		People: map[string]charter.DraftPerson{"alice": {}, "bob": {Groups: []string{"approvers"}}, "carol": {Groups: []string{"approvers"}}},
		Chains: []charter.Chain{{Name: "dev", Kind: "evm", ChainID: 1337}},
		Assets: []charter.Asset{{Symbol: "ETH", Chain: "dev", Decimals: 18}},
		Destinations: []charter.DestinationList{{Name: "suppliers", Entries: []policy.Destination{
			{Chain: "dev", Address: Supplier, Label: "coffee supplier"},
		}}},
		Quorum: q,
		Rules: []policy.Rule{
			{Name: "payments", When: `intent.kind == "transfer"`, MaxAmount: []string{"2 ETH"}, FeeCap: "0.01 ETH", Destinations: []string{"suppliers"}, Approvals: two},
			{Name: "cancels", When: `intent.kind == "cancel"`, FeeCap: "0.02 ETH", Approvals: two},
			{Name: "wallets", When: `intent.kind == "create_wallet"`, Approvals: two},
		},
		Admin: charter.AdminRule{Group: "approvers", K: 2, Orgs: 2},
		Veto:  []string{"approvers"},
	}
}

func (c *Cluster) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// place is a free one for peers.
func place(t testing.TB) string {
	t.Helper()
	return fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", port(t))
}

func free(t testing.TB) string {
	t.Helper()
	return fmt.Sprintf("127.0.0.1:%d", port(t))
}

func port(t testing.TB) int {
	t.Helper()
	ports, err := freeport.Take(1)
	if err != nil {
		t.Fatal(err)
	}
	return ports[0]
}

type writer struct{ t testing.TB }

func (w writer) Write(b []byte) (int, error) {
	w.t.Helper()
	w.t.Log(string(b[:len(b)-1]))
	return len(b), nil
}

// Start runs the signer until Stop or the end of the test, and waits until it serves.
func (m *Member) Start() {
	m.StartSealed(false)
}

// StartSealed is Start without the passphrase if sealed.
func (m *Member) StartSealed(sealed bool) {
	m.Launch(sealed)
	m.Ready(sealed)
}

// Launch is StartSealed without waiting: the charter may not be complete.
func (m *Member) Launch(sealed bool) {
	c := m.c
	c.t.Helper()
	m.ready, m.watching = make(chan struct{}), make(chan string, 1)
	ready, watching := m.ready, m.watching
	cfg := node.Config{
		Dir: m.Dir, Logger: c.logger(string(m.ID)), Version: "test", Watching: func(address string) { watching <- address },
		Link:          m.link,
		Host:          func() (engine.Host, error) { return c.host(m.ID) },
		Ready:         func(string) { close(ready) },
		SessionWithin: c.cfg.SessionWithin, CeremonyWithin: c.cfg.CeremonyWithin,
	}
	if !sealed {
		cfg.Passphrase = []byte(Passphrase)
	}
	ctx, cancel := context.WithCancel(context.Background())
	m.cancel, m.done = cancel, make(chan error, 1)
	go func() { m.done <- node.Serve(ctx, cfg) }()
	c.t.Cleanup(m.Stop)
}

// Ready waits until a launched signer serves, and, unless sealed, has primes.
func (m *Member) Ready(sealed bool) {
	c := m.c
	c.t.Helper()
	select {
	case <-m.ready:
	case err := <-m.done:
		m.done <- err
		c.t.Fatalf("signer %s: %v", m.ID, err)
	case <-time.After(30 * time.Second):
		c.t.Fatalf("signer %s does not serve", m.ID)
	}
	if settings, err := m.Dir.LoadSettings(); err != nil {
		c.t.Fatal(err)
	} else if settings.MetricsListen != "" {
		m.Metrics = <-m.watching
	}
	if !sealed {
		api := m.API()
		c.Eventually("signer unsealed with primes", func() bool {
			st, err := api.Status(c.t.Context(), &pb.StatusRequest{})
			return err == nil && !st.Sealed && st.PreParameters > 0
		})
		m.Fresh()
	}
}

func (m *Member) link(p node.Peers) (transport.Link, error) {
	if !m.c.cfg.Mesh {
		l, err := m.c.Net.Link(m.ID)
		if err == nil && m.c.cfg.Link != nil {
			return m.c.cfg.Link(m.ID, l), nil
		}
		return l, err
	}
	peers := map[party.ID]libp2p.Peer{}
	for id, a := range p.Others {
		peers[id] = libp2p.Peer{ID: a.Peer, Addrs: a.P2P}
	}
	return libp2p.New(libp2p.Config{Key: p.Key, Self: p.Self, Peers: peers, Listen: p.Listen, Cluster: p.Cluster, Build: p.Version, Logger: m.c.log.With("link", string(m.ID))})
}

// Move gives a signer that is stopped other places to listen at.
func (m *Member) Move() {
	m.c.t.Helper()
	s, err := m.Dir.LoadSettings()
	m.c.must(err)
	m.Addr = free(m.c.t)
	s.ListenPeers, s.ListenCoordinator = []string{place(m.c.t)}, m.Addr
	raw, err := json.Marshal(s)
	m.c.must(err)
	m.c.must(store.WriteFile(m.Dir.Config(), raw, 0o600))
}

func (c *Cluster) host(id party.ID) (engine.Host, error) {
	if c.cfg.Host != nil {
		return c.cfg.Host(id)
	}
	return enginetest.New(), nil
}

// Stop ends the signer and waits for it. It is idempotent.
func (m *Member) Stop() {
	if m.cancel == nil {
		return
	}
	m.cancel()
	m.cancel = nil
	if err := <-m.done; err != nil {
		m.c.t.Errorf("signer %s: %v", m.ID, err)
	}
}

// API is the signer's service, called as the coordinator: over one connection, as a
// coordinator does, for a host has its share of them only.
func (m *Member) API() pb.SignerClient {
	m.c.t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	signer, _ := m.c.Charter.Signer(m.ID)
	to := fmt.Sprint(m.c.DeskKey.ID(), " ", signer.Peer, " ", m.Addr)
	if m.desk != nil {
		if state := m.desk.GetState(); m.to == to && state != connectivity.TransientFailure && state != connectivity.Shutdown {
			return pb.NewSignerClient(m.desk)
		}
		_ = m.desk.Close() // of an identity or address before, or the signer was away
	}
	m.desk, m.to = m.Dial(m.c.DeskKey), to
	return pb.NewSignerClient(m.desk)
}

// Operator is the signer's service for its operator.
func (m *Member) Operator() pb.OperatorClient {
	m.c.t.Helper()
	conn, err := rpc.DialUnix(m.Dir.Socket())
	m.c.must(err)
	m.c.t.Cleanup(func() { _ = conn.Close() })
	return pb.NewOperatorClient(conn)
}

// CreateWallet asks this signer alone to take part in a ceremony.
func (m *Member) CreateWallet(ctx context.Context, i intent.Signed, statements []*pb.SignedMessage, attempt []byte) (*pb.SignedRecord, error) {
	return m.createWallet(ctx, i, statements, attempt)
}

// Sign asks this signer alone to take part in a session.
func (m *Member) Sign(ctx context.Context, req *pb.SignRequest) Answer { return m.sign(ctx, req) }

// VerifyAudits checks every signer's audit log as an outsider would.
func (c *Cluster) VerifyAudits() {
	c.t.Helper()
	for id, m := range c.Members {
		report, err := audit.Verify(m.Dir.Audit())
		if err != nil {
			c.t.Errorf("audit log of %s: %v", id, err)
		} else if signer, _ := c.Charter.Signer(id); report.Identity != signer.Peer {
			c.t.Errorf("audit log of %s is of %s", id, report.Identity)
		}
	}
}

// Dial connects to the signer's coordinator endpoint with any key.
func (m *Member) Dial(key *identity.Key) *grpc.ClientConn {
	m.c.t.Helper()
	signer, _ := m.c.Charter.Signer(m.ID)
	conn, err := rpc.Dial(key, signer.Peer, m.Addr)
	m.c.must(err)
	m.c.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// Eventually waits for a condition, with a deadline.
func (c *Cluster) Eventually(what string, ok func() bool) {
	c.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			c.t.Fatalf("not within 30 s: %s", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// Sign completes an intent and signs it as a person.
func (c *Cluster) Sign(who string, i *intent.Intent) intent.Signed {
	c.t.Helper()
	i.Cluster, i.Charter, i.Initiator = c.Charter.Cluster, c.Charter.Digest(), who
	if i.Expires == 0 {
		i.NotBefore, i.Expires = time.Now().Unix()-60, time.Now().Unix()+3600
	}
	if i.FeeCap == nil {
		i.FeeCap = new(big.Int)
	}
	_, err := rand.Read(i.Salt[:])
	c.must(err)
	signed, err := intent.Sign(i, c.People[who])
	c.must(err)
	return signed
}

// CreateWallet is an intent for the wallet.
func (c *Cluster) CreateWallet(ref string) intent.Signed {
	c.t.Helper()
	return c.Sign("alice", &intent.Intent{Kind: intent.CreateWallet, Wallet: WalletName, Reference: ref, CreateWallet: &intent.CreateWalletBody{
		Quorum: c.Charter.Quorum, Signers: c.Charter.Parties(),
	}})
}

// Payment is an intent to pay the supplier, in units of 0.1 ETH.
func (c *Cluster) Payment(r *wallet.Record, ref string, nonce uint64, tenths int64) *intent.Intent {
	c.t.Helper()
	account, err := evm.AddressOf(r.PublicKey)
	c.must(err)
	return &intent.Intent{
		Kind: intent.Transfer, Wallet: r.Name, Chain: "dev", Account: account.String(), Nonce: nonce, Reference: ref,
		FeeCap:   big.NewInt(1e15),
		Transfer: &intent.TransferBody{Asset: "ETH", To: Supplier, Amount: new(big.Int).Mul(big.NewInt(tenths), big.NewInt(1e17))},
	}
}

// State is a person's statement about an intent.
func (c *Cluster) State(who string, kind approval.Kind, subject canon.Digest) approval.Signed {
	c.t.Helper()
	s := &approval.Statement{
		Cluster: c.Charter.Cluster, Kind: kind, Subject: subject, Person: who,
		Issued: time.Now().Unix(), Expires: time.Now().Unix() + 3600,
	}
	_, err := rand.Read(s.Nonce[:])
	c.must(err)
	signed, err := approval.Sign(s, c.People[who])
	c.must(err)
	return signed
}

// Approvals are bob's and carol's.
func (c *Cluster) Approvals(i intent.Signed) []*pb.SignedMessage {
	c.t.Helper()
	id := canon.Sum(i.Raw)
	return []*pb.SignedMessage{
		c.State("bob", approval.Approve, id).ToProto(), c.State("carol", approval.Approve, id).ToProto(),
	}
}

// Unsigned is the transaction of a payment at a low fee.
func (c *Cluster) Unsigned(i intent.Signed) *evm.Unsigned {
	c.t.Helper()
	parsed, err := intent.Parse(i.Raw)
	c.must(err)
	u, err := evm.Build(parsed, c.Charter, evm.Fees{TipCap: big.NewInt(1), FeeCap: big.NewInt(2e9), Gas: evm.PlainGas})
	c.must(err)
	return u
}

// Wallet has the signers make the wallet, and returns its record.
func (c *Cluster) Wallet() *wallet.Record {
	c.t.Helper()
	i := c.CreateWallet("WALLET-1")
	record, err := c.Ceremony(c.t.Context(), i, c.Approvals(i))
	c.must(err)
	return record
}

// Ceremony asks all signers for a wallet, as the coordinator would, and returns the
// record that the first of them announced after all have answered.
func (c *Cluster) Ceremony(ctx context.Context, i intent.Signed, statements []*pb.SignedMessage) (*wallet.Record, error) {
	attempt := Attempt()
	type answer struct {
		record *pb.SignedRecord
		err    error
	}
	all := c.Charter.Parties()
	answers := make(chan answer, len(all))
	for _, id := range all {
		go func() {
			record, err := c.Members[id].createWallet(ctx, i, statements, attempt)
			answers <- answer{record, err}
		}()
	}
	var record *wallet.Record
	var first error
	for range all {
		a := <-answers
		if a.err != nil {
			if first == nil {
				first = a.err
			}
			continue
		}
		signed, err := wallet.FromProto(a.record)
		if err == nil {
			record, err = signed.Open(c.Charter.Only())
		}
		if err != nil && first == nil {
			first = err
		}
	}
	if first != nil {
		return nil, first
	}
	return record, nil
}

func (m *Member) createWallet(ctx context.Context, i intent.Signed, statements []*pb.SignedMessage, attempt []byte) (*pb.SignedRecord, error) {
	stream, err := m.API().CreateWallet(ctx, &pb.CreateWalletRequest{Intent: i.ToProto(), Statements: statements, Attempt: attempt})
	if err != nil {
		return nil, err
	}
	for {
		e, err := stream.Recv()
		switch {
		case err != nil:
			return nil, fmt.Errorf("signer %s: %w", m.ID, err)
		case e.GetWallet() != nil:
			return e.GetWallet(), nil
		case e.GetFailed() != nil:
			return nil, fmt.Errorf("signer %s: %s: %s", m.ID, e.GetFailed().Code, e.GetFailed().Text)
		case e.GetRefused() != nil:
			return nil, fmt.Errorf("signer %s refused", m.ID)
		}
	}
}

// Attempt is a fresh attempt.
func Attempt() []byte {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails since Go 1.24
	return b
}

// Answer is how one signer's session ended.
type Answer struct {
	Partial *pb.Partial
	Refused *pb.JudgeResponse
	Failed  *pb.Failure
	Err     error
}

// Session asks the given signers to sign, as the coordinator would.
func (c *Cluster) Session(ctx context.Context, signers []party.ID, request func(party.ID) *pb.SignRequest) map[party.ID]Answer {
	type named struct {
		id party.ID
		a  Answer
	}
	answers := make(chan named, len(signers))
	for _, id := range signers {
		go func() { answers <- named{id, c.Members[id].sign(ctx, request(id))} }()
	}
	out := map[party.ID]Answer{}
	for range signers {
		n := <-answers
		out[n.id] = n.a
	}
	return out
}

func (m *Member) sign(ctx context.Context, req *pb.SignRequest) Answer {
	stream, err := m.API().Sign(ctx, req)
	if err != nil {
		return Answer{Err: err}
	}
	for {
		e, err := stream.Recv()
		if err != nil {
			return Answer{Err: err}
		}
		if e.GetProgress() == nil {
			return Answer{Partial: e.GetPartial(), Refused: e.GetRefused(), Failed: e.GetFailed()}
		}
	}
}
