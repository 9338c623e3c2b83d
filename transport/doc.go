// Package transport is the link between signers: frames of bytes from one party to
// another, with the sender's name proved by its key.
//
// What a Link promises: Frame.From is the party whose identity key the other side
// proved, whatever the bytes say. Both sides own their bytes: Send copies, and a
// delivered frame is aliased by nobody. Frames of one ordered pair arrive in order
// while a connection lasts. Every queue is bounded, and Send never waits for the
// network.
//
// What it does not promise: that a frame arrives, or arrives once. A frame may be lost
// when a queue is full, or the peer is away for long or started anew, and may come twice
// around a reconnect. A session lives with that: it drops equal copies, ends by its
// deadline, and is tried again under a new ID.
//
// A peer that is gone is known within two seconds, though it took no leave: its process
// was stopped, or the network swallows what is sent.
//
// What a malicious peer can try: claim another sender (there is no sender in the
// bytes), send frames without end or never read (bounded queues, back-pressure,
// deadlines), open and say nothing (deadlines), send an oversize frame (the connection
// is cut). Whoever is not in the charter is cut after the handshake, before any frame.
//
// transport/libp2p is the real one, transport/memnet a network in memory with seeded
// faults; transport/transporttest holds both to the promises above.
package transport
