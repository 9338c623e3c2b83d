package authority

import (
	"errors"
	"fmt"
)

// Codes of refused records, docs/errors.md.
const (
	CodeMalformed       = "RECORD_MALFORMED" // not a canonical record, or one that says nothing sound
	CodeSignature       = "RECORD_SIGNATURE" // nobody who may decide about it signed it
	CodeCluster         = "RECORD_CLUSTER"   // made for another cluster
	CodeLimit           = "RECORD_LIMIT"     // its author has too many
	CodeExpired         = "RECORD_EXPIRED"   // nobody may sign it any more, or what was signed is over
	CodeFuture          = "RECORD_FUTURE"    // issued later than now
	CodeCharterInvalid  = "CHARTER_INVALID"  // the version breaks a rule for charters or their succession
	CodeCharterStale    = "CHARTER_STALE"    // its number is not the next, and it is none that was in force
	CodeCharterGap      = "CHARTER_GAP"      // it stands on a version that is not known here
	CodeCharterFork     = "CHARTER_FORK"     // another version of that number is in force
	CodeCharterCard     = "CHARTER_CARD"     // a new key without proof of possession
	CodeListUnknown     = "LIST_UNKNOWN"     // the charter has no such list, or leaves it to nobody
	CodeListStale       = "LIST_STALE"       // a higher version is in force
	CodeListFork        = "LIST_FORK"        // another version of that number is in force
	CodeFreezeLimit     = "FREEZE_LIMIT"     // its author froze so much that all is frozen already
	CodeFreezeLifted    = "FREEZE_LIFTED"    // an unfreeze named it
	CodeUnfreezeExpired = "UNFREEZE_EXPIRED" // its time is over
)

// Refusal says why a record, or what is new in it, was not taken.
type Refusal struct {
	Code string
	Text string
	err  error
}

func (r *Refusal) Error() string { return r.Code + ": " + r.Text }
func (r *Refusal) Unwrap() error { return r.err }

func refuse(code, format string, args ...any) *Refusal {
	err := fmt.Errorf(format, args...)
	return &Refusal{Code: code, Text: err.Error(), err: err}
}

// CodeOf is the code of a refusal, and empty for another error.
func CodeOf(err error) string {
	var r *Refusal
	if errors.As(err, &r) {
		return r.Code
	}
	return ""
}
