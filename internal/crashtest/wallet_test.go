//go:build e2e && crashpoint

package crashtest

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	pb "coffer/proto/coffer/v1"
)

// TestWalletMatrix ends the coordinator and a signer at every write and every send of a
// key generation: the wallet is there afterwards, under the name that was asked for.
func TestWalletMatrix(t *testing.T) {
	t.Parallel()
	c := newCluster(t, nil).fund()
	a := c.signers["a"]
	number := 0
	create := func() error {
		number++
		view, err := c.carry(c.createWallet(fmt.Sprintf("wallet-%d", number)))
		if err != nil {
			return err
		}
		if view.Stage != pb.Stage_STAGE_DONE {
			return fmt.Errorf("it ended %s %s: %s", view.Stage, view.FailureCode, view.Detail)
		}
		return nil
	}
	for _, p := range []*process{a, c.desk} {
		p.record()
	}
	c.must(create())
	seen := map[*process]map[string]int{a: a.recorded(), c.desk: c.desk.recorded()}
	for _, p := range []*process{c.desk, a} {
		matrix(t, p, seen[p], create)
	}
	t.Logf("%d wallets made", number)
	c.checkLogs()
}

// TestPausedInSession stops a signer in the midst of a session with SIGSTOP: it accepts
// connections and answers nothing. Others pay meanwhile; it wakes up, and takes part again.
func TestPausedInSession(t *testing.T) {
	c := newCluster(t, nil).fund()
	c.must(c.pay())
	a := c.signers["a"]
	for n := 1; n <= 9; n += 4 {
		a.order("stop", "link.send", n)
		start := time.Now()
		if err := c.pay(); err != nil {
			t.Fatalf("%s paused at message %d: %v", a.name, n, err)
		}
		took := time.Since(start)
		if !a.fired() {
			t.Fatalf("a was not paused: it took no part in %s", took)
		}
		if took > 10*time.Second {
			t.Errorf("paused at message %d: the payment took %s", n, took)
		}
		t.Logf("paused at message %d: paid after %s", n, took)
		a.signal(syscall.SIGCONT)
		c.eventually("a takes part again", func() error {
			c.signers["c"].kill()
			defer c.signers["c"].mustStart()
			return c.pay()
		})
	}
	c.checkChain()
	c.checkLogs()
}
