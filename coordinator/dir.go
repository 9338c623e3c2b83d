package coordinator

import (
	"fmt"
	"path/filepath"

	"coffer/charter"
	"coffer/hook"
	"coffer/identity"
	"coffer/internal/datadir"
	"coffer/observe"
	"coffer/party"
	"coffer/policy"
)

// Dir is a coordinator's data directory.
type Dir string

func (d Dir) path(name string) string { return filepath.Join(string(d), name) }

// Identity is the file of the Ed25519 identity key.
func (d Dir) Identity() string { return d.path("identity.key") }

// NextIdentity is the file of the identity that this coordinator will have once a version
// of the charter lists it, and PreviousIdentity of the one that it had.
func (d Dir) NextIdentity() string     { return d.path("identity.next.key") }
func (d Dir) PreviousIdentity() string { return d.path("identity.previous.key") }

// Store is the database of intents.
func (d Dir) Store() string { return d.path("coordinator.db") }

// Charter is the coordinator's copy of the charter, with the signers' addresses.
func (d Dir) Charter() string { return d.path("charter.json") }

// Audit is the folder of the audit log.
func (d Dir) Audit() string { return d.path("audit") }

// Socket is the operator's Unix socket.
func (d Dir) Socket() string { return d.path("coordinator.sock") }

// Config is the settings file.
func (d Dir) Config() string { return d.path("config.json") }

// Settings is a coordinator's configuration file, config.json. Unknown keys are refused.
type Settings struct {
	// Name of this coordinator in the charter. Required.
	Name string `json:"name"`
	// Organisation that runs it. Required.
	Organisation string `json:"organisation"`
	// Listen is host:port of the API for people and treasury software. Required.
	// It answers people and services of the charter, and anybody about the charter alone.
	Listen string `json:"listen"`
	// Announce is what the card tells others to dial; empty means Listen.
	Announce string `json:"announce,omitempty"`
	// Chains says by a chain's name in the charter where and how it is reached. A chain
	// that is missing cannot be paid on.
	Chains map[string]ChainSettings `json:"chains,omitempty"`
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
	if err := policy.CheckName(s.Name); err != nil {
		return fmt.Errorf("name: %w", err)
	}
	if err := policy.CheckName(s.Organisation); err != nil {
		return fmt.Errorf("organisation: %w", err)
	}
	if err := datadir.CheckAddress(s.Listen); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	if s.Announce != "" {
		if err := datadir.CheckAddress(s.Announce); err != nil {
			return fmt.Errorf("announce: %w", err)
		}
	}
	for name, chain := range s.Chains {
		if err := chain.Validate(); err != nil {
			return fmt.Errorf("chains.%s.%w", name, err)
		}
	}
	// What is announced goes into the card, and nobody can dial "everywhere".
	if address := s.announced(); datadir.Everywhere(address) {
		return fmt.Errorf("announce: %s is no address that people could dial: name the host", address)
	}
	return observe.CheckSettings(s.MetricsListen, s.TracesEndpoint, s.LogFormat, s.Hooks, hook.OfCoordinator)
}

func (s *Settings) announced() string {
	if s.Announce != "" {
		return s.Announce
	}
	return s.Listen
}

// LoadSettings reads and validates config.json.
func (d Dir) LoadSettings() (*Settings, error) {
	s := new(Settings)
	return s, datadir.ReadSettings(d.Config(), "coffer-coordinator", s)
}

func (d Dir) files() datadir.Files {
	return datadir.Files{Identity: d.Identity(), Store: d.Store(), Audit: d.Audit(), Settings: d.Config()}
}

// Init makes a new coordinator in an empty or absent directory and returns its card.
func Init(d Dir, s Settings) (card string, err error) {
	if err := s.Validate(); err != nil {
		return "", err
	}
	key, err := datadir.Make(d.files(), s, nil)
	if err != nil {
		return "", err
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
	return charter.NewCoordinatorCard(key, s.Name, s.Organisation, s.announced())
}

// Validate checks settings, identity and charter of a directory without touching its
// store, so that it can be run beside the coordinator. It answers whose signatures the
// charter waits for.
func Validate(d Dir) (missing party.Set, err error) {
	s, err := d.LoadSettings()
	if err != nil {
		return nil, err
	}
	key, err := identity.Load(d.Identity())
	if err != nil {
		return nil, err
	}
	file, _, err := openCharter(d, s, key)
	if err != nil {
		return nil, err
	}
	if err := hook.CheckPrograms(s.Hooks); err != nil {
		return nil, err
	}
	for name, chain := range s.Chains {
		if _, err := chain.endpoints(); err != nil {
			return nil, fmt.Errorf("settings: chains.%s.%w", name, err)
		}
	}
	return file.Missing(), nil
}
