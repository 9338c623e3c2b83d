package demo

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"coffer/chain/evm"
	"coffer/chain/rpc"
	"coffer/internal/devchain"
	"coffer/internal/gethdev"
)

// machine is the venue of Run: each member of the cluster is a process here.
type machine struct {
	*story
	folder
	cfg       Config
	temporary bool
	procs     *processes
	url       string
	relays    map[string]*relay // from the coordinator to each signer
	faucet    *devchain.Faucet
	geth      *gethdev.Node // instead of the faucet's chain
}

func (m *machine) prepareDir() error {
	if m.cfg.Dir == "" {
		dir, err := os.MkdirTemp("", "coffer-demo-")
		m.dir, m.temporary = dir, true
		return err
	}
	dir, err := filepath.Abs(m.cfg.Dir)
	if err != nil {
		return err
	}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return fmt.Errorf("--dir %s is not empty: choose another folder, nothing is overwritten", dir)
	}
	m.dir = dir
	return os.MkdirAll(dir, 0o700)
}

// end ends every process, whatever happened.
func (m *machine) end(err error) error {
	m.procs.stop()
	for _, r := range m.relays {
		err = errors.Join(err, r.cut())
	}
	if m.geth != nil {
		err = errors.Join(err, m.geth.Stop())
	}
	if m.temporary {
		return errors.Join(err, os.RemoveAll(m.dir))
	}
	if err != nil {
		err = fmt.Errorf("%w (logs are in %s)", err, m.dir)
	}
	return err
}

// setup makes the chain, the keys, the charter and the daemons, by the commands
// that operators and people use.
func (m *machine) setup(ctx context.Context) error {
	if err := m.chain(ctx); err != nil {
		return err
	}
	places, err := loopback(m.url)
	if err != nil {
		return err
	}
	m.relays = map[string]*relay{}
	for i, sg := range signers {
		r := &relay{address: places.signers[i].announceRPC, to: places.signers[i].rpc}
		if err := r.open(); err != nil {
			return err
		}
		m.relays[sg.name] = r
	}
	c := ceremony{folder: m.folder, say: m.say, run: m.procs.command}
	digest, err := c.hold(ctx, places)
	if err != nil {
		return err
	}
	return m.daemons(ctx, digest)
}

// chain starts the dev chain: our own, or geth's development mode.
func (m *machine) chain(ctx context.Context) (err error) {
	if m.cfg.Geth != "" {
		m.say("starting geth as the dev chain")
		if err := os.Mkdir(m.path("geth"), 0o700); err != nil {
			return err
		}
		if m.geth, err = gethdev.Start(ctx, m.cfg.Geth, m.path("geth")); err != nil {
			return err
		}
		m.url = m.geth.URL
		return nil
	}
	m.say("starting a dev chain")
	if m.faucet, err = devchain.NewFaucet(); err != nil {
		return err
	}
	m.url, err = m.procs.start(ctx, "devchain", "coffer-demo", "devchain", "--listen", "127.0.0.1:0")
	return err
}

func (m *machine) daemons(ctx context.Context, digest string) error {
	var launched []*process
	launch := func(name, program string, args ...string) error {
		proc, err := m.procs.launch(name, program, args...)
		launched = append(launched, proc)
		return err
	}
	for _, sg := range signers {
		if err := launch("signer-"+sg.name, "coffer-signer", "run", "--dir", m.signer(sg.name),
			"--passphrase-file", m.passphrase(sg.name)); err != nil {
			return err
		}
	}
	if err := launch("coordinator", "coffer-coordinator", "run", "--dir", m.path("coordinator")); err != nil {
		return err
	}
	// Each signer has only its own signature under the charter, and is ready when the
	// coordinator has brought it the others'.
	for _, proc := range launched {
		if _, err := proc.ready(ctx); err != nil {
			return err
		}
	}
	m.say("three signers and a coordinator run; charter %s", digest[:12])
	m.say("each signer opens its key store with its operator's passphrase, which takes seconds on purpose")
	for _, sg := range signers {
		if err := poll(ctx, unsealedWithin, func(ctx context.Context) error {
			st, err := m.status(ctx, sg.name)
			if err == nil && st.Sealed {
				err = errors.New("it is sealed")
			}
			return err
		}); err != nil {
			return fmt.Errorf("signer %s: %w", sg.name, err)
		}
	}
	return nil
}

// unsealedWithin bounds the work that stands before a passphrase, by three on a busy machine.
const unsealedWithin = time.Minute

func (m *machine) as(ctx context.Context, person string, progress func(string), args ...string) (stdout string, code int, err error) {
	args = append(args, "--home", m.home(person), "--as", person, "--key", m.key(person))
	return m.procs.command(ctx, progress, "coffer", args...)
}

// signerSays runs coffer-signer beside a running signer, as its operator does.
func (m *machine) signerSays(ctx context.Context, name string, args ...string) (stdout string, code int, err error) {
	return m.procs.command(ctx, nil, "coffer-signer", append(args, "--dir", m.signer(name))...)
}

// hold stops the signer's process where it is; its sockets stay open.
func (m *machine) hold(_ context.Context, name string) error {
	return m.procs.signal("signer-"+name, syscall.SIGSTOP)
}

func (m *machine) letGo(_ context.Context, name string) error {
	return m.procs.signal("signer-"+name, syscall.SIGCONT)
}

func (m *machine) cutOff(_ context.Context, name string) error { return m.relays[name].cut() }

func (m *machine) reconnect(_ context.Context, name string) error { return m.relays[name].open() }

// dial connects to the dev chain.
func (m *machine) dial(ctx context.Context) (*rpc.Client, error) {
	return rpc.Dial(ctx, m.url, chainID)
}

// fund pays the wallet from the dev chain's faucet, which is this process's own.
func (m *machine) fund(ctx context.Context, to string, ether int64) error {
	client, err := m.dial(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	address, err := evm.ParseAddress(to)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	wei := new(big.Int).Mul(big.NewInt(ether), big.NewInt(1e18))
	if m.geth == nil {
		_, err = m.faucet.Pay(ctx, client, address, wei)
		return err
	}
	hash, err := m.geth.Fund(ctx, address, wei)
	if err != nil {
		return err
	}
	_, err = devchain.Mined(ctx, client, hash)
	return err
}

// balance asks the chain what an address owns, in wei.
func (m *machine) balance(ctx context.Context, address string) (*big.Int, error) {
	client, err := m.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	a, err := evm.ParseAddress(address)
	if err != nil {
		return nil, err
	}
	return client.Balance(ctx, a)
}

// explain says how to go on by hand.
func (m *machine) explain() {
	if m.cfg.Talk == nil {
		return
	}
	fmt.Fprintf(m.cfg.Talk, `
The cluster stays up until Ctrl-C. In another terminal:

  export PATH=%s:$PATH COFFER_HOME=%s COFFER_AS=alice COFFER_KEY=%s
  coffer history
  coffer pay 0.25 ETH %s --from %s --ref INV-10
  coffer approve INTENT --as bob   --key %s
  coffer approve INTENT --as carol --key %s
  coffer-signer status --dir %s
  coffer-coordinator status --dir %s

The chain answers JSON-RPC at %s; logs are in %s.
`, m.cfg.Bin, m.home("alice"), m.key("alice"), supplier, walletName, m.key("bob"), m.key("carol"),
		m.signer("a"), m.path("coordinator"), m.url, m.dir)
}
