// Command coffer is for people: initiators, approvers and treasury staff. It signs
// with the user's own key, verifies what the coordinator shows it against its own
// pinned charter, and decodes every intent itself.
package main
