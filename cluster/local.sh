#!/usr/bin/env bash
# A Ray head on this machine for `sfd-sweep run … --address auto`. It asks for a token, which is generated once and stored
# in ~/.ray/auth_token; machines that join need the same file.
#   cluster/local.sh start    start it (and print how to add more machines)
#   cluster/local.sh stop     stop it
set -euo pipefail
ray="${RAY:-$(dirname "$0")/../.venv/bin/ray}"
case "${1:-}" in
  start)
    export RAY_AUTH_MODE=token
    "$ray" get-auth-token --generate > /dev/null
    # Ray cleans up placement groups through the dashboard, so it must run; it listens on the loopback address.
    "$ray" start --head --dashboard-host=127.0.0.1 --disable-usage-stats
    ;;
  stop)
    "$ray" stop
    ;;
  *)
    echo "usage: cluster/local.sh start|stop" >&2
    exit 2
    ;;
esac
