// Package crashpoint marks the places where a test ends, stops or starves a process:
// before and after every write and every send. In goes the name of a place; nothing
// comes out, and without the build tag crashpoint nothing is compiled in: the functions
// are empty and no binary that people run knows of any of it.
//
// With the tag, COFFER_CRASHPOINT names a folder. The first line of its file "armed",
// ACTION NAME N, has the process do ACTION when it comes to the place NAME for the Nth
// time: kill (SIGKILL to itself), stop (SIGSTOP), or full (every write from here on fails
// as on a full disk). The file is then renamed "fired". While the folder has a file "seen", each place is
// appended to it with the function that came there, so that a test finds out what there is.
package crashpoint
