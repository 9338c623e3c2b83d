package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"coffer/access"
	"coffer/internal/cli"
	"coffer/policy"
	pb "coffer/proto/coffer/v1"
)

// again is how long a lost coordinator is given before it is asked once more.
const again = 500 * time.Millisecond

// pause waits a moment, then has the connection be tried at once; false when ctx ends.
func (c *client) pause(ctx context.Context) bool {
	timer := time.NewTimer(again)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		c.conn.ResetConnectBackoff()
		return true
	}
}

// wait follows an intent to its end, also past restarts of the coordinator.
func (o *options) wait(cmd *cobra.Command, ctx context.Context, c *client, id string, timeout time.Duration) error {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	w := &watch{cmd: cmd, c: c, id: id, said: map[string]time.Time{}}
	away := false
	for {
		seen := w.last
		err := w.follow(ctx)
		if access.NoGrant(err) && w.last != seen && ctx.Err() == nil {
			continue // the grant that it began with has ended; the next call brings another
		}
		away = away && w.last == seen
		switch {
		case err == nil:
			if err := o.print(cmd, w.last); err != nil {
				return err
			}
			return outcome(w.last.view)
		case late(ctx, err):
			return w.waiting()
		case !broken(err):
			return err
		}
		if !away {
			away = true
			clear(w.said)
			fmt.Fprintln(cmd.ErrOrStderr(), "the coordinator is away; waiting for it")
		}
		if !c.pause(ctx) {
			return w.waiting()
		}
	}
}

// late says whether a wait ended because its time did. The coordinator keeps the
// deadline too, and may be the first to say so.
func late(ctx context.Context, err error) bool {
	return ctx.Err() != nil || status.Code(err) == codes.DeadlineExceeded
}

// broken says whether a stream ended because the coordinator stopped, or its
// connection did: the request itself goes on.
func broken(err error) bool {
	code := status.Code(err)
	return code == codes.Unavailable || code == codes.Canceled
}

// watch is what was seen of an intent so far.
type watch struct {
	cmd  *cobra.Command
	c    *client
	id   string
	last *shown
	said map[string]time.Time
}

// repeat is how long a sentence is not said again: a stage that is tried over and over
// says the same few in turn.
const repeat = 15 * time.Second

// say shows progress.
func (w *watch) say(text string) {
	now := time.Now()
	if said, ok := w.said[text]; ok && now.Sub(said) < repeat {
		return
	}
	if len(w.said) > 100 {
		clear(w.said)
	}
	w.said[text] = now
	fmt.Fprintln(w.cmd.ErrOrStderr(), text)
}

func (w *watch) waiting() error {
	hint := "coffer show " + w.id[:12] + " --wait goes on waiting"
	if w.last == nil {
		return cli.Hint(&cli.ExitError{Code: cli.Waiting, Err: errors.New("no answer in time; the request goes on")}, "%s", hint)
	}
	v := w.last.view
	return cli.Hint(&cli.ExitError{Code: cli.Waiting, Err: fmt.Errorf("still %s: %s; the request goes on", stageName(v.Stage), v.Detail)}, "%s", hint)
}

// follow shows each change until the intent has ended. Every view is verified, as everywhere.
func (w *watch) follow(ctx context.Context) error {
	stream, err := w.c.api.Watch(ctx, &pb.GetRequest{Id: w.id})
	if err != nil {
		return err
	}
	for {
		view, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return errors.New("the coordinator ended its answer before the intent ended: do not trust it")
		}
		if err != nil {
			return err
		}
		s, err := w.c.open(view)
		if err != nil {
			return err
		}
		if s.id.String() != w.id {
			return fmt.Errorf("the coordinator showed intent %s when asked to watch %s: do not trust it", s.id.Short(), w.id[:12])
		}
		w.last = s
		text := stageName(view.Stage) + ": " + view.Detail
		if view.Progress != "" && !over(view.Stage) {
			text = stageName(view.Stage) + ": " + view.Progress
		}
		for _, m := range s.texts(policy.Wait) {
			text += " (" + m + ")"
		}
		w.say(text)
		if over(view.Stage) {
			return nil
		}
	}
}
