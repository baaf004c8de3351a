"""A one-step, label-conditional generator as a diffusers pipeline.

This file is laid beside the weights as `pipeline.py` and imports nothing but diffusers, numpy, Pillow and torch:

    pipe = DiffusionPipeline.from_pretrained(folder, custom_pipeline=folder, trust_remote_code=True)
    images = pipe(labels=[3, 3, 7], seeds=[0, 1, 2]).images
"""

from __future__ import annotations

import torch
from diffusers import DDPMScheduler, DiffusionPipeline, ImagePipelineOutput, UNet2DModel


class OneStepPipeline(DiffusionPipeline):
    """G(z, c) = x̂_0(b·z, t_init, c): one forward of the network makes the image.

    Args:
        unet: class-conditional network.
        scheduler: its noise schedule and prediction type.
        t_init: the diffusion step at which the network is evaluated.
        id2label: the classes' names by index.
    """

    def __init__(
        self,
        unet: UNet2DModel,
        scheduler: DDPMScheduler,
        t_init: int = 440,
        id2label: dict[str, str] | None = None,
    ) -> None:
        # diffusers takes an argument without a default for a module.
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)
        self.register_to_config(t_init=t_init, id2label=id2label or {})

    def label_of(self, label: int | str) -> int:
        """A class's index, from its index or its name."""
        names = {str(name): int(index) for index, name in self.config.id2label.items()}
        if isinstance(label, str) and label in names:
            return names[label]
        if not isinstance(label, str) and int(label) in names.values():
            return int(label)
        raise ValueError(f"no class {label!r}; there are {', '.join(names)}")

    def noise(self, count: int, seeds: list[int] | None, generator: torch.Generator | None) -> torch.Tensor:
        """z of shape (count, C, H, W): each row from its own seed, or all from one generator."""
        size, channels = self.unet.config.sample_size, self.unet.config.in_channels
        if seeds is None:
            device = "cpu" if generator is None else generator.device
            return torch.randn(count, channels, size, size, generator=generator, device=device)
        if len(seeds) != count:
            raise ValueError(f"{count} labels need {count} seeds, not {len(seeds)}")
        rows = [
            torch.randn(1, channels, size, size, generator=torch.Generator().manual_seed(int(seed))) for seed in seeds
        ]
        return torch.cat(rows)

    @torch.no_grad()
    def __call__(
        self,
        labels: list[int | str],
        seeds: list[int] | None = None,
        generator: torch.Generator | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> ImagePipelineOutput | tuple[object]:
        """Make one image a label.

        Args:
            labels: a class for each image, by index or name.
            seeds: a seed for each image, so that it does not depend on what else is in the batch.
            generator: the source of all noise where `seeds` is not given.
            output_type: `pil`, `np` (n, H, W, C in [0, 1]) or `pt` (n, C, H, W in [0, 1]).
            return_dict: False for a plain tuple.

        Raises:
            ValueError: an unknown class or output type, or not one seed for each label.
        """
        if output_type not in ("pil", "np", "pt"):
            raise ValueError(f"output_type {output_type!r} is none of pil, np, pt")
        device = self.unet.device
        c = torch.tensor([self.label_of(label) for label in labels], dtype=torch.long)
        z = self.noise(len(c), seeds, generator)
        t = int(self.config.t_init)
        alpha_cumprod = self.scheduler.alphas_cumprod[t]
        x_t = ((1 - alpha_cumprod).sqrt() * z).to(device, self.unet.dtype)
        output = self.unet(x_t, torch.full((len(c),), t, device=device), class_labels=c.to(device)).sample
        x_0 = self.scheduler.step(output, t, x_t).pred_original_sample
        images = (x_0.float().cpu() / 2 + 0.5).clamp(0, 1)
        if output_type != "pt":
            images = images.permute(0, 2, 3, 1).numpy()
        if output_type == "pil":
            images = self.numpy_to_pil(images)
        return ImagePipelineOutput(images=images) if return_dict else (images,)
