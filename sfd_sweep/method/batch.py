"""Forgetting tasks: which conditions an update sees, and what replaces the forgotten ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class OverridePolicy(Protocol):
    """What the teacher is shown in place of a forgotten condition, c_o."""

    def __call__(self, c: Tensor, alternative: Tensor, x_psi: Tensor) -> Tensor:
        """c_o of shape (n,).

        Args:
            c: the forgotten conditions, (n,).
            alternative: a retained condition drawn for each sample, (n,).
            x_psi: the fake score's x̂_ψ(x_t, t, c), without gradient, (n, …).
        """


@dataclass(frozen=True)
class FixedOverride:
    """Each forgotten condition has one of its own that replaces it."""

    replacement: dict[int, int]

    def __call__(self, c: Tensor, alternative: Tensor, x_psi: Tensor) -> Tensor:  # noqa: ARG002
        """The replacement of each c."""
        return torch.tensor([self.replacement[label] for label in c.tolist()], dtype=c.dtype, device=c.device)


@dataclass(frozen=True)
class RandomOverride:
    """A retained condition, drawn anew for each sample."""

    def __call__(self, c: Tensor, alternative: Tensor, x_psi: Tensor) -> Tensor:  # noqa: ARG002
        """The drawn alternatives."""
        return alternative


@dataclass(frozen=True)
class ClassifierOverride:
    """The retained condition that a classifier finds likeliest in x̂_ψ, the forgotten ones masked out.

    Attributes:
        classifier: logits (n, classes) of x̂_ψ, which are latents where the networks work on them.
        forgotten: condition indices.
    """

    classifier: Callable[[Tensor], Tensor]
    forgotten: tuple[int, ...]

    def __call__(self, c: Tensor, alternative: Tensor, x_psi: Tensor) -> Tensor:  # noqa: ARG002
        """The arg-max of the classifier's logits, (n, classes), over the retained classes."""
        with torch.autocast(x_psi.device.type, enabled=False):  # it is the judge's, which looks in float32
            logits = self.classifier(x_psi).clone()
        logits[:, list(self.forgotten)] = -torch.inf
        return logits.argmax(1)


@dataclass(frozen=True)
class ForgettingTask:
    """Conditions to keep and to forget. With nothing to forget, an update is plain Score identity Distillation.

    Attributes:
        retained: condition indices that are kept, at least one.
        forgotten: condition indices that are forgotten; may be empty.
        override: what replaces the forgotten.
        negative: the condition that guidance of the teacher leads away from where something is forgotten (a negative
            prompt); None: the null condition.
    """

    retained: tuple[int, ...]
    forgotten: tuple[int, ...]
    override: OverridePolicy
    negative: int | None = None

    @classmethod
    def nothing(cls, conditions: int) -> ForgettingTask:
        """Keep every condition: distillation without forgetting."""
        return cls(tuple(range(conditions)), (), RandomOverride())


@dataclass(frozen=True)
class UpdateBatch:
    """Every random number of one update, so that it can be computed on any share of the samples.

    Attributes:
        c: conditions of the generator and the fake score, (n,); retained ones first, then forgotten ones.
        forgotten: which of them are forgotten, (n,) bool.
        untold: which of them the fake score is not told while it is trained, (n,) bool.
        alternative: a retained condition for each, for an override that wants one, (n,).
        z: the generator's noise, (n, C, H, W).
        t: diffusion steps, (n,).
        epsilon: the forward process's noise, (n, C, H, W).
    """

    c: Tensor
    forgotten: Tensor
    untold: Tensor
    alternative: Tensor
    z: Tensor
    t: Tensor
    epsilon: Tensor

    def __getitem__(self, rows: Tensor | slice) -> UpdateBatch:
        """The same of some of the samples."""
        return UpdateBatch(
            c=self.c[rows],
            forgotten=self.forgotten[rows],
            untold=self.untold[rows],
            alternative=self.alternative[rows],
            z=self.z[rows],
            t=self.t[rows],
            epsilon=self.epsilon[rows],
        )

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
    """Draw one update's batch: retained and forgotten conditions side by side.

    Args:
        task: the conditions to draw from.
        batch_size: retained conditions.
        forget_batch_size: forgotten conditions; none are drawn for a task that forgets nothing.
        t_range: diffusion steps to draw from, t ~ U[t_min, t_max).
        sample_shape: (C, H, W).
        generator: the source of every draw; its device is the batch's.
        condition_dropout: share of the conditions that the fake score is not told.
    """
    device = generator.device
    forget_batch_size = forget_batch_size if task.forgotten else 0
    n = batch_size + forget_batch_size

    def pick(conditions: tuple[int, ...], count: int) -> Tensor:
        index = torch.randint(len(conditions), (count,), generator=generator, device=device)
        return torch.tensor(conditions, device=device)[index]

    retained = pick(task.retained, batch_size)
    forgotten = pick(task.forgotten, forget_batch_size) if forget_batch_size else retained[:0]
    untold = torch.zeros(n, dtype=torch.bool, device=device)
    if condition_dropout:
        untold = torch.rand(n, generator=generator, device=device) < condition_dropout
    return UpdateBatch(
        c=torch.cat([retained, forgotten]),
        forgotten=torch.arange(n, device=device) >= batch_size,
        untold=untold,
        alternative=pick(task.retained, n),
        z=torch.randn(n, *sample_shape, generator=generator, device=device),
        t=torch.randint(t_range.start, t_range.stop, (n,), generator=generator, device=device),
        epsilon=torch.randn(n, *sample_shape, generator=generator, device=device),
    )
