"""Settings and test distribution that every test shares."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # more threads than cores make small networks many times slower
os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")  # a server would start eight more processes

settings.register_profile("machine-may-be-busy", deadline=None)
settings.load_profile("machine-may-be-busy")


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of a file on one pytest-xdist worker, and all tests that start Ray on another.

    Module fixtures (models, recorded sweeps) are then built once, a session starts one shared Ray cluster, and clusters
    do not start while others do, which two cores do not bear. The group of Ray is the longest, so it comes first.
    """
    for item in items:
        item.add_marker(pytest.mark.xdist_group("ray" if _starts_ray(item) else item.path.stem))
    items.sort(key=lambda item: (not _starts_ray(item), item.path.parent.name != "cli"))


def _starts_ray(item: pytest.Item) -> bool:
    uses_shared_cluster = "cluster" in getattr(item, "fixturenames", ())
    return uses_shared_cluster or item.path.parent.name == "cluster" or item.path.stem == "test_examples"


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """A Ray cluster on this machine, shared by all tests of a session."""
    from object_store import KEYS

    from sfd_sweep.execution.cluster import connected

    with pytest.MonkeyPatch.context() as patch:
        support = str(Path(__file__).parent / "support")
        patch.setenv("PYTHONPATH", support, prepend=os.pathsep)  # workers import the stub runtime
        for name, value in KEYS.items():
            patch.setenv(name, value)  # and use a test's object store
        with connected(None):
            yield
