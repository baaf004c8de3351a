"""The two alternating updates of Score Forgetting Distillation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sfd_sweep.config import Resources, Settings
from sfd_sweep.errors import TrialFailed
from sfd_sweep.method.batch import ForgettingTask, UpdateBatch, draw_update_batch
from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.method.loss_scaler import LossScaler
from sfd_sweep.method.losses import diff_instruct_loss, fake_score_loss, score_identity_loss
from sfd_sweep.method.trainable_model import TrainableModel
from sfd_sweep.models.data_parallel import rank_and_size, sum_gradients, sum_over_workers
from sfd_sweep.models.precision import autocast, float32_products
from sfd_sweep.models.randomness import seeded
from sfd_sweep.models.score_model import ScoreModel
from sfd_sweep.models.training_state import below, load_moments, moments_of, named

DEFAULT_RESOURCES = Resources()


@dataclass(frozen=True)
class UpdateLosses:
    """One step's losses, weighted as they were minimised, and how many samples were left out of it."""

    fake_score: Tensor
    generator: Tensor
    dropped_samples: int


class Trainer:
    """Trains a generator θ and a fake score ψ against a frozen teacher φ.

    A step updates ψ on the generator's samples, then θ against φ and ψ; a moving average of θ is kept. Batch sizes are
    over all workers: each draws the whole batch from equal seeds, computes its share, and gradients are summed, so that
    the result does not depend on their number (beyond the order of summation), nor on the size of micro-batches.
    Whatever networks compute in, all that is made of their outputs is float32, and so are weights, gradients, moments
    and the moving average.

    With `lora_rank`, adapters of θ and ψ are all that is trained, averaged and in the state: θ, its average, ψ and φ
    have one set of weights beneath them, frozen; in two stages θ and its average have the start's beneath them, which
    is a second. Nobody else sees adapters, as they are merged into the weights of what is judged and kept.

    Args:
        teacher: φ, frozen here.
        start: what θ starts from; ψ starts from φ.
        task: what is kept and forgotten.
        settings: the method's hyperparameters.
        class_names: the conditions' names by index.
        seed: of every random draw.
        resources: precision, micro-batches and checkpoints.

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
        class_names: Sequence[str],
        seed: int,
        resources: Resources = DEFAULT_RESOURCES,
    ) -> None:
        self.step = 0
        self.task = task
        self.settings = settings
        self.resources = resources
        self.teacher = teacher.requires_grad_(False)
        with seeded(seed, teacher.device):
            self._fake_score = TrainableModel.of(teacher, settings.lora_rank)
            self._generator = TrainableModel.of(start, settings.lora_rank)
        self._fake_score.requires_grad_(False)
        self._generator.requires_grad_(True)
        self.fake_score = self._fake_score.model
        self.generator = OneStepGenerator(self._generator.model, settings.t_init, class_names)
        if resources.activation_checkpointing:
            for model in (self.teacher, self.fake_score, self.generator.model):
                model.network.enable_gradient_checkpointing(_RECOMPUTE)
        self._average = self._generator.copy()
        self.generator_optimizer = _adam(self._generator, settings.generator_lr, settings)
        fake_score_lr = settings.generator_lr * settings.fake_score_lr_ratio
        self.fake_score_optimizer = _adam(self._fake_score, fake_score_lr, settings)
        self.generator_loss_scale, self.fake_score_loss_scale = (
            LossScaler(adapts=resources.precision == "float16") for _ in range(2)
        )
        self.random = torch.Generator(device=next(teacher.parameters()).device).manual_seed(seed)

    @property
    def ema_generator(self) -> OneStepGenerator:
        """The generator with averaged weights: the one that is judged and kept.

        Adapters are merged into a copy of its weights, made at every access.
        """
        return OneStepGenerator(self._average.plain(), self.generator.t_init, self.generator.class_names)

    def update(self) -> UpdateLosses:
        """Do one step: the fake score's update, then the generator's.

        Raises:
            TrialFailed: not one sample of an update had a finite loss.
        """
        with float32_products(in_tf32=self.resources.precision == "tf32"):
            return self._update()

    def _update(self) -> UpdateLosses:
        settings = self.settings
        self._fake_score.requires_grad_(True)
        fake_score = self._minimize(
            self.fake_score_losses,
            self._fake_score,
            self.fake_score_optimizer,
            self.fake_score_loss_scale,
            forget_weight=settings.fake_score_forget_weight,
        )
        self._fake_score.requires_grad_(False)
        generator = self._minimize(
            self.generator_losses,
            self._generator,
            self.generator_optimizer,
            self.generator_loss_scale,
            forget_weight=settings.forget_weight,
        )
        self._average.approach(self._generator, 1 - _decay(settings.ema_decay, self.step))
        self.step += 1
        return UpdateLosses(fake_score[0], generator[0], fake_score[1] + generator[1])

    def state(self) -> dict[str, Tensor]:
        """Everything that the next step depends on, by name, for `load_state`; the trainer's own tensors, no copies."""
        return {
            **named("generator", self._generator.state()),
            **named("average", self._average.state()),
            **named("fake_score", self._fake_score.state()),
            **named("generator_optimizer", moments_of(self.generator_optimizer)),
            **named("fake_score_optimizer", moments_of(self.fake_score_optimizer)),
            **named("generator_loss_scale", self.generator_loss_scale.state()),
            **named("fake_score_loss_scale", self.fake_score_loss_scale.state()),
            "random": self.random.get_state(),
            "step": torch.tensor(self.step),
        }

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Go on, bit for bit, from a state of an equal trainer.

        Raises:
            KeyError: the state is not complete.
            RuntimeError: it is of another network.
        """
        self.step = int(tensors["step"])
        self.random.set_state(tensors["random"].cpu())
        self._generator.load_state(below("generator", tensors))
        self._average.load_state(below("average", tensors))
        self._fake_score.load_state(below("fake_score", tensors))
        load_moments(self.generator_optimizer, below("generator_optimizer", tensors))
        load_moments(self.fake_score_optimizer, below("fake_score_optimizer", tensors))
        self.generator_loss_scale.load_state(below("generator_loss_scale", tensors))
        self.fake_score_loss_scale.load_state(below("fake_score_loss_scale", tensors))

    def fake_score_losses(self, draw: UpdateBatch) -> Tensor:
        """ψ's denoising loss on G(z, c), which gets no gradient; one value a sample, (n,)."""
        settings = self.settings
        with torch.no_grad():
            x_0 = self.generator(draw.z, draw.c)
        x_t = self.teacher.schedule.diffuse(x_0, draw.t, draw.epsilon)
        c = draw.c
        if settings.condition_dropout:
            c = torch.where(draw.untold, self.fake_score.no_condition(c), c)
        prediction = self.fake_score.guided(x_t, draw.t, c, settings.fake_score_training_guidance_scale)
        return fake_score_loss(prediction, x_0, draw.epsilon, settings.fake_score_loss)

    def generator_losses(self, draw: UpdateBatch) -> Tensor:
        """θ's loss ℓ(c_φ, c_ψ): c_φ = c_ψ = c where c is kept, c_φ = c_o and c_ψ = c_f where it is forgotten; (n,)."""
        settings = self.settings
        x_0 = self.generator(draw.z, draw.c)
        x_t = self.teacher.schedule.diffuse(x_0, draw.t, draw.epsilon)
        through_networks = settings.loss == "score_identity"
        with torch.set_grad_enabled(through_networks and torch.is_grad_enabled()):
            x_psi = self.fake_score.guided(x_t, draw.t, draw.c, settings.fake_score_guidance_scale).x_0
            c_phi = self._teacher_conditions(draw, x_psi.detach())
            x_phi = self.teacher.guided(
                x_t, draw.t, c_phi, settings.guidance_scale, away_from=self._guided_away_from(draw)
            ).x_0
        if through_networks:
            return score_identity_loss(x_phi, x_psi, x_0, settings.alpha)
        return diff_instruct_loss(x_phi, x_psi, x_0)

    def _teacher_conditions(self, draw: UpdateBatch, x_psi: Tensor) -> Tensor:
        c_phi, rows = draw.c.clone(), draw.forgotten
        if rows.any():
            c_phi[rows] = self.task.override(draw.c[rows], draw.alternative[rows], x_psi[rows])
        return c_phi

    def _guided_away_from(self, draw: UpdateBatch) -> Tensor | None:
        """What the teacher's guidance leads away from: the null condition, or what the task says of the forgotten."""
        if self.task.negative is None:
            return None
        return torch.where(draw.forgotten, self.task.negative, self.teacher.no_condition(draw.c))

    def _minimize(
        self,
        losses_of: Callable[[UpdateBatch], Tensor],
        trained: TrainableModel,
        optimizer: torch.optim.Optimizer,
        scale: LossScaler,
        *,
        forget_weight: float,
    ) -> tuple[Tensor, int]:
        """One optimiser step on Σ_kept λ_r/n_r·loss + Σ_forgotten λ_f/n_f·loss; the loss, and how many were dropped.

        Gradients that overflow are computed again of the same draw, with the loss scaled less, on every worker.
        """
        settings = self.settings
        whole = draw_update_batch(
            self.task,
            batch_size=settings.batch_size,
            forget_batch_size=settings.forget_batch_size,
            t_range=range(settings.t_min, settings.t_max),
            sample_shape=self.teacher.sample_shape,
            generator=self.random,
            condition_dropout=settings.condition_dropout,
        )
        parameters = list(trained.parameters.values())
        loss, dropped = self._gradients(losses_of, whole, parameters, scale, forget_weight)
        while not scale.unscale(parameters):
            if not scale.overflowed():
                raise TrialFailed(f"diverged at step {self.step + 1}: gradients overflow, however the loss is scaled")
            loss, dropped = self._gradients(losses_of, whole, parameters, scale, forget_weight)
        scale.updated()
        nn.utils.clip_grad_value_(parameters, settings.gradient_clip)
        optimizer.step()
        return loss, dropped

    def _gradients(
        self,
        losses_of: Callable[[UpdateBatch], Tensor],
        whole: UpdateBatch,
        parameters: Sequence[nn.Parameter],
        scale: LossScaler,
        forget_weight: float,
    ) -> tuple[Tensor, int]:
        """Set gradients of a whole draw's scaled loss, over all workers; the loss, and how many samples were dropped.

        Raises:
            TrialFailed: not one sample has a finite loss.
        """
        rank, size = rank_and_size()
        draw, counts, left = whole[rank::size], _counts(whole), len(whole)
        while True:
            for parameter in parameters:
                parameter.grad = None
            loss, finite = self._accumulate(losses_of, draw, counts, scale.value, forget_weight)
            loss, broken = sum_over_workers(torch.stack([loss, (~finite).sum()]))
            if not broken:
                break
            # Masking a loss that is not finite is not enough, since its gradient is not finite either: what has been
            # accumulated is worthless, on every worker. Samples do not influence one another, so others stay finite.
            left -= int(broken)
            if left == 0:
                raise TrialFailed(f"diverged at step {self.step + 1}: no sample has a finite loss")
            draw = draw[finite]
            counts = sum_over_workers(_counts(draw))
        sum_gradients(parameters)
        return loss, len(whole) - left

    def _accumulate(
        self,
        losses_of: Callable[[UpdateBatch], Tensor],
        draw: UpdateBatch,
        counts: Tensor,
        scale: float,
        forget_weight: float,
    ) -> tuple[Tensor, Tensor]:
        """Accumulate gradients of a share, one micro-batch after another; its loss, and which samples' is finite, (n,).

        Gradients are of the loss times the scale, the loss is not.

        Args:
            losses_of: one loss a sample.
            draw: the worker's share; may be empty.
            counts: how many samples are kept and how many forgotten, over all workers.
            scale: of the loss.
            forget_weight: λ_f or μ_f.
        """
        kept, forgotten = counts.clamp_min(1)
        weights = torch.where(draw.forgotten, forget_weight / forgotten, self.settings.retain_weight / kept)
        loss, finite = weights.new_zeros(()), torch.ones_like(draw.forgotten)
        size = self.resources.micro_batch_size or max(1, len(draw))
        for rows in (slice(start, start + size) for start in range(0, len(draw), size)):
            with autocast(self.resources.precision, draw.z.device):
                losses = losses_of(draw[rows])
            part = (weights[rows] * losses).sum()
            (scale * part).backward()
            loss += part.detach()
            finite[rows] = losses.detach().isfinite()
        return loss, finite


_RECOMPUTE = partial(checkpoint, use_reentrant=False, preserve_rng_state=False)
"""Networks in evaluation mode draw nothing, so there is no state of random numbers to go back to."""


def _counts(draw: UpdateBatch) -> Tensor:
    """How many samples are kept and how many are forgotten, int64 of shape (2,)."""
    return torch.stack([(~draw.forgotten).sum(), draw.forgotten.sum()])


def _adam(trained: TrainableModel, lr: float, settings: Settings) -> torch.optim.Adam:
    return torch.optim.Adam(trained.parameters.values(), lr=lr, betas=(settings.beta1, settings.beta2), fused=True)


def _decay(most: float, step: int) -> float:
    """d of θ_ema ← d·θ_ema + (1 - d)·θ at step k: 0 at first, then min(most, (1 + k)/(10 + k)).

    So a short run's average is not all start.
    """
    return min(most, (1 + step) / (10 + step)) if step else 0.0
