"""Commands that take, make and look at models."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError

from sfd_sweep.cli.options import BestScore, Force, Knee, Max, Min, Number, Uri, choose
from sfd_sweep.cli.tables import console, figure, print_figures
from sfd_sweep.config import Settings
from sfd_sweep.errors import UserError

if TYPE_CHECKING:
    from sfd_sweep.evaluation.evaluator import Generate

Out = Annotated[Path, typer.Option(help="folder to make", metavar="DIR")]
Seed = Annotated[int, typer.Option(help="seed of every random draw")]
GeneratorFolder = Annotated[Path, typer.Argument(help="folder of a one-step generator", metavar="DIR")]

JUDGE = "builtin:digits"
GRID_PIXELS = 32


class Figures(StrEnum):
    """How figures are written."""

    TABLE = "table"
    JSON = "json"


def export(
    name: Annotated[str, typer.Argument(help="the sweep's name", metavar="NAME")],
    out: Out,
    trial: Number = None,
    knee: Knee = False,
    best_score: BestScore = False,
    most: Max = [],  # noqa: B006 (never changed)
    least: Min = [],  # noqa: B006
    alias: Annotated[str, typer.Option(help="alias in MLflow's model registry")] = "champion",
    force: Force = False,
    uri: Uri = None,
) -> None:
    """Export a trial's generator as a diffusers folder, checked after it was written, and register it."""
    from sfd_sweep.export.exporting import export_trial
    from sfd_sweep.sweep.results import Results

    results = Results.read(name, uri)
    choice = choose(results, trial=trial, knee=knee, best_score=best_score, most=most, least=least)
    if choice is None:
        raise UserError("say which trial: --trial N, --knee, --best-score, --max M=V or --min M=V")
    console.print(choice.why)
    exported = export_trial(results, choice, out, force=force, alias=alias, uri=uri)
    print_figures(exported.found.metrics, exported.found.samples)
    console.print(f"{exported.folder}: written, loaded again and measured: the figures are the recorded ones")
    console.print(f"registered as {exported.registered}")


def sample(
    folder: GeneratorFolder,
    label: Annotated[list[str], typer.Option(help="class, by index or name; may be given again")],
    out: Annotated[Path, typer.Option(help="picture to write (PNG)", metavar="FILE")],
    count: Annotated[int, typer.Option(help="images of each class", min=1)] = 64,
    seed: Annotated[int, typer.Option(help="seed of the first image", min=0)] = 0,
) -> None:
    """Sample a generator into a picture, a row block for each class."""
    from sfd_sweep.datasets.labels import class_index
    from sfd_sweep.distillation.generator import OneStepGenerator
    from sfd_sweep.evaluation.grid import GridRow, sample_grid
    from sfd_sweep.storage import Folder

    _one_thread()
    generator = OneStepGenerator.load(folder)
    rows = []
    for name in label:
        index = class_index(generator.class_names, name)
        images = generator.sample([index] * count, seed)
        rows += [GridRow(generator.class_names[index], row) for row in images.split(min(count, 16))]
    content = sample_grid(rows, scale=max(1, GRID_PIXELS // images.shape[-1]))
    try:
        Folder.open(out.absolute().parent).write(out.name, content)
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror or error}") from error
    console.print(f"{count * len(label)} images in {out}")


def evaluate(
    folder: GeneratorFolder,
    samples: Annotated[int | None, typer.Option(help="of the retained classes; otherwise as recorded", min=2)] = None,
    forget_samples: Annotated[int | None, typer.Option(help="of the forgotten classes", min=2)] = None,
    forget: Annotated[list[str], typer.Option(help="forgotten class, where the folder does not say")] = [],  # noqa: B006
    override: Annotated[str | None, typer.Option(help="what replaces it, where the folder does not say")] = None,
    format_: Annotated[Figures, typer.Option("--format", help="how the figures are written")] = Figures.TABLE,
) -> None:
    """Measure a generator anew: quality of what it keeps, and how well it has forgotten."""
    from sfd_sweep.export.verification import evaluate_folder

    _one_thread()
    report = evaluate_folder(folder, samples=samples, forget_samples=forget_samples, forget=forget, override=override)
    if format_ is Figures.JSON:
        print(json.dumps({"metrics": report.metrics, "samples": report.samples}, indent=2))
    else:
        print_figures(report.metrics, report.samples)


def pretrain(
    source: Annotated[str, typer.Argument(help="real images: builtin:digits", metavar="IMAGES")],
    out: Out,
    steps: Annotated[int, typer.Option(help="optimiser steps", min=1)] = 3000,
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Pretrain a small label-conditional teacher."""
    _refuse_existing(out, force)
    import torch

    from sfd_sweep.datasets.sources import load_images
    from sfd_sweep.diffusion.loading import save_score_model
    from sfd_sweep.diffusion.pretraining import Pretraining
    from sfd_sweep.diffusion.pretraining import pretrain as pretrain_teacher
    from sfd_sweep.diffusion.sampling import sample_ddim

    _one_thread()
    images = load_images(source)
    with _bar("pretraining", steps) as advance:
        model = pretrain_teacher(
            images.images,
            images.labels,
            classes=len(images.class_names),
            recipe=Pretraining(steps=steps, seed=seed),
            progress=lambda step, _steps, _loss: advance(step),
        )
    index = {"_class_name": "DDPMPipeline"}
    save_score_model(model, out, images.class_names, index=index, dtype=torch.float16)
    distance = _distance(lambda c, noise: sample_ddim(model, c, noise, guidance_scale=1.25), source)
    console.print(f"{out}: fd_classifier {figure(distance)} on 2,000 samples (DDIM, 20 steps, guidance 1.25)")


def distill(
    teacher: Annotated[str, typer.Argument(help="builtin:digits, a diffusers folder or a hub id", metavar="TEACHER")],
    out: Out,
    steps: Annotated[int, typer.Option(help="updates of generator and fake score", min=1)] = 200,
    generator_lr: Annotated[float, typer.Option(help="learning rate of the generator")] = 2e-4,
    fake_score_lr_ratio: Annotated[float, typer.Option(help="the fake score's, over the generator's")] = 2.5,
    guidance_scale: Annotated[float, typer.Option(help="guidance of the teacher; 1 is none")] = 1.25,
    alpha: Annotated[float, typer.Option(help="α of the generator's loss")] = 1.2,
    batch_size: Annotated[int, typer.Option(help="conditions an update")] = 32,
    ema_decay: Annotated[float, typer.Option(help="of the generator's moving average")] = 0.99,
    fake_score_loss: Annotated[str, typer.Option(help="epsilon or velocity")] = "velocity",
    t_init: Annotated[int, typer.Option(help="diffusion step at which the generator is evaluated")] = 440,
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Distil a teacher into a one-step generator that has forgotten nothing, for sweeps to start from."""
    _refuse_existing(out, force)
    settings = _settings(
        generator_lr=generator_lr,
        fake_score_lr_ratio=fake_score_lr_ratio,
        guidance_scale=guidance_scale,
        alpha=alpha,
        batch_size=batch_size,
        ema_decay=ema_decay,
        fake_score_loss=fake_score_loss,
        t_init=t_init,
    )
    import torch

    from sfd_sweep.diffusion.loading import load_score_model
    from sfd_sweep.diffusion.model_folder import ModelFolder
    from sfd_sweep.distillation.distill import distill as distill_teacher
    from sfd_sweep.errors import TrialFailed

    _one_thread()
    folder = ModelFolder.open(teacher)
    model = load_score_model(folder)
    try:
        with _bar("distilling", steps) as advance:
            generator = distill_teacher(
                model, settings, class_names=folder.class_names, steps=steps, seed=seed, progress=advance
            )
    except TrialFailed as error:
        raise UserError(f"{error}; try a lower --generator-lr") from error
    generator.save(out, dtype=torch.float16)
    console.print(f"{out}: a one-step generator of {len(folder.class_names)} classes")
    if teacher == JUDGE:
        console.print(f"fd_classifier {figure(_distance(generator.generate, JUDGE))} on 2,000 samples")


def train_classifier(
    source: Annotated[str, typer.Argument(help="real images: builtin:digits", metavar="IMAGES")],
    out: Out,
    epochs: Annotated[int, typer.Option(help="passes over the images", min=1)] = 25,
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Train the classifier that judges generators."""
    _refuse_existing(out, force)
    from sfd_sweep.datasets.sources import load_images
    from sfd_sweep.evaluation.training import TrainingRecipe
    from sfd_sweep.evaluation.training import train_classifier as train

    _one_thread()
    images = load_images(source)
    with _bar("training", epochs) as advance:
        trained = train(
            images, seed=seed, recipe=TrainingRecipe(epochs=epochs), progress=lambda epoch, _loss: advance(epoch)
        )
    trained.classifier.save(out)
    console.print(f"{out}: {trained.held_out_accuracy:.2%} of the held-out images are called right")


def _settings(**chosen: object) -> Settings:
    try:
        return Settings.model_validate(chosen)
    except ValidationError as error:
        first = error.errors()[0]
        option = "--" + str(first["loc"][0] if first["loc"] else "t-init").replace("_", "-")
        raise UserError(f"{option}: {first['msg'].lower()}, not {first['input']!r}") from error


def _distance(generate: Generate, source: str) -> float:
    from sfd_sweep.datasets.sources import load_images
    from sfd_sweep.evaluation.classifier import Classifier
    from sfd_sweep.evaluation.quality import classifier_distance

    return classifier_distance(generate, Classifier.load(JUDGE), load_images(source))


@contextmanager
def _bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.update(TaskID(task), completed=done)


def _refuse_existing(out: Path, force: bool) -> None:
    if out.exists() and not force:
        raise UserError(f"{out} is there already; choose another folder, or --force to replace it")


def _one_thread() -> None:
    """Small networks are slower on several threads; who has set OMP_NUM_THREADS knows better."""
    import torch

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
