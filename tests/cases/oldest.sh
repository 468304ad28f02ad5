#!/usr/bin/env bash
# Runs all cases on Debian 11's Python 3.9, and compiles there what servers run. The files go in through a pipe: the
# engine need not see this folder.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
tar -c --exclude __pycache__ remote src/serverflow_actions tests/cases |
  docker run --rm -i --network none --entrypoint sh serverflow-target:debian11 -ec '
    mkdir /tree && cd /tree && tar -x
    python3 -m compileall -q remote src
    exec python3 tests/cases/oldest.py'
