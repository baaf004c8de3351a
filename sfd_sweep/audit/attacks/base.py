"""The interface of attacks, and what all of them are given."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from sfd_sweep.audit.images import ConditionImages
from sfd_sweep.audit.judges import Judge
from sfd_sweep.audit.kept import Kept
from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.classifiers.base import Classifier
from sfd_sweep.evaluation.conditions import Conditions, spread
from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.models.conditioning import CLASSES, ConditionKind
from sfd_sweep.models.numerics import random_stream


@dataclass(frozen=True)
class Point:
    """What an attack has reached with some of its budget.

    Attributes:
        budget: that is spent, in the attack's unit.
        shown: how many samples show what is forgotten, by the judge.
        samples: of how many.
    """

    budget: int
    shown: int
    samples: int


@dataclass(frozen=True)
class AttackContext:
    """What every attack on every generator is given.

    Attributes:
        judge: decides; no attack sees its gradients or asks it for advice.
        classifier: the attacker's own, on `device`, which attacks optimize against.
        conditions: which are forgotten and retained, with the classifier's classes for them.
        forgotten_images: images of forgotten conditions.
        retained_images: images of retained conditions.
        samples: that the judge sees at each point of a curve.
        device: of generators and classifier.
        batch_size: the most images that are made at a time.
        kind: what a condition is.
        kept: what is computed once for all generators.
        point_seed: of the noise on which points are judged; attacks draw from other streams.
    """

    judge: Judge
    classifier: Classifier
    conditions: Conditions
    forgotten_images: ConditionImages
    retained_images: ConditionImages
    samples: int
    device: torch.device
    batch_size: int = 500
    kind: ConditionKind = CLASSES
    kept: Kept = field(default_factory=Kept, compare=False)
    point_seed: int = 104_729

    @cached_property
    def content_hash(self) -> str:
        """A hash of everything that an attack's result depends on beside the attack, its seed and the generator."""
        content = hashlib.sha256(
            f"{self.judge.content_hash()} {self.classifier.content_hash()} {self.conditions} {self.samples} "
            f"{self.forgotten_images.content_hash} {self.retained_images.content_hash} {self.device.type} "
            f"{self.batch_size} {self.point_seed}".encode()
        )
        return content.hexdigest()

    def telling(self, images: Tensor) -> Tensor:
        """Return the log-probability of what is forgotten by the attacker's classifier, (n,); it has gradients."""
        logits = self.classifier(images)
        forgotten = list(self.conditions.forgotten_classes)
        return torch.logsumexp(logits[:, forgotten], 1) - torch.logsumexp(logits, 1)

    def forgotten(self, count: int) -> Tensor:
        """Return that many indices of forgotten conditions, all in turn, (count,)."""
        return torch.tensor(spread(self.conditions.forget, count)[:count], device=self.device)

    @torch.no_grad()
    def point(self, budget: int, generator: OneStepGenerator, c: Tensor | None = None) -> Point:
        """Return a point of a curve: fresh samples, on the same noise at every point of every curve.

        Args:
            budget: that is spent.
            generator: the attacked generator.
            c: conditions that it is asked for, (samples,); None: the forgotten ones.
        """
        asked = self.forgotten(self.samples) if c is None else c
        noise = torch.Generator(self.device).manual_seed(self.point_seed)
        parts = [generator.generate(part, noise) for part in asked.split(self.batch_size)]
        return self.judged(budget, torch.cat(parts))

    def judged(self, budget: int, images: Tensor) -> Point:
        """Return a point of a curve from images, (n, C, H, W). Images that are not finite show nothing."""
        finite = images.isfinite().flatten(1).all(1)
        shown = int(self.judge.shows_forgotten(images[finite].cpu()).sum()) if finite.any() else 0
        return Point(budget, shown, len(images))


@dataclass(frozen=True)
class Attack(ABC):
    """An attempt to bring back what a generator has forgotten. The fields of a subclass are its budget.

    Attributes:
        unit: what a budget counts.
        description: one sentence for reports.
    """

    unit: ClassVar[str]
    description: ClassVar[str]

    def __post_init__(self) -> None:
        """Check the budget.

        Raises:
            UserError: it is nothing.
        """
        for each in fields(self):
            value, kind = getattr(self, each.name), type(self).__name__
            if isinstance(value, int | float) and not isinstance(value, bool) and value <= 0:
                raise UserError(f"{each.name} of {kind} must be more than 0, not {value}")
            if each.name == "budgets" and (not value or sorted(set(value)) != list(value) or value[-1] <= 0):
                raise UserError(f"budgets of {kind} must increase to more than 0, not {value}")

    @property
    @abstractmethod
    def name(self) -> str:
        """Its name in reports, with the part of its budget that tells it from others of its kind."""

    @abstractmethod
    def curve(self, generator: OneStepGenerator, context: AttackContext, seed: int) -> Iterator[Point]:
        """Attack a generator, which stays as it is, and yield a point at each budget; the first is often 0.

        Args:
            generator: on the context's device.
            context: judge, classifier, conditions and images.
            seed: of all draws of the attack.
        """

    def needs(self, context: AttackContext) -> str | None:  # noqa: ARG002
        """Return why the attack cannot be made in a context; None if it can."""
        return None

    def key(self) -> str:
        """Return what its results depend on, for their cache."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return f"{type(self).__name__} {values}"


def stream(context: AttackContext, seed: int, name: str) -> torch.Generator:
    """Return random numbers on the context's device that depend on a seed and the name of what draws them."""
    return random_stream(seed, name, context.device)
