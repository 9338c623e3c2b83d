package node

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"coffer/authority"
	"coffer/canon"
	"coffer/charter"
	"coffer/hook"
	"coffer/identity"
	"coffer/internal/datadir"
	"coffer/keystore"
	"coffer/observe"
	"coffer/party"
	"coffer/policy"
	"coffer/store"
)

// Dir is a signer's data directory. Nothing in it is ever shared with another signer.
type Dir string

func (d Dir) path(name string) string { return filepath.Join(string(d), name) }

// Identity is the file of the Ed25519 identity key.
func (d Dir) Identity() string { return d.path("identity.key") }

// SealFile holds the wrap key of all shares, encrypted under the passphrase.
func (d Dir) SealFile() string { return d.path("seal.age") }

// Store is the database of shares, pre-parameters and journal.
func (d Dir) Store() string { return d.path("signer.db") }

// Audit is the folder of the audit log.
func (d Dir) Audit() string { return d.path("audit") }

// Charter is this signer's own copy of the charter.
func (d Dir) Charter() string { return d.path("charter.json") }

// Pin is the file with the digest of the charter that the operator confirmed.
func (d Dir) Pin() string { return d.path("charter.pin") }

// Config is the settings file.
func (d Dir) Config() string { return d.path("config.json") }

// Socket is the operator's Unix socket.
func (d Dir) Socket() string { return d.path("signer.sock") }

// Settings is a signer's configuration file, config.json. Unknown keys are refused.
type Settings struct {
	// Name of this signer in the charter. Required.
	Name party.ID `json:"name"`
	// Organisation that runs it. Required.
	Organisation string `json:"organisation"`
	// ListenPeers are the multiaddrs on which other signers connect,
	// such as "/ip4/10.0.0.1/tcp/7001". Required, at least one.
	ListenPeers []string `json:"listen_peers"`
	// ListenCoordinator is host:port for the coordinator's gRPC. Required.
	ListenCoordinator string `json:"listen_coordinator"`
	// AnnouncePeers and AnnounceCoordinator are what the card tells others to dial;
	// empty means the listen addresses. Needed behind address translation.
	AnnouncePeers       []string `json:"announce_peers,omitempty"`
	AnnounceCoordinator string   `json:"announce_coordinator,omitempty"`
	// ListenOrders is host:port where anybody brings signed orders to stop something, and
	// asks what stands, so that no coordinator can hide either; nothing is served if
	// empty. AnnounceOrders is what people dial; empty means ListenOrders.
	ListenOrders   string `json:"listen_orders,omitempty"`
	AnnounceOrders string `json:"announce_orders,omitempty"`
	// PreParameters is how many sets of pre-parameters to keep ready for key
	// generations; 1 if zero, at most 16. Each costs seconds to minutes of CPU.
	PreParameters int `json:"pre_parameters,omitempty"`
	// MetricsListen is host:port on loopback of /metrics, /healthz and /readyz; nothing
	// is served if empty.
	MetricsListen string `json:"metrics_listen,omitempty"`
	// TracesEndpoint is the URL of an OTLP/HTTP collector; nothing is sent if empty.
	TracesEndpoint string `json:"traces_endpoint,omitempty"`
	// LogFormat is text or json; text if empty.
	LogFormat string `json:"log_format,omitempty"`
	// Hooks are told what should not wait.
	Hooks []hook.Setting `json:"hooks,omitempty"`
}

// Validate refuses settings that could not work, naming the field.
func (s *Settings) Validate() error {
	if err := policy.CheckName(string(s.Name)); err != nil {
		return fmt.Errorf("name: %w", err)
	}
	if err := policy.CheckName(s.Organisation); err != nil {
		return fmt.Errorf("organisation: %w", err)
	}
	if len(s.ListenPeers) == 0 {
		return errors.New("listen_peers is empty: name at least one multiaddr, such as /ip4/127.0.0.1/tcp/7001")
	}
	for field, list := range map[string][]string{"listen_peers": s.ListenPeers, "announce_peers": s.AnnouncePeers} {
		for _, a := range list {
			if _, err := multiaddr.NewMultiaddr(a); err != nil {
				return fmt.Errorf("%s: %q is not a multiaddr such as /ip4/127.0.0.1/tcp/7001: %w", field, a, err)
			}
		}
	}
	for field, address := range map[string]string{
		"listen_coordinator": s.ListenCoordinator, "announce_coordinator": s.AnnounceCoordinator,
		"listen_orders": s.ListenOrders, "announce_orders": s.AnnounceOrders,
	} {
		if address == "" && field != "listen_coordinator" {
			continue
		}
		if err := datadir.CheckAddress(address); err != nil {
			return fmt.Errorf("%s: %w", field, err)
		}
	}
	if s.AnnounceOrders != "" && s.ListenOrders == "" {
		return errors.New("announce_orders: nobody is served there without listen_orders")
	}
	// What is announced goes into a card, and nobody can dial "everywhere".
	at := s.announced()
	for field, address := range map[string]string{"announce_coordinator": at.GRPC, "announce_orders": at.Orders} {
		if address != "" && datadir.Everywhere(address) {
			return fmt.Errorf("%s: %s is no address that anybody could dial: name the host", field, address)
		}
	}
	for _, a := range at.P2P {
		if m, err := multiaddr.NewMultiaddr(a); err == nil && manet.IsIPUnspecified(m) {
			return fmt.Errorf("announce_peers: %s is no address that another signer could dial: name the host", a)
		}
	}
	if s.PreParameters < 0 || s.PreParameters > 16 {
		return fmt.Errorf("pre_parameters: %d is not between 0 and 16", s.PreParameters)
	}
	return observe.CheckSettings(s.MetricsListen, s.TracesEndpoint, s.LogFormat, s.Hooks, hook.OfSigner)
}

func (s *Settings) preParameters() int {
	if s.PreParameters == 0 {
		return 1
	}
	return s.PreParameters
}

func (s *Settings) announced() charter.Places {
	at := charter.Places{P2P: s.AnnouncePeers, GRPC: cmp.Or(s.AnnounceCoordinator, s.ListenCoordinator), Orders: cmp.Or(s.AnnounceOrders, s.ListenOrders)}
	if len(at.P2P) == 0 {
		at.P2P = s.ListenPeers
	}
	return at
}

// LoadSettings reads and validates config.json.
func (d Dir) LoadSettings() (*Settings, error) {
	s := new(Settings)
	return s, datadir.ReadSettings(d.Config(), "coffer-signer", s)
}

func (d Dir) files() datadir.Files {
	return datadir.Files{Identity: d.Identity(), Store: d.Store(), Audit: d.Audit(), Settings: d.Config()}
}

// Init makes a new signer in an empty or absent directory and returns its card.
// It refuses a directory that has anything in it, so that no key is ever replaced.
func Init(d Dir, s Settings, passphrase []byte, seal keystore.SealOptions) (card string, err error) {
	if err := s.Validate(); err != nil {
		return "", err
	}
	if len(passphrase) < 8 {
		return "", errors.New("the passphrase has fewer than 8 characters: it is all that protects the shares of a stolen disk")
	}
	key, err := datadir.Make(d.files(), s, func() error {
		if err := keystore.CreateSealWith(d.SealFile(), passphrase, seal); err != nil {
			return fmt.Errorf("create seal: %w", err)
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	return makeCard(key, &s)
}

// Card prints the card of an existing signer again.
func Card(d Dir) (string, error) {
	s, err := d.LoadSettings()
	if err != nil {
		return "", err
	}
	key, err := identity.Load(d.Identity())
	if err != nil {
		return "", err
	}
	return makeCard(key, s)
}

func makeCard(key *identity.Key, s *Settings) (string, error) {
	return charter.NewSignerCard(key, s.Name, s.Organisation, s.announced())
}

// Join checks a charter file, signs version 1 as this signer if that lists it, and pins
// what the operator confirmed, once. pin is the digest that the operator heard by another
// channel: of the newest version that is in force by the file's records. What this signer
// keeps comes back; the signatures of the others under version 1 reach it through a
// coordinator (Await).
func Join(d Dir, file *charter.File, pin canon.Digest) (*charter.File, error) {
	s, err := d.LoadSettings()
	if err != nil {
		return nil, err
	}
	key, err := identity.Load(d.Identity())
	if err != nil {
		return nil, err
	}
	c, err := Newest(file)
	if err != nil {
		return nil, err
	}
	if got := c.Digest(); got != pin {
		return nil, fmt.Errorf("charter has digest %s, you gave %s: it is not the charter that you were told of; compare with the other operators by phone", got, pin)
	}
	if err := lists(c, s, key); err != nil {
		return nil, err
	}
	root := file.Charter.Digest()
	switch old, _, err := readPin(d); {
	case err == nil && old != root:
		return nil, fmt.Errorf("this signer has joined charter %s already and never changes to another by join", old)
	case err == nil:
		// A signer may be running on this directory: what it keeps is not written under it.
		if kept, err := charter.OpenPresent(d.Charter(), root); err == nil {
			return kept, nil
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	if err := file.VerifyPresent(); err != nil {
		return nil, err
	}
	file = file.Clone()
	if c.Version == 1 {
		if err := file.Sign(key); err != nil {
			return nil, err
		}
	}
	if err := charter.WriteFile(d.Charter(), file); err != nil {
		return nil, err
	}
	lines := root.String() + "\n"
	if root != pin {
		lines += pin.String() + "\n"
	}
	if err := store.WriteFile(d.Pin(), []byte(lines), 0o600); err != nil {
		return nil, fmt.Errorf("pin charter: %w", err)
	}
	return file, nil
}

// Newest is the version of the charter that is in force by the records of a file. Those
// that follow version 1 count only when that is signed by all its operators.
func Newest(file *charter.File) (*charter.Charter, error) {
	if err := file.Charter.Validate(); err != nil {
		return nil, fmt.Errorf("charter: %w", err)
	}
	if len(file.Records) == 0 {
		return file.Charter, nil
	}
	ledger, err := authority.Open(file, time.Now().Unix())
	if err != nil {
		return nil, err
	}
	return ledger.InForce(), nil
}

// lists says whether a charter lists the signer of a directory, as its settings name it.
func lists(c *charter.Charter, s *Settings, key *identity.Key) error {
	me, ok := c.Signer(s.Name)
	if !ok || me.Peer != key.ID() {
		return fmt.Errorf("charter %q does not list signer %q with the identity %s of its identity.key: send its card to whoever makes the charter", c.Name, s.Name, key.ID())
	}
	if me.Org != s.Organisation {
		return fmt.Errorf("charter says that signer %q belongs to %q, this directory says %q", s.Name, me.Org, s.Organisation)
	}
	return nil
}

// readPin is what the operator confirmed: version 1, and the later version that was in
// force then; zero for none.
func readPin(d Dir) (root, newest canon.Digest, err error) {
	raw, err := os.ReadFile(d.Pin())
	if err != nil {
		return root, newest, err
	}
	first, second, more := strings.Cut(strings.TrimSpace(string(raw)), "\n")
	if root, err = canon.ParseDigest(first); err == nil && more {
		newest, err = canon.ParseDigest(second)
	}
	if err != nil {
		return root, newest, fmt.Errorf("pin %s: %w", d.Pin(), err)
	}
	return root, newest, nil
}

// confirmed demands that the version that the operator confirmed is known: a file whose
// later versions were taken away leads back to an older one.
func confirmed(d Dir, known func(canon.Digest) (*charter.Charter, bool)) error {
	_, newest, err := readPin(d)
	if err != nil || newest.IsZero() {
		return err
	}
	if _, ok := known(newest); !ok {
		return fmt.Errorf("%s does not lead to version %s of the charter, which was confirmed when this signer joined: bring back the file that it joined with", d.Charter(), newest)
	}
	return nil
}

// joined is what a signer's directory holds after join: its settings, its key, and the
// pinned charter with the later versions that are known. Operators' signatures under
// version 1 may be missing.
func joined(d Dir) (*Settings, *identity.Key, *charter.File, error) {
	s, err := d.LoadSettings()
	if err != nil {
		return nil, nil, nil, err
	}
	key, err := identity.Load(d.Identity())
	if err != nil {
		return nil, nil, nil, err
	}
	root, _, err := readPin(d)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil, errors.New("this signer has no charter: run coffer-signer join FILE first")
	} else if err != nil {
		return nil, nil, nil, err
	}
	file, err := charter.OpenPresent(d.Charter(), root)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("open charter: %w", err)
	}
	if len(file.Records) == 0 {
		return s, key, file, lists(file.Charter, s, key)
	}
	return s, key, file, nil
}

// Validate checks settings, identity and charter of a directory without touching
// its store, so that it can be run beside the signer. It answers whose signatures the
// charter waits for.
func Validate(d Dir) (missing party.Set, err error) {
	s, _, file, err := joined(d)
	if err != nil {
		return nil, err
	}
	if err := hook.CheckPrograms(s.Hooks); err != nil {
		return nil, err
	}
	return file.Missing(), nil
}

// SocketError explains why the operator's socket did not answer.
func SocketError(d Dir, err error) error {
	if _, statErr := os.Stat(d.Socket()); errors.Is(statErr, fs.ErrNotExist) {
		// A directory that is none, or settings that let no signer start, say more.
		if _, err := d.LoadSettings(); err != nil {
			return err
		}
		return fmt.Errorf("no signer runs on %s: start it with coffer-signer run --dir %s", string(d), string(d))
	}
	return fmt.Errorf("the signer does not answer on %s: %w", d.Socket(), err)
}
