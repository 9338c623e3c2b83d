package rpc

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/url"
	"time"

	"coffer/chain/evm"
	"coffer/internal/crashpoint"

	"github.com/ethereum/go-ethereum"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/ethclient"
	geth "github.com/ethereum/go-ethereum/rpc"
)

const (
	maxAnswer   = 16 << 20         // bytes; a block with all its transactions, the longest answer, is smaller
	callTimeout = 20 * time.Second // for a whole request, also when the caller's context has no deadline
)

var errTooLong = fmt.Errorf("more than %d bytes", maxAnswer)

// Client talks to the nodes of one chain: to the first that answers. It is safe for
// concurrent use.
type Client struct {
	eth     *ethclient.Client
	chainID uint64
	nodes   *nodes
}

// Receipt says what became of a mined transaction.
type Receipt struct {
	Hash      [32]byte
	Block     uint64
	BlockHash [32]byte
	Succeeded bool // false: mined, paid for, and without effect
	GasUsed   uint64
	Fee       *big.Int // wei: gas used × the price that was paid
}

// Dial connects to the node at an http or https URL, or to the first of the fallbacks
// that answers while that one does not, and refuses nodes of another chain than chainID.
func Dial(ctx context.Context, rawURL string, chainID uint64, fallbacks ...string) (*Client, error) {
	n := &nodes{next: bounded{http.DefaultTransport.(*http.Transport).Clone()}, chainID: chainID}
	for _, raw := range append([]string{rawURL}, fallbacks...) {
		u, err := url.Parse(raw)
		if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
			// The URL itself is not quoted: it may contain a key.
			return nil, fmt.Errorf("%w: want http://host:port or https://host/…", ErrURL)
		}
		n.list = append(n.list, &endpoint{url: u})
	}
	conn, err := geth.DialOptions(ctx, rawURL, geth.WithHTTPClient(&http.Client{
		Transport: n,
		Timeout:   callTimeout,
		// A redirect would take what we send, a signed transaction included, to a host that nobody configured.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}))
	if err != nil {
		return nil, fmt.Errorf("connect to chain node at %s: %w", n.host(), classify(err))
	}
	c := &Client{eth: ethclient.NewClient(conn), chainID: chainID, nodes: n}
	// The first request finds out whether there is a node of this chain at all.
	if _, err := c.eth.ChainID(ctx); err != nil {
		c.Close()
		return nil, c.fail("ask for the chain id", err)
	}
	return c, nil
}

// Close releases idle connections.
func (c *Client) Close() { c.eth.Close() }

// ChainID is the chain that Dial made sure of.
func (c *Client) ChainID() uint64 { return c.chainID }

func (c *Client) fail(action string, err error) error {
	return fmt.Errorf("%s at chain node %s: %w", action, c.nodes.host(), classify(err))
}

// Nonce is the number of the account's mined transactions, that is the first nonce
// that is still free on the chain. Transactions that wait in the node's pool do not count.
func (c *Client) Nonce(ctx context.Context, account evm.Address) (uint64, error) {
	n, err := c.eth.NonceAt(ctx, common.Address(account), nil)
	if err != nil {
		return 0, c.fail("ask for the nonce of "+account.String(), err)
	}
	return n, nil
}

// Balance is the account's money in wei, at the newest block.
func (c *Client) Balance(ctx context.Context, account evm.Address) (*big.Int, error) {
	v, err := c.eth.BalanceAt(ctx, common.Address(account), nil)
	if err != nil {
		return nil, c.fail("ask for the balance of "+account.String(), err)
	}
	return v, nil
}

// TokenBalance is the account's amount of an ERC-20 token in its smallest unit.
func (c *Client) TokenBalance(ctx context.Context, contract, account evm.Address) (*big.Int, error) {
	call := append(crypto.Keccak256([]byte("balanceOf(address)"))[:4], common.LeftPadBytes(account[:], 32)...)
	to := common.Address(contract)
	out, err := c.eth.CallContract(ctx, ethereum.CallMsg{To: &to, Data: call}, nil)
	if err != nil {
		return nil, c.fail(fmt.Sprintf("ask token %s for the balance of %s", contract, account), err)
	}
	if len(out) != 32 {
		return nil, fmt.Errorf("token %s: %w: balanceOf answers %d bytes, want 32; check the asset's contract in the charter", contract, ErrNoContract, len(out))
	}
	return new(big.Int).SetBytes(out), nil
}

// Block is the number of the newest block, to count confirmations from.
func (c *Client) Block(ctx context.Context) (uint64, error) {
	n, err := c.eth.BlockNumber(ctx)
	if err != nil {
		return 0, c.fail("ask for the newest block", err)
	}
	return n, nil
}

// Fees quotes what a transaction should offer now. The fee cap lets the base fee
// double, which takes at least six full blocks. Gas is left at zero: see EstimateGas.
func (c *Client) Fees(ctx context.Context) (evm.Fees, error) {
	tip, err := c.eth.SuggestGasTipCap(ctx)
	if err != nil {
		return evm.Fees{}, c.fail("ask for the usual tip", err)
	}
	head, err := c.eth.HeaderByNumber(ctx, nil)
	if err != nil {
		return evm.Fees{}, c.fail("ask for the newest block", err)
	}
	if head.BaseFee == nil {
		return evm.Fees{}, fmt.Errorf("chain node %s: %w: its newest block has no base fee; the chain needs EIP-1559", c.nodes.host(), ErrResponse)
	}
	// A sign would pass through the arithmetic below and come out as a fee.
	if tip.Sign() < 0 || head.BaseFee.Sign() < 0 || tip.BitLen() > 128 || head.BaseFee.BitLen() > 128 {
		return evm.Fees{}, fmt.Errorf("chain node %s: %w: tip %s or base fee %s is out of range", c.nodes.host(), ErrResponse, tip, head.BaseFee)
	}
	feeCap := new(big.Int).Lsh(head.BaseFee, 1)
	return evm.Fees{TipCap: tip, FeeCap: feeCap.Add(feeCap, tip)}, nil
}

// EstimateGas is what the node thinks the call would use now. A call that the
// contract would refuse is ErrReverted, with what the contract says.
func (c *Client) EstimateGas(ctx context.Context, from, to evm.Address, value *big.Int, data []byte) (uint64, error) {
	target := common.Address(to)
	gas, err := c.eth.EstimateGas(ctx, ethereum.CallMsg{From: common.Address(from), To: &target, Value: value, Data: data})
	if err != nil {
		return 0, c.fail("estimate the gas", err)
	}
	return gas, nil
}

// Broadcast hands a signed transaction to the node and returns its hash. A node that
// has it already, waiting or mined, counts as success: broadcasting is safe to repeat.
func (c *Client) Broadcast(ctx context.Context, raw []byte) (hash [32]byte, err error) {
	if _, _, err := evm.Recover(raw); err != nil {
		return [32]byte{}, fmt.Errorf("broadcast: %w", err)
	}
	hash = crypto.Keccak256Hash(raw)
	var answer common.Hash
	crashpoint.Hit("chain.broadcast")
	err = c.eth.Client().CallContext(ctx, &answer, "eth_sendRawTransaction", hexutil.Encode(raw))
	crashpoint.Hit("chain.broadcasted")
	if err == nil {
		if answer != hash {
			return [32]byte{}, fmt.Errorf("broadcast at chain node %s: %w: it names transaction %s, we sent %x", c.nodes.host(), ErrResponse, answer, hash)
		}
		return hash, nil
	}
	switch refused := classify(err); {
	case errors.Is(refused, errKnown):
		return hash, nil
	case errors.Is(refused, ErrNonceTooLow):
		// What used the nonce may be this very transaction, mined since the last try. To say
		// that another one did, the node must know that this one is not there.
		_, found := c.Receipt(ctx, hash)
		if found == nil {
			return hash, nil
		}
		if !errors.Is(found, ErrNotFound) || errors.Is(found, ErrIndexing) {
			return [32]byte{}, fmt.Errorf("broadcast: the nonce is used, but by which transaction is unknown: %w: %s", ErrUnreachable, clip(found.Error()))
		}
	}
	return [32]byte{}, c.fail("broadcast", err)
}

// Receipt returns ErrNotFound until the transaction is mined.
func (c *Client) Receipt(ctx context.Context, hash [32]byte) (*Receipt, error) {
	r, err := c.eth.TransactionReceipt(ctx, hash)
	if err != nil {
		return nil, c.fail(fmt.Sprintf("ask for the receipt of %x", hash), err)
	}
	if r.TxHash != hash || r.BlockNumber == nil || !r.BlockNumber.IsUint64() || r.EffectiveGasPrice == nil || r.EffectiveGasPrice.Sign() < 0 {
		return nil, fmt.Errorf("receipt of %x at chain node %s: %w: it is of another transaction or incomplete", hash, c.nodes.host(), ErrResponse)
	}
	return &Receipt{
		Hash: r.TxHash, Block: r.BlockNumber.Uint64(), BlockHash: r.BlockHash,
		Succeeded: r.Status == types.ReceiptStatusSuccessful,
		GasUsed:   r.GasUsed,
		Fee:       new(big.Int).Mul(new(big.Int).SetUint64(r.GasUsed), r.EffectiveGasPrice),
	}, nil
}
