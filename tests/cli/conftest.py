"""Commands in this process, and a recorded sweep."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from recorded_sweep import record_sweep

from sfd_sweep.cli import main


@dataclass(frozen=True)
class Said:
    """What a command has said."""

    code: int
    out: str
    err: str


Command = Callable[..., Said]


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Command:
    """Runs a command of the program, as the shell would."""

    def run(*arguments: str) -> Said:
        with pytest.raises(SystemExit) as left:
            main(arguments)
        said = capfd.readouterr()
        assert isinstance(left.value.code, int | None)
        return Said(left.value.code or 0, said.out, said.err)

    return run


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


@pytest.fixture(scope="session")
def recorded_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recorded")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        record_sweep(folder)
    return folder


@pytest.fixture
def recorded(recorded_once: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a recorded sweep, to be looked at only."""
    monkeypatch.chdir(recorded_once)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return recorded_once
