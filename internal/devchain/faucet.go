package devchain

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/big"
	"sync"
	"time"

	"coffer/chain/evm"
	"coffer/chain/rpc"
	"coffer/partial"

	"github.com/ethereum/go-ethereum/crypto"
)

// faucetSeed is hashed into the faucet's key. Everybody knows it, so that anybody may
// fund a wallet of a dev chain without a key to hand around; it owns play money only.
const faucetSeed = "the faucet of coffer's dev chain"

// Faucet is an account whose key everybody knows. Give its address money in Config.Alloc.
type Faucet struct {
	mu  sync.Mutex // one payment at a time: each takes the account's next nonce
	key *ecdsa.PrivateKey
}

// NewFaucet opens the account, the same one each time.
func NewFaucet() (*Faucet, error) {
	seed := sha256.Sum256([]byte(faucetSeed))
	key, err := crypto.ToECDSA(seed[:])
	if err != nil {
		return nil, fmt.Errorf("make the faucet's key: %w", err)
	}
	return &Faucet{key: key}, nil
}

// Address is where the faucet's money is.
func (f *Faucet) Address() evm.Address { return evm.Address(crypto.PubkeyToAddress(f.key.PublicKey)) }

// Key is the faucet's key, for what Call does not do, such as deploying a contract.
func (f *Faucet) Key() *ecdsa.PrivateKey { return f.key }

func (f *Faucet) String() string { return "faucet " + f.Address().String() }

// Pay sends wei to somebody and waits until that is mined.
func (f *Faucet) Pay(ctx context.Context, client *rpc.Client, to evm.Address, wei *big.Int) (*rpc.Receipt, error) {
	return f.Call(ctx, client, to, wei, nil)
}

// Call sends wei and calldata to an address and waits until that is mined.
func (f *Faucet) Call(ctx context.Context, client *rpc.Client, to evm.Address, wei *big.Int, data []byte) (*rpc.Receipt, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	raw, err := f.sign(ctx, client, to, wei, data)
	if err != nil {
		return nil, fmt.Errorf("faucet: %w", err)
	}
	hash, err := client.Broadcast(ctx, raw)
	if err != nil {
		return nil, fmt.Errorf("faucet: %w", err)
	}
	receipt, err := Mined(ctx, client, hash)
	if err != nil {
		return nil, fmt.Errorf("faucet: %w", err)
	}
	if !receipt.Succeeded {
		return nil, fmt.Errorf("faucet: transaction %x failed in block %d", hash, receipt.Block)
	}
	return receipt, nil
}

func (f *Faucet) sign(ctx context.Context, client *rpc.Client, to evm.Address, wei *big.Int, data []byte) ([]byte, error) {
	nonce, err := client.Nonce(ctx, f.Address())
	if err != nil {
		return nil, err
	}
	fees, err := client.Fees(ctx)
	if err != nil {
		return nil, err
	}
	gas, err := client.EstimateGas(ctx, f.Address(), to, wei, data)
	if err != nil {
		return nil, err
	}
	u := &evm.Unsigned{ChainID: client.ChainID(), Nonce: nonce, TipCap: fees.TipCap, FeeCap: fees.FeeCap, Gas: gas, To: to, Value: wei, Data: data}
	digest := u.Digest()
	compact, err := crypto.Sign(digest[:], f.key)
	if err != nil {
		return nil, err
	}
	raw, _, err := u.Assemble(partial.Signature{R: [32]byte(compact[:32]), S: [32]byte(compact[32:64]), V: compact[64]})
	return raw, err
}

// Mined waits until a transaction has its receipt, or ctx ends.
func Mined(ctx context.Context, client *rpc.Client, hash [32]byte) (*rpc.Receipt, error) {
	tick := time.NewTicker(blockTick)
	defer tick.Stop()
	for {
		receipt, err := client.Receipt(ctx, hash)
		if err == nil || !errors.Is(err, rpc.ErrNotFound) {
			return receipt, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for transaction %x: %w", hash, ctx.Err())
		case <-tick.C:
		}
	}
}
