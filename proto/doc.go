// Package proto holds the wire services of coffer; the generated code is in
// coffer/v1. `make generate` rebuilds it.
//
// Fields named raw, verdict and unsigned_tx are canonical bytes: they, and never
// their protobuf envelope, are what was signed. Enum value zero is never sent.
package proto
