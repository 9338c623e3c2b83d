#!/usr/bin/env bash
# Runs every fuzz target of the tree for a while (as timeout(1) reads it): scripts/fuzz.sh 3s [PACKAGE-DIR...]
# Each package is compiled once. A failing input is written to the package's
# testdata/fuzz and becomes a test when it is committed.
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:?"usage: scripts/fuzz.sh TIME [PACKAGE-DIR...]"}
shift
root=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cache=$root/.cache/fuzz
mkdir -p "$cache"
[ $# -gt 0 ] || set -- .
targets=0 failed=()
# fuzz runs one target. An interrupt ends it, not -test.fuzztime: before Go 1.27 a target
# whose time is over may fail with "context deadline exceeded" (golang/go#75804). Its time
# begins when it fuzzes: some seeds take seconds to make, and before that an interrupt
# would end it as failed.
fuzz() {
	: >"$work/log"
	(cd "$1" && exec "$work/fuzz.test" -test.run='^$' -test.fuzz="^$2\$" \
		-test.fuzzminimizetime=5s -test.fuzzcachedir="$cache/$1") >"$work/log" 2>&1 &
	local pid=$! status=0
	until grep -q '^fuzz: elapsed' "$work/log" || ! kill -0 "$pid" 2>/dev/null; do
		sleep 0.1
	done
	timeout "$time" tail --pid="$pid" -f /dev/null || kill -INT "$pid" 2>/dev/null || true
	timeout 60 tail --pid="$pid" -f /dev/null || kill -KILL "$pid" 2>/dev/null || true
	wait "$pid" || status=$?
	return "$status"
}
for dir in $(grep -rl --include='*_test.go' '^func Fuzz' "$@" | xargs -r -n1 dirname | sort -u); do
	case $dir in */testdata/*) continue ;; esac
	go test -c -vet=off -tags grpcnotrace -fuzz=. -o "$work/fuzz.test" "./$dir"
	for target in $(cat "$dir"/*_test.go | sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' | sort -u); do
		targets=$((targets + 1))
		mkdir -p "$cache/$dir"
		if fuzz "$dir" "$target"; then
			printf 'fuzz %-40s %s\n' "$dir.$target" "$(grep -o 'execs: [0-9]*' "$work/log" | tail -1)"
		else
			cat "$work/log" >&2
			failed+=("$dir.$target")
		fi
	done
done
[ "$targets" -gt 0 ] || { echo "fuzz: no targets found" >&2; exit 1; }
[ ${#failed[@]} -eq 0 ] || { echo "fuzz: failed: ${failed[*]}" >&2; exit 1; }
echo "fuzz: $targets targets, $time each"
