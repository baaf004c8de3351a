"""A tracking store that is migrated once, and a copy of it for each test."""

import shutil
from pathlib import Path

import pytest
from tracked_sweep import search_space

from sfd_sweep.config import SearchSpace
from sfd_sweep.tracking.store import Store


@pytest.fixture(scope="session")
def migrated_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its tables and nothing in it."""
    path = tmp_path_factory.mktemp("migrated") / "mlflow.db"
    Store.open(f"sqlite:///{path}", create=True)
    return path


@pytest.fixture
def tracking_uri(migrated_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store of the test's own, in its working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return f"sqlite:///{shutil.copy(migrated_database, tmp_path / 'mlflow.db')}"


@pytest.fixture
def space(tracking_uri: str) -> SearchSpace:
    """A small sweep that is recorded there."""
    return search_space(tracking_uri)
