"""Forgetting tasks, the overrides of forgotten conditions, and the random draws of one update."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Protocol, Self

import torch
from torch import Tensor


class OverridePolicy(Protocol):
    """Chooses the condition c_o that the teacher is given in place of a forgotten one."""

    def __call__(self, c: Tensor, alternative: Tensor, x_psi: Tensor) -> Tensor:
        """Return c_o, (n,).

        Args:
            c: forgotten conditions, (n,).
            alternative: a retained condition drawn for each sample, (n,).
            x_psi: the fake score's x̂_ψ(x_t, t, c), without gradient, (n, …).
        """


@dataclass(frozen=True)
class FixedOverride:
    """One override for each forgotten condition."""

    override_of: dict[int, int]

    def __call__(self, c: Tensor, alternative: Tensor, x_psi: Tensor) -> Tensor:  # noqa: ARG002
        return torch.tensor([self.override_of[label] for label in c.tolist()], dtype=c.dtype, device=c.device)


@dataclass(frozen=True)
class RandomOverride:
    """A random retained condition for each sample."""

    def __call__(self, c: Tensor, alternative: Tensor, x_psi: Tensor) -> Tensor:  # noqa: ARG002
        return alternative


@dataclass(frozen=True)
class ClassifierOverride:
    """The most likely retained class of x̂_ψ according to a classifier.

    Attributes:
        classifier: returns logits, (n, classes), of x̂_ψ, which is a latent where the networks work on latents.
        excluded: indices of the conditions that are not retained.
    """

    classifier: Callable[[Tensor], Tensor]
    excluded: tuple[int, ...]

    def __call__(self, c: Tensor, alternative: Tensor, x_psi: Tensor) -> Tensor:  # noqa: ARG002
        with torch.autocast(x_psi.device.type, enabled=False):  # the evaluator's classifier computes in float32
            logits = self.classifier(x_psi).clone()
        logits[:, list(self.excluded)] = -torch.inf
        return logits.argmax(1)


@dataclass(frozen=True)
class ForgettingTask:
    """Conditions to retain and to forget. With nothing to forget, an update is plain Score identity Distillation.

    Attributes:
        retained: condition indices, at least one.
        forgotten: condition indices; may be empty.
        override: what replaces the forgotten conditions.
        negative: condition that guidance of the teacher leads away from where something is forgotten (a negative
            prompt); None: the null condition.
    """

    retained: tuple[int, ...]
    forgotten: tuple[int, ...]
    override: OverridePolicy
    negative: int | None = None

    @classmethod
    def nothing(cls, retained: Sequence[int]) -> ForgettingTask:
        """Return the task that retains conditions and forgets none: distillation without forgetting."""
        return cls(tuple(retained), (), RandomOverride())


@dataclass(frozen=True)
class UpdateBatch:
    """Every random number of one update, so that it can be computed on any share of the samples.

    Attributes:
        c: conditions, (n,); retained ones first, then forgotten ones.
        forgotten: which of them are forgotten, (n,) bool.
        dropped: which of them are replaced by the null condition while the fake score is trained, (n,) bool.
        alternative: a retained condition for each, for an override that wants one, (n,).
        z: the generator's noise, (n, C, H, W).
        t: diffusion steps, (n,).
        epsilon: the forward process's noise ε, (n, C, H, W).
    """

    c: Tensor
    forgotten: Tensor
    dropped: Tensor
    alternative: Tensor
    z: Tensor
    t: Tensor
    epsilon: Tensor

    def __getitem__(self, rows: Tensor | slice) -> Self:
        return type(self)(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def __len__(self) -> int:
        return len(self.c)


def draw_update_batch(
    task: ForgettingTask,
    *,
    batch_size: int,
    forget_batch_size: int,
    t_range: range,
    sample_shape: Sequence[int],
    generator: torch.Generator,
    condition_dropout: float = 0.0,
) -> UpdateBatch:
    """Draw one update's batch on the device of the random generator.

    Args:
        task: the conditions to draw from.
        batch_size: number of retained conditions.
        forget_batch_size: number of forgotten conditions, if the task forgets any.
        t_range: diffusion steps to draw from, t ~ U[t_min, t_max).
        sample_shape: (C, H, W).
        generator: source of every random number.
        condition_dropout: share of the conditions that are dropped.
    """
    device = generator.device
    forget_batch_size = forget_batch_size if task.forgotten else 0
    n = batch_size + forget_batch_size

    def pick(conditions: tuple[int, ...], count: int) -> Tensor:
        index = torch.randint(len(conditions), (count,), generator=generator, device=device)
        return torch.tensor(conditions, device=device)[index]

    retained = pick(task.retained, batch_size)
    forgotten = pick(task.forgotten, forget_batch_size) if forget_batch_size else retained[:0]
    dropped = torch.zeros(n, dtype=torch.bool, device=device)
    if condition_dropout:
        dropped = torch.rand(n, generator=generator, device=device) < condition_dropout
    return UpdateBatch(
        c=torch.cat([retained, forgotten]),
        forgotten=torch.arange(n, device=device) >= batch_size,
        dropped=dropped,
        alternative=pick(task.retained, n),
        z=torch.randn(n, *sample_shape, generator=generator, device=device),
        t=torch.randint(t_range.start, t_range.stop, (n,), generator=generator, device=device),
        epsilon=torch.randn(n, *sample_shape, generator=generator, device=device),
    )
