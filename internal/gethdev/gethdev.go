package gethdev

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"coffer/chain/evm"
)

const (
	// ChainID is that of geth's development mode.
	ChainID = 1337
	// Env names the binary for the tests.
	Env = "COFFER_GETH"

	startTimeout = 60 * time.Second
	stopTimeout  = 15 * time.Second // then it is killed
)

// Binary is the path of the geth that tests use.
func Binary() (string, error) {
	path := os.Getenv(Env)
	if path == "" {
		return "", fmt.Errorf("%s is not set; run make test, or set it to the path that scripts/build-geth.sh prints", Env)
	}
	return path, nil
}

// Node is a running geth.
type Node struct {
	URL string // of its JSON-RPC server, on loopback

	stop   context.CancelFunc
	exited chan struct{} // closed when the process is gone and err is set
	err    error
}

// started is what geth logs once it listens. Port 0 makes it choose a free one, so that
// its log is the only place that tells which.
var started = regexp.MustCompile(`HTTP server started +endpoint=(\S+) auth=false`)

// Start runs the binary with a new chain in dir, which should be empty, and returns when
// it answers. It mines whenever a transaction waits. Its log is dir/geth.log. The
// process ends with Stop, or with ctx.
func Start(ctx context.Context, binary, dir string) (*Node, error) {
	log, err := os.Create(filepath.Join(dir, "geth.log"))
	if err != nil {
		return nil, fmt.Errorf("start geth: %w", err)
	}
	ctx, stop := context.WithCancel(ctx)
	n := &Node{stop: stop, exited: make(chan struct{})}
	cmd := exec.CommandContext(ctx, binary,
		"--dev", "--dev.period", "0", "--datadir", filepath.Join(dir, "data"),
		"--http", "--http.addr", "127.0.0.1", "--http.port", "0", "--http.api", "eth,net,web3,txpool",
		"--authrpc.port", "0", "--ipcdisable", "--log.format", "logfmt", "--verbosity", "3")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = stopTimeout
	out, in := io.Pipe()
	cmd.Stdout, cmd.Stderr = in, in
	if err := cmd.Start(); err != nil {
		stop()
		log.Close()
		return nil, fmt.Errorf("start geth: %w", err)
	}
	go func() {
		n.err = cmd.Wait()
		in.Close()
	}()

	endpoint := make(chan string, 1)
	go func() {
		defer close(n.exited)
		defer log.Close()
		lines := bufio.NewScanner(io.TeeReader(out, log))
		for lines.Scan() {
			if m := find(lines.Text()); m != "" {
				select {
				case endpoint <- m:
				default:
				}
			}
		}
		// A line too long for the scanner must not block geth on a full pipe.
		_, _ = io.Copy(log, out) // what cannot be logged is not missed
	}()

	limit := time.NewTimer(startTimeout)
	defer limit.Stop()
	select {
	case address := <-endpoint:
		n.URL = "http://" + address
		return n, nil
	case <-n.exited:
		stop()
		return nil, fmt.Errorf("start geth: it ended: %w; its log ends:\n%s", orEOF(n.err), tail(log.Name()))
	case <-limit.C:
		return nil, errors.Join(fmt.Errorf("start geth: not up after %s; its log ends:\n%s", startTimeout, tail(log.Name())), n.Stop())
	}
}

func find(line string) string {
	// With logfmt the message is quoted.
	m := started.FindStringSubmatch(strings.ReplaceAll(line, `"`, ""))
	if m == nil {
		return ""
	}
	return m[1]
}

// Stop ends the process and waits until it is gone. It may be called twice.
func (n *Node) Stop() error {
	n.stop()
	<-n.exited
	// We told it to end: an interrupt's exit status is success.
	var exit *exec.ExitError
	if n.err == nil || errors.As(n.err, &exit) || errors.Is(n.err, context.Canceled) {
		return nil
	}
	return fmt.Errorf("stop geth: %w", n.err)
}

// Fund sends wei from geth's own development account, which is rich and unlocked.
func (n *Node) Fund(ctx context.Context, to evm.Address, wei *big.Int) (hash [32]byte, err error) {
	var accounts []string
	if err := n.call(ctx, &accounts, "eth_accounts"); err != nil {
		return [32]byte{}, fmt.Errorf("fund %s: %w", to, err)
	}
	if len(accounts) == 0 {
		return [32]byte{}, fmt.Errorf("fund %s: geth has no development account", to)
	}
	var text string
	err = n.call(ctx, &text, "eth_sendTransaction", map[string]string{"from": accounts[0], "to": to.String(), "value": "0x" + wei.Text(16)})
	if err != nil {
		return [32]byte{}, fmt.Errorf("fund %s: %w", to, err)
	}
	b, err := hex.DecodeString(strings.TrimPrefix(text, "0x"))
	if err != nil || len(b) != len(hash) {
		return [32]byte{}, fmt.Errorf("fund %s: geth answers %.80q for a hash", to, text)
	}
	return [32]byte(b), nil
}

func (n *Node) call(ctx context.Context, out any, method string, params ...any) error {
	if params == nil {
		params = []any{}
	}
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, n.URL, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	defer response.Body.Close()
	var answer struct {
		Result json.RawMessage
		Error  *struct{ Message string }
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, 1<<20)).Decode(&answer); err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	if answer.Error != nil {
		return fmt.Errorf("%s: geth says %q", method, answer.Error.Message)
	}
	return json.Unmarshal(answer.Result, out)
}

func tail(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-2000):])
}

func orEOF(err error) error {
	if err == nil {
		return io.EOF
	}
	return err
}
