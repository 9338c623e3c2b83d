// Package browser drives Chromium for tests: one tab with an authenticator in software.
//
// It is for tests tagged e2e, which fail where there is no Chromium rather than prove
// nothing in silence; scripts/needs.sh installs it. No binary links this package.
package browser
