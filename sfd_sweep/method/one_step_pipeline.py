"""A one-step generator of classes or prompts as a diffusers pipeline.

This file lies beside the weights as `pipeline.py` and imports nothing but diffusers and torch:

    pipe = DiffusionPipeline.from_pretrained(folder, custom_pipeline=folder, trust_remote_code=True)
    images = pipe(labels=[3, 3, 7], seeds=[0, 1, 2]).images
    images = pipe(prompt="a photo of a cat").images  # if the folder has a text encoder
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    DiffusionPipeline,
    DiTTransformer2DModel,
    FlowMatchEulerDiscreteScheduler,
    ImagePipelineOutput,
    UNet2DConditionModel,
    UNet2DModel,
)

PIXELS_AT_ONCE = 2**18  # that are decoded: about 1 GB in the autoencoder of Stable Diffusion


class OneStepPipeline(DiffusionPipeline):
    """G(z, c) = x̂_0(b·z, t_init, c): one forward of the network makes the image, or its latent.

    Args:
        scheduler: the network's noise schedule and prediction type.
        unet: network that is conditioned on a class or on a prompt, or else
        transformer: network that is conditioned on a class.
        vae: decodes latents, if the network works on them.
        text_encoder: embeds prompts.
        tokenizer: of the text encoder.
        t_init: the diffusion step at which the network starts.
        id2label: the names of the classes by index.
        absent: what the network was never trained on.
    """

    # diffusers takes an argument without a default for a module, and these for modules that a folder may lack.
    _optional_components = ["unet", "transformer", "vae", "text_encoder", "tokenizer"]  # noqa: RUF012

    def __init__(
        self,
        scheduler: DDPMScheduler | FlowMatchEulerDiscreteScheduler,
        unet: UNet2DModel | UNet2DConditionModel | None = None,
        transformer: DiTTransformer2DModel | None = None,
        vae: AutoencoderKL | None = None,
        text_encoder: torch.nn.Module | None = None,
        tokenizer: Callable[..., Any] | None = None,
        t_init: int = 440,
        id2label: dict[str, str] | None = None,
        absent: dict[str, list[int] | list[str]] | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(
            scheduler=scheduler,
            unet=unet,
            transformer=transformer,
            vae=vae,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
        )
        self.register_to_config(t_init=t_init, id2label=id2label or {}, absent=absent or {})

    @property
    def network(self) -> UNet2DModel | UNet2DConditionModel | DiTTransformer2DModel:
        """The network, whichever it is."""
        return self.transformer if self.unet is None else self.unet

    def label_of(self, label: int | str) -> int:
        """Return a class's index, from its index or its name, or from one of several names if it is unique."""
        names = {int(index): str(name) for index, name in self.config.id2label.items()}
        if not isinstance(label, str):
            found = [int(label)] if int(label) in names else []
        else:
            found = [index for index, name in names.items() if name == label]
            found = found or [index for index, name in names.items() if label in map(str.strip, name.split(","))]
        if len(found) != 1:
            raise ValueError(f"{len(found) or 'no'} class {label!r}; model_index.json has the names in id2label")
        return found[0]

    def embed(self, prompts: list[str]) -> torch.Tensor:
        """Return the embeddings of prompts, (n, tokens, width)."""
        most = self.tokenizer.model_max_length
        ids = self.tokenizer(prompts, padding="max_length", max_length=most, truncation=True).input_ids
        states: torch.Tensor = self.text_encoder(torch.tensor(ids, device=self.text_encoder.device))[0]
        return states.to(self.network.dtype)

    def conditions(self, labels: list[int | str] | None, prompts: list[str] | None) -> dict[str, torch.Tensor]:
        """Return the network's arguments for the wanted images."""
        if self.text_encoder is None:
            if labels is None or prompts is not None:
                raise ValueError("this pipeline makes images of classes: give labels, and no prompt")
            c = torch.tensor([self.label_of(label) for label in labels], dtype=torch.long)
            return {"class_labels": c.to(self.network.device)}
        if prompts is None or labels is not None:
            raise ValueError("this pipeline makes images of prompts: give a prompt, and no labels")
        return {"encoder_hidden_states": self.embed(prompts)}

    def noise(self, count: int, seeds: list[int] | None, generator: torch.Generator | None) -> torch.Tensor:
        """Draw z of shape (count, C, H, W): each row from its own seed, or all from one generator."""
        shape = (self.network.config.in_channels, *[self.network.config.sample_size] * 2)
        if seeds is None:
            device = "cpu" if generator is None else generator.device
            return torch.randn(count, *shape, generator=generator, device=device)
        if len(seeds) != count:
            raise ValueError(f"{count} images need {count} seeds, not {len(seeds)}")
        generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
        return torch.cat([torch.randn(1, *shape, generator=each) for each in generators])

    def noise_level(self, t: int) -> tuple[float, int | float]:
        """Return b of x_t = a·x_0 + b·ε at a step, and what the network is told there."""
        config = self.scheduler.config
        if isinstance(self.scheduler, FlowMatchEulerDiscreteScheduler):
            u = (t + 1) / config.num_train_timesteps
            sigma = config.shift * u / (1 + (config.shift - 1) * u)
            return sigma, sigma * config.num_train_timesteps
        return float((1 - self.scheduler.alphas_cumprod[t]).sqrt()), t

    def decode(self, x_0: torch.Tensor) -> torch.Tensor:
        """Return images of shape (n, C, H, W), about [-1, 1], of the network's samples, decoded some at a time."""
        if self.vae is None:
            return x_0
        config = self.vae.config
        latents = (x_0 / config.scaling_factor + (config.shift_factor or 0)).to(self.vae.dtype)
        pixels = (x_0.shape[-1] * 2 ** (len(config.block_out_channels) - 1)) ** 2
        return torch.cat([self.vae.decode(part).sample for part in latents.split(max(1, PIXELS_AT_ONCE // pixels))])

    @torch.no_grad()
    def __call__(
        self,
        labels: list[int | str] | None = None,
        seeds: list[int] | None = None,
        generator: torch.Generator | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        prompt: str | list[str] | None = None,
    ) -> ImagePipelineOutput | tuple[object]:
        """Make one image for each label or prompt.

        Args:
            labels: a class for each image, by index or name.
            seeds: a seed for each image, so that it does not depend on what else is in the batch.
            generator: the source of all noise if `seeds` is not given.
            output_type: `pil`, `np` (n, H, W, C in [0, 1]) or `pt` (n, C, H, W in [0, 1]).
            return_dict: False for a plain tuple.
            prompt: one prompt, or one for each image.

        Raises:
            ValueError: an unknown class or output type, not one seed for each image, or a prompt to labels.
        """
        if output_type not in ("pil", "np", "pt"):
            raise ValueError(f"output_type {output_type!r} is none of pil, np, pt")
        device, t = self.network.device, int(self.config.t_init)
        conditions = self.conditions(labels, [prompt] if isinstance(prompt, str) else prompt)
        count = len(next(iter(conditions.values())))
        z = self.noise(count, seeds, generator)
        b, time = self.noise_level(t)
        x_t = (b * z).to(device, self.network.dtype)
        output = self.network(x_t, torch.full((count,), time, device=device), **conditions).sample
        output = output[:, : z.shape[1]]  # without a learned variance
        if isinstance(self.scheduler, FlowMatchEulerDiscreteScheduler):
            x_0 = x_t - b * output
        else:
            x_0 = self.scheduler.step(output, t, x_t).pred_original_sample
        pixels = (self.decode(x_0).float().cpu() / 2 + 0.5).clamp(0, 1)
        images = pixels if output_type == "pt" else pixels.permute(0, 2, 3, 1).numpy()
        if output_type == "pil":
            images = self.numpy_to_pil(images)
        return ImagePipelineOutput(images=images) if return_dict else (images,)
