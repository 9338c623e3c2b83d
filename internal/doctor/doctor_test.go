package doctor_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"coffer/internal/doctor"
	pb "coffer/proto/coffer/v1"
)

func find(r *doctor.Report, level pb.Level, part string) bool {
	for _, f := range r.Findings {
		if f.Level == level && strings.Contains(f.Text+"\n"+f.Remedy, part) {
			return true
		}
	}
	return false
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	key, plain := filepath.Join(dir, "identity.key"), filepath.Join(dir, "charter.json")
	for path, mode := range map[string]os.FileMode{key: 0o600, plain: 0o644} {
		if err := os.WriteFile(path, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	look := func() *doctor.Report {
		r := new(doctor.Report)
		r.Files(dir, key, filepath.Join(dir, "absent"))
		return r
	}
	if r := look(); r.Failed() || !find(r, pb.Level_LEVEL_OK, "3 files") {
		t.Errorf("%v", r.Findings)
	}
	for _, c := range []struct {
		path string
		mode os.FileMode
		want string
	}{{key, 0o640, "chmod 0600 " + key}, {plain, 0o666, "chmod 0600 " + plain}, {dir, 0o770, "chmod 0700 " + dir}} {
		info, err := os.Stat(c.path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(c.path, c.mode); err != nil {
			t.Fatal(err)
		}
		if r := look(); !r.Failed() || !find(r, pb.Level_LEVEL_FAIL, c.want) {
			t.Errorf("%s: %v", c.want, r.Findings)
		}
		if err := os.Chmod(c.path, info.Mode()); err != nil {
			t.Fatal(err)
		}
	}
	if r := new(doctor.Report); true {
		r.Files(filepath.Join(dir, "nowhere"))
		if !r.Failed() {
			t.Error("a directory that is not there is well")
		}
	}
}

func TestDisk(t *testing.T) {
	r := new(doctor.Report)
	r.Disk(t.TempDir())
	if len(r.Findings) != 1 || r.Findings[0].Subject != "disk" {
		t.Errorf("%v", r.Findings)
	}
	r.Disk("/nowhere")
	if !r.Failed() {
		t.Error("a disk that is not there is well")
	}
}

func TestSkew(t *testing.T) {
	for off, want := range map[time.Duration]pb.Level{
		0: pb.Level_LEVEL_UNSPECIFIED, time.Second: pb.Level_LEVEL_UNSPECIFIED, -5 * time.Second: pb.Level_LEVEL_WARN, time.Minute: pb.Level_LEVEL_FAIL, -time.Hour: pb.Level_LEVEL_FAIL,
	} {
		r := new(doctor.Report)
		r.Skew("peer b", off)
		switch {
		case want == pb.Level_LEVEL_UNSPECIFIED && len(r.Findings) > 0, want != pb.Level_LEVEL_UNSPECIFIED && (len(r.Findings) != 1 || r.Findings[0].Level != want):
			t.Errorf("%s: %v, want %s", off, r.Findings, want)
		}
	}
}

func TestPrint(t *testing.T) {
	r := new(doctor.Report)
	r.OK("disk", "much")
	r.Warn("peer b", "away\x1b[2J", "look there")
	var out bytes.Buffer
	if err := doctor.Print(&out, r.Findings, func(s string) string { return strings.ReplaceAll(s, "\x1b", "?") }); err != nil {
		t.Fatal(err)
	}
	if want := "ok    disk    much\nWARN  peer b  away?[2J\n              look there\n"; out.String() != want {
		t.Errorf("printed\n%s", out.String())
	}
	if doctor.Level(pb.Level_LEVEL_WARN) != "warn" {
		t.Error(doctor.Level(pb.Level_LEVEL_WARN))
	}
}
