"""What is noted of the machine and the code."""

import importlib.metadata
import platform
import subprocess
from pathlib import Path

import pytest

import sfd_sweep
from sfd_sweep.tracking import environment


def test_the_lock_names_every_distribution_once() -> None:
    lines = environment.package_lock().splitlines()
    assert len(lines) == len(set(lines))
    assert f"mlflow=={importlib.metadata.version('mlflow')}" in lines


def test_versions_and_revision_are_those_that_run() -> None:
    tags = environment.version_tags()
    assert tags["version.python"] == platform.python_version()
    assert tags["version.torch"] == importlib.metadata.version("torch")
    git = ["git", "-C", str(Path(sfd_sweep.__file__).parent), "rev-parse", "HEAD"]
    done = subprocess.run(git, capture_output=True, text=True, check=False)
    assert tags.get("mlflow.source.git.commit", "") == done.stdout.strip()


def test_an_installed_package_has_no_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "PACKAGE", tmp_path)
    assert "mlflow.source.git.commit" not in environment.version_tags()


def test_a_machine_without_git_has_no_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert "mlflow.source.git.commit" not in environment.version_tags()
