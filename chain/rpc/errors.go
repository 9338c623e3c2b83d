package rpc

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/ethereum/go-ethereum"
	"github.com/ethereum/go-ethereum/accounts/abi"
	geth "github.com/ethereum/go-ethereum/rpc"
)

// Connection and configuration.
var (
	// ErrURL: the address of the node cannot be used.
	ErrURL = errors.New("unusable URL of a chain node")
	// ErrUnreachable: no answer, or not from a JSON-RPC server. Worth another try.
	ErrUnreachable = errors.New("chain node is unreachable")
	// ErrChainID: the node serves another chain than the charter names.
	ErrChainID = errors.New("chain node serves another chain")
	// ErrResponse: the node answered something that cannot be an answer.
	ErrResponse = errors.New("chain node gave a malformed answer")
	// ErrRejected: the node refused the request for a reason that has no sentinel of its own.
	ErrRejected = errors.New("chain node refused the request")
)

// Transactions.
var (
	// ErrNotFound: the transaction is not mined, or the node does not know of it yet.
	ErrNotFound = errors.New("not found on the chain")
	// ErrNonceTooLow: another transaction with this account and nonce is mined already.
	ErrNonceTooLow = errors.New("the account's nonce is used already")
	// ErrNonceTooHigh: the node does not take transactions before the account's earlier ones.
	ErrNonceTooHigh = errors.New("an earlier nonce of the account is missing")
	// ErrInsufficientFunds: the balance does not cover value and highest fee.
	ErrInsufficientFunds = errors.New("the account's balance does not cover amount and fee")
	// ErrUnderpriced: the fee is too low for this node, or to replace a transaction that waits.
	ErrUnderpriced = errors.New("the transaction's fee is too low")
	// ErrReverted: the contract refuses the call.
	ErrReverted = errors.New("the contract refuses the call")
	// ErrNoContract: the address that should be a token contract has no such code.
	ErrNoContract = errors.New("no token contract at this address")

	// ErrIndexing: Geth cannot tell yet, for a moment after each block. It is ErrNotFound to
	// callers, who ask again anyway, but no proof of absence.
	ErrIndexing = fmt.Errorf("%w: the node is still indexing", ErrNotFound)
	// ErrPruned: the node no longer keeps what the question is about.
	ErrPruned = errors.New("the node does not keep the state of so old a block: ask an archive node")

	errKnown = errors.New("already known") // not an error to callers: the transaction is where it should be
)

// wordings maps what nodes say, in lower case, to what it means. First match wins.
// Geth, Erigon, Nethermind (one word), Besu and the old OpenEthereum are covered.
var wordings = []struct {
	part string
	err  error
}{
	{"already known", errKnown},
	{"alreadyknown", errKnown},
	{"known transaction", errKnown},
	{"already imported", errKnown},
	{"nonce too low", ErrNonceTooLow},
	{"oldnonce", ErrNonceTooLow},
	{"nonce is too low", ErrNonceTooLow},
	{"nonce too high", ErrNonceTooHigh},
	{"noncegap", ErrNonceTooHigh},
	{"nonce too distant", ErrNonceTooHigh},
	{"insufficient funds", ErrInsufficientFunds},
	{"insufficientfunds", ErrInsufficientFunds},
	{"insufficient balance", ErrInsufficientFunds},
	{"gas required exceeds allowance", ErrInsufficientFunds},
	{"upfront cost exceeds", ErrInsufficientFunds},
	{"underpriced", ErrUnderpriced},
	{"less than block base fee", ErrUnderpriced},
	{"gas price below", ErrUnderpriced},
	{"feetoolow", ErrUnderpriced},
	{"fee too low", ErrUnderpriced},
	{"indexing is in progress", ErrIndexing},
	{"missing trie node", ErrPruned},
	{"historical state", ErrPruned},
	{"state is not available", ErrPruned},
	{"state not available", ErrPruned},
	{"pruned", ErrPruned},
	{"world state unavailable", ErrPruned},
	{"execution reverted", ErrReverted},
	{"vm execution error", ErrReverted},
}

// classify turns what the library returns into one of the sentinels, and says nothing
// of the URL.
func classify(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, ethereum.NotFound) {
		return ErrNotFound
	}
	if errors.Is(err, context.Canceled) {
		return context.Canceled
	}
	var other *chainError
	if errors.As(err, &other) {
		return other
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: no answer in time", ErrUnreachable)
	}
	if errors.Is(err, errTooLong) {
		return fmt.Errorf("%w: %w", ErrResponse, errTooLong)
	}
	var answer geth.Error
	if errors.As(err, &answer) {
		message := clip(answer.Error())
		lower := strings.ToLower(message)
		for _, w := range wordings {
			if strings.Contains(lower, w.part) {
				if errors.Is(w.err, ErrReverted) {
					return fmt.Errorf("%w: %s", w.err, reason(err, message))
				}
				return fmt.Errorf("%w: it says %q", w.err, message)
			}
		}
		return fmt.Errorf("%w: code %d, it says %q", ErrRejected, answer.ErrorCode(), message)
	}
	var status geth.HTTPError
	if errors.As(err, &status) {
		switch status.StatusCode {
		case 401, 403:
			return fmt.Errorf("%w: HTTP status %d; check the access key in its URL", ErrUnreachable, status.StatusCode)
		case 429:
			return fmt.Errorf("%w: HTTP status 429, too many requests; slow down or use another node", ErrUnreachable)
		}
		return fmt.Errorf("%w: HTTP status %d", ErrUnreachable, status.StatusCode)
	}
	// url.Error quotes the whole URL, with the key that it may contain.
	var request *url.Error
	if errors.As(err, &request) {
		return fmt.Errorf("%w: %w", ErrUnreachable, request.Err)
	}
	return fmt.Errorf("%w: %s", ErrResponse, clip(err.Error()))
}

// reason is what the contract says, as far as it can be read.
func reason(err error, message string) string {
	var withData geth.DataError
	if !errors.As(err, &withData) {
		return fmt.Sprintf("it says %q", message)
	}
	text, _ := withData.ErrorData().(string)
	data, bad := hex.DecodeString(strings.TrimPrefix(text, "0x"))
	if bad != nil || len(data) < 4 {
		return fmt.Sprintf("it says %q", message)
	}
	if said, bad := abi.UnpackRevert(data); bad == nil {
		return fmt.Sprintf("it says %q", clip(said))
	}
	return fmt.Sprintf("its own error %#x", data[:4])
}

func clip(s string) string {
	if len(s) > 200 {
		return strings.ToValidUTF8(s[:200], "") + "…"
	}
	return s
}
