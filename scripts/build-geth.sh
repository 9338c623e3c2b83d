#!/bin/sh
# Builds go-ethereum's own geth, the chain client that none of our code wrote, for the
# tests of build tag "geth". Usage: scripts/build-geth.sh [DIR]
# Puts the binary at DIR/geth-VERSION/geth (DIR: .cache of the repository) and prints that
# path; a binary that is there already is kept. Needs Go and its module proxy only. Takes
# some minutes the first time.
set -eu

version=v1.17.8 # the newest whose command the module proxy serves
dir=${1:-$(dirname "$0")/../.cache}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
out=$dir/geth-$version/geth

if [ ! -x "$out" ]; then
	# A module of its own: geth needs more modules than coffer does, and none of them
	# belongs in our go.mod. The checksum database vouches for all.
	scratch=$(mktemp -d "$dir/build.XXXXXX")
	trap 'rm -rf "$scratch"' EXIT
	trap 'exit 1' INT TERM HUP
	echo "building geth $version, once, into $dir" >&2
	cd "$scratch"
	go mod init geth.invalid/build >&2
	GOFLAGS=-mod=mod go get "github.com/ethereum/go-ethereum/cmd/geth@$version" >&2
	GOFLAGS=-mod=mod go build -trimpath -o geth github.com/ethereum/go-ethereum/cmd/geth >&2
	mkdir -p "$dir/geth-$version"
	# Moved when complete: an interrupted build leaves no binary that looks done.
	mv geth "$out"
fi
echo "$out"
