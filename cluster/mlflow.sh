#!/usr/bin/env bash
# MLflow's tracking server, with passwords. Its settings come from the environment; no default is open to others.
#   MLFLOW_BACKEND_STORE_URI      runs: postgresql://… or sqlite:////path/mlflow.db
#   MLFLOW_AUTH_DATABASE_URI      users: the same kind; it may be the same database
#   MLFLOW_ARTIFACTS_DESTINATION  pictures and models: s3://bucket/path, or a folder
#   MLFLOW_AUTH_ADMIN_USERNAME, MLFLOW_AUTH_ADMIN_PASSWORD (12 characters at least), MLFLOW_FLASK_SERVER_SECRET_KEY
#   MLFLOW_HOST (127.0.0.1), MLFLOW_PORT (5000), MLFLOW_WORKERS (processes: 2), and MLFLOW_SERVER_ALLOWED_HOSTS, if
#   clients call it by another name
set -euo pipefail
: "${MLFLOW_BACKEND_STORE_URI:?storage of runs}" "${MLFLOW_AUTH_DATABASE_URI:?storage of users}"
: "${MLFLOW_ARTIFACTS_DESTINATION:?storage of pictures and models}"
: "${MLFLOW_AUTH_ADMIN_USERNAME:?the name of the first user}" "${MLFLOW_AUTH_ADMIN_PASSWORD:?the password of the first user}"
: "${MLFLOW_FLASK_SERVER_SECRET_KEY:?random; the same for every server of one database}"

# MLflow reads the users' database from a file only. The file holds a password, so nobody else may read it.
umask 077
settings="$(mktemp -d)/basic_auth.ini"
cat > "$settings" <<END
[mlflow]
default_permission = NO_PERMISSIONS
database_uri = ${MLFLOW_AUTH_DATABASE_URI//%/%%}
# Checking a password takes a tenth of a second by design, so a correct one is cached for a minute.
auth_cache_ttl_seconds = 60
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
END
export MLFLOW_AUTH_CONFIG_PATH="$settings"
unset MLFLOW_AUTH_DATABASE_URI

exec "${PYTHON:-python3}" -m mlflow server --app-name basic-auth \
  --host "${MLFLOW_HOST:-127.0.0.1}" --port "${MLFLOW_PORT:-5000}" --workers "${MLFLOW_WORKERS:-2}" \
  --artifacts-destination "$MLFLOW_ARTIFACTS_DESTINATION"
