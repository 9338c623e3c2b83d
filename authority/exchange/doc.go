// Package exchange brings two holders of authority records to hold the same.
//
// In: what the other side handed over or asked for. Out: what it lacks. Neither side
// believes the other anything: a record is taken by what is signed in it, and what the
// other says that it holds only decides what is worth sending.
//
// What a malicious peer can try: records without end, or larger than any, or far too many
// references (bounded before anything is parsed); the same over and over (nothing that was
// said is said again until it changes); records in an order in which none can be taken
// (they are tried again while one of them is); to keep records to itself (whoever lacks
// them asks somebody else: it is never the only one to ask).
package exchange
