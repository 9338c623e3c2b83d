// Package libp2p is the real link between signers: go-libp2p over TCP and QUIC,
// secured by TLS or Noise under the identity keys that the charter names.
//
// It is put together from go-libp2p's swarm, upgrader and transports rather than from
// its ready-made host, so that what a signer does not need is not there to be attacked:
// no DHT, no discovery, no relay, no hole punching, no port mapping, no identify, no
// ping, no metrics endpoint. One protocol, /coffer/mesh/1, is spoken.
//
// Each ordered pair of parties has one long-lived stream, opened by the sender. It
// begins with a hello of each side (hello.go), which binds the cluster and the
// protocol's version; then come frames, each behind its length in four bytes, and
// beats, which are frames of length zero, in both directions. The receiver answers a
// beat with its number, how many frames it took, and the time: the sender knows the
// round trip and how the clocks differ, and writes again on the next connection what
// the one that broke had not delivered. A side that hears nothing for 1.8 seconds cuts the connection
// and tries again, after a pause that doubles up to five seconds, with jitter; a
// connection from the peer ends the pause.
//
// What a malicious caller can try:
//
//   - connect without being in the charter: the gater cuts it after the handshake has
//     proved its key and before any stream;
//   - hold half-open connections, or streams on which nothing comes: every step of
//     opening has a deadline, and the resource manager bounds connections and streams
//     in total, by address and by peer;
//   - claim to be another party: there is no sender in a frame;
//   - announce a large frame: over transport.MaxFrame the connection is cut before
//     a byte of it is kept;
//   - send and never read, or read slowly: queues are bounded, writes have deadlines,
//     and a peer's frames wait for this side's reader, never for another peer's.
package libp2p
