"""The checks of an exported folder: checksums, images of the pipeline in stock diffusers, and agreement of figures."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import nullcontext
from math import log, sqrt
from pathlib import Path
from typing import Any

from diffusers import DiffusionPipeline
from diffusers.utils import logging as diffusers_logging

from sfd_sweep.errors import UserError, first_line
from sfd_sweep.export.description import Figures
from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.metrics import METRICS, Scale
from sfd_sweep.models.conditioning import CLASSES
from sfd_sweep.optional_transformers import quiet_transformers

CHECKSUMS = "SHA256SUMS"
COMPARED_IMAGES = 16
COMPARED_PIXELS = 2**17
"""Two images of 256×256: a CPU decodes one in a minute."""
SAME_IMAGE = 1e-4
"""Of a pixel in [0, 1]: the pipeline orders its arithmetic differently, which changes the rounding; a gray level is
4e-3."""
STANDARD_ERRORS = 3
INCEPTION_CLASSES = 1008


def write_checksums(folder: Path) -> None:
    """Write the hash of every file in the folder, in the format of `sha256sum`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != CHECKSUMS)
    lines = [f"{sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    (folder / CHECKSUMS).write_text("".join(lines), encoding="utf-8")


def check_checksums(folder: Path) -> None:
    """Compare every listed file with its hash.

    Raises:
        UserError: a file is missing or was changed, or the hashes are.
    """
    path = folder / CHECKSUMS
    if not path.is_file():
        raise UserError(f"{path} is missing, so the folder cannot be checked; export it again")
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        expected, separator, name = line.partition("  ")
        if not separator:
            raise UserError(f"{path} has a line that is no hash and file name ({line[:60]!r}); export the folder again")
        if not (folder / name).is_file():
            raise UserError(f"{folder / name} is missing; export the folder again")
        if sha256(folder / name) != expected:
            raise UserError(f"{folder / name} has changed since it was exported (SHA-256 differs); export it again")


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_pipeline(folder: Path, names: Sequence[str]) -> None:
    """Load the folder with diffusers alone, and compare the pipeline's images with the generator's.

    On the CPU: a GPU's convolutions round so coarsely that the order of the arithmetic would show.

    Args:
        folder: of the generator, with its pipeline.
        names: of the conditions.

    Raises:
        UserError: the pipeline does not load or makes other images.
    """
    generator = OneStepGenerator.load(folder)
    _, height, width = generator.image_shape
    most = min(COMPARED_IMAGES, max(2, COMPARED_PIXELS // (height * width)))
    conditions: list[int | str] = [*(range(len(names)) if generator.kind is CLASSES else names)][:most]
    with quiet_transformers() if generator.kind.libraries else nullcontext():
        pipeline = _load_pipeline(folder)
    images = pipeline(
        **{generator.kind.argument: conditions}, seeds=list(range(len(conditions))), output_type="pt"
    ).images
    difference = float((images - (generator.sample(conditions, seed=0) / 2 + 0.5)).abs().max())
    if not difference <= SAME_IMAGE:
        raise UserError(
            f"the exported pipeline makes other images than the generator (they differ by {difference:.2g} of 1); its "
            "scheduler is not one that it was trained with: export another trial"
        )


def _load_pipeline(folder: Path) -> Any:
    diffusers_logging.disable_progress_bar()
    try:
        return DiffusionPipeline.from_pretrained(
            folder, custom_pipeline=str(folder), trust_remote_code=True, low_cpu_mem_usage=False
        )
    except (OSError, ValueError) as error:
        reason = first_line(error)
        raise UserError(f"diffusers cannot load the exported folder ({reason}); export another trial") from error
    finally:
        diffusers_logging.enable_progress_bar()


def check_figures(recorded: Figures, found: Figures, *, classes: int) -> None:
    """Compare figures that were measured again with the recorded ones.

    With equal seeds on the same kind of device they agree to rounding. Another kind draws other noise from the same
    seed, so only a difference beyond the noise of an evaluation counts (see `tolerance`). Figures of attacks are left
    to an audit of the folder.

    Args:
        classes: number of the classifier's classes.

    Raises:
        UserError: a figure differs; the message gives both.
    """
    if differing := differing_figure(recorded, found, classes=classes):
        raise UserError(
            f"{differing}, so nothing was exported: the weights or the evaluation are not those of the sweep; restore "
            "them, or export another trial"
        )


def differing_figure(recorded: Figures, found: Figures, *, classes: int) -> str | None:
    """Return the first recorded figure that was measured differently, in words; None if all agree."""
    for name, value in recorded.metrics.items():
        if METRICS[name].audited:
            continue
        allowed = tolerance(recorded, name, classes)
        if not abs(found.metrics[name] - value) <= allowed:
            return (
                f"{name} was recorded as {value:.4g}, but the generator has {found.metrics[name]:.4g} "
                f"(noise explains ±{allowed:.2g})"
            )
    return None


def tolerance(recorded: Figures, metric: str, classes: int) -> float:
    """Return three standard errors of the difference between two evaluations on as many samples as the recorded one."""
    value, n = recorded.metrics[metric], recorded.count(metric)
    return STANDARD_ERRORS * sqrt(2) * standard_error(METRICS[metric].scale, value, n, classes)


def standard_error(scale: Scale, value: float, n: int, classes: int) -> float:
    """Return the standard deviation of a figure over evaluation seeds, or a bound on it.

    - A share is binomial, √(p·(1 - p)/n), with two hits and two misses added so that 0 and 1 have an error too (Agresti
      & Coull, 1998). A mean of values from 0 to 1, a probability or a cosine, spreads less than that.
    - A Fréchet distance d on digits was measured at n = 2,000 over twelve seeds of each of seven generators: 0.04 for
      d ≤ 1, 0.04·√d for d to 5 (as the delta method has it), and up to 0.01·d for d of 70 to 200. A kernel distance
      is allowed as much.
    - An entropy lies in [0, ln(classes)], so it spreads by half of that at most (Popoviciu); so does the logarithm of
      an Inception score, with the classes of Inception-V3.
    """
    match scale:
        case Scale.SHARE | Scale.COSINE:
            p = (value * n + 2) / (n + 4)
            return sqrt(p * (1 - p) / n)
        case Scale.DISTANCE | Scale.KERNEL:
            return 0.04 * max(1.0, sqrt(max(value, 0.0)), value / 4) * sqrt(2000 / n)
        case Scale.NATS:
            return log(classes) / 2 / sqrt(n)
        case Scale.SCORE:
            return value * log(INCEPTION_CLASSES) / 2 / sqrt(n)
