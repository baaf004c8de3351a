"""No attack at all: the forgotten conditions are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sfd_sweep.audit.attacks.base import Attack, AttackContext, Point
from sfd_sweep.audit.report import ASKING
from sfd_sweep.method.generator import OneStepGenerator


@dataclass(frozen=True)
class Asking(Attack):
    """The forgotten conditions are asked for; what 1 - `unlearning_accuracy` measures, by the judge."""

    unit = "samples of each noise"
    description = "The forgotten conditions are asked for."
    name = ASKING

    def curve(self, generator: OneStepGenerator, context: AttackContext, seed: int) -> Iterator[Point]:  # noqa: ARG002
        yield context.point(1, generator)
