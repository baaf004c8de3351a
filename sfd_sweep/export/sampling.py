"""How images are made of a folder's model: in one step by a generator, or in many by a diffusion model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sfd_sweep.errors import UserError
from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.models.folder import ModelFolder
from sfd_sweep.models.loading import load_score_model
from sfd_sweep.models.samplers import DdimSampler, ImageSampler


@dataclass(frozen=True)
class Sampling:
    """How images are made of a model.

    Attributes:
        sampler: `one-step` for a generator, `ddim` for a diffusion model such as a teacher.
        steps: of DDIM.
        guidance_scale: of DDIM; 1 is no guidance.
        t_init: diffusion step at which a generator starts whose folder does not state it; None: the folder does.
    """

    sampler: Literal["one-step", "ddim"] = "one-step"
    steps: int = 50
    guidance_scale: float = 1.0
    t_init: int | None = None

    def load(self, source: str | Path, device: str, *, prompts: Sequence[str] = ()) -> ImageSampler:
        """Load the model of a folder for this sampling.

        Args:
            source: the folder, a hub id, or a shipped model.
            device: where to put it.
            prompts: its conditions by index; ignored if they are classes.

        Raises:
            UserError: there is none, or it is not to be sampled so.
        """
        folder = ModelFolder.open(str(source))
        if self.sampler == "one-step":
            return OneStepGenerator(load_score_model(folder, device, prompts=prompts), self._start(folder))
        if folder.t_init is not None:
            raise UserError(f"{folder.path} is a one-step generator, which ddim does not sample; leave out --sampler")
        if self.guidance_scale != 1 and folder.null_label is None:
            raise UserError(
                f"guidance needs a null label, and {folder.path} was trained without one; leave out --guidance"
            )
        return DdimSampler(load_score_model(folder, device, prompts=prompts), self.steps, self.guidance_scale)

    def _start(self, folder: ModelFolder) -> int:
        t_init, stated = self.t_init, folder.t_init
        if stated is not None:
            if t_init not in (None, stated):
                raise UserError(f"{folder.path} states that it starts at step {stated}; leave out --t-init")
            return stated
        if t_init is None:
            raise UserError(
                f"{folder.path} is no one-step generator: its model_index.json has no t_init; give --sampler ddim for "
                "a diffusion model, or --t-init for a generator of other software"
            )
        if t_init >= folder.diffusion_steps:
            raise UserError(f"--t-init {t_init}: the schedule of {folder.path} has {folder.diffusion_steps} steps")
        return t_init


AS_STATED = Sampling()
"""A one-step generator, as its folder states it."""
