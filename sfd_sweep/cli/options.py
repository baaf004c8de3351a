"""Arguments and options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sfd_sweep.errors import UserError

if TYPE_CHECKING:
    from sfd_sweep.tracking.results import Results, Selection

Name = Annotated[str, typer.Argument(help="The sweep's name.", metavar="NAME")]
Uri = Annotated[
    str | None,
    typer.Option(help="MLflow's store; otherwise MLFLOW_TRACKING_URI, else sqlite:///mlflow.db.", metavar="URI"),
]
Address = Annotated[
    str,
    typer.Option(
        help="Ray cluster: local starts one, auto joins this machine's, HOST:PORT that head's; ray://HOST:PORT "
        "has `run` hand the sweep over as a job.",
        metavar="ADDRESS",
    ),
]
Trial = Annotated[int | None, typer.Option("--trial", help="Choose this trial.", metavar="N")]
Knee = Annotated[bool, typer.Option("--knee", help="Choose the trial where one more step stops paying.")]
BestScore = Annotated[bool, typer.Option("--best-score", help="Choose the best combined score.")]
AtMost = Annotated[
    list[str] | None,
    typer.Option("--max", help="Choose the best score with this metric at most; repeatable.", metavar="METRIC=VALUE"),
]
AtLeast = Annotated[
    list[str] | None,
    typer.Option("--min", help="Choose the best score with this metric at least; repeatable.", metavar="METRIC=VALUE"),
]
Images = Annotated[
    str,
    typer.Argument(
        help="Real images: builtin:digits, builtin:digits-in-words, or PATH[:SPLIT] of Parquet files, CIFAR-10, STL-10 "
        "or CLASS/*.png, or a dataset's hub id OWNER/NAME[:SPLIT]; SPLIT is train, validation, test or all.",
        metavar="SOURCE",
    ),
]
ClassNames = Annotated[
    str, typer.Option(help="Names of the classes, by index: cifar10, stl10 or a list.", metavar="NAME,NAME,…")
]
ImageClassNames = Annotated[
    str | None,
    typer.Option(
        "--class-names",
        help="Names of the images' classes, by label, where the files hold none: cifar10, stl10 or a list.",
        metavar="NAME,NAME,…",
    ),
]
Out = Annotated[Path, typer.Option(help="The folder to make.", metavar="DIR")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]
Seed = Annotated[int, typer.Option(help="Seed of every random draw.", min=0)]


class Devices(StrEnum):
    """Where networks are trained."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


Device = Annotated[Devices, typer.Option(help="Where to train; auto takes a GPU if there is one.")]


def chosen_device(device: Devices) -> str:
    """The name of the device for torch.

    Raises:
        UserError: a GPU is wanted, and there is none.
    """
    import torch

    found = torch.cuda.is_available()
    if device is Devices.CUDA and not found:
        raise UserError("--device cuda: torch finds no GPU here; use --device cpu")
    return "cuda" if found and device is not Devices.CPU else "cpu"


def choose(
    results: Results,
    *,
    trial: int | None,
    knee: bool,
    best_score: bool,
    at_most: Sequence[str] | None,
    at_least: Sequence[str] | None,
) -> Selection | None:
    """The chosen trial; None if no way of choosing was given.

    Raises:
        UserError: more than one was given, or there is no such trial.
    """
    most, least = _bounds("--max", at_most or ()), _bounds("--min", at_least or ())
    if trial is None and not (knee or best_score or most or least):
        return None
    return results.select(trial=trial, knee=knee, best_score=best_score, max=most, min=least)


def _bounds(option: str, given: Sequence[str]) -> dict[str, float]:
    bounds = {}
    for text in given:
        metric, _, value = text.partition("=")
        try:
            bounds[metric] = float(value)
        except ValueError as error:
            raise UserError(f"{option} {text}: write METRIC=NUMBER, such as fd_classifier=1.5") from error
    return bounds


def check_file(path: Path) -> None:
    """Whether a file may be written there; better found out before there is something to write.

    Raises:
        UserError: it may not.
    """
    path = path.expanduser()
    if not path.absolute().parent.is_dir():
        raise UserError(f"cannot write {path}: there is no folder {path.parent}")
    if path.is_dir():
        raise UserError(f"cannot write {path}: it is a folder; name a file in it")


def write_file(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all.

    Raises:
        UserError: it cannot be written.
    """
    from sfd_sweep.storage.folder import Folder

    check_file(path)
    path = path.expanduser()
    try:
        Folder.open(path.absolute().parent).write(path.name, content)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def one_thread() -> None:
    """Run small networks on one thread, which is faster than several; who has set OMP_NUM_THREADS knows better."""
    if "OMP_NUM_THREADS" not in os.environ:
        import torch

        torch.set_num_threads(1)
