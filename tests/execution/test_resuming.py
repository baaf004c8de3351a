"""What a resumed sweep is given: a tracking store, and slots for what is left of it."""

from pathlib import Path
from typing import Any

import pytest
from stub_runtime import Notebook, StubBuild, make_space

from sfd_sweep.config import SearchSpace
from sfd_sweep.config.loading import dump_search_space
from sfd_sweep.execution.events import SweepObserver, SweepStart
from sfd_sweep.execution.run import resume, run
from sfd_sweep.storage.folder import Folder
from sfd_sweep.trial.files import CONFIG
from sfd_sweep.trial.report import TrialState

pytestmark = pytest.mark.usefixtures("cluster")


class PlanKept(SweepObserver):
    def sweep_started(self, plan: SweepStart) -> None:
        self.slots = plan.slots


def test_the_record_goes_to_the_store_that_is_named(tmp_path: Path) -> None:
    run(make_space(tmp_path, "budget.trials=1"), build=StubBuild(), open_recorder=Notebook().open)
    stores = []

    def open_recorder(space: SearchSpace, *_: Any, resume: bool) -> Notebook:
        stores.append((space.tracking.uri, resume))
        return Notebook()

    for uri in (None, "sqlite:///elsewhere.db"):
        resume(tmp_path / "stub", uri=uri, build=StubBuild(), open_recorder=open_recorder)
    assert stores == [(make_space(tmp_path).tracking.uri, True), ("sqlite:///elsewhere.db", True)]


def test_there_are_no_more_slots_than_trials_are_left(tmp_path: Path) -> None:
    run(make_space(tmp_path, "budget.trials=3"), build=StubBuild(), open_recorder=Notebook().open)
    longer = make_space(tmp_path, "budget.trials=4", "resources.slots=2")
    (Folder.open(tmp_path) / "stub").write(CONFIG, dump_search_space(longer).encode())
    kept = PlanKept()
    outcome = resume(tmp_path / "stub", build=StubBuild(), open_recorder=Notebook().open, observer=kept)
    assert kept.slots == 1
    assert outcome.counts == {TrialState.COMPLETE: 4}
