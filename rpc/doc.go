// Package rpc is gRPC over TLS 1.3 with keys pinned by the charter, and over Unix
// sockets for a daemon's own operator.
//
// A server is made with the table of methods that may be called. It refuses to start
// when a served method is missing from the table or the table names one that is not
// served: who may call what is written down once, and cannot drift from the code.
//
// What a caller can try: another key, no certificate, an older TLS, plaintext; huge
// or endless messages; connections that say nothing; as another user of the machine,
// the operator's socket.
package rpc
