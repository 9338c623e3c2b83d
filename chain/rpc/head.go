package rpc

import (
	"context"
	"math"
	"time"
)

// Head is the newest block's number and the time that it names.
func (c *Client) Head(ctx context.Context) (number uint64, at time.Time, err error) {
	head, err := c.eth.HeaderByNumber(ctx, nil)
	if err != nil {
		return 0, time.Time{}, c.fail("ask for the newest block", err)
	}
	return head.Number.Uint64(), time.Unix(int64(min(head.Time, math.MaxInt64)), 0), nil
}

// Endpoint is the host of the node that answered last; the whole URL may contain a key.
func (c *Client) Endpoint() string { return c.nodes.host() }
