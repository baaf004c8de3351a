"""The one-step generator: what a trial trains, evaluates and exports."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from sfd_sweep.errors import UserError
from sfd_sweep.models.folder import ModelFolder
from sfd_sweep.models.loading import load_score_model, save_score_model
from sfd_sweep.models.samplers import ImageSampler
from sfd_sweep.models.score_model import ScoreModel

PIPELINE = Path(__file__).with_name("one_step_pipeline.py")
CONDITIONS_AT_ONCE = 256
"""Conditions that are embedded at a time to be hashed."""


class OneStepGenerator(ImageSampler):
    """G(z, c) = x̂_θ(b_init·z, t_init, c): one forward from noise to an image, or to the latent of one.

    Args:
        model: θ.
        t_init: the diffusion step at which it starts.
    """

    def __init__(self, model: ScoreModel, t_init: int) -> None:
        self.model = model
        self.t_init = t_init

    def content_hash(self) -> str:
        """Return the same for generators that make the same images of the same conditions."""
        model = self.model
        content = hashlib.sha256(f"{self.t_init} {model.prediction_type} {model.weights_hash()}".encode())
        for c in torch.arange(len(self.condition_names), device=model.device).split(CONDITIONS_AT_ONCE):
            for argument in model.conditioning.arguments(c).values():
                content.update(argument.cpu().contiguous().numpy().tobytes())
        return content.hexdigest()

    def __call__(self, z: Tensor, c: Tensor) -> Tensor:
        """Return G(z, c), (n, C, H, W), for noise of that shape and condition indices (n,)."""
        t = torch.full((len(z),), self.t_init, device=z.device)
        b_init_z = self.model.schedule.diffuse(torch.zeros_like(z), t, z)
        return self.model.forward(b_init_z, t, c).x_0

    @torch.no_grad()
    def generate(self, c: Tensor, generator: torch.Generator) -> Tensor:
        """Return images; see `ImageSampler.generate`."""
        device = self.model.device
        z = torch.randn(len(c), *self.model.sample_shape, generator=generator, device=generator.device)
        return self.model.decode(self(z.to(device), c.to(device)))

    @torch.no_grad()
    def sample(self, conditions: Sequence[int | str], seed: int = 0) -> Tensor:
        """Return one image for each condition, (n, C, H, W), in [-1, 1], on the CPU.

        Image i depends on `seed + i` and its condition alone.

        Args:
            conditions: classes by index or name; or any prompts, if the generator reads prompts.
            seed: of the first image.

        Raises:
            UserError: there is no such class, or a prompt is too long.
        """
        device, shape = self.model.device, self.model.sample_shape
        conditioning, indices = self.model.conditioning.select(conditions, device)
        asked = OneStepGenerator(self.model.with_conditioning(conditioning), self.t_init)
        c = torch.tensor(indices)
        z = [torch.randn(1, *shape, generator=torch.Generator().manual_seed(seed + row)) for row in range(len(c))]
        return self.model.decode(asked(torch.cat(z).to(device), c.to(device))).clamp(-1, 1).cpu()

    def save(self, folder: Path, *, dtype: torch.dtype = torch.float32) -> None:
        """Write a diffusers folder with its own pipeline code; it appears whole, or not at all."""
        save_score_model(
            self.model,
            folder,
            index={"_class_name": ["pipeline", "OneStepPipeline"], "t_init": self.t_init},
            extra_files={"pipeline.py": PIPELINE},
            dtype=dtype,
        )

    @classmethod
    def load(
        cls, source: str | Path, device: torch.device | str = "cpu", *, prompts: Sequence[str] = ()
    ) -> OneStepGenerator:
        """Load the generator in a folder (or `builtin:digits-distilled`).

        Args:
            source: the folder.
            device: where to put it.
            prompts: its conditions by index; ignored if they are classes.

        Raises:
            UserError: there is none, or it is a teacher.
        """
        folder = ModelFolder.open(str(source))
        if folder.t_init is None:
            raise UserError(f"{folder.path} is no one-step generator: its model_index.json has no t_init")
        return cls(load_score_model(folder, device, prompts=prompts), folder.t_init)
