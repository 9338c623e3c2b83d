package engine

import (
	"context"
	"math/big"
	"slices"

	"github.com/bnb-chain/tss-lib/v2/ecdsa/keygen"
	"google.golang.org/protobuf/proto"

	"coffer/internal/testkeys"
	"coffer/keyshare"
	"coffer/party"
)

const SieveLimit = sieveLimit

func SafePrimes(ctx context.Context, size, n, cores int, found func(int)) ([]*big.Int, error) {
	return safePrimes(ctx, size, n, cores, found)
}

func SieveWindow(size int) (start *big.Int, struck []bool, err error) {
	struck = make([]bool, sieveWindow)
	if start, err = sieveStart(size); err == nil {
		strike(start, struck)
	}
	return start, struck, err
}

func GenerateForBenchmark(ctx context.Context, cores int) error {
	pp, err := generatePreParams(ctx, cores, nil)
	if err != nil {
		return err
	}
	return pp.checkPrimes()
}

func GroupOrder() *big.Int { return groupOrder() }

func CheckPreParams(plain []byte) error {
	pp, err := parsePreParams(plain)
	if err != nil {
		return err
	}
	return pp.checkPrimes()
}

func Content(kind string) proto.Message { return contents[kind]() }

func GuardTable() []check { return append(slices.Clone(keygenChecks), signChecks...) }

func (c check) Code() string { return c.code() }

func Parse(m Message) *Fault {
	_, f := parse(m)
	return f
}

// guardRounds does what a session does with complete rounds, without the library.
func guardRounds(s *session, messages []Message) *Fault {
	for _, m := range messages {
		in, f := parse(m)
		if f != nil {
			return f
		}
		s.received[slot{m.Kind, m.From}] = in
	}
	for {
		round := s.complete()
		if round == nil {
			return nil
		}
		s.guard.learnKeygen(round)
		s.guard.learnThetas(round)
		if f := s.guard.run(s.table, round); f != nil {
			return f
		}
		s.round++
	}
}

func GuardKeygen(meta keyshare.Meta, messages []Message) *Fault {
	return guardRounds(newKeygen(KeygenConfig{Meta: meta}, nil, nil).session, messages)
}

func GuardSign(k *keyshare.WrapKey, meta keyshare.Meta, sealed []byte, parties party.Set, messages []Message) *Fault {
	s := newSign(SignConfig{Meta: meta, Signers: parties}, nil, nil)
	r, err := openRecord(k, meta, sealed)
	if err != nil {
		return &Fault{Text: err.Error()}
	}
	r.teach(s.guard)
	return guardRounds(s.session, messages)
}

func WalletModuli(k *keyshare.WrapKey, meta keyshare.Meta, sealed []byte, id party.ID) (n, tilde *big.Int) {
	r, err := openRecord(k, meta, sealed)
	if err != nil {
		return nil, nil
	}
	p := r.peers[meta.Signers.Index(id)]
	return p.n, p.tilde
}

func ThetaSum(self party.ID, thetas map[party.ID]int64) *Fault {
	g := &guard{self: self, thetas: map[party.ID]*big.Int{}}
	var round []*inbound
	for id, v := range thetas {
		g.parties = append(g.parties, id)
		g.thetas[id] = big.NewInt(v)
		if id != self {
			round = append(round, &inbound{kind: KindS3, from: id})
		}
	}
	slices.Sort(g.parties)
	for _, c := range signChecks {
		if c.ID == "G-S3-SUM" {
			return g.run([]check{c}, round)
		}
	}
	return nil
}

func KindOf(content proto.Message) string { return kindOf(content) }

func PartyKeys(meta keyshare.Meta) ([]*big.Int, error) { return partyKeys(meta, meta.Signers) }

func LibraryPreParams(set int) (keygen.LocalPreParams, error) {
	plain, err := testkeys.PreParams(set)
	if err != nil {
		return keygen.LocalPreParams{}, err
	}
	pp, err := parsePreParams(plain)
	if err != nil {
		return keygen.LocalPreParams{}, err
	}
	return pp.library(), nil
}

// LibrarySaves is the frozen wallet's save data of some signers, for plain tss-lib.
func LibrarySaves(ids party.Set) ([]keygen.LocalPartySaveData, error) {
	k, err := keyshare.NewWrapKey()
	if err != nil {
		return nil, err
	}
	wallet, err := testkeys.Shares(k)
	if err != nil {
		return nil, err
	}
	var out []keygen.LocalPartySaveData
	for _, id := range ids {
		r, err := openRecord(k, testkeys.Meta(id), wallet.Sealed[id])
		if err != nil {
			return nil, err
		}
		save, err := r.library()
		if err != nil {
			return nil, err
		}
		out = append(out, save)
	}
	return out, nil
}
