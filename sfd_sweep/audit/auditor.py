"""The auditor: every attack on every subject with every seed, each at most once."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import torch

from sfd_sweep.audit.attacks.base import Attack, AttackContext
from sfd_sweep.audit.report import AttackReport, AttackRun, CurvePoint
from sfd_sweep.evaluation.conditions import spread
from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.models.numerics import random_stream
from sfd_sweep.storage.folder import Folder


@dataclass(frozen=True)
class Unit:
    """One attack on one subject with one seed."""

    attack: Attack
    subject: str
    seed: int

    def __str__(self) -> str:
        return f"{self.attack.name} on {self.subject.replace('_', ' ')}, seed {self.seed}"


class Auditor:
    """Attacks subjects, and keeps each result by the content of all that it depends on.

    An interrupted audit thus goes on where it ended, and audits of several generators share their controls.

    Args:
        context: judge, classifier, conditions and images.
        subjects: generators by the name of their part (see `report.SUBJECTS`).
        cache: of results; None keeps none.
    """

    def __init__(
        self, context: AttackContext, subjects: Mapping[str, OneStepGenerator], cache: Folder | None = None
    ) -> None:
        self.context = context
        self.subjects = subjects
        self._cache = cache
        self._hashes = {name: generator.content_hash() for name, generator in subjects.items()}

    def run(self, unit: Unit) -> AttackRun:
        """Return the result of a unit, from the cache if it is there."""
        file = f"{self._key(unit)}.json"
        if self._cache is not None and self._cache.has(file):
            return AttackRun.model_validate_json(self._cache.read(file))
        started = time.perf_counter()
        points = tuple(
            CurvePoint(**asdict(point))
            for point in unit.attack.curve(self.subjects[unit.subject], self.context, unit.seed)
        )
        run = AttackRun(seed=unit.seed, points=points, seconds=time.perf_counter() - started)
        if self._cache is not None:
            self._cache.write(file, run.model_dump_json().encode())
        return run

    def retained_shares(self, subject: str, samples: int) -> dict[str, float]:
        """Return the share of samples of each retained class, or concept of prompts, that are called by its name.

        Those that the classifier has no class for are left out.

        Args:
            subject: whose samples.
            samples: of each class or concept.
        """
        context, conditions = self.context, self.context.conditions
        groups = conditions.grouped([index for index in conditions.evaluated if conditions.called[index]])
        if not groups:
            return {}
        asked = zip(*(spread(group, samples)[:samples] for group in groups), strict=True)
        c = torch.tensor([index for each in asked for index in each], device=context.device)
        noise = random_stream(0, "retained shares", context.device)
        with torch.no_grad():
            parts = [self.subjects[subject].generate(part, noise) for part in c.split(context.batch_size)]
            called = torch.cat([context.classifier(part).argmax(1) for part in parts]).tolist()
        hits: dict[str, list[bool]] = {}
        for index, label in zip(c.tolist(), called, strict=True):
            hits.setdefault(conditions.subjects[index], []).append(label in conditions.called[index])
        return {name: sum(found) / len(found) for name, found in hits.items()}

    def _key(self, unit: Unit) -> str:
        parts = [unit.attack.key(), self.context.content_hash, self._hashes[unit.subject], unit.seed]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def attack_reports(
    units: Sequence[Unit], runs: Iterable[AttackRun], progress: Callable[[int, Unit], None] = lambda _done, _unit: None
) -> list[AttackReport]:
    """Collect the results of units, which arrive in their order, as one report for each attack.

    Args:
        units: all of them.
        runs: their results.
        progress: called after each with the number of units done, and the unit.
    """
    found: dict[Attack, dict[str, list[AttackRun]]] = {}
    for done, (unit, run) in enumerate(zip(units, runs, strict=True), start=1):
        found.setdefault(unit.attack, {}).setdefault(unit.subject, []).append(run)
        progress(done, unit)
    return [
        AttackReport(
            name=attack.name,
            description=attack.description,
            unit=attack.unit,
            runs={subject: tuple(each) for subject, each in by_subject.items()},
        )
        for attack, by_subject in found.items()
    ]


def run_here(auditor: Auditor, units: Iterable[Unit]) -> Iterator[AttackRun]:
    """Run units in this process, one after the other."""
    for unit in units:
        yield auditor.run(unit)
