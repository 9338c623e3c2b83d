#!/usr/bin/env bash
# Fails when `make generate` changes anything: what is committed is what the
# sources say. The protoc version line differs between systems and is ignored.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sums() {
	git ls-files -z --cached --others --exclude-standard | sort -z |
		while IFS= read -r -d '' f; do
			[ -f "$f" ] && printf '%s  %s\n' "$(grep -av '^//.*protoc  *v[0-9]' "$f" | sha256sum | cut -c1-64)" "$f"
		done
}
sums >"$work/before"
make --no-print-directory generate
sums >"$work/after"
if ! diff "$work/before" "$work/after"; then
	echo "generated: the files above are not current; commit what \`make generate\` writes" >&2
	exit 1
fi
