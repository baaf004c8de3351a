"""Reports of audits: their figures, what they say first, and their file."""

import json
from pathlib import Path

import pytest
import torch

from sfd_sweep.audit.building import AuditContext
from sfd_sweep.audit.intervals import excess_interval, rate_interval
from sfd_sweep.audit.report import (
    GENERATOR,
    NEVER_KNEW,
    START,
    SWAP,
    AttackReport,
    AttackRun,
    AuditReport,
    CurvePoint,
    JudgeReport,
)
from sfd_sweep.audit.summary import cell, comparison, headline, retained_in_words, worst_figure
from sfd_sweep.errors import UserError
from sfd_sweep.method.generator import OneStepGenerator

RETAINED = {"1": 0.9, "2": 0.8}


def attack(name: str = "relearning", **curves: list[int]) -> AttackReport:
    """An attack at budgets 0, 10, 20, … by the hits of each subject in 100 samples."""
    runs = {
        subject: (
            AttackRun(
                seed=0,
                points=tuple(CurvePoint(budget=10 * i, shown=shown, samples=100) for i, shown in enumerate(curve)),
                seconds=1.5,
            ),
        )
        for subject, curve in curves.items()
    }
    return AttackReport(name=name, description="All of it.", unit="updates", runs=runs)


def audit(*attacks: AttackReport, retained: dict[str, dict[str, float]] | None = None) -> AuditReport:
    subjects = list(attacks[0].runs)
    return AuditReport(
        level="quick",
        forgotten=("0",),
        judge=JudgeReport(name="a judge", recognized=1.0, false_alarms=0.0),
        classifier="the classifier builtin:digits",
        images="real images",
        sources=dict.fromkeys(subjects, "somewhere"),
        attacks=attacks,
        retained=retained or dict.fromkeys(subjects, RETAINED),
        missing=(),
        device="cpu",
    )


def test_the_excess_is_largest_where_the_generator_is_farthest_above_the_control():
    found = attack(generator=[0, 60, 90], never_knew=[0, 10, 85])
    expected = excess_interval(rate_interval([60], [100]), rate_interval([10], [100]))
    assert found.worst_point() == (10, expected)
    assert found.excess() == expected


def test_without_a_control_there_is_no_excess_and_the_rate_stands_in():
    found = attack(generator=[0, 60, 50])
    assert found.excess() is None
    assert found.worst_point() == (10, rate_interval([60], [100]))


def test_the_worst_attack_decides():
    weak, strong = (
        attack("a", generator=[0, 20], never_knew=[0, 10]),
        attack("b", generator=[30, 30], never_knew=[0, 5]),
    )
    assert audit(weak, strong).worst()[0].name == "b"
    assert "0.30 (95 % interval" in worst_figure(audit(weak, strong))
    assert "by b at 0 updates" in worst_figure(audit(weak, strong))


def test_revival_is_the_least_budget_beyond_thirty_percent():
    assert attack(generator=[0, 30, 31]).revival() == 20
    assert attack(generator=[0, 30, 30]).revival() is None


def test_seeds_are_pooled_and_their_seconds_added():
    runs = tuple(
        AttackRun(seed=seed, points=(CurvePoint(budget=1, shown=shown, samples=50),), seconds=2.0)
        for seed, shown in enumerate((10, 12, 14))
    )
    found = AttackReport(name="a", description="", unit="u", runs={GENERATOR: runs})
    assert found.rate() == rate_interval([10, 12, 14], [50, 50, 50])
    assert found.seconds() == 6.0


def test_a_report_is_read_as_it_was_written(tmp_path: Path):
    report = audit(attack(generator=[0, 60], never_knew=[0, 10]))
    (tmp_path / "audit.json").write_text(report.to_json())
    assert AuditReport.read(tmp_path) == report
    assert AuditReport.read(tmp_path / "nowhere") is None


@pytest.mark.parametrize("change", [{"version": 2}, {"color": "red"}, {"level": "slow"}])
def test_another_format_is_refused_in_one_line(tmp_path: Path, change: dict[str, object]):
    content = json.loads(audit(attack(generator=[0])).to_json()) | change
    (tmp_path / "audit.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=rf"audit.json is no audit \({next(iter(change))}: .*audit the generator again"):
        AuditReport.read(tmp_path)


def test_a_generator_is_broken_by_its_worst_retained_condition_compared_with_the_start():
    curves = attack(generator=[0], start=[100])
    weak_start = {START: {"1": 0.9, "2": 0.3}}
    assert audit(curves, retained={GENERATOR: {"1": 0.9, "2": 0.2}, **weak_start}).broken() is None
    assert audit(curves, retained={GENERATOR: {"1": 0.4, "2": 0.2}, **weak_start}).broken() == ("1", 0.4)
    assert audit(attack(generator=[0]), retained={GENERATOR: {"1": 0.9, "2": 0.49}}).broken() == ("2", 0.49)
    assert audit(attack(generator=[0]), retained={GENERATOR: {}}).broken() is None


def test_without_a_control_the_headline_says_that_excess_is_unknown_and_how_to_get_one():
    (said,) = headline(audit(attack(generator=[0, 20])))
    assert said.startswith("Worst rate: 0.20 (95 % interval 0.13 to 0.29), by relearning at 10 updates.")
    assert "Its excess is unknown: a control that never knew comes from `sfd-sweep pretrain` with `--without`" in said


def test_a_generator_that_has_forgotten_nothing_is_called_a_control():
    first, second = headline(audit(attack("asking", generator=[99], never_knew=[0])))
    assert first.startswith("The generator has not forgotten 0: asked for it, it shows it in 99%")
    assert "It is a control" in first
    assert "excess" in second


def test_controls_that_know_everything_stand_for_comparison():
    curves = attack(generator=[10], never_knew=[5], swap=[95], start=[100])
    assert comparison(audit(curves)) == "For comparison: swap 0.90, start 0.95."
    assert comparison(audit(attack(generator=[10]))) is None


def test_a_cell_is_a_rate_in_percent_with_its_interval():
    assert cell(rate_interval([19], [100])) == "19 (13-28)"


def test_a_real_audit_names_no_place_of_this_machine(report_of_swap: AuditReport):
    assert report_of_swap.sources == {
        GENERATOR: "swap",
        START: "builtin:digits-distilled",
        SWAP: "builtin:digits-distilled with the override's embedding",
        NEVER_KNEW: "builtin:digits-without-0",
    }
    assert "/home" not in report_of_swap.to_json()
    assert report_of_swap.subjects == (GENERATOR, NEVER_KNEW, SWAP, START)


def test_the_excess_of_the_null_baseline_is_large(report_of_swap: AuditReport):
    attack, excess = report_of_swap.worst()
    assert attack.name == "condition inversion"
    assert excess.low > 0.5
    assert headline(report_of_swap) == [worst_figure(report_of_swap)]
    assert "(the start: 9" in str(retained_in_words(report_of_swap))


def test_a_generator_of_noise_does_not_win(audit_context: AuditContext, cache):
    """No attack brings 0 out of noise, so its excess is as good as can be; the headline begins with what is broken."""
    noise = OneStepGenerator.load("builtin:digits-distilled")
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in noise.model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=random))
    report = audit_context.audit(noise, "quick", source="noise", cache=cache)
    assert report.worst()[1].value < 0.3
    broken = report.broken()
    assert broken is not None
    first, *_ = headline(report)
    name, share = broken
    assert first.startswith(
        f"The generator is broken: asked for {name}, which it should retain, it shows it in {share:.0%}"
    )
    assert first.endswith("that it does not show 0 either proves nothing.")
