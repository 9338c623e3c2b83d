package coordinator

import "go.etcd.io/bbolt"

// Break has a write of the store fail, as on a bad disk.
func Break(c *Coordinator) error {
	if err := c.db.Close(); err != nil {
		return err
	}
	_ = c.items.writer.Do(func(*bbolt.Tx) error { return nil }) // it fails: that is the point
	return c.audit.Failed()
}
