package party_test

import (
	"testing"

	"coffer/party"
)

func TestSet(t *testing.T) {
	s, err := party.NewSet("c", "a", "b")
	if err != nil {
		t.Fatal(err)
	}
	if s.Index("a") != 0 || s.Index("c") != 2 || s.Index("d") != -1 {
		t.Fatalf("%v is not sorted", s)
	}
	if !s.Has("b") || s.Has("x") {
		t.Fatal("Has")
	}
	less := s.Without("b")
	if len(less) != 2 || less.Has("b") || !less.SubsetOf(s) || s.SubsetOf(less) || len(s) != 3 {
		t.Fatalf("Without: %v of %v", less, s)
	}
	if _, err := party.NewSet("a", "b", "a"); err == nil {
		t.Fatal("a duplicate was accepted: one signer would count twice")
	}
	back, err := party.SetFrom(s.Strings())
	if err != nil || !back.Equal(s) {
		t.Fatalf("%v %v", back, err)
	}
}

// Two quorums that share no signer could sign two transactions at once.
func TestQuorum(t *testing.T) {
	for q, ok := range map[party.Quorum]bool{
		{2, 3}: true, {2, 2}: true, {3, 5}: true, {4, 7}: true, {3, 4}: true, {11, 20}: true,
		{1, 1}: false, {1, 2}: false, {2, 4}: false, {3, 6}: false, {4, 3}: false, {0, 0}: false, {-1, 3}: false, {12, 21}: false,
	} {
		if err := q.Validate(); (err == nil) != ok {
			t.Errorf("%v: %v, want ok=%v", q, err, ok)
		}
	}
}
