package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"coffer/charter"
	"coffer/identity"
	"coffer/internal/doctor"
	"coffer/keystore"
	"coffer/observe"
	"coffer/party"
	pb "coffer/proto/coffer/v1"
	"coffer/rpc"
)

// remindEvery is how often a waiting signer says again what it waits for.
const remindEvery = time.Minute

// Await returns when the charter of a signer's directory carries the signatures of all
// operators; at once if it does. Until then it serves the charter's coordinators, who
// carry the signatures from signer to signer, and nobody else; it has no link to peers
// and opens neither store nor shares. Nothing that a coordinator hands over is
// believed: a signature counts when it is that operator's over the charter pinned here.
func Await(ctx context.Context, cfg Config) error {
	settings, key, file, err := joined(cfg.Dir)
	if err != nil || len(file.Missing()) == 0 {
		return err
	}
	if len(cfg.Passphrase) > 0 {
		// The others may take days: a wrong passphrase is better known while its operator is here.
		wrap, err := keystore.UnlockSeal(cfg.Dir.SealFile(), cfg.Passphrase)
		if err != nil {
			return fmt.Errorf("unseal: %w", err)
		}
		wrap.Wipe()
	}
	j := &joining{
		cfg: cfg, settings: settings, self: settings.Name, key: key, started: time.Now(), complete: make(chan struct{}), file: file,
	}
	return j.serve(ctx, settings.ListenCoordinator)
}

// joining is a signer whose charter waits for other operators.
type joining struct {
	cfg      Config
	settings *Settings
	self     party.ID
	key      *identity.Key
	started  time.Time
	complete chan struct{} // closed when every operator has signed

	mu    sync.Mutex
	file  *charter.File
	asked time.Time // when a coordinator last came
}

func (j *joining) serve(ctx context.Context, listen string) error {
	c := j.file.Charter
	lis, err := net.Listen("tcp", listen)
	if err != nil {
		return fmt.Errorf("listen for the coordinator: %w", err)
	}
	server, err := rpc.NewServer(j.key, coordinatorsOf(func() *charter.Charter { return c }), signerMethods)
	if err != nil {
		return errors.Join(err, lis.Close())
	}
	pb.RegisterSignerServer(server, &joiningSigner{j: j})
	operator, opLis, err := rpc.NewUnixServer(j.cfg.Dir.Socket(), operatorMethods)
	if err != nil {
		return errors.Join(err, lis.Close())
	}
	pb.RegisterOperatorServer(operator, &joiningOperator{j: j})
	log := j.cfg.Logger.With("signer", string(j.self))
	log.Info("the charter is signed here; its other operators are awaited", "charter", c.Digest().String(), "coordinator", lis.Addr().String(), "missing", j.missing())

	g, ctx := errgroup.WithContext(ctx)
	watched, unwatch := context.WithCancel(ctx)
	g.Go(func() error { return j.serveMetrics(watched, log) })
	g.Go(func() error { return server.Serve(lis) })
	g.Go(func() error { return operator.Serve(opLis) })
	g.Go(func() error {
		defer stopServers(server, operator)
		defer unwatch()
		tick := time.NewTicker(remindEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-j.complete:
				log.Info("every operator has signed the charter", "charter", c.Digest().String())
				return nil
			case <-tick.C:
				log.Info("still awaited", "missing", j.missing(), "coordinator_seen", j.seen())
			}
		}
	})
	return g.Wait()
}

// serveMetrics says that this signer is alive and what it waits for.
func (j *joining) serveMetrics(ctx context.Context, log *slog.Logger) error {
	if j.settings.MetricsListen == "" {
		return nil
	}
	metrics := observe.NewMetrics(Metrics, func(set observe.Set) {
		set("coffer_signer_info", 1, string(j.self), j.cfg.Version)
		set("coffer_signer_sealed", 1)
	})
	s := &observe.Server{
		Address: j.settings.MetricsListen, Metrics: metrics.Gatherer(), Logger: log,
		Alive: func(context.Context) error { return nil },
		Ready: func(context.Context) error { return errors.New(status.Convert(j.errWaits()).Message()) },
	}
	return s.Run(ctx)
}

// coordinatorsOf admits the coordinators of the charter that inForce answers.
func coordinatorsOf(inForce func() *charter.Charter) func(identity.ID) error {
	return func(id identity.ID) error {
		if _, ok := inForce().CoordinatorByPeer(id); !ok {
			return fmt.Errorf("%w: %s is no coordinator", identity.ErrUnknownPeer, id)
		}
		return nil
	}
}

func (j *joining) missing() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Join(j.file.Missing().Strings(), ", ")
}

// seen says when a coordinator last came, which tells an operator whether its own
// address is reached.
func (j *joining) seen() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.asked.IsZero() {
		return "never"
	}
	return j.asked.UTC().Format(time.RFC3339)
}

func signatures(f *charter.File) []*pb.NamedSignature {
	var out []*pb.NamedSignature
	for _, s := range f.Signatures {
		out = append(out, &pb.NamedSignature{Name: string(s.Signer), Signature: s.Signature})
	}
	return out
}

// status is what a waiting signer has and is.
func (j *joining) status(fromCoordinator bool) *pb.StatusResponse {
	j.mu.Lock()
	defer j.mu.Unlock()
	if fromCoordinator {
		j.asked = time.Now()
	}
	c := j.file.Charter
	digest := c.Digest()
	out := &pb.StatusResponse{
		Signer: string(j.self), PeerId: string(j.key.ID()), CharterDigest: digest[:], CharterVersion: c.Version, RootDigest: digest[:],
		Sealed: true, Version: j.cfg.Version, UnixTime: time.Now().Unix(), Started: j.started.Unix(),
		CharterSignatures: signatures(j.file), CharterComplete: len(j.file.Missing()) == 0,
	}
	for _, id := range c.Parties().Without(j.self) {
		out.Peers = append(out.Peers, &pb.PeerStatus{Signer: string(id)})
	}
	return out
}

// introduce takes the signatures that verify, and names the first that does not.
func (j *joining) introduce(offered []*pb.NamedSignature) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if most := len(j.file.Charter.Signers); len(offered) > most {
		return status.Errorf(codes.InvalidArgument, "charter_signatures: %d, the charter has %d signers", len(offered), most)
	}
	file, fresh := j.file.Clone(), false
	var wrong error
	for _, s := range offered {
		added, err := file.Add(charter.Signature{Signer: party.ID(s.GetName()), Signature: s.GetSignature()})
		if err != nil && wrong == nil {
			wrong = status.Error(codes.InvalidArgument, err.Error())
		}
		fresh = fresh || added
	}
	if !fresh {
		return wrong
	}
	if err := charter.WriteFile(j.cfg.Dir.Charter(), file); err != nil {
		return status.Error(codes.Internal, err.Error())
	}
	j.file = file
	j.cfg.Logger.Info("operators have signed the charter", "signer", string(j.self), "missing", strings.Join(file.Missing().Strings(), ", "))
	if len(file.Missing()) == 0 {
		close(j.complete) // once: then nothing is fresh any more
	}
	return wrong
}

// errWaits answers everything that a signer without a complete charter does not do.
func (j *joining) errWaits() error {
	return status.Errorf(codes.FailedPrecondition, "this signer waits until every operator has signed the charter: missing are those of %s", j.missing())
}

type joiningSigner struct {
	pb.UnimplementedSignerServer
	j *joining
}

func (s *joiningSigner) Status(context.Context, *pb.StatusRequest) (*pb.StatusResponse, error) {
	return s.j.status(true), nil
}

func (s *joiningSigner) Introduce(_ context.Context, req *pb.IntroduceRequest) (*pb.IntroduceResponse, error) {
	return &pb.IntroduceResponse{}, s.j.introduce(req.CharterSignatures)
}

func (s *joiningSigner) Judge(context.Context, *pb.JudgeRequest) (*pb.JudgeResponse, error) {
	return nil, s.j.errWaits()
}

func (s *joiningSigner) CreateWallet(*pb.CreateWalletRequest, pb.Signer_CreateWalletServer) error {
	return s.j.errWaits()
}

func (s *joiningSigner) AdoptWallet(context.Context, *pb.AdoptWalletRequest) (*pb.AdoptWalletResponse, error) {
	return nil, s.j.errWaits()
}

func (s *joiningSigner) Sign(*pb.SignRequest, pb.Signer_SignServer) error { return s.j.errWaits() }

func (s *joiningSigner) Recall(context.Context, *pb.RecallRequest) (*pb.RecallResponse, error) {
	return nil, s.j.errWaits()
}

type joiningOperator struct {
	pb.UnimplementedOperatorServer
	j *joining
}

func (s *joiningOperator) Status(context.Context, *pb.StatusRequest) (*pb.StatusResponse, error) {
	return s.j.status(false), nil
}

func (s *joiningOperator) Introduce(_ context.Context, req *pb.IntroduceRequest) (*pb.IntroduceResponse, error) {
	return &pb.IntroduceResponse{}, s.j.introduce(req.CharterSignatures)
}

func (s *joiningOperator) Unseal(context.Context, *pb.UnsealRequest) (*pb.UnsealResponse, error) {
	return nil, s.j.errWaits()
}

func (s *joiningOperator) Seal(context.Context, *pb.SealRequest) (*pb.SealResponse, error) {
	return nil, s.j.errWaits()
}

func (s *joiningOperator) Doctor(context.Context, *pb.DoctorRequest) (*pb.DoctorResponse, error) {
	r := new(doctor.Report)
	r.Fail("charter", "not signed yet by "+s.j.missing()+": this signer waits for them", "their operators run coffer-signer join and run; it goes on by itself")
	if seen := s.j.seen(); seen == "never" {
		r.Fail("coordinator", "none has come, and they carry the signatures", "is it running, and can it reach this signer by the address of its card?")
	} else {
		r.OK("coordinator", "came last at %s", seen)
	}
	r.Clock()
	r.Limits()
	examineDir(r, s.j.cfg.Dir, s.j.settings)
	return &pb.DoctorResponse{Findings: r.Findings}, nil
}

func (s *joiningOperator) Recall(context.Context, *pb.RecallRequest) (*pb.RecallResponse, error) {
	return nil, s.j.errWaits()
}
