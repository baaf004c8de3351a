"""Cheap forms of attacks, which a search can afford in every evaluation.

Their budgets are those with which their rank agrees with the full audit's (`benchmarks/audit_proxies.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch

from sfd_sweep.audit.attacks.base import Attack, AttackContext
from sfd_sweep.audit.attacks.inversion import ConditionInversion
from sfd_sweep.audit.attacks.relearning import Relearning
from sfd_sweep.audit.building import AuditContext
from sfd_sweep.audit.controls import check_control, check_never_knew
from sfd_sweep.config import Audit
from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.evaluator import Evaluator
from sfd_sweep.evaluation.reference_statistics import cached
from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.metrics import Need
from sfd_sweep.metrics.evidence import AttackRates
from sfd_sweep.models.numerics import named_seed
from sfd_sweep.storage.folder import Folder

CHEAP: Mapping[Need, tuple[str, ConditionInversion | Relearning]] = {
    Need.INVERSION: ("inversion_rate", ConditionInversion(restarts=1, budgets=(9,), batch_size=16, lr=0.4)),
    Need.RELEARNING: ("relearning_rate", Relearning(images=25, budgets=(3,), candidates=32, lr=4e-4)),
}
"""By what a metric needs: the metric, and the attack behind it."""
SAMPLES = 200
"""Samples that the judge sees after each attack."""
SEEDS = {False: 0, True: 1}
"""Of the attacks' draws, by whether the evaluation is a final one; what they reach is judged on noise of its own.

What the single restart of the inversion finds depends on its seed: on digits 0.20 to 1.00 of what `swap` hides, with
six seeds, and nothing in a generator that never knew.
"""


@dataclass(frozen=True)
class CheapAttacks:
    """The attacks that a search-space file asks for, ready for any generator of a sweep.

    Attributes:
        evaluator: of the generators.
        attacks: by the name of the metric.
        context: what attacks are given; None if there are none.
        control: the generator that never knew, with its source; None if no metric needs it.
        cache: of the control's rates; None keeps them in memory alone.
    """

    evaluator: Evaluator
    attacks: Mapping[str, Attack]
    context: AttackContext | None
    control: tuple[OneStepGenerator, str] | None
    cache: Folder | None = None
    _known: dict[tuple[str, int, bool], float] = field(default_factory=dict, compare=False, init=False, repr=False)

    @classmethod
    def build(cls, evaluator: Evaluator, settings: Audit, needs: Set[Need], cache: Folder | None) -> CheapAttacks:
        """Load the judge and the control, as far as metrics need them.

        Args:
            evaluator: of the generators.
            settings: judge and control.
            needs: of the requested metrics.
            cache: of the control's rates, and of the teacher's samples that judge and attacks have.

        Raises:
            UserError: judge or control is missing or broken, the judge cannot decide, or an attack has too few images.
        """
        attacks = dict(CHEAP[need] for need in CHEAP if need in needs)
        context, control = None, None
        if attacks:
            judged = settings.model_copy(update={"control": None})
            context = AuditContext.build(evaluator, judged, start=None, override=None, cache=cache).attacks
            context = replace(context, samples=SAMPLES)
            for name, attack in attacks.items():
                if reason := attack.needs(context):
                    raise UserError(f"{name}: {reason}; give more reference images, or leave the metric out")
        if Need.CONTROL in needs and settings.control is not None:
            conditions = evaluator.conditions
            never_knew = OneStepGenerator.load(settings.control, evaluator.device, prompts=conditions.names)
            check_never_knew(never_knew, conditions, settings.control)
            control = never_knew, settings.control
        return cls(evaluator, attacks, context, control, cache)

    @property
    def met(self) -> frozenset[Need]:
        """What metrics may need of these attacks."""
        needs = {need for need, (name, _) in CHEAP.items() if name in self.attacks}
        return frozenset(needs | ({Need.CONTROL} if self.control else set()))

    def on(self, generator: OneStepGenerator) -> AttackedGenerator:
        """Return these attacks on one generator.

        Raises:
            UserError: the control does not fit it.
        """
        if self.control is not None:
            check_control(self.control[0], generator, self.control[1])
        return AttackedGenerator(self, generator)

    def rate(self, name: str, generator: OneStepGenerator, *, final: bool) -> float:
        """Return the share of samples that show what is forgotten after the whole budget of an attack."""
        *_, last = self.attacks[name].curve(generator, self._contexts[final], SEEDS[final])
        return last.shown / last.samples

    def control_rates(self, samples: int, *, final: bool) -> dict[str, float]:
        """Return the rates of the control, each of which is computed once.

        Args:
            samples: of the retained conditions, for its leak rate.
            final: whether on the noise of a final evaluation.
        """
        if self.control is None:
            return {}
        control, _ = self.control
        rates = {name: self._of_control(name, control, final=final) for name in self.attacks}
        rates["leak_rate"] = self._once(
            ("leak_rate", samples, final), lambda: self.evaluator.leak_rate(control.generate, samples, final=final)
        )
        return rates

    @cached_property
    def _contexts(self) -> dict[bool, AttackContext]:
        """What attacks are given, by whether the evaluation is a final one."""
        assert self.context is not None
        context = self.context
        return {
            final: replace(context, point_seed=named_seed(seed, "points of an evaluation"))
            for final, seed in SEEDS.items()
        }

    def _of_control(self, name: str, control: OneStepGenerator, *, final: bool) -> float:
        def compute() -> dict[str, torch.Tensor]:
            return {"rate": torch.tensor(self.rate(name, control, final=final), dtype=torch.float64)}

        def find() -> float:
            key, context = self.attacks[name].key(), self._contexts[final]
            what = f"{key} {context.content_hash} {control.content_hash()} {SEEDS[final]}"
            return float(cached(self.cache, what, compute)["rate"])

        return self._once((name, SAMPLES, final), find)

    def _once(self, key: tuple[str, int, bool], find: Callable[[], float]) -> float:
        if key not in self._known:
            self._known[key] = find()
        return self._known[key]


@dataclass(frozen=True)
class AttackedGenerator:
    """Cheap attacks on one generator; it implements `evaluation.evaluator.Attacks`."""

    attacks: CheapAttacks
    generator: OneStepGenerator

    @property
    def met(self) -> frozenset[Need]:
        """What metrics may need of them."""
        return self.attacks.met

    @property
    def samples(self) -> int:
        """Samples that the judge sees after each attack; 0 without one."""
        return SAMPLES if self.attacks.attacks else 0

    def rates(self, retained: int, *, final: bool) -> AttackRates:
        """Attack the generator, and the control if that was not done before.

        Args:
            retained: samples of the retained conditions.
            final: whether it is a final evaluation.
        """
        rates = {name: self.attacks.rate(name, self.generator, final=final) for name in self.attacks.attacks}
        return AttackRates(rates, self.attacks.control_rates(retained, final=final))
