"""Trainings that end early and are resumed, in this process and on real workers of a Ray cluster."""

import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from drivers import actors
from recipes import changed

from sfd_sweep.config import Settings
from sfd_sweep.datasets.sources import load_images
from sfd_sweep.errors import Interrupted, TrialFailed, UserError
from sfd_sweep.execution.training import Workers, trained, working_folder
from sfd_sweep.storage.folder import Folder
from sfd_sweep.teachers.distillation import Distillation, DistillationJob
from sfd_sweep.teachers.pretraining import COMPONENTS, PretrainingJob, pretrain
from sfd_sweep.teachers.recipes import PRESETS, Pretraining
from sfd_sweep.teachers.training_job import STATE

SOURCE = "builtin:digits"
DIGITS = load_images(SOURCE)
RECIPE = Pretraining(channels=(8, 8), norm_groups=4, steps=30, batch_size=8)


TEXT = changed(
    PRESETS["digits-text"],
    {
        **{"channels": [8, 8], "norm_groups": 4, "attention_head_dim": 4, "steps": 20, "batch_size": 8},
        "text": {
            **{"captions": ["{}"], "text_width": 8, "text_steps": 2},
            **{"autoencoder_channels": [8, 8], "autoencoder_steps": 2},
        },
    },
)


def run(folder: Path, *, recipe=RECIPE, progress=lambda *news: None, store=lambda model: None, **request):
    """Train a teacher in the folder `teacher.pretraining`; its weights."""
    wanted = {"workers": Workers(), "save_every": 10, "resume": False, "overwrite": False, **request}
    place = working_folder(folder / "teacher", "pretraining")
    with trained(PretrainingJob(SOURCE, DIGITS, recipe), folder=place, progress=progress, **wanted) as model:
        store(model)
    return model.state_dict()


def stop_at(last, error=KeyboardInterrupt):
    def progress(step, steps, loss):
        if step == last:
            raise error

    return progress


def assert_equal(weights, others):
    for name, weight in weights.items():
        assert torch.equal(weight, others[name]), name


@pytest.fixture
def stopped(tmp_path):
    """A folder with a pretraining that was stopped after its state at step 10 was saved."""
    with pytest.raises(Interrupted, match="--resume"):
        run(tmp_path, progress=stop_at(20))
    return tmp_path


def test_nothing_is_left_of_a_finished_pretraining(tmp_path):
    run(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_of_one_that_was_stopped_before_anything_was_saved(tmp_path):
    with pytest.raises(Interrupted, match="nothing was saved"):
        run(tmp_path, progress=stop_at(10))
    assert list(tmp_path.iterdir()) == []


def test_all_is_kept_until_the_teacher_is_stored(tmp_path):
    def full_disk(model):
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        run(tmp_path, store=full_disk)
    assert (working_folder(tmp_path / "teacher", "pretraining") / STATE).is_file()
    assert_equal(run(tmp_path, resume=True, progress=stop_at(30)), pretrain(DIGITS, recipe=RECIPE).state_dict())


def test_resume_continues_from_the_state(stopped):
    news = []
    weights = run(stopped, resume=True, progress=lambda step, steps, loss: news.append(step))
    assert news == [20, 30]
    assert_equal(weights, pretrain(DIGITS, recipe=RECIPE).state_dict())


def test_resume_starts_where_there_is_no_state(tmp_path):
    assert_equal(run(tmp_path, resume=True), pretrain(DIGITS, recipe=RECIPE).state_dict())


def test_a_state_is_neither_dropped_nor_resumed_unless_requested(stopped):
    with pytest.raises(UserError, match=r"unfinished pretraining; .*--resume.*--force"):
        run(stopped)
    news = []
    run(stopped, overwrite=True, progress=lambda step, steps, loss: news.append(step))
    assert news == [10, 20, 30]


@pytest.mark.parametrize("left", ["a state", "components alone"])
def test_components_of_another_request_are_trained_anew(tmp_path, left):
    with pytest.raises(Interrupted):
        run(tmp_path, recipe=TEXT, progress=stop_at(20))
    place = Folder.open(working_folder(tmp_path / "teacher", "pretraining"))
    assert place.has(COMPONENTS)
    if left == "components alone":  # as after a kill before the first state
        place.remove(STATE)
    other = changed(TEXT, {"seed": 1})
    assert_equal(run(tmp_path, recipe=other, overwrite=left == "a state"), run(tmp_path / "fresh", recipe=other))


def test_components_are_resumed_by_the_same_request_alone(tmp_path):
    with pytest.raises(Interrupted):
        run(tmp_path, recipe=TEXT, progress=stop_at(20))
    place = Folder.open(working_folder(tmp_path / "teacher", "pretraining"))
    place.remove(STATE)
    with pytest.raises(UserError, match=r"was begun with seed 0, not 1"):
        run(tmp_path, recipe=changed(TEXT, {"seed": 1}), resume=True)
    assert place.has(COMPONENTS)
    assert_equal(run(tmp_path, recipe=TEXT, resume=True), run(tmp_path / "fresh", recipe=TEXT))


def test_a_state_of_another_request_is_not_resumed(stopped):
    with pytest.raises(UserError, match=r"was begun with lr 0\.003, not 0\.1"):
        run(stopped, resume=True, recipe=changed(RECIPE, {"lr": 0.1}))
    run(stopped, resume=True)  # and is still there


def test_a_pretraining_has_one_process(stopped):
    def another(model):
        with pytest.raises(UserError, match="being run by"):
            run(stopped, resume=True)

    run(stopped, resume=True, store=another)


def kill_a_worker_once(folder: Path, killed: list[int]):
    """In a thread: wait for the first saved state, then kill -9 one of the two workers."""
    place = working_folder(folder / "teacher", "pretraining")
    while not (place / STATE).is_file():
        time.sleep(0.05)
    killed.append(actors("RayTrainWorker")[0])
    os.kill(killed[0], signal.SIGKILL)


@pytest.mark.slow
def test_workers_of_a_cluster_train_the_same_teacher_though_one_is_killed(cluster, tmp_path):
    recipe = Pretraining(steps=300)
    killed: list[int] = []
    threading.Thread(target=kill_a_worker_once, args=(tmp_path, killed), daemon=True).start()
    news = []
    weights = run(
        tmp_path, recipe=recipe, workers=Workers(count=2), progress=lambda step, *_: news.append(step), save_every=50
    )
    assert killed
    assert news[-1] > 100
    assert list(tmp_path.iterdir()) == []
    for name, weight in pretrain(DIGITS, recipe=recipe).state_dict().items():
        torch.testing.assert_close(weights[name], weight, rtol=1e-2, atol=1e-3)


@pytest.mark.slow
def test_workers_that_diverge_are_not_started_again(cluster, tmp_path):
    wild = changed(RECIPE, {"lr": 1e30, "lr_schedule": "constant"})
    with pytest.raises(TrialFailed, match="diverged at step 10"):
        run(tmp_path, recipe=wild, workers=Workers(count=2))
    assert list(tmp_path.iterdir()) == []


def test_more_workers_than_the_cluster_has_room_for_are_refused(cluster, tmp_path):
    with pytest.raises(UserError, match="--workers 1000: the cluster has room for"):
        run(tmp_path, workers=Workers(count=1000))
    assert list(tmp_path.iterdir()) == []


def test_a_gpu_that_is_not_there_is_not_replaced_by_the_cpu(tmp_path):
    with pytest.raises(UserError, match="--gpus-per-worker"):
        run(tmp_path, workers=Workers(gpus=1))
    assert list(tmp_path.iterdir()) == []


DISTILLATION = DistillationJob("builtin:digits", (), Distillation(steps=30, settings=Settings(batch_size=4)))


def distilled(folder: Path, *, job=DISTILLATION, progress=lambda *news: None, **request):
    """Distill a teacher in the folder `start.distillation`; the generator's weights."""
    wanted = {"workers": Workers(), "save_every": 10, "resume": False, "overwrite": False, **request}
    place = working_folder(folder / "start", "distillation")
    with trained(job, folder=place, progress=progress, **wanted) as generator:
        return generator.model.state_dict()


def test_a_distillation_that_was_stopped_ends_as_if_nothing_had_been(tmp_path):
    with pytest.raises(Interrupted, match=r"distillation was stopped; .*--resume"):
        distilled(tmp_path, progress=stop_at(20))
    with pytest.raises(UserError, match=r"unfinished distillation; .*--resume.*--force"):
        distilled(tmp_path)
    other = replace(DISTILLATION, distillation=changed(DISTILLATION.distillation, {"seed": 1}))
    with pytest.raises(UserError, match="was begun with seed 0, not 1"):
        distilled(tmp_path, job=other, resume=True)
    news = []
    weights = distilled(tmp_path, resume=True, progress=lambda step, *_: news.append(step))
    assert news == [20, 30]
    assert list(tmp_path.iterdir()) == []
    assert_equal(weights, distilled(tmp_path / "whole"))


@pytest.mark.slow
def test_workers_of_a_cluster_distill_the_same_generator(cluster, tmp_path):
    weights = distilled(tmp_path, workers=Workers(count=2))
    assert list(tmp_path.iterdir()) == []
    for name, weight in distilled(tmp_path).items():
        torch.testing.assert_close(weights[name], weight, rtol=1e-2, atol=1e-3)
