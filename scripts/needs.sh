#!/usr/bin/env bash
# What the tests use beside Go: ssh-keygen and ssh-agent (signatures that OpenSSH
# made), a C compiler (the race detector), Chromium (the page on which people approve);
# by name what only some need: protoc, docker.
# Installs them with apt when root may.
set -euo pipefail
want=()
command -v ssh-keygen >/dev/null && command -v ssh-agent >/dev/null || want+=(openssh-client)
command -v gcc >/dev/null || want+=(gcc libc6-dev)
command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || want+=(chromium)
for extra in "$@"; do
	case $extra in
	protoc) command -v protoc >/dev/null || want+=(protobuf-compiler) ;;
	docker)
		docker info >/dev/null 2>&1 || command -v dockerd >/dev/null || want+=(docker.io)
		command -v docker-compose >/dev/null || docker compose version >/dev/null 2>&1 || want+=(docker-compose)
		;;
	*) echo "needs: nothing known of $extra" >&2 && exit 2 ;;
	esac
done
[ ${#want[@]} -gt 0 ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	echo "needs: install ${want[*]} (Debian's names) and run again" >&2
	exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${want[@]}"
