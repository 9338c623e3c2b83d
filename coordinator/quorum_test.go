package coordinator

import (
	"slices"
	"testing"

	"coffer/party"
)

// Whoever is hostile, and whatever is said of whom: before a quorum is tried again,
// each other one was. So as long as one honest quorum is willing, it is asked.
func TestEveryQuorumIsTriedOnce(t *testing.T) {
	for name, blame := range map[string]func(quorum []*signer) []*signer{
		"nobody":       func([]*signer) []*signer { return nil },
		"the reporter": func(q []*signer) []*signer { return q[len(q)-1:] },
		"the first":    func(q []*signer) []*signer { return q[:1] },
		"the honest": func(q []*signer) []*signer {
			return slices.DeleteFunc(slices.Clone(q), func(s *signer) bool { return s.id == "a" })
		},
		"all": func(q []*signer) []*signer { return q },
	} {
		for _, size := range []struct{ need, of, quorums int }{{2, 3, 3}, {3, 5, 10}, {2, 2, 1}, {4, 7, 35}} {
			var willing []*signer
			for i := range size.of {
				willing = append(willing, &signer{id: party.ID(rune('a' + i))})
			}
			tried := map[string]int{}
			for n := range 2 * size.quorums {
				quorum := choose(willing, size.need, tried)
				if len(quorum) != size.need {
					t.Fatalf("%d signers chosen, want %d", len(quorum), size.need)
				}
				key := quorumKey(quorum)
				if want := n / size.quorums; tried[key] != want {
					t.Fatalf("blaming %s, %d of %d: try %d is of %s again, %d were tried", name, size.need, size.of, n, key, len(tried))
				}
				tried[key]++
				for _, s := range blame(quorum) {
					s.count(false)
				}
			}
		}
	}
}

// Among quorums tried as often, the signers that failed least come first.
func TestFewestFailuresFirst(t *testing.T) {
	a, b, c := &signer{id: "a", failures: 2}, &signer{id: "b"}, &signer{id: "c", failures: 1}
	if got := quorumKey(choose([]*signer{a, b, c}, 2, nil)); got != "b,c" {
		t.Errorf("chose %s", got)
	}
	if got := quorumKey(choose([]*signer{a, b, c}, 2, map[string]int{"b,c": 1})); got != "a,b" {
		t.Errorf("after b and c failed together: %s", got)
	}
}
