"""The workers of a pretraining: a Ray Train run, started again from the last state whenever a worker is lost."""

from __future__ import annotations

import json
import threading
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray
import torch
from ray.exceptions import RayError
from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError, WorkerGroupError, get_context
from ray.train.torch import TorchTrainer, get_device

from sfd_sweep.config import Resources
from sfd_sweep.datasets.images import LabeledImages
from sfd_sweep.errors import SweepFailed, TrialFailed, UserError
from sfd_sweep.execution.cluster import connected, nodes
from sfd_sweep.execution.worker import reason_of
from sfd_sweep.storage.folder import Folder
from sfd_sweep.teachers.pretraining import STATE, Checkpoints, Progress, pretrain
from sfd_sweep.teachers.recipes import Pretraining

if TYPE_CHECKING:
    from sfd_sweep.execution.pretraining import Workers

NEWS = "progress.json"
FAILURE = "failure.txt"
SECONDS_BETWEEN_LOOKS = 0.5
FAILURES = 3
"""So many losses of workers a run gets over; then another is begun, if a state has been saved since."""


def train_on_cluster(
    images: LabeledImages,
    recipe: Pretraining,
    *,
    workers: Workers,
    checkpoints: Checkpoints,
    progress: Progress,
) -> None:
    """Train until the last step's state is in the checkpoints' folder, which every machine must see.

    Raises:
        UserError: there is no such cluster, or it has no room for the workers.
        TrialFailed: it diverged.
        SweepFailed: workers were lost again and again, and no state came of it.
    """
    folder = checkpoints.folder
    with connected(workers.address):
        _check_room(workers)
        folder.remove(FAILURE)
        job = _Job(ray.put(images), recipe, checkpoints, workers.cpus)
        trainer = _trainer(job, workers)
        while True:
            before = folder.modified(STATE)
            try:
                _watch(trainer, folder, progress)
                break
            except (RayError, TrainingFailedError) as error:
                if folder.modified(STATE) == before:
                    raise SweepFailed(f"the workers failed again and again: {_reason(error)}") from error
    if folder.has(FAILURE):
        raise TrialFailed(folder.read(FAILURE).decode())


@dataclass(frozen=True)
class _Job:
    """What every worker does."""

    images: Any  # in Ray's object store, so that the workers' machines need not have the files
    recipe: Pretraining
    checkpoints: Checkpoints
    threads: int

    def __call__(self) -> None:
        torch.set_num_threads(self.threads)
        folder, is_first = self.checkpoints.folder, get_context().get_world_rank() == 0

        def tell(step: int, steps: int, loss: float) -> None:
            folder.write(NEWS, json.dumps([step, steps, loss]).encode())

        try:
            pretrain(
                ray.get(self.images),
                recipe=self.recipe,
                device=get_device(),
                checkpoints=self.checkpoints,
                progress=tell if is_first else None,
            )
        except TrialFailed as error:  # on every worker alike, and again if it were tried again
            if is_first:
                folder.write(FAILURE, str(error).encode())


def _trainer(job: _Job, workers: Workers) -> TorchTrainer:
    return TorchTrainer(
        job.__call__,
        scaling_config=ScalingConfig(
            num_workers=workers.count,
            use_gpu=workers.gpus > 0,
            resources_per_worker={"CPU": workers.cpus, "GPU": workers.gpus},
        ),
        run_config=RunConfig(
            name="workers",
            storage_path=(job.checkpoints.folder / "ray").path,
            failure_config=FailureConfig(max_failures=FAILURES),
        ),
    )


def _watch(trainer: TorchTrainer, folder: Folder, progress: Progress) -> None:
    """Run a Train run to its end, and tell what its first worker leaves word of.

    It runs in a thread of its own, since in the main one Ray would take Ctrl-C for itself.

    Raises:
        TrainingFailedError: workers were lost too often.
        RayError: the run's controller was lost.
    """
    outcome: Future[None] = Future()

    def fit() -> None:
        try:
            trainer.fit()
            outcome.set_result(None)
        except Exception as error:
            outcome.set_exception(error)

    threading.Thread(target=fit, daemon=True).start()
    while wait([outcome], timeout=SECONDS_BETWEEN_LOOKS).not_done:
        with suppress(FileNotFoundError):
            progress(*json.loads(folder.read(NEWS)))
    outcome.result()


def _reason(error: Exception) -> str:
    """In a line, what the lowest of the failed workers failed of; or else what the run did."""
    failures = error.worker_failures if isinstance(error, WorkerGroupError) else {}
    return reason_of(failures[min(failures)] if failures else error)


def _check_room(workers: Workers) -> None:
    """Whether the cluster could hold the workers if it had nothing else to do.

    Raises:
        UserError: it could not.
    """
    each = Resources(cpus_per_worker=workers.cpus, gpus_per_worker=workers.gpus)
    room = sum(node.room_for(each) for node in nodes())
    if room < workers.count:
        raise UserError(
            f"--workers {workers.count}: the cluster has room for {room} with {workers.cpus} CPUs and {workers.gpus:g} "
            "GPUs each; lower one of them, or go to another cluster"
        )
