"""Trainings of models that can be stopped and resumed, in this process or on the workers of a Ray Train run."""

from __future__ import annotations

import functools
import json
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import torch
from ray.exceptions import RayError
from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError, WorkerGroupError, get_context
from ray.train.torch import TorchTrainer, get_device

from sfd_sweep.config import Resources
from sfd_sweep.errors import Interrupted, SweepFailed, TrialFailed, UserError
from sfd_sweep.execution.cluster import connected, nodes
from sfd_sweep.execution.worker import reason_of
from sfd_sweep.storage.folder import Folder
from sfd_sweep.storage.lock import locked
from sfd_sweep.teachers.training_job import STATE, Checkpoints, ModelT, Progress, TrainingJob

REQUEST = "request.json"
PROGRESS = "progress.json"
FAILURE = "failure.txt"
POLL_SECONDS = 0.5
MAX_FAILURES = 3
"""Worker failures that a Train run survives; then another run starts, if a state has been saved since."""


@dataclass(frozen=True, kw_only=True)
class Workers:
    """Who trains.

    Attributes:
        count: Ray Train workers; 0 means this process alone, without a cluster.
        cpus: cores of each.
        gpus: GPUs of each; fractions are allowed.
        address: of the Ray cluster, see `cluster.connected`.
    """

    count: int = 0
    cpus: int = 1
    gpus: float = 0
    address: str | None = None


def working_folder(out: Path, kind: str) -> Path:
    """Return where a training of a kind (`TrainingJob.kind`) keeps its state: beside the future model."""
    out = out.expanduser().absolute()
    return out.with_name(f"{out.name}.{kind}")


@contextmanager
def trained(
    job: TrainingJob[ModelT],
    *,
    workers: Workers,
    folder: Path,
    save_every: int,
    resume: bool,
    overwrite: bool,
    progress: Progress,
) -> Iterator[ModelT]:
    """Train a model and yield it; when the block has stored it, remove its training state.

    Args:
        job: what is trained.
        workers: who trains. After training on a cluster, the model is on the CPU.
        folder: holds the state until then. It is removed if training ends before the first state.
        save_every: steps between two states.
        resume: whether to continue from an existing state.
        overwrite: whether to drop it, if not resumed.
        progress: of the training.

    Raises:
        UserError: a state exists and neither is wanted, or it belongs to another request; the workers do not fit the
            cluster; or the folder is in use.
        TrialFailed: it diverged.
        SweepFailed: the workers failed again and again.
        Interrupted: it was stopped by Ctrl-C.
    """
    place = Folder.open(folder)
    with locked(folder, option="--out"):
        _prepare(place, job, resume=resume, overwrite=overwrite)
        with _removed_if_empty(place, job.kind):
            checkpoints = Checkpoints(place, save_every)
            if workers.count:
                _train_on_cluster(job, workers, checkpoints, progress)
            # After training on a cluster this only reads the last state.
            yield job.run("cpu" if workers.count else _device(workers), checkpoints, progress)
            place.delete()


@contextmanager
def _removed_if_empty(place: Folder, kind: str) -> Iterator[None]:
    """Remove the folder if the block fails before a state is saved; turn Ctrl-C into `Interrupted`."""
    try:
        yield
    except BaseException as error:
        saved = place.has(STATE)
        if not saved:
            place.delete()
        if isinstance(error, KeyboardInterrupt):
            how = "the same command with --resume continues from the last saved state" if saved else "nothing was saved"
            raise Interrupted(f"{kind} was stopped; {how}") from error
        raise


def _prepare(place: Folder, job: TrainingJob[ModelT], *, resume: bool, overwrite: bool) -> None:
    """Write the request into the folder, and keep what was trained there only if it is resumed by the same request."""
    if place.has(STATE) and not (resume or overwrite):
        raise UserError(
            f"{place.path} holds an unfinished {job.kind}; add --resume to continue it, or --force to replace it"
        )
    request = job.request()
    if resume and place.has(REQUEST):
        _check_same(json.loads(place.read(REQUEST)), request, place)
    else:
        for name in [PROGRESS, *(name for name in place.names() if name.endswith(".safetensors"))]:
            place.remove(name)
    place.write(REQUEST, json.dumps(request, indent=1).encode())


def _check_same(before: dict[str, object], now: dict[str, object], place: Folder) -> None:
    for name, value in now.items():
        if before.get(name) != value:
            raise UserError(
                f"{place.path} was begun with {name} {before.get(name)}, not {value}; "
                "resume with the same options, or start again with --force alone"
            )


def _device(workers: Workers) -> str:
    if workers.gpus == 0:
        return "cpu"
    if not torch.cuda.is_available():
        raise UserError("--gpus-per-worker: this machine has no GPU that PyTorch can use; leave it out")
    return "cuda"


def _train_on_cluster(job: TrainingJob[ModelT], workers: Workers, checkpoints: Checkpoints, progress: Progress) -> None:
    """Train until the last state is in the checkpoints' folder, which every node must mount."""
    folder = checkpoints.folder
    with connected(workers.address):
        _check_room(workers)
        folder.remove(FAILURE)
        # The job goes through Ray's object store, so that the workers' machines need not have the images' files.
        trainer = TorchTrainer(
            functools.partial(_train_worker, ray.put(job), checkpoints, workers.cpus, Path.cwd()),
            scaling_config=ScalingConfig(
                num_workers=workers.count,
                use_gpu=workers.gpus > 0,
                resources_per_worker={"CPU": workers.cpus, "GPU": workers.gpus},
            ),
            run_config=RunConfig(
                name="workers",
                storage_path=(folder / "ray").path,
                failure_config=FailureConfig(max_failures=MAX_FAILURES),
            ),
        )
        while True:
            before = folder.modified(STATE)
            try:
                _fit(trainer, folder, progress)
                break
            except (RayError, TrainingFailedError) as error:
                if folder.modified(STATE) == before:
                    raise SweepFailed(f"the workers failed again and again: {_reason(error)}") from error
    if folder.has(FAILURE):
        raise TrialFailed(folder.read(FAILURE).decode())


def _train_worker(job: Any, checkpoints: Checkpoints, threads: int, working_folder: Path) -> None:
    """Train on one worker of the Train run; rank 0 writes progress and failure into the folder."""
    torch.set_num_threads(threads)
    if working_folder.is_dir():  # the driver's, where relative paths start
        os.chdir(working_folder)
    folder, is_first = checkpoints.folder, get_context().get_world_rank() == 0

    def write_progress(step: int, steps: int, loss: float) -> None:
        folder.write(PROGRESS, json.dumps([step, steps, loss]).encode())

    try:
        ray.get(job).run(get_device(), checkpoints, write_progress if is_first else None)
    except TrialFailed as error:  # on all workers alike, and again in every retry: so it must not fail the run
        if is_first:
            folder.write(FAILURE, str(error).encode())


def _fit(trainer: TorchTrainer, folder: Folder, progress: Progress) -> None:
    """Run a Train run to its end, and report its progress.

    It runs in a thread, since Ray would handle Ctrl-C itself in the main one.

    Raises:
        TrainingFailedError: too many workers failed.
        RayError: the run's controller was lost.
    """
    outcome: Future[Any] = Future()

    def fit() -> None:
        try:
            outcome.set_result(trainer.fit())
        except Exception as error:
            outcome.set_exception(error)

    threading.Thread(target=fit, daemon=True).start()
    while wait([outcome], timeout=POLL_SECONDS).not_done:
        with suppress(FileNotFoundError):
            progress(*json.loads(folder.read(PROGRESS)))
    outcome.result()


def _reason(error: Exception) -> str:
    """Return one line: why the lowest of the failed workers failed, or else the run."""
    failures = error.worker_failures if isinstance(error, WorkerGroupError) else {}
    return reason_of(failures[min(failures)] if failures else error)


def _check_room(workers: Workers) -> None:
    """Raise `UserError` if even an idle cluster could not hold the workers."""
    each = Resources(cpus_per_worker=workers.cpus, gpus_per_worker=workers.gpus)
    room = sum(node.workers(each) for node in nodes())
    if room < workers.count:
        raise UserError(
            f"--workers {workers.count}: the cluster has room for {room} with {workers.cpus} CPUs and {workers.gpus:g} "
            "GPUs each; lower one of them, or use another cluster"
        )
