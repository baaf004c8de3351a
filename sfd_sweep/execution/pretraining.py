"""A pretraining that can be stopped and gone on with: its folder, and who trains."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from sfd_sweep.datasets.images import LabeledImages
from sfd_sweep.errors import Interrupted, UserError
from sfd_sweep.models.score_model import ScoreModel
from sfd_sweep.storage.folder import Folder
from sfd_sweep.storage.lock import locked
from sfd_sweep.teachers.pretraining import STATE, Checkpoints, Progress, pretrain
from sfd_sweep.teachers.recipes import Pretraining

REQUEST = "request.json"


@dataclass(frozen=True, kw_only=True)
class Workers:
    """Who trains.

    Attributes:
        count: Ray Train workers; 0 is this process alone, without Ray.
        cpus: cores of each.
        gpus: GPUs of each; part of one is allowed.
        address: of the Ray cluster, see `cluster.connected`.
    """

    count: int = 0
    cpus: int = 1
    gpus: float = 0
    address: str | None = None


def working_folder(out: Path) -> Path:
    """Where the state of a teacher's pretraining is kept: beside where the teacher will be."""
    out = out.expanduser().absolute()
    return out.with_name(f"{out.name}.pretraining")


@contextmanager
def pretrained(
    source: str,
    images: LabeledImages,
    recipe: Pretraining,
    *,
    workers: Workers,
    folder: Path,
    save_every: int,
    resume: bool,
    anew: bool,
    progress: Progress,
) -> Iterator[ScoreModel]:
    """A teacher, on the CPU; once the block has stored it, what was kept on the way is removed.

    Args:
        source: the images' name.
        images: what it is trained on.
        recipe: how.
        workers: who trains it.
        folder: where its state is kept until then. If nothing was saved when it ends early, nothing is left.
        save_every: steps between two states.
        resume: whether to go on from a state that is there.
        anew: whether to drop it, if not.
        progress: called as progress(step, steps, loss) now and then.

    Raises:
        UserError: a state is there and neither is wanted, or it is of another request; the workers do not fit the
            cluster; or the folder is in use.
        TrialFailed: it diverged.
        SweepFailed: the workers failed again and again.
        Interrupted: it was stopped by Ctrl-C.
    """
    place = Folder.open(folder)
    with locked(folder), _kept_if_begun(place):
        request = {"source": source, "class_names": list(images.class_names), **recipe.model_dump(mode="json")}
        _admit(place, request, resume=resume, anew=anew)
        checkpoints = Checkpoints(place, save_every)
        if workers.count:
            from sfd_sweep.execution.pretraining_workers import train_on_cluster

            train_on_cluster(images, recipe, workers=workers, checkpoints=checkpoints, progress=progress)
        # After a cluster's training that is no more than to read the last state.
        device = "cpu" if workers.count else _device(workers)
        yield pretrain(images, recipe=recipe, device=device, checkpoints=checkpoints, progress=progress).to("cpu")
        place.delete()


def _device(workers: Workers) -> str:
    """Where this process trains alone.

    Raises:
        UserError: on a GPU, and there is none.
    """
    if workers.gpus == 0:
        return "cpu"
    if not torch.cuda.is_available():
        raise UserError("--gpus-per-worker: this machine has no GPU that PyTorch can use; leave it out")
    return "cuda"


@contextmanager
def _kept_if_begun(place: Folder) -> Iterator[None]:
    """If the block fails before anything was saved, remove the folder; Ctrl-C becomes words."""
    try:
        yield
    except BaseException as error:
        begun = place.has(STATE)
        if not begun:
            place.delete()
        if isinstance(error, KeyboardInterrupt):
            how = "the same command with --resume goes on from what was saved last" if begun else "nothing was saved"
            raise Interrupted(f"pretraining was stopped; {how}") from error
        raise


def _admit(place: Folder, request: dict[str, object], *, resume: bool, anew: bool) -> None:
    """Leave in the folder what is asked for, and a state only if it is of the same and to be gone on from.

    Raises:
        UserError: what is there is not to be touched so.
    """
    if place.has(STATE):
        if resume:
            _check_same(json.loads(place.read(REQUEST)), request, place)
        elif anew:
            place.remove(STATE)
        else:
            raise UserError(
                f"{place.path} holds an unfinished pretraining; go on with it (--resume), or replace it (--force)"
            )
    place.write(REQUEST, json.dumps(request, indent=1).encode())


def _check_same(before: dict[str, object], now: dict[str, object], place: Folder) -> None:
    for name, value in now.items():
        if before.get(name) != value:
            raise UserError(
                f"{place.path} was begun with {name} {before.get(name)}, not {value}; "
                "resume with the same options, or begin anew with --force alone"
            )
