package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"coffer/internal/datadir"
)

// The exit codes of every program.
const (
	Done    = 0
	Failed  = 1
	Usage   = 2
	Refused = 3 // by the rules, the signers or a person
	Waiting = 4 // for people or signers; nothing is wrong
)

// ExitError carries an exit code; other errors exit with Failed.
type ExitError struct {
	Code int
	Err  error
}

func (e *ExitError) Error() string { return e.Err.Error() }
func (e *ExitError) Unwrap() error { return e.Err }

// Refusedf is an error that exits with Refused.
func Refusedf(format string, args ...any) error {
	return &ExitError{Code: Refused, Err: fmt.Errorf(format, args...)}
}

// Usagef is an error that exits with Usage.
func Usagef(format string, args ...any) error {
	return &ExitError{Code: Usage, Err: fmt.Errorf(format, args...)}
}

// Group is a command that only has commands under it. Without a word of its own cobra
// would answer a mistyped one with help and success.
func Group(use, short string) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknown(cmd, args[0])
			}
			return Usagef("a command is missing: %s", strings.Join(words(cmd), ", "))
		},
	}
}

// Main runs a command tree and exits. Ctrl-C and SIGTERM end its context.
func Main(root *cobra.Command) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := Run(ctx, root, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// Run runs a command tree with the given arguments and returns the exit code.
func Run(ctx context.Context, root *cobra.Command, args []string, stdout, stderr io.Writer) int {
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SilenceErrors = true
	root.SilenceUsage = true
	root.DisableSuggestions = true // they are in the hint
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if negative.MatchString(err.Error()) {
			return Usagef("%w: no number here has a sign", err)
		}
		return Usagef("%w", err)
	})
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return Done
	}
	if byCobra(err) {
		if name, ok := strings.CutPrefix(err.Error(), "unknown command "); ok {
			name, _, _ = strings.Cut(strings.TrimPrefix(name, `"`), `"`)
			err = unknown(cmd, name)
		} else {
			text := counted.ReplaceAllString(err.Error(), "it takes $1 argument(s), $2 given")
			err = Hint(Usagef("%s", text), "usage: %s", cmd.UseLine())
		}
	}
	hint := HintOf(err)
	if hint == "" && Code(err) == Usage {
		hint = "see " + cmd.CommandPath() + " --help"
	}
	fail(stderr, root.Name(), err, hint, wantsJSON(cmd, args))
	return Code(err)
}

// Code is the exit code of an error.
func Code(err error) int {
	var exit *ExitError
	if errors.As(err, &exit) {
		return exit.Code
	}
	if status.Code(err) == codes.PermissionDenied {
		return Refused
	}
	var settings *datadir.SettingsError
	if byCobra(err) || errors.As(err, &settings) {
		return Usage
	}
	return Failed
}

var counted = regexp.MustCompile(`^accepts (.*) arg\(s\), received (\d+)$`)

var negative = regexp.MustCompile(`^unknown shorthand flag: '[0-9.]'`)

// byCobra says whether an error is one of cobra's own about the command line, which
// have no type.
func byCobra(err error) bool {
	var exit *ExitError
	if errors.As(err, &exit) {
		return false
	}
	for _, begin := range []string{"unknown command ", "accepts ", "requires ", "required flag"} {
		if strings.HasPrefix(err.Error(), begin) {
			return true
		}
	}
	return false
}

// Text is what people are shown of an error: of a gRPC error only its message.
func Text(err error) string {
	for {
		switch e := err.(type) { //nolint:errorlint // only what this package wrapped around it is taken off
		case *hinted:
			err = e.err
			continue
		case *ExitError:
			err = e.Err
			continue
		}
		break
	}
	if s, ok := status.FromError(err); ok && s.Code() != codes.Unknown {
		text := s.Message()
		if m := undialled.FindStringSubmatch(text); s.Code() == codes.Unavailable && m != nil {
			text = fmt.Sprintf("no connection to %s: %s", m[1], m[2])
		} else if m := unmet.FindStringSubmatch(text); s.Code() == codes.Unavailable && m != nil {
			text = "no connection: " + m[1]
			if strings.Contains(m[1], "deadline exceeded") {
				text = "no connection: what listens there does not answer"
			}
		}
		return Clean(text)
	}
	return Clean(err.Error())
}

// undialled is how gRPC says that nothing answers at an address.
var undialled = regexp.MustCompile(`^connection error: .*dial (?:tcp|unix) ([^ ]+?): (.*?)"?$`)

// unmet is how gRPC says that what answers did not prove who it is.
var unmet = regexp.MustCompile(`^connection error: .*(authentication handshake failed: .*?)"?$`)

// JSON writes v as one indented object to the command's stdout.
func JSON(cmd *cobra.Command, v any) error {
	enc := json.NewEncoder(cmd.OutOrStdout())
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// Logger writes structured lines, as JSON if format is json; COFFER_LOG chooses debug,
// info, warn or error.
func Logger(w io.Writer, format string) *slog.Logger {
	level := slog.LevelInfo
	if text := os.Getenv("COFFER_LOG"); text != "" {
		if err := level.UnmarshalText([]byte(text)); err != nil {
			fmt.Fprintf(w, "COFFER_LOG=%q is not debug, info, warn or error: info is used\n", text)
			level = slog.LevelInfo
		}
	}
	options := &slog.HandlerOptions{Level: level}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// maxPassphrase is what a signer takes.
const maxPassphrase = 1024

// Secret is where a passphrase comes from: a file, a descriptor, or the terminal.
// It is never an argument or an environment variable, which other users can read.
type Secret struct {
	File       string
	Descriptor int
}

// Flags adds --passphrase-file and --passphrase-fd.
func (s *Secret) Flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.File, "passphrase-file", "", "file with the passphrase in its first line, readable by you alone")
	cmd.Flags().IntVar(&s.Descriptor, "passphrase-fd", -1, "open file descriptor to read the passphrase from")
}

// Read returns the passphrase. When nothing else was said it asks on the terminal,
// twice if it is a new one.
func (s *Secret) Read(prompt string, fresh bool) ([]byte, error) {
	switch {
	case s.File != "" && s.Descriptor >= 0:
		return nil, Usagef("give --passphrase-file or --passphrase-fd, not both")
	case s.File != "":
		f, err := os.Open(s.File)
		if err != nil {
			return nil, fmt.Errorf("passphrase file: %w", err)
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return nil, fmt.Errorf("passphrase file: %w", err)
		}
		open := fs.FileMode(0o077)
		if dir := os.Getenv("CREDENTIALS_DIRECTORY"); dir != "" && filepath.Dir(s.File) == filepath.Clean(dir) {
			// systemd made it for this service alone. Where it lets the user read by an
			// access control list, the mode shows the list's mask as the group's bits.
			open = 0o037
		}
		if info.Mode().Perm()&open != 0 {
			return nil, fmt.Errorf("passphrase file %s has mode %04o: others could read it; chmod 600 it", s.File, info.Mode().Perm())
		}
		return firstLine(f)
	case s.Descriptor >= 0:
		f := os.NewFile(uintptr(s.Descriptor), "passphrase-fd")
		if f == nil {
			return nil, fmt.Errorf("descriptor %d is not open", s.Descriptor)
		}
		defer f.Close()
		return firstLine(f)
	}
	return Prompt(prompt, fresh)
}

func firstLine(r io.Reader) ([]byte, error) {
	line, err := bufio.NewReader(io.LimitReader(r, maxPassphrase+2)).ReadBytes('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read passphrase: %w", err)
	}
	line = bytes.TrimRight(line, "\r\n")
	switch {
	case len(line) == 0:
		return nil, errors.New("the passphrase is empty: its first line counts")
	case len(line) > maxPassphrase:
		return nil, fmt.Errorf("the passphrase is longer than %d bytes", maxPassphrase)
	}
	return line, nil
}

// Prompt asks for a secret on the terminal.
func Prompt(prompt string, fresh bool) ([]byte, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, errors.New("no terminal to ask for the passphrase: give --passphrase-file or --passphrase-fd")
	}
	defer tty.Close()
	ask := func(text string) ([]byte, error) {
		fmt.Fprint(tty, text)
		b, err := term.ReadPassword(int(tty.Fd()))
		fmt.Fprintln(tty)
		return b, err
	}
	first, err := ask(prompt + ": ")
	if err != nil {
		return nil, fmt.Errorf("read passphrase: %w", err)
	}
	if fresh {
		second, err := ask("again: ")
		if err != nil {
			return nil, fmt.Errorf("read passphrase: %w", err)
		}
		if string(first) != string(second) {
			return nil, errors.New("the two passphrases differ: nothing was made")
		}
	}
	if len(first) == 0 {
		return nil, errors.New("the passphrase is empty")
	}
	return first, nil
}

// Confirm asks for the given answer on the terminal, for what cannot be undone.
func Confirm(question, answer string) error {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return errors.New("no terminal to ask for confirmation: give it as a flag instead (see --help)")
	}
	defer tty.Close()
	fmt.Fprint(tty, question+" ")
	line, err := bufio.NewReader(tty).ReadString('\n')
	if err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	if strings.TrimSpace(line) != answer {
		return &ExitError{Code: Refused, Err: errors.New("not confirmed: nothing was done")}
	}
	return nil
}

// Version names the build: module version and revision where the build knows them.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	version, revision, modified := info.Main.Version, "", false
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			revision = s.Value
		case "vcs.modified":
			modified, _ = strconv.ParseBool(s.Value)
		}
	}
	if version == "" || version == "(devel)" {
		version = "devel"
	}
	if len(revision) >= 12 {
		version += "+" + revision[:12]
	}
	if modified {
		version += "-modified"
	}
	return version
}
