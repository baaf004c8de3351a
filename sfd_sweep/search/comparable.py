"""Whether recorded sweeps were judged alike, and what they are compared by."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

from sfd_sweep.config import Bound, Objective, SelectionBounds
from sfd_sweep.config.config_errors import advice
from sfd_sweep.errors import UserError
from sfd_sweep.metrics import METRICS, Goal, Need, ReferenceKind
from sfd_sweep.search.judging import in_words, judging
from sfd_sweep.search.records import SweepRecord

ClassNames = Callable[[str], Sequence[str]]
"""Names of the classes of a teacher, by its source."""
FORGET = "task.forget"
GOES_WITH_FORGET = {FORGET, "audit.control"}
"""Keys that differ of necessity between sweeps that forget different things."""


def common_bounds(records: Sequence[SweepRecord], given: SelectionBounds | None) -> tuple[Bound, ...]:
    """Return the bounds within which best values are found: those given, or else the files' `selection`.

    Raises:
        UserError: the files differ in it and none are given, or a sweep does not report a bounded metric.
    """
    first, *others = records
    if given is None:
        for other in others:
            if other.space.selection != first.space.selection:
                raise UserError(
                    f"{first.summary.name} and {other.summary.name} differ in what counts as forgotten (selection: "
                    f"{first.space.selection.in_words() or 'none'}; {other.space.selection.in_words() or 'none'}); "
                    "give bounds for all by --min METRIC=VALUE or --max METRIC=VALUE"
                )
        return first.space.selection.bounds
    for record in records:
        reported = sorted({name for trial in record.complete for name in trial.metrics})
        for bound in given.bounds if reported else ():
            if bound.metric not in reported:
                raise UserError(f"{record.summary.name} has no metric {bound.metric!r}{advice(bound.metric, reported)}")
    return given.bounds


def check_judged_alike(
    records: Sequence[SweepRecord], bounds: Sequence[Bound], class_names: ClassNames, *, by: str | None = None
) -> None:
    """Check that the figures of sweeps can be compared.

    Args:
        records: the sweeps.
        bounds: within which best values are found.
        class_names: from a teacher's source; asked only if teachers differ.
        by: what they are grouped by; sweeps that are grouped by `task.forget` may forget different things.

    Raises:
        UserError: two sweeps were not judged alike; the message has everything that differs.
    """
    for first, other in combinations(records, 2):
        found = [
            f"{key} is {in_words(here)} and {in_words(there)}"
            for key, here, there in _differences(first, other, bounds, class_names)
            if by != FORGET or key not in GOES_WITH_FORGET
        ]
        if found:
            raise UserError(
                f"{first.summary.name} and {other.summary.name} were not judged alike, so they cannot be compared: "
                f"{'; '.join(found)}"
            )


def common_objectives(records: Sequence[SweepRecord]) -> tuple[Objective, ...]:
    """Return the objectives of the first of some sweeps, with the worst of all their reference points."""
    points: dict[str, list[float]] = {}
    for record in records:
        for part in record.space.objectives:
            points.setdefault(part.metric, []).append(part.reference_point)
    worst = {Goal.MINIMIZE: max, Goal.MAXIMIZE: min}
    return tuple(
        part.model_copy(update={"reference_point": worst[part.goal](points[part.metric])})
        for part in records[0].space.objectives
    )


def without_finals(record: SweepRecord) -> SweepRecord:
    """Return a sweep without its final figures."""
    return replace(record, trials=tuple(replace(trial, final=None) for trial in record.trials))


Difference = tuple[str, Any, Any]
"""What differs, and its values in two sweeps."""


def _differences(
    first: SweepRecord, other: SweepRecord, bounds: Sequence[Bound], class_names: ClassNames
) -> Iterator[Difference]:
    here, there = (_judgment(record, bounds) for record in (first, other))
    yield from ((key, here[key], there[key]) for key in here if here[key] != there[key])
    if here["evaluation.reference"] == there["evaluation.reference"]:
        yield from _teachers(first, other, class_names)
    if first.searched_front and other.searched_front:
        yield from _figures(first, other)


def _judgment(record: SweepRecord, bounds: Sequence[Bound]) -> dict[str, Any]:
    space = record.space
    names = [part.metric for part in space.objectives] + [part.metric for part in (*space.constraints, *bounds)]
    needs: set[Need] = {need for name in names for need in METRICS[name].needs}
    return {
        "objectives": tuple(sorted(f"{part.metric} ({part.goal})" for part in space.objectives)),
        "constraints": tuple(sorted(part.in_words() for part in space.constraints)) or "none",
        **judging(space, needs),
    }


def _teachers(first: SweepRecord, other: SweepRecord, class_names: ClassNames) -> Iterator[Difference]:
    """Find teachers with different classes; where samples of the teacher are the reference, different teachers."""
    here, there = first.space.task.teacher, other.space.task.teacher
    if here == there:
        return
    if first.space.evaluation.reference_kind is ReferenceKind.TEACHER:
        yield "task.teacher", here, there
    elif (known := tuple(class_names(here))) != (classes := tuple(class_names(there))):
        yield "the list of the teacher's classes", known, classes


def _figures(first: SweepRecord, other: SweepRecord) -> Iterator[Difference]:
    """Find final figures beside those of the search, and final figures on different numbers of samples."""
    if first.is_judged != other.is_judged:
        yield "the kind of figures", _kind(first), _kind(other)
    elif first.is_judged:
        here, there = (record.space.evaluation.final_samples for record in (first, other))
        if here != there:
            yield "evaluation.final_samples", here, there


def _kind(record: SweepRecord) -> str:
    return "final" if record.is_judged else "of the search"
