"""A Ray cluster of this machine's own, shared by the tests of a module."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sfd_sweep.execution.cluster import connected


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(
            "PYTHONPATH", str(Path(__file__).parents[1] / "support"), prepend=os.pathsep
        )  # workers import the stub lab
        with connected(None):
            yield
