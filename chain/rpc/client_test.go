package rpc_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"coffer/chain/evm"
	"coffer/chain/rpc"
	"coffer/internal/devchain"
	"coffer/internal/devchain/token"
	"coffer/partial"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
	"github.com/ethereum/go-ethereum/crypto"
)

var ether = big.NewInt(1e18)

// wallet is an account whose key the test holds.
type wallet struct {
	key     *secp256k1.PrivateKey
	address evm.Address
}

func newWallet(t *testing.T) wallet {
	t.Helper()
	key, err := secp256k1.GeneratePrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	address, err := evm.AddressOf([33]byte(key.PubKey().SerializeCompressed()))
	if err != nil {
		t.Fatal(err)
	}
	return wallet{key, address}
}

func (w wallet) sign(t *testing.T, u *evm.Unsigned) []byte {
	t.Helper()
	digest := u.Digest()
	compact := ecdsa.SignCompact(w.key, digest[:], true)
	raw, _, err := u.Assemble(partial.Signature{R: [32]byte(compact[1:33]), S: [32]byte(compact[33:]), V: compact[0] - 31})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// chain starts a dev chain on which w has 10 ether.
func chain(t *testing.T, w wallet) (ctx context.Context, url string, client *rpc.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	ready, done := make(chan string, 1), make(chan error, 1)
	go func() {
		done <- devchain.Run(ctx, devchain.Config{
			Alloc: map[evm.Address]*big.Int{w.address: new(big.Int).Mul(ether, big.NewInt(10))},
			Ready: func(url string) { ready <- url },
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("dev chain ended with %v", err)
		}
	})
	select {
	case url = <-ready:
	case err := <-done:
		done <- nil
		t.Fatalf("dev chain did not start: %v", err)
	}
	client, err := rpc.Dial(ctx, url, devchain.ChainID)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return ctx, url, client
}

// transfer is a payment of 1 ether at the fees of now.
func transfer(t *testing.T, ctx context.Context, client *rpc.Client, nonce uint64) *evm.Unsigned {
	t.Helper()
	fees, err := client.Fees(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return &evm.Unsigned{ChainID: client.ChainID(), Nonce: nonce, TipCap: fees.TipCap, FeeCap: fees.FeeCap, Gas: evm.PlainGas,
		To: evm.Address{19: 0xaa}, Value: new(big.Int).Set(ether)}
}

// broadcast repeats while the node cannot say yet which transaction used the nonce.
func broadcast(ctx context.Context, client *rpc.Client, raw []byte) ([32]byte, error) {
	for {
		hash, err := client.Broadcast(ctx, raw)
		if !errors.Is(err, rpc.ErrUnreachable) || ctx.Err() != nil {
			return hash, err
		}
	}
}

func TestPayment(t *testing.T) {
	w := newWallet(t)
	ctx, _, client := chain(t, w)
	if n, err := client.Nonce(ctx, w.address); n != 0 || err != nil {
		t.Fatalf("nonce %d, %v", n, err)
	}
	before, err := client.Balance(ctx, w.address)
	if err != nil {
		t.Fatal(err)
	}
	u := transfer(t, ctx, client, 0)
	gas, err := client.EstimateGas(ctx, w.address, u.To, u.Value, u.Data)
	if err != nil || gas != evm.PlainGas {
		t.Fatalf("gas %d, %v", gas, err)
	}
	raw := w.sign(t, u)
	if _, err := client.Receipt(ctx, crypto.Keccak256Hash(raw)); !errors.Is(err, rpc.ErrNotFound) {
		t.Fatalf("receipt before the broadcast: %v", err)
	}
	hash, err := client.Broadcast(ctx, raw)
	if err != nil {
		t.Fatal(err)
	}
	if hash != crypto.Keccak256Hash(raw) {
		t.Fatalf("hash %x", hash)
	}
	receipt, err := devchain.Mined(ctx, client, hash)
	if err != nil {
		t.Fatal(err)
	}
	if !receipt.Succeeded || receipt.Hash != hash || receipt.Block == 0 || receipt.GasUsed != evm.PlainGas || receipt.Fee.Cmp(u.MaxFee()) > 0 {
		t.Fatalf("receipt %+v", receipt)
	}
	if block, err := client.Block(ctx); err != nil || block < receipt.Block {
		t.Fatalf("newest block %d, %v", block, err)
	}
	if got, err := client.Balance(ctx, u.To); err != nil || got.Cmp(ether) != 0 {
		t.Fatalf("payee has %s, %v", got, err)
	}
	left, err := client.Balance(ctx, w.address)
	want := new(big.Int).Sub(new(big.Int).Sub(before, ether), receipt.Fee)
	if err != nil || left.Cmp(want) != 0 {
		t.Fatalf("account has %s, want %s, %v", left, want, err)
	}
	if n, err := client.Nonce(ctx, w.address); n != 1 || err != nil {
		t.Fatalf("nonce %d, %v", n, err)
	}
	// Again: it is mined already, which is what the caller wanted.
	if again, err := broadcast(ctx, client, raw); err != nil || again != hash {
		t.Fatalf("broadcast of a mined transaction: %x, %v", again, err)
	}
	// Another transaction with the same nonce is not.
	u.Value.SetInt64(1)
	if _, err := broadcast(ctx, client, w.sign(t, u)); !errors.Is(err, rpc.ErrNonceTooLow) {
		t.Fatalf("second transaction of a nonce: %v", err)
	}
}

func TestBroadcastRefusals(t *testing.T) {
	w := newWallet(t)
	ctx, _, client := chain(t, w)

	// A transaction that waits for an earlier nonce stays in the pool, so that repeating it is seen.
	waiting := transfer(t, ctx, client, 1)
	for range 2 {
		if _, err := client.Broadcast(ctx, w.sign(t, waiting)); err != nil {
			t.Fatalf("broadcast of a waiting transaction: %v", err)
		}
	}
	waiting.Value.SetInt64(5)
	if _, err := client.Broadcast(ctx, w.sign(t, waiting)); !errors.Is(err, rpc.ErrUnderpriced) {
		t.Errorf("replacement without more fee: %v", err)
	}
	rich := transfer(t, ctx, client, 0)
	rich.Value.Mul(ether, big.NewInt(11))
	if _, err := client.Broadcast(ctx, w.sign(t, rich)); !errors.Is(err, rpc.ErrInsufficientFunds) {
		t.Errorf("more than the balance: %v", err)
	}
	if _, err := client.EstimateGas(ctx, w.address, rich.To, rich.Value, nil); !errors.Is(err, rpc.ErrInsufficientFunds) {
		t.Errorf("estimate of more than the balance: %v", err)
	}
	foreign := transfer(t, ctx, client, 0)
	foreign.ChainID = 1
	if _, err := client.Broadcast(ctx, w.sign(t, foreign)); !errors.Is(err, rpc.ErrRejected) {
		t.Errorf("another chain's transaction: %v", err)
	}
	if _, err := client.Broadcast(ctx, foreign.Encode()); !errors.Is(err, evm.ErrEncoding) {
		t.Errorf("unsigned transaction: %v", err)
	}
}

func TestToken(t *testing.T) {
	w := newWallet(t)
	ctx, url, client := chain(t, w)
	contract, err := token.Deploy(ctx, url, w.key.ToECDSA(), "Test Dollar", "TUSD", 6, big.NewInt(1000))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := client.TokenBalance(ctx, contract, w.address); err != nil || got.Int64() != 1000 {
		t.Fatalf("balance %s, %v", got, err)
	}
	if _, err := client.TokenBalance(ctx, evm.Address{1}, w.address); !errors.Is(err, rpc.ErrNoContract) {
		t.Errorf("token at an empty address: %v", err)
	}
	parsed, err := token.ABI()
	if err != nil {
		t.Fatal(err)
	}
	call := func(amount int64) []byte {
		data, err := parsed.Pack("transfer", evm.Address{9}, big.NewInt(amount))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	gas, err := client.EstimateGas(ctx, w.address, contract, nil, call(1000))
	if err != nil || gas <= evm.PlainGas || gas > evm.MaxTokenGas {
		t.Errorf("gas %d, %v", gas, err)
	}
	if _, err := client.EstimateGas(ctx, w.address, contract, nil, call(1001)); !errors.Is(err, rpc.ErrReverted) {
		t.Errorf("more tokens than there are: %v", err)
	}

	// Mined and without effect: the receipt says so.
	u := transfer(t, ctx, client, 1)
	u.To, u.Value, u.Data, u.Gas = contract, nil, call(1001), 100_000
	hash, err := client.Broadcast(ctx, w.sign(t, u))
	if err != nil {
		t.Fatal(err)
	}
	receipt, err := devchain.Mined(ctx, client, hash)
	if err != nil || receipt.Succeeded || receipt.Fee.Sign() == 0 {
		t.Fatalf("receipt %+v, %v", receipt, err)
	}
}

func TestDialRefuses(t *testing.T) {
	_, url, _ := chain(t, newWallet(t))
	if _, err := rpc.Dial(t.Context(), url, 1); !errors.Is(err, rpc.ErrChainID) || !strings.Contains(err.Error(), "1337, want 1") {
		t.Errorf("another chain id: %v", err)
	}
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>hello</html>") }))
	defer page.Close()
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	for _, c := range []struct {
		url  string
		want error
	}{
		{"", rpc.ErrURL}, {"127.0.0.1:8545", rpc.ErrURL}, {"ws://127.0.0.1:8545", rpc.ErrURL}, {"file:///etc", rpc.ErrURL}, {"http://", rpc.ErrURL}, {"http://%zz/", rpc.ErrURL},
		{closed.URL, rpc.ErrUnreachable}, {page.URL, rpc.ErrUnreachable},
	} {
		if _, err := rpc.Dial(t.Context(), c.url, 1337); !errors.Is(err, c.want) {
			t.Errorf("%q: %v, want %v", c.url, err, c.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := rpc.Dial(ctx, url, 1337); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// node is a made-up JSON-RPC server: what it answers by method, as raw members of the answer.
func node(t *testing.T, answers map[string]string) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var request struct {
			ID     json.RawMessage
			Method string
		}
		if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		answer, ok := answers[request.Method]
		if !ok {
			answer = `"result":"0x539"`
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,%s}`, request.ID, answer)
	}))
	t.Cleanup(server.Close)
	return server
}

func TestWordingsOfOtherNodes(t *testing.T) {
	w := newWallet(t)
	raw := w.sign(t, &evm.Unsigned{ChainID: 1337, Gas: evm.PlainGas})
	for _, c := range []struct {
		message string
		want    error // nil: counts as success
	}{
		{"already known", nil},     // Geth, Erigon
		{"AlreadyKnown", nil},      // Nethermind
		{"Known transaction", nil}, // Besu
		{"Transaction with the same hash was already imported.", nil},
		{"nonce too low: next nonce 5, tx nonce 1", rpc.ErrNonceTooLow},
		{"OldNonce", rpc.ErrNonceTooLow},
		{"Nonce too low", rpc.ErrNonceTooLow},
		{"nonce too high: address 0x00, tx: 9 state: 1", rpc.ErrNonceTooHigh},
		{"insufficient funds for gas * price + value: balance 0, tx cost 21000", rpc.ErrInsufficientFunds},
		{"Upfront cost exceeds account balance", rpc.ErrInsufficientFunds},
		{"replacement transaction underpriced", rpc.ErrUnderpriced},
		{"max fee per gas less than block base fee: address 0x00, maxFeePerGas: 1", rpc.ErrUnderpriced},
		{"FeeTooLow, MaxFeePerGas too low", rpc.ErrUnderpriced},
		{"execution reverted", rpc.ErrReverted},
		{"something new", rpc.ErrRejected},
		{strings.Repeat("very long ", 10_000), rpc.ErrRejected},
	} {
		text, err := json.Marshal(c.message)
		if err != nil {
			t.Fatal(err)
		}
		server := node(t, map[string]string{
			"eth_sendRawTransaction":    fmt.Sprintf(`"error":{"code":-32000,"message":%s}`, text),
			"eth_getTransactionReceipt": `"result":null`,
		})
		client, err := rpc.Dial(t.Context(), server.URL, 1337)
		if err != nil {
			t.Fatal(err)
		}
		_, err = client.Broadcast(t.Context(), raw)
		if !errors.Is(err, c.want) || (err != nil && len(err.Error()) > 500) {
			t.Errorf("%.40q: got %v, want %v", c.message, err, c.want)
		}
		client.Close()
	}
}

// A nonce that is used proves nothing about our transaction while the node still indexes.
func TestBroadcastWhileIndexing(t *testing.T) {
	raw := newWallet(t).sign(t, &evm.Unsigned{ChainID: 1337, Gas: evm.PlainGas})
	for answer, want := range map[string]error{
		`"error":{"code":-32000,"message":"transaction indexing is in progress"}`: rpc.ErrUnreachable,
		`"error":{"code":-32603,"message":"internal error"}`:                      rpc.ErrUnreachable,
		`"result":null`: rpc.ErrNonceTooLow,
	} {
		client, err := rpc.Dial(t.Context(), node(t, map[string]string{
			"eth_sendRawTransaction":    `"error":{"code":-32000,"message":"nonce too low"}`,
			"eth_getTransactionReceipt": answer,
		}).URL, 1337)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = client.Broadcast(t.Context(), raw); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", answer, err, want)
		}
		client.Close()
	}
}

func TestRevertReason(t *testing.T) {
	// Error("no funds") as Solidity encodes it.
	data := "0x08c379a0" + fmt.Sprintf("%064x", 32) + fmt.Sprintf("%064x", 8) + fmt.Sprintf("%x", "no funds") + strings.Repeat("0", 48)
	for answer, says := range map[string]string{
		`"error":{"code":3,"message":"execution reverted: no funds","data":"` + data + `"}`: `"no funds"`,
		`"error":{"code":3,"message":"execution reverted","data":"0xf4d678b8"}`:             "0xf4d678b8",
		`"error":{"code":3,"message":"execution reverted","data":"nonsense"}`:               "execution reverted",
		`"error":{"code":3,"message":"execution reverted","data":{"an":"object"}}`:          "execution reverted",
		`"error":{"code":-32000,"message":"execution reverted"}`:                            "execution reverted",
	} {
		client, err := rpc.Dial(t.Context(), node(t, map[string]string{"eth_estimateGas": answer}).URL, 1337)
		if err != nil {
			t.Fatal(err)
		}
		_, err = client.EstimateGas(t.Context(), evm.Address{}, evm.Address{}, nil, nil)
		if !errors.Is(err, rpc.ErrReverted) || !strings.Contains(err.Error(), says) {
			t.Errorf("got %v, want %v that says %q", err, rpc.ErrReverted, says)
		}
		client.Close()
	}
}

// What a lying or broken node answers is refused, in bounded memory, without a panic.
func TestHostileAnswers(t *testing.T) {
	w := newWallet(t)
	raw := w.sign(t, &evm.Unsigned{ChainID: 1337, Gas: evm.PlainGas})
	hash := crypto.Keccak256Hash(raw)
	receipt := func(change map[string]any) string {
		r := map[string]any{"transactionHash": hash, "blockNumber": "0x1", "blockHash": hash, "status": "0x1", "gasUsed": "0x5208", "cumulativeGasUsed": "0x5208",
			"effectiveGasPrice": "0x1", "logs": []any{}, "logsBloom": "0x" + strings.Repeat("0", 512), "type": "0x2"}
		for k, v := range change {
			r[k] = v
		}
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		return `"result":` + string(text)
	}
	block := func(baseFee string) string {
		zero := "0x" + strings.Repeat("0", 64)
		return fmt.Sprintf(`"result":{"parentHash":%[1]q,"sha3Uncles":%[1]q,"miner":"0x%040[2]d","stateRoot":%[1]q,"transactionsRoot":%[1]q,"receiptsRoot":%[1]q,"logsBloom":"0x%0512[2]d",`+
			`"difficulty":"0x0","number":"0x1","gasLimit":"0x1","gasUsed":"0x0","timestamp":"0x1","extraData":"0x","mixHash":%[1]q,"nonce":"0x0000000000000000"%[3]s}`, zero, 0, baseFee)
	}
	calls := map[string]func(*rpc.Client) error{
		"broadcast": func(c *rpc.Client) error { _, err := c.Broadcast(t.Context(), raw); return err },
		"receipt":   func(c *rpc.Client) error { _, err := c.Receipt(t.Context(), hash); return err },
		"fees":      func(c *rpc.Client) error { _, err := c.Fees(t.Context()); return err },
		"nonce":     func(c *rpc.Client) error { _, err := c.Nonce(t.Context(), w.address); return err },
		"balance":   func(c *rpc.Client) error { _, err := c.Balance(t.Context(), w.address); return err },
		"token":     func(c *rpc.Client) error { _, err := c.TokenBalance(t.Context(), w.address, w.address); return err },
	}
	for _, c := range []struct {
		name, call string
		answers    map[string]string
		want       error
	}{
		{"another hash", "broadcast", map[string]string{"eth_sendRawTransaction": `"result":"0x` + strings.Repeat("ab", 32) + `"`}, rpc.ErrResponse},
		{"a number for a hash", "broadcast", map[string]string{"eth_sendRawTransaction": `"result":7`}, rpc.ErrResponse},
		{"no receipt", "receipt", map[string]string{"eth_getTransactionReceipt": `"result":null`}, rpc.ErrNotFound},
		{"an honest receipt", "receipt", map[string]string{"eth_getTransactionReceipt": receipt(nil)}, nil},
		{"another's receipt", "receipt", map[string]string{"eth_getTransactionReceipt": receipt(map[string]any{"transactionHash": "0x" + strings.Repeat("ab", 32)})}, rpc.ErrResponse},
		{"receipt without a block", "receipt", map[string]string{"eth_getTransactionReceipt": receipt(map[string]any{"blockNumber": nil})}, rpc.ErrResponse},
		{"receipt without a price", "receipt", map[string]string{"eth_getTransactionReceipt": receipt(map[string]any{"effectiveGasPrice": nil})}, rpc.ErrResponse},
		{"a huge answer", "receipt", map[string]string{"eth_getTransactionReceipt": `"result":"` + strings.Repeat("a", 17<<20) + `"`}, rpc.ErrResponse},
		{"an honest head", "fees", map[string]string{"eth_getBlockByNumber": block(`,"baseFeePerGas":"0x7"`)}, nil},
		{"no base fee", "fees", map[string]string{"eth_getBlockByNumber": block("")}, rpc.ErrResponse},
		{"a huge base fee", "fees", map[string]string{"eth_getBlockByNumber": block(`,"baseFeePerGas":"0x` + strings.Repeat("f", 60) + `"`)}, rpc.ErrResponse},
		{"a negative tip", "fees", map[string]string{"eth_getBlockByNumber": block(`,"baseFeePerGas":"0x7"`), "eth_maxPriorityFeePerGas": `"result":"-0x1"`}, rpc.ErrResponse},
		{"a nonce beyond 64 bits", "nonce", map[string]string{"eth_getTransactionCount": `"result":"0x10000000000000000"`}, rpc.ErrResponse},
		{"a balance that is text", "balance", map[string]string{"eth_getBalance": `"result":"lots"`}, rpc.ErrResponse},
		{"two words for a balance", "token", map[string]string{"eth_call": `"result":"0x` + strings.Repeat("00", 64) + `"`}, rpc.ErrNoContract},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, err := rpc.Dial(t.Context(), node(t, c.answers).URL, 1337)
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			if err := calls[c.call](client); !errors.Is(err, c.want) || (err != nil && len(err.Error()) > 600) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
		})
	}
}

// The URL of a hosted node contains the key to it.
func TestErrorsHideTheURL(t *testing.T) {
	const secret = "s3cr3t-access-key"
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if status == http.StatusFound {
			http.Redirect(w, r, "http://elsewhere.invalid/", status)
			return
		}
		w.WriteHeader(status)
	}))
	var errs []error
	for _, status = range []int{http.StatusUnauthorized, http.StatusTooManyRequests, http.StatusBadGateway, http.StatusFound, http.StatusOK} {
		_, err := rpc.Dial(t.Context(), server.URL+"/v3/"+secret, 1337)
		errs = append(errs, err)
	}
	server.Close()
	for _, url := range []string{server.URL + "/v3/" + secret, "http://user:" + secret + "@127.0.0.1:1/", "ftp://host/" + secret, "http://host\x7f/" + secret} {
		_, err := rpc.Dial(t.Context(), url, 1337)
		errs = append(errs, err)
	}
	for _, err := range errs {
		if err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("error %v", err)
		}
		if !errors.Is(err, rpc.ErrUnreachable) && !errors.Is(err, rpc.ErrURL) {
			t.Errorf("error %v", err)
		}
	}
}
