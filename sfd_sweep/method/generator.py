"""The one-step generator: what a trial trains, what is judged, and what a user takes home."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from sfd_sweep.datasets.labels import class_index
from sfd_sweep.errors import UserError
from sfd_sweep.models.folder import ModelFolder
from sfd_sweep.models.loading import load_score_model, save_score_model
from sfd_sweep.models.score_model import ScoreModel

PIPELINE = Path(__file__).with_name("one_step_pipeline.py")


class OneStepGenerator:
    """G(z, c) = x̂_θ(b_init·z, t_init, c): one forward from noise to image, or to the latent of one.

    Args:
        model: θ, a score model.
        t_init: the diffusion step at which it is evaluated.
        class_names: the classes' names by index, or the prompts.
    """

    def __init__(self, model: ScoreModel, t_init: int, class_names: Sequence[str]) -> None:
        self.model = model
        self.t_init = t_init
        self.class_names = tuple(class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image."""
        return self.model.image_shape

    @property
    def reads_text(self) -> bool:
        """Whether conditions are prompts, and no classes."""
        return self.model.prompts is not None

    def with_prompts(self, prompts: Sequence[str]) -> OneStepGenerator:
        """The same generator, with other prompts for conditions.

        Raises:
            UserError: its conditions are classes, or a prompt is too long.
        """
        return OneStepGenerator(self.model.with_prompts(prompts), self.t_init, prompts)

    def __call__(self, z: Tensor, c: Tensor) -> Tensor:
        """Images or their latents, (n, C, H, W), from noise of that shape and indices of conditions of shape (n,)."""
        t = torch.full((len(z),), self.t_init, device=z.device)
        return self.model.forward(self.model.schedule.diffuse(torch.zeros_like(z), t, z), t, c).x_0

    @torch.no_grad()
    def generate(self, c: Tensor, generator: torch.Generator) -> Tensor:
        """Images of shape (n, C, H, W), about [-1, 1], for indices of conditions (n,), with noise from `generator`."""
        device = self.model.device
        z = torch.randn(len(c), *self.model.sample_shape, generator=generator, device=generator.device)
        return self.model.decode(self(z.to(device), c.to(device)))

    def sample(self, labels: Sequence[int | str], seed: int = 0) -> Tensor:
        """Images of shape (n, C, H, W), in [-1, 1], one a label; image i depends on `seed + i` and its label alone.

        Args:
            labels: a class for each image, by index or name; or any prompt, if it is prompts that the generator reads.
            seed: of the first image.

        Raises:
            UserError: there is no such class, or a prompt is too long.
        """
        one, c = self._asked_for(labels)
        device = self.model.device
        rows = [
            torch.randn(1, *self.model.sample_shape, generator=torch.Generator().manual_seed(seed + row))
            for row in range(len(c))
        ]
        with torch.no_grad():
            images = self.model.decode(one(torch.cat(rows).to(device), c.to(device)))
        return images.clamp(-1, 1).cpu()

    def _asked_for(self, labels: Sequence[int | str]) -> tuple[OneStepGenerator, Tensor]:
        """The generator with what is asked for as conditions, and their indices."""
        if not self.reads_text:
            return self, torch.tensor([class_index(self.class_names, label) for label in labels])
        prompts = list(dict.fromkeys(map(str, labels)))
        return self.with_prompts(prompts), torch.tensor([prompts.index(str(label)) for label in labels])

    def save(self, folder: Path, *, dtype: torch.dtype = torch.float32) -> None:
        """Write a diffusers folder with its own pipeline code; whole, or not at all."""
        save_score_model(
            self.model,
            folder,
            self.class_names,
            index={"_class_name": ["pipeline", "OneStepPipeline"], "t_init": self.t_init},
            extra_files={"pipeline.py": PIPELINE},
            dtype=dtype,
        )

    @classmethod
    def load(
        cls, source: str | Path, device: torch.device | str = "cpu", *, prompts: Sequence[str] = ()
    ) -> OneStepGenerator:
        """The generator in a folder (or `builtin:digits-distilled`).

        Args:
            source: the folder.
            device: where to put it.
            prompts: its conditions, if it is prompts that it reads.

        Raises:
            UserError: there is none, or it is a teacher.
        """
        folder = ModelFolder.open(str(source))
        if folder.t_init is None:
            raise UserError(f"{folder.path} is no one-step generator: its model_index.json has no t_init")
        model = load_score_model(folder, device, prompts=prompts)
        return cls(model, folder.t_init, prompts if folder.reads_text else folder.class_names)
