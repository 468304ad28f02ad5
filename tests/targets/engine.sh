#!/usr/bin/env bash
# Makes sure a Docker engine and Compose v2 answer; installs and starts them where it can. Safe to repeat and to race.
# images.sh sources this file for its functions.
set -euo pipefail

LOG=/var/log/dockerd.log

fail() { echo "${0##*/}: $*" >&2; exit 1; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }
engine_answers() { docker info >/dev/null 2>&1; }
compose_answers() { docker compose version >/dev/null 2>&1; }

# The lists of a fresh machine may be missing or old, but an update costs seconds: only when it is needed.
apt_install() {
  local install=(env DEBIAN_FRONTEND=noninteractive apt-get -qy -o DPkg::Lock::Timeout=300 --no-install-recommends install "$@")
  as_root "${install[@]}" || { as_root apt-get -qq update && as_root "${install[@]}"; }
}

# Prints where this machine gets Debian's packages from; nothing on other systems.
debian_mirror() { apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | head -n 1; }

# Prints the pid of the named program in our network namespace. An engine inside a container is not ours, and
# a second engine beside ours would delete the first one's bridge.
pid_here() {
  local pid
  for pid in $(pgrep -x "$1" || true); do
    if [ "$(as_root readlink "/proc/$pid/ns/net")" = "$(readlink /proc/self/ns/net)" ]; then echo "$pid" && return; fi
  done
  return 1
}

install_compose() {
  local package dir mirror
  for package in docker-compose-plugin docker-compose-v2 docker-compose; do
    case $(apt-cache show --no-all-versions "$package" 2>/dev/null | sed -n 's/^Version: //p') in
      "" | 1.*) ;; # not there, or the Python program of old
      *) apt_install "$package" && return ;;
    esac
  done
  # Debian 12 has only the old one, but Debian 13's is a single program that runs there: fetch that package with an
  # apt state of its own, so that the machine's package sources stay as they are.
  mirror=$(debian_mirror)
  [ -n "$mirror" ] || fail "install Docker Compose v2 (https://docs.docker.com/compose/install/linux/), then try again"
  dir=$(mktemp -d)
  (
    cd "$dir"
    mkdir -p lists/partial cache/archives/partial
    : >status
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" >sources.list
    cat >apt.conf <<CONF
Dir::Etc { SourceList "$dir/sources.list"; SourceParts "-"; };
Dir::State { Lists "$dir/lists"; Status "$dir/status"; };
Dir::Cache "$dir/cache";
APT::Sandbox::User "root";
CONF
    export APT_CONFIG=$dir/apt.conf
    apt-get -qq update
    apt-get -qq download docker-compose
    dpkg-deb -x docker-compose_*.deb unpacked
    as_root install -D -t /usr/local/lib/docker/cli-plugins "$(find unpacked -path '*cli-plugins/docker-compose')"
  )
  rm -rf "$dir"
}

# Waits until the engine answers; gives up early when its process has ended.
wait_for_engine() {
  local try
  for try in $(seq 300); do
    if as_root docker info >/dev/null 2>&1; then return; fi
    if [ "$try" -gt 10 ] && ! pid_here dockerd >/dev/null; then return 1; fi
    sleep 0.2
  done
  return 1
}

launch() {
  # --fork: the engine must outlive this shell's terminal and must not hold its caller's pipes open.
  as_root setsid --fork sh -c 'exec dockerd "$@" >>"$0" 2>&1 </dev/null' "$LOG" "$@" 9>&-
  wait_for_engine
}

start_engine() {
  if [ -d /run/systemd/system ]; then
    as_root systemctl start docker && wait_for_engine
    return
  fi
  if pid_here dockerd >/dev/null; then
    wait_for_engine
    return
  fi
  # What an unclean stop leaves behind: a pid file whose number may belong to another process by now, and the
  # socket of a dead containerd, for which dockerd would wait in vain.
  as_root rm -f /var/run/docker.pid
  pid_here containerd >/dev/null || as_root rm -f /run/containerd/containerd.sock /run/docker/containerd/containerd.pid
  if launch; then return; fi
  # Kernels without nftables, then file systems that overlayfs cannot use.
  if ! pid_here dockerd >/dev/null && ! as_root iptables -t nat -S >/dev/null 2>&1 &&
    as_root iptables-legacy -t nat -S >/dev/null 2>&1; then
    as_root update-alternatives --set iptables /usr/sbin/iptables-legacy
    if launch; then return; fi
  fi
  pid_here dockerd >/dev/null || launch --storage-driver=vfs
}

# Each server's systemd and its services hold about seven inotify instances, all of them root's; the kernel's default of
# 128 is used up by 18 servers, and the next ones do not boot. Raised where it may be, until the machine restarts.
allow_many_servers() {
  local limit=/proc/sys/fs/inotify/max_user_instances
  [ -e "$limit" ] && [ "$(cat "$limit")" -lt 1024 ] || return 0
  if as_root sh -c "echo 1024 >$limit" 2>/dev/null; then
    echo "${0##*/}: raised fs.inotify.max_user_instances to 1024 until the next restart" >&2
  fi
}

ensure_engine() {
  allow_many_servers
  if engine_answers && compose_answers; then return; fi
  [ -z "${DOCKER_HOST:-}" ] || engine_answers || fail "no Docker engine answers at DOCKER_HOST=$DOCKER_HOST"
  [ -e /etc/debian_version ] || fail "install and start Docker Engine with Compose v2 (https://docs.docker.com/engine/install/), then try again"
  as_root true 2>/dev/null || fail "start Docker with Compose v2, or run this as root or with sudo that asks for no password"

  # Callers may run in parallel: one of them does the work, the others find it done.
  exec 9>"${TMPDIR:-/tmp}/serverflow-engine-$(id -u).lock"
  flock 9
  if ! engine_answers && ! as_root docker info >/dev/null 2>&1; then
    command -v dockerd >/dev/null || apt_install docker.io
    command -v docker >/dev/null || apt_install docker-cli # a package of its own since Debian 13
    start_engine || fail "the Docker engine does not start: see $LOG or, under systemd, journalctl -u docker"
  fi
  engine_answers || fail "Docker runs, but you may not use it: sudo usermod -aG docker $(id -un), then log in again"
  compose_answers || install_compose
  compose_answers || fail "Docker Compose v2 does not work here: install it (https://docs.docker.com/compose/install/linux/)"
}

[ "${BASH_SOURCE[0]}" != "$0" ] || ensure_engine
