package charter

import "coffer/canon"

// Lookup finds a version of the charter by its digest: one that is in force or was.
// What was made under an older version is verified under that one.
type Lookup func(canon.Digest) (*Charter, bool)

// Only is the Lookup of whoever knows no other version.
func (c *Charter) Only() Lookup {
	return func(d canon.Digest) (*Charter, bool) {
		if c == nil || c.Digest() != d {
			return nil, false
		}
		return c, true
	}
}
