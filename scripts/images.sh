#!/usr/bin/env bash
# The images that docker-compose.yml runs, from the programs in bin/. Nothing is pulled:
# they are FROM scratch. Usage: scripts/images.sh [BIN]
set -euo pipefail
cd "$(dirname "$0")/.."
bin=${1:-bin}
docker info >/dev/null 2>&1 || { echo "images: no Docker daemon answers; start one, or run this through scripts/docker.sh" >&2; exit 1; }
# The context holds what goes into the images and the empty folders that git cannot hold.
context=$(mktemp -d)
trap 'rm -rf "$context" "$context.log"' EXIT
mkdir -p "$context"/data "$context"/cluster/{coordinator,signers/{a,b,c},passphrases/{a,b,c},people/{alice,bob,carol,dave}}
for program in coffer coffer-signer coffer-coordinator coffer-demo; do
	[ -x "$bin/$program" ] || { echo "images: $bin/$program is missing; run make build" >&2; exit 1; }
	cp "$bin/$program" "$context/"
done
for target in signer coordinator people demo; do
	# The classic builder is in every Docker; buildx is not, and nothing here needs it.
	DOCKER_BUILDKIT=0 docker build --file Dockerfile --target "$target" --tag "coffer/$target:local" "$context" >"$context.log" 2>&1 ||
		{ cat "$context.log" >&2; exit 1; }
	docker image inspect --format "image coffer/$target:local  {{.Size}} bytes" "coffer/$target:local"
done
