#!/usr/bin/env bash
# The way from nothing to a verified receipt, on a server that lives only for this: a container with systemd and sshd.
# Everything happens in a temporary HOME; containers, network and folder are removed at the end, also after Ctrl-C.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
checkout=$(cd "$here/../.." && pwd)
owner=demo-$$          # in the label of the test servers: a demo beside this one, and the tests, leave ours alone
project=serverflow-$owner
server=$project-web1-1 # the container's name
folder=
count=0
typed=() # what a person would type

# --- telling ---------------------------------------------------------------------------------------------------------

step() {
  finish
  count=$((count + 1))
  printf '\n%d. %s\n' "$count" "$1"
  began=$EPOCHREALTIME
}

finish() { [ "$count" = 0 ] || awk -v from="$began" -v to="$EPOCHREALTIME" 'BEGIN { printf "   (%.1f s)\n", to - from }'; }

# Shows a command as a person would type it, and runs exactly that.
run() {
  printf '   $ %s\n' "$1"
  bash -c "$1" </dev/null 2>&1 | sed -u 's/^/     /'
}

sf() {
  typed+=("sf $1")
  run "sf $1"
}

# Runs what has nothing to show unless it fails.
quietly() { "$@" >"$folder/log" 2>&1 </dev/null || { cat "$folder/log" >&2 && return 1; }; }

# --- the server ------------------------------------------------------------------------------------------------------

compose() { docker compose --progress quiet -f "$checkout/tests/targets/docker-compose.yml" -p "$project" "$@"; }

remove_all() { # of the owner given
  docker ps -aq --filter "label=serverflow.tests=$1" | xargs -r docker rm -f -v >/dev/null
  docker network ls -q --filter "label=serverflow.tests=$1" | xargs -r docker network rm >/dev/null
}

# A demo that was killed outright could not clean up.
remove_leftovers() {
  local label
  for label in $(docker ps -a --filter label=serverflow.tests --format '{{.Label "serverflow.tests"}}' | sort -u); do
    case $label in demo-*) kill -0 "${label#demo-}" 2>/dev/null || remove_all "$label" ;; esac
  done
}

start_server() {
  local try
  SF_ADMIN_KEY=$(cat "$HOME/.ssh/id_ed25519.pub")
  export SF_ADMIN_KEY SF_OWNER=$owner SF_PORT_WEB1=0
  for try in 1 2 3 4 5; do # another project may have the same network
    SF_NET=10.213.$((RANDOM % 254 + 1)) compose up -d --no-build web1 && return
  done
  return 1
}

booted() { docker exec "$server" systemctl is-system-running --wait 2>/dev/null | grep -qE '^(running|degraded)'; }
main_process() { docker exec "$server" systemctl show -P MainPID redis-server@cache; }

clean_up() {
  local status=$?
  trap - EXIT
  trap '' INT TERM HUP # once is enough
  if [ "$status" != 0 ] && docker inspect "$server" >/dev/null 2>&1; then
    printf '\nThe demo failed. The last lines of the server'\''s journal:\n' >&2
    docker exec "$server" journalctl --no-pager -n 30 >&2 || true
  fi
  if command -v docker >/dev/null && docker info >/dev/null 2>&1; then remove_all "$owner"; fi
  [ -z "$folder" ] || rm -rf "$folder"
  exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# --- the demo --------------------------------------------------------------------------------------------------------

folder=$(mktemp -d)
mkdir -m 700 "$folder/home" "$folder/home/.ssh"
docker_home=$HOME # the engine's own settings stay in force
echo "ServerFlow: a signed action on a throwaway server. Nothing of yours is touched."

step "A Docker engine, and an image of a Debian 12 server (made once, a minute or two)"
quietly "$checkout/tests/targets/engine.sh"
quietly "$checkout/tests/targets/images.sh" debian12
remove_leftovers

step "A server, as a provider would hand it over: sshd, and your SSH key for root"
export DOCKER_CONFIG=${DOCKER_CONFIG:-$docker_home/.docker} HOME=$folder/home PATH=$checkout/.venv/bin:$PATH
unset SF_FLEET SF_KEY SF_KEY_FILE SF_SSH_KEY_FILE SF_SEAL_KEY SF_ROOT SSH_AUTH_SOCK \
  XDG_CONFIG_HOME XDG_DATA_HOME XDG_STATE_HOME XDG_CACHE_HOME
cd "$HOME"
ssh-keygen -q -t ed25519 -N '' -C you -f .ssh/id_ed25519
quietly start_server
until booted; do sleep 0.1; done
port=$(docker port "$server" 22)
port=${port##*:}
# What the provider's console shows: it does not come over the network that SSH goes over.
fingerprint=$(docker exec "$server" ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub | cut -d ' ' -f 2)
echo "     root@127.0.0.1:$port, host key $fingerprint"

step "A fleet: a folder for git, and keys that sign"
sf "init fleet --name you --key ~/.ssh/id_ed25519"
cd fleet
typed+=("cd fleet")

step "Enrol the server. From here on its sf login takes signed commands and nothing else"
sf "server add web1 root@127.0.0.1:$port -i ~/.ssh/id_ed25519 --role app --fingerprint $fingerprint"

step "A signed read"
sf "system info --on all"

step "A signed change: what it would do, then the change itself"
sf "redis create cache --on @app --max-memory 64MiB --plan"
sf "redis create cache --on @app --max-memory 64MiB --yes"
echo "   Without sf, on the server:"
run "docker exec $server redis-cli ping"

step "The receipt, signed by the server and verified here"
sf "op list"
op=$(command sf --json op list | python -c 'import json, sys; print(json.load(sys.stdin)["data"]["ops"][0]["op"])')
sf "op status $op"
sf "audit verify"

step "A command that someone changes on its way: one byte, after it was signed"
identity=$(docker exec "$server" cut -d ' ' -f 1,2 /var/lib/serverflow/identity.pub)
echo "[127.0.0.1]:$port $(docker exec "$server" cut -d ' ' -f 1,2 /etc/ssh/ssh_host_ed25519_key.pub)" >"$folder/known_hosts"
tamper() {
  # The login has no home folder, which its shell tells each time.
  python "$here/tamper.py" "$port" "$HOME/.ssh/id_ed25519" "$folder/known_hosts" "$identity" "$@" \
    2> >(grep -v '^Could not chdir' >&2) | sed 's/^/     /'
}
before=$(main_process)
tamper --flip
after=$(main_process)
[ "$before" = "$after" ] || { echo "the refused command has run: redis was restarted" >&2 && exit 1; }
echo "     redis-server@cache is still process $after: nothing ran"
tamper
after=$(main_process)
[ "$before" != "$after" ] || { echo "the untouched command has not run" >&2 && exit 1; }
echo "     redis-server@cache is process $after now: the same command, untouched, did run"
finish

printf '\nThe same with a server of your own, sf being .venv/bin/sf or what `pip install .` gives you:\n\n'
printf '  %s\n' "${typed[@]}" | sed -e "s/127\.0\.0\.1:$port/203.0.113.7/" -e 's|SHA256:[^ ]*|SHA256:…|' -e "s/$op/OP/"
printf '\nRemoving the server and the temporary folder.\n'
