#!/usr/bin/env bash
# Starts one server of each kind and leaves them running, to try things out by hand. down.sh removes them.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
state=${here%/tests/targets}/.cache/targets
project=serverflow-targets

"$here/engine.sh"
"$here/images.sh"
mkdir -p "$state"
[ -e "$state/id_ed25519" ] || ssh-keygen -q -t ed25519 -N '' -C admin -f "$state/id_ed25519"
SF_ADMIN_KEY=$(cat "$state/id_ed25519.pub") docker compose --progress quiet -f "$here/docker-compose.yml" -p "$project" up -d --no-build

: >"$state/known_hosts"
for name in web1 db1 old1 new1; do
  container=$project-$name-1
  until docker exec "$container" systemctl is-system-running --wait 2>/dev/null | grep -qE '^(running|degraded)'; do sleep 0.1; done
  port=$(docker port "$container" 22)
  port=${port##*:}
  key=$(docker exec "$container" cut -d ' ' -f 1,2 /etc/ssh/ssh_host_ed25519_key.pub)
  echo "[127.0.0.1]:$port $key" >>"$state/known_hosts"
  fingerprint=$(ssh-keygen -lf - <<<"$key" | cut -d ' ' -f 2)
  echo "$name"
  echo "  ssh -i $state/id_ed25519 -o UserKnownHostsFile=$state/known_hosts -p $port root@127.0.0.1"
  echo "  sf server add $name root@127.0.0.1:$port -i $state/id_ed25519 --fingerprint $fingerprint"
done
