// Command generate writes the files of internal/testkeys/testdata anew: it
// searches the pre-parameters that are missing there and runs a key generation of
// three parties. A minute per two sets; the wallet changes each time.
package main
