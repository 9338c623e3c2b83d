package coordinator

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"coffer/canon"
	"coffer/charter"
	"coffer/identity"
	"coffer/store"
)

// Dir is a coordinator's data directory.
type Dir string

func (d Dir) path(name string) string { return filepath.Join(string(d), name) }

// Identity is the file of the Ed25519 identity key.
func (d Dir) Identity() string { return d.path("identity.key") }

// Store is the database of intents.
func (d Dir) Store() string { return d.path("coordinator.db") }

// Charter is the coordinator's copy of the charter, with the signers' addresses.
func (d Dir) Charter() string { return d.path("charter.json") }

// Audit is the folder of the audit log.
func (d Dir) Audit() string { return d.path("audit") }

// Config is the settings file.
func (d Dir) Config() string { return d.path("config.json") }

// Settings is a coordinator's configuration file, config.json. Unknown keys are refused.
type Settings struct {
	// Name of this coordinator in the charter. Required.
	Name string `json:"name"`
	// Organisation that runs it. Required.
	Organisation string `json:"organisation"`
	// Listen is host:port of the API for people and treasury software. Required.
	// Reading needs no credential, so keep it on loopback or a private network.
	Listen string `json:"listen"`
	// Announce is what the card tells others to dial; empty means Listen.
	Announce string `json:"announce,omitempty"`
	// Chains maps a chain's name in the charter to the URL of its JSON-RPC
	// endpoint. A chain without one cannot be paid on.
	Chains map[string]string `json:"chains,omitempty"`
}

var nameForm = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)

// Validate refuses settings that could not work, naming the field.
func (s *Settings) Validate() error {
	if !nameForm.MatchString(s.Name) {
		return fmt.Errorf("name %q: use 1 to 32 of a-z, 0-9 and '-', beginning with a letter", s.Name)
	}
	if !nameForm.MatchString(s.Organisation) {
		return fmt.Errorf("organisation %q: use 1 to 32 of a-z, 0-9 and '-', beginning with a letter", s.Organisation)
	}
	if _, _, err := net.SplitHostPort(s.Listen); err != nil {
		return fmt.Errorf("listen: %q is not host:port: %w", s.Listen, err)
	}
	if s.Announce != "" {
		if _, _, err := net.SplitHostPort(s.Announce); err != nil {
			return fmt.Errorf("announce: %q is not host:port: %w", s.Announce, err)
		}
	}
	for chain, endpoint := range s.Chains {
		u, err := url.Parse(endpoint)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
			return fmt.Errorf("chains.%s: %q is not an http or https URL", chain, endpoint)
		}
	}
	return nil
}

// LoadSettings reads and validates config.json.
func (d Dir) LoadSettings() (*Settings, error) {
	raw, err := os.ReadFile(d.Config())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is not a coordinator's directory: run coffer-coordinator init --dir %s first", string(d), string(d))
	} else if err != nil {
		return nil, fmt.Errorf("read settings: %w", err)
	}
	s := new(Settings)
	dec := json.NewDecoder(strings.NewReader(string(raw)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(s); err != nil {
		return nil, fmt.Errorf("settings %s: %w", d.Config(), err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("settings %s: text after the settings", d.Config())
	}
	if err := s.Validate(); err != nil {
		return nil, fmt.Errorf("settings %s: %w", d.Config(), err)
	}
	return s, nil
}

// Init makes a new coordinator in an empty or absent directory and returns its card.
func Init(d Dir, s Settings) (card string, err error) {
	if err := s.Validate(); err != nil {
		return "", err
	}
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return "", fmt.Errorf("make directory: %w", err)
	}
	entries, err := os.ReadDir(string(d))
	if err != nil {
		return "", fmt.Errorf("read directory: %w", err)
	}
	if len(entries) > 0 {
		return "", fmt.Errorf("directory %s is not empty: choose another, nothing is ever overwritten", string(d))
	}
	if err := os.Chmod(string(d), 0o700); err != nil {
		return "", fmt.Errorf("protect directory: %w", err)
	}
	key, err := identity.Create(d.Identity())
	if err != nil {
		return "", err
	}
	db, err := store.Create(d.Store())
	if err != nil {
		return "", err
	}
	if err := db.Close(); err != nil {
		return "", fmt.Errorf("close store: %w", err)
	}
	if err := os.Mkdir(d.Audit(), 0o700); err != nil {
		return "", fmt.Errorf("make audit folder: %w", err)
	}
	raw, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return "", err
	}
	if err := store.WriteFile(d.Config(), append(raw, '\n'), 0o600); err != nil {
		return "", fmt.Errorf("write settings: %w", err)
	}
	return makeCard(key, &s)
}

// Card prints the card of an existing coordinator again.
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
	address := s.Announce
	if address == "" {
		address = s.Listen
	}
	return charter.NewCoordinatorCard(key, s.Name, s.Organisation, address)
}

// Join installs the charter that this coordinator serves. A coordinator is
// trusted with nothing, so it pins for its own sake: to fail early and clearly.
func Join(d Dir, file *charter.File, pin canon.Digest) error {
	s, err := d.LoadSettings()
	if err != nil {
		return err
	}
	key, err := identity.Load(d.Identity())
	if err != nil {
		return err
	}
	if err := file.Charter.Validate(); err != nil {
		return fmt.Errorf("charter: %w", err)
	}
	if got := file.Charter.Digest(); got != pin {
		return fmt.Errorf("charter has digest %s, you gave %s: it is not the charter that you were told of", got, pin)
	}
	if err := file.Verify(); err != nil {
		return err
	}
	me, ok := file.Charter.CoordinatorByPeer(key.ID())
	if !ok || me.Name != s.Name {
		return fmt.Errorf("charter %q does not list coordinator %q with the identity %s of this directory", file.Charter.Name, s.Name, key.ID())
	}
	return charter.WriteFile(d.Charter(), file)
}

// Endpoint is the identity and address of the coordinator of a directory, for its
// operator's own commands.
func Endpoint(d Dir) (identity.ID, string, error) {
	s, err := d.LoadSettings()
	if err != nil {
		return "", "", err
	}
	key, err := identity.Load(d.Identity())
	if err != nil {
		return "", "", err
	}
	return key.ID(), s.Listen, nil
}
