package audit

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"coffer/identity"
)

// A checkpoint is a signed note whose text is the origin, the size in decimal and the
// root in base64, one a line (the tlog-checkpoint format that witnesses read).
func formatCheckpoint(origin string, tree tlog.Tree) string {
	return fmt.Sprintf("%s\n%d\n%s\n", origin, tree.N, tree.Hash)
}

func parseCheckpoint(text string) (origin string, tree tlog.Tree, err error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 4 || lines[3] != "" || lines[0] == "" {
		return "", tlog.Tree{}, fmt.Errorf("checkpoint has not three lines")
	}
	n, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || n < 0 {
		return "", tlog.Tree{}, fmt.Errorf("checkpoint's size is malformed")
	}
	root, err := tlog.ParseHash(lines[2])
	if err != nil {
		return "", tlog.Tree{}, fmt.Errorf("checkpoint's root is malformed")
	}
	tree = tlog.Tree{N: n, Hash: root}
	// One text per tree: signs, leading zeros and loose base64 are refused.
	if formatCheckpoint(lines[0], tree) != text {
		return "", tlog.Tree{}, fmt.Errorf("checkpoint is not in its canonical form")
	}
	return lines[0], tree, nil
}

// signer is the identity as x/mod's note sees it.
type signer struct {
	key      *identity.Key
	verifier note.Verifier
}

func newSigner(key *identity.Key, origin string) (*signer, error) {
	v, err := verifier(key.ID(), origin)
	if err != nil {
		return nil, err
	}
	return &signer{key, v}, nil
}

func (s *signer) Name() string                    { return s.verifier.Name() }
func (s *signer) KeyHash() uint32                 { return s.verifier.KeyHash() }
func (s *signer) Sign(msg []byte) ([]byte, error) { return s.key.Sign(msg), nil }

func verifier(peer identity.ID, origin string) (note.Verifier, error) {
	pub, err := peer.PublicKey()
	if err != nil {
		return nil, err
	}
	text, err := note.NewEd25519VerifierKey(origin, pub)
	if err != nil {
		return nil, fmt.Errorf("audit log's origin %q: %w", origin, err)
	}
	v, err := note.NewVerifier(text)
	if err != nil {
		return nil, fmt.Errorf("audit log's origin %q: %w", origin, err)
	}
	return v, nil
}

// maxNote leaves room for the signatures of witnesses.
const maxNote = 16 << 10

// OpenCheckpoint verifies a checkpoint's signature by peer and returns its tree.
// Further signatures, of witnesses, are left to those who know the witnesses.
func OpenCheckpoint(raw []byte, peer identity.ID, origin string) (tlog.Tree, error) {
	if len(raw) > maxNote {
		return tlog.Tree{}, fmt.Errorf("checkpoint has %d bytes, at most %d", len(raw), maxNote)
	}
	v, err := verifier(peer, origin)
	if err != nil {
		return tlog.Tree{}, err
	}
	n, err := note.Open(raw, note.VerifierList(v))
	if err != nil {
		return tlog.Tree{}, fmt.Errorf("checkpoint: %w", err)
	}
	got, tree, err := parseCheckpoint(n.Text)
	if err != nil {
		return tlog.Tree{}, err
	}
	if got != origin {
		return tlog.Tree{}, fmt.Errorf("checkpoint is of %q, want %q", got, origin)
	}
	return tree, nil
}

// exactNote reports whether raw is, byte for byte, a note as this package writes it:
// base64 that decodes loosely would let bits change unnoticed.
func exactNote(raw []byte, peer identity.ID, origin string) bool {
	v, err := verifier(peer, origin)
	if err != nil {
		return false
	}
	n, err := note.Open(raw, note.VerifierList(v))
	if err != nil || len(n.Sigs) != 1 || len(n.UnverifiedSigs) != 0 {
		return false
	}
	if _, err := base64.StdEncoding.Strict().DecodeString(n.Sigs[0].Base64); err != nil {
		return false
	}
	return fmt.Sprintf("%s\n— %s %s\n", n.Text, n.Sigs[0].Name, n.Sigs[0].Base64) == string(raw)
}
