package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"coffer/audit"
	"coffer/charter"
	"coffer/hook"
	"coffer/identity"
	"coffer/internal/doctor"
	pb "coffer/proto/coffer/v1"
)

// slowPeer is a round trip that makes sessions slow: they take more than ten of them.
const slowPeer = 500 * time.Millisecond

// askedWithin is how long no coordinator may have asked before that is worth a word;
// they ask every second.
const askedWithin = time.Minute

// Doctor answers the operator what is well with this signer and what is not.
func (o *operatorService) Doctor(context.Context, *pb.DoctorRequest) (*pb.DoctorResponse, error) {
	r := new(doctor.Report)
	o.n.examine(r)
	return &pb.DoctorResponse{Findings: r.Findings}, nil
}

// examine is the doctor's look at a running signer.
func (n *Node) examine(r *doctor.Report) {
	c := n.inForce()
	r.OK("signer", "%s runs, version %s, charter version %d %s", n.self, n.cfg.Version, c.Version, c.Digest().Short())
	n.examineAuthority(r, c)
	if n.isSealed() {
		r.Fail("seal", "sealed: it can sign nothing", "coffer-signer unseal --dir "+string(n.cfg.Dir))
	} else {
		r.OK("seal", "unsealed")
	}
	n.examinePeers(r)
	switch asked := time.Unix(n.seen.asked.Load(), 0); {
	case n.seen.asked.Load() == 0:
		r.Warn("coordinator", "none has asked since the start", "is it running, and can it reach "+n.settings.ListenCoordinator+" by the address of this signer's card?")
	case time.Since(asked) > askedWithin:
		r.Warn("coordinator", fmt.Sprintf("none has asked for %s", time.Since(asked).Round(time.Second)), "is it running, and is the network between?")
	default:
		r.OK("coordinator", "asks")
	}
	want := n.settings.preParameters()
	switch count, err := n.keys.PreParamsCount(); {
	case err != nil:
		r.Fail("primes", err.Error(), "restart: every record is checked then")
	case count == 0 && !n.isBusy():
		r.Warn("primes", "no pre-parameters ready and none searched for: no wallet can be made", "unseal; the search begins by itself")
	case count < want:
		r.Warn("primes", fmt.Sprintf("%d of %d sets of pre-parameters ready, searching: a wallet must wait for the first", count, want), "wait: seconds to minutes of CPU")
	default:
		r.OK("primes", "%d of %d sets of pre-parameters ready", count, want)
	}
	healthy := true
	for what, err := range n.writeErrors() {
		if err != nil {
			healthy = false
			r.Fail(what, "takes no more writes: "+err.Error(), "make room or replace the disk, then restart: every record is checked then")
		}
	}
	if healthy {
		r.OK("writes", "audit log (%d entries), journal and key store take them", n.audit.Size())
	}
	r.Clock()
	r.Limits()
	examineDir(r, n.cfg.Dir, n.settings)
}

// examineAuthority looks at charter, freezes and heads.
func (n *Node) examineAuthority(r *doctor.Report, c *charter.Charter) {
	if n.unlisted() {
		r.Fail("charter", fmt.Sprintf("version %d does not list this signer with its identity: it signs nothing", c.Version),
			"if that is a mistake, the admins list it again; a new identity is what coffer-signer rotate prints")
		return
	}
	for _, p := range n.book.Pending() {
		switch {
		case p.Fork:
			r.Fail("charter", p.Title+": two versions of one number have the admins' signatures", "ask the admins at once; each withdraws what is not theirs")
		case p.Complete:
			r.Warn("charter", fmt.Sprintf("%s is in force here in %s", p.Title, p.Due.Round(time.Second)), "coffer charter diff says what it changes; an admin who disagrees withdraws, or freezes")
		}
	}
	for _, h := range n.book.Freezes() {
		text := fmt.Sprintf("%s is frozen by %s: %s", h.Freeze.What(), h.Freeze.By, h.Freeze.Reason)
		if !h.Effective {
			text += "; held by " + strings.Join(h.Receipts.Strings(), ", ") + " only"
		}
		r.Warn("freeze "+h.ID.Short(), text, "the admins lift it: coffer unfreeze; docs/operations.md")
	}
	switch f := n.fresh(time.Now()); {
	case f.Fresh:
		r.OK("heads", "%s say that they stand where this signer stands", strings.Join(f.Agree.Strings(), ", "))
	case len(f.Differ) > 0:
		r.Fail("heads", fmt.Sprintf("%s stand elsewhere, in charter, freezes or lists: nothing is signed until %d more agree", strings.Join(f.Differ.Strings(), ", "), f.Missing),
			"it settles in seconds when the signers reach each other; else compare coffer-signer status of each, and hand coffer-signer records of one to the other")
	default:
		r.Fail("heads", fmt.Sprintf("nothing is heard of too many others: nothing is signed until %d more are", f.Missing), "look at the peers below, and at the network")
	}
}

func (n *Node) examinePeers(r *doctor.Report) {
	st, err := n.status()
	if err != nil {
		r.Fail("peers", err.Error(), "look at the log")
		return
	}
	var away, ahead int
	for _, p := range st.Peers {
		subject := "peer " + p.Signer
		if !p.Connected {
			away++
			text := "not connected"
			if p.Since > 0 {
				text += " for " + time.Since(time.Unix(p.Since, 0)).Round(time.Second).String()
			}
			if p.Error != "" {
				text += ": " + p.Error
			}
			remedy := "ask its operator: does it run, and at the address that its record says? Has the network changed?"
			if len(st.Peers)-away < n.inForce().Quorum.Need-1 {
				r.Fail(subject, text, remedy)
			} else {
				r.Warn(subject, text, remedy)
			}
			continue
		}
		rtt, off := time.Duration(p.RoundTripUs)*time.Microsecond, time.Duration(p.ClockAheadMs)*time.Millisecond
		if off.Abs() > 3*time.Second {
			ahead++
		}
		r.Skew(subject, off)
		if rtt > slowPeer {
			r.Warn(subject, fmt.Sprintf("round trip %s", rtt.Round(time.Millisecond)), "a session takes more than ten round trips: look at the network")
		}
		if p.Version != "" && n.cfg.Version != "" && p.Version != n.cfg.Version {
			r.Warn(subject, fmt.Sprintf("runs version %s, this is %s", p.Version, n.cfg.Version), "upgrade the older one")
		}
		r.OK(subject, "connected, round trip %s", rtt.Round(10*time.Microsecond))
	}
	if ahead > 1 && ahead == len(st.Peers)-away {
		r.Fail("clock", "differs from every other signer's: it is this one that is wrong", "run chrony or systemd-timesyncd here")
	}
}

// examineDir is what can be seen in a directory, whether the signer runs or not.
func examineDir(r *doctor.Report, d Dir, s *Settings) {
	r.Files(string(d), d.Identity(), d.SealFile(), d.Store())
	r.Disk(string(d))
	r.Swap()
	if err := hook.CheckPrograms(s.Hooks); err != nil {
		r.Warn("hooks", err.Error(), "nobody is told by it")
	}
	if fails := s.watchless(); fails != "" {
		r.Warn("monitoring", fails, "docs/monitoring.md says how")
	}
}

// watchless says what an operator would not hear of.
func (s *Settings) watchless() string {
	if s.MetricsListen == "" && len(s.Hooks) == 0 {
		return "neither metrics_listen nor hooks are set: nobody hears when this signer needs somebody"
	}
	return ""
}

// Doctor is what can be said of a signer that does not run.
func Doctor(d Dir) []*pb.Finding {
	r := new(doctor.Report)
	s, err := d.LoadSettings()
	if err != nil {
		r.Fail("settings", err.Error(), "docs/configuration.md has every key")
		return r.Findings
	}
	r.Fail("signer", "it does not run", "coffer-signer run --dir "+string(d))
	key, err := identity.Load(d.Identity())
	if err != nil {
		r.Fail("identity", err.Error(), "without its identity key this signer is nobody: bring the file back")
	}
	for _, path := range []string{d.SealFile(), d.Store()} {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			r.Fail("files", path+" is missing", "the shares need it: bring it back")
		}
	}
	switch _, _, file, err := joined(d); {
	case err != nil:
		r.Fail("charter", err.Error(), "coffer-signer join FILE, or bring back what is missing")
	case len(file.Missing()) > 0:
		r.Warn("charter", "not signed yet by "+strings.Join(file.Missing().Strings(), ", "), "coffer-signer run waits for them and goes on by itself")
	default:
		r.OK("charter", "version %d %s, signed by every operator", file.Charter.Version, file.Charter.Digest().Short())
	}
	switch report, err := audit.Verify(d.Audit()); {
	case errors.Is(err, fs.ErrNotExist):
		r.OK("audit", "empty: it has never run")
	case err != nil:
		r.Fail("audit", err.Error(), "keep a copy of the folder before anything else; docs/operations.md")
	case key != nil && report.Identity != key.ID():
		r.Fail("audit", fmt.Sprintf("the log is of identity %s, this signer is %s", report.Identity, key.ID()), "is this the right directory?")
	default:
		r.OK("audit", "%d entries, none changed", report.Size)
	}
	r.Clock()
	examineDir(r, d, s)
	return r.Findings
}
