"""Trials whose durability is measured: only what the file asks for, without a change of anything else."""

import dataclasses
import sys

import pytest
from trial_cases import digits_settings, digits_space

from sfd_sweep.errors import UserError
from sfd_sweep.models.weights import WEIGHTS
from sfd_sweep.storage.folder import Folder
from sfd_sweep.trial.files import GENERATOR, step_folder
from sfd_sweep.trial.report import Report
from sfd_sweep.trial.resolve import resolve_sweep
from sfd_sweep.trial.runner import TrialContext, TrialRunner, load_generator

CONTROL = "audit.control=builtin:digits-without-0"
AXES = (
    "objectives=[{metric: fd_classifier, goal: minimize, reference_point: 10}, {metric: unlearning_accuracy, goal: "
    "maximize, reference_point: 0}, {metric: excess_relearning_rate, goal: minimize, reference_point: 1}]"
)


def run(folder: Folder, *overrides: str) -> list[Report]:
    space = digits_space(*overrides)
    trial = TrialRunner(TrialContext.build(resolve_sweep(space), folder.parent), digits_settings(space), folder)
    return [trial.advance(step) for step in space.trial.milestones()]


@pytest.fixture(name="plain", scope="module")
def _plain(tmp_path_factory):
    folder = Folder.open(tmp_path_factory.mktemp("plain") / "0000")
    return folder, run(folder)


@pytest.fixture(name="durable", scope="module")
def _durable(tmp_path_factory):
    folder = Folder.open(tmp_path_factory.mktemp("durable") / "0000")
    return folder, run(folder, AXES, CONTROL)


def untimed(report: Report) -> Report:
    return dataclasses.replace(report, seconds={}, evaluation_seconds={})


def weights(folder: Folder) -> bytes:
    return (step_folder(folder, 4) / GENERATOR / "unet").read(WEIGHTS)


def test_a_trial_reports_what_the_file_asks_for_and_no_other_attack(durable):
    for report in durable[1]:
        assert report.metrics.keys() >= {"relearning_rate", "excess_relearning_rate", "leak_rate", "excess_leak_rate"}
        assert not any("inversion" in name for name in report.metrics)
        assert report.samples == {"retained": 63, "forgotten": 40, "attacked": 200}
        parts = report.evaluation_seconds
        assert parts.keys() == {"sampling", "scoring", "comparing", "attacking"}
        assert 0 < parts["attacking"] < report.seconds["evaluating"]
        assert report.seconds.keys() == {"training", "evaluating", "saving"}


def test_attacks_leave_all_else_of_a_trial_bit_identical(plain, durable):
    for without, attacked in zip(plain[1], durable[1], strict=True):
        assert {name: attacked.metrics[name] for name in without.metrics} == without.metrics
        assert attacked.losses == without.losses
        assert "attacked" not in without.samples
    assert weights(plain[0]) == weights(durable[0])


def test_equal_settings_and_seed_give_equal_durability(durable, tmp_path):
    again = run(Folder.open(tmp_path / "0000"), AXES, CONTROL)
    assert list(map(untimed, again)) == list(map(untimed, durable[1]))


def test_the_final_evaluation_measures_durability_too(durable):
    space = digits_space(AXES, CONTROL)
    context = TrialContext.build(resolve_sweep(space), None)
    final = context.evaluate_final(digits_settings(space), durable[0], samples=90, forget_samples=40)
    generator = load_generator(durable[0], final.step)
    assert final.metrics["relearning_rate"] == context.attacks.rate("relearning_rate", generator, final=True)


def test_a_constraint_needs_no_control_where_it_is_on_the_rate_itself(tmp_path):
    (*_, report) = run(Folder.open(tmp_path / "0000"), "constraints=[{metric: inversion_rate, max: 0.5}]")
    assert 0 <= report.metrics["inversion_rate"] <= 1
    assert not any(name.startswith("excess_") or "relearning" in name for name in report.metrics)


def test_no_judge_is_fitted_where_no_attack_is_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "sfd_sweep.audit.cheap", None)  # an import of it would fail
    assert TrialContext.build(resolve_sweep(digits_space(CONTROL)), None).attacks is None
    with pytest.raises(ImportError):
        TrialContext.build(resolve_sweep(digits_space(CONTROL, AXES)), None)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["audit.control=builtin:digits-without-1"], "audit.control: unknown shipped model"),
        (["audit.control=builtin:digits"], "builtin:digits is a diffusion model; distill it"),
        (["audit.control=builtin:digits-distilled"], "not known to have been trained without '0'"),
        ([CONTROL, "task.forget=[0, 1]", "parameters.override=2"], "not known to have been trained without '1'"),
        (
            [CONTROL, "task.start=teacher", "parameters.t_init=300"],
            "was distilled at t_init 440, and parameters.t_init",
        ),
    ],
)
def test_a_control_that_does_not_fit_is_refused_before_anything_starts(overrides, words):
    with pytest.raises(UserError) as raised:
        resolve_sweep(digits_space(AXES, *overrides))
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_control_of_other_classes_is_refused(tmp_path):
    from tiny_models import tiny_model

    from sfd_sweep.method.generator import OneStepGenerator

    OneStepGenerator(tiny_model(), 440).save(tmp_path / "other")
    with pytest.raises(UserError, match="has other classes or another image size than the teacher"):
        resolve_sweep(digits_space(AXES, f"audit.control={tmp_path / 'other'}"))


def test_a_control_that_no_metric_needs_is_not_looked_at():
    resolve_sweep(digits_space("audit.control=/nowhere"))
