"""Teacher, fake score and generator are one thing: a conditional diffusion network on a noise schedule."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping

import torch
from diffusers import ModelMixin, SchedulerMixin
from torch import Tensor, nn

from sfd_sweep.errors import UserError
from sfd_sweep.models.conditioning import Conditioning, ConditionKind
from sfd_sweep.models.diffusion import Prediction, PredictionType
from sfd_sweep.models.families import family_of
from sfd_sweep.models.families.base import Family, FreeCondition, LatentDecoder
from sfd_sweep.models.forward_process import process_of


class ScoreModel(nn.Module):
    """A conditional network read as x̂(x_t, t, c), on images or on latents, for conditions of classes or prompts.

    It runs in evaluation mode: dropout is a regularizer of pretraining. A trainer may activate it for an update
    (`network_dropout`).

    Args:
        network: called as `network(x_t, t, **conditioning.arguments(c)).sample`. Channels of its output beyond those of
            x_t are a learned variance, and are left out.
        scheduler: diffusers' description of the noise that the network was trained on, and of what it predicts.
        conditioning: the conditions by index, shared by all copies.
        decoder: what turns latents into images, shared by all copies; None if the network works on images.
    """

    network: ModelMixin

    def __init__(
        self,
        network: ModelMixin,
        scheduler: SchedulerMixin,
        conditioning: Conditioning,
        decoder: LatentDecoder | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.scheduler = scheduler
        self.process = process_of(type(scheduler).__name__)
        self.schedule = self.process.schedule(scheduler)
        self.prediction_type = PredictionType(self.process.prediction_type(scheduler.config))
        self.conditioning = conditioning
        self.decoder = decoder
        self.eval()

    @property
    def family(self) -> Family:
        """The family of the network."""
        return family_of(self.network)

    @property
    def kind(self) -> ConditionKind:
        """What a condition is."""
        return self.conditioning.kind

    @property
    def sample_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of what the network works on: an image, or its latent."""
        config = self.network.config
        return config.in_channels, config.sample_size, config.sample_size

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        return self.sample_shape if self.decoder is None else self.decoder.image_shape(self.sample_shape)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        weight: Tensor = next(self.network.parameters())
        return weight.device

    def decode(self, x_0: Tensor) -> Tensor:
        """Return images of shape (n, *image_shape), about [-1, 1], for samples of shape (n, *sample_shape)."""
        return x_0 if self.decoder is None else self.decoder(x_0)

    def encode(self, images: Tensor) -> Tensor:
        """Return samples of shape (n, *sample_shape) of images of shape (n, *image_shape) in [-1, 1]."""
        return images if self.decoder is None else self.decoder.encode(images)

    def weights_hash(self) -> str:
        """Return a hash of all weights that images depend on, and of the schedule."""
        content = hashlib.sha256()
        for tensor in (*self.state_dict().values(), self.schedule.alphas):
            content.update(tensor.cpu().contiguous().numpy().tobytes())
        if self.decoder is not None:  # no part of the state
            config = self.decoder.vae.config
            content.update(f"{config.scaling_factor} {config.shift_factor}".encode())
            for tensor in self.decoder.vae.state_dict().values():
                content.update(tensor.cpu().contiguous().numpy().tobytes())
        return content.hexdigest()

    def copy(self) -> ScoreModel:
        """Return an independent copy with equal weights, and the same decoder and conditions."""
        return copy.deepcopy(self)

    def with_conditioning(self, conditioning: Conditioning) -> ScoreModel:
        """Return a model of the same network (not a copy) with other conditions."""
        return ScoreModel(self.network, self.scheduler, conditioning, self.decoder).to(self.device)

    def with_free_condition(self, index: int, random: torch.Generator) -> tuple[ScoreModel, FreeCondition]:
        """Return a frozen copy in which the embedding of one condition is free (see `Family.free_condition`)."""
        network = copy.deepcopy(self.network).requires_grad_(False)
        conditioning, free = self.family.free_condition(network, self.conditioning, index, random)
        return ScoreModel(network, self.scheduler, conditioning, self.decoder).to(self.device), free

    def with_swapped_conditions(self, sources: Mapping[int, int]) -> ScoreModel:
        """Return a copy in which some conditions have the embeddings of others (see `Family.swap_conditions`)."""
        network = copy.deepcopy(self.network)
        conditioning = self.family.swap_conditions(network, self.conditioning, sources)
        return ScoreModel(network, self.scheduler, conditioning, self.decoder).to(self.device)

    def forward(self, x_t: Tensor, t: Tensor, c: Tensor) -> Prediction:
        """Return the prediction at x_t, (n, C, H, W), for steps t, (n,), and condition indices c, (n,)."""
        return self._prediction(x_t, t, self.output(x_t, self.schedule.times[t], c))

    def output(self, x_t: Tensor, time: Tensor, c: Tensor) -> Tensor:
        """Return the network's own output, of the shape of x_t.

        Args:
            x_t: (n, C, H, W).
            time: what the network is told of the noise (`NoiseSchedule.times`, or between them), (n,).
            c: (n,).
        """
        output: Tensor = self.network(x_t, time, **self.conditioning.arguments(c)).sample[:, : x_t.shape[1]]
        return output.to(x_t.dtype)  # autocast may have made it shorter

    def _prediction(self, x_t: Tensor, t: Tensor, output: Tensor) -> Prediction:
        point = self.schedule.at(t, x_t.ndim)
        return Prediction(x_t=x_t, point=point, output=output, type=self.prediction_type)

    def null_conditions(self, c: Tensor) -> Tensor:
        """Return the null condition ∅ in place of each of c, (n,).

        Raises:
            UserError: the network has none.
        """
        if self.conditioning.null is None:
            raise UserError(
                "guidance needs a teacher with a null label; set its scales to 1, and condition_dropout to 0"
            )
        return torch.full_like(c, self.conditioning.null)

    def guided(self, x_t: Tensor, t: Tensor, c: Tensor, scale: float, *, away_from: Tensor | None = None) -> Prediction:
        """Apply classifier-free guidance, x̂ = x̂(∅) + w·(x̂(c) - x̂(∅)) (Ho & Salimans, 2022).

        Both halves are one batch. Outputs are mixed in place of x̂, which is affine in them.

        Args:
            x_t: (n, C, H, W).
            t: (n,).
            c: (n,).
            scale: w; 1 is no guidance and costs one forward.
            away_from: conditions in place of ∅, (n,), as of a negative prompt.

        Raises:
            UserError: guidance is wanted of a network without a null condition.
        """
        output = self.guided_output(x_t, self.schedule.times[t], c, scale, away_from=away_from)
        return self._prediction(x_t, t, output)

    def guided_output(
        self, x_t: Tensor, time: Tensor, c: Tensor, scale: float, *, away_from: Tensor | None = None
    ) -> Tensor:
        """Return the network's own output with guidance; arguments as in `guided`, but for the time, as in `output`."""
        if scale == 1:
            return self.output(x_t, time, c)
        other = self.null_conditions(c) if away_from is None else away_from
        both = self.output(torch.cat([x_t, x_t]), torch.cat([time, time]), torch.cat([c, other]))
        conditional, unconditional = both.chunk(2)
        return unconditional + scale * (conditional - unconditional)
