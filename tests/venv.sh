#!/usr/bin/env bash
# Makes .venv with an editable sf and the given dependency groups, or brings it up to date: venv.sh [GROUP…]
# A stamp file for each group tells make whether there is anything to do. Safe to repeat and to race.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/targets/engine.sh" # fail, as_root, apt_install
cd "$here/.."

usable() { "$1" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
  local name
  for name in python3 python3.14 python3.13 python3.12 python3.11; do
    if usable "$name"; then echo "$name" && return; fi
  done
  return 1
}

# Debian keeps ensurepip in a package of its own.
install_python() { [ -e /etc/debian_version ] && as_root true 2>/dev/null && apt_install python3 python3-venv >&2; }

create() {
  local python
  python=$(find_python) || { install_python && python=$(find_python); } ||
    fail "sf needs Python 3.11 or newer with pip and venv; on Debian 12, Ubuntu 24.04 and later: apt install python3-venv"
  "$python" -m venv --clear .venv
}

mkdir -p .cache
exec 9>.cache/venv.lock
flock 9
log=.cache/venv.log
.venv/bin/python -c 'import pip' 2>/dev/null || create
for group in "${@:-dev}"; do
  stamp=.venv/$group.stamp
  [ ! "$stamp" -nt pyproject.toml ] || continue # another make has done it meanwhile
  echo "installing into .venv: sf and its dependency group '$group'"
  {
    .venv/bin/python -m pip install --disable-pip-version-check -q --upgrade 'pip>=25.1' && # knows --group
      .venv/bin/python -m pip install --disable-pip-version-check -q --editable . --group "$group"
  } >"$log" 2>&1 9>&- || { cat "$log" >&2 && fail "pip could not install what pyproject.toml asks for"; }
  touch "$stamp"
done
