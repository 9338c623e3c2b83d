package doctor

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"coffer/internal/datadir"
	pb "coffer/proto/coffer/v1"
)

// Report is a list of findings.
type Report struct{ Findings []*pb.Finding }

func (r *Report) add(level pb.Level, subject, text, remedy string) {
	r.Findings = append(r.Findings, &pb.Finding{Level: level, Subject: subject, Text: text, Remedy: remedy})
}

// OK says that all is well.
func (r *Report) OK(subject, format string, args ...any) {
	r.add(pb.Level_LEVEL_OK, subject, fmt.Sprintf(format, args...), "")
}

// Warn says what works, and will not for long or for all.
func (r *Report) Warn(subject, text, remedy string) {
	r.add(pb.Level_LEVEL_WARN, subject, text, remedy)
}

// Fail says what does not work now.
func (r *Report) Fail(subject, text, remedy string) {
	r.add(pb.Level_LEVEL_FAIL, subject, text, remedy)
}

// Failed says whether anything does not work.
func (r *Report) Failed() bool {
	for _, f := range r.Findings {
		if f.Level == pb.Level_LEVEL_FAIL {
			return true
		}
	}
	return false
}

// Print writes the findings for people, the remedies under them.
func Print(w io.Writer, findings []*pb.Finding, clean func(string) string) error {
	mark := map[pb.Level]string{pb.Level_LEVEL_OK: "ok  ", pb.Level_LEVEL_WARN: "WARN", pb.Level_LEVEL_FAIL: "FAIL"}
	wide := 0
	for _, f := range findings {
		wide = max(wide, len(f.Subject))
	}
	for _, f := range findings {
		if _, err := fmt.Fprintf(w, "%s  %-*s  %s\n", mark[f.Level], wide, clean(f.Subject), clean(f.Text)); err != nil {
			return err
		}
		if f.Remedy != "" {
			if _, err := fmt.Fprintf(w, "      %-*s  %s\n", wide, "", clean(f.Remedy)); err != nil {
				return err
			}
		}
	}
	return nil
}

// Level is the word for programs.
func Level(l pb.Level) string { return strings.ToLower(strings.TrimPrefix(l.String(), "LEVEL_")) }

// Room on the disk that is too little, and that is little.
const (
	noRoom     = 64 << 20
	littleRoom = 512 << 20
)

// Disk looks at the room left for a directory.
func (r *Report) Disk(dir string) {
	free, total, err := datadir.Space(dir)
	text := fmt.Sprintf("%d MiB of %d free for %s", free>>20, total>>20, dir)
	switch {
	case err != nil:
		r.Fail("disk", err.Error(), "look at the disk")
	case free < noRoom:
		r.Fail("disk", text, "make room: when a write fails, nothing goes on until a restart")
	case free < littleRoom:
		r.Warn("disk", text, "make room: what must be written before anything is signed soon cannot be")
	default:
		r.OK("disk", "%s", text)
	}
}

// Files looks at who else could read or change what is in a data directory. secret
// are the files that nobody but the owner may read.
func (r *Report) Files(dir string, secret ...string) {
	before := len(r.Findings)
	for _, path := range secret {
		r.file(path, 0o077, "others on this machine can read it")
	}
	count := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if count++; count > 10_000 {
			return errors.New("more than 10000 files")
		}
		if d.Type()&fs.ModeSymlink == 0 {
			r.file(path, 0o022, "others on this machine can change it")
		}
		return nil
	})
	if err != nil {
		r.Fail("files", err.Error(), "every file in the directory must be readable to the user that runs this")
	}
	if len(r.Findings) == before {
		r.OK("files", "%d files, nobody else's to read or change", count)
	}
}

func (r *Report) file(path string, mask fs.FileMode, why string) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return // who needs it says that it is missing
	}
	if err != nil {
		r.Fail("files", err.Error(), "make it readable to the user that runs this")
		return
	}
	if mode := info.Mode().Perm(); mode&mask != 0 {
		r.Fail("files", fmt.Sprintf("%s has mode %04o: %s", path, mode, why), fmt.Sprintf("chmod %04o %s", mode&^0o077, path))
	}
	if owner, ok := ownerOf(info); ok && owner != os.Geteuid() && owner != 0 {
		r.Fail("files", fmt.Sprintf("%s belongs to user %d, this runs as %d", path, owner, os.Geteuid()), "chown it")
	}
}

// Clock asks the kernel whether something keeps its clock right.
func (r *Report) Clock() {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	switch {
	case err != nil:
		r.Warn("clock", "the kernel does not say whether the clock is kept right: "+err.Error(), "look at chronyc tracking or timedatectl")
	case state == unix.TIME_ERROR || t.Status&unix.STA_UNSYNC != 0:
		r.Warn("clock", "nothing keeps this machine's clock right", "run chrony or systemd-timesyncd: times of approvals are judged by it")
	default:
		r.OK("clock", "kept right, error at most %d ms", t.Maxerror/1000)
	}
}

// Skew compares this machine's clock with another's. off is how far the other is ahead.
func (r *Report) Skew(subject string, off time.Duration) {
	text := fmt.Sprintf("its clock is %s %s of this one", off.Abs().Round(100*time.Millisecond), map[bool]string{true: "ahead", false: "behind"}[off > 0])
	const remedy = "find out which of the two is wrong, and run chrony or systemd-timesyncd there"
	switch {
	case off.Abs() > 30*time.Second:
		r.Fail(subject, text, remedy)
	case off.Abs() > 3*time.Second:
		r.Warn(subject, text, remedy)
	}
}

// Swap warns when memory can reach a disk.
func (r *Report) Swap() {
	raw, err := os.ReadFile("/proc/swaps")
	if err == nil && strings.Count(strings.TrimSpace(string(raw)), "\n") > 0 {
		r.Warn("swap", "memory with shares in it may be written to swap", "swapoff -a, encrypt the swap, or MemorySwapMax=0 in the unit")
	}
}

// Limits looks at what the process may open.
func (r *Report) Limits() {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err == nil && files.Cur < 1024 {
		r.Warn("limits", fmt.Sprintf("at most %d open files", files.Cur), "LimitNOFILE=65536 in the unit, or ulimit -n")
	}
}
