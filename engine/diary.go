package engine

import (
	"bufio"
	"io"
	"regexp"
	"strings"
)

// diary is what is kept of a worker's stderr. The trace of a panic prints
// arguments in hex, and among them may be words of a share or a message: only the
// kind of the panic and the names of the functions on the stack are kept, and
// what harden says when it fails.
type diary struct {
	panic  string
	frames []string
	done   chan struct{} // closed when the process is gone
}

const (
	maxFrames   = 12
	maxDiaryRow = 1 << 10
)

var (
	traceFrame  = regexp.MustCompile(`^(?:created by )?([A-Za-z0-9_./\-]+(?:\.\(\*?[A-Za-z0-9_]+\))?[A-Za-z0-9_.]*)(?:\(| in goroutine)`)
	runtimeText = regexp.MustCompile(`^(panic: runtime error: (?:invalid memory address or nil pointer dereference|slice bounds out of range|index out of range|integer divide by zero)|fatal error: [a-z ]{1,60})`)
)

func (d *diary) read(stderr io.Reader) {
	in := bufio.NewReaderSize(stderr, maxDiaryRow)
	for {
		line, isPrefix, err := in.ReadLine()
		if err != nil {
			return
		}
		d.note(string(line))
		for isPrefix && err == nil { // the rest of a long line
			_, isPrefix, err = in.ReadLine()
		}
		clear(line)
	}
}

func (d *diary) note(line string) {
	switch {
	case strings.HasPrefix(line, hardenFailed) && d.panic == "":
		d.panic = line
	case strings.HasPrefix(line, "panic: "), strings.HasPrefix(line, "fatal error: "):
		if d.panic != "" {
			return
		}
		d.panic = "panic (text withheld)"
		if known := runtimeText.FindString(line); known != "" {
			d.panic = known
		}
	case d.panic != "" && len(d.frames) < maxFrames:
		if m := traceFrame.FindStringSubmatch(line); m != nil {
			d.frames = append(d.frames, m[1])
		}
	}
}
