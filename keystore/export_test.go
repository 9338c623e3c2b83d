package keystore

// CreateWeakSeal makes a seal file with a work factor below the floor, so that tests
// can try many.
func CreateWeakSeal(path string, passphrase []byte) error { return createSeal(path, passphrase, 2) }

// RecodeForTest decodes a record of either kind and encodes it again, for the fuzz target.
func RecodeForTest(raw []byte) (out []byte, ok bool) {
	if m, sealed, err := parseShare(raw); err == nil {
		return encodeShare(m, sealed), true
	}
	if s, _, err := parseRecord(raw); err == nil {
		return encodeRecord(s), true
	}
	return nil, false
}

// EncodeShareForTest and EncodeRecordForTest are the encodings of stored records.
var (
	EncodeShareForTest  = encodeShare
	EncodeRecordForTest = encodeRecord
)
