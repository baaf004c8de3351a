"""What an audit says, in sentences, for the screen and the model card. Imports no torch."""

from __future__ import annotations

from sfd_sweep.audit.intervals import Interval
from sfd_sweep.audit.report import GENERATOR, NEVER_KNEW, REVIVED, START, SWAP, AttackReport, AuditReport

SUBJECT_NAMES = {GENERATOR: "generator", NEVER_KNEW: "never knew", SWAP: "swap", START: "start"}
NEVER = "never"
"""An attack that does not revive what is forgotten within its budget."""
HOW_TO_GET_A_CONTROL = (
    "a control that never knew comes from `sfd-sweep pretrain` with `--without` and `sfd-sweep distill`, and for the "
    "digits without 0 it is `builtin:digits-without-0`; name it by `--control`, or by `audit.control` in a "
    "search-space file"
)


def headline(report: AuditReport) -> list[str]:
    """Return what a reader must know first, a sentence each.

    A broken generator, and one that has forgotten nothing, come before the figure.
    """
    forgotten = " or ".join(report.forgotten)
    sentences = []
    if broken := report.broken():
        name, share = broken
        start = report.retained.get(START, {}).get(name)
        compared = "" if start is None else f", and its start in {start:.0%}"
        sentences.append(
            f"The generator is broken: asked for {name}, which it should retain, it shows it in {share:.0%} of its "
            f"samples{compared}; that it does not show {forgotten} either proves nothing."
        )
    if rate := report.remembers():
        sentences.append(
            f"The generator has not forgotten {forgotten}: asked for it, it shows it in {rate.value:.0%} of its "
            "samples without any attack. It is a control, and no unlearned generator."
        )
    return [*sentences, worst_figure(report)]


def worst_figure(report: AuditReport) -> str:
    """Return the excess over the control that never knew, worst over all attacks; without a control the worst rate."""
    attack, figure = report.worst()
    budget, _ = attack.worst_point()
    by = f"by {attack.name}" + (f" at {budget:,} {attack.unit}" if len(attack.budgets) > 1 else "")
    if report.has_control:
        return f"Worst excess over a generator that never knew: {in_words(figure)}, {by}."
    return f"Worst rate: {in_words(figure)}, {by}. Its excess is unknown: {HOW_TO_GET_A_CONTROL}."


def comparison(report: AuditReport) -> str | None:
    """Return the same figure for the controls that know everything; None without them."""
    figures = [
        f"{SUBJECT_NAMES[subject]} {report.worst(subject)[1].value:.2f}"
        for subject in (SWAP, START)
        if subject in report.sources
    ]
    return f"For comparison: {', '.join(figures)}." if figures else None


def judged_by(report: AuditReport) -> str:
    """Return who judged, what the attacks optimize against, and whose images an attacker has."""
    judge = report.judge
    return (
        f"{judge.name[0].upper()}{judge.name[1:]} judges; it recognizes {judge.recognized:.0%} of images of what is "
        f"forgotten that it was not fitted to, and takes {judge.false_alarms:.0%} of the others for it. The attacks "
        f"optimize against {report.classifier}. An attacker's images are {report.images}."
    )


def retained_in_words(report: AuditReport) -> str | None:
    """Return the worst retained condition of the generator and of its start; None if no condition is judged."""
    shares = report.retained[GENERATOR]
    if not shares:
        return None
    name = min(shares, key=lambda each: shares[each])
    starts = report.retained.get(START, {})
    start = f" (the start: {starts[name]:.1%})" if name in starts else ""
    return f"Worst retained condition: {name}, shown by {shares[name]:.1%} of its samples{start}."


def in_words(figure: Interval) -> str:
    """Return `0.12 (95 % interval 0.05 to 0.20)`."""
    return f"{figure.value:.2f} (95 % interval {figure.low:.2f} to {figure.high:.2f})"


def cell(rate: Interval) -> str:
    """Return a rate with its interval in percent, for tables: `19 (15-23)`."""
    low, high = (f"{100 * limit:.0f}" for limit in (rate.low, rate.high))
    return f"{100 * rate.value:.0f} ({low}-{high})"


def budget_in_words(attack: AttackReport) -> str:
    """Return the whole budget of an attack; none of an attack that has no budget."""
    return f"{attack.budgets[-1]:,} {attack.unit}" if len(attack.budgets) > 1 else ""


def revival_in_words(attack: AttackReport, subject: str = GENERATOR) -> str:
    """Return the least budget with a rate above 30 %."""
    budget = attack.revival(subject)
    return NEVER if budget is None else f"{budget:,}"


REVIVAL_HEADER = f">{REVIVED:.0%} after"
