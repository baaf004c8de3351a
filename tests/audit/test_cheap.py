"""Cheap attacks on real digits: what they load, what they find, and what they compute once."""

import dataclasses

import pytest
import torch
from trial_cases import digits_space

from sfd_sweep.audit import cheap
from sfd_sweep.audit.attacks.inversion import ConditionInversion
from sfd_sweep.audit.attacks.relearning import Relearning
from sfd_sweep.audit.cheap import SAMPLES, CheapAttacks
from sfd_sweep.config import Audit
from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.evaluator import EvaluationResult, Evaluator
from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.method.rivals.swap import swapped
from sfd_sweep.metrics import Need
from sfd_sweep.metrics.definition import AUDITED
from sfd_sweep.models.numerics import named_seed
from sfd_sweep.storage.folder import Folder
from sfd_sweep.trial.resolve import resolve_sweep
from sfd_sweep.trial.runner import TrialContext

CONTROL = "builtin:digits-without-0"
WITH_CONTROL = Audit(control=CONTROL)


@pytest.fixture(name="evaluator", scope="module")
def _evaluator() -> Evaluator:
    return TrialContext.build(resolve_sweep(digits_space()), None).evaluator


@pytest.fixture(name="start", scope="module")
def _start() -> OneStepGenerator:
    return OneStepGenerator.load("builtin:digits-distilled")


@pytest.fixture(name="never_knew", scope="module")
def _never_knew() -> OneStepGenerator:
    return OneStepGenerator.load(CONTROL)


@pytest.fixture(name="attacks", scope="module")
def _attacks(evaluator: Evaluator) -> CheapAttacks:
    return CheapAttacks.build(evaluator, WITH_CONTROL, AUDITED, None)


@pytest.fixture(name="made")
def _made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The attacks that are made while a test runs, by name."""
    made: list[str] = []
    for kind in (ConditionInversion, Relearning):

        def counted(self, *arguments, curve=kind.curve):
            made.append(self.name)
            return curve(self, *arguments)

        monkeypatch.setattr(kind, "curve", counted)
    return made


def evaluate(evaluator: Evaluator, generator: OneStepGenerator, attacks: CheapAttacks | None) -> EvaluationResult:
    return evaluator.evaluate(
        generator.generate,
        override=(1,),
        samples=90,
        forget_samples=40,
        attacks=None if attacks is None else attacks.on(generator),
    )


def test_each_attack_is_loaded_where_a_metric_needs_it(evaluator):
    for needs, names in (
        ({Need.INVERSION}, {"inversion_rate"}),
        ({Need.RELEARNING}, {"relearning_rate"}),
        ({Need.CONTROL}, set()),
    ):
        attacks = CheapAttacks.build(evaluator, WITH_CONTROL, needs, None)
        assert attacks.attacks.keys() == names
        assert attacks.met == needs
        assert (attacks.control is None) == (Need.CONTROL not in needs)
        assert (attacks.context is None) == (not names)  # without attacks there is no judge to fit


def test_the_metrics_are_what_the_judge_sees_after_the_attacks(evaluator, attacks, start):
    swap = swapped(start, {0: 1})
    found = evaluate(evaluator, swap, attacks)
    assert found.samples == {"retained": 90, "forgotten": 40, "attacked": SAMPLES}
    seed = cheap.SEEDS[False]
    context = dataclasses.replace(attacks.context, point_seed=named_seed(seed, "points of an evaluation"))
    for name, attack in attacks.attacks.items():
        *_, last = attack.curve(swap, context, seed)
        assert last.samples == SAMPLES
        assert found.metrics[name] == last.shown / SAMPLES
        excess = max(0.0, found.metrics[name] - attacks.control_rates(90, final=False)[name])
        assert found.metrics[f"excess_{name}"] == excess
    assert found.metrics["excess_inversion_rate"] > 0.15  # the embedding was renamed, and the weights remember
    assert attacks.rate("inversion_rate", swap, final=True) > 0.15


def test_a_generator_that_forgot_nothing_is_revived_at_once_and_the_control_is_not(attacks, start, never_knew):
    for final in (False, True):
        assert attacks.rate("relearning_rate", start, final=final) == 1
        assert attacks.rate("relearning_rate", never_knew, final=final) < 0.5


def test_the_control_has_no_excess(evaluator, attacks, never_knew):
    metrics = evaluate(evaluator, never_knew, attacks).metrics
    assert [metrics[name] for name in metrics if name.startswith("excess_")] == [0.0, 0.0, 0.0]


def test_the_leak_rate_is_that_of_an_evaluation(evaluator, start):
    found = evaluator.evaluate(start.generate, override=(1,), samples=900, forget_samples=2)
    assert evaluator.leak_rate(start.generate, 900, final=False) == found.metrics["leak_rate"]


def test_search_final_evaluation_and_audit_attack_on_noise_of_their_own(evaluator, attacks, start):
    seeds = []

    class Noted(Relearning):
        def curve(self, generator, context, seed):
            seeds.append((seed, context.point_seed))
            yield context.point(0, generator)

    noted = CheapAttacks(evaluator, {"relearning_rate": Noted()}, attacks.context, None)
    for final in (False, True, False):
        noted.on(start).rates(90, final=final)
    assert seeds[0] == seeds[2]
    assert seeds[0][0] != seeds[1][0]
    assert len({seeds[0][1], seeds[1][1], attacks.context.point_seed}) == 3


def test_attacks_change_no_other_figure(evaluator, attacks, start):
    plain, attacked = (evaluate(evaluator, start, each) for each in (None, attacks))
    assert plain.metrics == {name: attacked.metrics[name] for name in plain.metrics}
    assert attacked.metrics.keys() - plain.metrics.keys() == {
        *("inversion_rate", "relearning_rate"),
        *("excess_leak_rate", "excess_inversion_rate", "excess_relearning_rate"),
    }
    assert "attacked" not in plain.samples
    assert plain.seconds.keys() == {"sampling", "scoring", "comparing"}
    assert attacked.seconds["attacking"] > 0


def test_equal_generators_have_equal_figures(evaluator, attacks, start):
    assert evaluate(evaluator, start, attacks) == evaluate(evaluator, start, attacks)


def test_attacks_leave_the_generator_as_it_is(attacks, start):
    before = start.content_hash()
    attacks.on(start).rates(90, final=False)
    assert start.content_hash() == before
    assert all(weight.grad is None for weight in start.model.parameters())


def test_the_control_is_attacked_once_for_all_slots_that_share_a_folder(evaluator, start, made, tmp_path):
    cache = Folder.open(tmp_path)
    both = [CheapAttacks.build(evaluator, WITH_CONTROL, AUDITED, cache) for _ in range(2)]
    rates = [attacks.on(start).rates(90, final=False).control for attacks in (*both, both[0])]
    assert rates[0] == rates[1] == rates[2]
    assert len(made) == 2 * (3 + 1)  # two attacks, on the start each time and on the control once


@pytest.mark.parametrize("changed", [{"judge": "other"}, {"samples": 30}])
def test_the_kept_rates_of_the_control_belong_to_their_judge_and_samples(evaluator, attacks, made, tmp_path, changed):
    class Other:
        name = "another judge"

        def shows_forgotten(self, images):
            return torch.zeros(len(images), dtype=torch.bool)

        def content_hash(self):
            return "other"

    cache = Folder.open(tmp_path)
    changes = {"judge": Other()} if "judge" in changed else changed
    context = dataclasses.replace(attacks.context, **changes)
    for each in (attacks.context, context):
        one = {"relearning_rate": attacks.attacks["relearning_rate"]}
        CheapAttacks(evaluator, one, each, attacks.control, cache).control_rates(90, final=False)
    assert len(made) == 2


def test_a_control_that_knows_what_is_forgotten_is_refused(evaluator):
    with pytest.raises(UserError, match=r"audit\.control: builtin:digits-distilled is not known to have been trained"):
        CheapAttacks.build(evaluator, Audit(control="builtin:digits-distilled"), AUDITED, None)


def test_too_few_images_for_an_attack_are_told_with_the_metric(evaluator, monkeypatch):
    monkeypatch.setitem(cheap.CHEAP, Need.RELEARNING, ("relearning_rate", Relearning(images=1000)))
    with pytest.raises(UserError, match="relearning_rate: .* needs 1000 images of what is forgotten") as raised:
        CheapAttacks.build(evaluator, Audit(), {Need.RELEARNING}, None)
    assert "\n" not in str(raised.value)
