#!/usr/bin/env bash
# Makes the images of the test servers: images.sh [debian11] [debian12] [debian13] (default: all).
# An image remembers the recipe (this file) that it was made with; only a changed recipe makes it anew.
set -euo pipefail
shopt -s inherit_errexit
source "$(dirname "${BASH_SOURCE[0]}")/engine.sh"

IMAGE=serverflow-target
LABEL=serverflow.recipe
RECIPE=$(sha256sum <"${BASH_SOURCE[0]}" | cut -d ' ' -f 1)
declare -A SUITES=([debian11]=bullseye [debian12]=bookworm [debian13]=trixie)

image_is_current() { [ "$(docker image inspect -f "{{index .Config.Labels \"$LABEL\"}}" "$IMAGE:$1" 2>/dev/null)" = "$RECIPE" ]; }

# Runs as root inside the base system.
provision() {
  cat <<'PROVISION'
set -eu
export DEBIAN_FRONTEND=noninteractive
printf 'force-unsafe-io\n' >/etc/dpkg/dpkg.cfg.d/fast # throwaway servers: installing need not survive a power cut
printf 'Acquire::Languages "none";\n' >/etc/apt/apt.conf.d/fast
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d # no service starts while this runs
chmod +x /usr/sbin/policy-rc.d

apt-get -q update
apt-get -qy --no-install-recommends install \
  systemd systemd-sysv openssh-server cron dbus sudo python3 iproute2 procps ca-certificates tzdata curl

# What the tests install comes from a repository on the server's own disk: quick, and no network can spoil it.
# The network's repository stays: any other package needs `apt-get update` first, as on a fresh server.
mkdir -p /srv/aptrepo/partial
apt-get -qy --download-only -o Dir::Cache::Archives=/srv/aptrepo install redis-server htop tree nftables acl attr nginx-light \
  postfix libfaketime pdns-server pdns-backend-sqlite3 bind9-dnsutils sqlite3 certbot pebble
# Of Debian 11 nginx-light cannot limit rates, and does not go with the nginx that can.
apt-get -qy --download-only -o Dir::Cache::Archives=/srv/aptrepo install nginx
cd /srv/aptrepo
rm -rf partial lock
for deb in *.deb; do
  dpkg-deb -f "$deb"
  printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' "$deb" "$(stat -c %s "$deb")" "$(sha256sum "$deb" | cut -d ' ' -f 1)"
done >Packages
printf 'Date: %s\nSHA256:\n %s %s Packages\n' "$(LC_ALL=C date -u '+%a, %d %b %Y %T UTC')" \
  "$(sha256sum Packages | cut -d ' ' -f 1)" "$(stat -c %s Packages)" >Release
cd /
# apt prefers what it reads first, so the local repository is named to come first.
[ ! -s /etc/apt/sources.list ] || mv /etc/apt/sources.list /etc/apt/sources.list.d/debian.list
echo 'deb [trusted=yes] file:/srv/aptrepo ./' >/etc/apt/sources.list.d/00-local.list
apt-get clean
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin
apt-get -q -o Dir::Etc::SourceList=/etc/apt/sources.list.d/00-local.list -o Dir::Etc::SourceParts=- update

# Two ways to become root: `admin` without a password, `pwadmin` with one.
useradd -m -s /bin/bash admin
useradd -m -s /bin/bash pwadmin
printf 'pwadmin:testpw\n' | chpasswd
printf 'admin ALL=(ALL:ALL) NOPASSWD: ALL\npwadmin ALL=(ALL:ALL) ALL\n' >/etc/sudoers.d/test-admins
chmod 440 /etc/sudoers.d/test-admins

# Timers and terminals that only cost boot time or stir at the wrong moment.
systemctl mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service \
  fstrim.timer getty.target systemd-timesyncd.service systemd-udevd.service
systemctl set-default multi-user.target

cat >/sbin/target-init <<'INIT'
#!/bin/sh
# systemd hands mounts down to its services (LoadCredential=, ProtectSystem=); Docker's private mounts let none through.
mount --make-rshared /
# A server's first start. It has host keys of its own and keeps them over reboots, so the image holds none.
if [ ! -e /etc/ssh/ssh_host_ed25519_key ]; then
  for type in ecdsa ed25519; do
    ssh-keygen -q -t "$type" -N '' -C "root@$(hostname)" -f "/etc/ssh/ssh_host_${type}_key"
  done
  for user in root admin pwadmin; do
    dir=$(getent passwd "$user" | cut -d : -f 6)/.ssh
    install -d -m 700 -o "$user" -g "$user" "$dir"
    printf '%s\n' "${ADMIN_KEY:-}" | install -m 600 -o "$user" -g "$user" /dev/stdin "$dir/authorized_keys"
  done
fi
# Services do not see this environment, so apt must be told of the host's proxy.
[ -z "${http_proxy:-}" ] || echo "Acquire::http::Proxy \"$http_proxy\";" >/etc/apt/apt.conf.d/proxy
exec /sbin/init
INIT
chmod +x /sbin/target-init
rm -f /usr/sbin/policy-rc.d /etc/ssh/ssh_host_* /var/log/*.log /var/log/apt/*
: >/etc/machine-id # empty: each server makes its own, and would take D-Bus's if there were one
rm -f /var/lib/dbus/machine-id
PROVISION
}

# Prints the name of an image with the bare system: Docker Hub's where it can be had, else made from packages.
base_image() {
  local suite=$1 hub=debian:$1-slim own=serverflow-base:$1 mirror
  local -a mirrors=()
  if docker image inspect "$hub" >/dev/null 2>&1 || timeout 10 docker pull -q "$hub" >&2; then
    echo "$hub"
    return
  fi
  if ! docker image inspect "$own" >/dev/null 2>&1; then
    if ! command -v mmdebstrap >/dev/null; then
      command -v apt-get >/dev/null || fail "neither Docker Hub nor mmdebstrap can be had: install mmdebstrap"
      apt_install mmdebstrap debian-archive-keyring >&2
    fi
    mirror=$(command -v apt-get >/dev/null && debian_mirror) || true
    [ -z "$mirror" ] || mirrors=("$mirror") # else mmdebstrap knows where Debian is
    as_root mmdebstrap --variant=minbase --aptopt='Acquire::Languages "none"' --dpkgopt=force-unsafe-io \
      "$suite" - "${mirrors[@]}" | docker import - "$own" >&2
  fi
  echo "$own"
}

build() {
  local release=$1 base container
  exec 9>"${TMPDIR:-/tmp}/$IMAGE-$release-$(id -u).lock" # two callers must not build the same image twice
  flock 9
  if image_is_current "$release"; then return; fi
  base=$(base_image "${SUITES[$release]}")
  container=$(docker create -i --stop-signal SIGRTMIN+3 "$base" sh)
  # shellcheck disable=SC2064 # expanded now: the variable is gone when the trap runs
  trap "docker rm -f $container >/dev/null" EXIT
  # The proxy goes in by hand: as an option of `docker create` it would stay in the image.
  { [ -z "${http_proxy:-}" ] || printf 'export http_proxy=%q\n' "$http_proxy"; provision; } | docker start -ai "$container"
  docker commit --change "LABEL $LABEL=$RECIPE" --change 'ENV container=docker' \
    --change 'ENTRYPOINT ["/sbin/target-init"]' --change 'CMD []' "$container" "$IMAGE:$release"
}

[ $# -gt 0 ] || set -- debian11 debian12 debian13
missing=()
for release; do
  [ -n "${SUITES[$release]:-}" ] || fail "no such release: $release (known: ${!SUITES[*]})"
  image_is_current "$release" || missing+=("$release")
done
[ ${#missing[@]} -gt 0 ] || exit 0
engine_answers || fail "no Docker engine answers: run engine.sh first"

# Releases are built side by side; what one of them says is shown only when it fails.
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
declare -A builds=()
for release in "${missing[@]}"; do
  (build "$release") >"$logs/$release" 2>&1 &
  builds[$release]=$!
done
status=0
for release in "${missing[@]}"; do
  if wait "${builds[$release]}"; then
    echo "$IMAGE:$release is ready"
  else
    tail -n 30 "$logs/$release" >&2
    echo "$IMAGE:$release could not be made" >&2
    status=1
  fi
done
# What the new ones replace. Another checkout may be at it at this moment.
docker image prune -f --filter "label=$LABEL" >/dev/null 2>&1 || true
exit "$status"
