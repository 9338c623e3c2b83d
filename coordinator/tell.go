package coordinator

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"coffer/canon"
	"coffer/intent"
	pb "coffer/proto/coffer/v1"
)

// tell has every signer shown an intent and what people said of it, in the background:
// a signer that knows a rejection counts it, and what signers know this coordinator
// finds again should it lose its store.
func (c *Coordinator) tell(id canon.Digest) {
	for _, s := range c.signers() {
		s.mu.Lock()
		s.untold[id] = true
		s.mu.Unlock()
		s.kick()
	}
}

// kick has the signer told what it was not told yet.
func (s *signer) kick() {
	select {
	case s.news <- struct{}{}:
	default: // it is being told
	}
}

// tellAll puts down at the start what the signers may not have been told before the end.
func (c *Coordinator) tellAll(all []item) {
	for _, it := range all {
		if it.Stage != pb.Stage_STAGE_DONE {
			c.tell(it.ID)
		}
	}
}

// tellSigner tells one signer. What a signer that is away misses it is told once it is back.
func (c *Coordinator) tellSigner(ctx context.Context, s *signer) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.news:
		}
		list := s.untoldNow()
		for n, id := range list {
			err := c.show(ctx, s, id)
			switch {
			case ctx.Err() != nil:
				return
			case err == nil || status.Code(err) == codes.InvalidArgument:
				continue // told, or nothing that could be told
			}
			c.log.Debug("signer was not told of an intent", "signer", s.id, "intent", id.String(), "error", err)
			s.putBack(list[n:]) // the next status that it answers brings this back
			break
		}
	}
}

func (s *signer) putBack(ids []canon.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		s.untold[id] = true
	}
}

// untoldNow lists what is to be told, and takes it off the list: what changes meanwhile
// is put there again.
func (s *signer) untoldNow() []canon.Digest {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.health.err != nil {
		return nil
	}
	var ids []canon.Digest
	for id := range s.untold {
		ids = append(ids, id)
	}
	clear(s.untold)
	return ids
}

func (c *Coordinator) show(ctx context.Context, s *signer, id canon.Digest) error {
	it, err := c.items.get(id)
	if errors.Is(err, errNoItem) {
		return nil
	} else if err != nil {
		return err
	}
	if i, err := intent.Parse(it.Intent.Raw); err != nil || time.Now().Unix() >= i.Expires {
		return nil //nolint:nilerr // nobody would remember it
	}
	ask, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	_, err = s.api.Judge(ask, &pb.JudgeRequest{
		Intent: signedMessage(it.Intent.Raw, it.Intent.Signature), Statements: statements(it.Statements),
	})
	if err == nil {
		s.alive()
	}
	return err
}
