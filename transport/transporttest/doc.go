// Package transporttest holds every transport.Link to the promises of package
// transport. An implementation's test calls Run with a function that makes networks.
package transporttest
