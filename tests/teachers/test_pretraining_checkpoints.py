"""Resuming a pretraining from its checkpoints."""

import pytest
import torch
from recipes import changed

from sfd_sweep.datasets.sources import load_images
from sfd_sweep.errors import TrialFailed, UserError
from sfd_sweep.storage.folder import Folder
from sfd_sweep.teachers.pretraining import pretrain
from sfd_sweep.teachers.recipes import Pretraining
from sfd_sweep.teachers.training_job import STATE, Checkpoints

DIGITS = load_images("builtin:digits")
RECIPE = Pretraining(channels=(8, 8), norm_groups=4, steps=30, batch_size=8)


@pytest.fixture
def checkpoints(tmp_path):
    return Checkpoints(Folder.open(tmp_path / "state"), 7)


class Stopped(Exception):
    pass


def stop_at(last):
    def progress(step, steps, loss):
        if step == last:
            raise Stopped

    return progress


def test_it_resumes_from_the_last_state_and_ends_as_one_without_interruption(checkpoints):
    with pytest.raises(Stopped):
        pretrain(DIGITS, recipe=RECIPE, checkpoints=checkpoints, progress=stop_at(20))
    reports = []
    resumed = pretrain(DIGITS, recipe=RECIPE, checkpoints=checkpoints, progress=lambda *each: reports.append(each))
    whole = pretrain(DIGITS, recipe=RECIPE)
    assert [step for step, _, _ in reports] == [20, 30]  # from 14 on
    for name, weight in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], weight), name


def test_a_state_goes_to_the_disk_and_back_without_being_in_memory_as_a_file(checkpoints, monkeypatch):
    def refused(folder, name, *content):
        raise AssertionError(f"{name} is in memory")

    monkeypatch.setattr(Folder, "write", refused)
    monkeypatch.setattr(Folder, "read", refused)
    pretrain(DIGITS, recipe=RECIPE, checkpoints=checkpoints)
    pretrain(DIGITS, recipe=RECIPE, checkpoints=checkpoints)
    assert checkpoints.folder.names() == [STATE]


def test_what_is_finished_is_read_and_not_trained(checkpoints):
    finished = pretrain(DIGITS, recipe=RECIPE, checkpoints=checkpoints)
    read = pretrain(DIGITS, recipe=RECIPE, checkpoints=checkpoints, progress=stop_at(30))
    for name, weight in finished.state_dict().items():
        assert torch.equal(read.state_dict()[name], weight), name


def test_a_state_that_diverged_is_not_kept(checkpoints):
    wild = changed(RECIPE, {"lr": 1e30, "lr_schedule": "constant"})
    with pytest.raises(TrialFailed, match="diverged at step 7"):
        pretrain(DIGITS, recipe=wild, checkpoints=checkpoints)
    assert checkpoints.folder.names() == []


@pytest.mark.parametrize("damage", ["cut short", "of another network"])
def test_a_state_that_does_not_fit_is_refused(checkpoints, damage):
    with pytest.raises(Stopped):
        pretrain(DIGITS, recipe=RECIPE, checkpoints=checkpoints, progress=stop_at(10))
    if damage == "cut short":
        checkpoints.folder.write(STATE, checkpoints.folder.read(STATE)[:-1])
    recipe = changed(RECIPE, {"channels": (8, 16)} if damage == "of another network" else {})
    with pytest.raises(UserError, match=r"cannot resume from .*--force") as refused:
        pretrain(DIGITS, recipe=recipe, checkpoints=checkpoints)
    assert "\n" not in str(refused.value)
