"""A sweep that is recorded once, and the generator that is exported of it once."""

import shutil
from pathlib import Path

import pytest
import torch
from recorded_trials import FRONT, Sweep, record_sweep
from short_audits import short_audits, shortened_audits

from sfd_sweep.export.exporting import Exported, export_trial

__all__ = ["short_audits"]


@pytest.fixture(scope="session")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("sweep")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # where MLflow keeps artifacts, unless it is told
        return record_sweep(folder)


@pytest.fixture(scope="session")
def exported(sweep: Sweep, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    target = tmp_path_factory.mktemp("exported") / "zero-free"
    with shortened_audits():
        return export_trial(sweep.results, sweep.results.select(trial=FRONT), target, uri=sweep.uri)


@pytest.fixture
def folder(exported: Exported, tmp_path: Path) -> Path:
    """A copy of the exported folder that a test may change."""
    return Path(shutil.copytree(exported.folder, tmp_path / "copy"))
