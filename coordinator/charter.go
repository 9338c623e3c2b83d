package coordinator

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"coffer/authority"
	"coffer/canon"
	"coffer/charter"
	"coffer/identity"
	"coffer/party"
	pb "coffer/proto/coffer/v1"
	"coffer/rpc"
)

// readCharter reads the charter's file of a directory, and the newest version that it
// brings. Operators' signatures may be missing: this coordinator is who collects them. It
// pins nothing, because nobody has to believe it.
func readCharter(d Dir) (*charter.File, *charter.Charter, error) {
	file, err := charter.ReadFile(d.Charter())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("this coordinator has no charter: put the charter file at %s (coffer charter init writes it there with --out)", d.Charter())
	} else if err != nil {
		return nil, nil, err
	}
	if err := file.VerifyPresent(); err != nil {
		return nil, nil, fmt.Errorf("charter %s: %w", d.Charter(), err)
	}
	if len(file.Missing()) > 0 || len(file.Records) == 0 {
		return file, file.Charter, nil
	}
	ledger, err := authority.Open(file, unixNow())
	if err != nil {
		return nil, nil, fmt.Errorf("charter %s: %w", d.Charter(), err)
	}
	return file, ledger.InForce(), nil
}

// suits checks that a version of the charter is one that this coordinator can work under.
func suits(now *charter.Charter, s *Settings, key *identity.Key) error {
	me, ok := now.CoordinatorByPeer(key.ID())
	if !ok || me.Name != s.Name {
		return fmt.Errorf("version %d of charter %q does not list coordinator %q with the identity %s of its identity.key: its card must be among those that the charter is made of; if a later version lists it, put the file of coffer charter export in the place of charter.json", now.Version, now.Name, s.Name, key.ID())
	}
	for name := range s.Chains {
		if _, ok := now.Chain(name); !ok {
			return fmt.Errorf("settings: chains.%s: the charter has no such chain", name)
		}
	}
	return nil
}

// openCharter is what can be said of the charter of a directory without its store.
func openCharter(d Dir, s *Settings, key *identity.Key) (*charter.File, *charter.Charter, error) {
	file, now, err := readCharter(d)
	if err == nil {
		err = suits(now, s, key)
	}
	return file, now, err
}

func (c *Coordinator) charterFile() *charter.File {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.file
}

// Charter answers the charter file with the signatures that are known.
func (s *service) Charter(ctx context.Context, _ *pb.CharterRequest) (*pb.CharterResponse, error) {
	if err := s.c.front.Pass(rpc.Host(ctx), time.Now()); err != nil {
		return nil, err
	}
	raw, err := s.c.charterFile().Marshal()
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &pb.CharterResponse{File: raw}, nil
}

// awaitsOperators refuses what needs a cluster while there is none yet.
func (c *Coordinator) awaitsOperators() error {
	if missing := c.charterFile().Missing(); len(missing) > 0 {
		return status.Error(codes.FailedPrecondition, (&charter.IncompleteError{Missing: missing}).Error())
	}
	return nil
}

// sameCharter says whether a signer has joined the charter that this coordinator serves.
// Which version is in force there the records will say.
func (c *Coordinator) sameCharter(st *pb.StatusResponse) error {
	got, err := canon.DigestFrom(st.RootDigest)
	if err != nil {
		return fmt.Errorf("answers without the digest of its charter's first version: %w", err)
	}
	if want := c.charterFile().Charter.Digest(); got != want {
		return fmt.Errorf("has joined charter %s, the one here is %s: compare with its operator which is meant", got.Short(), want.Short())
	}
	return nil
}

// collect takes from a signer the operators' signatures under the charter that are new
// here, and hands it those that it lacks.
func (c *Coordinator) collect(ctx context.Context, s *signer, st *pb.StatusResponse) {
	wrong, err := c.takeSignatures(st.CharterSignatures)
	if err != nil {
		c.log.Error("a signature under the charter cannot be kept", "error", err)
	}
	s.mu.Lock()
	said := s.wrong
	s.wrong = wrong
	s.mu.Unlock()
	if wrong != "" && wrong != said { // a signer is asked every second
		c.log.Warn("signer hands out a signature under the charter that does not count", "signer", s.id, "why", wrong)
	}
	if wrong == "" && c.book.Load() == nil {
		if err := c.openBook(); err != nil {
			c.log.Error("the records cannot be opened", "error", err)
		}
	}
	if st.CharterComplete {
		return
	}
	has := map[string]bool{}
	for _, sig := range st.CharterSignatures {
		has[sig.GetName()] = true
	}
	var news []*pb.NamedSignature
	for _, sig := range c.charterFile().Signatures {
		if !has[string(sig.Signer)] {
			news = append(news, &pb.NamedSignature{Name: string(sig.Signer), Signature: sig.Signature})
		}
	}
	if len(news) == 0 {
		return
	}
	ask, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	if _, err := s.api.Introduce(ask, &pb.IntroduceRequest{CharterSignatures: news}); err != nil {
		c.log.Debug("signer does not take signatures", "signer", s.id, "error", err)
	}
}

// takeSignatures adds to the charter's file the signatures that are new and verify. wrong says
// what is the matter with the first that does not.
func (c *Coordinator) takeSignatures(offered []*pb.NamedSignature) (wrong string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(offered) > len(c.file.Charter.Signers) {
		return fmt.Sprintf("%d signatures, the charter has %d signers", len(offered), len(c.file.Charter.Signers)), nil
	}
	file, fresh := c.file.Clone(), []string(nil)
	for _, s := range offered {
		id := party.ID(s.GetName())
		if _, known := file.Signature(id); known {
			continue
		}
		if _, err := file.Add(charter.Signature{Signer: id, Signature: s.GetSignature()}); err != nil {
			if wrong == "" {
				wrong = err.Error()
			}
			continue
		}
		fresh = append(fresh, s.GetName())
	}
	if len(fresh) == 0 {
		return wrong, nil
	}
	if err := charter.WriteFile(c.cfg.Dir.Charter(), file); err != nil {
		return wrong, err
	}
	c.file = file
	c.sayMissing(fresh...)
	return wrong, nil
}

// sayMissing logs how far the charter is, and whose signatures are new; c.mu is held.
func (c *Coordinator) sayMissing(fresh ...string) {
	missing := "nothing"
	if list := c.file.Missing(); len(list) > 0 {
		missing = strings.Join(list.Strings(), ", ")
	}
	c.log.Info("signatures under the charter", "new", strings.Join(fresh, ", "), "missing", missing)
}
