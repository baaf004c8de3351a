"""The cache of an audit: every attack on every generator is made once, and nothing stale is taken for it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
import torch

from sfd_sweep.audit.attacks.asking import Asking
from sfd_sweep.audit.attacks.base import Attack, AttackContext, Point
from sfd_sweep.audit.auditor import Auditor, Unit
from sfd_sweep.audit.building import AuditContext
from sfd_sweep.audit.judges import SupportVectorJudge
from sfd_sweep.audit.report import GENERATOR, AuditReport
from sfd_sweep.errors import UserError
from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.storage.folder import Folder

MADE: list[int] = []


@dataclass(frozen=True)
class Counted(Attack):
    """Asking, of which each is counted."""

    unit = "samples"
    description = "Counted."
    name = "counted"

    strength: int = 1

    def curve(self, generator: OneStepGenerator, context: AttackContext, seed: int) -> Iterator[Point]:
        MADE.append(seed)
        yield context.point(self.strength, generator)


@pytest.fixture
def small(audit_context: AuditContext) -> AttackContext:
    MADE.clear()
    return replace(audit_context.attacks, samples=20)


@pytest.fixture
def folder(tmp_path) -> Folder:
    return Folder.open(tmp_path / "cache")


def test_an_attack_is_made_once_for_all_generators_of_the_same_content(small, swap, folder):
    copy = OneStepGenerator(swap.model.copy(), swap.t_init)
    runs = [
        Auditor(small, {name: each}, folder).run(Unit(Counted(), name, 3))
        for name, each in ((GENERATOR, swap), ("swap", copy))
    ]
    assert MADE == [3]
    assert runs[0] == runs[1]


def test_another_generator_seed_budget_or_judge_is_attacked_anew(small, swap, folder):
    auditor = Auditor(small, {GENERATOR: swap}, folder)
    auditor.run(Unit(Counted(), GENERATOR, 0))
    auditor.run(Unit(Counted(), GENERATOR, 1))
    auditor.run(Unit(Counted(strength=2), GENERATOR, 0))
    other = OneStepGenerator(swap.model.copy(), swap.t_init)
    with torch.no_grad():
        next(other.model.parameters()).mul_(1.001)
    Auditor(small, {GENERATOR: other}, folder).run(Unit(Counted(), GENERATOR, 0))
    images = small.forgotten_images + small.retained_images
    judge = SupportVectorJudge.fitted(images.take(torch.arange(0, len(images), 2)), small.conditions.subjects, {"0"})[0]
    Auditor(replace(small, judge=judge), {GENERATOR: swap}, folder).run(Unit(Counted(), GENERATOR, 0))
    assert len(MADE) == len(folder.names()) == 5


def test_without_a_cache_nothing_is_kept(small, swap):
    for _ in range(2):
        Auditor(small, {GENERATOR: swap}).run(Unit(Counted(), GENERATOR, 0))
    assert len(MADE) == 2


def test_an_audit_that_was_made_is_read_and_not_made_again(
    audit_context, swap, cache, report_of_swap: AuditReport, monkeypatch
):
    def never(*_arguments: object) -> Iterator[Point]:
        raise AssertionError("the attack is made again")

    for attack in (type(unit.attack) for unit in audit_context.units("quick")):
        monkeypatch.setattr(attack, "curve", never)
    again = audit_context.audit(swap, "quick", source="/home/somebody/swap", cache=cache)
    assert again == report_of_swap


def test_an_interrupted_audit_continues_where_it_ended(small, audit_context, swap, folder, monkeypatch):
    context = replace(audit_context, attacks=small, controls={}, sources={})
    monkeypatch.setattr(Asking, "curve", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    monkeypatch.setattr(AuditContext, "_possible", lambda *_: ([Counted(), Asking()], []))
    with pytest.raises(KeyboardInterrupt):
        context.audit(swap, "quick", source="swap", cache=folder)
    monkeypatch.undo()
    monkeypatch.setattr(AuditContext, "_possible", lambda *_: ([Counted(), Asking()], []))
    report = context.audit(swap, "quick", source="swap", cache=folder)
    assert MADE == [0]
    assert [attack.name for attack in report.attacks] == ["counted", "asking"]


def test_progress_counts_every_part(audit_context, small, swap, folder, monkeypatch):
    monkeypatch.setattr(AuditContext, "_possible", lambda *_: ([Counted(), Asking()], []))
    seen = []
    replace(audit_context, attacks=small).audit(
        swap, "quick", source="swap", cache=folder, progress=lambda *part: seen.append(part)
    )
    assert [part[:2] for part in seen] == [(done, 8) for done in range(1, 9)]
    assert str(seen[0][2]) == "counted on generator, seed 0"


def test_the_relearning_of_a_level_needs_enough_images(audit_context):
    attacks = audit_context.attacks
    few = replace(
        audit_context, attacks=replace(attacks, forgotten_images=attacks.forgotten_images.take(torch.arange(24)))
    )
    with pytest.raises(UserError, match="relearning, 25 images needs 25 images of what is forgotten, and there are 24"):
        few.units("quick")
    assert {unit.attack.name for unit in few.units("full")} >= {"relearning, 1 image", "relearning, 5 images"}
    none = replace(
        audit_context, attacks=replace(attacks, forgotten_images=attacks.forgotten_images.take(torch.arange(0)))
    )
    assert not [unit for unit in none.units("quick") if unit.attack.name.startswith("relearning")]
