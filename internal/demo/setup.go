package demo

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"coffer/internal/freeport"
	"coffer/store"
)

var signers = []struct{ name, org string }{{"a", "exchange"}, {"b", "custodian"}, {"c", "auditor"}}

var people = []struct {
	name, org string
}{{"alice", "exchange"}, {"bob", "exchange"}, {"carol", "custodian"}, {"dave", "auditor"}}

// folder holds the whole cluster's files, each member's in a folder of its own.
type folder struct{ dir string }

func (f folder) path(parts ...string) string {
	return filepath.Join(append([]string{f.dir}, parts...)...)
}

func (f folder) signer(name string) string     { return f.path("signers", name) }
func (f folder) passphrase(name string) string { return f.path("passphrases", name, "passphrase") }
func (f folder) key(person string) string      { return f.path("people", person, "key") }
func (f folder) home(person string) string     { return f.path("people", person, "home") }

// place is where a daemon listens, and what its card says when that is not the same.
type place struct{ peers, rpc, orders, announcePeers, announceRPC, announceOrders string }

// places are those of a cluster, signers in the order of signers.
type places struct {
	signers     []place
	coordinator place
	chain       string // URL
}

// loopback has everybody on this machine, on ports that are free. What a signer announces
// to the coordinator is a relay's.
func loopback(chain string) (places, error) {
	ports, err := freeport.Take(4*len(signers) + 1)
	if err != nil {
		return places{}, err
	}
	address := func() string {
		port := ports[0]
		ports = ports[1:]
		return fmt.Sprintf("127.0.0.1:%d", port)
	}
	p := places{coordinator: place{rpc: address()}, chain: chain}
	for range signers {
		_, port, _ := strings.Cut(address(), ":")
		p.signers = append(p.signers, place{peers: "/ip4/127.0.0.1/tcp/" + port, rpc: address(), announceRPC: address(), orders: address()})
	}
	return p, nil
}

// hosts has everybody in a container of docker-compose.yml, whose services are
// each other's host names.
func hosts() places {
	p := places{coordinator: place{rpc: "0.0.0.0:7000", announceRPC: "coordinator:7000"}, chain: "http://chain:8545"}
	for _, s := range signers {
		p.signers = append(p.signers, place{
			peers: "/ip4/0.0.0.0/tcp/7001", announcePeers: "/dns4/signer-" + s.name + "/tcp/7001",
			rpc: "0.0.0.0:7002", announceRPC: "signer-" + s.name + ":7002",
			orders: "0.0.0.0:7003", announceOrders: "signer-" + s.name + ":7003",
		})
	}
	return p
}

// Setup holds the ceremony of a cluster in containers: keys, cards, charter, each in
// the folder that docker-compose.yml mounts for its member alone. It does nothing when
// that was done before.
func Setup(ctx context.Context, bin, dir string, talk io.Writer) error {
	s := newStory(talk)
	f := folder{dir}
	switch digest, err := os.ReadFile(f.path("held")); {
	case err == nil:
		s.say("the ceremony was held before; charter %s", strings.TrimSpace(string(digest)))
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	// The volumes outlive a setup that was interrupted. Keys are never replaced, not
	// even here.
	if _, err := os.Stat(f.path("begun")); err == nil {
		return fmt.Errorf("an earlier ceremony in %s was not finished: remove its volumes (docker-compose down --volumes) and start again", dir)
	}
	if err := store.WriteFile(f.path("begun"), []byte(time.Now().UTC().Format(time.RFC3339)+"\n"), 0o600); err != nil {
		return err
	}
	procs := &processes{bin: bin, dir: dir}
	digest, err := ceremony{folder: f, say: s.say, run: procs.command}.hold(ctx, hosts())
	if err != nil {
		return err
	}
	return store.WriteFile(f.path("held"), []byte(digest+"\n"), 0o600)
}

// ceremony makes a cluster by the commands that operators and people use.
type ceremony struct {
	folder
	say func(format string, args ...any)
	run func(ctx context.Context, progress func(string), program string, args ...string) (stdout string, code int, err error)
}

// hold makes keys, cards and charter and returns the charter's digest.
func (c ceremony) hold(ctx context.Context, p places) (digest string, err error) {
	cards, err := c.cards(ctx, p)
	if err != nil {
		return "", err
	}
	return c.charter(ctx, cards)
}

// cards has everybody make a key and a card.
func (c ceremony) cards(ctx context.Context, p places) ([]string, error) {
	c.say("three operators, a coordinator and four people make their own keys and cards")
	var cards []string
	add := func(program string, args ...string) error {
		out, _, err := c.run(ctx, nil, program, args...)
		cards = append(cards, strings.TrimSpace(out))
		return err
	}
	for i, sg := range signers {
		secret := make([]byte, 16)
		if _, err := rand.Read(secret); err != nil {
			return nil, err
		}
		if err := write(c.passphrase(sg.name), []byte(hex.EncodeToString(secret)+"\n")); err != nil {
			return nil, err
		}
		at := p.signers[i]
		args := []string{
			"init", "--dir", c.signer(sg.name), "--name", sg.name, "--org", sg.org, "--passphrase-file", c.passphrase(sg.name),
			"--listen-peers", at.peers, "--listen-coordinator", at.rpc, "--listen-orders", at.orders,
		}
		for _, announced := range [][2]string{{"peers", at.announcePeers}, {"coordinator", at.announceRPC}, {"orders", at.announceOrders}} {
			if announced[1] != "" {
				args = append(args, "--announce-"+announced[0], announced[1])
			}
		}
		if err := add("coffer-signer", args...); err != nil {
			return nil, err
		}
	}
	args := []string{"init", "--dir", c.path("coordinator"), "--name", "desk", "--org", "exchange", "--listen", p.coordinator.rpc, "--chain", "dev=" + p.chain}
	if p.coordinator.announceRPC != "" {
		args = append(args, "--announce", p.coordinator.announceRPC)
	}
	if err := add("coffer-coordinator", args...); err != nil {
		return nil, err
	}
	for _, person := range people {
		key, err := newSSHKey(person.name)
		if err != nil {
			return nil, err
		}
		if err := write(c.key(person.name), key); err != nil {
			return nil, err
		}
		if err := add("coffer", "enrol", "--home", c.home(person.name), "--as", person.name, "--org", person.org, "--key", c.key(person.name)); err != nil {
			return nil, err
		}
	}
	return cards, nil
}

// write makes a file for its owner alone, in a folder that is there by the end.
func write(path string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, content, 0o600)
}

// charter writes the constitution, has every operator sign it, and hands it out.
func (c ceremony) charter(ctx context.Context, cards []string) (digest string, err error) {
	c.say("the charter: who belongs, who may what; every operator signs its own copy")
	draft, err := json.MarshalIndent(draft(), "", "  ")
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(c.path("draft.json"), draft, 0o600); err != nil {
		return "", err
	}
	if err := os.WriteFile(c.path("cards.txt"), []byte(strings.Join(cards, "\n")+"\n"), 0o600); err != nil {
		return "", err
	}
	// Where the coordinator looks for it; everybody else gets the file by some other way.
	file := c.path("coordinator", "charter.json")
	out, _, err := c.run(ctx, nil, "coffer", "charter", "init", c.path("draft.json"), c.path("cards.txt"), "--out", file)
	if err != nil {
		return "", err
	}
	digest = strings.TrimSpace(out)
	for _, sg := range signers {
		if _, _, err := c.run(ctx, nil, "coffer-signer", "join", file, "--dir", c.signer(sg.name), "--digest", digest); err != nil {
			return "", err
		}
	}
	for _, person := range people {
		if _, _, err := c.run(ctx, nil, "coffer", "join", file, "--home", c.home(person.name), "--digest", digest); err != nil {
			return "", err
		}
	}
	return digest, nil
}

// draft is the demo's constitution.
func draft() map[string]any {
	return map[string]any{
		"name":          "demo",
		"organisations": []string{"exchange", "custodian", "auditor"},
		"people": map[string]any{
			"alice": map[string]any{"groups": []string{"initiators"}},
			"bob":   map[string]any{"groups": []string{"approvers", "admins"}},
			"carol": map[string]any{"groups": []string{"approvers", "admins"}},
			"dave":  map[string]any{"groups": []string{"security", "admins"}},
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
		"veto":  []string{"security"},
		"admin": map[string]any{"group": "admins", "k": 2, "orgs": 2},
	}
}

// newSSHKey makes an unencrypted OpenSSH key, as ssh-keygen -N "" would.
func newSSHKey(comment string) ([]byte, error) {
	_, secret, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(secret, comment)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(block), nil
}

func sorted[V any](m map[string]V) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
