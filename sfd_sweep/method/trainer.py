"""The two alternating updates of Score Forgetting Distillation."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sfd_sweep.config import Resources, Settings
from sfd_sweep.errors import TrialFailed
from sfd_sweep.method.batch import ForgettingTask, UpdateBatch, draw_update_batch
from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.method.losses import diff_instruct_loss, fake_score_loss, score_identity_loss
from sfd_sweep.method.optimization import NetworkOptimizer
from sfd_sweep.method.trainable_model import TrainableModel
from sfd_sweep.models.data_parallel import rank_and_size
from sfd_sweep.models.numerics import float32_products, named_seed, random_stream, seeded
from sfd_sweep.models.score_model import ScoreModel
from sfd_sweep.models.training_state import below, named

DEFAULT_RESOURCES = Resources()


@dataclass(frozen=True)
class UpdateLosses:
    """The weighted losses L_ψ and L_θ of one step, and the number of samples that were dropped from it."""

    fake_score: Tensor
    generator: Tensor
    dropped_samples: int


class Trainer:
    """Trains a generator θ and a fake score ψ against a frozen teacher φ.

    A step updates ψ on the generator's samples, then θ against φ and ψ, then a moving average of θ. Batch sizes are
    over all workers: each draws the whole batch from equal seeds, computes its share, and gradients are summed.
    Whatever networks compute in, weights, gradients, moments, losses and the average are float32.

    With `lora_rank`, adapters of θ and ψ are all that is trained, averaged and kept in the state. The weights beneath
    are frozen and shared: by φ and ψ, and by θ and its average. Adapters are merged into the weights of generators that
    are evaluated or saved.

    Args:
        teacher: φ, frozen here.
        start: what θ starts from; ψ starts from φ.
        task: what is retained and forgotten.
        settings: the method's hyperparameters.
        seed: of every random draw.
        resources: precision, micro-batches and activation checkpointing.

    Raises:
        UserError: `lora_rank` is set and peft not installed, or the network has no layer for an adapter.
    """

    def __init__(
        self,
        teacher: ScoreModel,
        start: ScoreModel,
        task: ForgettingTask,
        settings: Settings,
        *,
        seed: int,
        resources: Resources = DEFAULT_RESOURCES,
    ) -> None:
        self.step = 0
        self.task = task
        self.settings = settings
        self.resources = resources
        self.seed = seed
        self.teacher = teacher.requires_grad_(False)
        with seeded(named_seed(seed, "adapters"), teacher.device):
            self._psi = TrainableModel.of(teacher, settings.lora_rank)
            self._theta = TrainableModel.of(start, settings.lora_rank)
        self._psi.requires_grad_(False)
        self._theta.requires_grad_(True)
        self.fake_score = self._psi.model
        self.generator = OneStepGenerator(self._theta.model, settings.t_init)
        if resources.activation_checkpointing:
            # Networks draw no random numbers but the masks of dropout, so otherwise no state of them is preserved.
            recompute = partial(checkpoint, use_reentrant=False, preserve_rng_state=settings.network_dropout)
            for model in (self.teacher, self.fake_score, self.generator.model):
                model.network.enable_gradient_checkpointing(recompute)
        self._theta_ema = self._theta.copy()
        fake_score_lr = settings.generator_lr * settings.fake_score_lr_ratio
        self.fake_score_optimizer = NetworkOptimizer("fake_score", self._psi, fake_score_lr, settings, resources)
        self.generator_optimizer = NetworkOptimizer(
            "generator", self._theta, settings.generator_lr, settings, resources
        )
        self.random = random_stream(seed, "training", teacher.device)

    @property
    def ema_generator(self) -> OneStepGenerator:
        """The generator with averaged weights, which is evaluated and saved; with adapters, a merged copy."""
        return OneStepGenerator(self._theta_ema.plain(), self.generator.t_init)

    def update(self) -> UpdateLosses:
        """Do one step: ψ's update, θ's update, and the moving average.

        Raises:
            TrialFailed: no sample of an update has a finite loss, or gradients overflow.
        """
        settings = self.settings
        try:
            with float32_products(in_tf32=self.resources.precision == "tf32"):
                batch = self._draw()
                self._psi.requires_grad_(True)
                with self._dropout("fake_score", self.fake_score):
                    fake_score, dropped_by_psi = self.fake_score_optimizer.step(
                        self.fake_score_losses, batch, settings.fake_score_forget_weight
                    )
                self._psi.requires_grad_(False)
                following = self._draw()
                if settings.shared_conditions:
                    following = replace(following, c=batch.c)
                with self._dropout("generator", self.generator.model):
                    generator, dropped_by_theta = self.generator_optimizer.step(
                        self.generator_losses, following, settings.forget_weight
                    )
                self._theta_ema.approach(self._theta, 1 - _decay(settings, self.step))
        except TrialFailed as error:
            raise TrialFailed(f"diverged at step {self.step + 1}: {error}") from error
        self.step += 1
        return UpdateLosses(fake_score, generator, dropped_by_psi + dropped_by_theta)

    def _draw(self) -> UpdateBatch:
        settings = self.settings
        return draw_update_batch(
            self.task,
            batch_size=settings.batch_size,
            forget_batch_size=settings.forget_batch_size,
            t_range=range(settings.t_min, settings.t_max),
            sample_shape=self.teacher.sample_shape,
            generator=self.random,
            condition_dropout=settings.condition_dropout,
        )

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

    def fake_score_losses(self, batch: UpdateBatch) -> Tensor:
        """Return ‖ε̂_ψ(x_t, t, c) - ε‖² for x_0 = G(z, c), which gets no gradient; (n,)."""
        settings, c, t = self.settings, batch.c, batch.t
        if settings.condition_dropout:
            c = torch.where(batch.dropped, self.fake_score.null_conditions(c), c)
        with torch.no_grad():
            x_0 = self.generator(batch.z, c if settings.drop_before_generating else batch.c)
        x_t = self.teacher.schedule.diffuse(x_0, t, batch.epsilon)
        away_from = self._fake_score_guided_away_from(batch, batch.forgotten & ~batch.dropped)
        psi = self.fake_score.guided(x_t, t, c, settings.fake_score_training_guidance_scale, away_from=away_from)
        return fake_score_loss(psi, x_0, batch.epsilon, settings.fake_score_loss)

    def generator_losses(self, batch: UpdateBatch) -> Tensor:
        """Return ℓ(c_φ, c_ψ): ℓ(c_r, c_r) for retained conditions, ℓ(c_o, c_f) for forgotten ones; (n,)."""
        settings, c, t = self.settings, batch.c, batch.t
        x_0 = self.generator(batch.z, c)
        x_t = self.teacher.schedule.diffuse(x_0, t, batch.epsilon)
        through_networks = settings.loss == "score_identity"
        with torch.set_grad_enabled(through_networks and torch.is_grad_enabled()):
            away_from = self._fake_score_guided_away_from(batch, batch.forgotten)
            x_psi = self.fake_score.guided(x_t, t, c, settings.fake_score_guidance_scale, away_from=away_from).x_0
            c_phi = self._teacher_conditions(batch, x_psi.detach())
            away_from = self._guided_away_from(batch, batch.forgotten)
            x_phi = self.teacher.guided(x_t, t, c_phi, settings.guidance_scale, away_from=away_from).x_0
        if through_networks:
            return score_identity_loss(x_phi, x_psi, x_0, settings.alpha)
        return diff_instruct_loss(x_phi, x_psi, x_0)

    def _teacher_conditions(self, batch: UpdateBatch, x_psi: Tensor) -> Tensor:
        """Return c_φ: c_r where c is retained, c_o where it is forgotten."""
        c_phi, rows = batch.c.clone(), batch.forgotten
        if rows.any():
            c_phi[rows] = self.task.override(batch.c[rows], batch.alternative[rows], x_psi[rows])
        return c_phi

    def _guided_away_from(self, batch: UpdateBatch, rows: Tensor) -> Tensor | None:
        """Return what guidance leads away from: the negative prompt in some rows, (n,) bool; None: ∅ throughout."""
        if self.task.negative is None:
            return None
        return torch.where(rows, self.task.negative, self.teacher.null_conditions(batch.c))

    def _fake_score_guided_away_from(self, batch: UpdateBatch, rows: Tensor) -> Tensor | None:
        """Return what guidance of ψ leads away from; φ's guidance alone has the negative prompt by default."""
        return self._guided_away_from(batch, rows) if self.settings.fake_score_negative_prompt else None

    def state(self) -> dict[str, Tensor]:
        """Return everything that the next step depends on, by name; the trainer's own tensors, no copies."""
        return {
            **named("generator", self._theta.state()),
            **named("average", self._theta_ema.state()),
            **named("fake_score", self._psi.state()),
            **self.generator_optimizer.state(),
            **self.fake_score_optimizer.state(),
            "random": self.random.get_state(),
            "step": torch.tensor(self.step),
        }

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Continue, bit for bit, from the state of an equal trainer.

        Raises:
            KeyError: the state is incomplete.
            RuntimeError: it is of another network.
        """
        self.step = int(tensors["step"])
        self.random.set_state(tensors["random"].cpu())
        self._theta.load_state(below("generator", tensors))
        self._theta_ema.load_state(below("average", tensors))
        self._psi.load_state(below("fake_score", tensors))
        self.generator_optimizer.load_state(tensors)
        self.fake_score_optimizer.load_state(tensors)


def _decay(settings: Settings, step: int) -> float:
    """Return d of θ_ema ← d·θ_ema + (1 - d)·θ: with warm-up 0 at first, then min(ema_decay, (1 + k)/(10 + k)).

    The warm-up keeps the start's weights from dominating the average of a short run.
    """
    if not settings.ema_warmup:
        return settings.ema_decay
    return min(settings.ema_decay, (1 + step) / (10 + step)) if step else 0.0
