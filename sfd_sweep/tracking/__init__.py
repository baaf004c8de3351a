"""The sweep in MLflow: one writer in the driver, the reader behind every look at a sweep, pictures and models.

MLflow's own chatter, its progress bars and its usage reports are off unless the environment says otherwise; MLflow
reads these variables when it is first imported, which is after this package. A server that is away for a moment is
tried again for about half a minute.
"""

import os

_VALUES = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "4",
}
DEFAULTED = frozenset(_VALUES) - frozenset(os.environ)
"""The variables that the user leaves to this package."""

os.environ.update({name: _VALUES[name] for name in DEFAULTED})
