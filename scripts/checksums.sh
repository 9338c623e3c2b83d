#!/usr/bin/env bash
# Refuses to go on when the environment lets modules in that the checksum database
# has not seen: a wallet is built from exactly the code that go.sum names.
set -euo pipefail
cd "$(dirname "$0")/.."
bad=0
refuse() { echo "checksums: $1; unset it, or coffer is built from code that nobody vouches for" >&2; bad=1; }
for name in GONOSUMDB GONOSUMCHECK GOINSECURE GOPRIVATE; do
	# go env does not know GONOSUMCHECK on every version; the environment does.
	value=${!name:-$(go env "$name" 2>/dev/null || true)}
	[ -z "$value" ] || refuse "$name is set to \"$value\""
done
case " $(go env GOFLAGS) ${GOFLAGS:-} " in *" -insecure"*) refuse "GOFLAGS contains -insecure" ;; esac
[ "$(go env GOSUMDB)" != off ] || refuse "GOSUMDB is off"
exit "$bad"
