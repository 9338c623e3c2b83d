// Package nearest finds the known word that a mistyped one was probably meant to be:
// a command, a key of a settings file.
package nearest
