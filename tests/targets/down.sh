#!/usr/bin/env bash
# Removes the servers that up.sh started; those of test runs carry another owner and stay.
set -euo pipefail

label=serverflow.tests=up
docker ps -aq --filter "label=$label" | xargs -r docker rm -f -v >/dev/null
docker network ls -q --filter "label=$label" | xargs -r docker network rm >/dev/null
