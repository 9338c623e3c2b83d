package cli

import "strings"

// spelled is how letters that people type are written in ASCII.
var spelled = strings.NewReplacer(
	"ä", "ae", "ö", "oe", "ü", "ue", "Ä", "Ae", "Ö", "Oe", "Ü", "Ue", "ß", "ss", "æ", "ae", "Æ", "Ae", "ø", "o", "Ø", "O", "å", "a", "Å", "A",
	"à", "a", "á", "a", "â", "a", "ã", "a", "è", "e", "é", "e", "ê", "e", "ë", "e", "ì", "i", "í", "i", "î", "i", "ï", "i", "ñ", "n", "ò", "o",
	"ó", "o", "ô", "o", "õ", "o", "ù", "u", "ú", "u", "û", "u", "ç", "c", "É", "E", "È", "E", "À", "A", "Ç", "C",
	"’", "'", "‘", "'", "“", `"`, "”", `"`, "„", `"`, "–", "-", "—", "-", "…", "...", "€", "EUR",
)

// ASCII writes text so that it can stand where only printable ASCII may: what stops
// things in an emergency is not refused for a letter. Nothing is longer than most.
func ASCII(text string, most int) string {
	out := []byte(strings.Join(strings.Fields(spelled.Replace(text)), " "))
	kept := out[:0]
	for _, r := range string(out) {
		if r < ' ' || r > '~' {
			r = '?'
		}
		kept = append(kept, byte(r))
	}
	return strings.TrimSpace(string(kept[:min(len(kept), most)]))
}
