package dkg

// Begin is New with the terms of a permission that the gate would have given: what
// the gate permits is tested there.
func Begin(cfg Config, terms Terms) (*Ceremony, error) { return begin(cfg, terms) }

// Move tries one move on a ceremony that is put into a state by force.
func Move(c *Ceremony, from, to State) (State, bool) {
	c.state = from
	ok := c.move(to)
	return c.state, ok
}
