// Package access says who may read and hand in what at a coordinator.
//
// A Grant is a short-lived message by which a person or a service of the charter lets
// one TLS key speak for it. Whoever steals it needs that key as well, and gains only
// what can be read: whatever changes anything is signed by itself. Guard verifies
// grants for a server, under the charter in force at each call, so that removing
// somebody from the charter is all that it takes. Source makes and keeps them for a
// client.
package access
