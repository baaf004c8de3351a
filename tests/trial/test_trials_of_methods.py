"""Trials of the methods that SFD is compared with, on real digits."""

import dataclasses

import pytest
import torch
from tiny_models import save_teacher, tiny_model
from trial_cases import digits_settings, digits_space

from sfd_sweep.errors import UserError
from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.method.rivals import selective_amnesia
from sfd_sweep.method.rivals.swap import swapped
from sfd_sweep.storage.folder import Folder
from sfd_sweep.trial.files import read_report
from sfd_sweep.trial.resolve import resolve_sweep
from sfd_sweep.trial.runner import TrialContext, TrialRunner, load_generator

SPACE = digits_space("parameters.fake_score_loss=epsilon")
LOSSES = {
    "finetune": {"generator", "fake_score"},
    "ascent": {"generator"},
    "esd": {"generator"},
    "sa": {"generator", "penalty"},
    "salun": {"generator"},
    "swap": set(),
}


@pytest.fixture(name="cache", scope="module")
def _cache(tmp_path_factory):
    return Folder.open(tmp_path_factory.mktemp("references"))


@pytest.fixture(name="context", scope="module")
def _context(cache):
    return TrialContext.build(resolve_sweep(SPACE), cache)


def settings(method):
    return digits_settings(SPACE, method=method, fisher_samples=2, teacher_samples=8, forget_weight=1)


@pytest.mark.parametrize("method", LOSSES)
def test_an_interrupted_trial_of_any_method_gives_the_same_generator(context, method, tmp_path):
    whole, parts = Folder.open(tmp_path / "whole"), Folder.open(tmp_path / "parts")
    trial = TrialRunner(context, settings(method), whole)
    reports = [trial.advance(2), trial.advance(4)]
    resumed = [TrialRunner(context, settings(method), parts).advance(step) for step in (2, 4)]
    for one, other in zip(reports, resumed, strict=True):
        assert one.metrics == other.metrics
        assert one.losses == other.losses
        assert one.losses.keys() == LOSSES[method]
    found, expected = (load_generator(folder, 4).model.state_dict() for folder in (parts, whole))
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())


def test_a_trial_of_swap_is_the_null_baseline(context, tmp_path):
    folder = Folder.open(tmp_path / "0000")
    TrialRunner(context, settings("swap"), folder).advance(4)
    expected = swapped(OneStepGenerator.load("builtin:digits-distilled"), {0: 1})
    assert torch.equal(load_generator(folder, 4).sample([0, 1, 2]), expected.sample([0, 1, 2]))
    assert read_report(folder, 4).metrics["unlearning_accuracy"] == 1


def test_finetuning_is_distillation_that_never_sees_what_is_forgotten(context):
    one = context.unlearning(settings("finetune"))
    assert one.task.forgotten == ()
    assert 0 not in one._draw().c


def test_slots_share_what_a_method_needs(context, cache, monkeypatch):
    prepared = context.unlearning(settings("sa"))._fisher
    monkeypatch.setattr(selective_amnesia, "fisher_information", lambda *_: pytest.fail("computed again"))
    again = TrialContext.build(resolve_sweep(SPACE), cache).unlearning(settings("sa"))._fisher
    assert all(torch.equal(*pair) for pair in zip(prepared, again, strict=True))


@pytest.mark.parametrize("method", ["ascent", "esd", "sa", "salun", "swap"])
def test_a_method_that_unlearns_a_generator_cannot_start_from_the_teacher(method):
    space = digits_space("task.start=teacher", f"parameters.method={method}", "parameters.fake_score_loss=epsilon")
    with pytest.raises(UserError, match=f"parameters.method: {method} unlearns a one-step generator, and task.start"):
        resolve_sweep(space)


def test_esd_needs_a_null_condition(tmp_path):
    model = tiny_model(null_label=False)
    teacher = save_teacher(tmp_path / "teacher", model)
    OneStepGenerator(model, 440).save(tmp_path / "start")
    space = digits_space(
        f"task.teacher={teacher}",
        f"task.start={tmp_path / 'start'}",
        "parameters.method=esd",
        "parameters.fake_score_loss=epsilon",
    )
    with pytest.raises(UserError, match="parameters.method: esd asks for the null condition"):
        resolve_sweep(space)


def test_methods_may_be_compared_in_one_sweep():
    space = digits_space(
        "parameters.method={type: categorical, choices: [sfd, finetune, ascent, esd, sa, salun, swap]}"
    )
    assert resolve_sweep(space).has_swap


def test_a_step_may_be_a_budget_of_several_updates(context):
    plan = resolve_sweep(digits_space("parameters.fake_score_loss=epsilon", "trial.step_cost=110"))
    one = dataclasses.replace(context, plan=plan).unlearning(settings("esd"))
    one.update()
    assert (one.step, one.method.step) == (1, 110 // 20)
    one.update()
    assert (one.step, one.method.step) == (2, 220 // 20)


def test_the_plan_knows_what_an_update_of_each_method_costs():
    guidance = "{type: float, low: 1, high: 1.5, when: {method: sfd}, otherwise: 1}"
    methods = "{type: categorical, choices: [sfd, esd, swap]}"
    space = digits_space(f"parameters.method={methods}", f"parameters.guidance_scale={guidance}")
    assert resolve_sweep(space).update_costs == {"sfd": (11 * 12, 13 * 12), "esd": (5 * 4, 5 * 4), "swap": (0, 0)}
