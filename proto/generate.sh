#!/usr/bin/env bash
# Rebuilds the generated code from the .proto files; needs protoc 3.21 or newer.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
go build -o "$bin/protoc-gen-go" google.golang.org/protobuf/cmd/protoc-gen-go
go build -o "$bin/protoc-gen-go-grpc" google.golang.org/grpc/cmd/protoc-gen-go-grpc
PATH="$bin:$PATH" protoc -I proto --go_out=. --go_opt=module=coffer --go-grpc_out=. --go-grpc_opt=module=coffer proto/coffer/v1/*.proto
