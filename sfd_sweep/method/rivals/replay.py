"""What methods share that train a one-step generator towards images, and replay what it made before.

The methods were published for diffusion models, as losses of the predicted noise ε̂ at random steps t. A one-step
generator is a diffusion network at one step, G_θ(z, c) = x̂_θ(x_t, t_init, c) with x_t = b_init·z. So the losses are
written at t = t_init, in x_0-predictions: there ‖ε̂ - ε̂'‖² = (a/b)²·‖x̂ - x̂'‖², and the factor is the same for all terms.
Losses are summed over pixels and averaged over samples, for retained and forgotten conditions alike.

Images of the retained conditions, which the papers draw from a data set or from the model, are those that the start
makes of the same noise, G*(z, c). So no real image is read.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from sfd_sweep.config import Resources, Settings
from sfd_sweep.method.batch import ForgettingTask, UpdateBatch, draw_update_batch
from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.method.generator_training import GeneratorTrainer, UpdateLosses, recompute_activations
from sfd_sweep.method.trainable_model import TrainableModel
from sfd_sweep.models.data_parallel import on_first_worker
from sfd_sweep.models.numerics import float32_products, named_seed, random_stream, seeded
from sfd_sweep.models.samplers import sample_ddim
from sfd_sweep.models.score_model import ScoreModel

MOST_AT_ONCE = 64
"""Most samples in one pass of a preparation, where `micro_batch_size` states no other number."""
TEACHER_STEPS = 50
"""Steps of DDIM in which the teacher makes a sample."""


class Preparations(Protocol):
    """Keeps tensors that trials share."""

    def __call__(self, what: str, compute: Callable[[], dict[str, Tensor]], /) -> dict[str, Tensor]:
        """Return tensors on the CPU, computed if nobody has done it before.

        Args:
            what: everything that they depend on.
            compute: returns them.
        """


@dataclass(frozen=True)
class Models:
    """What a method starts from.

    Attributes:
        teacher: φ, frozen.
        start: initial weights of θ.
        kept: keeps what a method prepares from them.
    """

    teacher: ScoreModel
    start: ScoreModel
    kept: Preparations

    def prepared(self, what: str, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return tensors on the network's device; of several workers, the first computes what is not kept.

        All workers call it alike, and none in `compute`. The kind of device counts: its random numbers are its own.
        """
        what = f"{what} {self.start.device.type}"

        def exactly() -> dict[str, Tensor]:
            with float32_products(in_tf32=False):
                return {name: tensor.detach().cpu().contiguous() for name, tensor in compute().items()}

        def keep() -> None:
            self.kept(what, exactly)

        on_first_worker(keep)
        return {name: tensor.to(self.start.device) for name, tensor in self.kept(what, exactly).items()}

    def teacher_samples(self, conditions: Sequence[int], count: int, at_once: int) -> tuple[Tensor, str]:
        """Return samples of the teacher, (conditions, count, C, H, W), and everything that they depend on.

        Args:
            conditions: to sample.
            count: samples of each.
            at_once: samples in one pass, on which the random draws depend.
        """
        model = self.teacher
        source = OneStepGenerator(model, 0).content_hash()

        def compute() -> dict[str, Tensor]:
            random = random_stream(0, "teacher samples", model.device)
            c = torch.tensor(conditions, device=model.device).repeat_interleave(count)
            parts = [model.encode(sample_ddim(model, part, random, steps=TEACHER_STEPS)) for part in c.split(at_once)]
            return {"samples": torch.cat(parts)}

        what = f"teacher samples {source} {list(conditions)} {count} {at_once} {TEACHER_STEPS}"
        samples = self.prepared(what, compute)["samples"]
        return samples.view(len(conditions), count, *samples.shape[1:]), what


@dataclass(frozen=True)
class ReplayBatch(UpdateBatch):
    """The random numbers of one update, with a drawn image for each sample, (n, C, H, W)."""

    image: Tensor


class ReplayTrainer(GeneratorTrainer):
    """Minimizes λ_r·E‖G_θ(z, c_r) - G*(z, c_r)‖² ± λ_f·E‖G_θ(z, c_f) - x‖², where methods differ in x.

    Args:
        models: the generator to unlearn, and its teacher.
        task: what is retained and forgotten.
        settings: the method's hyperparameters.
        seed: of every random draw.
        resources: precision, micro-batches and activation checkpointing.

    Attributes:
        replays: whether the retained conditions are trained, too.
        direction: 1 leads towards x, and -1 away from it.
        at_once: most samples in one pass of a preparation.
    """

    replays: ClassVar[bool] = True
    direction: ClassVar[int] = 1

    def __init__(
        self, models: Models, task: ForgettingTask, settings: Settings, *, seed: int, resources: Resources
    ) -> None:
        start = models.start.requires_grad_(False)
        with seeded(named_seed(seed, "adapters"), start.device):
            theta = TrainableModel.of(start, settings.lora_rank)
        recompute_activations(settings, resources, theta.model)
        super().__init__(theta, task, settings, seed=seed, resources=resources)
        self.start = OneStepGenerator(start, settings.t_init)
        self.at_once = resources.micro_batch_size or MOST_AT_ONCE

    @abstractmethod
    def targets(self, batch: ReplayBatch, x_0: Tensor) -> Tensor:
        """Return x for forgotten conditions, (n, C, H, W), without gradient.

        Args:
            batch: of forgotten conditions alone.
            x_0: G_θ(z, c_f), without gradient, of that shape.
        """

    def draw_images(self, batch: UpdateBatch) -> Tensor:
        """Draw an image for each sample of a batch, (n, C, H, W), for methods that want one."""
        return batch.epsilon

    def change_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Change the gradients of a batch in place, in methods that do."""

    def penalty(self) -> Tensor | None:
        """Return the penalty on changes of weights, in methods that have one; its gradient is added separately."""
        return None

    def _update(self) -> UpdateLosses:
        settings, batch, penalty = self.settings, self._draw(), self.penalty()
        with self._dropout("generator", self.generator.model):
            generator, dropped = self.generator_optimizer.step(
                self.generator_losses, batch, settings.forget_weight, self.change_gradients
            )
        return UpdateLosses(generator=generator, penalty=penalty, dropped_samples=dropped)

    def _draw(self) -> ReplayBatch:
        settings = self.settings
        batch = draw_update_batch(
            self.task,
            batch_size=settings.batch_size if self.replays else 0,
            forget_batch_size=settings.forget_batch_size,
            t_range=range(settings.t_min, settings.t_max),
            sample_shape=self.start.model.sample_shape,
            generator=self.random,
        )
        return ReplayBatch(**vars(batch), image=self.draw_images(batch))

    def generator_losses(self, batch: ReplayBatch) -> Tensor:
        """Return ‖G_θ(z, c_r) - G*(z, c_r)‖² and ±‖G_θ(z, c_f) - x‖², (n,)."""
        x_0, forgotten = self.generator(batch.z, batch.c), batch.forgotten
        with torch.no_grad():
            target = torch.empty_like(x_0)
            for rows, make in ((~forgotten, self._replayed), (forgotten, self.targets)):
                if rows.any():
                    target[rows] = make(batch[rows], x_0[rows])
        errors = (x_0 - target).square().flatten(1).sum(1)
        return torch.where(forgotten, self.direction * errors, errors)

    def _replayed(self, batch: ReplayBatch, x_0: Tensor) -> Tensor:  # noqa: ARG002
        return self.start(batch.z, batch.c)


def drawn_from(pool: Tensor, conditions: Sequence[int], c: Tensor, random: torch.Generator) -> Tensor:
    """Return an image of its condition for each of c, (n, C, H, W), drawn from a pool; rows of others are zeros.

    Args:
        pool: (conditions, count, C, H, W).
        conditions: of the pool, in order.
        c: (n,).
        random: what draws.
    """
    drawn = torch.randint(pool.shape[1], (len(c),), generator=random, device=c.device)
    images = pool.new_zeros(len(c), *pool.shape[2:])
    for row, condition in enumerate(conditions):
        images[c == condition] = pool[row, drawn[c == condition]]
    return images
