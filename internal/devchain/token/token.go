package token

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	_ "embed"
	"encoding/hex"
	"fmt"
	"math/big"

	"coffer/chain/evm"
	"coffer/chain/rpc"
	"coffer/internal/devchain"

	"github.com/ethereum/go-ethereum"
	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/ethclient"
)

var (
	//go:embed TestToken.abi
	interfaceJSON []byte
	//go:embed TestToken.bin
	bytecodeHex []byte
)

// ABI is the contract's interface.
func ABI() (*abi.ABI, error) {
	parsed, err := abi.JSON(bytes.NewReader(interfaceJSON))
	if err != nil {
		return nil, fmt.Errorf("token interface: %w", err)
	}
	return &parsed, nil
}

// Deploy creates a token through the node at url and waits until it is mined. The
// whole supply belongs to the deployer, who must have the money for the fee.
func Deploy(ctx context.Context, url string, deployer *ecdsa.PrivateKey, name, symbol string, decimals uint8, supply *big.Int) (evm.Address, error) {
	parsed, err := ABI()
	if err != nil {
		return evm.Address{}, err
	}
	bytecode, err := hex.DecodeString(string(bytes.TrimSpace(bytecodeHex)))
	if err != nil {
		return evm.Address{}, fmt.Errorf("token bytecode: %w", err)
	}
	arguments, err := parsed.Pack("", name, symbol, decimals, supply)
	if err != nil {
		return evm.Address{}, fmt.Errorf("token constructor: %w", err)
	}
	client, err := ethclient.DialContext(ctx, url)
	if err != nil {
		return evm.Address{}, fmt.Errorf("deploy token: %w", err)
	}
	defer client.Close()
	tx, err := creation(ctx, client, deployer, append(bytecode, arguments...))
	if err != nil {
		return evm.Address{}, fmt.Errorf("deploy token: %w", err)
	}
	if err := client.SendTransaction(ctx, tx); err != nil {
		return evm.Address{}, fmt.Errorf("deploy token: %w", err)
	}
	chain, err := rpc.Dial(ctx, url, tx.ChainId().Uint64())
	if err != nil {
		return evm.Address{}, fmt.Errorf("deploy token: %w", err)
	}
	defer chain.Close()
	receipt, err := devchain.Mined(ctx, chain, tx.Hash())
	if err != nil {
		return evm.Address{}, fmt.Errorf("deploy token: %w", err)
	}
	if !receipt.Succeeded {
		return evm.Address{}, fmt.Errorf("deploy token: transaction %s failed", tx.Hash())
	}
	return evm.Address(crypto.CreateAddress(crypto.PubkeyToAddress(deployer.PublicKey), tx.Nonce())), nil
}

// creation signs a contract creation: the one kind of transaction that chain/evm, and so
// every signer, refuses to know.
func creation(ctx context.Context, client *ethclient.Client, key *ecdsa.PrivateKey, code []byte) (*types.Transaction, error) {
	from := crypto.PubkeyToAddress(key.PublicKey)
	chainID, err := client.ChainID(ctx)
	if err != nil {
		return nil, err
	}
	nonce, err := client.NonceAt(ctx, from, nil)
	if err != nil {
		return nil, err
	}
	tip, err := client.SuggestGasTipCap(ctx)
	if err != nil {
		return nil, err
	}
	price, err := client.SuggestGasPrice(ctx) // base fee and tip
	if err != nil {
		return nil, err
	}
	gas, err := client.EstimateGas(ctx, ethereum.CallMsg{From: from, Data: code})
	if err != nil {
		return nil, err
	}
	return types.SignNewTx(key, types.LatestSignerForChainID(chainID), &types.DynamicFeeTx{
		ChainID: chainID, Nonce: nonce, GasTipCap: tip, GasFeeCap: price.Lsh(price, 1), Gas: gas, Data: code,
	})
}
