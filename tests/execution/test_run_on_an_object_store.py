"""A whole sweep on Ray whose storage is a bucket: run, stopped and resumed, with weights removed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from object_store import ObjectStore, serving
from stub_runtime import Notebook, StubBuild, make_space, notes

from sfd_sweep.config import Settings
from sfd_sweep.errors import SweepFailed, UserError
from sfd_sweep.execution.events import SweepObserver
from sfd_sweep.execution.run import resume, run
from sfd_sweep.search.study import SweepStudy
from sfd_sweep.storage.folder import Folder
from sfd_sweep.trial.report import TrialState


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectStore]:
    with serving() as store:
        yield store


class StopsAtTheThirdTrial(SweepObserver):
    def trial_started(self, number: int, settings: Settings, searched: dict[str, Any]) -> None:
        if number == 2:
            raise SweepFailed("stopped by the test")


def trained(folder: Path) -> list[tuple[int, int]]:
    """Which trial was trained to which step, in order."""
    return [(note["number"], note["to"]) for note in notes(folder) if note["what"] == "trained"]


def test_a_sweep_in_a_bucket_is_stopped_and_resumed_and_keeps_the_fronts_weights(
    store: ObjectStore, cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    space = make_space(f'"{store.uri("bucket/sweeps")}"', "constraints=[{metric: fd_classifier, max: 3.2}]")
    sweep = Folder.open(space.storage) / "stub"
    build = StubBuild(notes=tmp_path / "notes")
    with pytest.raises(SweepFailed, match="stopped by the test"):
        run(space, build=build, open_recorder=Notebook().open, observer=StopsAtTheThirdTrial())
    assert SweepStudy(space, sweep).ended() == 2
    with pytest.raises(UserError, match="the sweep 'stub' exists already"):
        run(space, build=build, open_recorder=Notebook().open)

    notebook = Notebook()
    outcome = resume(sweep.uri, build=build, open_recorder=notebook.open)

    assert outcome.counts == {TrialState.COMPLETE: 4}
    assert outcome.folder == "s3://bucket/sweeps/stub"
    assert sorted(trained(tmp_path / "notes")) == [(number, step) for number in range(4) for step in (2, 4, 6)]
    front = notebook.of("front_changed")[-1][0]
    assert 0 < len(front) < 4  # as the constraint has it
    generators = {key.split("/")[3] for key in store.objects() if key.endswith("generator/weights.safetensors")}
    assert generators == {f"{number:04d}" for number in front}
    assert len([key for key in store.objects() if key.endswith("report.json")]) == 4 * 3
    assert not [key for key in store.objects() if "/ray/" in key or "driver.lock/" in key.removesuffix("driver.lock/")]
    assert list((tmp_path / "work").iterdir()) == []  # and nothing went to the disk


def test_a_missing_bucket_is_reported_before_ray_is_started(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.init", lambda *_, **__: pytest.fail("Ray was started"))
    space = make_space(f'"{store.uri("nowhere/sweeps")}"')
    with pytest.raises(UserError, match="s3://nowhere/sweeps/stub cannot be used: there is no such bucket") as raised:
        run(space, open_recorder=Notebook().open)
    assert raised.value.exit_code == 2
