package engine

import (
	"errors"
	"math/big"

	"github.com/bnb-chain/tss-lib/v2/common"
	"github.com/bnb-chain/tss-lib/v2/crypto"
	"github.com/bnb-chain/tss-lib/v2/ecdsa/signing"
	"github.com/bnb-chain/tss-lib/v2/tss"
	"google.golang.org/protobuf/proto"

	"coffer/keyshare"
	"coffer/partial"
)

// signSession is one party's part in a signature.
//
// tss-lib takes the message when a party is made, but rounds 1 to 4 do not use
// it, and it keeps the caller's *big.Int. So the party is made with a placeholder
// and the session stops with all messages of round 3 in hand: Release writes the
// digest into that integer and hands them over. Until then the own gamma is a
// commitment and R unknown to everybody (R known before message and path would be
// Groth and Shoup's presignature, eprint 2021/1330). TestHoldNeedsTheAlias fails
// when the library stops working this way.
type signSession struct {
	*session
	key *keyshare.WrapKey

	lib      tss.Party
	out      chan tss.Message
	message  *big.Int
	prepared bool
	set      bool // the digest is in message
	gammas   []*crypto.ECPoint
	si       *big.Int
}

func newSign(c SignConfig, key *keyshare.WrapKey, emit func(Event)) *signSession {
	s := &signSession{session: newSession(c.Session, c.Meta, c.Signers, SignKinds(), signChecks, emit), key: key}
	s.proto = &signProtocol{s, c.Share}
	return s
}

type signProtocol struct {
	*signSession
	sealed []byte
}

func (s *signProtocol) start() error {
	r, err := openRecord(s.key, s.meta, s.sealed)
	if err != nil {
		return &Fault{Code: CodeShare, Text: err.Error()}
	}
	r.teach(s.guard)
	params, err := s.parameters()
	if err != nil {
		return err
	}
	save, err := r.library()
	if err != nil {
		return err
	}
	n := len(s.parties)
	s.out = make(chan tss.Message, 4*n*n)
	s.message = big.NewInt(1)
	// The end channel stays unused: the library ends a session with round 9's
	// messages, which are Partials here and do not go to peers.
	s.lib = signing.NewLocalParty(s.message, params, save, s.out, make(chan *common.SignatureData, 1), 32)
	if err := s.lib.Start(); err != nil {
		return err
	}
	return nil
}

func (s *signProtocol) before(round []*inbound) (bool, error) {
	if s.round == 3 {
		if !s.prepared {
			s.guard.learnThetas(round)
			if err := s.check(round); err != nil {
				return false, err
			}
			s.prepared = true
			s.emit(Event{Session: s.id, Prepared: true})
		}
		digest := s.released()
		if digest == nil {
			return false, nil
		}
		s.message.SetBytes(digest[:])
		s.set = true
		return true, nil
	}
	if s.round > 3 && !s.set {
		return false, errors.New("a round after the third without a digest")
	}
	if err := s.check(round); err != nil {
		return false, err
	}
	if s.round == 4 {
		return true, s.learnGammas(round)
	}
	return true, nil
}

func (s *signProtocol) learnGammas(round []*inbound) error {
	for _, m := range round {
		if m.kind != KindS4 {
			continue
		}
		parts := m.content.(*signing.SignRound4Message).GetDeCommitment()
		if len(parts) != 3 {
			return errors.New("opened gamma has another number of parts")
		}
		gamma, err := crypto.NewECPoint(tss.S256(), number(parts[1]), number(parts[2]))
		if err != nil {
			return err
		}
		s.gammas = append(s.gammas, gamma)
	}
	return nil
}

func (s *signProtocol) party() tss.Party           { return s.lib }
func (s *signProtocol) outbox() <-chan tss.Message { return s.out }
func (s *signProtocol) lastRound() int             { return 8 }

func (s *signProtocol) after(_ string, content proto.Message) bool {
	if last, ok := content.(*signing.SignRound9Message); ok {
		s.si = last.UnmarshalS()
		return false
	}
	return true
}

// finish makes the Partial once the library has checked, in round 9, that all
// parties' s_i belong together. R = (sum of gammas) / (sum of thetas); both were
// opened commitments of all parties, so all compute the same.
func (s *signProtocol) finish() (Event, bool, error) {
	if s.si == nil {
		return Event{}, false, nil
	}
	if len(s.gammas) != len(s.parties) || len(s.guard.thetas) != len(s.parties) || !s.set {
		return Event{}, false, errors.New("the library finished early")
	}
	q := groupOrder()
	sum := new(big.Int)
	for _, theta := range s.guard.thetas {
		sum.Add(sum, theta)
	}
	inverse := new(big.Int).ModInverse(sum.Mod(sum, q), q)
	if inverse == nil || s.si.Sign() <= 0 || s.si.Cmp(q) >= 0 {
		return Event{}, false, &Fault{Code: CodeResult, Text: "the own part of the signature is out of range"}
	}
	gamma := s.gammas[0]
	for _, g := range s.gammas[1:] {
		var err error
		if gamma, err = gamma.Add(g); err != nil {
			return Event{}, false, &Fault{Code: CodeResult, Text: "the gammas add up to nothing"}
		}
	}
	p := &partial.Partial{Session: s.id, R: [33]byte(compress(gamma.ScalarMult(inverse)))}
	s.si.FillBytes(p.S[:])
	return Event{Session: s.id, Partial: p}, true, nil
}
