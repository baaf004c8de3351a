"""An object store for the tests of a session."""

from collections.abc import Iterator

import pytest
from object_store import ObjectStore, serving


@pytest.fixture(scope="session")
def store() -> Iterator[ObjectStore]:
    with serving() as store:
        yield store
