"""Commands that sample, evaluate, and import models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sfd_sweep.cli.options import (
    ClassNames,
    Force,
    Json,
    check_target,
    one_thread,
    override_of,
    parse_class_names,
    write_file,
)
from sfd_sweep.errors import UserError

if TYPE_CHECKING:
    from sfd_sweep.export.sampling import Sampling

Generator = Annotated[
    Path, typer.Argument(help="Folder of a one-step generator (or builtin:digits-distilled).", metavar="DIR")
]
Model = Annotated[
    Path,
    typer.Argument(help="Folder of a one-step generator, or of a diffusion model (--sampler ddim).", metavar="DIR"),
]
COLUMNS = 16
MIN_TILE = 32
"""Smallest size of an image in a picture, in pixels."""
T_INIT = 440


def sample(
    folder: Generator,
    *,
    out: Annotated[Path, typer.Option(help="Picture to write (PNG).", metavar="FILE")],
    labels: Annotated[
        list[str] | None, typer.Option("--label", help="Class, by index or name; repeatable; default: all classes.")
    ] = None,
    prompts: Annotated[
        list[str] | None, typer.Option("--prompt", help="Prompt of a text-to-image generator; repeatable.")
    ] = None,
    count: Annotated[int, typer.Option(help="Images of each class or prompt.", min=1)] = 64,
    seed: Annotated[int, typer.Option(help="Seed of the first image of each class; image i has seed + i.", min=0)] = 0,
) -> None:
    """Make a picture of samples.

    All classes or prompts have the same noise.
    """
    import torch

    from sfd_sweep.evaluation.sample_grid import GridRow, sample_grid
    from sfd_sweep.method.generator import OneStepGenerator
    from sfd_sweep.models.conditioning import CLASSES

    one_thread()
    generator = OneStepGenerator.load(folder)
    given = {"labels": labels, "prompt": prompts}
    wanted = given.pop(generator.kind.argument) or range(len(generator.condition_names))
    if any(given.values()) or not wanted:
        option = "--label" if generator.kind is CLASSES else "--prompt"
        raise UserError(f"{folder} makes images of {generator.kind.plural}: give one or more by {option} alone")
    conditions, indices = generator.model.conditioning.select(wanted, torch.device("cpu"))
    names = [conditions.names[index] for index in indices]
    asked: Sequence[int | str] = indices if generator.kind is CLASSES else names  # two classes may have the same name
    rows = [
        GridRow(name, images)
        for each, name in zip(asked, names, strict=True)
        for images in generator.sample([each] * count, seed).split(COLUMNS)
    ]
    write_file(out, sample_grid(rows, scale=max(1, MIN_TILE // rows[0].images.shape[-1])))
    print(f"{count * len(names)} images of {', '.join(names)} in {out}")


def evaluate(
    folder: Model,
    *,
    samples: Annotated[
        int | None, typer.Option(help="Samples of retained conditions; default: as recorded.", min=2)
    ] = None,
    forget_samples: Annotated[
        int | None, typer.Option(help="Samples of forgotten conditions; default: as recorded.", min=2)
    ] = None,
    forget: Annotated[
        list[str] | None, typer.Option(help="Forgotten class of a folder that was not exported; repeatable.")
    ] = None,
    override: Annotated[
        list[str] | None,
        typer.Option(help="Override of such a class (a class, random, or classifier); one for all, or one for each."),
    ] = None,
    space: Annotated[
        Path | None,
        typer.Option(
            help="Search-space file that states how a folder that was not exported is evaluated and what is forgotten; "
            "models of prompts need it.",
            metavar="FILE",
        ),
    ] = None,
    classifier: Annotated[
        str | None,
        typer.Option(help="Classifier; default: as recorded, or that of a search-space file.", metavar="SOURCE"),
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="Reference images; default: as recorded.", metavar="SOURCE")
    ] = None,
    inception: Annotated[str | None, typer.Option(help="Weights of Inception-V3.", metavar="FILE")] = None,
    teacher: Annotated[
        str | None, typer.Option(help="Teacher, if its samples are the reference; default: as recorded.", metavar="DIR")
    ] = None,
    sampler: Annotated[
        Literal["one-step", "ddim"], typer.Option(help="How images are made; ddim for a diffusion model.")
    ] = "one-step",
    steps: Annotated[int | None, typer.Option(help="Steps of ddim; default: 50.", min=1)] = None,
    guidance: Annotated[
        float | None, typer.Option(help="Guidance scale of ddim; default: 1, which is none.", min=0)
    ] = None,
    t_init: Annotated[
        int | None,
        typer.Option(help="Diffusion step at which a generator starts whose folder does not state it.", min=0),
    ] = None,
    final: Annotated[
        bool, typer.Option("--final", help="Add the metrics of a final evaluation, on Inception-V3.")
    ] = False,
    layout: Annotated[Literal["table", "json"], typer.Option("--format", help="Format of the metrics.")] = "table",
    as_json: Json = False,
) -> None:
    """Evaluate a generator or a teacher."""
    from sfd_sweep.cli.tables import print_json, print_metrics
    from sfd_sweep.config import load_search_space
    from sfd_sweep.export.folder_evaluation import AssetLocations, evaluate_folder

    one_thread()
    found = evaluate_folder(
        folder,
        samples=samples,
        forget_samples=forget_samples,
        forget=forget or (),
        override=override_of(override),
        assets=AssetLocations(reference=reference, inception=inception, teacher=teacher, classifier=classifier),
        space=None if space is None else load_search_space(space),
        sampling=_sampling(sampler, steps, guidance, t_init),
        final=final,
    )
    if as_json or layout == "json":
        print_json({"metrics": found.metrics, "samples": found.samples})
    else:
        print_metrics(found.metrics, found.samples)


def _sampling(
    sampler: Literal["one-step", "ddim"], steps: int | None, guidance: float | None, t_init: int | None
) -> Sampling:
    from sfd_sweep.export.sampling import Sampling

    if sampler == "ddim":
        if t_init is not None:
            raise UserError("--t-init is for a one-step generator; leave it out, or leave out --sampler ddim")
        return Sampling(sampler, steps or Sampling.steps, Sampling.guidance_scale if guidance is None else guidance)
    for option, value in (("--steps", steps), ("--guidance", guidance)):
        if value is not None:
            raise UserError(f"{option} is for a diffusion model; add --sampler ddim, or leave it out")
    return Sampling(sampler, t_init=t_init)


def import_checkpoint(
    checkpoint: Annotated[Path, typer.Argument(help="File that torch.save has written.", metavar="CHECKPOINT")],
    out: Annotated[Path, typer.Argument(help="Folder to create.", metavar="DIR")],
    *,
    class_names: ClassNames,
    layout: Annotated[  # noqa: ARG001 (the only layout)
        Literal["ddpm"], typer.Option(help="Layout: the U-Net of Selective Amnesia, SalUn, and SFD.")
    ] = "ddpm",
    network: Annotated[
        Literal["teacher", "generator", "fake-score"] | None,
        typer.Option(help="Network to import; default: the teacher, or the generator of a distillation."),
    ] = None,
    weights: Annotated[
        Literal["ema", "raw"] | None,
        typer.Option(help="Weights to import; default: the moving average if there is one."),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(help="Image size in pixels; default: the size that puts attention at 16×16.", min=1),
    ] = None,
    t_init: Annotated[
        int | None,
        typer.Option(help=f"Diffusion step at which a generator starts; default: {T_INIT}.", min=0, max=999),
    ] = None,
    force: Force = False,
) -> None:
    """Import a checkpoint of research code.

    The folder computes the same as the checkpoint, as a teacher or a one-step generator.
    """
    check_target(out, force)
    names = parse_class_names(class_names)
    from sfd_sweep.method.generator import OneStepGenerator
    from sfd_sweep.models.loading import save_score_model
    from sfd_sweep.teachers import ddpm_layout
    from sfd_sweep.teachers.research_checkpoint import Network, ResearchCheckpoint, Weights

    chosen = ResearchCheckpoint.read(checkpoint.expanduser()).choose(
        None if network is None else Network(network), None if weights is None else Weights(weights)
    )
    if t_init is not None and chosen.network is not Network.GENERATOR:
        raise UserError(f"--t-init is for a generator, and the checkpoint's {chosen.network} is imported; remove it")
    model = ddpm_layout.score_model(chosen, size, names)
    if chosen.network is Network.GENERATOR:
        OneStepGenerator(model, T_INIT if t_init is None else t_init).save(out)
    else:
        save_score_model(model, out)
    edge = model.sample_shape[-1]
    parameters = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    print(
        f"{out}: {chosen.network} of {len(names)} classes at {edge}×{edge} pixels with {parameters:.1f} million "
        f"parameters, from its {chosen.weights} weights"
    )
