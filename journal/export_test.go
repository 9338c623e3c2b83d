package journal

// RecodeForTest decodes a record of either kind and encodes it again, for the fuzz target.
func RecodeForTest(raw []byte) (out []byte, ok bool) {
	if e, err := parseEntry(raw); err == nil {
		return e.encode(), true
	}
	if b, err := parseBinding(raw); err == nil {
		return b.encode(), true
	}
	return nil, false
}

// EntryForTest is an entry's encoding.
func EntryForTest(e Entry) []byte { return e.encode() }
