package cli

import (
	"strings"
	"unicode"
)

// maxText is where Clean cuts.
const maxText = 2000

// Clean makes one printable line of a text that nobody signed. A terminal obeys
// escape sequences and line breaks: unclean, a sentence of the coordinator's could
// paint over the destination above it, or add a signer's verdict that none gave.
func Clean(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\r' || r == '\t':
			return ' '
		case !unicode.IsPrint(r): // ESC and other controls, and what turns the direction of writing
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if runes := []rune(s); len(runes) > maxText {
		s = string(runes[:maxText]) + "…"
	}
	return s
}
