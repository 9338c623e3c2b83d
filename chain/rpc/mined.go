package rpc

import (
	"context"
	"errors"
	"fmt"
	"math/big"

	"coffer/chain/evm"

	"github.com/ethereum/go-ethereum"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"
)

// BlockHash is the hash of the block that stands at a height now. A node that has not
// come so far answers ErrNotFound.
func (c *Client) BlockHash(ctx context.Context, number uint64) ([32]byte, error) {
	var block *struct {
		Hash   common.Hash    `json:"hash"`
		Number hexutil.Uint64 `json:"number"`
	}
	err := c.eth.Client().CallContext(ctx, &block, "eth_getBlockByNumber", hexutil.EncodeUint64(number), false)
	switch {
	case err != nil:
		return [32]byte{}, c.fail(fmt.Sprintf("ask for block %d", number), err)
	case block == nil:
		return [32]byte{}, c.fail(fmt.Sprintf("ask for block %d", number), ethereum.NotFound)
	case uint64(block.Number) != number:
		return [32]byte{}, fmt.Errorf("ask for block %d at chain node %s: %w: it answers block %d", number, c.nodes.host(), ErrResponse, block.Number)
	}
	return block.Hash, nil
}

// MinedAt finds the transaction that used a nonce of an account, whoever sent it to the
// chain: no node can be asked for that, but each tells how many nonces an account had
// used by a block. The search goes back from the newest block in growing steps, since
// nodes keep the state of recent blocks only; further back they answer ErrPruned.
// ErrNotFound: the nonce is not used.
func (c *Client) MinedAt(ctx context.Context, account evm.Address, nonce uint64) (hash [32]byte, block uint64, err error) {
	action := fmt.Sprintf("look for nonce %d of %s", nonce, account)
	head, err := c.Block(ctx)
	if err != nil {
		return hash, 0, err
	}
	used := func(block uint64) (bool, error) {
		n, err := c.eth.NonceAt(ctx, common.Address(account), new(big.Int).SetUint64(block))
		if err != nil {
			return false, c.fail(fmt.Sprintf("%s in block %d", action, block), err)
		}
		return n > nonce, nil
	}
	is, err := used(head)
	if err != nil {
		return hash, 0, err
	}
	if !is {
		return hash, 0, c.fail(action, ethereum.NotFound)
	}
	// Invariant: used at high; not used at low, or low is the first block.
	low, high := head, head
	for step := uint64(1); ; step *= 2 {
		if low = high - min(step, high); low == 0 {
			break
		}
		if is, err = used(low); err != nil {
			return hash, 0, err
		}
		if !is {
			break
		}
		high = low
	}
	for high-low > 1 {
		middle := low + (high-low)/2
		if is, err = used(middle); err != nil {
			return hash, 0, err
		}
		if is {
			high = middle
		} else {
			low = middle
		}
	}
	var found *struct {
		Transactions []struct {
			Hash  common.Hash    `json:"hash"`
			From  common.Address `json:"from"`
			Nonce hexutil.Uint64 `json:"nonce"`
		} `json:"transactions"`
	}
	if err := c.eth.Client().CallContext(ctx, &found, "eth_getBlockByNumber", hexutil.EncodeUint64(high), true); err != nil {
		return hash, 0, c.fail(action, err)
	}
	if found != nil {
		for _, tx := range found.Transactions {
			if tx.From == common.Address(account) && uint64(tx.Nonce) == nonce {
				return tx.Hash, high, nil
			}
		}
	}
	// Another block may have taken its place between the questions.
	return hash, 0, fmt.Errorf("%s at chain node %s: %w: block %d should have it and does not; ask again", action, c.nodes.host(), ErrResponse, high)
}

// Transaction is a signed transaction as the chain has it, mined or waiting, whose bytes
// have the hash that was asked for.
func (c *Client) Transaction(ctx context.Context, hash [32]byte) ([]byte, error) {
	action := fmt.Sprintf("ask for transaction %x", hash)
	tx, _, err := c.eth.TransactionByHash(ctx, hash)
	if err != nil {
		return nil, c.fail(action, err)
	}
	raw, err := tx.MarshalBinary()
	if err != nil {
		return nil, c.fail(action, err)
	}
	if crypto.Keccak256Hash(raw) != hash {
		return nil, fmt.Errorf("%s at chain node %s: %w: it answers another", action, c.nodes.host(), ErrResponse)
	}
	return raw, nil
}

// Found says what became of the first of these transactions that is in a block. None
// is ErrNotFound, or ErrIndexing while the node cannot tell of all.
func (c *Client) Found(ctx context.Context, hashes ...[32]byte) (*Receipt, error) {
	none := error(ErrNotFound)
	for _, hash := range hashes {
		receipt, err := c.Receipt(ctx, hash)
		switch {
		case err == nil:
			return receipt, nil
		case errors.Is(err, ErrIndexing):
			none = err
		case !errors.Is(err, ErrNotFound):
			return nil, err
		}
	}
	return nil, none
}
