#!/usr/bin/env bash
# Runs a command with a Docker daemon: the one that answers, or, for root without one, a
# daemon of its own that ends with the command. Usage: scripts/docker.sh COMMAND...
set -euo pipefail
[ $# -gt 0 ] || { echo "usage: scripts/docker.sh COMMAND..." >&2; exit 2; }
if docker info >/dev/null 2>&1; then exec "$@"; fi
if [ "$(id -u)" != 0 ] || ! command -v dockerd >/dev/null; then
	echo "docker: no Docker daemon answers, and only root with dockerd installed can start one" >&2
	exit 1
fi

work=$(mktemp -d)
# What the daemon would leave behind in the packet filter, unless another was there before.
policy=$(iptables -S FORWARD)
policy=${policy%%$'\n'*}
rules=$(iptables-save)
ours=true
case $rules in *DOCKER*) ours=false ;; esac
# Each step is tried whatever became of the one before, and the exit status stays.
finish() {
	local code=$?
	set +e +o pipefail
	kill "$pid" 2>/dev/null
	wait "$pid" 2>/dev/null
	if $ours; then
		if rules=$(iptables-save); then
			grep -v DOCKER <<<"$rules" | iptables-restore || echo "docker: the daemon's rules stay in the packet filter" >&2
		fi
		# shellcheck disable=SC2086 # "-P FORWARD ACCEPT" is three words
		iptables $policy || echo "docker: the packet filter's policy may not be what it was: $policy" >&2
	fi
	rm -rf "$work" || echo "docker: $work stays" >&2
	exit "$code"
}
# A session of its own: Ctrl-C ends the command, which still needs the daemon to clean up.
setsid dockerd --data-root "$work/data" --exec-root "$work/exec" --pidfile "$work/pid" \
	--host "unix://$work/docker.sock" --bridge none >"$work/log" 2>&1 &
pid=$!
trap finish EXIT
trap : INT TERM
export DOCKER_HOST=unix://$work/docker.sock
for _ in $(seq 150); do
	docker info >/dev/null 2>&1 && break
	kill -0 "$pid" 2>/dev/null || break
	sleep 0.2
done
docker info >/dev/null 2>&1 || { tail -20 "$work/log" >&2; echo "docker: the daemon did not start" >&2; exit 1; }

# In the background, so that a signal reaches the trap and the command both.
"$@" &
child=$!
trap 'kill -INT $child 2>/dev/null || true' INT TERM
code=0
while :; do
	code=0
	wait "$child" || code=$?
	kill -0 "$child" 2>/dev/null || break # a signal ended the waiting, not the command
done
exit "$code"
