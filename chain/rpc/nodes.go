package rpc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common/hexutil"
)

// firstAgain is how long a fallback serves until the first node is tried again.
const firstAgain = time.Minute

// answerWithin is how long a node may keep a request while another is left to ask: less
// than what callers give a question, so that one that is silent does not use it up.
const answerWithin = 4 * time.Second

// chainError is ErrChainID with what the node said.
type chainError struct{ text string }

func (e *chainError) Error() string { return ErrChainID.Error() + ": " + e.text }
func (e *chainError) Unwrap() error { return ErrChainID }

// endpoint is one node.
type endpoint struct {
	url     *url.URL
	checked bool // it serves the chain that it should
}

// nodes sends each request to the node in use, and to the next one when that does not
// answer or is too busy. What a node answers as JSON-RPC, an error too, is an answer.
type nodes struct {
	next    http.RoundTripper
	chainID uint64
	list    []*endpoint

	mu    sync.Mutex // guards the rest and endpoint.checked
	at    int        // the node in use
	since time.Time  // when it came into use
}

// host names the node in use for errors: without what may be secret in its URL.
func (n *nodes) host() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.list[n.at].url.Host
}

// RoundTrip implements http.RoundTripper.
func (n *nodes) RoundTrip(request *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(request.Body)
	request.Body.Close()
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	if n.at != 0 && time.Since(n.since) > firstAgain {
		n.at = 0
	}
	first := n.at
	n.mu.Unlock()
	var response *http.Response
	for k := range n.list {
		at := (first + k) % len(n.list)
		if response != nil {
			response.Body.Close() // it is in memory already
		}
		response, err = n.askWithin(request, n.list[at], body, k == len(n.list)-1)
		if err == nil && !away(response.StatusCode) {
			n.use(at)
			break
		}
		if request.Context().Err() != nil {
			break
		}
	}
	return response, err
}

func (n *nodes) use(at int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.at != at {
		n.at, n.since = at, time.Now()
	}
}

// away says that another node may do better: this one is down, busy, or wants a key.
func away(status int) bool { return status == 401 || status == 403 || status == 429 || status >= 500 }

// askWithin is ask, and gives up on a silent node unless that is the last one to ask.
func (n *nodes) askWithin(request *http.Request, e *endpoint, body []byte, last bool) (*http.Response, error) {
	if !last {
		ctx, cancel := context.WithTimeout(request.Context(), answerWithin)
		defer cancel() // the answer is in memory already
		request = request.WithContext(ctx)
	}
	return n.ask(request, e, body)
}

// ask sends the request to one node, after that has said which chain it serves.
func (n *nodes) ask(request *http.Request, e *endpoint, body []byte) (*http.Response, error) {
	n.mu.Lock()
	checked := e.checked
	n.mu.Unlock()
	if !checked {
		response, err := n.post(request, e, []byte(`{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":[]}`))
		if err != nil || response.StatusCode != http.StatusOK {
			return response, err
		}
		var answer struct {
			Result *hexutil.Big `json:"result"`
		}
		if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || answer.Result == nil {
			return nil, fmt.Errorf("%w: it does not say which chain it serves", ErrResponse)
		}
		if got := (*big.Int)(answer.Result); !got.IsUint64() || got.Uint64() != n.chainID {
			return nil, &chainError{fmt.Sprintf("the chain id of %s is %s, want %d", e.url.Host, got, n.chainID)}
		}
		n.mu.Lock()
		e.checked = true
		n.mu.Unlock()
	}
	return n.post(request, e, body)
}

func (n *nodes) post(request *http.Request, e *endpoint, body []byte) (*http.Response, error) {
	r := request.Clone(request.Context())
	r.URL, r.Host = e.url, e.url.Host
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	if user := e.url.User; user != nil {
		password, _ := user.Password()
		r.SetBasicAuth(user.Username(), password)
	}
	return n.next.RoundTrip(r)
}

// CloseIdleConnections lets the library release what the transport holds.
func (n *nodes) CloseIdleConnections() {
	if t, ok := n.next.(bounded); ok {
		if c, ok := t.next.(interface{ CloseIdleConnections() }); ok {
			c.CloseIdleConnections()
		}
	}
}

// bounded cuts answers at maxAnswer, so that a node cannot fill our memory, and turns
// what is no JSON into an error that the library would report as a parse error only.
type bounded struct{ next http.RoundTripper }

func (b bounded) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := b.next.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	response.Body.Close()
	if err != nil {
		return nil, err
	}
	if len(body) > maxAnswer {
		return nil, errTooLong
	}
	if response.StatusCode == http.StatusOK && !json.Valid(body) {
		return nil, errors.New("the answer is no JSON; is this a JSON-RPC endpoint?")
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	return response, nil
}
