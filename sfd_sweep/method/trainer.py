"""The two alternating updates of Score Forgetting Distillation."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from sfd_sweep.config import Resources, Settings
from sfd_sweep.method.batch import ForgettingTask, UpdateBatch, draw_update_batch
from sfd_sweep.method.generator_training import (
    DEFAULT_RESOURCES,
    GeneratorTrainer,
    UpdateLosses,
    recompute_activations,
)
from sfd_sweep.method.losses import diff_instruct_loss, fake_score_loss, score_identity_loss
from sfd_sweep.method.optimization import NetworkOptimizer
from sfd_sweep.method.trainable_model import TrainableModel
from sfd_sweep.models.numerics import named_seed, seeded
from sfd_sweep.models.score_model import ScoreModel
from sfd_sweep.models.training_state import below, named


class Trainer(GeneratorTrainer):
    """Trains a generator θ and a fake score ψ against a frozen teacher φ.

    A step updates ψ on the generator's samples, then θ against φ and ψ, then a moving average of θ (see
    `GeneratorTrainer`).

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
        self.teacher = teacher.requires_grad_(False)
        with seeded(named_seed(seed, "adapters"), teacher.device):
            self._psi = TrainableModel.of(teacher, settings.lora_rank)
            theta = TrainableModel.of(start, settings.lora_rank)
        self._psi.requires_grad_(False)
        self.fake_score = self._psi.model
        recompute_activations(settings, resources, teacher, self.fake_score, theta.model)
        super().__init__(theta, task, settings, seed=seed, resources=resources)
        fake_score_lr = settings.generator_lr * settings.fake_score_lr_ratio
        self.fake_score_optimizer = NetworkOptimizer("fake_score", self._psi, fake_score_lr, settings, resources)

    def _update(self) -> UpdateLosses:
        settings = self.settings
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
        return UpdateLosses(fake_score, generator, dropped_samples=dropped_by_psi + dropped_by_theta)

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
        """Return everything that the next step depends on; see `Unlearning.state`."""
        return {**super().state(), **named("fake_score", self._psi.state()), **self.fake_score_optimizer.state()}

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Continue from the state of an equal trainer; see `Unlearning.load_state`."""
        super().load_state(tensors)
        self._psi.load_state(below("fake_score", tensors))
        self.fake_score_optimizer.load_state(tensors)
