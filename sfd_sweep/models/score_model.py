"""Teacher, fake score and generator are one thing: a conditional diffusion network on a noise schedule."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from diffusers import DDPMScheduler, ModelMixin
from torch import Tensor, nn

from sfd_sweep.errors import UserError
from sfd_sweep.models.decoder import LatentDecoder
from sfd_sweep.models.prediction import Prediction, PredictionType
from sfd_sweep.models.prompts import Prompts
from sfd_sweep.models.schedule import NoiseSchedule


class ScoreModel(nn.Module):
    """A conditional network read as x̂(x_t, t, c), on images or on latents, for conditions of classes or prompts.

    It always runs in evaluation mode: dropout is a regulariser of pretraining, and a trial must be a function of its
    settings and its seed.

    Args:
        network: called as `network(x_t, t, class_labels=c).sample`; `c` of shape (n,) holds class indices. With
            prompts, their embeddings are its `encoder_hidden_states` instead. Channels that it puts out beyond those of
            x_t are a variance that it has learned, and are left out.
        scheduler: diffusers' description of the noise that the network was trained on, and of what it puts out.
        null_label: the index that stands for "no condition", or None if the network has none.
        decoder: what turns latents into images, shared by all copies; None if the network works on images.
        prompts: what conditions are indices of, shared by all copies; None if they are classes.
    """

    network: ModelMixin

    def __init__(
        self,
        network: ModelMixin,
        scheduler: DDPMScheduler,
        null_label: int | None,
        decoder: LatentDecoder | None = None,
        prompts: Prompts | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.scheduler = scheduler
        self.schedule = NoiseSchedule(scheduler.alphas_cumprod)
        self.prediction_type = PredictionType(scheduler.config.prediction_type)
        self.null_label = null_label
        self.decoder = decoder
        self.prompts = prompts
        self.eval()

    @property
    def sample_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of what the network works on: an image, or its latent."""
        config = self.network.config
        return config.in_channels, config.sample_size, config.sample_size

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        return self.sample_shape if self.decoder is None else self.decoder.image_shape(self.sample_shape)

    def decode(self, x_0: Tensor) -> Tensor:
        """Images of shape (n, *image_shape), about [-1, 1], of what the network works on, (n, *sample_shape)."""
        return x_0 if self.decoder is None else self.decoder(x_0)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        weight: Tensor = next(self.network.parameters())
        return weight.device

    def copy(self) -> ScoreModel:
        """An independent copy with equal weights, and the same decoder and prompts."""
        return copy.deepcopy(self)

    def with_prompts(self, texts: Sequence[str]) -> ScoreModel:
        """The same network, not a copy of it, on other prompts: they are conditions 0, 1, …, and then the null prompt.

        Raises:
            UserError: its conditions are classes, or a prompt is too long.
        """
        if self.prompts is None:
            raise UserError("this model makes images of classes, not of prompts")
        prompts = Prompts.of(self.prompts.encoder, texts, self.device)
        return ScoreModel(self.network, self.scheduler, len(prompts), self.decoder, prompts).to(self.device)

    def forward(self, x_t: Tensor, t: Tensor, c: Tensor) -> Prediction:
        """The prediction at x_t of shape (n, C, H, W), for steps t and conditions c of shape (n,)."""
        a, b = self.schedule.coefficients(t, x_t.ndim)
        condition = {"class_labels": c} if self.prompts is None else {"encoder_hidden_states": self.prompts[c]}
        output = self.network(x_t, t, **condition).sample[:, : x_t.shape[1]]
        output = output.to(x_t.dtype)  # autocast may have made it shorter
        return Prediction(x_t=x_t, a=a, b=b, output=output, type=self.prediction_type)

    def no_condition(self, c: Tensor) -> Tensor:
        """The null label in place of each of c, (n,).

        Raises:
            UserError: the network has none.
        """
        if self.null_label is None:
            raise UserError(
                "guidance needs a teacher with a null label; set its scales to 1, and condition_dropout to 0"
            )
        return torch.full_like(c, self.null_label)

    def guided(self, x_t: Tensor, t: Tensor, c: Tensor, scale: float, *, away_from: Tensor | None = None) -> Prediction:
        """Classifier-free guidance x̂ = x̂(∅) + scale·(x̂(c) - x̂(∅)), both halves in one batch (Ho & Salimans, 2022).

        In place of ∅, the null condition, guidance may lead away from other conditions (n,), as a negative prompt does.
        x̂ is affine in the output with the same coefficients for c and ∅, so outputs may be mixed in its stead.
        A scale of 1 is no guidance and costs one forward.

        Raises:
            UserError: guidance is wanted of a network without a null label.
        """
        if scale == 1:
            return self.forward(x_t, t, c)
        other = self.no_condition(c) if away_from is None else away_from
        both = self.forward(torch.cat([x_t, x_t]), torch.cat([t, t]), torch.cat([c, other]))
        conditional, unconditional = both.output.chunk(2)
        a, b = self.schedule.coefficients(t, x_t.ndim)
        return Prediction(
            x_t=x_t,
            a=a,
            b=b,
            output=unconditional + scale * (conditional - unconditional),
            type=self.prediction_type,
        )
