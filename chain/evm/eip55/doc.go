// Package eip55 reads and writes the one accepted text form of an EVM address: 0x,
// forty hex digits, and the checksum that EIP-55 hides in the case of the letters.
//
// It is a leaf, so that the charter and the intent check addresses by the same code
// that the transaction codec uses. A form without a checksum (all lower or all upper
// case) is refused like a wrong one: a mistyped digit in it cannot be told, and what
// is sent to a mistyped address is gone.
package eip55
