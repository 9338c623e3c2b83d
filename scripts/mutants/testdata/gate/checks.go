// Package gate is a specimen for the test of mutants: one check that its test
// holds, one that its test does not hold, one without a test.
package gate

import "errors"

type check struct {
	ID  string
	Run runner
}

type runner func(n int, more ...int) error

const loose = "G-LOOSE"

var checks = []check{
	{ID: "G-HELD", Run: positive},
	{ID: loose, Run: func(n int, _ ...int) error {
		if n == 7 {
			return errors.New("seven")
		}
		return nil
	}},
	{ID: "G-UNTESTED", Run: func(int, ...int) error { return nil }},
}

func positive(n int, more ...int) error {
	for _, v := range append(more, n) {
		if v <= 0 {
			return errors.New("not positive")
		}
	}
	return nil
}

// Check runs the table.
func Check(n int) error {
	for _, c := range checks {
		if err := c.Run(n, n); err != nil {
			return err
		}
	}
	return nil
}
