// Package observe is what an operator watches a daemon by: Prometheus metrics and
// the questions "alive?" and "ready?" on a loopback address, and traces that are sent
// to a collector.
//
// Nothing here decides anything, and nothing that is published is secret: numbers,
// codes of docs/errors.md, names from the charter, and the IDs of intents in traces.
// Any user of the machine may ask, and a page in a browser on it may try to: the
// server answers GET only, to names of this machine only, to few at a time.
package observe
