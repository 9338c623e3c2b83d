package passkey

import (
	_ "embed"
	"html/template"
	"net/http"
	"strings"
)

// Line is a row of what is shown: what it is, and what it is here.
type Line struct{ Label, Value string }

// Page is what a person reads before the touch.
type Page struct {
	Title   string
	Lines   []Line
	Note    string   // what the touch will do, in a sentence
	Choices []string // one button each; the first is the one that was asked for
}

//go:embed page.html
var pageText string

//go:embed page.css
var pageStyle string

//go:embed page.js
var pageScript string

var pageTemplate = template.Must(template.New("page").Parse(pageText))

type rendered struct {
	Page
	Nonce  string
	Key    string // by which the script knows the replies of who served it
	Style  template.CSS
	Script template.JS
}

// Tone is how a row is marked, beside its words: colour alone tells nobody anything.
func (l Line) Tone() string {
	value := strings.ToLower(l.Value)
	switch {
	case strings.HasPrefix(l.Label, "signer ") && strings.HasPrefix(value, "would sign"):
		return "good"
	case strings.HasPrefix(l.Label, "signer ") && strings.HasPrefix(value, "refuses"), l.Label == "denied", strings.HasPrefix(l.Label, "rejected"), strings.HasPrefix(l.Label, "frozen"):
		return "bad"
	case strings.HasPrefix(l.Label, "signer "), l.Label == "missing":
		return "wait"
	}
	return ""
}

// Weight marks the rows that money is lost by, and those that are compared digit by digit.
func (l Line) Weight() string {
	switch l.Label {
	case "pay", "amount", "to":
		return "strong"
	case "cluster", "charter", "intent", "record", "digest":
		return "code"
	}
	return ""
}

// headers forbid whatever the page does not need.
func headers(h http.Header, nonce string) {
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'nonce-"+nonce+"'; style-src 'nonce-"+nonce+"'; connect-src 'self'; "+
		"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cross-Origin-Embedder-Policy", "require-corp")
	h.Set("Permissions-Policy", "publickey-credentials-get=(self), publickey-credentials-create=(self), camera=(), microphone=(), geolocation=()")
}
