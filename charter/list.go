package charter

import (
	"fmt"
	"time"

	"coffer/canon"
	"coffer/policy"
)

// ListState is the newest version of a kept list that its keepers signed.
type ListState struct {
	Version uint64
	Issued  int64
	Digest  canon.Digest
	Entries []policy.Destination
}

// List looks a list up by name.
func (c *Charter) List(name string) (DestinationList, bool) {
	return find(c.Destinations, func(l DestinationList) bool { return l.Name == name })
}

// Lists is what each list of the charter holds at now, given the newest versions that
// keepers signed. It is the one place that says when a list is too old to count.
func (c *Charter) Lists(held map[string]ListState, now int64) map[string]policy.List {
	out := map[string]policy.List{}
	for _, l := range c.Destinations {
		is := policy.List{Kind: l.Kind, Kept: l.Keepers != nil, Entries: l.Entries}
		if is.Kept {
			state, issued := held[l.Name]
			if issued {
				is.Version, is.Entries = state.Version, state.Entries
			}
			is.Stale = l.stale(state, issued, now)
		}
		out[l.Name] = is
	}
	return out
}

func (l DestinationList) stale(state ListState, issued bool, now int64) string {
	if l.MaxAge == "" {
		return ""
	}
	max, err := ParseDuration(l.MaxAge)
	switch {
	case err != nil:
		return fmt.Sprintf("its max_age is not understood: %v", err)
	case !issued:
		return fmt.Sprintf("no version of it was signed yet; its keepers (%s) issue the first", l.Keepers)
	// A list from the future would stay fresh for too long; a little ahead is the clocks'.
	case state.Issued > now+maxAhead:
		return fmt.Sprintf("version %d was issued in the future, at %s", state.Version, clock(state.Issued))
	case state.Issued < now-int64(max/time.Second):
		return fmt.Sprintf("version %d was issued at %s and counts for %s; its keepers (%s) issue the next", state.Version, clock(state.Issued), l.MaxAge, l.Keepers)
	}
	return ""
}

// maxAhead is how far another machine's clock may be ahead, in seconds.
const maxAhead = 300

func clock(unix int64) string { return time.Unix(unix, 0).UTC().Format("2006-01-02 15:04 UTC") }
