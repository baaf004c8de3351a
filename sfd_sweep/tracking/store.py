"""Reaching the MLflow store: where it is, whether it answers, and what is in it."""

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

from mlflow import MlflowClient
from mlflow.entities import Experiment, Run
from mlflow.exceptions import MlflowException
from mlflow.store.entities import PagedList
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
    """The tracking URI that holds: the given one, else MLFLOW_TRACKING_URI, else SQLite in the working folder.

    The path of an SQLite file comes back absolute, so that it means the same file wherever the process goes.
    """
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
    return f"{SQLITE}{Path(uri.removeprefix(SQLITE)).expanduser().resolve()}" if uri.startswith(SQLITE) else uri


def check_answers(uri: str | None) -> None:
    """Whether a tracking server or database server answers; a database in a file is not looked at.

    Args:
        uri: see `resolve_uri`.

    Raises:
        UserError: it is away.
    """
    uri = resolve_uri(uri)
    if not uri.startswith(SQLITE):
        _check_reachable(uri, create=False)


def answers_strangers(uri: str) -> bool:
    """Whether a tracking server shows its experiments to whoever asks, without credentials.

    Args:
        uri: of a store that is reachable.
    """
    if not uri.startswith(("http://", "https://")):
        return False
    url = f"{without_credentials(uri).rstrip('/')}/api/2.0/mlflow/experiments/search?max_results=1"
    try:
        urlopen(url, timeout=ANSWER_SECONDS).close()
    except OSError:  # among them the refusal, an HTTPError
        return False
    return True


@dataclass(frozen=True)
class Store:
    """An MLflow tracking store that has answered.

    Attributes:
        client: speaks to it; usable from any thread.
        uri: where it is, with credentials.
    """

    client: MlflowClient
    uri: str

    @classmethod
    def open(cls, uri: str | None = None, *, create: bool = False) -> "Store":
        """Reach the store within seconds, and create or migrate its database if that is asked for.

        Args:
            uri: see `resolve_uri`.
            create: whether an SQLite file that is not there is made; its tables take some seconds.

        Raises:
            UserError: the store is away, unreadable, of an unknown kind, or not there.
        """
        uri = resolve_uri(uri)
        _check_reachable(uri, create)
        with refusals_of(uri):
            store = cls(MlflowClient(uri), uri)
            store.client.search_experiments(max_results=1)
        return store

    @property
    def place(self) -> str:
        """Where the store is, in words that may be shown and kept."""
        return without_credentials(self.uri)

    def sweep_runs(self) -> list[Run]:
        """The parent run of every sweep in the store, the newest first."""
        experiments = [experiment.experiment_id for experiment in self._experiments()]
        if not experiments:
            return []
        return self._search(experiments, f"tags.`{Tag.KIND}` = '{SWEEP_KIND}'")

    def trial_runs(self, sweep: Run) -> list[Run]:
        """The child runs of a sweep, the newest first."""
        return self._search([sweep.info.experiment_id], f"tags.`mlflow.parentRunId` = '{sweep.info.run_id}'")

    def _experiments(self) -> list[Experiment]:
        return _every_page(lambda token: self.client.search_experiments(page_token=token))

    def _search(self, experiments: list[str], condition: str) -> list[Run]:
        return _every_page(
            lambda token: self.client.search_runs(experiments, condition, max_results=1000, page_token=token)
        )


def model_uri(run: Run) -> str | None:
    """The URI of the MLflow model that was logged last on a run."""
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
def refusals_of(uri: str) -> Iterator[None]:
    """Turn what MLflow or its database raises into one line for the user.

    Raises:
        UserError: the store refuses what the block asks for.
    """
    try:
        yield
    except (MlflowException, SQLAlchemyError, ImportError, OSError) as error:
        raise UserError(
            f"MLflow at {without_credentials(uri)} refuses: {one_line(error)} "
            "(`tracking.uri` in the search-space file or MLFLOW_TRACKING_URI says where it is)"
        ) from error


def may_pass(error: BaseException) -> bool:
    """Whether what a store has raised passes by itself: it is away or overloaded. A full disk does not."""
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


def one_line(error: BaseException) -> str:
    """The first line of an error's message, without credentials."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return without_credentials(lines[0].strip())[:500]


def _check_reachable(uri: str, create: bool) -> None:
    """Fail within seconds where MLflow would try again for minutes."""
    if uri.startswith(SQLITE):
        _check_sqlite(Path(uri.removeprefix(SQLITE)), create)
    elif uri.startswith(("http://", "https://")):
        _check_server(uri)
    else:
        _check_database(uri)


def _check_sqlite(path: Path, create: bool) -> None:
    if not create and not path.is_file():
        raise UserError(
            f"there is no tracking database {path}: run a sweep first, go to the folder where one ran, "
            "or set MLFLOW_TRACKING_URI"
        )
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode={'rwc' if create else 'ro'}", uri=True)) as database:
            database.execute("BEGIN IMMEDIATE" if create else "BEGIN")
            database.execute("SELECT count(*) FROM sqlite_master")
    except sqlite3.Error as error:
        raise UserError(
            f"the tracking database {path} cannot be {'written' if create else 'read'}: {error}. Mend or move the "
            "file, or name another under tracking.uri"
        ) from error


def _check_server(uri: str) -> None:
    """Any answer will do, whoever has signed it: MLflow sends its credentials later, and checks certificates then."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        urlopen(f"{without_credentials(uri).rstrip('/')}/health", timeout=ANSWER_SECONDS, context=context).close()
    except HTTPError as error:
        if error.code >= 500:
            raise _away(uri, f"it answers {error.code}") from error
    except (OSError, HTTPException, ValueError) as error:
        raise _away(uri, one_line(error)) from error


def _check_database(uri: str) -> None:
    try:
        place = make_url(uri)
        if place.host and place.port:
            socket.create_connection((place.host, place.port), timeout=ANSWER_SECONDS).close()
    except (OSError, ArgumentError) as error:
        raise _away(uri, one_line(error)) from error


def _away(uri: str, reason: str) -> UserError:
    return UserError(
        f"the tracking server {without_credentials(uri)} is away ({reason}): start it, or name another under "
        "tracking.uri or MLFLOW_TRACKING_URI"
    )
