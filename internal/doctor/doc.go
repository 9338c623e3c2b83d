// Package doctor collects what is well and what is not with a signer or a coordinator,
// and what to do about it. What both look at, files, disk and the machine, it looks at
// itself.
package doctor
