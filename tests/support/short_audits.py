"""Quick audits with smaller budgets, for tests of what is made of an audit; the attacks are the same."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from sfd_sweep.audit import building
from sfd_sweep.audit.attacks.asking import Asking
from sfd_sweep.audit.attacks.inversion import ConditionInversion
from sfd_sweep.audit.attacks.noise import Leak
from sfd_sweep.audit.attacks.relearning import Relearning


@contextmanager
def shortened_audits() -> Iterator[None]:
    """Shorten quick audits of this process."""
    attacks = (
        Asking(),
        Relearning(images=25, budgets=(0, 40)),
        ConditionInversion(restarts=1, budgets=(0, 10)),
        Leak(budgets=(1, 10), groups=10),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(building.LEVELS, "quick", attacks)
        patch.setattr(building, "SAMPLES", 100)
        patch.setattr(building, "RETAINED_SAMPLES", 50)
        yield


@pytest.fixture(scope="module", autouse=True)
def short_audits() -> Iterator[None]:
    """Shorten quick audits for the tests of a module."""
    with shortened_audits():
        yield
