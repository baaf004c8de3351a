"""The update of pretraining: plain denoising of real images, or of their latents."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from sfd_sweep.models.data_parallel import rank_and_size, sum_gradients, sum_over_workers
from sfd_sweep.models.numerics import autocast, float32_products, seeded
from sfd_sweep.models.score_model import ScoreModel
from sfd_sweep.models.training_state import below, load_moments, moments_of, named
from sfd_sweep.teachers.examples import Examples
from sfd_sweep.teachers.networks import new_teacher
from sfd_sweep.teachers.recipes import Pretraining


class Batch(NamedTuple):
    """Samples x_0 and noise ε, both (n, C, H, W), with steps t and conditions c, (n,), some of them null."""

    x_0: Tensor
    t: Tensor
    c: Tensor
    epsilon: Tensor

    def split(self, size: int) -> Iterator[Batch]:
        """Yield parts of at most so many samples, in order; nothing if there is no sample."""
        for start in range(0, len(self.x_0), size):
            yield Batch(*(each[start : start + size] for each in self))

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device; the copy to a GPU is asynchronous."""
        if device.type != "cuda":
            return self
        return Batch(*(each.pin_memory().to(device, non_blocking=True) for each in self))


class Pretrainer:
    """Trains a teacher on real images or their latents, and keeps the moving average of its weights.

    Batch sizes are over all workers: each draws the whole batch from equal seeds and computes its share, and gradients
    are summed. So the result does not depend on their number, beyond the order of summation and the masks of dropout,
    which every worker draws for its share. All draws are made on the CPU, and so are the same on every device.

    The loss is the plain ‖v̂ - v‖² or ‖ε̂ - ε‖², t uniform. On a variance-preserving schedule the former is EDM's
    preconditioning and loss weight at σ_data = 1 (Karras et al., NeurIPS 2022), so that a plain diffusers folder holds
    the result; the latter is DDPM's (Ho et al., NeurIPS 2020). On a flow's schedule the former is conditional flow
    matching (Lipman et al., ICLR 2023).

    Args:
        examples: square ones; the null condition is the index after their last.
        recipe: sizes and rates.
        device: where to train.

    Raises:
        UserError: the network does not fit the examples.
    """

    def __init__(self, examples: Examples, recipe: Pretraining, device: torch.device | str = "cpu") -> None:
        self.step = 0
        self.recipe = recipe
        self.device = torch.device(device)
        self._examples = examples
        self.model = new_teacher(examples, recipe).to(self.device)
        self._average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema_decay))
        self._average.requires_grad_(False)
        self.model.network.train()  # for dropout, which the average never applies
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), recipe.lr, weight_decay=recipe.weight_decay, fused=True
        )
        self._rate = _learning_rate(self.optimizer, recipe)
        self.random = torch.Generator().manual_seed(recipe.seed)

    @property
    def ema_model(self) -> ScoreModel:
        """The teacher: averaged weights, frozen and in evaluation mode."""
        return cast(ScoreModel, self._average.module)

    def update(self) -> Tensor:
        """Do one step; return the loss, a mean over the whole batch, without gradient."""
        rank, size = rank_and_size()
        batch = self._draw(slice(rank, None, size))
        self.optimizer.zero_grad()
        with self._dropout_of(rank), float32_products(in_tf32=self.recipe.precision == "tf32"):
            loss = self.backward(batch)
        parameters = list(self.model.parameters())
        sum_gradients(parameters)
        nn.utils.clip_grad_norm_(parameters, self.recipe.gradient_clip)
        self.optimizer.step()
        self._rate.step()
        self._average.update_parameters(self.model)
        self.step += 1
        return sum_over_workers(loss)

    def backward(self, batch: Batch) -> Tensor:
        """Add the gradient of these samples' part of the loss, Σ ‖error‖²/`batch_size`; return the part."""
        recipe, schedule = self.recipe, self.model.schedule
        of: Literal["epsilon", "velocity"] = "epsilon" if recipe.prediction_type == "epsilon" else "velocity"
        total = torch.zeros((), device=self.device)
        for part in batch.split(recipe.micro_batch_size or recipe.batch_size):
            here = part.to(self.device)
            x_t = schedule.diffuse(here.x_0, here.t, here.epsilon)
            with autocast(self.recipe.precision, self.device):
                prediction = self.model.forward(x_t, here.t, here.c)
            error = prediction.denoising_error(here.x_0, here.epsilon, of)
            loss = error.square().mean() * (len(here.x_0) / recipe.batch_size)
            loss.backward()
            total += loss.detach()
        return total

    def state(self) -> dict[str, Tensor]:
        """Return all that the next step depends on, by name, for `load_state`; the pretrainer's own tensors."""
        return {
            **named("model", self.model.state_dict()),
            **named("average", self._average.state_dict()),
            **named("optimizer", moments_of(self.optimizer)),
            "random": self.random.get_state(),
            "step": torch.tensor(self.step),
        }

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Resume, bit for bit on the CPU, from a state of a pretrainer of equal examples and recipe.

        Raises:
            KeyError: the state is not complete.
            RuntimeError: it is of another network.
        """
        self.step = int(tensors["step"])
        self.random.set_state(tensors["random"].cpu())
        self.model.load_state_dict(below("model", tensors))
        self._average.load_state_dict(below("average", tensors))
        load_moments(self.optimizer, below("optimizer", tensors))
        self._rate = _learning_rate(self.optimizer, self.recipe, self.step)

    def _draw(self, share: slice) -> Batch:
        """Draw a whole batch, and return a share of it."""
        examples, recipe, random = self._examples, self.recipe, self.random
        n = recipe.batch_size
        rows = torch.randint(len(examples), (n,), generator=random)
        dropped = torch.rand(n, generator=random) < recipe.label_dropout
        flipped = torch.rand(n, generator=random) < 0.5 if recipe.horizontal_flips else torch.zeros(n, dtype=torch.bool)
        t = torch.randint(len(self.model.schedule), (n,), generator=random)
        epsilon = torch.randn(n, *examples.sample_shape, generator=random)
        x_0, c = examples.draw(rows, share, random)
        mirrored = flipped[share]
        x_0[mirrored] = x_0[mirrored].flip(-1)
        return Batch(x_0, t[share], c.masked_fill(dropped[share], len(examples.conditioning.names)), epsilon[share])

    def _dropout_of(self, rank: int) -> AbstractContextManager[None]:
        """Seed the global random numbers of a block by this step and this worker."""
        if self.recipe.dropout == 0:
            return nullcontext()
        seed = int(torch.randint(2**62, (), generator=self.random)) + rank
        return seeded(seed, self.device)


def _learning_rate(optimizer: torch.optim.Optimizer, recipe: Pretraining, step: int = 0) -> LRScheduler:
    """Return the learning rate's schedule after so many steps, and set the optimizer's rates to it."""
    rate: LRScheduler
    if recipe.lr_schedule == "one_cycle":
        rate = OneCycleLR(optimizer, recipe.lr, total_steps=recipe.steps)
    else:
        warm_up_steps = max(1, recipe.warm_up_steps)
        rate = LambdaLR(optimizer, lambda done: min(1.0, (done + 1) / warm_up_steps))
    if step:  # both are closed forms of their count
        rate.load_state_dict({**rate.state_dict(), "last_epoch": step - 1, "_step_count": step + 1})
        rate.step()
    return rate
