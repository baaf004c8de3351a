"""What methods of unlearning have in common: the interface of a trial, and the training of a generator."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sfd_sweep.config import Resources, Settings
from sfd_sweep.errors import TrialFailed
from sfd_sweep.method.batch import ForgettingTask
from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.method.optimization import NetworkOptimizer
from sfd_sweep.method.trainable_model import TrainableModel
from sfd_sweep.models.data_parallel import rank_and_size
from sfd_sweep.models.numerics import float32_products, random_stream, seeded
from sfd_sweep.models.score_model import ScoreModel
from sfd_sweep.models.training_state import below, named

DEFAULT_RESOURCES = Resources()


@dataclass(frozen=True)
class UpdateLosses:
    """The weighted losses of one update; None for those that the method does not have.

    Attributes:
        fake_score: L_ψ.
        generator: L_θ.
        penalty: on changes of weights.
        dropped_samples: number of samples that were dropped because their loss is not finite.
    """

    fake_score: Tensor | None = None
    generator: Tensor | None = None
    penalty: Tensor | None = None
    dropped_samples: int = 0

    @property
    def by_name(self) -> dict[str, Tensor]:
        """The losses that the method has, by their names in reports."""
        losses = {"fake_score": self.fake_score, "generator": self.generator, "penalty": self.penalty}
        return {name: loss for name, loss in losses.items() if loss is not None}


class Unlearning(Protocol):
    """A method at work on one generator.

    Attributes:
        step: number of updates so far.
    """

    step: int

    @property
    def ema_generator(self) -> OneStepGenerator:
        """The generator that is evaluated and saved."""

    def update(self) -> UpdateLosses:
        """Do one step.

        Raises:
            TrialFailed: no sample of the update has a finite loss, or gradients overflow.
        """

    def state(self) -> dict[str, Tensor]:
        """Return everything that the next step depends on, by name; the method's own tensors, no copies."""

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Continue, bit for bit, from the state of an equal method.

        Raises:
            KeyError: the state is incomplete.
            RuntimeError: it is of another network.
        """


class GeneratorTrainer(ABC):
    """Trains a generator θ, and keeps a moving average of it.

    Batch sizes are over all workers: each draws the whole batch from equal seeds, computes its share, and gradients are
    summed. Whatever networks compute in, weights, gradients, moments, losses and the average are float32.

    Args:
        theta: what is trained.
        task: what is retained and forgotten.
        settings: the method's hyperparameters.
        seed: of every random draw.
        resources: precision, micro-batches and activation checkpointing.
    """

    def __init__(
        self, theta: TrainableModel, task: ForgettingTask, settings: Settings, *, seed: int, resources: Resources
    ) -> None:
        self.step = 0
        self.task = task
        self.settings = settings
        self.resources = resources
        self.seed = seed
        self._theta = theta
        self._theta.requires_grad_(True)
        self.generator = OneStepGenerator(theta.model, settings.t_init)
        self._theta_ema = theta.copy()
        self.generator_optimizer = NetworkOptimizer("generator", theta, settings.generator_lr, settings, resources)
        self.random = random_stream(seed, "training", theta.model.device)

    @property
    def ema_generator(self) -> OneStepGenerator:
        """The generator with averaged weights, which is evaluated and saved; with adapters, a merged copy."""
        return OneStepGenerator(self._theta_ema.plain(), self.generator.t_init)

    def update(self) -> UpdateLosses:
        """Do one step: the method's updates, and the moving average.

        Raises:
            TrialFailed: see `Unlearning.update`.
        """
        try:
            with float32_products(in_tf32=self.resources.precision == "tf32"):
                losses = self._update()
                self._theta_ema.approach(self._theta, 1 - _decay(self.settings, self.step))
        except TrialFailed as error:
            raise TrialFailed(f"diverged in update {self.step + 1}: {error}") from error
        self.step += 1
        return losses

    @abstractmethod
    def _update(self) -> UpdateLosses:
        """Update everything that is trained, by one step."""

    @contextmanager
    def _dropout(self, name: str, model: ScoreModel) -> Iterator[None]:
        """Activate the network's dropout for the block, if the settings say so, with masks of this step and worker.

        Only dropout is switched: a network in training mode may also drop labels of its own accord.
        """
        if not self.settings.network_dropout:
            yield
            return
        layers = [layer for layer in model.network.modules() if isinstance(layer, nn.Dropout)]
        digest = hashlib.sha256(f"{self.seed} {self.step} {name} {rank_and_size()[0]}".encode()).digest()
        with seeded(int.from_bytes(digest[:7]), model.device):
            for layer in layers:
                layer.train()
            try:
                yield
            finally:
                for layer in layers:
                    layer.eval()

    def state(self) -> dict[str, Tensor]:
        """Return everything that the next step depends on; see `Unlearning.state`."""
        return {
            **named("generator", self._theta.state()),
            **named("average", self._theta_ema.state()),
            **self.generator_optimizer.state(),
            "random": self.random.get_state(),
            "step": torch.tensor(self.step),
        }

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Continue from the state of an equal trainer; see `Unlearning.load_state`."""
        self.step = int(tensors["step"])
        self.random.set_state(tensors["random"].cpu())
        self._theta.load_state(below("generator", tensors))
        self._theta_ema.load_state(below("average", tensors))
        self.generator_optimizer.load_state(tensors)

    def load_average(self, tensors: dict[str, Tensor]) -> None:
        """Take the moving average of an equal trainer that has ended, on whatever kind of device it was."""
        self.step = int(tensors["step"])
        self._theta_ema.load_state(below("average", tensors))


def recompute_activations(settings: Settings, resources: Resources, *models: ScoreModel) -> None:
    """Let models recompute activations in the backward pass, if the resources say so."""
    if not resources.activation_checkpointing:
        return
    # Networks draw no random numbers but the masks of dropout, so otherwise no state of them is preserved.
    recompute = partial(checkpoint, use_reentrant=False, preserve_rng_state=settings.network_dropout)
    for model in models:
        model.network.enable_gradient_checkpointing(recompute)


def _decay(settings: Settings, step: int) -> float:
    """Return d of θ_ema ← d·θ_ema + (1 - d)·θ: with warm-up 0 at first, then min(ema_decay, (1 + k)/(10 + k)).

    The warm-up keeps the start's weights from dominating the average of a short run.
    """
    if not settings.ema_warmup:
        return settings.ema_decay
    return min(settings.ema_decay, (1 + step) / (10 + step)) if step else 0.0
