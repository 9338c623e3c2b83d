#!/usr/bin/env bash
# golangci-lint in the version that tools/go.mod names, built once into .cache/bin.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
module=github.com/golangci/golangci-lint/v2
version=$(cd tools && go list -m -f '{{.Version}}' $module)
binary=$root/.cache/bin/golangci-lint-$version
if [ ! -x "$binary" ]; then
	echo "lint: building golangci-lint $version, about two minutes, once" >&2
	mkdir -p "$root/.cache/bin"
	(cd tools && CGO_ENABLED=0 go build -trimpath -o "$binary.part" $module/cmd/golangci-lint)
	mv "$binary.part" "$binary"
fi
export GOLANGCI_LINT_CACHE=$root/.cache/golangci
"$binary" run "$@"
# What only these tags compile.
"$binary" run --build-tags grpcnotrace,e2e,crashpoint,compose "$@" ./internal/crashpoint ./internal/crashtest ./cmd/coffer-demo
