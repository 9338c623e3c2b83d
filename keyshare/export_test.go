package keyshare

// ParseShareForTest and EncodeShareForTest let the fuzz target reach the plaintext codec.
var (
	ParseShareForTest  = parseShare
	EncodeShareForTest = encodeShare
)
