package gate

import "testing"

func TestCheck(t *testing.T) {
	t.Run("G-HELD", func(t *testing.T) {
		if Check(1) != nil || Check(-1) == nil {
			t.Error("a number that is not positive passes")
		}
	})
	t.Run("G-LOOSE", func(t *testing.T) {
		if Check(6) != nil {
			t.Error("six is refused") // says nothing of seven
		}
	})
}
