package audit

import (
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"coffer/identity"
)

// SignForTest makes a checkpoint of any tree.
func SignForTest(key *identity.Key, origin string, tree tlog.Tree) ([]byte, error) {
	s, err := newSigner(key, origin)
	if err != nil {
		return nil, err
	}
	return note.Sign(&note.Note{Text: formatCheckpoint(origin, tree)}, s)
}

// Folder and File let tests replace the disk.
type (
	Folder = folder
	File   = file
)

// OpenIn and VerifyIn are Open and Verify on another disk.
func OpenIn(dir Folder, key *identity.Key, origin string) (*Log, error) {
	return open(dir, key, origin, 0)
}

// VerifyIn verifies on another disk.
func VerifyIn(dir Folder) (*Report, error) { return verify(dir, nil) }

// EncodeForTest is an event's canonical encoding.
func EncodeForTest(index int64, e Event) []byte { return e.encode(index) }

// Disk is the folder that Open uses.
func Disk(dir string) Folder { return diskFolder(dir) }

// ParseCheckpointForTest and FormatCheckpointForTest are the codec of a checkpoint's text.
var (
	ParseCheckpointForTest  = parseCheckpoint
	FormatCheckpointForTest = formatCheckpoint
)
