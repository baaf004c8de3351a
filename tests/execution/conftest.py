"""A Ray cluster of this machine's own, which all tests of a session share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sfd_sweep.execution.cluster import connected


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        support = str(Path(__file__).parents[1] / "support")
        patch.setenv("PYTHONPATH", support, prepend=os.pathsep)  # workers import the stub runtime
        with connected(None):
            yield
