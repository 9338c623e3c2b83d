package node_test

import (
	"errors"
	"os"
	"sync"
	"testing"

	"coffer/engine"
	"coffer/internal/cluster"
	"coffer/internal/testkeys"
	"coffer/keyshare"
	"coffer/party"
)

// TestMain lets the test binary be its own worker, as coffer-signer is.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "worker" {
		os.Exit(engine.WorkerMain(os.Stdin, os.Stdout))
	}
	os.Exit(m.Run())
}

// known is the real engine, in a process of its own, with primes found before.
type known struct {
	engine.Host
	set    int
	out    chan engine.Event
	primes chan engine.Event
	done   sync.WaitGroup

	mu  sync.Mutex
	key *keyshare.WrapKey
}

func newKnown(set int) (*known, error) {
	worker, err := engine.NewWorker(engine.WorkerConfig{})
	if err != nil {
		return nil, err
	}
	k := &known{Host: worker, set: set, out: make(chan engine.Event), primes: make(chan engine.Event, 1)}
	stop := make(chan struct{})
	k.done.Go(func() {
		defer close(stop)
		for e := range k.Host.Events() {
			k.out <- e
		}
	})
	k.done.Go(func() {
		select {
		case e := <-k.primes:
			k.out <- e
		case <-stop:
		}
	})
	return k, nil
}

func (k *known) Events() <-chan engine.Event { return k.out }

func (k *known) Unlock(key *keyshare.WrapKey) error {
	raw, err := key.Export()
	if err != nil {
		return err
	}
	own, err := keyshare.ImportWrapKey(raw)
	k.mu.Lock()
	k.key = own
	k.mu.Unlock()
	return errors.Join(err, k.Host.Unlock(key))
}

func (k *known) GeneratePreParams() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	sealed, err := testkeys.SealedPreParams(k.key, k.set)
	if err != nil {
		return err
	}
	k.primes <- engine.Event{PreParams: sealed}
	return nil
}

func (k *known) Close() error {
	err := k.Host.Close()
	go func() {
		k.done.Wait()
		close(k.out)
	}()
	return err
}

// Everything real but the network and the search for primes.
func TestRealEngine(t *testing.T) {
	w := newWorld(t, cluster.Config{Host: func(id party.ID) (engine.Host, error) { return newKnown(int(id[0] - 'a')) }})
	w.mustSign(w.payment(), "a", "c")
	w.VerifyAudits()
}
