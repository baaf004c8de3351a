"""Commands that take a generator home, and look at it there."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sfd_sweep.cli.options import (
    AtLeast,
    AtMost,
    BestScore,
    Force,
    Knee,
    Name,
    Out,
    Trial,
    Uri,
    choose,
    one_thread,
    write_file,
)
from sfd_sweep.errors import UserError

Generator = Annotated[
    Path, typer.Argument(help="Folder of a one-step generator (or builtin:digits-distilled).", metavar="DIR")
]
COLUMNS = 16
TILE = 32  # pixels of the picture for an image, at least


class Layout(StrEnum):
    """How figures are written."""

    TABLE = "table"
    JSON = "json"


def export(
    name: Name,
    *,
    out: Out,
    trial: Trial = None,
    knee: Knee = False,
    best_score: BestScore = False,
    at_most: AtMost = None,
    at_least: AtLeast = None,
    alias: Annotated[str, typer.Option(help="Its alias in MLflow's model registry.")] = "champion",
    force: Force = False,
    uri: Uri = None,
) -> None:
    """Export a trial's generator as a folder.

    It is judged again before it appears under its name, and registered in MLflow.
    """
    from sfd_sweep.cli.tables import console, print_figures
    from sfd_sweep.export.exporting import export_trial
    from sfd_sweep.tracking.results import Results

    results = Results.read(name, uri)
    choice = choose(results, trial=trial, knee=knee, best_score=best_score, at_most=at_most, at_least=at_least)
    if choice is None:
        raise UserError("choose a trial: --trial N, --knee, --best-score, --max METRIC=VALUE or --min METRIC=VALUE")
    one_thread()
    console.print(choice.why)
    exported = export_trial(results, choice, out, force=force, alias=alias, uri=uri)
    console.print(f"\n{exported.folder} is written, loads with diffusers alone, and is as good as recorded.")
    print_figures(exported.found.metrics, exported.found.samples)
    console.print(f"\nIn MLflow it is {exported.registered} with the alias {alias}.")


def sample(
    folder: Generator,
    *,
    out: Annotated[Path, typer.Option(help="The picture to write (PNG).", metavar="FILE")],
    labels: Annotated[
        list[str] | None, typer.Option("--label", help="Class, by index or name; repeatable; otherwise all.")
    ] = None,
    prompts: Annotated[
        list[str] | None, typer.Option("--prompt", help="What a text-to-image generator is to show; repeatable.")
    ] = None,
    count: Annotated[int, typer.Option(help="Images of each class or prompt.", min=1)] = 64,
    seed: Annotated[int, typer.Option(help="Seed of a class's first image; the next has the next.", min=0)] = 0,
) -> None:
    """Make a picture of a generator's samples.

    Every class or prompt is made from the same noise.
    """
    from sfd_sweep.datasets.labels import class_index
    from sfd_sweep.evaluation.sample_grid import GridRow, sample_grid
    from sfd_sweep.method.generator import OneStepGenerator

    one_thread()
    generator = OneStepGenerator.load(folder)
    if generator.reads_text and (labels or not prompts):
        raise UserError(f"{folder} makes images of prompts: give one or more (--prompt), and no --label")
    if prompts and not generator.reads_text:
        raise UserError(f"{folder} makes images of classes: give them by --label, and no --prompt")
    known = generator.class_names
    classes = [class_index(known, label) for label in labels or range(len(known))]
    wanted: list[int | str] = [*(prompts or classes)]
    names = prompts or [known[label] for label in classes]
    rows = [
        GridRow(name, images)
        for each, name in zip(wanted, names, strict=True)
        for images in generator.sample([each] * count, seed).split(COLUMNS)
    ]
    write_file(out, sample_grid(rows, scale=max(1, TILE // rows[0].images.shape[-1])))
    print(f"{count * len(names)} images of {', '.join(names)} in {out}")


def evaluate(
    folder: Generator,
    *,
    samples: Annotated[int | None, typer.Option(help="Of the retained classes; otherwise as recorded.", min=2)] = None,
    forget_samples: Annotated[
        int | None, typer.Option(help="Of the forgotten classes; otherwise as recorded.", min=2)
    ] = None,
    forget: Annotated[
        list[str] | None, typer.Option(help="Forgotten class, if the folder was not exported; repeatable.")
    ] = None,
    override: Annotated[
        list[str] | None,
        typer.Option(help="What replaces it (a class, random or classifier), likewise; one for all, or one for each."),
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="Where the reference images are here; otherwise as recorded.", metavar="SOURCE")
    ] = None,
    inception: Annotated[
        str | None, typer.Option(help="Inception's weights, if the figures need them.", metavar="FILE")
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(help="Where the teacher is here, if its samples are the reference.", metavar="FOLDER"),
    ] = None,
    layout: Annotated[Layout, typer.Option("--format", help="How the figures are written.")] = Layout.TABLE,
) -> None:
    """Measure a generator anew."""
    from sfd_sweep.cli.tables import print_figures
    from sfd_sweep.export.verification import AssetLocations, evaluate_folder

    one_thread()
    each = override or []
    found = evaluate_folder(
        folder,
        samples=samples,
        forget_samples=forget_samples,
        forget=forget or (),
        override=each[0] if len(each) == 1 else tuple(each) or None,
        places=AssetLocations(reference=reference, inception=inception, teacher=teacher),
    )
    if layout is Layout.JSON:
        print(json.dumps({"metrics": found.metrics, "samples": found.samples}, indent=2))
    else:
        print_figures(found.metrics, found.samples)
