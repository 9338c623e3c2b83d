//go:build crashpoint

package crashpoint

import (
	"bufio"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// Enabled says that this build is for tests alone.
const Enabled = true

// Env names the folder with the orders.
const Env = "COFFER_CRASHPOINT"

var state struct {
	sync.Mutex
	order string // the line in "armed" that count belongs to
	count int
	full  bool // the disk is full, for ever
}

// Hit passes a place: it may be the last that this process does.
func Hit(name string) { _ = hit(name) }

// Write passes a place right before a write, and answers what the write would on a
// full disk if a test ordered that.
func Write(name string) error {
	if hit(name) {
		return &fs.PathError{Op: "write", Path: name, Err: syscall.ENOSPC}
	}
	return nil
}

func hit(name string) (full bool) {
	dir := os.Getenv(Env)
	if dir == "" {
		return false
	}
	name = label(name)
	state.Lock()
	defer state.Unlock()
	note(filepath.Join(dir, "seen"), name)
	armed := filepath.Join(dir, "armed")
	raw, err := os.ReadFile(armed)
	if err != nil {
		return state.full
	}
	order, _, _ := strings.Cut(string(raw), "\n")
	words := strings.Fields(order)
	if len(words) != 3 || words[1] != name {
		return state.full
	}
	if order != state.order {
		state.order, state.count = order, 0
	}
	state.count++
	if strconv.Itoa(state.count) != words[2] {
		return state.full
	}
	if err := os.Rename(armed, filepath.Join(dir, "fired")); err != nil {
		fmt.Fprintln(os.Stderr, "crash point:", err)
	}
	switch words[0] {
	case "kill":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // the signal takes a moment, in which nothing more may happen here
	case "stop":
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	case "full":
		state.full = true
	}
	return state.full
}

// label adds the function of this module that came to the place, from outside of the
// package that it is in: one place in a store stands for many writes.
func label(name string) string {
	var pcs [64]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(4, pcs[:])])
	home := ""
	for {
		f, more := frames.Next()
		switch pkg := packageOf(f.Function); {
		case home == "":
			home = pkg
		case pkg != home && strings.HasPrefix(pkg, "coffer/") && !strings.HasPrefix(pkg, "coffer/proto/"):
			return name + "@" + strings.TrimPrefix(f.Function, "coffer/")
		}
		if !more {
			return name
		}
	}
}

// packageOf is the import path in a function's full name.
func packageOf(function string) string {
	slash := strings.LastIndex(function, "/")
	if dot := strings.Index(function[slash+1:], "."); dot >= 0 {
		return function[:slash+1+dot]
	}
	return function
}

func note(path, name string) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return // nobody records
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	fmt.Fprintln(w, name)
	_ = w.Flush()
}
