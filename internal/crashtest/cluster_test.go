//go:build e2e && crashpoint

package crashtest

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"math/big"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/ethclient"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"coffer/access"
	"coffer/approval"
	"coffer/audit"
	"coffer/canon"
	"coffer/chain/evm"
	chainrpc "coffer/chain/rpc"
	"coffer/charter"
	"coffer/coordinator"
	"coffer/credential"
	"coffer/identity"
	"coffer/intent"
	"coffer/internal/devchain"
	"coffer/internal/freeport"
	"coffer/internal/testcharter"
	"coffer/keystore"
	"coffer/node"
	"coffer/party"
	"coffer/policy"
	pb "coffer/proto/coffer/v1"
	"coffer/rpc"
	"coffer/store"
	"coffer/wallet"
)

// cluster is three signers and a coordinator, each a process, on a chain that does
// not crash.
type cluster struct {
	t       testing.TB
	root    string
	charter *charter.Charter
	people  map[string]credential.Signer
	signers map[party.ID]*process
	desk    *process
	api     pb.CoordinatorClient
	address string // of the coordinator
	chain   *chainrpc.Client
	eth     *ethclient.Client
	faucet  *devchain.Faucet

	account evm.Address
	record  *wallet.Record
	next    uint64              // nonce of the next payment
	paid    map[string]struct{} // amounts of all payments, each another one
}

const (
	walletName = "treasury"
	staff      = "staff"          // a list that approvers keep
	within     = 40 * time.Second // a payment, whatever happens to it
)

func (c *cluster) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// newCluster makes directories, keys and charter, and starts everything. dir says
// where a process has its data; nil: in a temporary folder.
func newCluster(t testing.TB, dir func(name string) string) *cluster {
	t.Helper()
	c := &cluster{t: t, root: t.TempDir(), people: map[string]credential.Signer{}, signers: map[party.ID]*process{}, paid: map[string]struct{}{}}
	if dir == nil {
		dir = func(name string) string { return filepath.Join(c.root, name) }
	}
	endpoint := c.startChain()
	var cards []string
	add := func(card string, err error) {
		t.Helper()
		c.must(err)
		cards = append(cards, card)
	}
	ports, err := freeport.Take(7)
	c.must(err)
	orgs := []string{"exchange", "custodian", "auditor"}
	for i, id := range []party.ID{"a", "b", "c"} {
		p := newProcess(t, c.root, string(id), "signer", dir(string(id)))
		c.signers[id] = p
		add(node.Init(node.Dir(p.dir), node.Settings{
			Name: id, Organisation: orgs[i],
			ListenPeers: []string{fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", ports[2*i])}, ListenCoordinator: fmt.Sprintf("127.0.0.1:%d", ports[2*i+1]),
		}, []byte(passphrase), keystore.SealOptions{WorkFactor: keystore.MinWorkFactor}))
	}
	c.desk = newProcess(t, c.root, "desk", "coordinator", dir("desk"))
	address := fmt.Sprintf("127.0.0.1:%d", ports[6])
	add(coordinator.Init(coordinator.Dir(c.desk.dir), coordinator.Settings{
		Name: "desk", Organisation: "exchange", Listen: address, Chains: map[string]coordinator.ChainSettings{"dev": {URL: endpoint}},
	}))
	for name, org := range map[string]string{"alice": "exchange", "bob": "exchange", "carol": "custodian"} {
		c.people[name] = testcharter.SSH(t, name)
		add(charter.NewPersonCard(c.people[name], name, org))
	}
	file, err := charter.Assemble(draft(), cards)
	c.must(err)
	c.charter = file.Charter
	for _, p := range c.signers {
		key, err := identity.Load(node.Dir(p.dir).Identity())
		c.must(err)
		c.must(file.Sign(key))
	}
	for _, p := range c.signers {
		d := node.Dir(p.dir)
		c.must(charter.WriteFile(d.Charter(), file))
		c.must(store.WriteFile(d.Pin(), []byte(c.charter.Digest().String()+"\n"), 0o600))
	}
	c.must(charter.WriteFile(coordinator.Dir(c.desk.dir).Charter(), file))
	key, err := identity.Load(coordinator.Dir(c.desk.dir).Identity())
	c.must(err)
	c.address = address
	c.dial(key.ID())
	c.each(func(p *process) { p.mustStart() })
	return c
}

// dial reaches the coordinator as alice, under an identity.
func (c *cluster) dial(desk identity.ID) {
	c.t.Helper()
	grants, err := access.OpenSource(filepath.Join(c.t.TempDir(), "alice"), c.charter.Cluster, "alice", func() (credential.Signer, error) { return c.people["alice"], nil })
	c.must(err)
	conn, err := rpc.DialGranted(grants, desk, c.address)
	c.must(err)
	c.t.Cleanup(func() { _ = conn.Close() })
	c.api = pb.NewCoordinatorClient(conn)
}

// each does something with every process, the coordinator last.
func (c *cluster) each(f func(*process)) {
	for _, id := range slices.Sorted(maps.Keys(c.signers)) {
		f(c.signers[id])
	}
	f(c.desk)
}

func draft() charter.Draft {
	two := []policy.Requirement{{Group: "approvers", K: 2, Orgs: 2}}
	return charter.Draft{
		Name: "test", Organisations: []string{"exchange", "custodian", "auditor"},
		People: map[string]charter.DraftPerson{"alice": {}, "bob": {Groups: []string{"approvers"}}, "carol": {Groups: []string{"approvers"}}},
		Chains: []charter.Chain{{Name: "dev", Kind: "evm", ChainID: devchain.ChainID}},
		Assets: []charter.Asset{{Symbol: "ETH", Chain: "dev", Decimals: 18}},
		Destinations: []charter.DestinationList{{Name: "suppliers", Entries: []policy.Destination{
			{Chain: "dev", Address: testcharter.Supplier, Label: "coffee supplier"},
		}}, {Name: staff, Keepers: &policy.Requirement{Group: "approvers", K: 2}}},
		Quorum: party.Quorum{Need: 2, Of: 3},
		Rules: []policy.Rule{
			{Name: "payments", When: `intent.kind == "transfer"`, MaxAmount: []string{"2 ETH"}, FeeCap: "0.01 ETH", Destinations: []string{"suppliers"}, Approvals: two},
			{Name: "wallets", When: `intent.kind == "create_wallet"`, Approvals: two},
		},
		Admin: charter.AdminRule{Group: "approvers", K: 2, Orgs: 2, Delay: delay.String(), NarrowDelay: delay.String()},
	}
}

func (c *cluster) startChain() (endpoint string) {
	c.t.Helper()
	var err error
	c.faucet, err = devchain.NewFaucet()
	c.must(err)
	ready, done := make(chan string, 1), make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	million := new(big.Int).Mul(big.NewInt(1_000_000), big.NewInt(1e18))
	go func() {
		done <- devchain.Run(ctx, devchain.Config{Alloc: map[evm.Address]*big.Int{c.faucet.Address(): million}, Ready: func(u string) { ready <- u }})
	}()
	c.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			c.t.Error(err)
		}
	})
	select {
	case endpoint = <-ready:
	case err := <-done:
		done <- nil
		c.t.Fatal(err)
	}
	c.chain, err = chainrpc.Dial(c.t.Context(), endpoint, devchain.ChainID)
	c.must(err)
	c.t.Cleanup(c.chain.Close)
	c.eth, err = ethclient.Dial(endpoint)
	c.must(err)
	c.t.Cleanup(c.eth.Close)
	return endpoint
}

// eventually waits for a condition; why is what it said last.
func (c *cluster) eventually(what string, ok func() (why error)) {
	c.t.Helper()
	if err := await(within, ok); err != nil {
		c.t.Fatalf("not within %s: %s: %v", within, what, err)
	}
}

func await(within time.Duration, ok func() error) error {
	deadline := time.Now().Add(within)
	for {
		err := ok()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		<-time.After(10 * time.Millisecond)
	}
}

func (c *cluster) sign(i *intent.Intent) intent.Signed {
	c.t.Helper()
	i.Cluster, i.Charter, i.Initiator = c.charter.Cluster, c.charter.Digest(), "alice"
	i.NotBefore, i.Expires = time.Now().Unix()-60, time.Now().Unix()+3600
	if i.FeeCap == nil {
		i.FeeCap = new(big.Int)
	}
	_, err := rand.Read(i.Salt[:])
	c.must(err)
	signed, err := intent.Sign(i, c.people["alice"])
	c.must(err)
	return signed
}

func (c *cluster) approval(who string, id canon.Digest) *pb.SignedMessage {
	c.t.Helper()
	s := &approval.Statement{
		Cluster: c.charter.Cluster, Kind: approval.Approve, Subject: id, Person: who, Issued: time.Now().Unix(), Expires: time.Now().Unix() + 3600,
	}
	_, err := rand.Read(s.Nonce[:])
	c.must(err)
	signed, err := approval.Sign(s, c.people[who])
	c.must(err)
	return signed.ToProto()
}

// createWallet is a request for a wallet of all signers.
func (c *cluster) createWallet(name string) intent.Signed {
	c.t.Helper()
	return c.sign(&intent.Intent{Kind: intent.CreateWallet, Wallet: name, Reference: "wallet " + name, CreateWallet: &intent.CreateWalletBody{
		Quorum: c.charter.Quorum, Signers: c.charter.Parties(),
	}})
}

// payment is the next payment, of an amount that no other has.
func (c *cluster) payment() intent.Signed {
	c.t.Helper()
	amount := big.NewInt(1e9 + int64(c.next))
	c.paid[amount.String()] = struct{}{}
	i := &intent.Intent{
		Kind: intent.Transfer, Wallet: walletName, Chain: "dev", Account: c.account.String(), Nonce: c.next, Reference: fmt.Sprintf("INV-%d", c.next),
		FeeCap: big.NewInt(1e16), Transfer: &intent.TransferBody{Asset: "ETH", To: testcharter.Supplier, Amount: amount},
	}
	c.next++
	return c.sign(i)
}

// away says that an error is of a process that is not there now, or is about to end
// because of its disk: a person asks again later.
func away(err error) bool {
	return status.Code(err) == codes.Unavailable || status.Code(err) == codes.Internal && strings.Contains(err.Error(), store.ErrFull.Error())
}

// carry submits an intent, approves it and follows it to its end, as a person with
// patience would: whatever was not answered is asked again.
func (c *cluster) carry(i intent.Signed) (*pb.IntentView, error) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), within)
	defer cancel()
	id := canon.Sum(i.Raw)
	try := func(what string, f func() error) error {
		var last error
		err := await(within, func() error {
			last = f()
			if away(last) {
				return last
			}
			return nil
		})
		if err == nil {
			err = last
		}
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		return nil
	}
	if err := try("submit", func() error {
		_, err := c.api.Submit(ctx, &pb.SubmitRequest{Intent: i.ToProto()})
		return err
	}); err != nil {
		return nil, err
	}
	for _, who := range []string{"bob", "carol"} {
		statement := c.approval(who, id)
		if err := try("approve", func() error {
			_, err := c.api.State(ctx, &pb.StateRequest{Statement: statement})
			return err
		}); err != nil {
			return nil, err
		}
	}
	var view *pb.IntentView
	err := await(within, func() error {
		v, err := c.api.Get(ctx, &pb.GetRequest{Id: id.String()})
		if err != nil {
			return err
		}
		view = v
		switch v.Stage {
		case pb.Stage_STAGE_DONE, pb.Stage_STAGE_FAILED, pb.Stage_STAGE_REFUSED:
			return nil
		default:
			return fmt.Errorf("stage %s: %s: %s", v.Stage, v.Detail, v.Progress)
		}
	})
	return view, err
}

// pay makes the next payment and demands that it is mined.
func (c *cluster) pay() error {
	c.t.Helper()
	view, err := c.carry(c.payment())
	if err != nil {
		return err
	}
	if view.Stage != pb.Stage_STAGE_DONE {
		return fmt.Errorf("the payment ended %s %s: %s", view.Stage, view.FailureCode, view.Detail)
	}
	return nil
}

// fund makes the wallet and gives it money.
func (c *cluster) fund() *cluster {
	c.t.Helper()
	view, err := c.carry(c.createWallet(walletName))
	c.must(err)
	if view.Stage != pb.Stage_STAGE_DONE {
		c.t.Fatalf("the wallet ended %s %s: %s", view.Stage, view.FailureCode, view.Detail)
	}
	c.record = c.walletRecord(walletName)
	c.account, err = evm.AddressOf(c.record.PublicKey)
	c.must(err)
	_, err = c.faucet.Pay(c.t.Context(), c.chain, c.account, new(big.Int).Mul(big.NewInt(100), big.NewInt(1e18)))
	c.must(err)
	return c
}

// walletRecord asks the coordinator for a wallet and verifies what it says.
func (c *cluster) walletRecord(name string) *wallet.Record {
	c.t.Helper()
	var record *wallet.Record
	c.eventually("wallet "+name, func() error {
		reply, err := c.api.Wallets(c.t.Context(), &pb.WalletsRequest{})
		if err != nil {
			return err
		}
		for _, w := range reply.Wallets {
			signed, err := wallet.FromProto(w)
			c.must(err)
			r, err := signed.Open(c.charter.Only())
			c.must(err)
			if r.Name == name {
				record = r
				return nil
			}
		}
		return fmt.Errorf("there are %d others", len(reply.Wallets))
	})
	return record
}

// checkChain reads all blocks back: each payment that was made is there exactly
// once, and nothing else left the account.
func (c *cluster) checkChain() {
	c.t.Helper()
	mined := minedAmounts(c.t, c.eth)
	for amount := range c.paid {
		if mined[amount] != 1 {
			c.t.Errorf("the payment of %s wei was mined %d times", amount, mined[amount])
		}
	}
	if len(mined) != len(c.paid) {
		c.t.Errorf("%d different payments were mined, %d were asked for", len(mined), len(c.paid))
	}
	nonce, err := c.chain.Nonce(c.t.Context(), c.account)
	c.must(err)
	if nonce != uint64(len(c.paid)) {
		c.t.Errorf("the account has made %d transactions, %d were asked for", nonce, len(c.paid))
	}
	c.t.Logf("%d payments, each mined once", len(c.paid))
}

// minedAmounts reads all blocks and counts by amount what the supplier got.
func minedAmounts(t testing.TB, eth *ethclient.Client) map[string]int {
	t.Helper()
	head, err := eth.BlockNumber(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	mined := map[string]int{}
	for n := range head + 1 {
		block, err := eth.BlockByNumber(t.Context(), new(big.Int).SetUint64(n))
		if err != nil {
			t.Fatal(err)
		}
		for _, tx := range block.Transactions() {
			if tx.To() != nil && tx.To().Hex() == testcharter.Supplier {
				mined[tx.Value().String()]++
			}
		}
	}
	return mined
}

// checkLogs stops everything and verifies the audit logs.
func (c *cluster) checkLogs() {
	c.t.Helper()
	c.each(func(p *process) {
		if done := p.ended(); done != nil {
			select {
			case <-done:
			default:
				p.stop()
			}
		}
		if _, err := audit.Verify(filepath.Join(p.dir, "audit")); err != nil {
			c.t.Errorf("%s: %v", p.name, err)
		}
	})
}
