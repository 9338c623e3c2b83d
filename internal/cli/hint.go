package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"coffer/internal/datadir"
	"coffer/internal/nearest"
)

// hinted is an error with what to do about it, which people see on a line of its own.
type hinted struct {
	err  error
	hint string
}

func (h *hinted) Error() string { return h.err.Error() }
func (h *hinted) Unwrap() error { return h.err }

// Hint adds what to do about an error. The innermost hint counts: it knows most.
func Hint(err error, format string, args ...any) error {
	var inner *hinted
	if err == nil || errors.As(err, &inner) {
		return err
	}
	return &hinted{err, fmt.Sprintf(format, args...)}
}

// HintOf is what to do about an error, or "".
func HintOf(err error) string {
	var h *hinted
	if errors.As(err, &h) {
		return Clean(h.hint)
	}
	var settings *datadir.SettingsError
	if errors.As(err, &settings) {
		return "edit that file; docs/configuration.md describes every key"
	}
	if NotThere(err) {
		return "does the daemon run, and is the address right?"
	}
	return ""
}

// NotThere says whether a call failed because nothing answers at the address.
func NotThere(err error) bool {
	s, ok := status.FromError(err)
	return ok && s.Code() == codes.Unavailable && strings.Contains(s.Message(), "connection error")
}

// Failure is the form of an error under --json: one line, the last on stderr.
type Failure struct {
	Error string `json:"error"`
	Hint  string `json:"hint,omitempty"`
	Exit  int    `json:"exit"`
}

func fail(stderr io.Writer, program string, err error, hint string, asJSON bool) {
	if asJSON {
		enc := json.NewEncoder(stderr)
		enc.SetEscapeHTML(false)
		// A stderr that is gone leaves the exit code to say it.
		_ = enc.Encode(Failure{Error: Text(err), Hint: hint, Exit: Code(err)})
		return
	}
	fmt.Fprintf(stderr, "%s: %s\n", program, Text(err))
	if hint != "" {
		fmt.Fprintf(stderr, "hint: %s\n", hint)
	}
}

// JSONFlag adds --json to a tree of commands.
func JSONFlag(root *cobra.Command, v *bool) {
	root.PersistentFlags().BoolVar(v, "json", false, "print one JSON object to stdout, and a failure as one JSON line to stderr")
}

// wantsJSON looks at the words too: a command line that cannot be read never set the flag.
func wantsJSON(cmd *cobra.Command, args []string) bool {
	f := cmd.Flag("json")
	return f != nil && (f.Value.String() == "true" || slices.Contains(args, "--json"))
}

// unknown is the error of a word that is no command.
func unknown(cmd *cobra.Command, word string) error {
	if !cmd.HasAvailableSubCommands() {
		return Hint(Usagef("it takes no argument, %q given", word), "usage: %s", cmd.UseLine())
	}
	err := Usagef("there is no command %q", cmd.CommandPath()+" "+word)
	if near := nearest.Word(word, words(cmd)); near != "" {
		return Hint(err, "did you mean %s %s?", cmd.CommandPath(), near)
	}
	return Hint(err, "see %s --help", cmd.CommandPath())
}

func words(cmd *cobra.Command) []string {
	var out []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			out = append(out, c.Name())
		}
	}
	return out
}
