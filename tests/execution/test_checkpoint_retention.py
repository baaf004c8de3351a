"""Weights are removed when their trial has ended and is not on the front."""

from pathlib import Path

import pytest
from stub_runtime import make_space

from sfd_sweep.execution.checkpoint_retention import CheckpointRetention
from sfd_sweep.storage.folder import Folder
from sfd_sweep.trial.files import GENERATOR, GRID, REPORT, TRAINING_STATE, step_folder, trial_folder


@pytest.fixture
def sweep(tmp_path: Path) -> Folder:
    """Four trials with a generator, a training state and the rest."""
    folder = Folder.open(tmp_path / "stub")
    for number in range(4):
        step = step_folder(trial_folder(folder, number), 6)
        (step / GENERATOR / "unet").write("weights.safetensors", b"weights")
        for name in (TRAINING_STATE, GRID, REPORT):
            step.write(name, b"")
    return folder


def kept(sweep: Folder) -> dict[int, list[str]]:
    """What weights each trial has; grids and reports must always be there."""
    steps = {number: step_folder(trial_folder(sweep, number), 6).names() for number in range(4)}
    assert all({GRID, REPORT} <= set(names) for names in steps.values())
    return {number: [name for name in names if name not in (GRID, REPORT)] for number, names in steps.items()}


BOTH = [GENERATOR, TRAINING_STATE]


def test_weights_are_removed_when_their_trial_has_ended_or_leaves_the_front(sweep: Folder) -> None:
    retention = CheckpointRetention(make_space(Path(sweep.path).parent), sweep)
    retention.end(0)
    retention.keep_only([0])
    assert kept(sweep) == {0: BOTH, 1: BOTH, 2: BOTH, 3: BOTH}
    retention.end(1)  # stopped early, failed, infeasible or dominated
    retention.keep_only([0])
    assert kept(sweep) == {0: BOTH, 1: [], 2: BOTH, 3: BOTH}
    retention.end(3)  # dominates 0; 2 is still running
    retention.keep_only([3])
    assert kept(sweep) == {0: [], 1: [], 2: BOTH, 3: BOTH}


def test_a_new_driver_removes_what_an_earlier_one_left(sweep: Folder) -> None:
    for _ in range(2):
        retention = CheckpointRetention(make_space(Path(sweep.path).parent), sweep)
        retention.find([0, 1, 3])
        retention.keep_only([1])
        assert kept(sweep) == {0: [], 1: BOTH, 2: BOTH, 3: []}


def test_keep_generators_all_keeps_generators_but_no_training_states(sweep: Folder) -> None:
    retention = CheckpointRetention(make_space(Path(sweep.path).parent, "keep_generators=all"), sweep)
    retention.find([0])
    retention.end(1)
    retention.keep_only([1])
    assert kept(sweep) == {0: [GENERATOR], 1: [GENERATOR], 2: BOTH, 3: BOTH}


def test_removal_is_tried_again_after_a_storage_error(
    sweep: Folder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    retention = CheckpointRetention(make_space(Path(sweep.path).parent), sweep)
    retention.end(0)
    with monkeypatch.context() as patch:
        patch.setattr(Folder, "delete", lambda folder: (_ for _ in ()).throw(OSError("AWS Error ACCESS_DENIED")))
        retention.keep_only([1])
    assert "the weights of trial 0 cannot be removed: AWS Error ACCESS_DENIED" in caplog.text
    assert kept(sweep)[0] == BOTH
    retention.keep_only([1])
    assert kept(sweep)[0] == []
