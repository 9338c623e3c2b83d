package engine

import (
	"bytes"
	"errors"
	"fmt"
	"math/big"
	"strings"

	"github.com/bnb-chain/tss-lib/v2/ecdsa/keygen"
	"github.com/bnb-chain/tss-lib/v2/ecdsa/signing"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"coffer/party"
)

// The guard stands between the wire and the library. A round's messages are
// parsed on arrival and checked together, in the order of this file's tables,
// when the round is complete; the library is given the very objects that were
// checked, not the bytes. The first check that fails ends the session and names
// whose message it was.
//
// The crashes A to G and the forged modulus proof each have a test
// named after them. Sources in the comments: GG18 is eprint 2019/114, CGGMP is
// eprint 2021/060, PR numbers are of bnb-chain/tss-lib.

// check is one row of a table. It looks at the messages of one kind from one
// party, with the context of the session, and returns what is wrong.
type check struct {
	ID   string
	Kind string
	Doc  string
	Run  func(g *guard, m *inbound) error
}

// code is the code of the fault: "GUARD_" and the ID without its G-.
func (c check) code() string { return GuardPrefix + strings.TrimPrefix(c.ID, "G-") }

// inbound is a parsed message.
type inbound struct {
	kind    string
	from    party.ID
	content proto.Message
}

// guard is the context of one session's checks.
type guard struct {
	need    int
	self    party.ID
	parties party.Set
	// public data of every party, self included: in a key generation from the
	// first round's messages, in signing from the share record
	moduli map[party.ID]*moduli
	// thetas of a signing session, by party, self included
	thetas map[party.ID]*big.Int
}

// moduli are one party's Paillier modulus and commitment parameters.
type moduli struct{ n, tilde, h1, h2 *big.Int }

// contents makes an empty message of each kind: the kind decides the type.
var contents = map[string]func() proto.Message{
	KindKG1:  func() proto.Message { return new(keygen.KGRound1Message) },
	KindKG2a: func() proto.Message { return new(keygen.KGRound2Message1) },
	KindKG2b: func() proto.Message { return new(keygen.KGRound2Message2) },
	KindKG3:  func() proto.Message { return new(keygen.KGRound3Message) },
	KindS1a:  func() proto.Message { return new(signing.SignRound1Message1) },
	KindS1b:  func() proto.Message { return new(signing.SignRound1Message2) },
	KindS2:   func() proto.Message { return new(signing.SignRound2Message) },
	KindS3:   func() proto.Message { return new(signing.SignRound3Message) },
	KindS4:   func() proto.Message { return new(signing.SignRound4Message) },
	KindS5:   func() proto.Message { return new(signing.SignRound5Message) },
	KindS6:   func() proto.Message { return new(signing.SignRound6Message) },
	KindS7:   func() proto.Message { return new(signing.SignRound7Message) },
	KindS8:   func() proto.Message { return new(signing.SignRound8Message) },
}

// The checks that come before parsing and are therefore no rows of the tables.
const (
	// checkSize: tss-lib bounds no length, and exponentiates by what it gets
	// (one 64 KiB exponent is 0.8 s of CPU). Measured on honest runs of tss-lib v2.0.2.
	checkSize = "SIZE"
	// checkForm: the payload is a message of its kind's type without unknown
	// fields, in the one encoding that we would give it, and every number in it has
	// no leading zero. What was signed and echoed is then what the library computes with.
	checkForm = "FORM"
)

// parse turns a payload into the kind's message.
func parse(m Message) (*inbound, *Fault) {
	refuse := func(id, text string) (*inbound, *Fault) {
		return nil, &Fault{Code: GuardPrefix + id, Culprits: []party.ID{m.From}, Text: m.Kind + ": " + text}
	}
	if fault := checkCap(m); fault != nil {
		return nil, fault
	}
	content := contents[m.Kind]()
	if err := proto.Unmarshal(m.Payload, content); err != nil {
		return refuse(checkForm, "not a message of this kind")
	}
	if err := checkNumbers(content.ProtoReflect()); err != nil {
		return refuse(checkForm, err.Error())
	}
	if again, err := marshal(content); err != nil || !bytes.Equal(again, m.Payload) {
		return refuse(checkForm, "not in its canonical encoding")
	}
	return &inbound{kind: m.Kind, from: m.From, content: content}, nil
}

func marshal(content proto.Message) ([]byte, error) {
	return proto.MarshalOptions{Deterministic: true}.Marshal(content)
}

// checkCap compares a payload with its kind's cap; before anything else is done with it.
func checkCap(m Message) *Fault {
	if limit := kinds[m.Kind].Cap; len(m.Payload) > limit {
		return &Fault{Code: GuardPrefix + checkSize, Culprits: []party.ID{m.From}, Text: fmt.Sprintf("%s: %d bytes, at most %d", m.Kind, len(m.Payload), limit)}
	}
	return nil
}

// checkNumbers looks at every field: all fields of all kinds are numbers in
// minimal big-endian form or lists of such.
func checkNumbers(m protoreflect.Message) error {
	if len(m.GetUnknown()) > 0 {
		return errors.New("unknown fields")
	}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if f.Kind() != protoreflect.BytesKind {
			return fmt.Errorf("field %s is not bytes", f.Name())
		}
		values := [][]byte{}
		if f.IsList() {
			for j := range m.Get(f).List().Len() {
				values = append(values, m.Get(f).List().Get(j).Bytes())
			}
		} else {
			values = append(values, m.Get(f).Bytes())
		}
		for _, v := range values {
			// An empty value is the number zero, which no honest message contains
			// and tss-lib's ValidateBasic refuses too.
			if len(v) == 0 || v[0] == 0 {
				return fmt.Errorf("field %s has an empty number or a leading zero", f.Name())
			}
		}
	}
	return nil
}

// run applies the table to the complete messages of one round, in the order of
// the table and of the parties.
func (g *guard) run(table []check, round []*inbound) *Fault {
	for _, c := range table {
		for _, m := range round {
			if m.kind != c.Kind || m.from == g.self {
				continue
			}
			if err := c.Run(g, m); err != nil {
				culprits := []party.ID{m.from}
				var b *blame
				if errors.As(err, &b) {
					culprits = b.culprits
				}
				return &Fault{Code: c.code(), Culprits: culprits, Text: m.kind + ": " + err.Error()}
			}
		}
	}
	return nil
}

// blame is for checks over several messages, where the sender of the one at hand
// is not always the one to name.
type blame struct {
	text     string
	culprits []party.ID
}

func (b *blame) Error() string { return b.text }

// number decodes a field; its form was checked by parse.
func number(b []byte) *big.Int { return new(big.Int).SetBytes(b) }

// scalar wants 0 < v < q in at most 32 bytes.
func scalar(name string, b []byte) error {
	if v := number(b); len(b) > 32 || v.Sign() <= 0 || v.Cmp(groupOrder()) >= 0 {
		return fmt.Errorf("%s is not a number between zero and the group order", name)
	}
	return nil
}

// hash wants a commitment: at most the 32 bytes of SHA-512/256.
func hash(name string, b []byte) error {
	if len(b) > 32 {
		return fmt.Errorf("%s has %d bytes, at most 32", name, len(b))
	}
	return nil
}

// point wants affine coordinates of a point of the curve.
func point(name string, x, y []byte) error {
	if len(x) > 32 || len(y) > 32 || !onCurve(number(x), number(y)) {
		return fmt.Errorf("%s is not on the curve", name)
	}
	return nil
}

// opening wants the randomness of a commitment followed by so many coordinates.
func opening(parts [][]byte, coordinates int) error {
	if len(parts) != 1+coordinates {
		return fmt.Errorf("opened commitment has %d parts, want %d", len(parts), 1+coordinates)
	}
	for _, p := range parts {
		if len(p) > 32 {
			return errors.New("opened commitment has a part of more than 32 bytes")
		}
	}
	for i := 1; i+1 < len(parts); i += 2 {
		if err := point("opened point", parts[i], parts[i+1]); err != nil {
			return err
		}
	}
	return nil
}

// unit wants 0 < v < n with gcd(v, n) = 1.
func unit(name string, b []byte, n *big.Int) error {
	if len(b) > (n.BitLen()+7)/8 || !isUnit(number(b), n) {
		return fmt.Errorf("%s is not a unit of its modulus", name)
	}
	return nil
}

// atMost wants v <= bound.
func atMost(name string, b []byte, bound *big.Int) error {
	if len(b) > (bound.BitLen()+7)/8 || number(b).Cmp(bound) > 0 {
		return fmt.Errorf("%s is too large", name)
	}
	return nil
}

func power(q *big.Int, n int64) *big.Int { return new(big.Int).Exp(q, big.NewInt(n), nil) }

// first is the first error of several checks, so that a fault's text is one line.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
