package demo

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"coffer/chain/evm"
	"coffer/chain/rpc"
	"coffer/internal/devchain"
	"coffer/internal/gethdev"
)

var signers = []struct{ name, org string }{{"a", "exchange"}, {"b", "custodian"}, {"c", "auditor"}}

var people = []struct {
	name, org string
}{{"alice", "exchange"}, {"bob", "exchange"}, {"carol", "custodian"}}

func (s *story) path(parts ...string) string {
	return filepath.Join(append([]string{s.dir}, parts...)...)
}

// setup makes the chain, the keys, the charter and the daemons, by the commands
// that operators and people use.
func (s *story) setup(ctx context.Context) error {
	for _, d := range []string{"people", "signers"} {
		if err := os.MkdirAll(s.path(d), 0o700); err != nil {
			return err
		}
	}
	if err := s.chain(ctx); err != nil {
		return err
	}
	cards, err := s.cards(ctx)
	if err != nil {
		return err
	}
	digest, err := s.charter(ctx, cards)
	if err != nil {
		return err
	}
	return s.daemons(ctx, digest)
}

// chain starts the dev chain: our own, or geth's development mode.
func (s *story) chain(ctx context.Context) (err error) {
	if s.cfg.Geth != "" {
		s.say("starting geth as the dev chain")
		if err := os.Mkdir(s.path("geth"), 0o700); err != nil {
			return err
		}
		if s.geth, err = gethdev.Start(ctx, s.cfg.Geth, s.path("geth")); err != nil {
			return err
		}
		s.url = s.geth.URL
		return nil
	}
	s.say("starting a dev chain")
	if s.faucet, err = devchain.NewFaucet(); err != nil {
		return err
	}
	s.url, err = s.procs.start(ctx, "devchain", "coffer-demo", "devchain", "--listen", "127.0.0.1:0")
	return err
}

// cards has everybody make a key and a card.
func (s *story) cards(ctx context.Context) ([]string, error) {
	s.say("three operators, a treasury and three people make their own keys and cards")
	ports, err := freePorts(2*len(signers) + 1)
	if err != nil {
		return nil, err
	}
	var cards []string
	add := func(program string, args ...string) error {
		out, _, err := s.procs.command(ctx, nil, program, args...)
		cards = append(cards, strings.TrimSpace(out))
		return err
	}
	for i, sg := range signers {
		passphrase := s.path("signers", sg.name+".passphrase")
		secret := make([]byte, 16)
		if _, err := rand.Read(secret); err != nil {
			return nil, err
		}
		if err := os.WriteFile(passphrase, []byte(hex.EncodeToString(secret)+"\n"), 0o600); err != nil {
			return nil, err
		}
		err := add("coffer-signer", "init", "--dir", s.path("signers", sg.name), "--name", sg.name, "--org", sg.org,
			"--listen-peers", fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", ports[2*i]), "--listen-coordinator", fmt.Sprintf("127.0.0.1:%d", ports[2*i+1]),
			"--passphrase-file", passphrase)
		if err != nil {
			return nil, err
		}
	}
	err = add("coffer-coordinator", "init", "--dir", s.path("coordinator"), "--name", "desk", "--org", "exchange",
		"--listen", fmt.Sprintf("127.0.0.1:%d", ports[2*len(signers)]), "--chain", "dev="+s.url)
	if err != nil {
		return nil, err
	}
	for _, p := range people {
		if err := newSSHKey(s.path("people", p.name), p.name); err != nil {
			return nil, err
		}
		if err := add("coffer", "enrol", "--home", s.path("home"), "--as", p.name, "--org", p.org, "--key", s.path("people", p.name)); err != nil {
			return nil, err
		}
	}
	return cards, nil
}

// charter writes the constitution, has every operator sign it, and hands it out.
func (s *story) charter(ctx context.Context, cards []string) (digest string, err error) {
	s.say("the charter: who belongs, who may what; every operator signs it")
	draft, err := json.MarshalIndent(draft(), "", "  ")
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(s.path("draft.json"), draft, 0o600); err != nil {
		return "", err
	}
	if err := os.WriteFile(s.path("cards.txt"), []byte(strings.Join(cards, "\n")+"\n"), 0o600); err != nil {
		return "", err
	}
	file := s.path("charter.json")
	out, _, err := s.procs.command(ctx, nil, "coffer", "charter", "init", s.path("draft.json"), s.path("cards.txt"), "--out", file)
	if err != nil {
		return "", err
	}
	digest = strings.TrimSpace(out)
	// Twice: the first round collects the signatures, the second gives everybody all of them.
	for range 2 {
		for _, sg := range signers {
			if _, _, err := s.procs.command(ctx, nil, "coffer-signer", "join", file, "--dir", s.path("signers", sg.name), "--digest", digest); err != nil {
				return "", err
			}
		}
	}
	if _, _, err := s.procs.command(ctx, nil, "coffer-coordinator", "join", file, "--dir", s.path("coordinator"), "--digest", digest); err != nil {
		return "", err
	}
	_, _, err = s.procs.command(ctx, nil, "coffer", "join", file, "--home", s.path("home"), "--digest", digest)
	return digest, err
}

func (s *story) daemons(ctx context.Context, digest string) error {
	for _, sg := range signers {
		if _, err := s.procs.start(ctx, "signer-"+sg.name, "coffer-signer", "run", "--dir", s.path("signers", sg.name),
			"--passphrase-file", s.path("signers", sg.name+".passphrase")); err != nil {
			return err
		}
	}
	if _, err := s.procs.start(ctx, "coordinator", "coffer-coordinator", "run", "--dir", s.path("coordinator")); err != nil {
		return err
	}
	s.say("three signers and a coordinator run; charter %s", digest[:12])
	return nil
}

// draft is the demo's constitution.
func draft() map[string]any {
	return map[string]any{
		"name":          "demo",
		"organisations": []string{"exchange", "custodian", "auditor"},
		"people": map[string]any{
			"alice": map[string]any{"groups": []string{"initiators"}},
			"bob":   map[string]any{"groups": []string{"approvers"}},
			"carol": map[string]any{"groups": []string{"approvers"}},
		},
		"chains":       []any{map[string]any{"name": "dev", "kind": "evm", "chain_id": chainID}},
		"assets":       []any{map[string]any{"symbol": "ETH", "chain": "dev", "decimals": 18}},
		"destinations": []any{map[string]any{"name": "suppliers", "entries": []any{map[string]any{"chain": "dev", "address": supplier, "label": "a supplier of coffee"}}}},
		"quorum":       map[string]any{"need": 2, "of": 3},
		"rules": []any{
			map[string]any{
				"name": "payments", "when": `intent.kind == "transfer" && intent.wallet == "treasury"`,
				"max_amount": []string{limitAmount + " ETH"}, "fee_cap": "0.01 ETH", "destinations": []string{"suppliers"},
				"approvals": []any{map[string]any{"group": "approvers", "k": 2, "orgs": 2}},
			},
			map[string]any{
				"name": "wallets", "when": `intent.kind == "create_wallet"`,
				"approvals": []any{map[string]any{"group": "approvers", "k": 2, "orgs": 2}},
			},
		},
		"admin": map[string]any{"group": "approvers", "k": 2, "orgs": 2},
	}
}

// newSSHKey writes an unencrypted OpenSSH key, as ssh-keygen -N "" would.
func newSSHKey(path, comment string) error {
	_, secret, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	block, err := ssh.MarshalPrivateKey(secret, comment)
	if err != nil {
		return err
	}
	return os.WriteFile(path, pem.EncodeToMemory(block), 0o600)
}

// dial connects to the dev chain.
func (s *story) dial(ctx context.Context) (*rpc.Client, error) { return rpc.Dial(ctx, s.url, chainID) }

// fund pays the wallet from the dev chain's faucet, which is this process's own.
func (s *story) fund(ctx context.Context, to string, ether int64) error {
	client, err := s.dial(ctx)
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
	if s.geth == nil {
		_, err = s.faucet.Pay(ctx, client, address, wei)
		return err
	}
	hash, err := s.geth.Fund(ctx, address, wei)
	if err != nil {
		return err
	}
	_, err = devchain.Mined(ctx, client, hash)
	return err
}

// balance asks the chain what an address owns, in wei.
func (s *story) balance(ctx context.Context, address string) (*big.Int, error) {
	client, err := s.dial(ctx)
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

func sorted[V any](m map[string]V) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
