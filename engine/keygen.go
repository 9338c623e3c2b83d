package engine

import (
	"github.com/bnb-chain/tss-lib/v2/ecdsa/keygen"
	"github.com/bnb-chain/tss-lib/v2/tss"
	"google.golang.org/protobuf/proto"

	"coffer/canon"
	"coffer/keyshare"
)

// keygenSession is one party's part in a key generation.
type keygenSession struct {
	*session
	key *keyshare.WrapKey
	pre *preParams

	lib tss.Party
	out chan tss.Message
	end chan *keygen.LocalPartySaveData
}

func newKeygen(c KeygenConfig, key *keyshare.WrapKey, emit func(Event)) *keygenSession {
	k := &keygenSession{session: newSession(c.Session, c.Meta, c.Meta.Signers, KeygenKinds(), keygenChecks, emit), key: key}
	k.proto = &keygenProtocol{k, c.PreParams}
	return k
}

type keygenProtocol struct {
	*keygenSession
	sealed []byte
}

func (k *keygenProtocol) start() error {
	var err error
	if k.pre, err = openPreParams(k.key, k.sealed); err == nil {
		err = k.pre.checkPrimes()
	}
	if err != nil {
		return &Fault{Code: CodeShare, Text: err.Error()}
	}
	params, err := k.parameters()
	if err != nil {
		return err
	}
	n := len(k.parties)
	k.out, k.end = make(chan tss.Message, 4*n*n), make(chan *keygen.LocalPartySaveData, 1)
	k.lib = keygen.NewLocalParty(params, k.out, k.end, k.pre.library())
	if err := k.lib.Start(); err != nil {
		return err
	}
	return nil
}

func (k *keygenProtocol) before(round []*inbound) (bool, error) {
	k.guard.learnKeygen(round)
	return true, k.check(round)
}

func (k *keygenProtocol) party() tss.Party                 { return k.lib }
func (k *keygenProtocol) outbox() <-chan tss.Message       { return k.out }
func (k *keygenProtocol) after(string, proto.Message) bool { return true }
func (k *keygenProtocol) lastRound() int                   { return 3 }

func (k *keygenProtocol) finish() (Event, bool, error) {
	var save *keygen.LocalPartySaveData
	select {
	case save = <-k.end:
	default:
		return Event{}, false, nil
	}
	r, err := recordFromSave(k.meta, k.pre, save)
	if err != nil {
		return Event{}, false, &Fault{Code: CodeResult, Text: err.Error()}
	}
	sealed, err := r.seal(k.key)
	if err != nil {
		return Event{}, false, &Fault{Code: CodeResult, Text: "seal the share: " + err.Error()}
	}
	// What was sealed is what will be opened: try it before anybody relies on it.
	back, err := openRecord(k.key, k.meta, sealed)
	if err != nil || canon.Sum(back.public()) != canon.Sum(r.public()) {
		return Event{}, false, &Fault{Code: CodeResult, Text: "the sealed share does not open again"}
	}
	return Event{Session: k.id, Keygen: &KeygenResult{PublicKey: [33]byte(compress(r.pub)), Public: r.public(), Sealed: sealed}}, true, nil
}
