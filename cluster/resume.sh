#!/usr/bin/env bash
# Resume a sweep, or start it if it does not exist: for schedulers that restart a job after a failure or a time limit.
#   resume.sh FILE STORAGE NAME ADDRESS
set -euo pipefail
if [[ $# -ne 4 ]]; then
  echo "usage: resume.sh FILE STORAGE NAME ADDRESS" >&2
  exit 2
fi
file=$1 storage=$2 name=$3 address=$4
exists='import sys
from sfd_sweep.storage.folder import Folder
sys.exit(not (Folder.open(sys.argv[1]) / sys.argv[2]).has("config.yaml"))'
if python3 -c "$exists" "$storage" "$name"; then
  exec sfd-sweep resume "$name" --storage "$storage" --address "$address"
fi
exec sfd-sweep run "$file" --set "name=$name" --set "storage=$storage" --address "$address"
