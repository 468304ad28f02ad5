#!/usr/bin/env bash
# The completions are tested in the shells that they are for: make sure that zsh and fish are there.
set -euo pipefail

missing=()
for shell in zsh fish; do
    command -v "$shell" >/dev/null || missing+=("$shell")
done
((${#missing[@]})) || exit 0

if command -v apt-get >/dev/null; then
    as_root=()
    [ "$(id -u)" -eq 0 ] || as_root=(sudo -n)
    "${as_root[@]}" apt-get -qq update && "${as_root[@]}" apt-get -qqy install --no-install-recommends "${missing[@]}" >/dev/null && exit 0
fi
echo "tests/shells.sh: install ${missing[*]} to test the completions in them" >&2
# On a desk those tests are skipped then; where they are counted on, that is a failure.
[ -z "${CI:-}" ]
