package authority

import (
	"fmt"

	"coffer/chain/evm/eip55"
	"coffer/policy"
)

// checkEntry checks an address as the charter checks those that it lists itself.
func checkEntry(e policy.Destination) error {
	if err := policy.CheckName(e.Chain); err != nil {
		return fmt.Errorf("chain: %w", err)
	}
	a, err := eip55.Parse(e.Address)
	if err != nil {
		return err
	}
	if a == [20]byte{} {
		return fmt.Errorf("it is the zero address, from which nothing returns; write the right one")
	}
	if err := policy.CheckText(e.Label, maxLabel); err != nil {
		return fmt.Errorf("label: %w", err)
	}
	return nil
}
