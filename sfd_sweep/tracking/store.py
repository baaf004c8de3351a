"""Access to the MLflow tracking store: its URI, whether it responds, and its runs."""

import os
import socket
import sqlite3
import ssl
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from errno import ENOSPC
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES
from mlflow.exceptions import MlflowException
from mlflow.store.entities import PagedList
from mlflow.store.tracking import DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from PIL import UnidentifiedImageError
from requests.exceptions import HTTPError as RequestRefused
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from sfd_sweep.errors import UserError
from sfd_sweep.storage.credentials import without_credentials
from sfd_sweep.tracking.schema import SWEEP_KIND, Tag

DEFAULT_URI = "sqlite:///mlflow.db"
SQLITE = "sqlite:///"
ANSWER_SECONDS = 5.0


def resolve_uri(uri: str | None) -> str:
    """Return the tracking URI: the given one, else MLFLOW_TRACKING_URI, else SQLite in the working folder.

    The path of an SQLite file is made absolute, because worker processes have other working folders.
    """
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
    return f"{SQLITE}{Path(uri.removeprefix(SQLITE)).expanduser().resolve()}" if uri.startswith(SQLITE) else uri


def check_answers(uri: str | None) -> None:
    """Check that a tracking server or database server responds; an SQLite file is not checked.

    Raises:
        UserError: the server is unreachable.
    """
    uri = resolve_uri(uri)
    if not uri.startswith(SQLITE):
        _check_reachable(uri, create=False)


def accepts_unauthenticated(uri: str) -> bool:
    """Return whether a tracking server lists its experiments without credentials."""
    if not uri.startswith(("http://", "https://")):
        return False
    url = f"{without_credentials(uri).rstrip('/')}/api/2.0/mlflow/experiments/search?max_results=1"
    try:
        urlopen(url, timeout=ANSWER_SECONDS).close()
    except OSError:  # includes HTTPError
        return False
    return True


@dataclass(frozen=True)
class Store:
    """A reachable MLflow tracking store.

    Attributes:
        client: its client; usable from any thread.
        uri: its URI with credentials.
    """

    client: MlflowClient
    uri: str

    @classmethod
    def open(cls, uri: str | None = None, *, create: bool = False) -> "Store":
        """Return the store once it responds, which takes seconds.

        Args:
            uri: see `resolve_uri`.
            create: whether to create a missing SQLite file and migrate the database.

        Raises:
            UserError: the store is missing, unreachable, unreadable or of an unknown kind.
        """
        uri = resolve_uri(uri)
        with mlflow_errors(uri):
            if create and uri.startswith(SQLITE):
                _create_sqlite(Path(uri.removeprefix(SQLITE)))
            _check_reachable(uri, create)
            store = cls(MlflowClient(uri), uri)
            store.client.search_experiments(max_results=1)
        return store

    @property
    def place(self) -> str:
        """The URI without credentials, for messages and files."""
        return without_credentials(self.uri)

    def sweep_runs(self) -> list[Run]:
        """Return the parent run of every sweep in the store, the newest first."""
        experiments = _every_page(lambda token: self.client.search_experiments(page_token=token))
        ids = [experiment.experiment_id for experiment in experiments]
        return self._search(ids, f"tags.`{Tag.KIND}` = '{SWEEP_KIND}'") if ids else []

    def trial_runs(self, sweep: Run) -> list[Run]:
        """Return the child runs of a sweep, the newest first."""
        return self._search([sweep.info.experiment_id], f"tags.`mlflow.parentRunId` = '{sweep.info.run_id}'")

    def _search(self, experiments: list[str], condition: str) -> list[Run]:
        return _every_page(
            lambda token: self.client.search_runs(experiments, condition, max_results=1000, page_token=token)
        )


def model_uri(run: Run) -> str | None:
    """Return the URI of the last MLflow model logged on a run."""
    logged = run.outputs.model_outputs if run.outputs else []
    return f"models:/{logged[-1].model_id}" if logged else None


def _every_page(fetch: Callable[[str | None], PagedList]) -> list[Any]:
    page = fetch(None)
    found = list(page)
    while page.token:
        page = fetch(page.token)
        found += page
    return found


@contextmanager
def mlflow_errors(uri: str) -> Iterator[None]:
    """Convert an error of MLflow or its database into a UserError of one line."""
    try:
        yield
    except (MlflowException, SQLAlchemyError, ImportError, OSError) as error:
        raise UserError(
            f"MLflow at {without_credentials(uri)} failed: {one_line(error)} "
            "(`tracking.uri` in the search-space file or MLFLOW_TRACKING_URI sets the address)"
        ) from error


def is_temporary(error: BaseException) -> bool:
    """Return whether an error of a store is temporary: unreachable or overloaded, but not a full disk."""
    if isinstance(error, UserError) and error.__cause__:
        error = error.__cause__
    if "disk is full" in str(error) or isinstance(error, UnidentifiedImageError):
        return False
    if isinstance(error, MlflowException):
        status = error.get_http_status_code()
    elif isinstance(error, RequestRefused) and error.response is not None:
        status = error.response.status_code
    else:
        return isinstance(error, (SQLAlchemyError, OSError)) and getattr(error, "errno", None) != ENOSPC
    return bool(status >= 500 or status == 429)


@contextmanager
def one_request() -> Iterator[None]:
    """Keep MLflow's client from repeating the block's requests.

    A request that creates something may take effect and be answered with an error; whoever repeats it must look first.
    """
    name = MLFLOW_HTTP_REQUEST_MAX_RETRIES.name
    before = os.environ.get(name)
    os.environ[name] = "0"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def one_line(error: BaseException) -> str:
    """Return the first line of an error's message, without credentials."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return without_credentials(lines[0].strip())[:500]


def _check_reachable(uri: str, create: bool) -> None:
    """Fail within seconds where MLflow would retry for minutes.

    A server passes with any HTTP status below 500 and any certificate: MLflow sends the credentials and checks the
    certificate later.
    """
    if uri.startswith(SQLITE):
        _check_sqlite(Path(uri.removeprefix(SQLITE)), create)
        return
    try:
        if uri.startswith(("http://", "https://")):
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            health = f"{without_credentials(uri).rstrip('/')}/health"
            urlopen(health, timeout=ANSWER_SECONDS, context=context).close()
        else:
            place = make_url(uri)
            if place.host and place.port:
                socket.create_connection((place.host, place.port), timeout=ANSWER_SECONDS).close()
    except (OSError, HTTPException, ValueError, ArgumentError) as error:
        if isinstance(error, HTTPError) and error.code < 500:
            return
        raise UserError(
            f"the tracking server {without_credentials(uri)} is unreachable ({one_line(error)}): start it, or set "
            "tracking.uri or MLFLOW_TRACKING_URI to another"
        ) from error


def _create_sqlite(path: Path) -> None:
    """Create the database and its tables if there is none.

    MLflow takes seconds for the tables, and cannot continue what another process has begun. So one process at a time
    makes them under another name, and the database appears whole.
    """
    lock, part = path.with_name(f"{path.name}.lock"), path.with_name(f"{path.name}.part")
    if _has_content(path) or not path.parent.is_dir():
        return
    with FileLock(lock):
        if not _has_content(path):
            part.unlink(missing_ok=True)
            SqlAlchemyStore(f"{SQLITE}{part}", DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH).engine.dispose()
            part.replace(path)
        lock.unlink(missing_ok=True)  # whoever holds it still, or makes it anew, finds the database


def _has_content(path: Path) -> bool:
    return path.exists() and (not path.is_file() or path.stat().st_size > 0)


def _check_sqlite(path: Path, create: bool) -> None:
    if not create and not path.is_file():
        raise UserError(
            f"no tracking database at {path}: run a sweep first, change to its folder, or set MLFLOW_TRACKING_URI"
        )
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode={'rwc' if create else 'ro'}", uri=True)) as database:
            database.execute("BEGIN IMMEDIATE" if create else "BEGIN")
            database.execute("SELECT count(*) FROM sqlite_master")
    except sqlite3.Error as error:
        raise UserError(
            f"the tracking database {path} cannot be {'written' if create else 'read'}: {error}. Repair or "
            "move the file, or set tracking.uri to another"
        ) from error
