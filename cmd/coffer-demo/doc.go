// Command coffer-demo plays a whole cluster on one machine.
package main
