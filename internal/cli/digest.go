package cli

import "coffer/canon"

// HeardDigest is the digest of a charter that its reader heard by another channel:
// flag, if it was given, or what is typed on the terminal, which must be got.
func HeardDigest(flag string, got canon.Digest) (canon.Digest, error) {
	if flag == "" {
		return got, Confirm("type the digest that you heard by another channel:", got.String())
	}
	pin, err := canon.ParseDigest(flag)
	if err != nil {
		return canon.Digest{}, Usagef("--digest: %w", err)
	}
	return pin, nil
}
