package charter

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	"coffer/canon"
	"coffer/identity"
)

const (
	addressLineDomain = "coffer/address-line/v1"
	addressPrefix     = "coffer-address-v1:"
)

// Places is where a signer says that it is reached.
type Places struct {
	P2P  []string // multiaddrs for the other signers
	GRPC string   // host:port for coordinators
	// Orders is host:port where anybody brings signed orders to stop something; "" for
	// none. It does not go by way of a coordinator, which could hide them.
	Orders string
}

// Places of a record.
func (a AddressRecord) Places() Places { return Places{P2P: a.P2P, GRPC: a.GRPC, Orders: a.Orders} }

// Equal reports whether both name the same places in the same order.
func (p Places) Equal(o Places) bool {
	return p.GRPC == o.GRPC && p.Orders == o.Orders && slices.Equal(p.P2P, o.P2P)
}

// NewAddressRecord makes and signs a signer's record that stands alone.
func NewAddressRecord(key *identity.Key, sequence uint64, at Places) (raw, signature []byte, err error) {
	a := AddressRecord{Peer: key.ID(), Sequence: sequence, P2P: at.P2P, GRPC: at.GRPC, Orders: at.Orders}
	if err := a.validate(); err != nil {
		return nil, nil, fmt.Errorf("address record: %w", err)
	}
	raw = a.Encode()
	return raw, key.Sign(raw), nil
}

// AddressLine is a signed record as one line, for a mail.
func AddressLine(raw, signature []byte) string {
	return addressPrefix + base64.RawStdEncoding.EncodeToString(canon.New(addressLineDomain).Bytes(raw).Bytes(signature).Encoded())
}

// ParseAddressLine reads such a line. It verifies no signature: ParseAddressRecord does.
func ParseAddressLine(line string) (raw, signature []byte, err error) {
	text, ok := strings.CutPrefix(line, addressPrefix)
	if !ok || len(text) > maxCard {
		return nil, nil, fmt.Errorf("an address record is one line that begins with %s; its signer's operator prints it with coffer-signer address", addressPrefix)
	}
	wire, err := base64.RawStdEncoding.Strict().DecodeString(text)
	if err == nil && base64.RawStdEncoding.EncodeToString(wire) == text {
		d := canon.NewDecoder(addressLineDomain, wire)
		raw, signature = d.Bytes(maxCard), d.Bytes(maxProof)
		if err = d.Finish(); err == nil {
			return raw, signature, nil
		}
	}
	return nil, nil, fmt.Errorf("the address record was cut or changed on the way; ask for it again")
}
