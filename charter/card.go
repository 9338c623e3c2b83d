package charter

import (
	"encoding/base64"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/multiformats/go-multiaddr"

	"coffer/canon"
	"coffer/credential"
	"coffer/identity"
	"coffer/party"
	"coffer/policy"
)

const (
	// Namespace is the SSHSIG namespace of people's and services' cards.
	Namespace = "coffer-card-v1"

	cardDomain    = "coffer/card/v1"
	addressDomain = "coffer/address/v1"
	cardPrefix    = "coffer-card-v1:"

	maxCard      = 16 << 10
	maxAddresses = 8
	maxText      = 1024
	maxAddress   = 256
	maxProof     = 8 << 10
)

// The kinds of card.
const (
	CardSigner      = "signer"
	CardCoordinator = "coordinator"
	CardPerson      = "person"
	CardService     = "service"
)

// AddressRecord says where a process is reached. The record with the highest
// sequence wins. It is signed by the identity, as part of a card or alone.
type AddressRecord struct {
	Peer     identity.ID
	Sequence uint64
	P2P      []string // multiaddrs for the other signers; none for a coordinator
	GRPC     string   // host:port
	Orders   string   // host:port of a signer's own endpoint for orders; "" for none
}

// Encode returns the canonical bytes.
func (a AddressRecord) Encode() []byte {
	return canon.New(addressDomain).String(string(a.Peer)).Uint64(a.Sequence).Strings(a.P2P).String(a.GRPC).String(a.Orders).Encoded()
}

// ParseAddressRecord reads a record that stands alone and verifies its signature.
// The caller knows whose it must be, and keeps the one with the highest sequence.
func ParseAddressRecord(raw, signature []byte) (AddressRecord, error) {
	a, err := decodeAddress(raw)
	if err == nil {
		err = a.validate()
	}
	if err != nil {
		return AddressRecord{}, fmt.Errorf("address record: %w", err)
	}
	if err := a.Peer.Verify(raw, signature); err != nil {
		return AddressRecord{}, fmt.Errorf("%w: address record of %s: %w", ErrSignature, a.Peer, err)
	}
	return a, nil
}

func decodeAddress(raw []byte) (AddressRecord, error) {
	d := canon.NewDecoder(addressDomain, raw)
	a := AddressRecord{Peer: identity.ID(d.String(maxText)), Sequence: d.Uint64(), P2P: d.Strings(maxAddresses, maxText), GRPC: d.String(maxText), Orders: d.String(maxText)}
	return a, d.Finish()
}

func (a AddressRecord) validate() error {
	if _, err := a.Peer.PublicKey(); err != nil {
		return err
	}
	if a.Sequence == 0 {
		return fmt.Errorf("address sequence is 0, the first is 1")
	}
	if len(a.P2P) > maxAddresses {
		return fmt.Errorf("%d addresses, at most %d", len(a.P2P), maxAddresses)
	}
	for _, s := range a.P2P {
		if err := checkMultiaddr(s); err != nil {
			return err
		}
	}
	if a.Orders != "" {
		if err := checkHostPort(a.Orders); err != nil {
			return fmt.Errorf("orders: %w", err)
		}
	}
	return checkHostPort(a.GRPC)
}

// checkMultiaddr accepts what a signer dials as it stands: an address and port in
// canonical spelling. A peer ID or a relay in it would lead elsewhere than the charter.
func checkMultiaddr(s string) error {
	if len(s) > maxAddress {
		return fmt.Errorf("address %q…: it has %d characters, at most %d", s[:40], len(s), maxAddress)
	}
	m, err := multiaddr.NewMultiaddr(s)
	if err != nil {
		return fmt.Errorf("address %+q is not a multiaddr such as /ip4/192.0.2.1/tcp/4001: %w", s, err)
	}
	if m.String() != s {
		return fmt.Errorf("address %+q: write it as %s", s, m)
	}
	for _, part := range m {
		if c := part.Protocol().Code; c == multiaddr.P_P2P || c == multiaddr.P_CIRCUIT {
			return fmt.Errorf("address %+q: leave out /%s; the charter says who is there", s, part.Protocol().Name)
		}
	}
	return nil
}

func checkHostPort(s string) error {
	const want = "write it as host:port, such as 192.0.2.1:7001"
	if len(s) > maxAddress {
		return fmt.Errorf("address %q…: it has %d characters, at most %d", s[:40], len(s), maxAddress)
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return fmt.Errorf("address %+q: %s: %w", s, want, err)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
		return fmt.Errorf("address %+q: port %+q is not 1 to 65535; %s", s, port, want)
	}
	if host == "" {
		return fmt.Errorf("address %+q has no host, so nobody else finds it; %s", s, want)
	}
	for _, r := range host {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune(".-:", r) {
			return fmt.Errorf("address %+q: host holds %+q; %s", s, r, want)
		}
	}
	return nil
}

// Card is what an operator, person or service gives to whoever writes the charter:
// name, organisation and key, and the proof that they hold it.
type Card struct {
	Kind    string
	Name    string
	Org     string
	Peer    identity.ID    // of signers and coordinators
	Address AddressRecord  // of signers and coordinators
	Key     credential.Key // of people and services
}

// Encode returns the canonical bytes that the key signs.
func (c Card) Encode() []byte {
	e := canon.New(cardDomain).String(c.Kind).String(c.Name).String(c.Org)
	if c.machine() {
		return e.String(string(c.Peer)).Bytes(c.Address.Encode()).Encoded()
	}
	return e.String(c.Key.Kind).String(c.Key.Public).Encoded()
}

func (c Card) machine() bool { return c.Kind == CardSigner || c.Kind == CardCoordinator }

func (c Card) validate() error {
	if err := policy.CheckName(c.Name); err != nil {
		return fmt.Errorf("%w: name: %w", ErrCard, err)
	}
	if err := policy.CheckName(c.Org); err != nil {
		return fmt.Errorf("%w: organisation: %w", ErrCard, err)
	}
	if !c.machine() {
		if err := c.Key.Validate(); err != nil {
			return fmt.Errorf("%w: %w", ErrCard, err)
		}
		return nil
	}
	if _, err := c.Peer.PublicKey(); err != nil {
		return fmt.Errorf("%w: %w", ErrCard, err)
	}
	if c.Address.Peer != c.Peer {
		return fmt.Errorf("%w: the address is of %s, the card of %s", ErrCard, c.Address.Peer, c.Peer)
	}
	if err := c.Address.validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrCard, err)
	}
	if (c.Kind == CardSigner) != (len(c.Address.P2P) > 0) {
		return fmt.Errorf("%w: a signer has addresses for the other signers, a coordinator has none", ErrCard)
	}
	if c.Kind == CardCoordinator && c.Address.Orders != "" {
		return fmt.Errorf("%w: a coordinator has no endpoint for orders; signers have", ErrCard)
	}
	return nil
}

func (c Card) line(proof []byte) string {
	wire := canon.New(cardDomain + "/signed").Bytes(c.Encode()).Bytes(proof).Encoded()
	return cardPrefix + base64.RawStdEncoding.EncodeToString(wire)
}

// NewSignerCard makes a signer's card, with its first address record.
func NewSignerCard(key *identity.Key, name party.ID, org string, at Places) (string, error) {
	return machineCard(CardSigner, key, string(name), org, at)
}

// NewCoordinatorCard makes a coordinator's card.
func NewCoordinatorCard(key *identity.Key, name, org, grpc string) (string, error) {
	return machineCard(CardCoordinator, key, name, org, Places{GRPC: grpc})
}

func machineCard(kind string, key *identity.Key, name, org string, at Places) (string, error) {
	c := Card{Kind: kind, Name: name, Org: org, Peer: key.ID(), Address: AddressRecord{Peer: key.ID(), Sequence: 1, P2P: at.P2P, GRPC: at.GRPC, Orders: at.Orders}}
	if err := c.validate(); err != nil {
		return "", err
	}
	return c.line(key.Sign(c.Encode())), nil
}

// NewPersonCard makes a person's card.
func NewPersonCard(key credential.Signer, name, org string) (string, error) {
	return keyCard(CardPerson, key, name, org)
}

// NewServiceCard makes a service's card.
func NewServiceCard(key credential.Signer, name, org string) (string, error) {
	return keyCard(CardService, key, name, org)
}

func keyCard(kind string, key credential.Signer, name, org string) (string, error) {
	c := Card{Kind: kind, Name: name, Org: org, Key: key.Key()}
	if err := c.validate(); err != nil {
		return "", err
	}
	digest := canon.Sum(c.Encode())
	proof, err := key.Sign(Namespace, digest[:])
	if err != nil {
		return "", fmt.Errorf("sign card: %w", err)
	}
	return c.line(proof), nil
}

// ParseCard reads a card and verifies that its owner holds its key. It takes exactly
// one line as it was printed, without space around it.
func ParseCard(line string) (Card, error) {
	text, ok := strings.CutPrefix(line, cardPrefix)
	if !ok || len(text) > maxCard {
		return Card{}, fmt.Errorf("%w: it is one line that begins with %s", ErrCard, cardPrefix)
	}
	wire, err := base64.RawStdEncoding.Strict().DecodeString(text)
	// Go's decoder skips line breaks inside.
	if err != nil || base64.RawStdEncoding.EncodeToString(wire) != text {
		return Card{}, fmt.Errorf("%w: it was cut or changed on the way; ask for it again", ErrCard)
	}
	outer := canon.NewDecoder(cardDomain+"/signed", wire)
	raw, proof := outer.Bytes(maxCard), outer.Bytes(maxProof)
	if err := outer.Finish(); err != nil {
		return Card{}, fmt.Errorf("%w: %w", ErrCard, err)
	}
	c, err := decodeCard(raw)
	if err != nil {
		return Card{}, fmt.Errorf("%w: %w", ErrCard, err)
	}
	if err := c.validate(); err != nil {
		return Card{}, err
	}
	if c.machine() {
		err = c.Peer.Verify(raw, proof)
	} else {
		digest := canon.Sum(raw)
		err = c.Key.Verify(Namespace, digest[:], proof)
	}
	if err != nil {
		return Card{}, fmt.Errorf("%w: %s %q does not prove its key: %w", ErrCard, c.Kind, c.Name, err)
	}
	return c, nil
}

func decodeCard(raw []byte) (Card, error) {
	d := canon.NewDecoder(cardDomain, raw)
	c := Card{Kind: d.String(32), Name: d.String(maxText), Org: d.String(maxText)}
	switch c.Kind {
	case CardSigner, CardCoordinator:
		c.Peer = identity.ID(d.String(maxText))
		var err error
		if c.Address, err = decodeAddress(d.Bytes(maxCard)); err != nil {
			d.Fail(fmt.Errorf("address: %w", err))
		}
	case CardPerson, CardService:
		c.Key = credential.Key{Kind: d.String(32), Public: d.String(4 << 10)}
	default:
		d.Fail(fmt.Errorf("kind %q is not known", c.Kind))
	}
	return c, d.Finish()
}
