// Package cli is how all programs of coffer talk: results to stdout, talk to
// stderr, JSON when asked, and exit codes that scripts can rely on.
package cli
