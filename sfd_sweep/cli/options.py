"""Arguments and options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sfd_sweep.errors import UserError

if TYPE_CHECKING:
    from sfd_sweep.config import Override
    from sfd_sweep.tracking.results import Results, Selection

Name = Annotated[str, typer.Argument(help="Name of the sweep.", metavar="NAME")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change a key, such as budget.trials=4; repeatable.", metavar="KEY=VALUE"),
]
Uri = Annotated[
    str | None,
    typer.Option(help="MLflow store; default: MLFLOW_TRACKING_URI, or else sqlite:///mlflow.db.", metavar="URI"),
]
Storage = Annotated[
    str | None, typer.Option(help="Storage of the sweep; default: the one that MLflow records.", metavar="DIR")
]
Address = Annotated[
    str,
    typer.Option(
        help="Ray cluster: local starts one, auto joins that of this machine, HOST:PORT joins that of a head node; "
        "ray://HOST:PORT submits `run` as a job.",
        metavar="ADDRESS",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Trial = Annotated[int | None, typer.Option("--trial", help="Select this trial.", metavar="N")]
Knee = Annotated[bool, typer.Option("--knee", help="Select the knee of the front.")]
BestScore = Annotated[bool, typer.Option("--best-score", help="Select the best combined score.")]
AtMost = Annotated[
    list[str] | None,
    typer.Option("--max", help="Select the best score among trials with at most this value; repeatable.",
                 metavar="METRIC=VALUE"),
]  # fmt: skip
AtLeast = Annotated[
    list[str] | None,
    typer.Option("--min", help="Select the best score among trials with at least this value; repeatable.",
                 metavar="METRIC=VALUE"),
]  # fmt: skip
Images = Annotated[
    str,
    typer.Argument(
        help="Real images: builtin:digits, builtin:digits-in-words, PATH[:SPLIT] of Parquet files, CIFAR-10, STL-10 or "
        "CLASS/*.png, or the hub id OWNER/NAME[:SPLIT] of a data set; SPLIT is train, validation, test, or all.",
        metavar="SOURCE",
    ),
]
ClassNames = Annotated[
    str, typer.Option(help="Names of the classes, by index: cifar10, stl10, or a list.", metavar="NAME,NAME,…")
]
ImageClassNames = Annotated[
    str | None,
    typer.Option(
        "--class-names",
        help="Names of the classes, by label, for files without names: cifar10, stl10, or a list.",
        metavar="NAME,NAME,…",
    ),
]
Out = Annotated[Path, typer.Option(help="Folder to create.", metavar="DIR")]
Force = Annotated[bool, typer.Option("--force", help="Replace an existing model.")]
Device = Annotated[
    Literal["auto", "cpu", "cuda"], typer.Option(help="Device for training; auto uses a GPU if there is one.")
]

CLASSES = {
    "cifar10": "airplane,automobile,bird,cat,deer,dog,frog,horse,ship,truck",
    "stl10": "airplane,bird,car,cat,deer,dog,horse,monkey,ship,truck",
}
MODEL_FILES = ("model_index.json", "config.json")
"""A folder with one of these files holds a model."""


def chosen_device(device: str) -> str:
    """Return torch's name of the device.

    Raises:
        UserError: There is no GPU.
    """
    import torch

    has_gpu = torch.cuda.is_available()
    if device == "cuda" and not has_gpu:
        raise UserError("--device cuda: torch finds no GPU; use --device cpu")
    return "cuda" if has_gpu and device != "cpu" else "cpu"


def one_thread() -> None:
    """Use one thread, which is fastest for small networks, unless OMP_NUM_THREADS is set."""
    if "OMP_NUM_THREADS" not in os.environ:
        import torch

        torch.set_num_threads(1)


def select(
    results: Results,
    *,
    trial: int | None,
    knee: bool,
    best_score: bool,
    at_most: Sequence[str] | None,
    at_least: Sequence[str] | None,
) -> Selection | None:
    """Return the selected trial; None if no selection is asked for.

    Raises:
        UserError: Several selections are asked for, or no trial matches.
    """
    most, least = parse_bounds("--max", at_most), parse_bounds("--min", at_least)
    if trial is None and not (knee or best_score or most or least):
        return None
    return results.select(trial=trial, knee=knee, best_score=best_score, max=most, min=least)


def parse_bounds(option: str, assignments: Sequence[str] | None) -> dict[str, float]:
    """Return the values of METRIC=VALUE by metric.

    Raises:
        UserError: A value is not a number.
    """
    bounds = {}
    for text in assignments or ():
        metric, _, value = text.partition("=")
        try:
            bounds[metric] = float(value)
        except ValueError as error:
            raise UserError(f"{option} {text}: write METRIC=NUMBER, such as fd_classifier=1.5") from error
    return bounds


def parse_class_names(text: str) -> tuple[str, ...]:
    """Return the class names of a known data set, or of a list with commas.

    Raises:
        UserError: A name is empty or repeated.
    """
    names = tuple(name.strip() for name in CLASSES.get(text, text).split(","))
    if not all(names) or len(set(names)) < len(names):
        raise UserError(f"--class-names {text!r}: every class needs a name of its own, separated by commas")
    return names


def override_of(words: Sequence[str] | None) -> Override | None:
    """Return the override of an option: one for all forgotten classes, or one for each; None if it is absent."""
    if not words:
        return None
    return words[0] if len(words) == 1 else tuple(words)


def check_target(out: Path, force: bool) -> None:
    """Check, before a model is trained, that it may be written.

    Raises:
        UserError: The path exists and may not be replaced, or it cannot be created.
    """
    out = out.expanduser().absolute()
    if out.exists():
        if not force:
            raise UserError(f"{out} exists; choose another folder, or replace it with --force")
        if not any((out / name).is_file() for name in MODEL_FILES):
            raise UserError(f"{out} holds no model, so it is not replaced; choose another folder")
    above = next(folder for folder in out.parents if folder.exists())
    if not (above.is_dir() and os.access(above, os.W_OK)):
        raise UserError(f"{out} cannot be created, because {above} is not a writable folder; choose another")


def check_file(path: Path) -> None:
    """Check that a file may be written.

    Raises:
        UserError: Its folder does not exist, or the path is a folder.
    """
    path = path.expanduser()
    if not path.absolute().parent.is_dir():
        raise UserError(f"cannot write {path}: there is no folder {path.parent}")
    if path.is_dir():
        raise UserError(f"cannot write {path}: it is a folder; name a file in it")


def write_file(path: Path, content: bytes) -> None:
    """Write a file atomically.

    Raises:
        UserError: The file cannot be written.
    """
    from sfd_sweep.storage.folder import Folder

    check_file(path)
    path = path.expanduser()
    try:
        Folder.open(path.absolute().parent).write(path.name, content)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
