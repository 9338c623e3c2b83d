package approval

import (
	"fmt"
	"maps"
	"slices"

	"coffer/canon"
	"coffer/charter"
	"coffer/intent"
	"coffer/policy"
)

// Weighed is what the statements come to under the rules.
type Weighed struct {
	Granted
	Decision policy.Decision // under both charters, the stricter of the two
	Ended    []string        // whose no ends the intent, in order of names; any ends it
}

// Weigh is stages 2 and 3 together: who said yes, what the rules make of it, and whose
// no ends it. The gate decides by it, and whoever shows people a preview uses it too, so
// that no preview promises what no signer does.
//
// The rules of both charters are asked, and the stricter answer wins: a change of the
// charter neither widens what is pending nor lets it pass by the rules of yesterday.
func Weigh(u Under, i *intent.Intent, subject canon.Digest, statements []Signed) Weighed {
	w := Weighed{Granted: Tally(u, i, subject, statements)}
	force := decide(u.Force, i, w.Votes, u.Lists, u.Now)
	made := force
	if u.Made != u.Force {
		made = decide(u.Made, i, w.Granted.Made, u.Lists, u.Now)
	}
	w.Decision = policy.Stricter(made, force)
	var veto []string
	for _, c := range []*charter.Charter{u.Force, u.Made} {
		if c != nil {
			veto = append(veto, c.Veto...)
		}
	}
	ended := map[string]bool{}
	for _, n := range w.Noes {
		switch {
		case n.of(veto), n.Kind != Veto && (n.Person == i.Initiator || n.of(w.Decision.Groups)):
			ended[n.Person] = true
		case n.Kind == Veto:
			w.Refused = append(w.Refused, Refusal{n.Person, CodeNoVoice, fmt.Sprintf("%q has no veto; who is asked to approve it rejects it instead", n.Person)})
		default:
			w.Refused = append(w.Refused, Refusal{n.Person, CodeNoVoice, fmt.Sprintf(
				"%q may not end it: its initiator may, who is asked to approve it, and who has a veto", n.Person)})
		}
	}
	w.Ended = slices.Sorted(maps.Keys(ended))
	return w
}

func (n No) of(groups []string) bool {
	return slices.ContainsFunc(n.Groups, func(g string) bool { return slices.Contains(groups, g) })
}

// decide asks the rules of one charter. What cannot be judged is denied.
func decide(c *charter.Charter, i *intent.Intent, votes []policy.Vote, lists map[string]charter.ListState, now int64) policy.Decision {
	deny := func(err error) policy.Decision {
		return policy.Decision{Outcome: policy.Deny, Reasons: []policy.Reason{{Code: policy.CodeEval, Text: fmt.Sprintf("the intent cannot be judged: %v", err)}}}
	}
	if c == nil {
		return deny(fmt.Errorf("there is no charter"))
	}
	rules, err := c.Policy()
	if err != nil {
		return deny(err)
	}
	facts, err := intent.Facts(i, c, lists, now)
	if err != nil {
		return deny(err)
	}
	return rules.Decide(facts, votes)
}
