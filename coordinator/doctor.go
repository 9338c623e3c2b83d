package coordinator

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/big"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/status"

	"coffer/audit"
	"coffer/chain/evm"
	"coffer/hook"
	"coffer/identity"
	"coffer/internal/doctor"
	pb "coffer/proto/coffer/v1"
	"coffer/rpc"
)

const (
	// oldHead is the age of a newest block that makes one look at the node.
	oldHead = 5 * time.Minute
	// stuckSigning and stuckMining are how long an intent that has its approvals may take.
	stuckSigning = 5 * time.Minute
	stuckMining  = 15 * time.Minute
	// slowSigner is a round trip that people notice.
	slowSigner = time.Second
)

// operatorService answers this coordinator's own operator, on the Unix socket.
type operatorService struct {
	pb.UnimplementedCoordinatorOperatorServer
	c *Coordinator
}

var operatorMethods = rpc.Methods{
	pb.CoordinatorOperator_Doctor_FullMethodName:    rpc.Owner,
	pb.CoordinatorOperator_Introduce_FullMethodName: rpc.Owner,
	pb.CoordinatorOperator_Cluster_FullMethodName:   rpc.Owner,
}

// Introduce takes address records that the operator got by another way.
func (o *operatorService) Introduce(_ context.Context, req *pb.IntroduceRequest) (*pb.IntroduceResponse, error) {
	return o.c.introduce(req)
}

// Cluster answers what the last question to each signer brought.
func (o *operatorService) Cluster(context.Context, *pb.ClusterRequest) (*pb.ClusterResponse, error) {
	return o.c.state(), nil
}

// Doctor answers the operator what is well with this coordinator and what is not.
func (o *operatorService) Doctor(ctx context.Context, _ *pb.DoctorRequest) (*pb.DoctorResponse, error) {
	r := new(doctor.Report)
	o.c.examine(ctx, r)
	return &pb.DoctorResponse{Findings: r.Findings}, nil
}

func (c *Coordinator) examine(ctx context.Context, r *doctor.Report) {
	r.OK("coordinator", "%s runs, version %s, charter version %d %s", c.settings.Name, c.cfg.Version, c.inForce().Version, c.inForce().Digest().Short())
	if missing := c.charterFile().Missing(); len(missing) > 0 {
		r.Fail("charter", "not signed yet by "+strings.Join(missing.Strings(), ", ")+": nothing can be asked for", "their operators run coffer-signer join and run; this coordinator collects the signatures by itself")
	}
	c.examineRecords(r)
	c.examineSigners(ctx, r)
	for _, chain := range c.inForce().Chains {
		if _, ok := c.settings.Chains[chain.Name]; !ok {
			r.Warn("chain "+chain.Name, "no endpoint: it cannot be paid on", "add chains."+chain.Name+" to config.json and restart")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.settings.Chains)) {
		c.examineChain(ctx, r, name)
	}
	c.examineIntents(r)
	healthy := true
	for what, err := range c.writeErrors() {
		if err != nil {
			healthy = false
			r.Fail(what, "takes no more writes: "+err.Error(), "make room or replace the disk, then restart: every record is checked then")
		}
	}
	if healthy {
		r.OK("writes", "audit log (%d entries) and store take them", c.audit.Size())
	}
	r.Clock()
	r.Limits()
	examineDir(r, c.cfg.Dir, c.settings)
}

// examineRecords says what is frozen and what is about to change.
func (c *Coordinator) examineRecords(r *doctor.Report) {
	if err := suits(c.inForce(), c.settings, c.key); err != nil {
		r.Fail("charter", err.Error(), "docs/operations.md, a coordinator that is replaced")
	}
	b := c.book.Load()
	if b == nil {
		return
	}
	for _, h := range b.Freezes() {
		r.Warn("freeze "+h.ID.Short(), fmt.Sprintf("%s is frozen by %s: %s (on the disk of %d signers)", h.Freeze.What(), h.Freeze.By, h.Freeze.Reason, len(h.Receipts)), "find out why; coffer unfreeze "+h.ID.Short()+" and the admins' signatures lift it")
	}
	for _, p := range b.Pending() {
		switch {
		case p.Fork:
			r.Fail(p.Title, "there is another one of that number, signed as well: neither counts", "an admin who signed both withdraws from one: coffer withdraw "+p.Record.Short())
		case p.Complete:
			r.OK(p.Title, "has its signatures and waits until signers say that it is in force")
		default:
			r.OK(p.Title, "waits for people: %s", p.Missing)
		}
	}
}

// examineSigners asks each signer now, all at once.
func (c *Coordinator) examineSigners(ctx context.Context, r *doctor.Report) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	now := c.roster.Load()
	reports := make([]doctor.Report, len(now.signers))
	able := make([]bool, len(now.signers))
	var wg sync.WaitGroup
	for n, s := range now.signers {
		wg.Go(func() { able[n] = c.examineSigner(ctx, &reports[n], s) })
	}
	wg.Wait()
	count := 0
	for n := range reports {
		r.Findings = append(r.Findings, reports[n].Findings...)
		if able[n] {
			count++
		}
	}
	if need := now.charter.Quorum.Need; count < need {
		r.Fail("signers", fmt.Sprintf("%d of %d can sign, %d are needed: no payment goes on", count, len(now.signers), need), "see each signer above; their operators have to act")
	} else {
		r.OK("signers", "%d of %d can sign, %d are needed", count, len(now.signers), need)
	}
}

func (c *Coordinator) examineSigner(ctx context.Context, r *doctor.Report, s *signer) (able bool) {
	subject := "signer " + string(s.id)
	begin := time.Now()
	st, err := s.api.Status(ctx, &pb.StatusRequest{})
	took := time.Since(begin)
	if err != nil {
		r.Warn(subject, "does not answer at "+c.where(s.id)+": "+status.Convert(err).Message(), "ask its operator for coffer-signer doctor; look at the network between")
		return false
	}
	able = true
	if digest := c.inForce().Digest(); string(st.CharterDigest) != string(digest[:]) {
		r.Warn(subject, "has another version of the charter in force than this coordinator", "it catches up by itself from any other signer; ask its operator if it lasts")
		able = false
	}
	if st.Sealed {
		r.Warn(subject, "is sealed: it can sign nothing", "ask its operator for coffer-signer unseal")
		able = false
	}
	// Whole seconds travel: half a second either way is nobody's fault.
	r.Skew(subject, time.Unix(st.UnixTime, 5e8).Sub(begin.Add(took/2)))
	if took > slowSigner {
		r.Warn(subject, fmt.Sprintf("took %s to answer", took.Round(time.Millisecond)), "look at the network and at its load")
	}
	if st.Version != "" && c.cfg.Version != "" && st.Version != c.cfg.Version {
		r.Warn(subject, fmt.Sprintf("runs version %s, this is %s", st.Version, c.cfg.Version), "upgrade the older one")
	}
	if st.PreParameters == 0 {
		r.Warn(subject, "has no pre-parameters ready: a new wallet must wait for them", "wait; ask its operator if it lasts")
	}
	var away []string
	for _, p := range st.Peers {
		if !p.Connected {
			away = append(away, p.Signer)
		}
	}
	if len(away) > 0 {
		r.Warn(subject, "is not connected to "+strings.Join(away, ", "), "their operators look at the network between them: coffer-signer doctor")
	}
	if able {
		r.OK(subject, "answers in %s", took.Round(10*time.Microsecond))
	}
	return able
}

func (c *Coordinator) examineChain(ctx context.Context, r *doctor.Report, name string) {
	subject := "chain " + name
	begin := time.Now()
	h := c.askHead(ctx, name)
	if h.err != nil {
		r.Fail(subject, h.err.Error(), "look at the node; chains."+name+".fallbacks names others to ask")
		return
	}
	age := time.Since(h.at).Round(time.Second)
	if age > oldHead {
		r.Warn(subject, fmt.Sprintf("block %d at %s is %s old", h.number, h.endpoint, age), "is the node in step with the others? A dev chain that seals on demand has old blocks")
	} else {
		r.OK(subject, "block %d, %s old, %s answers in %s", h.number, max(0, age), h.endpoint, time.Since(begin).Round(time.Millisecond))
	}
	client, err := c.chain(ctx, name)
	if err != nil {
		return // said above
	}
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	fees, err := client.Fees(ctx)
	if err != nil {
		r.Warn(subject, err.Error(), "no fee can be quoted, so nothing can be built")
		return
	}
	// What ten plain transfers may cost now.
	enough := new(big.Int).Mul(fees.FeeCap, big.NewInt(10*int64(evm.PlainGas)))
	c.mu.Lock()
	names := slices.Sorted(maps.Keys(c.wallets))
	c.mu.Unlock()
	for _, wallet := range names {
		record, err := c.wallet(wallet)
		if err != nil {
			continue
		}
		account, err := evm.AddressOf(record.PublicKey)
		if err != nil {
			continue
		}
		balance, err := client.Balance(ctx, account)
		switch {
		case err != nil:
			r.Warn("wallet "+wallet, err.Error(), "look at the node")
		case balance.Cmp(enough) < 0:
			r.Warn("wallet "+wallet, fmt.Sprintf("%s on %s has %s wei for fees, ten transfers may cost %s", account, name, balance, enough), "pay some of the chain's coin to it")
		default:
			r.OK("wallet "+wallet, "%s on %s has money for fees", account, name)
		}
	}
}

func (c *Coordinator) examineIntents(r *doctor.Report) {
	stuck, pending := 0, c.pending()
	for _, it := range pending {
		age := time.Since(time.UnixMilli(it.Since))
		subject := "intent " + it.ID.Short()
		c.mu.Lock()
		doing := c.progress[it.ID]
		c.mu.Unlock()
		if doing == "" {
			doing = it.Detail
		}
		switch {
		case it.Stage == pb.Stage_STAGE_SIGNING && age > stuckSigning:
			stuck++
			r.Warn(subject, fmt.Sprintf("has been with the signers for %s: %s", age.Round(time.Second), doing), "coffer show "+it.ID.Short()+" says what each signer waits for")
		case (it.Stage == pb.Stage_STAGE_BROADCAST || it.Stage == pb.Stage_STAGE_CONFIRMATION) && age > stuckMining:
			stuck++
			r.Warn(subject, fmt.Sprintf("has been on its way into a block for %s: %s", age.Round(time.Second), doing), "coffer show "+it.ID.Short()+"; is the fee cap too low, or the node out of step?")
		}
	}
	if stuck == 0 {
		r.OK("intents", "%s pending, none stuck", plural(len(pending), "intent"))
	}
}

// examineDir is what can be seen in a directory, whether the coordinator runs or not.
func examineDir(r *doctor.Report, d Dir, s *Settings) {
	r.Files(string(d), d.Identity(), d.Store())
	if _, err := os.Stat(d.Store()); errors.Is(err, fs.ErrNotExist) {
		r.Fail("store", d.Store()+" does not exist", "stop the coordinator if it runs, then coffer-coordinator run --rebuild --dir "+string(d)+": it asks the signers and the chains for what was in it; docs/operations.md")
	}
	r.Disk(string(d))
	if err := hook.CheckPrograms(s.Hooks); err != nil {
		r.Warn("hooks", err.Error(), "nobody is told by it")
	}
	if s.MetricsListen == "" && len(s.Hooks) == 0 {
		r.Warn("monitoring", "neither metrics_listen nor hooks are set: nobody hears when this coordinator needs somebody", "docs/monitoring.md says how")
	}
}

// Doctor is what can be said of a coordinator that does not run.
func Doctor(d Dir) []*pb.Finding {
	r := new(doctor.Report)
	s, err := d.LoadSettings()
	if err != nil {
		r.Fail("settings", err.Error(), "docs/configuration.md has every key")
		return r.Findings
	}
	r.Fail("coordinator", "it does not run", "coffer-coordinator run --dir "+string(d))
	key, err := identity.Load(d.Identity())
	if err != nil {
		r.Fail("identity", err.Error(), "without its identity key nobody answers this coordinator: bring the file back")
	}
	if key != nil {
		switch file, now, err := openCharter(d, s, key); {
		case err != nil:
			r.Fail("charter", err.Error(), "compare the file with the operators'")
		case len(file.Missing()) > 0:
			r.Warn("charter", "not signed yet by "+strings.Join(file.Missing().Strings(), ", "), "coffer-coordinator run collects the signatures from the signers")
		default:
			r.OK("charter", "version %d %s", now.Version, now.Digest().Short())
		}
	}
	switch report, err := audit.Verify(d.Audit()); {
	case errors.Is(err, fs.ErrNotExist):
		r.OK("audit", "empty: it has never run")
	case err != nil:
		r.Fail("audit", err.Error(), "keep a copy of the folder before anything else; docs/operations.md")
	default:
		r.OK("audit", "%d entries, none changed", report.Size)
	}
	r.Clock()
	examineDir(r, d, s)
	return r.Findings
}
