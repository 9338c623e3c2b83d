// Package crashtest ends real processes of a cluster at every place that
// internal/crashpoint marks, stops them, and fills and damages their disks. The
// processes are this test binary, which runs the product's own node and coordinator
// over real sockets and files; only the engine is the fake one, so that a payment
// takes a tenth of a second. The test with kill -9 runs the real programs.
//
// All of it is behind build tags; this file is not, so that go vet finds a package.
package crashtest
