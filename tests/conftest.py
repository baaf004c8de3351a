"""Settings and test distribution that every test shares."""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # more threads than cores make small networks many times slower
os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's is 15: its workers would wait for the other tests
os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")  # a server would start eight more processes

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background job; processes of tests inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("machine-may-be-busy", deadline=None)
settings.load_profile("machine-may-be-busy")


RAY = re.compile(r"tests/(cluster|execution)/|tests/(test_examples|cli/test_sweeps|cli/test_bad_input)\.py")
"""Files with tests that start Ray."""

SHARING = re.compile(r"tests/(audit|export)/")
"""Folders whose files share fixtures that take long."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests that take the longest first: those that start Ray, then the folders that stay together."""
    items.sort(key=lambda item: (RAY.match(item.nodeid) is None, SHARING.match(item.nodeid) is None))


class FileScheduling(LoadScopeScheduling):
    """Runs the tests of a file on one pytest-xdist worker, those of some folders too, and all that start Ray.

    Module fixtures are then built once, a session starts one shared Ray cluster, and clusters do not start while others
    do, which two cores do not bear.
    """

    def _split_scope(self, nodeid: str) -> str:
        if RAY.match(nodeid):
            return "ray"
        shared = SHARING.match(nodeid)
        return shared[0] if shared else nodeid.partition("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FileScheduling:
    """Replace pytest-xdist's scheduler; its own groups have no effect with pytest 9.2."""
    config.option.loadscopereorder = False
    return FileScheduling(config, log)


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
