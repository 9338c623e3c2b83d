package charter

import (
	"encoding/base64"
	"fmt"
	"net"
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
}

// Encode returns the canonical bytes.
func (a AddressRecord) Encode() []byte {
	return canon.New(addressDomain).String(string(a.Peer)).Uint64(a.Sequence).Strings(a.P2P).String(a.GRPC).Encoded()
}

func (a AddressRecord) validate() error {
	if a.Sequence == 0 {
		return fmt.Errorf("address sequence is 0, the first is 1")
	}
	if len(a.P2P) > maxAddresses {
		return fmt.Errorf("%d addresses, at most %d", len(a.P2P), maxAddresses)
	}
	for _, m := range a.P2P {
		if _, err := multiaddr.NewMultiaddr(m); err != nil {
			return fmt.Errorf("address %q is not a multiaddr: %w", m, err)
		}
	}
	if _, _, err := net.SplitHostPort(a.GRPC); err != nil {
		return fmt.Errorf("address %q is not host:port: %w", a.GRPC, err)
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
	for field, name := range map[string]string{"name": c.Name, "org": c.Org} {
		if err := policy.CheckName(name); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrCard, field, err)
		}
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
	return nil
}

func (c Card) line(proof []byte) string {
	wire := canon.New(cardDomain + "/signed").Bytes(c.Encode()).Bytes(proof).Encoded()
	return cardPrefix + base64.RawStdEncoding.EncodeToString(wire)
}

// NewSignerCard makes a signer's card, with its first address record.
func NewSignerCard(key *identity.Key, name party.ID, org string, p2p []string, grpc string) (string, error) {
	return machineCard(CardSigner, key, string(name), org, p2p, grpc)
}

// NewCoordinatorCard makes a coordinator's card.
func NewCoordinatorCard(key *identity.Key, name, org, grpc string) (string, error) {
	return machineCard(CardCoordinator, key, name, org, nil, grpc)
}

func machineCard(kind string, key *identity.Key, name, org string, p2p []string, grpc string) (string, error) {
	c := Card{Kind: kind, Name: name, Org: org, Peer: key.ID(), Address: AddressRecord{Peer: key.ID(), Sequence: 1, P2P: p2p, GRPC: grpc}}
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

// ParseCard reads a card and verifies that its owner holds its key.
func ParseCard(line string) (Card, error) {
	text, ok := strings.CutPrefix(strings.TrimSpace(line), cardPrefix)
	if !ok || len(text) > maxCard {
		return Card{}, fmt.Errorf("%w: it is one line that begins with %s", ErrCard, cardPrefix)
	}
	wire, err := base64.RawStdEncoding.Strict().DecodeString(text)
	if err != nil {
		return Card{}, fmt.Errorf("%w: it was cut or changed on the way", ErrCard)
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
		a := canon.NewDecoder(addressDomain, d.Bytes(maxCard))
		c.Address = AddressRecord{Peer: identity.ID(a.String(maxText)), Sequence: a.Uint64(), P2P: a.Strings(maxAddresses, maxText), GRPC: a.String(maxText)}
		if err := a.Finish(); err != nil {
			d.Fail(fmt.Errorf("address: %w", err))
		}
	case CardPerson, CardService:
		c.Key = credential.Key{Kind: d.String(32), Public: d.String(4 << 10)}
	default:
		d.Fail(fmt.Errorf("kind %q is not known", c.Kind))
	}
	return c, d.Finish()
}
