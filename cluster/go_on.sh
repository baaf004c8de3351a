#!/usr/bin/env bash
# Run a sweep, or go on with it if it has begun: for schedulers that start a job again after a failure or a time limit.
#   go_on.sh FILE STORAGE NAME ADDRESS
set -euo pipefail
if [[ $# -ne 4 ]]; then
  echo "usage: go_on.sh FILE STORAGE NAME ADDRESS" >&2
  exit 2
fi
file=$1 storage=$2 name=$3 address=$4
if [[ -e "$storage/$name/config.yaml" ]]; then
  exec sfd-sweep resume "$name" --storage "$storage" --address "$address"
fi
exec sfd-sweep run "$file" --set "name=$name" --set "storage=$storage" --address "$address"
