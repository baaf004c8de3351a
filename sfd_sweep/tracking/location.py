"""Where a sweep's folder is, given its name."""

from pathlib import Path

from sfd_sweep.errors import UserError
from sfd_sweep.storage.folder import below
from sfd_sweep.tracking.reader import find_sweep
from sfd_sweep.trial.files import CONFIG

DEFAULT_STORAGE = Path("runs")


def locate(name: str, *, storage: str | None = None, uri: str | None = None) -> str:
    """The folder of a sweep: below the storage, if that is given; else where MLflow has recorded it; else below `runs`.

    Args:
        storage: a path or a URI.
        uri: of the tracking store; None: MLFLOW_TRACKING_URI, else SQLite in the working folder.

    Raises:
        UserError: there is no record of the sweep, and it is not below `runs` either.
    """
    if storage is not None:
        return below(storage, name)
    try:
        return find_sweep(uri, name).storage
    except UserError as error:
        here = DEFAULT_STORAGE / name
        if not (here / CONFIG).is_file():
            raise UserError(f"{error} (nor is it in {here}; --storage says where else)") from error
        return str(here)
