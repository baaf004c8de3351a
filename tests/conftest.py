"""Settings and test distribution that every test shares."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # more threads than cores make small networks many times slower

settings.register_profile("machine-may-be-busy", deadline=None)
settings.load_profile("machine-may-be-busy")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of a file on one pytest-xdist worker, and all tests on the shared Ray cluster on another.

    Module fixtures (models, recorded sweeps) are then built once, and a session starts one Ray cluster. Long groups
    come first, so that no worker is left with one at the end.
    """
    for item in items:
        on_shared_cluster = "cluster" in getattr(item, "fixturenames", ())
        item.add_marker(pytest.mark.xdist_group("ray" if on_shared_cluster else item.path.stem))
    items.sort(key=_starts_late)


SLOW_FOLDERS = ("execution", "cluster")


def _starts_late(item: pytest.Item) -> tuple[bool, bool]:
    folder = Path(item.path).parent.name
    return folder not in SLOW_FOLDERS, folder != "cli"
