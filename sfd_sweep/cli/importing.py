"""The command that takes models over from elsewhere."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sfd_sweep.cli.making import check_target, parse_class_names
from sfd_sweep.cli.options import ClassNames, Force
from sfd_sweep.errors import UserError
from sfd_sweep.teachers.research_checkpoint import Network, Weights

T_INIT = 440


class Layout(StrEnum):
    """How a checkpoint's network is built."""

    DDPM = "ddpm"


def import_checkpoint(
    checkpoint: Annotated[
        Path, typer.Argument(help="A file of torch, as the research code saves it.", metavar="CHECKPOINT")
    ],
    out: Annotated[Path, typer.Argument(help="The folder to make.", metavar="DIR")],
    *,
    class_names: ClassNames,
    layout: Annotated[
        Layout, typer.Option(help="Its network: the U-Net of Selective Amnesia, SalUn and SFD.")
    ] = Layout.DDPM,
    network: Annotated[
        Network | None,
        typer.Option(help="Which of its networks; otherwise the teacher, or of a distilled one the generator."),
    ] = None,
    weights: Annotated[
        Weights | None, typer.Option(help="Which weights of it; otherwise the average, if it is there.")
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            help="Pixels along an image's edge; otherwise such that the network's attention is at 16×16.", min=1
        ),
    ] = None,
    t_init: Annotated[
        int | None,
        typer.Option(help=f"Diffusion step at which a generator is evaluated; otherwise {T_INIT}.", min=0, max=999),
    ] = None,
    force: Force = False,
) -> None:
    """Import a checkpoint of research code.

    What is written computes the same, as a teacher's or a one-step generator's folder.
    """
    check_target(out, force)
    names = parse_class_names(class_names)
    from sfd_sweep.method.generator import OneStepGenerator
    from sfd_sweep.models.loading import save_score_model
    from sfd_sweep.teachers import ddpm_layout
    from sfd_sweep.teachers.research_checkpoint import ResearchCheckpoint

    chosen = ResearchCheckpoint.read(checkpoint.expanduser()).choose(network, weights)
    if t_init is not None and chosen.network is not Network.GENERATOR:
        raise UserError(f"--t-init is of a generator, but a {chosen.network} is imported; leave it out")
    score_model = {Layout.DDPM: ddpm_layout.score_model}[layout]
    model = score_model(chosen, size)
    if len(names) != model.null_label:
        raise UserError(f"{checkpoint} has {model.null_label} classes, but --class-names has {len(names)}")
    if chosen.network is Network.GENERATOR:
        OneStepGenerator(model, T_INIT if t_init is None else t_init, names).save(out)
    else:
        save_score_model(model, out, names, index={"_class_name": "DDPMPipeline"})
    edge = model.sample_shape[-1]
    parameters = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    print(
        f"{out}: a {chosen.network} of {len(names)} classes and {edge}×{edge} pixels, "
        f"with {parameters:.1f} million parameters, from its {chosen.weights} weights"
    )
